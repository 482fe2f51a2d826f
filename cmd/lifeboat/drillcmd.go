package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/config"
	"lifeboat/restore/drill"
	"lifeboat/storage/journal"
	"lifeboat/storage/repo"
)

func (a *app) drillCommand() *cobra.Command {
	c := &cobra.Command{Use: "drill", Short: "Prove that restores work, and measure them"}
	c.AddCommand(a.drillRunCommand(), a.drillListCommand())
	return c
}

type drillFlags struct {
	workload, snapshot string
	random             time.Duration
	keep               bool
	seed               uint64
	sandbox            string
}

func (a *app) drillRunCommand() *cobra.Command {
	var f drillFlags
	c := &cobra.Command{
		Use: "run [NAME]", Short: "Restore into a sandbox, verify it and measure the recovery time", Args: cobra.MaximumNArgs(1),
		Long: "Restore into a sandbox without any local cache, compare every file with the catalog, run the configured\n" +
			"commands, and measure the recovery time by phase. The report is signed and kept in every region.\n" +
			"Exit 4 when something failed to verify or nothing was restored, 3 when the snapshot does not hold all of\n" +
			"its source, 5 when an objective was missed.",
		Example: "  lifeboat drill run\n  lifeboat drill run nightly-files\n  lifeboat drill run --workload files --region iad --identity-file kit.txt", ValidArgsFunction: a.completeDrills,
	}
	c.Flags().StringVar(&f.workload, "workload", "", "drill this workload, with or without a configured drill")
	c.Flags().StringVar(&f.snapshot, "snapshot", "", "this recovery point instead of the latest")
	durationVar(c.Flags(), &f.random, "random", 0, "a random point no older than this, such as 30d")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "seed of --random; default: a new one, kept in the report")
	c.Flags().BoolVar(&f.keep, "keep-sandbox", false, "leave the restored tree")
	c.Flags().StringVar(&f.sandbox, "sandbox", "", "folder to restore into; default: the drill's, or one in the state folder")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		plans, err := a.drillPlans(args, f)
		if err != nil {
			return nil, false, err
		}
		return a.drills(ctx, plans)
	})
}

// drillPlan is one workload's drill, as asked for.
type drillPlan struct {
	name, workload string
	from           config.DrillFrom
	objectives     config.DrillObjectives
	verify         []config.Check
	key            config.DrillKey
	sandbox        string
	allowEmpty     bool
	flags          drillFlags
}

// drillPlans finds what to drill: a configured drill, a workload, or everything.
func (a *app) drillPlans(args []string, f drillFlags) ([]drillPlan, error) {
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	var out []drillPlan
	add := func(d *config.Drill, w *config.Workload) {
		p := drillPlan{name: "by-hand", workload: w.Name, from: config.DrillFrom{Region: config.RegionAny, Point: config.PointLatest}, flags: f, allowEmpty: w.AllowEmpty,
			sandbox: orElse(f.sandbox, filepath.Join(a.stateDir(), "drills"))}
		if d != nil {
			p.name, p.from, p.objectives, p.verify, p.key, p.sandbox = d.Name, d.From, d.Objectives, d.Verify, d.Key, orElse(f.sandbox, d.Sandbox.Path)
		}
		if p.objectives.RTO == 0 {
			p.objectives.RTO = w.Objectives.RTO
		}
		if p.objectives.RPO == 0 {
			p.objectives.RPO = w.Objectives.RPO
		}
		out = append(out, p)
	}
	if len(args) == 1 {
		d, err := a.drill(args[0])
		if err != nil {
			return nil, err
		}
		for _, name := range d.Workloads {
			if f.workload == "" || f.workload == name {
				add(d, file.Config.Workload(name))
			}
		}
		return out, nil
	}
	ws := []string{f.workload}
	if f.workload == "" {
		ws = workloadNames(&file.Config)
	}
	for _, name := range ws {
		w, err := a.workload(name)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(file.Config.Drills, func(d config.Drill) bool { return slices.Contains(d.Workloads, name) })
		if i >= 0 {
			add(&file.Config.Drills[i], w)
			continue
		}
		add(nil, w)
	}
	if len(out) == 0 {
		return nil, &Fail{Code: Usage, Message: "no workload is configured", Hint: "add one to the configuration"}
	}
	return out, nil
}

// drillsData is the result of drill run.
type drillsData struct {
	*drill.Report
	Reports []drill.Report `json:"drills,omitempty"` // when there were several
	Stored  []string       `json:"stored_in,omitempty"`
}

