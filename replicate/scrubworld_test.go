package replicate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/replicate"
	"lifeboat/snapshot"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
	"lifeboat/storage/storetest"
)

// world is a repository in in-memory regions, and one enrolled host.
type world struct {
	t           testing.TB
	stores      map[string]*storetest.Mem
	faults      map[string]*storetest.Fault
	made        *repo.Created
	state       *repo.State
	stateDir    string
	clock       time.Time
	source      string
	firstSource string
	spoil       func(p *repo.Prepared) // before the commit: a writer with a bug
}

func newWorld(t testing.TB, regions ...string) *world {
	t.Helper()
	w := &world{t: t, stores: map[string]*storetest.Mem{}, faults: map[string]*storetest.Fault{}, clock: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC), source: t.TempDir()}
	for _, name := range regions {
		w.stores[name] = storetest.Memory()
	}
	var err error
	if w.made, err = repo.Create(t.Context(), repo.CreateOptions{Regions: w.regions(), Classic: true, Now: w.clock}); err != nil {
		t.Fatal(err)
	}
	w.stateDir = t.TempDir()
	if w.state, err = repo.SaveState(w.stateDir, w.made.ID, w.made.Root.Public(), w.made.Writer, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// regions gives the stores, each with its faults around it.
func (w *world) regions() []repo.Region {
	var out []repo.Region
	for name, mem := range w.stores {
		f := w.faults[name]
		if f == nil {
			f = storetest.Faulty(mem)
			w.faults[name] = f
		}
		out = append(out, repo.Region{Name: name, Store: f})
	}
	slices.SortFunc(out, func(a, b repo.Region) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (w *world) now() time.Time { w.clock = w.clock.Add(time.Second); return w.clock }

func (w *world) open() *repo.Repo {
	w.t.Helper()
	r, err := repo.Open(context.Background(), repo.Options{Regions: w.regions(), ID: w.made.ID, Root: w.made.Root.Public(), State: w.state})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	return r
}

// write puts files into the source tree; sizes in bytes, contents from a seed.
func (w *world) write(seed uint64, sizes map[string]int) {
	w.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	for _, name := range slices.Sorted(keys(sizes)) {
		data := make([]byte, sizes[name])
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		path := filepath.Join(w.source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// backup takes one snapshot of the source tree.
func (w *world) backup(workload string) string {
	w.t.Helper()
	ctx := context.Background()
	r := w.open()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 1, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	tk, err := snapshot.NewTaker(r, s, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	opt := snapshot.Options{Workload: workload, Kind: "volume", Host: "h", Paths: []string{w.source}, Now: w.now}
	if parent, ok := snapshot.Parent(ctx, r, s, workload); ok {
		opt.Parent = parent
	}
	p, err := tk.Take(ctx, opt)
	if err == nil {
		err = tk.Flush(ctx)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if w.spoil != nil {
		w.spoil(p)
	}
	c, err := s.Commit(ctx, []repo.Prepared{*p})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.End(ctx, false); err != nil {
		w.t.Fatal(err)
	}
	return c.IDs[0]
}

// standard is a world of three regions with three snapshots: two of one
// workload, with metadata packs, and one whose manifest is an object of its own.
func standard(t testing.TB) (*world, []string) {
	w := newWorld(t, "a", "b", "c")
	sizes := map[string]int{"big": 100 << 10}
	long := strings.Repeat(strings.Repeat("n", 200)+"/", 4)
	for i := range 700 {
		sizes[fmt.Sprintf("%s/%04d", long, i)] = i % 3
	}
	w.write(1, sizes)
	ids := []string{w.backup("files")}
	w.write(2, map[string]int{"new": 300 << 10})
	ids = append(ids, w.backup("files"))
	w.firstSource, w.source = w.source, t.TempDir()
	w.write(3, oddNames(1200))
	return w, append(ids, w.backup("names"))
}

// small is a world of three regions with two snapshots of one workload.
func small(t testing.TB) (*world, []string) {
	w := newWorld(t, "a", "b", "c")
	w.write(1, map[string]int{"big": 100 << 10, "d/one": 10, "d/two": 20})
	ids := []string{w.backup("files")}
	w.write(2, map[string]int{"new": 300 << 10})
	w.firstSource = w.source
	return w, append(ids, w.backup("files"))
}

// oddNames are files whose names and contents do not compress: their catalog
// makes a manifest that is too large for a statement.
func oddNames(n int) map[string]int {
	rng := rand.New(rand.NewPCG(5, 5))
	sizes := map[string]int{}
	for range n {
		var name [250]byte
		for i := range name {
			name[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[rng.IntN(64)]
		}
		sizes["x"+string(name[:])] = 20
	}
	return sizes
}

// copy gives an independent world in the same state.
func (w *world) copy(t testing.TB) *world {
	c := *w
	c.t, c.stores, c.faults = t, map[string]*storetest.Mem{}, map[string]*storetest.Fault{}
	for name, mem := range w.stores {
		c.stores[name] = mem.Clone()
	}
	// The chain of a host whose regions are another copy would have a gap there.
	c.stateDir = filepath.Join(t.TempDir(), "state")
	err := os.CopyFS(c.stateDir, os.DirFS(w.stateDir))
	if err == nil {
		c.state, err = repo.LoadState(c.stateDir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func (w *world) scrub(opt replicate.ScrubOptions) *replicate.Report {
	w.t.Helper()
	opt.Now = w.now()
	r := w.open()
	defer r.Close()
	rep, err := replicate.Scrub(context.Background(), r, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return rep
}

// deep reads everything and opens it.
func (w *world) deep() replicate.ScrubOptions {
	return replicate.ScrubOptions{Read: replicate.ReadAmount{All: true}, Open: seal.NewOpener(w.made.Data).Open}
}
