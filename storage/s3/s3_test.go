package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/s3"
	"lifeboat/storage/s3/s3test"
	"lifeboat/storage/storetest"
)

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	var n atomic.Int32
	storetest.Run(t, func(t *testing.T) storage.Store {
		return server.Open(t, fmt.Sprintf("regions/%d", n.Add(1)))
	})
	// And with all the wrappers around it, in the order in which they are used.
	t.Run("wrapped", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storage.Store {
			s, _ := storage.WithCount(server.Open(t, fmt.Sprintf("regions/%d", n.Add(1))))
			s = storage.WithTimeout(s, storage.Timeouts{Op: time.Minute, PerMiB: time.Second, NoProgress: time.Minute})
			s = storage.WithBandwidth(s, storage.Bandwidth{Up: 1 << 40, Down: 1 << 40, Now: time.Now})
			s = storage.WithLimit(s, 4)
			s = storage.WithRetry(s, storage.Backoff{})
			return storage.WithBreaker(s, 5)
		})
	})
}

func TestServer(t *testing.T) {
	server := s3test.Start(t)
	t.Run("wrong checksum", func(t *testing.T) { testWrongChecksum(t, server) })
	t.Run("pages", func(t *testing.T) { testPages(t, server) })
	t.Run("no bucket", func(t *testing.T) { testNoBucket(t, server) })
	t.Run("bad credentials", func(t *testing.T) { testBadCredentials(t, server) })
	t.Run("rotated credentials", func(t *testing.T) { testRotatedCredentials(t, server) })
	t.Run("profile", func(t *testing.T) { testProfile(t, server) })
	t.Run("prefixes apart", func(t *testing.T) { testPrefixesApart(t, server) })
	t.Run("foreign objects", func(t *testing.T) { testForeignObjects(t, server) })
}

// The server itself compares the sum with what it received: nothing is stored.
func testWrongChecksum(t *testing.T, server *s3test.Server) {
	s := server.Open(t, "checksum")
	for _, size := range []int{0, 1, 5 << 20} {
		key := fmt.Sprintf("packs/%d", size)
		err := s.Put(t.Context(), key, storetest.Pattern(size), sha256.Sum256([]byte("something else")))
		if !errors.Is(err, storage.ErrCorrupt) || storage.IsTemporary(err) {
			t.Errorf("put of %d bytes with a wrong sum: %v", size, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("after it: %v", err)
		}
	}
}

func testPages(t *testing.T, server *s3test.Server) {
	s := server.Open(t, "pages")
	const n = 2345
	var want []string
	for i := range n {
		key := fmt.Sprintf("journal/ab/cd/%016x", i)
		want = append(want, key)
		// The server's folder is a folder of files: this is much quicker than puts.
		path := filepath.Join(server.Root, s3test.Bucket, "pages", key)
		if i == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	storetest.MustPut(t, s, "journal/ab/cd/~end", []byte(storage.Sentinel))
	want = append(want, "journal/ab/cd/~end")
	storetest.MustPut(t, s, "journal/ab/ce/1", nil)
	for _, from := range []int{-1, 0, 998, 999, 1000, 1001, 2000, n - 1, n} {
		after := ""
		if from >= 0 {
			after = want[from]
		}
		infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: "journal/ab/cd/", StartAfter: after}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, info := range infos {
			got = append(got, info.Key)
		}
		if !slices.Equal(got, want[from+1:]) {
			t.Errorf("after %q: %d keys, want %d", after, len(got), n-from)
		}
		if from < 0 {
			if err := storage.CheckListing("journal/ab/cd/", infos); err != nil {
				t.Error(err)
			}
		}
	}
	groups, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: "journal/ab/", Delimited: true}, 10)
	if err != nil || len(groups) != 2 || groups[0].Key != "journal/ab/cd/" || !groups[1].Dir {
		t.Errorf("groups: %v, %v", groups, err)
	}
}