func (a *app) drills(ctx context.Context, plans []drillPlan) (any, bool, error) {
	a.progress.plan("locate", "fetch", "verify", "clean up")
	d := &drillsData{}
	var all []error
	for _, p := range plans {
		err := a.scoped(func(c *app) error {
			c.progress = a.progress
			rep, stored, err := c.drill1(ctx, p)
			if rep != nil {
				d.Reports, d.Stored = append(d.Reports, *rep), stored
			}
			a.mu.Lock()
			a.warnings = append(a.warnings, c.warnings...)
			a.mu.Unlock()
			return err
		})
		all = append(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	a.progress.done()
	if len(d.Reports) == 1 {
		d.Report, d.Reports = &d.Reports[0], nil
	}
	return d, len(d.Reports) > 0 || d.Report != nil, errors.Join(all...)
}

// drill1 runs one drill and stores its report.
func (a *app) drill1(ctx context.Context, p drillPlan) (*drill.Report, []string, error) {
	r, set, err := a.openRepo(ctx, access{write: true, names: true})
	if err != nil {
		return nil, nil, err
	}
	opt, err := a.drillOptions(ctx, r, set, p)
	if err != nil {
		return nil, nil, err
	}
	rep, err := drill.Run(ctx, opt)
	if err != nil {
		return &rep, nil, err
	}
	stored, err := a.storeReport(ctx, r, rep)
	return &rep, stored, errors.Join(drillVerdict(rep), err)
}

func (a *app) drillOptions(ctx context.Context, r *repo.Repo, set regionSet, p drillPlan) (drill.Options, error) {
	region := a.drillRegion(r, p)
	opt := drill.Options{ID: newRunID(a.now()), Name: p.name, Workload: p.workload, Region: region, RegionRule: orElse(p.from.Region, config.RegionAny), Sandbox: p.sandbox, Keep: p.flags.keep,
		RTO: time.Duration(p.objectives.RTO), RPO: time.Duration(p.objectives.RPO), Version: release, Host: a.hostName(), Refuse: a.drillRefuses(set, p.sandbox), Now: a.now, AllowEmpty: p.allowEmpty,
		Random: p.from.Point == config.PointRandom, Within: time.Duration(p.from.Within), Fetched: func() map[string]int64 { return a.traffic.downloaded() }, Phase: a.progress.phase}
	if p.flags.random > 0 {
		opt.Random, opt.Within = true, p.flags.random
	}
	if opt.Seed = p.flags.seed; opt.Random && opt.Seed == 0 {
		opt.Seed = rand.Uint64()
	}
	if p.flags.snapshot != "" {
		ref, err := a.parseReference(p.flags.snapshot)
		if err != nil {
			return opt, err
		}
		snap, err := a.chosen(ctx, r, ref, p.workload)
		if err != nil {
			return opt, err
		}
		opt.Snapshot = snap.Summary.ID
	}
	for _, c := range p.verify {
		opt.Checks = append(opt.Checks, drill.Check{Name: c.Name, Run: c.Run, Timeout: time.Duration(c.Timeout)})
	}
	opt.KeySource = "installed"
	if len(a.opt.IdentityFiles) > 0 {
		opt.KeySource = "identity file"
	} else if !p.key.Kit.IsZero() {
		opt.KeySource = "recovery kit"
	}
	opt.Open = func(ctx context.Context) (*repo.Repo, error) { return a.openCold(ctx, set, region, p) }
	return opt, nil
}

// openCold opens the repository as a drill does: no cache, one region, and the
// keys that the drill is to prove.
func (a *app) openCold(ctx context.Context, set regionSet, region string, p drillPlan) (*repo.Repo, error) {
	need := access{names: true, contents: true, coldCache: true}
	if region != config.RegionAny {
		for _, spec := range set.Regions {
			if spec.Name == region {
				set.Regions = []RegionSpec{spec}
			}
		}
	}
	opt, err := a.repoOptions(ctx, &set, need)
	if err != nil {
		return nil, err
	}
	if !p.key.Kit.IsZero() && len(a.opt.IdentityFiles) == 0 {
		secret, err := p.key.Kit.Read(ctx, a.getenv)
		if err != nil {
			return nil, err
		}
		opt.Identities = nil
		if err := a.addIdentity(&opt, p.key.Kit.String(), secret); err != nil {
			return nil, err
		}
	}
	opt.State, opt.CacheDir = nil, ""
	// An installed data identity opens contents only; names and the index need
	// this host's own keys beside it.
	if opt.State, err = a.namesKeys(opt); err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return nil, a.explainOpen(err)
	}
	if err := a.checkKeys(r, need); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// namesKeys gives the host's state when the identities at hand do not include an operator's.
func (a *app) namesKeys(opt repo.Options) (*repo.State, error) {
	st, err := repo.LoadState(a.stateDir())
	if errors.Is(err, repo.ErrNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	path, installed := st.DataIdentityPath()
	if len(a.opt.IdentityFiles) == 0 && (installed && path != "" || len(opt.Identities) > 0) {
		return st, nil
	}
	return nil, nil
}

// drillRegion chooses where to restore from.
func (a *app) drillRegion(r *repo.Repo, p drillPlan) string {
	if a.opt.Region != "" {
		return a.opt.Region
	}
	switch p.from.Region {
	case config.RegionRotate:
		return leastRecent(r, p.workload)
	case "", config.RegionAny:
		return config.RegionAny
	}
	return p.from.Region
}

// leastRecent is the usable region whose last drill of the workload is the oldest.
func leastRecent(r *repo.Repo, workload string) string {
	last := map[string]time.Time{}
	for _, rep := range reports(r) {
		if rep.Workload == workload {
			last[rep.Region] = rep.FinishedAt
		}
	}
	best := config.RegionAny
	for _, p := range r.Places() {
		if p.Usable() && (best == config.RegionAny || last[p.Name].Before(last[best])) {
			best = p.Name
		}
	}
	return best
}

// drillRefuses are the folders that a sandbox must not lie in: regions, and what
// is backed up. Backups leave out the state folder and what the workload excludes,
// so a sandbox there is in nobody's way, even if all of the host is a workload.
func (a *app) drillRefuses(set regionSet, sandbox string) []string {
	var out []string
	for _, spec := range set.Regions {
		if spec.Dir != "" {
			out = append(out, spec.Dir)
		}
	}
	f, err := a.configured()
	if err != nil {
		return out
	}
	inState := liesIn(a.stateDir(), sandbox)
	for _, w := range f.Config.Workloads {
		if w.Volume == nil || w.Volume.Excludes(sandbox) {
			continue
		}
		for _, p := range w.Volume.Paths {
			if !inState || !liesIn(p, a.stateDir()) {
				out = append(out, p)
			}
		}
	}
	return out
}

// liesIn says that a path is a folder, or below it.
func liesIn(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// storeReport puts the signed report into every region that can be joined.
func (a *app) storeReport(ctx context.Context, r *repo.Repo, rep drill.Report) ([]string, error) {
	text, err := json.Marshal(rep)
	if err != nil {
		return nil, fmt.Errorf("encode drill report: %w", err)
	}
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 1, Now: a.now, Buffers: 1, Reports: true})
	if err != nil {
		return nil, fmt.Errorf("store drill report: %w", err)
	}
	_, err = s.Report(ctx, journal.Drill, text)
	names := s.Regions()
	return names, errors.Join(err, s.End(context.WithoutCancel(ctx), false))
}

// drillVerdict turns an outcome into an exit code.
func drillVerdict(rep drill.Report) error {
	text := fmt.Sprintf("drill of %s: %s", rep.Workload, strings.Join(rep.Reasons, "; "))
	switch rep.Outcome {
	case drill.Passed:
		return nil
	case drill.MissedObjective:
		return &Fail{Code: ObjectiveMissed, Message: text, Hint: "the restore works; make it faster or more frequent, or promise less"}
	case drill.Incomplete:
		return &Fail{Code: Partial, Message: text, Hint: "the restore works, and what it lacks was never stored: mend what the report names, run: lifeboat backup " + rep.Workload + ", then drill again"}
	case drill.NotRun:
		return &Fail{Code: Failed, Message: text, Hint: "nothing was proved; mend the reason and run it again"}
	}
	if rep.Empty {
		return &Fail{Code: VerifyFailed, Message: text, Hint: "see whether the workload's paths are mounted and readable, run: lifeboat backup " + rep.Workload + ", and drill again; a workload that may be empty says so with allow_empty: true"}
	}
	return &Fail{Code: VerifyFailed, Message: text, Hint: "this recovery point cannot be trusted from here; run: lifeboat check --read-data=all"}
}

func (d *drillsData) text(p *page) {
	all := d.Reports
	if d.Report != nil {
		all = []drill.Report{*d.Report}
	}
	for _, r := range all {
		drillText(p, r)
	}
	if len(d.Stored) > 0 {
		p.line("The signed report is kept in: %s", strings.Join(d.Stored, ", "))
	}
}

func drillText(p *page, r drill.Report) {
	p.line("drill %s  %s  point %s from %s  keys: %s", r.Name, p.bold(r.Workload), p.time(r.RecoveryPoint), r.Region, r.KeySource)
	for i, ph := range r.Phases {
		m := map[string]mark{"ok": markOK, "failed": markBad}[ph.State]
		if ph.State == "skipped" {
			m = markUnknown
		}
		extra := ""
		if ph.Bytes > 0 {
			extra = "  " + p.size(ph.Bytes)
		}
		p.line("  %s", p.mark(m, fmt.Sprintf("%d/%d %-9s %8s%s", i+1, len(r.Phases), ph.Name, formatDuration(time.Duration(ph.DurationMS)*time.Millisecond), extra)))
		if ph.Name == "verify" {
			for _, as := range r.Assertions {
				m := markOK
				if !as.OK {
					m = markBad
				}
				p.line("        %s  %s", p.mark(m, as.Name), orElse(as.Message, as.Actual))
			}
		}
	}
	p.line("%s  RTO %s%s   RPO %s%s", outcomeMark(p, r.Outcome), formatDuration(time.Duration(r.RTO.MeasuredMS)*time.Millisecond), ofObjective(r.RTO), formatDuration(time.Duration(r.RPO.MeasuredMS)*time.Millisecond), ofObjective(r.RPO))
	for _, reason := range r.Reasons {
		p.line("  %s", reason)
	}
	if r.Lacks == nil {
		return
	}
	for _, item := range r.Lacks.Items {
		p.line("    %s", item)
	}
	if more := int64(r.Lacks.Total()) - int64(len(r.Lacks.Items)); more > 0 {
		p.line("    and %d more; see: lifeboat ls -R %s", more, r.Snapshot)
	}
}

func ofObjective(o drill.Objective) string {
	if o.ObjectiveMS == 0 {
		return " (no objective)"
	}
	return " of " + formatDuration(time.Duration(o.ObjectiveMS)*time.Millisecond)
}

func outcomeMark(p *page, o drill.Outcome) string {
	switch o {
	case drill.Passed:
		return p.mark(markOK, "PASSED")
	case drill.MissedObjective:
		return p.mark(markRisk, "MISSED OBJECTIVE")
	case drill.Incomplete:
		return p.mark(markRisk, "RESTORED, BUT INCOMPLETE")
	case drill.NotRun:
		return p.mark(markUnknown, "NOT RUN")
	}
	return p.mark(markBad, strings.ToUpper(string(o)))
}

func (a *app) drillListCommand() *cobra.Command {
	var workload string
	var failed bool
	c := &cobra.Command{Use: "list", Short: "List past drills", Args: cobra.NoArgs, Example: "  lifeboat drill list\n  lifeboat drill list --workload files --failed"}
	c.Flags().StringVar(&workload, "workload", "", "only drills of this workload")
	c.Flags().BoolVar(&failed, "failed", false, "only drills that did not pass")
	return a.lists(a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) {
		r, _, err := a.openRepo(ctx, access{names: true})
		if err != nil {
			return nil, false, err
		}
		out := a.records("drills", column{title: "TIME"}, column{title: "DRILL"}, column{title: "WORKLOAD"}, column{title: "POINT"}, column{title: "REGION"}, column{title: "RTO"}, column{title: "RPO"}, column{title: "OUTCOME"})
		p := a.page(a.stdout)
		for _, rep := range reports(r) {
			if workload != "" && rep.Workload != workload || failed && rep.Outcome == drill.Passed {
				continue
			}
			if err := out.add(rep, rep.ID, p.time(rep.StartedAt), rep.Name, rep.Workload, p.time(rep.RecoveryPoint), rep.Region, formatDuration(time.Duration(rep.RTO.MeasuredMS)*time.Millisecond), formatDuration(time.Duration(rep.RPO.MeasuredMS)*time.Millisecond), string(rep.Outcome)); err != nil {
				return nil, false, err
			}
		}
		return nil, false, nil
	}))
}
