package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/replicate"
	"lifeboat/storage"
	"lifeboat/storage/repo"
)

func (a *app) replicateCommand() *cobra.Command {
	c := &cobra.Command{Use: "replicate", Short: "Show and mend what regions lack"}
	c.AddCommand(a.replicateStatusCommand(), a.replicateSyncCommand())
	return c
}

// replicateRegion is one region in replicate status.
type replicateRegion struct {
	Name     string    `json:"name"`
	URL      string    `json:"url"`
	State    string    `json:"state"` // current, behind, unusable
	Newest   time.Time `json:"newest_point_at,omitzero"`
	LagMS    int64     `json:"lag_ms"`
	Missing  int       `json:"missing_snapshots"`
	Objects  int       `json:"missing_objects"`
	Bytes    int64     `json:"missing_bytes"`
	Problems []string  `json:"problems,omitempty"`
	Message  string    `json:"message,omitempty"`
}

// replicateData is the result of replicate status.
type replicateData struct {
	Regions  []replicateRegion `json:"regions"`
	Required int               `json:"regions_required"`
}

func (a *app) replicateStatusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status [WORKLOAD]", Short: "Show how far each region is behind", Args: cobra.MaximumNArgs(1),
		Example: "  lifeboat replicate status\n  lifeboat replicate status files --json", ValidArgsFunction: a.completeWorkloads}
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		r, set, err := a.openRepo(ctx, access{names: true})
		if err != nil {
			return nil, false, err
		}
		workload := ""
		if len(args) > 0 {
			workload = args[0]
		}
		d, err := replicateStatus(ctx, r, set, workload)
		if err != nil {
			return nil, false, err
		}
		return d, false, d.verdict()
	})
}

func replicateStatus(ctx context.Context, r *repo.Repo, set regionSet, workload string) (*replicateData, error) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	if workload != "" {
		if all, err = ofWorkload(all, workload); err != nil {
			return nil, err
		}
	}
	plan, err := replicate.NewPlan(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	gaps := map[string]replicate.Gap{}
	for _, g := range plan.Gaps {
		gaps[g.Region] = g
	}
	d := &replicateData{Required: set.Required}
	var newest time.Time
	if len(all) > 0 {
		newest = all[len(all)-1].Start
	}
	for _, p := range r.Places() {
		d.Regions = append(d.Regions, regionRow(p, gaps[p.Name], all, newest))
	}
	return d, nil
}

func regionRow(p *repo.Place, g replicate.Gap, all []repo.Snapshot, newest time.Time) replicateRegion {
	row := replicateRegion{Name: p.Name, URL: p.URL, State: "current", Missing: len(g.Snapshots), Objects: len(g.Objects), Bytes: g.Bytes}
	if p.Err != nil {
		row.State, row.Message = "unusable", p.Err.Error()
		return row
	}
	for _, err := range p.Problems() {
		row.Problems = append(row.Problems, err.Error())
	}
	for _, s := range all {
		if s.Shows(p.Nonce) {
			row.Newest = s.Start
		}
	}
	if row.Missing > 0 {
		row.State = "behind"
		row.LagMS = milliseconds(max(newest.Sub(row.Newest), 0))
	}
	return row
}

// verdict: fewer current regions than required is degraded, none at all worse.
func (d *replicateData) verdict() error {
	current := 0
	for _, r := range d.Regions {
		if r.State == "current" {
			current++
		}
	}
	if current < d.Required {
		return &Fail{Code: ReplicationDegraded, Message: fmt.Sprintf("%d of %d regions are current, %d are required", current, len(d.Regions), d.Required), Hint: "run: lifeboat replicate sync"}
	}
	return nil
}

func (d *replicateData) text(p *page) {
	t := newTable("REGION", "STATE", "NEWEST POINT", "LAG", "MISSING")
	for _, r := range d.Regions {
		m, lag := markOK, p.none()
		switch r.State {
		case "behind":
			m, lag = markRisk, formatDuration(time.Duration(r.LagMS)*time.Millisecond)
		case "unusable":
			m = markBad
		}
		missing := "0"
		if r.Missing+r.Objects > 0 {
			missing = fmt.Sprintf("%d points, %d objects, %s", r.Missing, r.Objects, p.size(r.Bytes))
		}
		t.row(r.Name, p.mark(m, r.State), p.time(r.Newest), lag, missing)
	}
	p.table(t)
	for _, r := range d.Regions {
		if r.Message != "" {
			p.line("%s: %s", r.Name, r.Message)
		}
		for _, problem := range r.Problems {
			p.line("%s: %s", r.Name, problem)
		}
	}
}