func testNoBucket(t *testing.T, server *s3test.Server) {
	o := server.Options()
	o.Bucket = "no-such-bucket"
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range everyCall(t.Context(), s) {
		if !errors.Is(err, storage.ErrNoBucket) || storage.IsTemporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// everyCall gives what each verb says.
func everyCall(ctx context.Context, s storage.Store) map[string]error {
	_, _, getErr := s.Get(ctx, "key", 0, -1)
	_, _, rangeErr := s.Get(ctx, "key", 5, 10)
	_, statErr := s.Stat(ctx, "key")
	_, listErr := storage.ListAll(ctx, s, storage.ListOptions{}, 10)
	return map[string]error{
		"put":    s.Put(ctx, "key", []byte("x"), sha256.Sum256([]byte("x"))),
		"get":    getErr,
		"range":  rangeErr,
		"stat":   statErr,
		"list":   listErr,
		"delete": s.Delete(ctx, "key"),
	}
}

func testBadCredentials(t *testing.T, server *s3test.Server) {
	wrong := func() (string, error) { return "wrong-key-wrong-key", nil }
	none := func() (string, error) { return "", nil }
	broken := func() (string, error) { return "", errors.New("the file is gone") }
	tests := map[string]func(o *s3.Options){
		"access key": func(o *s3.Options) { o.AccessKeyID = wrong },
		"secret key": func(o *s3.Options) { o.SecretAccessKey = wrong },
		"empty":      func(o *s3.Options) { o.SecretAccessKey = none },
		"broken":     func(o *s3.Options) { o.SecretAccessKey = broken },
	}
	for name, change := range tests {
		o := server.Options()
		change(&o)
		s, err := s3.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for verb, err := range everyCall(t.Context(), s) {
			if !errors.Is(err, storage.ErrDenied) || storage.IsTemporary(err) {
				t.Errorf("%s, %s: %v", name, verb, err)
			}
			if strings.Contains(fmt.Sprint(err), s3test.SecretKey) {
				t.Errorf("%s, %s: the secret is in the error: %v", name, verb, err)
			}
		}
	}
}

// Credentials that are replaced while a run lasts are fetched anew.
func testRotatedCredentials(t *testing.T, server *s3test.Server) {
	o := server.Options()
	var calls atomic.Int32
	o.SecretAccessKey = func() (string, error) {
		if calls.Add(1) == 1 {
			return "expired", nil
		}
		return s3test.SecretKey, nil
	}
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	storetest.MustPut(t, s, "rotated", []byte("x"))
	if calls.Load() != 2 {
		t.Errorf("fetched %d times", calls.Load())
	}
}

func testProfile(t *testing.T, server *s3test.Server) {
	file := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[here]\naws_access_key_id=%s\naws_secret_access_key=%s\n", s3test.AccessKey, s3test.SecretKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	o, err := s3.ParseURL(server.URL("profile") + "&profile=here")
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	storetest.MustPut(t, s, "by/profile", []byte("x"))

	o.Profile = "elsewhere"
	if s, err = s3.Open(o); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "by/profile"); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("a profile that is not there: %v", err)
	}

	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	o.Profile = ""
	if s, err = s3.Open(o); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "by/profile"); err != nil {
		t.Errorf("credentials of the environment: %v", err)
	}
}

func testPrefixesApart(t *testing.T, server *s3test.Server) {
	one, other := server.Open(t, "apart/one/"), server.Open(t, "/apart/onemore")
	storetest.MustPut(t, one, "k", []byte("1"))
	storetest.MustPut(t, other, "k", []byte("22"))
	for s, size := range map[storage.Store]int64{one: 1, other: 2} {
		infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
		if err != nil || len(infos) != 1 || infos[0].Key != "k" || infos[0].Size != size {
			t.Errorf("%v: %v, %v", s, infos, err)
		}
	}
}

