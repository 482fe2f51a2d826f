package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/config"
	"lifeboat/snapshot"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// backupOne is what one workload's backup came to.
type backupOne struct {
	Workload      string      `json:"workload,omitempty"`
	Snapshot      string      `json:"snapshot_id,omitempty"`
	Parent        string      `json:"parent_id,omitempty"`
	RecoveryPoint time.Time   `json:"recovery_point_at,omitzero"`
	Kind          string      `json:"kind,omitempty"`
	Stats         *repo.Stats `json:"stats,omitempty"`
	Problems      []namedItem `json:"errors,omitempty"`
	DurationMS    int64       `json:"duration_ms,omitempty"`
	Err           string      `json:"error,omitempty"`
	Before        string      `json:"committed_before_by_run,omitempty"` // the --run-id that took it already
	roots         []string
}

type namedItem struct {
	Item    string `json:"item"`
	Message string `json:"message"`
}

// backupData is the result of backup: of one workload flat, of several as a list.
type backupData struct {
	backupOne
	Workloads []backupOne         `json:"workloads,omitempty"`
	Regions   []repo.RegionResult `json:"regions,omitempty"`
	Required  int                 `json:"regions_required,omitempty"`
	Uploaded  int64               `json:"bytes_uploaded"`
	Requests  []regionTraffic     `json:"requests,omitempty"`
	Phases    []phaseTime         `json:"phases,omitempty"`
	Plan      []backupPlan        `json:"plan,omitempty"`
}

// backupPlan is what --dry-run found.
type backupPlan struct {
	Workload string `json:"workload"`
	Files    uint64 `json:"files"`
	Dirs     uint64 `json:"dirs"`
	Bytes    uint64 `json:"bytes"`
	Unread   uint64 `json:"unreadable"`
	Paths    int    `json:"paths"`
}

type backupFlags struct {
	all      bool
	full     bool
	tags     []string
	required int
	runID    string // given by the user: what it has committed already is not done again
}

func (a *app) backupCommand() *cobra.Command {
	var f backupFlags
	c := &cobra.Command{
		Use: "backup [WORKLOAD…]", Short: "Take a snapshot of one or more workloads now",
		Long: "Take a snapshot of one or more workloads now. Several workloads share one session: packs, index and\n" +
			"statements. A backup counts when regions.required regions have acknowledged it; below that it exits 6,\n" +
			"and what is stored stays. Unreadable items are counted, named, and exit 3.\n\n" +
			"With --run-id ID a workload that this host has committed with the same ID already is not backed up again:\n" +
			"the first snapshot is the result, and changed is false. The ID is kept with the snapshot, as tag run-id=ID.",
		Example:           "  lifeboat backup files\n  lifeboat backup --all --run-id change-4711\n  lifeboat backup files --dry-run",
		ValidArgsFunction: a.completeWorkloads,
	}
	c.Flags().BoolVar(&f.all, "all", false, "every workload of the configuration")
	c.Flags().BoolVar(&f.full, "full", false, "read and store everything again, re-using nothing that is stored: mends damage from the source")
	c.Flags().StringArrayVar(&f.tags, "tag", nil, "KEY=VALUE kept with the snapshot; repeatable")
	c.Flags().IntVar(&f.required, "require-regions", 0, "regions that must acknowledge; default: regions.required")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		for _, tag := range f.tags {
			if key, _, ok := strings.Cut(tag, "="); !ok || key == "" {
				return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("--tag %s is not KEY=VALUE", tag), Hint: "such as --tag release=42"}
			}
		}
		if f.runID = a.opt.RunID; f.runID != "" {
			if err := checkRunID(f.runID); err != nil {
				return nil, false, err
			}
		}
		ws, err := a.workloads(args, f.all)
		if err != nil {
			return nil, false, err
		}
		if a.opt.DryRun {
			d, err := a.planBackup(ctx, ws)
			return d, false, err
		}
		return a.backup(ctx, ws, f)
	})
}

