package storage_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

func TestReadAll(t *testing.T) {
	mem := storetest.Memory()
	faulty := storetest.Faulty(mem)
	storetest.MustPut(t, mem, "k", []byte("0123456789"))
	data, info, err := storage.ReadAll(t.Context(), faulty, "k", 10)
	if err != nil || string(data) != "0123456789" || info.Size != 10 {
		t.Errorf("%q, %+v, %v", data, info, err)
	}
	if _, _, err := storage.ReadAll(t.Context(), faulty, "k", 9); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("too large: %v", err)
	}
	faulty.On(storetest.Get, "k").Tear(0.5)
	if _, _, err := storage.ReadAll(t.Context(), faulty, "k", 10); !storage.IsTemporary(err) {
		t.Errorf("torn: %v", err)
	}
	faulty.Heal()
	faulty.On(storetest.Get, "k").Corrupt(func(b []byte) []byte { return append(b, 'x') })
	if _, _, err := storage.ReadAll(t.Context(), faulty, "k", 100); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("longer than announced: %v", err)
	}
}

func TestReadVerified(t *testing.T) {
	mem := storetest.Memory()
	data := []byte(`{"a":1}`)
	key := storage.TrustKey(1, sha256.Sum256(data))
	storetest.MustPut(t, mem, key, data)
	got, _, err := storage.ReadVerified(t.Context(), mem, key, 100)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	for bit := range len(data) * 8 {
		faulty := storetest.Faulty(mem)
		faulty.On(storetest.Get, "").Corrupt(storetest.FlipBit(bit))
		if _, _, err := storage.ReadVerified(t.Context(), faulty, key, 100); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
	mem.Change(key, func([]byte) []byte { return nil })
	if _, _, err := storage.ReadVerified(t.Context(), mem, key, 100); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("zero bytes: %v", err)
	}
	storetest.MustPut(t, mem, "format.json", data)
	if _, _, err := storage.ReadVerified(t.Context(), mem, "format.json", 100); err == nil {
		t.Error("a name without a hash was verified")
	}
}

func TestReadRange(t *testing.T) {
	mem := storetest.Memory()
	storetest.MustPut(t, mem, "k", []byte("0123456789"))
	for _, tt := range []struct {
		off, n int64
		want   string
	}{{0, 10, "0123456789"}, {3, 4, "3456"}, {9, 1, "9"}, {10, 0, ""}, {0, 0, ""}} {
		got, info, err := storage.ReadRange(t.Context(), mem, "k", tt.off, tt.n)
		if err != nil || string(got) != tt.want || info.Size != 10 {
			t.Errorf("[%d,%d]: %q, %v", tt.off, tt.n, got, err)
		}
	}
	for _, tt := range [][2]int64{{0, 11}, {5, 6}, {10, 1}, {11, 0}, {1 << 62, 1}} {
		if _, _, err := storage.ReadRange(t.Context(), mem, "k", tt[0], tt[1]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%v: %v", tt, err)
		}
	}
	for _, tt := range [][2]int64{{-1, 1}, {0, -1}} {
		if _, _, err := storage.ReadRange(t.Context(), mem, "k", tt[0], tt[1]); err == nil {
			t.Errorf("%v was accepted", tt)
		}
	}
	if got, _, err := storage.ReadSuffix(t.Context(), mem, "k", 3); err != nil || string(got) != "789" {
		t.Errorf("suffix: %q, %v", got, err)
	}
	if got, _, err := storage.ReadSuffix(t.Context(), mem, "k", 30); err != nil || string(got) != "0123456789" {
		t.Errorf("long suffix: %q, %v", got, err)
	}
	if _, _, err := storage.ReadSuffix(t.Context(), mem, "k", 0); err == nil {
		t.Error("a suffix of nothing was accepted")
	}
}

func TestCheckListing(t *testing.T) {
	infos := func(keys ...string) (infos []storage.Info) {
		for _, k := range keys {
			infos = append(infos, storage.Info{Key: k})
		}
		return infos
	}
	if err := storage.CheckListing("p/", infos("p/a", "p/b", "p/~end")); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]storage.Info{
		"empty":          nil,
		"no sentinel":    infos("p/a", "p/b"),
		"sentinel early": infos("p/a", "p/~end", "p/~endless"),
		"out of order":   infos("p/b", "p/a", "p/~end"),
		"twice":          infos("p/a", "p/a", "p/~end"),
		"foreign":        infos("o/a", "p/~end"),
		"short":          infos("p", "p/~end"),
	} {
		if err := storage.CheckListing("p/", bad); !errors.Is(err, storage.ErrListing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListAll(t *testing.T) {
	mem := storetest.Memory()
	for _, k := range []string{"a", "b", "c"} {
		storetest.MustPut(t, mem, k, nil)
	}
	infos, err := storage.ListAll(t.Context(), mem, storage.ListOptions{}, 3)
	if err != nil || len(infos) != 3 {
		t.Errorf("%v, %v", infos, err)
	}
	if _, err := storage.ListAll(t.Context(), mem, storage.ListOptions{}, 2); err == nil {
		t.Error("the limit was passed")
	}
	faulty := storetest.Faulty(mem)
	faulty.On(storetest.List, "").Hide("b")
	infos, err = storage.ListAll(t.Context(), faulty, storage.ListOptions{}, 3)
	if err != nil || slices.ContainsFunc(infos, func(i storage.Info) bool { return i.Key == "b" }) {
		t.Errorf("%v, %v", infos, err)
	}
}

func TestSpan(t *testing.T) {
	for _, tt := range []struct{ size, offset, length, start, n int64 }{
		{10, 0, -1, 0, 10}, {10, 3, -1, 3, 7}, {10, 3, 2, 3, 2}, {10, 3, 20, 3, 7}, {10, 12, 5, 10, 0}, {10, -3, -1, 7, 3},
		{10, -30, -1, 0, 10}, {0, 0, -1, 0, 0}, {0, -1, -1, 0, 0}, {10, 1<<63 - 1, 1<<63 - 1, 10, 0},
	} {
		start, n, err := storage.Span(tt.size, tt.offset, tt.length)
		if err != nil || start != tt.start || n != tt.n {
			t.Errorf("%+v: %d, %d, %v", tt, start, n, err)
		}
	}
	if _, _, err := storage.Span(10, -3, 2); err == nil {
		t.Error("accepted")
	}
}