// Names that cannot be keys are passed over, folder markers too.
func testForeignObjects(t *testing.T, server *s3test.Server) {
	s := server.Open(t, "foreign")
	storetest.MustPut(t, s, "a/real", []byte("x"))
	root := filepath.Join(server.Root, s3test.Bucket, "foreign")
	for _, name := range []string{"a/white space", ".hidden", "ümlaut", "100%"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
	if err != nil || len(infos) != 1 || infos[0].Key != "a/real" {
		t.Errorf("list: %v, %v", infos, err)
	}
}

// A region that is not there costs seconds, not the run.
func TestDeadEndpoint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, "http://"+addr, nil)
	began := time.Now()
	for verb, err := range everyCall(t.Context(), s) {
		if !errors.Is(err, storage.ErrUnreachable) || !storage.IsTemporary(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// A region that takes connections and never answers fails within its limits.
func TestBlackHole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(held)
				return
			}
			held <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for c := range held {
			_ = c.Close()
		}
	})
	s := openAt(t, "http://"+l.Addr().String(), func(o *s3.Options) {
		o.HeaderTimeout, o.NoProgress = 100*time.Millisecond, 100*time.Millisecond
	})
	began := time.Now()
	for verb, err := range everyCall(t.Context(), s) {
		if !errors.Is(err, storage.ErrUnreachable) || !storage.IsTemporary(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	// More than the buffers of a connection hold: the upload stalls half way.
	data := storetest.Pattern(64 << 20)
	err = s.Put(t.Context(), "large", data, sha256.Sum256(data))
	if !errors.Is(err, storage.ErrUnreachable) || !storage.IsTemporary(err) {
		t.Errorf("large put: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// A connection that is cut in mid-body is resumed where it broke, by a range.
func TestCutConnection(t *testing.T) {
	server := s3test.Start(t)
	data := storetest.Pattern(3 << 20)
	storetest.MustPut(t, server.Open(t, ""), "packs/p", data)
	proxy := cuttingProxy(t, strings.TrimPrefix(server.Endpoint, "http://"), 1<<20)

	cut := func() storage.Store {
		return openAt(t, "http://"+proxy, func(o *s3.Options) { o.Region = s3test.Region })
	}
	_, _, err := storage.ReadAll(t.Context(), cut(), "packs/p", 8<<20)
	if !storage.IsTemporary(err) {
		t.Errorf("a cut body without retries: %v", err)
	}
	var retried atomic.Int32
	s := storage.WithRetry(cut(), storage.Backoff{
		Sleep:   func(context.Context, time.Duration) error { return nil },
		Retried: func(string, string, int, error) { retried.Add(1) },
	})
	for _, r := range [][2]int64{{0, -1}, {1000, -1}, {-2_500_000, -1}, {500_000, 2_000_000}} {
		body, _, err := s.Get(t.Context(), "packs/p", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			t.Fatal(err)
		}
		start, n, _ := storage.Span(int64(len(data)), r[0], r[1])
		if !bytes.Equal(got, data[start:start+n]) {
			t.Errorf("range %v: %d bytes of %d, or others", r, len(got), n)
		}
	}
	if retried.Load() == 0 {
		t.Error("nothing was cut")
	}
}

// cuttingProxy passes connections on and cuts each after so many bytes of answers.
func cuttingProxy(t *testing.T, target string, after int64) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() {
				_, _ = io.CopyN(client, server, after)
				_, _ = client.Close(), server.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// openAt makes a client of any server that might be there.
func openAt(t *testing.T, endpoint string, change func(*s3.Options)) *s3.Store {
	t.Helper()
	o := s3.Options{
		Endpoint: endpoint, Bucket: s3test.Bucket, PathStyle: true,
		AccessKeyID:     func() (string, error) { return s3test.AccessKey, nil },
		SecretAccessKey: func() (string, error) { return s3test.SecretKey, nil },
	}
	if change != nil {
		change(&o)
	}
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
