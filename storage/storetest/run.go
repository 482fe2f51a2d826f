package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"lifeboat/storage"
)

// Run is the conformance suite: what every Store must do. open gives a fresh,
// empty store.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	tests := []struct {
		name string
		test func(t *testing.T, s storage.Store)
	}{
		{"missing object", testMissing},
		{"put and get", testPutGet},
		{"empty object", testEmpty},
		{"ranges", testRanges},
		{"put replaces", testReplace},
		{"put keeps no data", testPutKeepsNoData},
		{"delete", testDelete},
		{"list", testList},
		{"list delimited", testDelimited},
		{"list stops when asked", testListStops},
		{"list and delete together", testListWhileDeleting},
		{"order of keys", testOrder},
		{"bad keys", testBadKeys},
		{"every byte of a key", testKeyBytes},
		{"cancelled context", testCancelled},
		{"many at once", testParallel},
		{"large object", testLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// MustPut puts an object or ends the test.
func MustPut(t testing.TB, s storage.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, data, sha256.Sum256(data)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// Pattern gives n bytes that differ from place to place.
func Pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17
	}
	return data
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

// get reads a range and checks that Info describes the whole object.
func get(t *testing.T, s storage.Store, key string, offset, length, size int64) []byte {
	t.Helper()
	body, info, err := s.Get(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("get %s [%d,%d]: %v", key, offset, length, err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatalf("read %s [%d,%d]: %v", key, offset, length, err)
	}
	if info.Key != key || info.Size != size || info.Dir || info.ModTime.IsZero() {
		t.Errorf("get %s [%d,%d]: info %+v, want size %d", key, offset, length, info, size)
	}
	return data
}

func keys(t *testing.T, s storage.Store, opt storage.ListOptions) []string {
	t.Helper()
	infos, err := storage.ListAll(t.Context(), s, opt, 100_000)
	if err != nil {
		t.Fatalf("list %+v: %v", opt, err)
	}
	var keys []string
	for _, info := range infos {
		if info.Dir != strings.HasSuffix(info.Key, "/") {
			t.Errorf("list %+v: %+v", opt, info)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func testMissing(t *testing.T, s storage.Store) {
	_, _, err := s.Get(t.Context(), "packs/none", 0, -1)
	wantErr(t, "get", err, storage.ErrNotFound)
	_, _, err = s.Get(t.Context(), "packs/none", -5, -1)
	wantErr(t, "get suffix", err, storage.ErrNotFound)
	_, _, err = s.Get(t.Context(), "packs/none", 5, 0)
	wantErr(t, "get nothing", err, storage.ErrNotFound)
	_, err = s.Stat(t.Context(), "packs/none")
	wantErr(t, "stat", err, storage.ErrNotFound)
	MustPut(t, s, "packs/some/one", []byte("x"))
	_, err = s.Stat(t.Context(), "packs/some")
	wantErr(t, "stat of a folder", err, storage.ErrNotFound)
	_, _, err = s.Get(t.Context(), "packs/some", 0, -1)
	wantErr(t, "get of a folder", err, storage.ErrNotFound)
	_, err = s.Stat(t.Context(), "packs/some/one/more")
	wantErr(t, "stat below an object", err, storage.ErrNotFound)
}

func testPutGet(t *testing.T, s storage.Store) {
	want := Pattern(100_000)
	MustPut(t, s, "packs/ab/cd.tar", want)
	if got := get(t, s, "packs/ab/cd.tar", 0, -1, 100_000); !bytes.Equal(got, want) {
		t.Error("other bytes came back")
	}
	info, err := s.Stat(t.Context(), "packs/ab/cd.tar")
	if err != nil || info.Size != 100_000 || info.Key != "packs/ab/cd.tar" || info.ModTime.IsZero() {
		t.Errorf("stat: %+v, %v", info, err)
	}
}

func testEmpty(t *testing.T, s storage.Store) {
	MustPut(t, s, "empty", nil)
	for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 5}, {7, 5}, {-9, -1}} {
		if got := get(t, s, "empty", r[0], r[1], 0); len(got) != 0 {
			t.Errorf("range %v of an empty object gives %d bytes", r, len(got))
		}
	}
	if got := keys(t, s, storage.ListOptions{}); !slices.Equal(got, []string{"empty"}) {
		t.Errorf("list: %v", got)
	}
}

func testRanges(t *testing.T, s storage.Store) {
	const size = 10_000
	data := Pattern(size)
	MustPut(t, s, "object", data)
	tests := []struct {
		offset, length int64
		want           []byte
	}{
		{0, 0, nil}, {0, 1, data[:1]}, {0, size, data}, {0, size + 5, data},
		{9_999, 1, data[9_999:]}, {9_999, -1, data[9_999:]}, {5_000, 1_000, data[5_000:6_000]},
		{9_000, 5_000, data[9_000:]}, {size, -1, nil}, {size, 10, nil}, {size + 100, -1, nil}, {size + 100, 3, nil},
		{-1, -1, data[9_999:]}, {-2_048, -1, data[size-2_048:]}, {-size, -1, data}, {-size - 1, -1, data},
		{1, 0, nil},
	}
	for _, tt := range tests {
		if got := get(t, s, "object", tt.offset, tt.length, size); !bytes.Equal(got, tt.want) {
			t.Errorf("get [%d,%d]: %d bytes, want %d", tt.offset, tt.length, len(got), len(tt.want))
		}
	}
	if _, _, err := s.Get(t.Context(), "object", -5, 3); err == nil {
		t.Error("a negative offset with a length was accepted")
	}
}

func testReplace(t *testing.T, s storage.Store) {
	for _, want := range [][]byte{[]byte("first, and longer"), []byte("second"), []byte("second"), nil} {
		MustPut(t, s, "a/b", want)
		if got := get(t, s, "a/b", 0, -1, int64(len(want))); !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := keys(t, s, storage.ListOptions{}); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("list: %v", got)
	}
}

func testPutKeepsNoData(t *testing.T, s storage.Store) {
	data := []byte("original")
	MustPut(t, s, "x", data)
	copy(data, "CHANGED!")
	if got := get(t, s, "x", 0, -1, 8); string(got) != "original" {
		t.Errorf("got %q", got)
	}
}

func testDelete(t *testing.T, s storage.Store) {
	MustPut(t, s, "d/one", []byte("1"))
	MustPut(t, s, "d/two", []byte("2"))
	for range 2 { // deleting a missing one is no error
		if err := s.Delete(t.Context(), "d/one"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "never/was/here"); err != nil {
		t.Error(err)
	}
	_, err := s.Stat(t.Context(), "d/one")
	wantErr(t, "stat after delete", err, storage.ErrNotFound)
	if got := keys(t, s, storage.ListOptions{}); !slices.Equal(got, []string{"d/two"}) {
		t.Errorf("list: %v", got)
	}
	if err := s.Delete(t.Context(), "d/two"); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s, storage.ListOptions{Delimited: true}); len(got) != 0 {
		t.Errorf("an empty folder is listed: %v", got)
	}
	MustPut(t, s, "d/one", []byte("again"))
	get(t, s, "d/one", 0, -1, 5)
}

// tree puts keys whose order is tricky: "/" sorts after "-" and ".".
func tree(t *testing.T, s storage.Store) []string {
	t.Helper()
	all := []string{"a-b", "a.b", "a/b", "a/c/1", "a/c/2", "a/d", "a/~end", "a0", "b/c/d/e", "b/~end", "c", "~end"}
	for _, i := range []int{5, 2, 9, 0, 11, 7, 1, 10, 3, 6, 8, 4} {
		MustPut(t, s, all[i], []byte(all[i]))
	}
	return all
}

func testList(t *testing.T, s storage.Store) {
	if got := keys(t, s, storage.ListOptions{Prefix: "nothing/here/"}); len(got) != 0 {
		t.Errorf("list of nothing: %v", got)
	}
	all := tree(t, s)
	prefixes := []string{"", "a", "a/", "a/c", "a/c/", "a/c/1", "b/c/d/e", "b/x", "z", "c", "c/", "~", "a-"}
	after := []string{"", "a", "a-b", "a/", "a/b", "a/c/1", "a/c/3", "a/zzz", "b", "b/~end", "z", "~end"}
	for _, p := range prefixes {
		for _, from := range after {
			var want []string
			for _, key := range all {
				if strings.HasPrefix(key, p) && key > from {
					want = append(want, key)
				}
			}
			opt := storage.ListOptions{Prefix: p, StartAfter: from}
			if got := keys(t, s, opt); !slices.Equal(got, want) {
				t.Errorf("list %+v:\n got %v\nwant %v", opt, got, want)
			}
		}
	}
	infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: "a/"}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.CheckListing("a/", infos); err != nil {
		t.Error(err)
	}
	for _, info := range infos {
		if info.Size != int64(len(info.Key)) || info.ModTime.IsZero() {
			t.Errorf("list: %+v", info)
		}
	}
}

func testDelimited(t *testing.T, s storage.Store) {
	tree(t, s)
	tests := []struct {
		prefix, after string
		want          []string
	}{
		{"", "", []string{"a-b", "a.b", "a/", "a0", "b/", "c", "~end"}},
		{"", "a.b", []string{"a/", "a0", "b/", "c", "~end"}},
		{"", "a/", []string{"a0", "b/", "c", "~end"}},
		{"", "a/c/1", []string{"a0", "b/", "c", "~end"}},
		{"a", "", []string{"a-b", "a.b", "a/", "a0"}},
		{"a/", "", []string{"a/b", "a/c/", "a/d", "a/~end"}},
		{"a/", "a/b", []string{"a/c/", "a/d", "a/~end"}},
		{"a/c", "", []string{"a/c/"}},
		{"a/c/", "", []string{"a/c/1", "a/c/2"}},
		{"b/c/", "", []string{"b/c/d/"}},
		{"x/", "", nil},
	}
	for _, tt := range tests {
		opt := storage.ListOptions{Prefix: tt.prefix, StartAfter: tt.after, Delimited: true}
		if got := keys(t, s, opt); !slices.Equal(got, tt.want) {
			t.Errorf("list %+v:\n got %v\nwant %v", opt, got, tt.want)
		}
	}
}

func testListStops(t *testing.T, s storage.Store) {
	tree(t, s)
	seen := 0
	for _, err := range s.List(t.Context(), storage.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("saw %d", seen)
	}
}

func testListWhileDeleting(t *testing.T, s storage.Store) {
	all := tree(t, s)
	var seen []string
	for info, err := range s.List(t.Context(), storage.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, info.Key)
		if err := s.Delete(t.Context(), info.Key); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(seen, all) {
		t.Errorf("saw %v", seen)
	}
	if got := keys(t, s, storage.ListOptions{}); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func testOrder(t *testing.T, s storage.Store) {
	var want []string
	for i := range 30 {
		key := storage.JournalKey("ab", "cd", uint64(i*i*i), sha256.Sum256([]byte{byte(i)}))
		want = append(want, key)
		MustPut(t, s, key, []byte{byte(i)})
	}
	prefix := storage.InstancePrefix(storage.JournalPrefix, "ab", "cd")
	MustPut(t, s, storage.SentinelKey(prefix), []byte(storage.Sentinel))
	want = append(want, storage.SentinelKey(prefix))
	if got := keys(t, s, storage.ListOptions{Prefix: prefix}); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := keys(t, s, storage.ListOptions{Prefix: prefix, StartAfter: want[20]}); !slices.Equal(got, want[21:]) {
		t.Errorf("after %s: got %v", want[20], got)
	}
}

func testBadKeys(t *testing.T, s storage.Store) {
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.b", "a b", "a\x00b", "a\\b",
		"ä", "a\nb", "a?b", "a%2fb", strings.Repeat("a", 256), strings.Repeat("a/", 16) + "a",
		strings.Repeat("abcdefg/", 64) + "abcdefgh", "a:b", "a*",
	}
	for _, key := range bad {
		if err := s.Put(t.Context(), key, []byte("x"), sha256.Sum256([]byte("x"))); err == nil {
			t.Errorf("put of key %q was accepted", key)
		}
		if _, _, err := s.Get(t.Context(), key, 0, -1); err == nil {
			t.Errorf("get of key %q was accepted", key)
		}
		if _, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("stat of key %q was accepted", key)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("delete of key %q was accepted", key)
		}
	}
	for _, prefix := range []string{"/", "../", "a/../", "a//", "a b"} {
		if _, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: prefix}, 10); err == nil {
			t.Errorf("list of prefix %q was accepted", prefix)
		}
	}
}