// backup takes snapshots of several workloads in one session.
func (a *app) backup(ctx context.Context, ws []*config.Workload, f backupFlags) (any, bool, error) {
	a.progress.plan("connect", "read", "commit")
	a.progress.phase("connect")
	for _, w := range ws {
		unlock, err := a.lockWorkload(ctx, w.Name)
		if err != nil {
			return nil, false, err
		}
		defer unlock()
	}
	r, set, err := a.openRepo(ctx, access{write: true})
	if err != nil {
		return nil, false, err
	}
	b := &backupRun{a: a, r: r, set: set, flags: f, data: &backupData{Required: set.Required}}
	if f.required < 0 || f.required > len(set.Regions) {
		return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("--require-regions %d: there are %d regions", f.required, len(set.Regions)), Hint: "see: lifeboat replicate status"}
	}
	if f.required > 0 {
		b.data.Required = f.required
	}
	left, errs := b.committedBefore(ctx, ws)
	if len(left) > 0 {
		errs = append(errs, b.run(ctx, left))
	}
	err = errors.Join(errs...)
	b.finish()
	return b.data, b.committed, err
}

// backupRun is one session of backups.
type backupRun struct {
	a         *app
	r         *repo.Repo
	s         *repo.Session
	tk        *snapshot.Taker
	set       regionSet
	flags     backupFlags
	data      *backupData
	committed bool
}

func (b *backupRun) run(ctx context.Context, ws []*config.Workload) error {
	file, err := b.a.configured()
	if err != nil {
		return err
	}
	verify, err := pack.ParseVerify(file.Config.VerifyWrites)
	if err != nil {
		return err
	}
	if b.s, err = b.r.Begin(ctx, repo.SessionOptions{Required: b.data.Required, Verify: verify, Now: b.a.now, Workloads: names(ws), Fresh: b.flags.full, Once: true}); err != nil {
		return b.a.explainOpen(err)
	}
	if b.tk, err = snapshot.NewTaker(b.r, b.s, workersFor(&file.Config)); err != nil {
		return errors.Join(err, b.s.End(ctx, true))
	}
	b.a.progress.phase("read")
	prepared, errs := b.takeAll(ctx, ws, verify)
	if len(prepared) == 0 {
		b.saveProgress(ctx)
		return errors.Join(append(errs, b.s.End(context.WithoutCancel(ctx), true))...)
	}
	b.a.progress.phase("commit")
	errs = append(errs, b.commit(ctx, prepared))
	b.a.progress.done()
	return errors.Join(errs...)
}

func names(ws []*config.Workload) []string {
	var out []string
	for _, w := range ws {
		out = append(out, w.Name)
	}
	return out
}

// workersFor leaves a core's worth of waiting: one worker more than cores.
func workersFor(c *config.Config) int {
	n := runtime.GOMAXPROCS(0)
	if c.Defaults.Limits.CPU > 0 {
		n = min(n, c.Defaults.Limits.CPU)
	}
	return n + 1
}

// takeAll reads the workloads one after the other. One that fails does not stop the others.
func (b *backupRun) takeAll(ctx context.Context, ws []*config.Workload, verify pack.Verify) (prepared []repo.Prepared, errs []error) {
	for _, w := range ws {
		b.warnLinks(w)
		began := b.a.now()
		one := backupOne{Workload: w.Name, Kind: w.Kind}
		p, err := b.tk.Take(ctx, b.options(ctx, w, verify))
		one.DurationMS = milliseconds(b.a.now().Sub(began))
		if err != nil {
			one.Err = err.Error()
			errs = append(errs, err)
			b.data.Workloads = append(b.data.Workloads, one)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		one.fill(p.Manifest)
		b.data.Workloads = append(b.data.Workloads, one)
		prepared = append(prepared, *p)
		if n := p.Manifest.Stats.Incomplete(); n > 0 {
			errs = append(errs, &Fail{Code: Partial, Message: fmt.Sprintf("%s: %d items could not be read as they were", w.Name, n), Hint: "they are named above and in the result"})
		}
	}
	return prepared, errs
}

// warnLinks says when a configured path is a symbolic link: the link itself is
// stored, and not what it points to.
func (b *backupRun) warnLinks(w *config.Workload) {
	for _, path := range w.Volume.Paths {
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
			b.a.warn("path_is_link", fmt.Sprintf("%s is a symbolic link: only the link is stored; name the directory that it points to", path), "item", path)
		}
	}
}

