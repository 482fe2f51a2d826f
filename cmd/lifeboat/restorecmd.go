package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/restore"
	"lifeboat/storage/pack"
)

type restoreFlags struct {
	snapshot, at, to  string
	paths, excludes   []string
	overwrite, verify string
	resume, untrusted bool
	noOwner, strict   bool
	ifAbsent, sync    bool
	workers           int
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use: "restore [WORKLOAD]", Short: "Restore a volume from a recovery point", Args: cobra.MaximumNArgs(1),
		Long: "Restore a volume from a recovery point. A plan comes first: which point, what will be lost, where it\n" +
			"comes from, how much room it needs. What exists is never overwritten unless --overwrite says so.\n" +
			"A --path that nothing matches is refused before anything is written.\n" +
			"A workload of one path is restored directly into the target; one of several by absolute path below it.\n\n" +
			"On the worst day no configuration is needed: --repo and --identity-file are enough.",
		Example: "  lifeboat restore files --to ./out --repo file:///mnt/dr --identity-file kit.txt\n" +
			"  lifeboat restore files --at '2026-11-22 14:00' --path /srv/files/invoices --to ./out\n" +
			"  lifeboat restore files --to ./out --dry-run",
		ValidArgsFunction: a.completeWorkloads,
	}
	fl := c.Flags()
	fl.StringVar(&f.snapshot, "snapshot", "", "a snapshot: ID, prefix, latest, latest~2 (default latest)")
	fl.StringVar(&f.at, "at", "", "the newest point at or before this time")
	fl.StringVar(&f.to, "to", "", "target directory (required)")
	fl.StringArrayVar(&f.paths, "path", nil, "only this file, directory or glob; repeatable")
	fl.StringArrayVar(&f.excludes, "exclude", nil, "not this file, directory or glob; repeatable")
	fl.StringVar(&f.overwrite, "overwrite", "never", "never, if-changed or always")
	fl.StringVar(&f.verify, "verify", "full", "read back what was written: none, sample or full")
	fl.BoolVar(&f.resume, "resume", false, "go on with an interrupted restore into the same target")
	fl.BoolVar(&f.untrusted, "untrusted", false, "drop devices, setuid bits and security attributes")
	fl.BoolVar(&f.noOwner, "no-owner", false, "everything belongs to the user who runs this")
	fl.BoolVar(&f.strict, "strict", false, "attributes that cannot be set make it exit 3")
	fl.BoolVar(&f.ifAbsent, "if-absent", false, "do nothing and exit 0 when the target has data already")
	fl.BoolVar(&f.sync, "sync", false, "wait at the end until the target's file system has flushed everything to disk")
	fl.IntVar(&f.workers, "workers", 0, "files written at once")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		for _, flag := range []string{"snapshot", "at"} {
			if c.Flags().Changed(flag) && c.Flags().Lookup(flag).Value.String() == "" {
				return nil, false, &Fail{Code: Usage, Message: "--" + flag + " is empty", Hint: "leave it out for the latest"}
			}
		}
		if f.workers < 0 {
			return nil, false, &Fail{Code: Usage, Message: "--workers must not be negative", Hint: "leave it out for the default"}
		}
		name := ""
		if len(args) == 1 {
			name = args[0]
		}
		return a.restore(ctx, name, f)
	})
}

// restoreData is the result of restore.
type restoreData struct {
	Workload     string           `json:"workload"`
	Kind         string           `json:"kind"`
	Snapshot     string           `json:"snapshot_id"`
	RequestedAt  time.Time        `json:"requested_at,omitzero"`
	AchievedAt   time.Time        `json:"achieved_at"`
	DataLossMS   int64            `json:"data_loss_ms"`
	Target       string           `json:"target"`
	InPlace      bool             `json:"in_place"`
	Regions      []string         `json:"regions"`
	Plan         restorePlan      `json:"plan"`
	Files        *restoreFiles    `json:"files,omitempty"`
	BytesWritten int64            `json:"bytes_restored"`
	BytesFetched map[string]int64 `json:"bytes_fetched,omitempty"`
	NotSet       *notSet          `json:"not_set,omitempty"`
	Dropped      *notSet          `json:"dropped,omitempty"`
	Problems     []namedItem      `json:"problems,omitempty"`
	Phases       []phaseTime      `json:"phases,omitempty"`
	RTO          restoreRTO       `json:"rto"`
	Flushed      bool             `json:"flushed"` // to disk; else the system does it in the background
	Verify       restoreVerify    `json:"verify"`
	Skipped      bool             `json:"skipped,omitempty"` // --if-absent and there was data
	Absent       int64            `json:"absent"`            // items that the snapshot has not even a name of, or that are not selected
	plan         *restore.Plan
	damaged      int64
	whole        bool
	stopped      bool
}

