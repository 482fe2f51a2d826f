package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// world is a repository in three in-memory regions, and one enrolled host.
type world struct {
	t       *testing.T
	regions []repo.Region
	made    *repo.Created
	state   *repo.State
	cache   string
	clock   time.Time
	tables  map[string][]pack.ChunkID // of packs, by key
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, cache: t.TempDir(), clock: time.Now().Add(time.Hour)} // so that no file is fresh, however slow the machine
	for _, name := range []string{"a", "b", "c"} {
		w.regions = append(w.regions, repo.Region{Name: name, Store: storetest.Memory()})
	}
	var err error
	if w.made, err = repo.Create(t.Context(), repo.CreateOptions{Regions: w.regions, Classic: true, Now: w.clock}); err != nil {
		t.Fatal(err)
	}
	if w.state, err = repo.SaveState(t.TempDir(), w.made.ID, w.made.Root.Public(), w.made.Writer, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) now() time.Time { w.clock = w.clock.Add(time.Second); return w.clock }

func (w *world) open(data bool) *repo.Repo {
	w.t.Helper()
	opt := repo.Options{Regions: w.regions, State: w.state, CacheDir: w.cache}
	if data {
		opt.Identities = append(opt.Identities, w.made.Data)
	}
	r, err := repo.Open(w.t.Context(), opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	return r
}

// backup takes one snapshot of dir and gives what was committed.
func (w *world) backup(dir string) (*repo.Prepared, *repo.Committed) {
	w.t.Helper()
	ctx := w.t.Context()
	r := w.open(false)
	defer r.Close()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 3, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	tk, err := snapshot.NewTaker(r, s, 3)
	if err != nil {
		w.t.Fatal(err)
	}
	opt := snapshot.Options{Workload: "files", Kind: "volume", Host: "h", Paths: []string{dir}, Now: w.now}
	if parent, ok := snapshot.Parent(ctx, r, s, "files"); ok {
		opt.Parent = parent
	}
	p, err := tk.Take(ctx, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := tk.Flush(ctx); err != nil {
		w.t.Fatal(err)
	}
	c, err := s.Commit(ctx, []repo.Prepared{*p})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.End(ctx, false); err != nil {
		w.t.Fatal(err)
	}
	return p, c
}

// contents reads every file of a snapshot through the repository.
func (w *world) contents(id string) map[string][]byte {
	w.t.Helper()
	ctx := w.t.Context()
	r := w.open(true)
	defer r.Close()
	m, err := r.Manifest(ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	rd, err := r.Chunks(ctx, m.Pages)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rd.Close()
	cat, err := catalog.Open(ctx, rd, snapshot.CatalogRoot(m))
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string][]byte{}
	for e, err := range cat.All(ctx) {
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Type != catalog.File {
			continue
		}
		out["/"+string(e.Path)] = readFile(ctx, w.t, rd, e)
	}
	return out
}

func readFile(ctx context.Context, t *testing.T, rd *repo.Reader, e *catalog.Entry) []byte {
	var ids []pack.ChunkID
	for id, err := range catalog.FileChunks(ctx, e, rd) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	parts := make([][]byte, len(ids))
	if err := rd.Read(ctx, ids, func(i int, data []byte) error { parts[i] = bytes.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	return bytes.Join(parts, nil)
}

func writeTree(t *testing.T, dir string, seed uint64) map[string][]byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	want := map[string][]byte{}
	for i := range 300 {
		size := rng.IntN(20_000)
		if i%100 == 7 {
			size = 3<<20 + rng.IntN(5<<20)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rng.Uint32() >> (i % 8))
		}
		p := filepath.Join(dir, fmt.Sprintf("d%02d", i%17), fmt.Sprintf("f%03d", i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
		want[p] = data
	}
	return want
}

func same(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for p, data := range want {
		if !bytes.Equal(got[p], data) {
			t.Errorf("%s: %d bytes, want %d, or they differ", p, len(got[p]), len(data))
		}
	}
}

func TestSnapshotsReadBack(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	want := writeTree(t, dir, 1)
	p, c := w.backup(dir)
	if p.Manifest.Stats.Files != 300 || p.Manifest.Stats.New != 300 {
		t.Errorf("first run: %+v", p.Manifest.Stats)
	}
	same(t, w.contents(c.IDs[0]), want)

	big := filepath.Join(dir, "d07", "f007")
	changed := append([]byte("something in front"), want[big]...)
	if err := os.WriteFile(big, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	first := want[big]
	want[big] = changed
	p2, c2 := w.backup(dir)
	if s := p2.Manifest.Stats; s.Changed != 1 || s.Unmodified < 250 {
		t.Errorf("second run: %+v", s)
	}
	if p2.Manifest.Stats.BytesNew > 3<<20 {
		t.Errorf("stored %d bytes for a change at the front of one file", p2.Manifest.Stats.BytesNew)
	}
	same(t, w.contents(c2.IDs[0]), want)
	want[big] = first
	same(t, w.contents(c.IDs[0]), want)
}

// A large page file has pages of chunk ids. While they are few they ride in the
// manifest; a later snapshot that takes the file over unchanged must keep them.
func TestUnchangedFileKeepsItsPagesOfIDs(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	db := filepath.Join(dir, "app.db")
	data := make([]byte, 12<<20)
	for i := range data {
		data[i] = byte(i * 7 / 5)
	}
	copy(data, "SQLite format 3\x00")
	rng := rand.New(rand.NewPCG(4, 4))
	for i := 4096; i < len(data); i += 4096 {
		data[i] = byte(rng.Uint32())
		data[i+1] = byte(rng.Uint32())
	}
	want := map[string][]byte{db: data, filepath.Join(dir, "note"): []byte("one")}
	for p, d := range want {
		if err := os.WriteFile(p, d, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(db, old, old); err != nil {
		t.Fatal(err)
	}
	w.backup(dir)
	for i := range 20 { // often enough that an exact run is among them
		w.clock = w.clock.Add(time.Hour)
		want[filepath.Join(dir, "note")] = fmt.Appendf(nil, "note %d", i)
		if err := os.WriteFile(filepath.Join(dir, "note"), want[filepath.Join(dir, "note")], 0o644); err != nil {
			t.Fatal(err)
		}
		p, c := w.backup(dir)
		if p.Manifest.Stats.Unmodified != 1 {
			t.Fatalf("round %d: %+v", i, p.Manifest.Stats)
		}
		same(t, w.contents(c.IDs[0]), want)
	}
}
