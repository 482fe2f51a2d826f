package badinput

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"lifeboat/e2e/internal/harness"
)

// badS3 meets a real S3 server with the wrong bucket, the wrong keys, and a
// network in between that loses, garbles and swallows.
func badS3(t *testing.T, f *fixture) {
	s3 := harness.StartS3(t)
	t.Run("bucket and keys", func(t *testing.T) {
		t.Parallel()
		badBucket(t, f, s3)
	})
	t.Run("network", func(t *testing.T) {
		t.Parallel()
		badNetwork(t, f, s3)
	})
}

// inS3 makes a repository of its own, whose region c is in S3, with two
// snapshots. It has to be put there by the program: a server knows more of an
// object than its bytes.
func (f *fixture) inS3(t *testing.T, s3 *harness.S3, prefix string) *world {
	t.Helper()
	w := newWorld(t)
	w.source, w.held = f.source, f.held
	w.Setenv(s3.Env()...)
	w.on("c", s3.URL(prefix))
	w.Must("init", "--yes", "--kit", w.kit)
	for range 2 {
		if r := w.works("backup", "files"); strings.Contains(string(r.Stdout), "left_out") {
			t.Fatalf("the S3 region was left out: %s", brief(r))
		}
	}
	return w
}

func badBucket(t *testing.T, f *fixture, s3 *harness.S3) {
	w := f.inS3(t, s3, "bucket")
	good := s3.URL("bucket")
	w.works("backup", "files")

	// The bucket does not exist: in one region, and as the only one.
	missing := strings.Replace(good, harness.Bucket, "no-such-bucket", 1)
	w.replace(good, missing)
	r := w.works("backup", "files")
	withinTime(t, deadMost, r)
	mustSay(t, string(r.Stdout), "region c", "left_out")
	p := w.refuses(10, "snapshots", "--region", "c")
	mustSay(t, p.Message, "region c", "no-such-bucket")
	mustSay(t, p.Hint, "bucket")
	h := w.bare()
	h.Setenv(s3.Env()...)
	mustSay(t, h.refuses(10, "snapshots", "--repo", missing, "--identity-file", w.kit).Message, "no-such-bucket")
	// A bucket that is there, and a prefix with nothing in it.
	h.refuses(10, "snapshots", "--repo", s3.URL("empty"), "--identity-file", w.kit)
	fresh := newWorld(t)
	fresh.Setenv(s3.Env()...)
	fresh.source, fresh.held = f.source, f.held
	fresh.configure()
	fresh.on("c", missing)
	mustSay(t, fresh.refuses(10, "init", "--yes", "--kit", fresh.kit).Message, "region c", "no-such-bucket")
	if _, err := os.Lstat(fresh.kit); err == nil {
		t.Error("a refused init has made a kit")
	}
	w.replace(missing, good)

	// Keys that the server does not know, and a secret that is wrong.
	for _, env := range [][]string{{"AWS_ACCESS_KEY_ID=nobody"}, {"AWS_SECRET_ACCESS_KEY=wrong"}} {
		stranger := f.inS3(t, s3, strings.ToLower(env[0][:9]))
		stranger.Setenv(env...)
		mustSay(t, string(stranger.works("backup", "files").Stdout), "region c", "left_out")
		p := stranger.refuses(1, "snapshots", "--region", "c")
		mustSay(t, p.Message, "region c")
		mustSay(t, p.Hint, "credentials")
		h := stranger.bare()
		h.Setenv(s3.Env()...)
		h.Setenv(env...)
		mustSay(t, h.refuses(1, "snapshots", "--repo", good, "--identity-file", w.kit).Hint, "credentials")
	}
	// No keys at all.
	h = w.bare()
	h.Setenv("AWS_EC2_METADATA_DISABLED=true")
	r = h.Run("snapshots", "--repo", good, "--identity-file", w.kit, "--json")
	withinTime(t, deadMost, r)
	mustSay(t, h.failed([]int{1}, r).Hint, "credentials")

	// URLs that name nothing.
	for _, url := range []string{"s3://", "s3://bucket?colour=red", "http://example.org/x", "file://relative/path", "/plain/path", "s3://UPPER_case/x", "file:///", "::"} {
		p := h.refuses(64, "snapshots", "--repo", url, "--identity-file", w.kit)
		mustSay(t, p.Hint, "--repo")
	}
	w.works("backup", "files")
	w.whole("a", "b")
}