// syncData is the result of replicate sync.
type syncData struct {
	Results []replicate.Result `json:"regions"`
	Plan    []syncPlan         `json:"plan"`
	left    []*repo.Place
}

type syncPlan struct {
	Region    string `json:"region"`
	Snapshots int    `json:"snapshots"`
	Objects   int    `json:"objects"`
	Bytes     int64  `json:"bytes"`
}

func (a *app) replicateSyncCommand() *cobra.Command {
	var to []string
	var verify bool
	c := &cobra.Command{Use: "sync", Short: "Copy what is missing to the other regions now", Args: cobra.NoArgs,
		Example: "  lifeboat replicate sync\n  lifeboat replicate sync --to iad\n  lifeboat replicate sync --dry-run"}
	c.Flags().StringArrayVar(&to, "to", nil, "only this region; repeatable")
	c.Flags().BoolVar(&verify, "verify", false, "read everything first, and copy again what does not hash to its name")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) {
		d, changed, err := a.sync(ctx, to, verify)
		if d == nil {
			return nil, changed, err
		}
		return d, changed, err
	})
}

// sync brings regions that were away up to date.
func (a *app) sync(ctx context.Context, to []string, verify bool) (*syncData, bool, error) {
	r, set, err := a.openRepo(ctx, access{write: true})
	if err != nil {
		return nil, false, err
	}
	for _, name := range to {
		if !hasRegion(set, name) {
			return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("there is no region %q", name), Hint: "see: lifeboat replicate status"}
		}
	}
	d := &syncData{}
	for _, p := range r.Places() {
		if p.Err != nil && (len(to) == 0 || slices.Contains(to, p.Name)) {
			d.left = append(d.left, p)
		}
	}
	// The second round mirrors what the first one's own sessions stated.
	for round := range syncRounds {
		changed, err := a.syncRound(ctx, r, to, d, round, verify && round == 0)
		if err != nil || !changed {
			return d, len(d.Results) > 0, errors.Join(err, d.verdict(r, set, len(to) > 0))
		}
		if err := r.Reload(ctx); err != nil {
			return d, true, err
		}
	}
	return d, len(d.Results) > 0, d.verdict(r, set, len(to) > 0)
}

const syncRounds = 2

func (a *app) syncRound(ctx context.Context, r *repo.Repo, to []string, d *syncData, round int, verify bool) (changed bool, err error) {
	plan, err := replicate.NewPlan(ctx, r, to)
	if err != nil {
		return false, err
	}
	for region, err := range plan.Skipped {
		a.warn("region_left_out", err.Error(), "region", region)
	}
	if verify {
		if err := a.planReplacements(ctx, r, plan); err != nil {
			return false, err
		}
	}
	for _, g := range plan.Gaps {
		if round == 0 {
			d.Plan = append(d.Plan, syncPlan{g.Region, len(g.Snapshots), len(g.Objects), g.Bytes})
		}
		a.progress.expect(g.Bytes, int64(len(g.Objects)))
	}
	if a.opt.DryRun || plan.Empty() {
		return false, nil
	}
	if round == 0 {
		a.progress.plan("copy")
		a.progress.phase("copy")
		defer a.progress.done()
	}
	results, err := plan.Run(ctx, replicate.Options{Now: a.now, Events: replicate.Events{
		Copied: func(_, key string, size int64) { a.progress.add(size, 1); a.progress.at(key) },
		Skipped: func(region, key string, err error) {
			a.warn("not_copied", fmt.Sprintf("%s to %s: %v", key, region, err), "region", region)
		},
	}})
	if round == 0 {
		d.Results = results
	}
	return true, heldBack(results, err)
}