func testKeyBytes(t *testing.T, s storage.Store) {
	want := []string{
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz0123456789-._~",
		strings.Repeat("l", 255), "x~y/~end", "~~/~",
	}
	for _, key := range want {
		MustPut(t, s, key, []byte(key))
		get(t, s, key, 0, -1, int64(len(key)))
	}
	if got := keys(t, s, storage.ListOptions{}); !slices.Equal(got, want) {
		t.Errorf("list: %v", got)
	}
}

func testCancelled(t *testing.T, s storage.Store) {
	MustPut(t, s, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "put", s.Put(ctx, "new", []byte("x"), sha256.Sum256([]byte("x"))), context.Canceled)
	_, _, err := s.Get(ctx, "there", 0, -1)
	wantErr(t, "get", err, context.Canceled)
	_, err = s.Stat(ctx, "there")
	wantErr(t, "stat", err, context.Canceled)
	wantErr(t, "delete", s.Delete(ctx, "there"), context.Canceled)
	_, err = storage.ListAll(ctx, s, storage.ListOptions{}, 10)
	wantErr(t, "list", err, context.Canceled)
	if got := keys(t, s, storage.ListOptions{}); !slices.Equal(got, []string{"there"}) {
		t.Errorf("list: %v", got)
	}
}

func testParallel(t *testing.T, s storage.Store) {
	const workers, each = 8, 12
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("packs/%02d/%d", i, w)
				data := Pattern(1000*w + i)
				if err := s.Put(t.Context(), key, data, sha256.Sum256(data)); err != nil {
					t.Error(err)
					return
				}
				same := []byte("everybody puts the same")
				if err := s.Put(t.Context(), "shared/object", same, sha256.Sum256(same)); err != nil {
					t.Error(err)
				}
				got, _, err := storage.ReadAll(t.Context(), s, key, 1<<20)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("read back %s: %d bytes, %v", key, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if got := keys(t, s, storage.ListOptions{}); len(got) != workers*each+1 {
		t.Errorf("%d keys, want %d", len(got), workers*each+1)
	}
}

func testLarge(t *testing.T, s storage.Store) {
	const size = 17 << 20 // above every multipart threshold
	data := Pattern(size)
	MustPut(t, s, "packs/large.tar", data)
	if got := get(t, s, "packs/large.tar", 0, -1, size); !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}
	tail, _, err := storage.ReadSuffix(t.Context(), s, "packs/large.tar", 2048)
	if err != nil || !bytes.Equal(tail, data[size-2048:]) {
		t.Errorf("suffix: %d bytes, %v", len(tail), err)
	}
}