// badNetwork breaks what lies between the program and one region, or its only one.
func badNetwork(t *testing.T, f *fixture, s3 *harness.S3) {
	proxy := harness.StartProxy(t, s3.Endpoint)
	w := f.inS3(t, s3, "network")
	w.replace(s3.Endpoint, proxy.Endpoint)
	repo := []string{"--repo", harness.S3URL(proxy.Endpoint, "network"), "--identity-file", w.kit}
	cold := func() *world {
		h := w.bare()
		h.Setenv(s3.Env()...)
		return h
	}
	restored := func() {
		t.Helper()
		h := cold()
		h.works(append([]string{"restore", "files", "--to", h.Path("out")}, repo...)...)
		sameAs(t, w.want(), h.Path("out"))
	}
	// What passes by itself: every third request fails, in every way.
	for _, fault := range []harness.Fault{harness.SlowDown, harness.Reset, harness.Lost, harness.Cut} {
		proxy.Fault(harness.Every(3, fault))
		r := w.works("backup", "files")
		if strings.Contains(string(r.Stdout), "left_out") || strings.Contains(string(r.Stdout), `"failed"`) {
			t.Errorf("a region that fails now and then was left out: %v", brief(r))
		}
		restored()
	}
	// What does not: the region is left out, and alone it is an error.
	for _, c := range []struct {
		name  string
		fault harness.Fault
		codes []int
	}{
		{"refused", harness.Reset, []int{15}}, {"login page", harness.Garbage, []int{4, 10, 15}}, {"slow down", harness.SlowDown, []int{15, 75}},
		{"black hole", harness.BlackHole, []int{15}},
	} {
		t.Logf("network: %s", c.name)
		proxy.Fault(harness.All(c.fault))
		h := cold()
		run := w.Start("backup", "files", "--json")
		only := h.Run(append([]string{"snapshots", "--json"}, repo...)...)
		one := run.Wait()
		proxy.Fault(nil)
		if one.Code != 0 || !strings.Contains(string(one.Stdout), "left_out") {
			t.Errorf("%s at one region: %v", c.name, brief(one))
		}
		h.failed(c.codes, only)
		withinTime(t, holeMost, one)
		withinTime(t, holeMost, only)
		w.works("replicate", "sync")
		restored()
	}
	w.whole("a", "b")
}