// heldBack is the failure of a sync that had to leave recovery points behind: what
// they need is damaged, unless it is only that nobody could be asked.
func heldBack(results []replicate.Result, err error) error {
	if !errors.Is(err, replicate.ErrHeldBack) || storage.IsTemporary(err) || errors.Is(err, storage.ErrUnreachable) {
		return err
	}
	n := 0
	var names []string
	for _, r := range results {
		n += r.HeldBack
		for _, h := range r.Held {
			if name := fmt.Sprintf("%.8s", h.Snapshot); !slices.Contains(names, name) && len(names) < heldShown {
				names = append(names, name)
			}
		}
	}
	return &Fail{Code: VerifyFailed, Err: err,
		Message: fmt.Sprintf("%d recovery points could not be brought to every region, since no region has whole what they need: %s", n, andMore(names, max(n, len(names)))),
		Hint:    "everything else was copied; see what is affected with: lifeboat check, and back up again while the source is there: lifeboat backup --all --full"}
}

// heldShown is how many recovery points a message names.
const heldShown = 5

// planReplacements reads every object and adds those that are damaged to the plan.
func (a *app) planReplacements(ctx context.Context, r *repo.Repo, plan *replicate.Plan) error {
	rep, err := replicate.Scrub(ctx, r, replicate.ScrubOptions{Now: a.now(), Read: replicate.ReadAmount{All: true}, Events: a.scrubEvents(r)})
	if err != nil {
		return err
	}
	for region, keys := range rep.Replaceable() {
		if !slices.ContainsFunc(plan.Gaps, func(g replicate.Gap) bool { return g.Region == region }) {
			continue
		}
		left, err := plan.Replace(ctx, region, keys)
		if err != nil {
			return err
		}
		for _, key := range left {
			a.warn("not_copied", fmt.Sprintf("%s in %s is damaged, and may not be put there by a copy", key, region), "region", region)
		}
	}
	return nil
}

func hasRegion(set regionSet, name string) bool {
	for _, r := range set.Regions {
		if r.Name == name {
			return true
		}
	}
	return false
}

// verdict: a region that was named and cannot be reached fails the sync; others
// matter when too few are left.
func (d *syncData) verdict(r *repo.Repo, set regionSet, named bool) error {
	if len(d.left) == 0 {
		return nil
	}
	var all []string
	for _, p := range d.left {
		all = append(all, p.Err.Error())
	}
	text := "not every region could be reached: " + strings.Join(all, "; ")
	switch usable := len(r.Places()) - len(d.left); {
	case named:
		return &Fail{Code: RegionUnreachable, Message: text, Hint: "run it again when it is back", Err: d.left[0].Err}
	case usable < set.Required:
		return &Fail{Code: ReplicationDegraded, Message: text, Hint: "run it again when they are back"}
	}
	return nil
}

func (d *syncData) text(p *page) {
	nothing := true
	for _, g := range d.Plan {
		if g.Snapshots+g.Objects > 0 {
			nothing = false
			p.line("%s: %d recovery points and %d objects missing, %s", g.Region, g.Snapshots, g.Objects, p.size(g.Bytes))
		}
	}
	if nothing {
		p.line("%s", p.mark(markOK, "every region that answered holds everything"))
	}
	for _, r := range d.Results {
		if r.Error != "" {
			why := r.Error
			if r.HeldBack > 0 {
				why = fmt.Sprintf("%d recovery points were held back", r.HeldBack) // with its reason, below
			}
			p.line("%s", p.mark(markBad, fmt.Sprintf("%s: %d recovery points, %d objects, %s copied; %s", r.Region, r.Snapshots, r.Objects, p.size(r.Bytes), strings.ReplaceAll(why, "\n", "; "))))
			for _, h := range r.Held {
				p.line("    held back %.8s: %s", h.Snapshot, strings.ReplaceAll(h.Problem, "\n", "; "))
			}
			if more := r.HeldBack - len(r.Held); more > 0 {
				p.line("    and %d more", more)
			}
			continue
		}
		p.line("%s", p.mark(markOK, fmt.Sprintf("%s: %d recovery points, %d objects, %s copied", r.Region, r.Snapshots, r.Objects, p.size(r.Bytes))))
	}
}
