// Package snapshot takes one snapshot of a volume: it walks the source beside
// the parent's catalog, reads what changed, stores what is new, and prepares the
// manifest. Unchanged files are not opened. It does not commit: a session does,
// for one snapshot or for several that were due together.
//
// One goroutine walks, several workers read and store, one goroutine writes the
// catalog in order. What is in flight is bounded, however large the source.
package snapshot

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/snapshot/catalog"
	"lifeboat/snapshot/chunk"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// Limits of one run.
const (
	windowMax   = 256       // slots between the walk and the catalog
	batchItems  = 256       // small files in one job
	batchBytes  = 1 << 20   // and their size
	carryBytes  = 64 << 10  // unchanged entries handed on together, encoded
	bundleBytes = 1 << 20   // plaintext at which a bundle of small chunks is sealed
	largeFile   = chunk.Min // files from this size on are cut
	pageFileMin = 64 << 10  // smaller page files stay whole
	stepBytes   = 192 << 10 // read and scanned at a time, so that it stays in the cache
	unitBytes   = 1 << 20   // of a page file, per turn of a worker
	rereadsMax  = 2         // times a file that changes is read again
	racyWindow  = 20 * time.Millisecond
	workersMax  = 6
)

// Options says what to snapshot and how.
type Options struct {
	Workload string
	Kind     string
	Host     string
	Paths    []string
	Tags     []string
	Volume   volume.Options
	// PageFiles are globs of files that are cut at fixed 32 KiB whatever they look like.
	PageFiles []string
	// Parent is the snapshot to compare with; nil reads everything.
	Parent *repo.Snapshot
	// Full reads every file again, also those that look unchanged.
	Full    bool
	Verify  pack.Verify
	Workers int
	Now     func() time.Time
	Events  Events
}

// Events tells what goes on; every field may be nil.
type Events struct {
	Progress func(Progress) // often; the receiver thins it out
	Problem  func(path []byte, problem string)
	Warning  func(code, message string)
}

// Progress counts what was done so far.
type Progress struct {
	Files     uint64
	Bytes     uint64 // looked at
	BytesRead uint64
	Current   string
}

// Take reads the source and stores what is new through the session. The result
// is to be given to Session.Commit, after Flush.
func (t *Taker) Take(ctx context.Context, opt Options) (*repo.Prepared, error) {
	r := &run{t: t, opt: opt, used: map[string]bool{}, start: opt.Now()}
	defer r.close()
	p, err := r.take(ctx)
	if err != nil {
		t.abandon()
		return nil, err
	}
	return p, nil
}

func (r *run) take(ctx context.Context) (*repo.Prepared, error) {
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.stream(ctx); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", r.opt.Workload, err)
	}
	return r.finish(ctx)
}

// abandon forgets what was collected for a snapshot that failed and is in no
// frame yet, so that the next one of the session does not count on it.
func (t *Taker) abandon() {
	for _, w := range t.workers {
		w.bundle.drop(t.session)
	}
	t.bundle.drop(t.session)
}

// Taker takes snapshots in one session, one after the other, with the same
// workers' state.
type Taker struct {
	repo    *repo.Repo
	session *repo.Session
	cutter  *chunk.Cutter
	domain  seeds
	workers []*worker
	meta    *repo.FrameWriter
	bundle  *bundle // of catalog pages
}

// NewTaker makes the state for taking snapshots in a session.
func NewTaker(r *repo.Repo, s *repo.Session, workers int) (*Taker, error) {
	d := r.Keys().Domain
	if d == nil {
		return nil, fmt.Errorf("take snapshots: %w", repo.ErrNoKey)
	}
	t := &Taker{repo: r, session: s, domain: seeds{path: d.PathSeed()}, meta: s.Writer(pack.Meta), bundle: &bundle{hint: pack.HintProbe}}
	t.cutter = chunk.NewCutter(d.GearSeed(), chunk.Min, chunk.Avg, chunk.Max)
	for range min(max(workers, 1), workersMax) {
		h, err := r.Hasher(pack.Data)
		if err != nil {
			return nil, err
		}
		t.workers = append(t.workers, &worker{t: t, hash: h, frames: s.Writer(pack.Data), bundle: &bundle{}})
	}
	return t, nil
}

