package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// Limits of one scrub.
const (
	scrubRequests   = 8       // requests at once, per region
	scrubDeepMax    = 3       // packs opened frame by frame at once, over all regions: each takes some 15 MiB
	scrubRegionsMax = 64      // regions one scrub compares
	damagedMax      = 1000    // damaged objects a report names; the rest are counted
	affectsMax      = 100     // snapshots one damaged object names; the rest are counted
	behindMax       = 100     // lagging objects a report names for one region
	healProbesMax   = 1000    // damaged objects for which other regions are asked
	gapsMax         = 1000    // missing statements looked for by name
	sentinelMax     = 1 << 10 // bytes of a sentinel that are read
	plainObjectMax  = 1 << 20 // bytes of format.json, a marker or RECOVERY.txt that are read
)

// Levels of a scrub: what is known of the data packs after it.
const (
	// LevelInventory: every small object and every metadata pack was read and
	// hashed; data packs are there, in the size that the index says.
	LevelInventory = "inventory"
	// LevelHash: the chosen data packs were read whole and hash to their names.
	LevelHash = "hash"
	// LevelDeep: their frames were opened, too, and every chunk matches its id.
	LevelDeep = "deep"
)

// Phases of a scrub, in order, as ScrubEvents.Phase tells them.
const (
	PhaseStatements = "statements"
	PhasePacks      = "packs"
	PhaseCatalogs   = "catalogs"
	PhaseRead       = "read"
	PhaseCompare    = "compare"
)

// ReadAmount says how many of the data packs to read; the zero value is none.
type ReadAmount struct {
	All   bool
	Ratio float64 // 0..1 of their bytes, in each region
	Bytes int64   // in each region
}

// IsZero reports that no data pack is to be read.
func (a ReadAmount) IsZero() bool { return a == ReadAmount{} }

// ScrubOptions says what to look at.
type ScrubOptions struct {
	Regions  []string // names of the regions to check; empty: all
	Workload string   // only its recovery points; needs a key that opens names
	Newest   int      // only so many of each workload, the newest; 0: all
	Read     ReadAmount
	// Open opens frames of contents; nil when no such key is here. It is called
	// from several goroutines at once.
	Open pack.Open
	// Coverage is where earlier scrubs got to. It is updated; nil forgets.
	Coverage *Coverage
	Now      time.Time
	Events   ScrubEvents
}

// ScrubEvents tells what goes on; every field may be nil. They are called from
// several goroutines at once.
type ScrubEvents struct {
	Phase   func(name string)
	Expect  func(bytes, items int64) // totals of the phase, as far as they are known
	Done    func(bytes, items int64) // since the last call
	At      func(region, object string)
	Damaged func(region, object, problem string) // as soon as it is found
	Left    func(region string, err error)       // a region that stopped answering
}

// Report is what a scrub found.
type Report struct {
	Level          string         `json:"level"`
	ObjectsChecked int64          `json:"objects_checked"`
	BytesRead      int64          `json:"bytes_read"`
	Snapshots      int            `json:"snapshots_checked"`
	Catalogs       int            `json:"catalogs_walked"` // of Snapshots, those whose names could be opened
	Entries        int64          `json:"entries_walked"`  // pages that snapshots share count once
	Damaged        []Damage       `json:"damaged"`
	DamagedTotal   int            `json:"damaged_total"` // Damaged names the first of them
	Behind         []Behind       `json:"behind,omitempty"`
	Orphans        int64          `json:"orphans"` // packs that no visible snapshot reaches, in all regions
	OrphanBytes    int64          `json:"orphan_bytes"`
	Unindexed      int64          `json:"unindexed_packs"` // known by their own tables of contents only
	Strange        []string       `json:"strange,omitempty"`
	StrangeTotal   int            `json:"strange_total,omitempty"` // objects that are no part of the layout
	Coverage       CoverageReport `json:"coverage"`
	Regions        []RegionReport `json:"regions"`
}

// Damage is one object that is not what it must be.
type Damage struct {
	Object  string `json:"object"`
	Region  string `json:"region"` // empty: of the repository as a whole; no region has it right
	Kind    string `json:"kind"`
	Problem string `json:"problem"`
	// Affects are the recovery points that need the object.
	Affects      []Affected `json:"affects"`
	AffectsTotal int        `json:"affects_total"`
	// HealableFrom are the regions that were seen to hold good bytes.
	HealableFrom []string `json:"healable_from"`
	// InPlace says that the object has the right size and wrong bytes.
	InPlace bool `json:"changed_in_place,omitempty"`
	// Files are some of those that lose contents; only for data packs.
	Files      []string `json:"files,omitempty"`
	FilesTotal int64    `json:"files_total,omitempty"` // in the newest affected recovery points
}