type restorePlan struct {
	Files      int64  `json:"files"`
	Dirs       int64  `json:"dirs"`
	Symlinks   int64  `json:"symlinks"`
	Specials   int64  `json:"specials"`
	Bytes      int64  `json:"bytes"`
	SpaceBytes int64  `json:"space_bytes"`
	FreeBytes  int64  `json:"free_bytes"`
	FetchBytes uint64 `json:"fetch_bytes"`
	Unreadable int64  `json:"unreadable"`
	Torn       int64  `json:"torn"`
}

type restoreFiles struct {
	Restored int64 `json:"restored"`
	Kept     int64 `json:"kept"`
	Skipped  int64 `json:"skipped"`
	Failed   int64 `json:"failed"`
	Dirs     int64 `json:"dirs"`
	Others   int64 `json:"others"`
}

type restoreRTO struct {
	MeasuredMS  int64 `json:"measured_ms"`
	ObjectiveMS int64 `json:"objective_ms,omitempty"`
	Met         *bool `json:"met,omitempty"`
}

type restoreVerify struct {
	Level       string `json:"level"`
	Files       int64  `json:"files"`
	Bytes       int64  `json:"bytes"`
	Differences int64  `json:"differences"`
}

func (a *app) restore(ctx context.Context, name string, f restoreFlags) (any, bool, error) {
	opts, err := a.restoreOptions(f)
	if err != nil {
		return nil, false, err
	}
	began := a.now()
	a.progress.plan("locate", "restore")
	a.progress.phase("locate")
	ref, err := a.restoreReference(f)
	if err != nil {
		return nil, false, err
	}
	r, set, err := a.openRepo(ctx, access{names: true, contents: true, region: true})
	if err != nil {
		return nil, false, err
	}
	snap, err := a.chosen(ctx, r, ref, name)
	if err != nil {
		return nil, false, err
	}
	t, err := a.openTree(ctx, r, snap)
	if err != nil {
		return nil, false, err
	}
	opts.Refuse = a.refusedTargets(set)
	d := &restoreData{Workload: snap.Workload, Kind: snap.Kind, Snapshot: snap.Summary.ID, RequestedAt: ref.At, AchievedAt: snap.Start, Target: f.to, Regions: snap.Regions}
	d.DataLossMS = milliseconds(began.Sub(snap.Start))
	d.Verify.Level = f.verify
	return a.restoreTree(ctx, t, opts, f, d, began)
}

// restoreTree plans, shows the plan, and restores.
func (a *app) restoreTree(ctx context.Context, t *tree, opts restore.Options, f restoreFlags, d *restoreData, began time.Time) (any, bool, error) {
	t.direct(&opts)
	opts.NewHash = t.newHash
	entries := func(ctx context.Context) restore.Entries { return t.catalog.All(ctx) }
	plan, err := restore.NewPlan(ctx, entries, opts)
	if errors.Is(err, restore.ErrNotEmpty) && f.ifAbsent {
		d.Skipped = true
		return d, false, nil
	}
	if err != nil {
		return d, false, explainRestore(err)
	}
	d.setPlan(plan, t)
	if d.Absent = int64(t.manifest.Stats.Unreadable) - plan.Unreadable; d.Absent > 0 {
		a.warn("incomplete", fmt.Sprintf("%d items of %s that are not restored could not be read when the snapshot was taken", d.Absent, d.Workload))
	}
	if plan.Changed > 0 {
		a.warn("torn", fmt.Sprintf("%d files changed while they were read for the snapshot: each may be parts of several states", plan.Changed))
	}
	d.whole = len(f.paths)+len(f.excludes) == 0
	if a.opt.DryRun {
		return d, false, nil
	}
	a.showPlan(d)
	a.progress.phase("restore")
	a.progress.expect(plan.Bytes, plan.Files)
	res, err := plan.Run(ctx, entries, t.reader)
	a.progress.done()
	d.fill(res)
	d.Phases, d.BytesFetched = a.progress.times(), a.traffic.downloaded()
	d.RTO.MeasuredMS = milliseconds(a.now().Sub(began))
	a.judgeRTO(d)
	if err != nil {
		d.stopped = true
		return d, res != nil && res.Files > 0, explainRestore(err)
	}
	d.Flushed = f.sync
	return d, true, d.verdict(f.strict)
}