func (o *backupOne) fill(m *repo.Manifest) {
	o.RecoveryPoint, o.Stats = time.Unix(0, m.Start).UTC(), &m.Stats
	if len(m.Parent) > 0 {
		o.Parent = fmt.Sprintf("%x", m.Parent)
	}
	for _, e := range m.Errors {
		o.Problems = append(o.Problems, namedItem{Item: "/" + string(e.Path), Message: e.Problem})
	}
	for _, r := range m.Roots {
		o.roots = append(o.roots, string(r))
	}
}

func (b *backupRun) options(ctx context.Context, w *config.Workload, verify pack.Verify) snapshot.Options {
	v := w.Volume
	opt := snapshot.Options{
		Workload: w.Name, Kind: w.Kind, Host: b.a.hostName(), Paths: v.Paths, Tags: b.flags.snapshotTags(), PageFiles: v.PageFiles, Full: b.flags.full, Verify: verify, Now: b.a.now,
		Volume: volumeOptions(v),
		Events: snapshot.Events{
			Progress: func(p snapshot.Progress) { b.progress(p) },
			Problem: func(path []byte, problem string) {
				b.a.warn("item", "/"+string(path)+": "+problem, "item", "/"+string(path))
			},
			Warning: func(code, message string) { b.a.warn(code, message) },
		},
	}
	opt.Volume.Exclude = append(slices.Clone(opt.Volume.Exclude), b.ownPlaces(v.Paths)...)
	if parent, ok := snapshot.Parent(ctx, b.r, b.s, w.Name); ok {
		opt.Parent = parent
	}
	return opt
}

// ownPlaces are regions, state and cache that lie inside the source: a repository
// must not be backed up into itself. A place counts by what it is called and by
// where it is: the source may be reached, or the place configured, by a symlink.
func (b *backupRun) ownPlaces(paths []string) []string {
	var out []string
	for _, place := range b.a.refusedTargets(b.set) {
		for _, p := range paths {
			for _, rel := range []string{below(p, place), below(resolved(p), resolved(place))} {
				if glob := globEscape(filepath.Join(p, rel)); rel != "" && !slices.Contains(out, glob) {
					out = append(out, glob)
				}
			}
		}
	}
	return out
}

// below is the way from a folder to what lies in it; "" if that does not.
func below(folder, path string) string {
	rel, err := filepath.Rel(folder, path)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return ""
	}
	return rel
}

// resolved follows symlinks as far as there is something.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func volumeOptions(v *config.Volume) volume.Options {
	return volume.Options{Exclude: v.Exclude, ExcludeIfPresent: v.ExcludeIfPresent, ExcludeCaches: v.ExcludeCaches, OneFileSystem: v.OneFileSystem}
}

func (b *backupRun) progress(p snapshot.Progress) {
	b.a.progress.set(int64(p.Bytes), int64(p.Files))
	b.a.progress.at(p.Current)
}

// commit makes all prepared snapshots visible and ends the session.
func (b *backupRun) commit(ctx context.Context, prepared []repo.Prepared) error {
	err := b.tk.Flush(ctx)
	var c *repo.Committed
	if err == nil {
		c, err = b.s.Commit(ctx, prepared)
	}
	if c != nil {
		b.committed = true
		b.data.Regions = c.Regions
		b.name(c.IDs)
	}
	endErr := b.s.End(context.WithoutCancel(ctx), c == nil)
	if errors.Is(err, repo.ErrTooFewRegions) {
		err = &Fail{Code: ReplicationDegraded, Message: err.Error(), Hint: "when the region is back, run: lifeboat replicate sync", Err: err}
	}
	return errors.Join(err, endErr, b.foreign())
}

// name gives the committed ids to the workloads that succeeded, in order.
func (b *backupRun) name(ids []string) {
	for i := range b.data.Workloads {
		if b.data.Workloads[i].Err == "" && b.data.Workloads[i].Before == "" && len(ids) > 0 {
			b.data.Workloads[i].Snapshot, ids = ids[0], ids[1:]
		}
	}
}

// foreign reports a region that holds another repository: the backup went to
// the others, but somebody has to look.
func (b *backupRun) foreign() error {
	for _, p := range b.r.Places() {
		if errors.Is(p.Err, repo.ErrWrongRepository) {
			return &Fail{Code: WrongRepository, Message: p.Err.Error(), Err: p.Err}
		}
	}
	return nil
}