type seeds struct{ path uint64 }

// Flush sends what the workers still hold. Small remainders become one pack.
func (t *Taker) Flush(ctx context.Context) error {
	first := t.workers[0].frames
	for _, w := range t.workers[1:] {
		if err := first.Absorb(ctx, w.frames); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if err := first.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := t.meta.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// run is one snapshot in the making.
type run struct {
	t     *Taker
	opt   Options
	vol   *volume.Volume
	start time.Time
	rules *pageRules

	parent  *repo.Manifest
	closure []string // the parent's packs
	exact   bool     // look up the pack of every chunk, instead of taking over the closure
	inexact bool     // one could not be looked up
	cursor  *catalog.Cursor
	reader  *repo.Reader

	pages   *pageSink
	builder *catalog.Builder

	mu      sync.Mutex
	used    map[string]bool
	stats   repo.Stats
	errors  []repo.Item
	carried uint64 // entries taken over from the parent
	cbytes  uint64 // and their size
	matched uint64
}

func (r *run) open(ctx context.Context) error {
	var err error
	if r.rules, err = newPageRules(r.opt.PageFiles); err != nil {
		return fmt.Errorf("snapshot %s: %w", r.opt.Workload, err)
	}
	vopt := r.opt.Volume
	vopt.Paths = r.opt.Paths
	vopt.Events = r.volumeEvents()
	if r.vol, err = volume.New(vopt); err != nil {
		return fmt.Errorf("snapshot %s: %w", r.opt.Workload, err)
	}
	if err := r.openParent(ctx); err != nil {
		r.warn("parent_unreadable", "the catalog of the newest snapshot cannot be read, so every file is read again: %v", err)
		r.close()
		r.parent, r.cursor, r.closure = nil, nil, nil
	}
	if r.pages, err = newPageSink(ctx, r); err != nil {
		return err
	}
	r.builder = catalog.NewBuilder(r.t.domain.path, r.pages.put)
	return nil
}

// openParent makes a cursor over the parent's catalog.
func (r *run) openParent(ctx context.Context) error {
	if r.opt.Parent == nil {
		return nil
	}
	m, err := r.t.repo.Manifest(ctx, r.opt.Parent.Summary.ID)
	if err != nil {
		return err
	}
	closure, intent, _, err := r.t.session.ClosureOf(ctx, r.opt.Parent.Summary.ID)
	if err != nil {
		return err
	}
	depth, err := r.t.session.Depth(ctx, intent)
	if err != nil {
		return err
	}
	r.closure, r.exact = closure, depth >= repo.ClosureDepth
	if r.reader, err = r.t.repo.Chunks(ctx, m.Pages); err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, r.reader, CatalogRoot(m))
	if err != nil {
		return err
	}
	r.parent, r.cursor = m, catalog.NewCursor(ctx, cat)
	return nil
}

// CatalogRoot is where a manifest's catalog begins.
func CatalogRoot(m *repo.Manifest) catalog.Root {
	return catalog.Root{ID: m.Catalog.Root, Level: int(m.Catalog.Level), Entries: m.Catalog.Entries}
}

func (r *run) close() {
	if r.cursor != nil {
		r.cursor.Close()
		r.cursor = nil
	}
	if r.reader != nil {
		r.reader.Close()
		r.reader = nil
	}
}

// stream runs the three stages to their end.
func (r *run) stream(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	p := &pipeline{r: r, ctx: ctx, jobs: make(chan *job), order: make(chan slot, windowMax), tokens: make(chan *fileJob, windowMax+1)}
	var workers sync.WaitGroup
	for _, w := range r.t.workers {
		workers.Add(1)
		g.Go(func() error {
			defer workers.Done()
			return w.work(p)
		})
	}
	g.Go(func() error { return p.walk() })
	g.Go(func() error { return p.write() })
	return g.Wait()
}

// finish closes the catalog and makes the manifest.
func (r *run) finish(ctx context.Context) (*repo.Prepared, error) {
	for _, w := range r.t.workers {
		if err := w.flush(ctx); err != nil {
			return nil, err
		}
	}
	root, err := r.builder.Finish()
	if err != nil {
		return nil, fmt.Errorf("finish catalog of %s: %w", r.opt.Workload, err)
	}
	inline, err := r.pages.finish()
	if err != nil {
		return nil, err
	}
	m := r.manifest(root)
	m.Pages = inline
	if r.carried > 0 && (!r.exact || r.inexact) {
		for _, k := range r.closure {
			r.used[k] = true
		}
	}
	return &repo.Prepared{Manifest: m, Packs: r.used}, nil
}

func (r *run) manifest(root catalog.Root) *repo.Manifest {
	c := r.vol.Counts()
	r.stats.Sockets, r.stats.Excluded = uint64(c.Sockets), uint64(c.Excluded)
	r.stats.Vanished += uint64(c.Vanished)
	if r.parent != nil {
		r.stats.Deleted = r.parent.Catalog.Entries - min(r.matched, r.parent.Catalog.Entries)
	}
	id := r.t.repo.ID()
	writer, _ := hex.DecodeString(r.t.session.WriterID())
	m := &repo.Manifest{Type: "manifest", Version: 1, Repo: id[:], Writer: writer, Workload: r.opt.Workload, Kind: r.opt.Kind, Host: r.opt.Host,
		Start: r.start.UnixNano(), End: r.opt.Now().UnixNano(), Stats: r.stats, Errors: r.errors, Verify: r.opt.Verify.String(), Tags: r.opt.Tags,
		Catalog: repo.Catalog{Root: root.ID, Level: uint32(root.Level), Entries: root.Entries}}
	for _, p := range r.opt.Paths {
		m.Roots = append(m.Roots, []byte(p))
	}
	if r.opt.Parent != nil {
		m.Parent, _ = hex.DecodeString(r.opt.Parent.Summary.ID)
	}
	m.FetchBytes = r.stats.BytesStored
	if r.parent != nil && r.parent.Stats.Bytes > 0 {
		m.FetchBytes += uint64(float64(r.parent.FetchBytes) * min(1, float64(r.cbytes)/float64(r.parent.Stats.Bytes)))
	}
	return m
}

// problem counts and names something that makes the snapshot partial.
func (r *run) problem(path []byte, counter *uint64, text string) {
	r.mu.Lock()
	*counter++
	if len(r.errors) < repo.ErrorsMax {
		r.errors = append(r.errors, repo.Item{Path: slices.Clone(path), Problem: text})
	}
	r.mu.Unlock()
	if r.opt.Events.Problem != nil {
		r.opt.Events.Problem(path, text)
	}
}

func (r *run) warn(code, format string, args ...any) {
	if r.opt.Events.Warning != nil {
		r.opt.Events.Warning(code, fmt.Sprintf(format, args...))
	}
}

func (r *run) volumeEvents() volume.Events {
	ev := r.opt.Volume.Events
	inner := ev.Unreadable
	ev.Unreadable = func(path []byte, err error) {
		r.problem(path, &r.stats.Unreadable, err.Error())
		if inner != nil {
			inner(path, err)
		}
	}
	return ev
}

// use notes that the snapshot reaches a pack.
func (r *run) use(key string) {
	if key == "" {
		return // of this session: the commit adds those
	}
	r.mu.Lock()
	r.used[key] = true
	r.mu.Unlock()
}