// direct puts the contents of a one-path workload straight into the target.
func (t *tree) direct(opts *restore.Options) {
	if len(t.manifest.Roots) == 1 {
		opts.StripPrefix = []byte(strings.Trim(string(t.manifest.Roots[0]), "/"))
	}
}

func (t *tree) newHash() func([]byte) pack.ChunkID {
	h, err := t.repo.Hasher(pack.Data)
	if err != nil {
		return func([]byte) pack.ChunkID { return pack.ChunkID{} } // verifies nothing as right
	}
	return h.Sum
}

func (a *app) restoreOptions(f restoreFlags) (restore.Options, error) {
	opts := restore.Options{Resume: f.resume, Include: f.paths, Exclude: f.excludes, Untrusted: f.untrusted, NoOwner: f.noOwner, NoSync: !f.sync, Workers: f.workers}
	if f.to == "" {
		return opts, &Fail{Code: Usage, Message: "where to?", Hint: "give --to DIR, an empty or new directory"}
	}
	abs, err := filepath.Abs(f.to)
	if err != nil {
		return opts, fmt.Errorf("target %s: %w", f.to, err)
	}
	opts.Target = abs
	switch f.overwrite {
	case "never":
		opts.Overwrite = restore.Never
	case "if-changed":
		opts.Overwrite = restore.IfChanged
	case "always":
		opts.Overwrite = restore.Always
	default:
		return opts, &Fail{Code: Usage, Message: "--overwrite " + f.overwrite, Hint: "give never, if-changed or always"}
	}
	switch f.verify {
	case "none":
		opts.Verify = restore.VerifyNone
	case "sample":
		opts.Verify = restore.VerifySample
	case "full":
		opts.Verify = restore.VerifyFull
	default:
		return opts, &Fail{Code: Usage, Message: "--verify " + f.verify, Hint: "give none, sample or full"}
	}
	opts.Events = restore.Events{
		Wrote:   func(n int64) { a.progress.add(n, 0) },
		Done:    func(path string) { a.progress.add(0, 1); a.progress.at(path) },
		Problem: func(p restore.Problem) { a.warn("item", p.String(), "item", p.Path) },
	}
	return opts, nil
}

func (a *app) restoreReference(f restoreFlags) (reference, error) {
	if f.at != "" && f.snapshot != "" {
		return reference{}, &Fail{Code: Usage, Message: "--at and --snapshot both choose the point", Hint: "give one of them"}
	}
	if f.at != "" {
		at, err := a.parseTime(f.at)
		if err != nil {
			return reference{}, err
		}
		a.note("--at %s is %s, %s", f.at, at.UTC().Format(time.RFC3339), formatAge(a.now().Sub(at)))
		return reference{At: at}, nil
	}
	if f.snapshot == "" {
		return reference{Latest: true}, nil
	}
	ref, err := a.parseReference(f.snapshot)
	if err == nil && ref.Path != "" {
		return ref, &Fail{Code: Usage, Message: "--snapshot takes no path here", Hint: "give it to --path: --path /" + ref.Path}
	}
	return ref, err
}

// refusedTargets are places that a restore must never write into: the regions
// and lifeboat's own folders.
func (a *app) refusedTargets(set regionSet) []string {
	var out []string
	for _, r := range set.Regions {
		if r.Dir != "" {
			out = append(out, r.Dir)
		}
	}
	for _, dir := range []string{a.stateDir(), a.cacheDir()} {
		if dir != "" && filepath.IsAbs(dir) {
			out = append(out, dir)
		}
	}
	return out
}

