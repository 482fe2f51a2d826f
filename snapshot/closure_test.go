package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
	"lifeboat/storage/storetest"
)

// asked notes every chunk that is asked for on the way to Chunks.
type asked struct {
	catalog.Chunks
	mu  sync.Mutex
	ids map[pack.ChunkID]bool
}

func (a *asked) Read(ctx context.Context, want []pack.ChunkID, emit func(int, []byte) error) error {
	a.note(want...)
	return a.Chunks.Read(ctx, want, emit)
}

func (a *asked) note(ids ...pack.ChunkID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		a.ids[id] = true
	}
}

// closed checks that all that a snapshot needs is in the packs that its intent
// names, as their own tables of contents say, or rides in its manifest.
func (w *world) closed(t *testing.T, id string) (packs int) {
	t.Helper()
	ctx := t.Context()
	r := w.open(true)
	defer r.Close()
	m, err := r.Manifest(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	needed := w.needs(t, r, m)
	all, err := r.Snapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(s repo.Snapshot) bool { return s.Summary.ID == id })
	keys, err := r.Packs(ctx, &all[at], nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := r.Hasher(pack.Meta)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range m.Pages {
		delete(needed, hash.Sum(page))
	}
	for _, region := range w.regions {
		left := map[pack.ChunkID]bool{}
		for id := range needed {
			left[id] = true
		}
		for _, key := range keys {
			for _, id := range w.table(t, r, region.Store, key) {
				delete(left, id)
			}
		}
		for id := range left {
			t.Fatalf("snapshot %.8s: chunk %.8s (and %d others) is in none of its %d packs in region %s", m.Workload, id, len(left)-1, len(keys), region.Name)
		}
	}
	return len(keys)
}

// needs collects the ids of a snapshot's pages, pages of ids and contents.
func (w *world) needs(t *testing.T, r *repo.Repo, m *repo.Manifest) map[pack.ChunkID]bool {
	t.Helper()
	ctx := t.Context()
	rd, err := r.Chunks(ctx, m.Pages)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	a := &asked{Chunks: rd, ids: map[pack.ChunkID]bool{}}
	cat, err := catalog.Open(ctx, a, snapshot.CatalogRoot(m))
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range cat.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		for id, err := range catalog.FileChunks(ctx, e, a) {
			if err != nil {
				t.Fatal(err)
			}
			a.note(id)
		}
	}
	return a.ids
}