// badListings makes listings lie, in a region behind a server that leaves names
// out, and by names that are gone from a directory.
func badListings(t *testing.T, f *fixture) {
	s3 := harness.StartS3(t)
	liar := startLiar(t, s3.Endpoint)
	w := f.inS3(t, s3, "liar")
	w.replace(s3.Endpoint, liar.URL)
	repo := []string{"--repo", harness.S3URL(liar.URL, "liar"), "--identity-file", w.kit}
	honest := []string{"--repo", s3.URL("liar"), "--identity-file", w.kit}
	cold := func() *world {
		h := w.bare()
		h.Setenv(s3.Env()...)
		return h
	}
	restore := func(h *world, flags []string) []string {
		return append([]string{"restore", "files", "--to", h.Path("out")}, flags...)
	}
	newest := func(dir, typ string) string {
		all := keysOfKind(t, dir, typ)
		return all[len(all)-1]
	}
	for _, c := range []struct {
		name  string
		hide  func(key string) bool
		alone []int // codes of a restore from the liar alone; 0 must give the newest tree
	}{
		{"index", func(k string) bool { return strings.HasPrefix(k, "index/") }, []int{0}},
		{"packs", func(k string) bool { return strings.HasPrefix(k, "packs/") }, []int{0}},
		{"newest index", func(k string) bool { return k == newest(s3.Dir("liar"), "index") }, []int{0}},
		{"checkpoints and gc", func(k string) bool { return strings.HasPrefix(k, "gc/") || strings.Contains(k, "/c/") }, []int{0}},
		{"keys", func(k string) bool { return strings.HasPrefix(k, "keys/") }, []int{4, 12}},
		{"trust", func(k string) bool { return strings.HasPrefix(k, "trust/") }, []int{4, 10}},
		{"markers", func(k string) bool { return strings.HasPrefix(k, "region/") }, []int{0, 4, 10, 17}},
		{"journal", func(k string) bool { return strings.HasPrefix(k, "journal/") }, []int{13}},
		{"acks", func(k string) bool { return isType(s3.Dir("liar"), k, "ack") }, []int{13}},
		{"intents", func(k string) bool { return isType(s3.Dir("liar"), k, "intent") }, []int{13}},
		{"sentinels", func(k string) bool { return strings.HasSuffix(k, "~end") }, []int{0, 4}},
		{"all", func(string) bool { return true }, []int{4, 10}},
	} {
		t.Logf("hidden: %s", c.name)
		h := cold()
		liar.hide(c.hide)
		// Alone, the liar can at most keep something back; it is never believed that nothing is there.
		r := h.Run(append(restore(h, repo), "--json")...)
		if r.Code == 0 && c.alone[0] == 0 {
			sameAs(t, w.want(), h.Path("out"))
			r.Events()
			r.Envelope()
		} else {
			h.failed(c.alone, r)
		}
		// Beside honest regions it changes nothing.
		both := append(append([]string{}, repo...), "--repo", "file://"+w.region("b"))
		h = cold()
		h.works(restore(h, both)...)
		sameAs(t, w.want(), h.Path("out"))
		ids := w.snapshotIDs()
		if err := os.RemoveAll(w.Path("lb-cache")); err != nil {
			t.Fatal(err)
		}
		w.works("backup", "files")
		if after := w.snapshotIDs(); len(after) != len(ids)+1 {
			t.Errorf("%d snapshots before the backup, %d after", len(ids), len(after))
		}
		liar.hide(nil)
		w.works("replicate", "sync")
		h = cold()
		h.works(restore(h, honest)...)
		sameAs(t, w.want(), h.Path("out"))
	}
	w.whole("a", "b")

	// A hidden newest statement cannot be known of, but the gap it leaves can.
	ack := newest(s3.Dir("liar"), "ack")
	liar.hide(func(k string) bool { return k == ack })
	if e := cold().works(append([]string{"snapshots"}, repo...)...).Envelope(); len(e.Warnings) == 0 {
		t.Error("a gap in the journal of the only region is not told")
	}
}

// keysOfKind lists an S3 server's objects of one kind, in order.
func keysOfKind(t *testing.T, dir, kind string) []string {
	t.Helper()
	var keys []string
	for _, path := range objectsOf(t, dir, kind) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, rel)
	}
	return keys
}

// isType says whether a key is a statement of a type.
func isType(dir, key, typ string) bool {
	if !strings.HasPrefix(key, "journal/") || !strings.HasSuffix(key, ".json") {
		return false
	}
	data, err := os.ReadFile(filepath.Join(dir, key))
	return err == nil && statementType(data) == typ
}

// liar is a server before a server that leaves names out of its listings.
type liar struct {
	URL    string
	mu     sync.Mutex
	hidden func(key string) bool
	prefix string
}

func (l *liar) hide(hidden func(key string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = hidden
}

func startLiar(t *testing.T, endpoint string) *liar {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{prefix: "liar/"}
	behind := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
			r.Out.Header.Set("Accept-Encoding", "identity")
		},
		ModifyResponse: l.lie,
	}
	server := httptest.NewServer(behind)
	t.Cleanup(server.Close)
	l.URL = server.URL
	return l
}

// lie takes the hidden keys, and folders with nothing else in them, out of a listing.
func (l *liar) lie(r *http.Response) error {
	l.mu.Lock()
	hidden := l.hidden
	l.mu.Unlock()
	if hidden == nil || r.Request.Method != http.MethodGet || !strings.Contains(r.Request.URL.RawQuery, "list-type=2") {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	key := regexp.MustCompile(`<(?:Key|Prefix)>(.*?)</`)
	body = regexp.MustCompile(`(?s)<Contents>.*?</Contents>|<CommonPrefixes>.*?</CommonPrefixes>`).ReplaceAllFunc(body, func(entry []byte) []byte {
		name, err := url.QueryUnescape(string(key.FindSubmatch(entry)[1]))
		if err == nil && hidden(strings.TrimPrefix(name, l.prefix)) {
			return nil
		}
		return entry
	})
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