func explainRestore(err error) error {
	switch {
	case errors.Is(err, restore.ErrNotEmpty):
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "choose an empty or new directory, or use --overwrite if-changed, or --resume after an interrupted restore", Err: err}
	case errors.Is(err, restore.ErrTarget):
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "choose an empty or new directory outside the regions", Err: err}
	case errors.Is(err, restore.ErrNoSpace):
		return &Fail{Code: NoSpace, Message: err.Error(), Hint: "free space or choose another target; go on with --resume", Err: err}
	case errors.Is(err, restore.ErrReadOnly), errors.Is(err, restore.ErrDenied):
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "choose a target that this user may write", Err: err}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "choose an empty or new directory", Err: err}
	case errors.Is(err, restore.ErrNoMatch):
		return &Fail{Code: NoRecoveryPoint, Message: err.Error(), Hint: "look for it with: lifeboat find PATTERN", Err: err}
	case errors.Is(err, restore.ErrOptions):
		return &Fail{Code: Usage, Message: err.Error(), Hint: "see: lifeboat restore --help", Err: err}
	}
	return err
}

func (d *restoreData) setPlan(p *restore.Plan, t *tree) {
	d.plan = p
	d.Plan = restorePlan{Files: p.Files, Dirs: p.Dirs, Symlinks: p.Symlinks, Specials: p.Fifos + p.Devices, Bytes: p.Bytes, SpaceBytes: p.Space, FreeBytes: p.Free,
		FetchBytes: t.snap.FetchBytes, Unreadable: p.Unreadable, Torn: p.Changed}
	d.Target = p.Target
}

// showPlan says what is about to happen, before anything is written.
func (a *app) showPlan(d *restoreData) {
	if a.opt.isJSON() {
		if a.events != nil {
			a.events.send("log", map[string]any{"level": "info", "msg": "restore plan", "plan": d.Plan, "snapshot_id": d.Snapshot, "data_loss_ms": d.DataLossMS})
		}
		return
	}
	if a.opt.Quiet {
		return
	}
	p := a.page(a.stderr)
	d.planText(p)
	a.progress.print(a.stderr, p.b.String())
}

func (d *restoreData) planText(p *page) {
	p.line("Restore plan")
	p.line("  workload      %s (%s)", d.Workload, d.Kind)
	p.line("  point         %s, snapshot %.8s", formatInstant(d.AchievedAt, p.now, p.zone), d.Snapshot)
	p.line("  you will lose everything written after it: %s", formatDuration(time.Duration(d.DataLossMS)*time.Millisecond))
	p.line("  source        %s", strings.Join(d.Regions, ", "))
	if d.plan != nil {
		_, _ = d.plan.WriteTo(&p.b) // a buffer takes every write
	}
}

func (d *restoreData) fill(r *restore.Result) {
	if r == nil {
		return
	}
	d.Files = &restoreFiles{Restored: r.Files, Kept: r.Kept, Skipped: r.Skipped, Failed: r.Failed, Dirs: r.Dirs, Others: r.Links + r.Symlinks + r.Specials}
	d.BytesWritten = r.Bytes
	d.damaged = r.ByKind[restore.Missing] + r.ByKind[restore.Differs] + r.ByKind[restore.BadEntry]
	d.Verify.Files, d.Verify.Bytes, d.Verify.Differences = r.VerifiedFiles, r.VerifiedBytes, r.ByKind[restore.Differs]
	d.NotSet, d.Dropped = notSetOf(r.NotSet), notSetOf(r.Dropped)
	for _, p := range r.Problems {
		d.Problems = append(d.Problems, namedItem{Item: p.Path, Message: p.What.String() + ": " + p.Err.Error()})
	}
}

// notSet counts attributes that could not be, or were not to be, set.
type notSet struct {
	Owner  int64    `json:"owner"`
	Mode   int64    `json:"mode"`
	Xattr  int64    `json:"xattr"`
	Times  int64    `json:"times"`
	Device int64    `json:"device"`
	Names  []string `json:"names,omitempty"`
}

func (n *notSet) total() int64 { return n.Owner + n.Mode + n.Xattr + n.Times + n.Device }