// saveProgress keeps what an interrupted run has stored, so that the next one
// goes on from there.
func (b *backupRun) saveProgress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := errors.Join(b.tk.Flush(ctx), b.s.Save(ctx)); err != nil {
		b.a.log.Debug("save progress", "error", err)
	}
}

// saveTimeout bounds how long an interrupted run still uploads.
const saveTimeout = 30 * time.Second

func (b *backupRun) finish() {
	d := b.data
	d.Uploaded = b.a.traffic.uploaded()
	d.Requests = b.a.traffic.report(b.set.Regions)
	d.Phases = b.a.progress.times()
	if len(d.Workloads) == 1 {
		d.backupOne, d.Workloads = d.Workloads[0], nil
	}
}

// planBackup walks the sources without reading files or touching a region.
func (a *app) planBackup(ctx context.Context, ws []*config.Workload) (*backupData, error) {
	d := &backupData{}
	for _, w := range ws {
		opt := volumeOptions(w.Volume)
		opt.Paths = w.Volume.Paths
		v, err := volume.New(opt)
		if err != nil {
			return d, fmt.Errorf("plan backup of %s: %w", w.Name, err)
		}
		p := backupPlan{Workload: w.Name, Paths: len(w.Volume.Paths)}
		err = v.Walk(ctx, func(s *volume.Stat) error {
			if s.Regular() {
				p.Files++
				p.Bytes += uint64(s.Size)
			} else {
				p.Dirs++
			}
			return nil
		})
		if err != nil {
			return d, fmt.Errorf("plan backup of %s: %w", w.Name, err)
		}
		p.Unread = uint64(v.Counts().Unreadable)
		d.Plan = append(d.Plan, p)
	}
	if _, _, err := a.openRepo(ctx, access{write: true}); err != nil {
		return d, err
	}
	return d, nil
}

func (d *backupData) text(p *page) {
	for _, pl := range d.Plan {
		p.line("%s: would look at %d files (%s) and %d other objects; nothing was stored (--dry-run)", pl.Workload, pl.Files, p.size(int64(pl.Bytes)), pl.Dirs)
	}
	all := d.Workloads
	if len(all) == 0 && d.Workload != "" {
		all = []backupOne{d.backupOne}
	}
	for _, o := range all {
		o.text(p)
	}
	for _, r := range d.Regions {
		switch r.State {
		case "committed":
			p.line("  region %-12s %s", r.Name, p.mark(markOK, "committed"))
		default:
			p.line("  region %-12s %s", r.Name, p.mark(markRisk, r.State+": "+r.Error))
		}
	}
}

func (o *backupOne) text(p *page) {
	if o.Err != "" {
		p.line("%s  %s", p.bold(o.Workload), p.mark(markBad, o.Err))
		return
	}
	if o.Before != "" {
		p.line("%s  %s", p.bold(o.Workload), p.mark(markOK, fmt.Sprintf("snapshot %.8s of %s was committed by run %s before; nothing was done", o.Snapshot, p.time(o.RecoveryPoint), o.Before)))
		return
	}
	s := o.Stats
	p.line("%s  snapshot %.8s", p.bold(o.Workload), orElse(o.Snapshot, "none"))
	p.line("  read    %d files (%s): %d new, %d changed, %d unmodified, %d gone", s.Files, p.size(int64(s.Bytes)), s.New, s.Changed, s.Unmodified, s.Deleted)
	p.line("  stored  %s new, %s after compression and encryption", p.size(int64(s.BytesNew)), p.size(int64(s.BytesStored)))
	if n := s.Incomplete(); n > 0 {
		p.line("  %s", p.mark(markRisk, fmt.Sprintf("%d items unreadable, %d changed while they were read", s.Unreadable, s.Torn)))
	}
	p.line("  recovery point %s, taken in %s", p.time(o.RecoveryPoint), p.duration(time.Duration(o.DurationMS)*time.Millisecond))
}

func (a *app) hostName() string {
	if f, err := a.configured(); err == nil && f.Config.Instance.Name != "" {
		return f.Config.Instance.Name
	}
	return systemHost()
}
