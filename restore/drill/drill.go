// Package drill proves that a snapshot can be restored: it opens the repository
// as a stranger would, without any local cache, restores into an empty sandbox
// with the same code that a disaster uses, compares every file with the catalog,
// runs the configured commands, and times each phase. It decides on a verdict and
// makes the report; it does not store it, choose schedules, or know the
// configuration.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/restore"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// Outcome is a drill's verdict.
type Outcome string

// The verdicts. A drill that could not be carried out proves nothing: it is
// not_run. One that restored nothing, since the snapshot holds nothing, has
// failed. Incomplete is a drill that brought back all that the snapshot holds,
// of a snapshot that does not hold all of its source.
const (
	Passed          Outcome = "passed"
	Failed          Outcome = "failed"
	MissedObjective Outcome = "missed_objective"
	Incomplete      Outcome = "incomplete"
	Aborted         Outcome = "aborted"
	NotRun          Outcome = "not_run"
)

const (
	reportSchema   = "lifeboat.drill/v1"
	messageMax     = 2048 // bytes of one message in a report
	differencesMax = 100  // differences a report names; all are counted
)

// Report is the evidence of one drill.
type Report struct {
	Schema        string           `json:"schema"`
	ID            string           `json:"id"`
	Name          string           `json:"name"`
	Workload      string           `json:"workload"`
	Snapshot      string           `json:"snapshot_id"`
	RecoveryPoint time.Time        `json:"recovery_point_at"`
	Region        string           `json:"region"`
	Selection     Selection        `json:"selection"`
	StartedAt     time.Time        `json:"started_at"`
	FinishedAt    time.Time        `json:"finished_at"`
	Phases        []Phase          `json:"phases"`
	Assertions    []Assertion      `json:"assertions"`
	RTO           Objective        `json:"rto"`
	RPO           Objective        `json:"rpo"`
	Files         int64            `json:"files"`
	Bytes         int64            `json:"bytes"`
	Fetched       map[string]int64 `json:"fetched_bytes"` // by region
	KeySource     string           `json:"key_source"`
	Version       string           `json:"lifeboat_version"`
	Host          string           `json:"host"`
	Lacks         *Lacks           `json:"lacks,omitempty"` // nil: the snapshot is complete
	Empty         bool             `json:"empty,omitempty"` // nothing was restored, and so nothing proved
	Outcome       Outcome          `json:"outcome"`
	Reasons       []string         `json:"reasons,omitempty"`
}

// Selection says how the point and the region were chosen, so that it can be done again.
type Selection struct {
	Point  string `json:"point"` // latest, random or explicit
	Seed   uint64 `json:"seed,omitempty"`
	Region string `json:"region"` // name, rotate or any
}

// Phase is one timed step.
type Phase struct {
	Name       string `json:"name"`
	State      string `json:"state"` // ok, failed or skipped
	DurationMS int64  `json:"duration_ms"`
	Bytes      int64  `json:"bytes,omitempty"`
}