// Affected is a recovery point that damage touches. Workload and At are empty
// when no key here opens names.
type Affected struct {
	ID       string    `json:"id"`
	Workload string    `json:"workload,omitempty"`
	At       time.Time `json:"at,omitzero"`
}

// Behind is what a region lacks because it was away when it was written. It is
// no damage: a replicator brings it.
type Behind struct {
	Region  string   `json:"region"`
	Objects []string `json:"objects"`
	Total   int      `json:"total"`
}

// RegionReport is what a scrub saw of one region.
type RegionReport struct {
	Name      string `json:"name"`
	State     string `json:"state"` // ok, damaged, unreachable or foreign
	Error     string `json:"error,omitempty"`
	Snapshots int    `json:"snapshots"`
	Objects   int64  `json:"objects_checked"`
	Packs     int64  `json:"packs"`
	Orphans   int64  `json:"orphans"`
	Err       error  `json:"-"`
}

// States of a region in a report.
const (
	RegionOK          = "ok"
	RegionDamaged     = "damaged"
	RegionUnreachable = "unreachable" // it did not answer, or stopped answering
	RegionForeign     = "foreign"     // it holds something else than this repository
)

// Scrub looks at what the regions hold, object by object, without any cache: it
// reads every small object and every metadata pack, looks at every data pack and
// reads as many of them as it is told, and follows every recovery point from its
// statements to its last chunk. It writes nothing into any region.
//
// The error says that the scrub itself could not go on; damage and regions that
// do not answer are in the report, which is never nil.
func Scrub(ctx context.Context, r *repo.Repo, opt ScrubOptions) (*Report, error) {
	s := newScrub(r, opt)
	if err := s.choose(); err != nil {
		return s.report, err
	}
	err := s.run(ctx)
	s.finish()
	return s.report, err
}

// scrub is the state of one run.
type scrub struct {
	r      *repo.Repo
	opt    ScrubOptions
	id     repo.ID
	trust  *journal.Trust
	scans  []*scan // all regions, also those that are only compared with
	idx    *index.Index
	report *Report
	noKey  atomic.Bool // a data frame could not be opened for want of its key

	objects, bytes atomic.Int64

	mu         sync.Mutex
	findings   []*finding
	known      map[string]*finding // by region and object
	view       *journal.View
	statements map[string]*statement // by key
	chains     map[string]*chain     // by writer/instance
	shown      map[string]*journal.Shown
	names      map[string]Affected // by snapshot id
	chosen     []string            // ids of the snapshots to check, newest first
	packs      packTable
	format     []byte // format.json, as a region has it right
}

// scan is one region of a scrub.
type scan struct {
	*repo.Place
	number  int
	nonce   string
	checked bool // findings here count; other regions are only compared with

	objects    atomic.Int64
	trustSeq   uint64               // newest statement that verified here; 0: none
	trust      *journal.Trust       // that statement
	small      map[string]int64     // sizes of the listed small objects, by key
	newest     map[string]time.Time // by first element of the key, of the listed objects, by the region\'s clock
	seen       []packSeen           // by pack number
	packs      int64
	orphans    int64
	orphanSize int64
	snapshots  int
	behind     Behind
	foreign    error

	mu   sync.Mutex
	away error // it does not answer: nothing more is asked
}

func newScrub(r *repo.Repo, opt ScrubOptions) *scrub {
	s := &scrub{
		r: r, opt: opt, id: r.ID(), trust: r.Trust(), view: journal.NewView(), report: &Report{Level: LevelInventory, Damaged: []Damage{}, Regions: []RegionReport{}},
		known: map[string]*finding{}, statements: map[string]*statement{}, chains: map[string]*chain{}, names: map[string]Affected{}, packs: newPackTable(),
	}
	for i, p := range r.Places() {
		s.scans = append(s.scans, &scan{Place: p, number: i, small: map[string]int64{}, newest: map[string]time.Time{}})
	}
	return s
}

// choose marks the regions that are to be checked.
func (s *scrub) choose() error {
	if len(s.scans) > scrubRegionsMax {
		return fmt.Errorf("scrub: %d regions, at most %d", len(s.scans), scrubRegionsMax)
	}
	for _, name := range s.opt.Regions {
		if !slices.ContainsFunc(s.scans, func(g *scan) bool { return g.Name == name }) {
			return fmt.Errorf("scrub: there is no region %s", name)
		}
	}
	for _, g := range s.scans {
		g.checked = len(s.opt.Regions) == 0 || slices.Contains(s.opt.Regions, g.Name)
	}
	return nil
}