// table gives the chunks of a pack, from the pack.
func (w *world) table(t *testing.T, r *repo.Repo, s storage.Store, key string) (ids []pack.ChunkID) {
	t.Helper()
	if w.tables == nil {
		w.tables = map[string][]pack.ChunkID{}
	}
	if _, err := s.Stat(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if ids, ok := w.tables[key]; ok {
		return ids
	}
	dec, err := pack.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	toc, err := pack.ReadTOC(t.Context(), s, key, dec, seal.NewOpener(r.Keys().Domain.Index).Open)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	for _, f := range toc.Frames {
		for _, c := range f.Chunks {
			ids = append(ids, c.ID)
		}
	}
	w.tables[key] = ids
	return ids
}

// orchard is a tree that changes at random, with enough files that its catalog
// needs packs, and a page file whose list of chunks has pages of its own.
type orchard struct {
	t    *testing.T
	dir  string
	rng  interface{ IntN(int) int }
	page []byte
}

func newOrchard(t *testing.T, files int) *orchard {
	o := &orchard{t: t, dir: t.TempDir(), rng: newRand(11)}
	for i := range files {
		o.write(o.path(i), fmt.Appendf(nil, "file %d", i))
	}
	o.page = bytes.Repeat([]byte("page of a database"), 600_000)
	copy(o.page, "SQLite format 3\x00")
	for i := 0; i < len(o.page); i += 1000 {
		o.page[i+100%len(o.page)] = byte(o.rng.IntN(256))
	}
	o.write("app.db", o.page)
	return o
}

func (o *orchard) path(i int) string {
	return fmt.Sprintf("directory-%02d/a-file-with-a-name-of-some-length-%05d", i%40, i)
}

func (o *orchard) write(name string, data []byte) {
	o.t.Helper()
	p := filepath.Join(o.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// change changes a little, or nothing, or a lot.
func (o *orchard) change(round, files int) {
	few := []int{0, 1, 3, 40, 400}[o.rng.IntN(5)]
	for range few {
		i := o.rng.IntN(files)
		switch o.rng.IntN(4) {
		case 0:
			if err := os.RemoveAll(filepath.Join(o.dir, o.path(i))); err != nil {
				o.t.Fatal(err)
			}
		default:
			o.write(o.path(i), fmt.Appendf(nil, "file %d in round %d", i, o.rng.IntN(round+1)))
		}
	}
	if o.rng.IntN(4) == 0 {
		o.page[4096+o.rng.IntN(len(o.page)-4096)]++
		o.write("app.db", o.page)
	}
}

// Every snapshot's packs hold all that it needs, through many snapshots that build
// on one another, with pack sets written whole and as differences, in sessions of
// one workload and of two, with lost caches, and in every region.
func TestEverySnapshotIsClosed(t *testing.T) {
	const files, rounds = 3500, 36
	w := newWorld(t)
	o, p := newOrchard(t, files), newOrchard(t, 50)
	last, anew := 0, 0
	for round := range rounds {
		w.clock = w.clock.Add(time.Hour)
		o.change(round, files)
		dirs := []string{o.dir}
		if round%5 == 4 {
			p.change(round, 50)
			dirs = append(dirs, p.dir)
		}
		if round%13 == 12 {
			w.cache = t.TempDir()
		}
		n := 0
		for _, id := range w.several(t, dirs, round == 25) {
			n = w.closed(t, id)
		}
		if n < last {
			anew++
		}
		last = n
	}
	if last < 20 || anew < 2 {
		t.Errorf("%d packs in the last set, %d sets computed anew: the test does not reach what it is for", last, anew)
	}
}

// several takes snapshots of several trees in one session, in one commit or in one each.
func (w *world) several(t *testing.T, dirs []string, full bool) (ids []string) {
	t.Helper()
	ctx := t.Context()
	r := w.open(false)
	defer r.Close()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 3, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := snapshot.NewTaker(r, s, 3)
	if err != nil {
		t.Fatal(err)
	}
	var all []repo.Prepared
	for i, dir := range dirs {
		opt := snapshot.Options{Workload: fmt.Sprint("w", i), Kind: "volume", Paths: []string{dir}, Now: w.now, Full: full}
		if parent, ok := snapshot.Parent(ctx, r, s, opt.Workload); ok {
			opt.Parent = parent
		}
		p, err := tk.Take(ctx, opt)
		if err != nil {
			t.Fatal(err)
		}
		if n := p.Manifest.Stats.Incomplete(); n > 0 {
			t.Fatalf("%d items incomplete: %+v", n, p.Manifest.Errors)
		}
		all = append(all, *p)
	}
	if err := tk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := s.Commit(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.End(ctx, false); err != nil {
		t.Fatal(err)
	}
	return c.IDs
}

// A parent whose catalog is damaged everywhere keeps no snapshot from being taken,
// and the new one does not count on what is damaged.
func TestDamagedParent(t *testing.T) {
	const files = 6000
	w := newWorld(t)
	o := newOrchard(t, files)
	w.clock = w.clock.Add(time.Hour)
	w.several(t, []string{o.dir}, false)
	meta := ""
	for _, region := range w.regions {
		mem := region.Store.(*storetest.Mem)
		for _, key := range mem.Keys("packs/") {
			_, parts, err := storage.Parse(key)
			if err == nil && parts.PackKind == storage.PackMeta {
				meta = key
				mem.Change(key, func(data []byte) []byte { return storetest.FlipBit(8 * (len(data) / 2))(data) })
			}
		}
	}
	if meta == "" {
		t.Fatal("the catalog is in no pack: the test needs more files")
	}
	for round := range 3 {
		w.cache = t.TempDir()
		w.clock = w.clock.Add(time.Hour)
		o.write(o.path(round), fmt.Appendf(nil, "round %d", round))
		ids := w.several(t, []string{o.dir}, round == 2)
		w.wholeIn(t, ids[0], 0)
		got := w.contents(ids[0])
		if want := fmt.Sprintf("round %d", round); string(got[filepath.Join(o.dir, o.path(round))]) != want {
			t.Errorf("round %d: %q", round, got[filepath.Join(o.dir, o.path(round))])
		}
		if len(got) != files+1 {
			t.Errorf("round %d: %d files, want %d", round, len(got), files+1)
		}
	}
}