// Assertion is one thing that was checked.
type Assertion struct {
	Name       string `json:"name"`
	Type       string `json:"type"` // files or command
	OK         bool   `json:"ok"`
	Actual     string `json:"actual,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Message    string `json:"message,omitempty"`
}

// Objective is a promise beside what was measured.
type Objective struct {
	MeasuredMS  int64 `json:"measured_ms"`
	ObjectiveMS int64 `json:"objective_ms,omitempty"` // 0: none was made
	Met         bool  `json:"met"`
}

// Restored says that all that the snapshot holds came back and matched, whatever
// the objectives say, and whether or not the snapshot is complete.
func (o Outcome) Restored() bool { return o == Passed || o == MissedObjective || o == Incomplete }

// ParseReport reads a report as it was stored.
func ParseReport(text []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read drill report: %w", err)
	}
	if r.Schema != reportSchema {
		return r, fmt.Errorf("read drill report: schema %q is not known", r.Schema)
	}
	return r, nil
}

// Check is a command that must succeed in the restored tree.
type Check struct {
	Name    string
	Run     []string // argv; "{{ .Target }}" stands for the restored directory
	Timeout time.Duration
}

// Options says what to prove.
type Options struct {
	ID, Name, Workload string
	Snapshot           string        // explicit id; empty: by Random
	Random             bool          // any point instead of the latest
	Within             time.Duration // with Random: no older than this; 0: any age
	Seed               uint64
	Region             string // as it was chosen, for the report
	RegionRule         string
	Sandbox            string // existing directory; the drill makes one of its own in it
	Keep               bool   // leave the restored tree
	RTO, RPO           time.Duration
	Checks             []Check
	KeySource          string
	Version, Host      string
	Refuse             []string // where a sandbox may not be
	Workers            int
	AllowEmpty         bool // a snapshot without any file is all right
	Now                func() time.Time
	// Open opens the repository cold: no cache, the one region. It is timed.
	Open func(ctx context.Context) (*repo.Repo, error)
	// Fetched tells what came from each region; may be nil.
	Fetched func() map[string]int64
	Phase   func(name string) // told at the begin of each phase; may be nil
}

// run is a drill under way.
type run struct {
	opt    Options
	rep    *Report
	target string
	repo   *repo.Repo
	snap   repo.Snapshot
	man    *repo.Manifest
	reader *repo.Reader
	cat    *catalog.Reader
}

// Run carries out a drill. The report is complete whatever happens; the error is
// only for a context that ended.
func Run(ctx context.Context, opt Options) (Report, error) {
	d := &run{opt: opt, rep: &Report{Schema: reportSchema, ID: opt.ID, Name: opt.Name, Workload: opt.Workload, Region: opt.Region, StartedAt: opt.Now().UTC(),
		KeySource: opt.KeySource, Version: opt.Version, Host: opt.Host, Phases: []Phase{}, Assertions: []Assertion{},
		Selection: Selection{Point: point(opt), Seed: opt.Seed, Region: opt.RegionRule}}}
	d.all(ctx)
	d.rep.FinishedAt = opt.Now().UTC()
	if opt.Fetched != nil {
		d.rep.Fetched = opt.Fetched()
	}
	if ctx.Err() != nil {
		d.fail(Aborted, context.Cause(ctx))
	}
	d.judge()
	return *d.rep, ctx.Err()
}

func point(o Options) string {
	switch {
	case o.Snapshot != "":
		return "explicit"
	case o.Random:
		return "random"
	}
	return "latest"
}

// all runs the phases in order; the first that fails ends the proof, but not the cleaning up.
func (d *run) all(ctx context.Context) {
	defer d.phase("clean up", func() error { return d.cleanUp() })
	steps := []struct {
		name string
		do   func() error
	}{
		{"locate", func() error { return d.locate(ctx) }},
		{"fetch", func() error { return d.fetch(ctx) }},
		{"verify", func() error { return d.verify(ctx) }},
	}
	for i, s := range steps {
		if d.phase(s.name, s.do) {
			continue
		}
		for _, rest := range steps[i+1:] {
			d.rep.Phases = append(d.rep.Phases, Phase{Name: rest.name, State: "skipped"})
		}
		return
	}
}

// phase times one step and notes how it ended.
func (d *run) phase(name string, do func() error) bool {
	if d.opt.Phase != nil {
		d.opt.Phase(name)
	}
	began := d.opt.Now()
	err := do()
	p := Phase{Name: name, State: "ok", DurationMS: d.opt.Now().Sub(began).Milliseconds()}
	if name == "fetch" {
		p.Bytes = d.rep.Bytes
	}
	if err != nil {
		p.State = "failed"
		d.fail(outcomeOf(err), fmt.Errorf("%s: %w", name, err))
	}
	d.rep.Phases = append(d.rep.Phases, p)
	if name != "clean up" {
		d.rep.RTO.MeasuredMS += p.DurationMS
	}
	return err == nil
}

// errNotRun marks what keeps a drill from being carried out at all.
var errNotRun = errors.New("not run")

func outcomeOf(err error) Outcome {
	if errors.Is(err, errNotRun) || errors.Is(err, restore.ErrNoSpace) || errors.Is(err, repo.ErrNoKey) {
		return NotRun
	}
	return Failed
}

// fail records a reason; the worst outcome so far stays.
func (d *run) fail(o Outcome, err error) {
	text := err.Error()
	d.rep.Reasons = append(d.rep.Reasons, text[:min(len(text), messageMax)])
	d.atLeast(o)
}

func (d *run) atLeast(o Outcome) {
	rank := []Outcome{"", Passed, MissedObjective, Incomplete, NotRun, Failed, Aborted}
	if slices.Index(rank, o) > slices.Index(rank, d.rep.Outcome) {
		d.rep.Outcome = o
	}
}

// locate opens the repository and finds the point.
func (d *run) locate(ctx context.Context) error {
	var err error
	if d.repo, err = d.opt.Open(ctx); err != nil {
		return err
	}
	all, err := d.repo.Snapshots(ctx)
	if err != nil {
		return err
	}
	if d.snap, err = d.choose(all); err != nil {
		return err
	}
	d.rep.Snapshot, d.rep.RecoveryPoint = d.snap.Summary.ID, d.snap.Start
	d.rep.RPO.MeasuredMS = d.rep.StartedAt.Sub(d.newest(all)).Milliseconds()
	if d.man, err = d.repo.Manifest(ctx, d.snap.Summary.ID); err != nil {
		return err
	}
	closure, err := d.repo.Packs(ctx, &d.snap, nil)
	if err != nil {
		return err
	}
	if err := d.repo.CoverPacks(ctx, closure); err != nil {
		return err
	}
	if d.reader, err = d.repo.Chunks(ctx, d.man.Pages); err != nil {
		return err
	}
	d.cat, err = catalog.Open(ctx, d.reader, catalog.Root{ID: d.man.Catalog.Root, Level: int(d.man.Catalog.Level), Entries: d.man.Catalog.Entries})
	return err
}

// choose picks the recovery point.
func (d *run) choose(all []repo.Snapshot) (repo.Snapshot, error) {
	var fit []repo.Snapshot
	for _, s := range all {
		if s.Workload != d.opt.Workload || d.opt.Snapshot != "" && s.Summary.ID != d.opt.Snapshot {
			continue
		}
		if d.opt.Random && d.opt.Within > 0 && d.rep.StartedAt.Sub(s.Start) > d.opt.Within {
			continue
		}
		fit = append(fit, s)
	}
	if len(fit) == 0 {
		return repo.Snapshot{}, fmt.Errorf("region %s shows no such recovery point of %s: %w", d.opt.Region, d.opt.Workload, repo.ErrNoSnapshot)
	}
	if d.opt.Random {
		return fit[rand.New(rand.NewPCG(d.opt.Seed, 0)).IntN(len(fit))], nil
	}
	return fit[len(fit)-1], nil
}

// newest is what a disaster now would come back to, from this region. What is
// dated in the future tells nothing of its age, as long as there is anything else.
func (d *run) newest(all []repo.Snapshot) time.Time {
	var t, ahead time.Time
	for _, s := range all {
		at := s.Dated()
		switch {
		case s.Workload != d.opt.Workload:
		case at.After(d.rep.StartedAt):
			ahead = at
		case at.After(t):
			t = at
		}
	}
	if t.IsZero() {
		return ahead
	}
	return t
}

// fetch restores into a fresh directory inside the sandbox.
func (d *run) fetch(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	opts := restore.Options{Target: d.target, Refuse: d.opt.Refuse, Workers: d.opt.Workers, NoSync: true}
	if len(d.man.Roots) == 1 {
		opts.StripPrefix = []byte(strings.Trim(string(d.man.Roots[0]), "/"))
	}
	entries := func(ctx context.Context) restore.Entries { return d.cat.All(ctx) }
	plan, err := restore.NewPlan(ctx, entries, opts)
	if err != nil {
		return err
	}
	res, err := plan.Run(ctx, entries, d.reader)
	if res != nil {
		d.rep.Files, d.rep.Bytes = res.Files, res.Bytes
	}
	if err != nil {
		return err
	}
	if lost := res.Failed - res.ByKind[restore.Unreadable]; lost > 0 {
		return fmt.Errorf("%d entries were not restored, the first: %s", lost, res.Problems[0])
	}
	return nil
}

// prepare makes the target; the restore's own plan looks for room.
func (d *run) prepare() error {
	if err := os.MkdirAll(d.opt.Sandbox, 0o700); err != nil {
		return fmt.Errorf("make sandbox: %w: %w", errNotRun, err)
	}
	dir, err := os.MkdirTemp(d.opt.Sandbox, "lifeboat-drill-")
	if err != nil {
		return fmt.Errorf("make sandbox: %w: %w", errNotRun, err)
	}
	d.target = filepath.Join(dir, "restored")
	return nil
}

// verify compares everything with the catalog and runs the commands.
func (d *run) verify(ctx context.Context) error {
	began := d.opt.Now()
	diff, err := d.compare(ctx)
	if err != nil {
		return err
	}
	empty := nothing(diff, lacksOf(d.man), d.opt.AllowEmpty)
	a := Assertion{Name: "every file matches the catalog", Type: "files", OK: diff.total == 0 && empty == nil, Actual: fmt.Sprintf("%d files, %d bytes", diff.files, diff.bytes),
		DurationMS: d.opt.Now().Sub(began).Milliseconds(), Message: diff.String()}
	if empty != nil {
		d.rep.Empty = true
		a.Message = empty.Error()
	}
	d.rep.Assertions = append(d.rep.Assertions, a)
	for _, c := range d.opt.Checks {
		d.rep.Assertions = append(d.rep.Assertions, d.command(ctx, c))
	}
	for _, a := range d.rep.Assertions {
		if !a.OK {
			return fmt.Errorf("%s: %s", a.Name, a.Message)
		}
	}
	return nil
}

// cleanUp removes the sandbox. A tree that holds directories without write
// permission is opened up first.
func (d *run) cleanUp() error {
	if d.reader != nil {
		d.reader.Close()
	}
	var err error
	if d.repo != nil {
		err = d.repo.Close()
	}
	if d.target == "" || d.opt.Keep {
		return err
	}
	top := filepath.Dir(d.target)
	if rerr := os.RemoveAll(top); rerr != nil {
		_ = filepath.WalkDir(top, func(p string, e os.DirEntry, werr error) error { // best effort: RemoveAll reports
			if werr == nil && e.IsDir() {
				return os.Chmod(p, 0o700)
			}
			return nil
		})
		err = errors.Join(err, os.RemoveAll(top))
	}
	return err
}

// judge holds what was measured against the objectives.
func (d *run) judge() {
	r := d.rep
	r.RTO.ObjectiveMS, r.RPO.ObjectiveMS = d.opt.RTO.Milliseconds(), d.opt.RPO.Milliseconds()
	r.RTO.Met = r.RTO.ObjectiveMS == 0 || r.RTO.MeasuredMS <= r.RTO.ObjectiveMS
	r.RPO.Met = r.RPO.ObjectiveMS == 0 || r.RPO.MeasuredMS <= r.RPO.ObjectiveMS
	d.lacking()
	if r.Outcome != "" && !r.Outcome.Restored() {
		return
	}
	d.atLeast(Passed)
	if !r.RTO.Met {
		d.fail(MissedObjective, fmt.Errorf("RTO: %v measured, %v promised", ms(r.RTO.MeasuredMS), ms(r.RTO.ObjectiveMS)))
	}
	if !r.RPO.Met {
		d.fail(MissedObjective, fmt.Errorf("RPO: %v measured, %v promised", ms(r.RPO.MeasuredMS), ms(r.RPO.ObjectiveMS)))
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