func notSetOf(n restore.NotSet) *notSet {
	if n.Total() == 0 {
		return nil
	}
	return &notSet{n.Owner, n.Mode, n.Xattr, n.Times, n.Device, n.Names}
}

// judgeRTO compares with the objective, when the configuration knows one.
func (a *app) judgeRTO(d *restoreData) {
	if a.coldStart() {
		return
	}
	f, err := a.configured()
	if err != nil {
		return
	}
	if w := f.Config.Workload(d.Workload); w != nil && w.Objectives.RTO > 0 {
		met := time.Duration(d.RTO.MeasuredMS)*time.Millisecond <= time.Duration(w.Objectives.RTO)
		d.RTO.ObjectiveMS, d.RTO.Met = milliseconds(time.Duration(w.Objectives.RTO)), &met
	}
}

// verdict turns what is missing into an exit code.
func (d *restoreData) verdict(strict bool) error {
	switch {
	case d.damaged > 0:
		return &Fail{Code: VerifyFailed, Message: fmt.Sprintf("the contents of %d files are missing or damaged", d.damaged), Hint: "they are named above; look for good copies with: lifeboat check --read-data=all"}
	case d.Files.Failed > 0:
		return &Fail{Code: Partial, Message: fmt.Sprintf("%d entries were not restored", d.Files.Failed), Hint: "they are named above"}
	case d.whole && d.Absent > 0:
		return &Fail{Code: Partial, Message: fmt.Sprintf("the snapshot lacks %d items of its source, which could not be read when it was taken", d.Absent), Hint: "all that it holds is restored; see what it lacks with: lifeboat drill run --workload " + d.Workload}
	case strict && d.NotSet != nil:
		return &Fail{Code: Partial, Message: fmt.Sprintf("%d attributes could not be set", d.NotSet.total()), Hint: "run it as root, or leave out --strict"}
	}
	return nil
}

func (d *restoreData) text(p *page) {
	if d.Skipped {
		p.line("%s has data already; nothing was done (--if-absent).", d.Target)
		return
	}
	if d.Files == nil {
		d.planText(p)
		if d.plan != nil {
			p.line("Nothing was written (--dry-run).")
		}
		return
	}
	done := "Restored"
	if d.stopped {
		done = "Stopped before the end of restoring"
	}
	p.line("%s %s to %s in %s.", done, d.Workload, formatInstant(d.AchievedAt, p.now, p.zone), formatDuration(time.Duration(d.RTO.MeasuredMS)*time.Millisecond))
	p.line("  into        %s", d.Target)
	p.line("  restored    %d files (%s), %d directories, %d others; %d kept, %d failed", d.Files.Restored, p.size(d.BytesWritten), d.Files.Dirs, d.Files.Others, d.Files.Kept, d.Files.Failed)
	p.line("  data loss   %s", formatDuration(time.Duration(d.DataLossMS)*time.Millisecond))
	p.line("  verified    %s: %d files, %s read back, %d differences", d.Verify.Level, d.Verify.Files, p.size(d.Verify.Bytes), d.Verify.Differences)
	if !d.Flushed {
		p.line("  flushing    the system writes it to disk in the background; --sync waits for that")
	}
	if d.NotSet != nil {
		p.line("  %s", p.mark(markRisk, fmt.Sprintf("not set: %d owners, %d modes, %d attributes, %d times, %d devices (no privilege)", d.NotSet.Owner, d.NotSet.Mode, d.NotSet.Xattr, d.NotSet.Times, d.NotSet.Device)))
		for _, n := range d.NotSet.Names[:min(len(d.NotSet.Names), 10)] {
			p.line("      %s", n)
		}
	}
	if d.Dropped != nil {
		p.line("  dropped     %d (--untrusted)", d.Dropped.total())
	}
	if d.RTO.Met != nil {
		m, word := markOK, "within"
		if !*d.RTO.Met {
			m, word = markBad, "over"
		}
		p.line("  RTO         %s", p.mark(m, fmt.Sprintf("%s %s the objective of %s", formatDuration(time.Duration(d.RTO.MeasuredMS)*time.Millisecond), word, formatDuration(time.Duration(d.RTO.ObjectiveMS)*time.Millisecond))))
	}
}