func (s *scrub) run(ctx context.Context) error {
	for _, step := range []struct {
		phase string
		do    func(context.Context) error
	}{
		{PhaseStatements, s.smallObjects},
		{PhasePacks, s.packPhase},
		{PhaseCatalogs, s.catalogPhase},
		{PhaseRead, s.readPhase},
		{PhaseCompare, s.comparePhase},
	} {
		s.opt.Events.phase(step.phase)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("scrub: %s: %w", step.phase, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("scrub: %s: %w", step.phase, context.Cause(ctx))
		}
	}
	return nil
}

// each runs f for all regions that answer, at once.
func (s *scrub) each(f func(g *scan)) {
	var wg sync.WaitGroup
	for _, g := range s.scans {
		if g.answers() {
			wg.Go(func() { f(g) })
		}
	}
	wg.Wait()
}

// many runs f for all items of one region, a bounded number at once, until the
// region stops answering.
func many[T any](ctx context.Context, g *scan, items []T, f func(item T)) {
	var group errgroup.Group
	group.SetLimit(scrubRequests)
	for _, item := range items {
		if ctx.Err() != nil || !g.answers() {
			break
		}
		group.Go(func() error { f(item); return nil })
	}
	_ = group.Wait() // findings carry the errors
}

// answers reports whether the region is part of the repository and still there.
func (g *scan) answers() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.away == nil && g.foreign == nil
}

// leave gives a region up.
func (s *scrub) leave(g *scan, err error) {
	g.mu.Lock()
	first := g.away == nil
	if first {
		g.away = err
	}
	g.mu.Unlock()
	if first {
		s.opt.Events.left(g.Name, err)
	}
}

// isAway separates a region that does not answer from an object that is bad.
func isAway(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	if ctx.Err() != nil || storage.IsTemporary(err) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return true // a body that ends early says nothing of the others
	}
	for _, away := range []error{storage.ErrUnreachable, storage.ErrNoBucket, storage.ErrDenied, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, away) {
			return true
		}
	}
	return false
}

// count notes an object that was looked at and the bytes that were read for it.
func (s *scrub) count(g *scan, objects, bytes int64) {
	s.objects.Add(objects)
	s.bytes.Add(bytes)
	g.objects.Add(objects)
	s.opt.Events.done(bytes, objects)
}

// finish fills in what the report says as a whole.
func (s *scrub) finish() {
	rep := s.report
	rep.ObjectsChecked, rep.BytesRead = s.objects.Load(), s.bytes.Load()
	rep.DamagedTotal = len(s.findings)
	slices.SortStableFunc(s.findings, compareFindings)
	bad := map[string]bool{}
	for _, f := range s.findings {
		bad[f.Region] = true
		if len(rep.Damaged) < damagedMax {
			rep.Damaged = append(rep.Damaged, f.Damage)
		}
	}
	for _, g := range s.scans {
		rep.Orphans, rep.OrphanBytes = rep.Orphans+g.orphans, rep.OrphanBytes+g.orphanSize
		if g.behind.Total > 0 && g.checked {
			g.behind.Region = g.Name
			rep.Behind = append(rep.Behind, g.behind)
		}
		if g.checked {
			rep.Regions = append(rep.Regions, g.summary(bad[g.Name]))
		}
	}
}

func (g *scan) summary(bad bool) RegionReport {
	row := RegionReport{Name: g.Name, State: RegionOK, Snapshots: g.snapshots, Objects: g.objects.Load(), Packs: g.packs, Orphans: g.orphans}
	switch {
	case g.away != nil:
		row.State, row.Err = RegionUnreachable, g.away
	case g.foreign != nil:
		row.State, row.Err = RegionForeign, g.foreign
	case bad:
		row.State = RegionDamaged
	}
	if row.Err != nil {
		row.Error = row.Err.Error()
	}
	return row
}

func (e ScrubEvents) phase(name string) {
	if e.Phase != nil {
		e.Phase(name)
	}
}

func (e ScrubEvents) expect(bytes, items int64) {
	if e.Expect != nil {
		e.Expect(bytes, items)
	}
}

func (e ScrubEvents) done(bytes, items int64) {
	if e.Done != nil {
		e.Done(bytes, items)
	}
}

func (e ScrubEvents) at(region, object string) {
	if e.At != nil {
		e.At(region, object)
	}
}

func (e ScrubEvents) damaged(region, object, problem string) {
	if e.Damaged != nil {
		e.Damaged(region, object, problem)
	}
}

func (e ScrubEvents) left(region string, err error) {
	if e.Left != nil {
		e.Left(region, err)
	}
}
