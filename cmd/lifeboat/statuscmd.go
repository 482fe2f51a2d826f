package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/cmd/lifeboat/daemon"
	"lifeboat/config"
	"lifeboat/restore/drill"
	"lifeboat/restore/readiness"
	"lifeboat/storage/repo"
)

// statusData is the result of status.
type statusData struct {
	Verdict     string           `json:"verdict"` // protected, at_risk, not_protected or unknown
	EvaluatedAt time.Time        `json:"evaluated_at"`
	Workloads   []statusWorkload `json:"workloads"`
	Regions     []statusRegion   `json:"regions"`
	Source      string           `json:"source"`
}

type statusWorkload struct {
	Name          string             `json:"name"`
	Kind          string             `json:"kind"`
	State         readiness.State    `json:"state"`
	Reasons       []readiness.Reason `json:"reasons"`
	RecoveryPoint time.Time          `json:"recovery_point_at,omitzero"`
	Snapshot      string             `json:"snapshot_id,omitempty"`
	RPO           *statusObjective   `json:"rpo"`
	RegionLossMS  *int64             `json:"region_loss_rpo_ms"` // null: nothing would be left, or not known
	WorstRegion   string             `json:"worst_region,omitempty"`
	Regions       []string           `json:"regions"`
	Drill         *statusDrill       `json:"drill"`
	RTO           *statusObjective   `json:"rto"`
	NextBackup    time.Time          `json:"next_backup_at,omitzero"`
}

type statusObjective struct {
	NowMS       *int64 `json:"now_ms"` // null: not known
	ObjectiveMS int64  `json:"objective_ms,omitempty"`
}

type statusDrill struct {
	ID      string    `json:"id"`
	LastAt  time.Time `json:"last_at"`
	Outcome string    `json:"outcome"`
	Region  string    `json:"region"`
}

type statusRegion struct {
	Name    string `json:"name"`
	Usable  bool   `json:"usable"`
	Message string `json:"message,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use: "status [WORKLOAD…]", Short: "Show whether every workload meets its objectives",
		Long: "Show whether every workload meets its objectives: the newest recovery point, what would be lost now, what\n" +
			"would be lost with the worst region, the last drill and its RTO. What is not known is never shown as good.\n" +
			"With --check the exit code is 5 when a workload is breached, 6 when one is at risk, 1 when one is unknown.",
		Example: "  lifeboat status\n  lifeboat status --check\n  lifeboat status files --json", ValidArgsFunction: a.completeWorkloads,
	}
	c.Flags().BoolVar(&check, "check", false, "exit 5, 6 or 1 when a workload is breached, at risk or unknown")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		d, err := a.status(ctx, args)
		if err != nil {
			return nil, false, err
		}
		if check {
			return d, false, d.check()
		}
		return d, false, nil
	})
}

func (a *app) status(ctx context.Context, names []string) (*statusData, error) {
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	ws, err := a.workloads(names, len(names) == 0)
	if err != nil {
		return nil, err
	}
	d := &statusData{EvaluatedAt: a.now().UTC(), Source: "repository"}
	r, set, oerr := a.openRepo(ctx, access{names: true})
	if oerr != nil && r == nil && !errors.Is(oerr, repo.ErrNoKey) {
		a.warn("not_known", oerr.Error())
	}
	var facts []readiness.Facts
	var regions []readiness.Region
	if r != nil && oerr == nil {
		if facts, regions, err = gatherFacts(ctx, r, set, ws); err != nil {
			return nil, err
		}
	} else {
		for _, w := range ws {
			facts = append(facts, readiness.Facts{Workload: w.Name, Kind: w.Kind})
		}
	}
	verdicts := readiness.Evaluate(a.now(), facts, regions)
	next := a.nextRuns(&file.Config)
	for i, v := range verdicts {
		d.Workloads = append(d.Workloads, statusOf(v, facts[i], next["backup "+v.Workload]))
	}
	for _, rg := range regions {
		d.Regions = append(d.Regions, statusRegion{rg.Name, rg.Usable, rg.Reason})
	}
	d.Verdict = map[readiness.State]string{readiness.OK: "protected", readiness.AtRisk: "at_risk", readiness.Breached: "not_protected", readiness.Unknown: "unknown"}[readiness.Overall(verdicts)]
	return d, nil
}

// lacking counts what the drilled snapshot does not hold of its source.
func lacking(rep drill.Report) uint64 {
	if rep.Lacks == nil {
		return 0
	}
	return rep.Lacks.Total()
}

// gatherFacts turns what the repository shows into what the evaluator wants.
func gatherFacts(ctx context.Context, r *repo.Repo, set regionSet, ws []*config.Workload) ([]readiness.Facts, []readiness.Region, error) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, nil, err
	}
	drills := map[string][]readiness.Drill{}
	for _, rep := range reports(r) {
		if rep.Outcome == drill.NotRun || rep.Outcome == drill.Aborted {
			continue // proves nothing, either way
		}
		drills[rep.Workload] = append(drills[rep.Workload], readiness.Drill{ID: rep.ID, At: rep.FinishedAt, Passed: rep.Outcome.Restored(), Lacks: lacking(rep), Empty: rep.Empty,
			RTO: time.Duration(rep.RTO.MeasuredMS) * time.Millisecond, Region: rep.Region, Reasons: rep.Reasons})
	}
	var regions []readiness.Region
	for _, p := range r.Places() {
		rg := readiness.Region{Name: p.Name, Usable: p.Usable()}
		if p.Err != nil {
			rg.Reason = p.Err.Error()
		}
		regions = append(regions, rg)
	}
	var facts []readiness.Facts
	for _, w := range ws {
		f := readiness.Facts{Workload: w.Name, Kind: w.Kind, RPO: time.Duration(w.Objectives.RPO), RTO: time.Duration(w.Objectives.RTO),
			DrillMaxAge: time.Duration(w.Objectives.DrillMaxAge), Required: set.Required, Drills: drills[w.Name], Known: true}
		for _, s := range all {
			if s.Workload == w.Name {
				f.Points = append(f.Points, readiness.Point{Snapshot: s.Summary.ID, At: s.Start, Dated: s.Dated(), Regions: s.Regions, Complete: s.Stats.Incomplete() == 0})
			}
		}
		facts = append(facts, f)
	}
	return facts, regions, nil
}

func statusOf(v readiness.Verdict, f readiness.Facts, next time.Time) statusWorkload {
	w := statusWorkload{Name: v.Workload, Kind: v.Kind, State: v.State, Reasons: v.Reasons, NextBackup: next, WorstRegion: v.WorstRegion,
		RPO: &statusObjective{ObjectiveMS: milliseconds(v.RPOObjective)}, RTO: &statusObjective{ObjectiveMS: milliseconds(v.RTOObjective)}}
	if w.Reasons == nil {
		w.Reasons = []readiness.Reason{}
	}
	if v.Newest != nil {
		rpo := milliseconds(v.RPO)
		w.RecoveryPoint, w.Snapshot, w.Regions, w.RPO.NowMS = v.Newest.At, v.Newest.Snapshot, v.Newest.Regions, &rpo
		if v.RegionLoss >= 0 && v.WorstRegion != "" {
			loss := milliseconds(v.RegionLoss)
			w.RegionLossMS = &loss
		}
	}
	if d := v.Drill; d != nil {
		outcome := drill.Failed
		if d.Passed {
			if outcome = drill.Passed; d.Lacks > 0 {
				outcome = drill.Incomplete
			}
			rto := milliseconds(d.RTO)
			w.RTO.NowMS = &rto
		}
		w.Drill = &statusDrill{ID: d.ID, LastAt: d.At, Outcome: string(outcome), Region: d.Region}
	}
	return w
}

// nextRuns asks the daemon's memory when each job is due.
func (a *app) nextRuns(c *config.Config) map[string]time.Time {
	out := map[string]time.Time{}
	h, err := daemon.ReadHistory(a.historyPath())
	if err != nil {
		return out
	}
	for _, j := range a.jobs(c) {
		out[j.Name] = daemon.NextRun(j, h.Jobs[j.Name], a.now())
	}
	return out
}

func (a *app) historyPath() string { return filepath.Join(a.stateDir(), "daemon.json") }

// check is the exit code of status --check.
func (d *statusData) check() error {
	for _, row := range []struct {
		state readiness.State
		code  Code
		text  string
	}{{readiness.Breached, ObjectiveMissed, "misses its objectives"}, {readiness.Unknown, Failed, "is in an unknown state"}, {readiness.AtRisk, ReplicationDegraded, "is at risk"}} {
		for _, w := range d.Workloads {
			if w.State == row.state {
				return &Fail{Code: row.code, Message: w.Name + " " + row.text + ": " + reasonsText(w.Reasons), Hint: firstFix(w.Reasons)}
			}
		}
	}
	if len(d.Workloads) == 0 {
		return &Fail{Code: Failed, Message: "no workload is configured", Hint: "add one to the configuration"}
	}
	return nil
}

func reasonsText(reasons []readiness.Reason) string {
	var out []string
	for _, r := range reasons {
		out = append(out, r.Message)
	}
	return strings.Join(out, "; ")
}

func firstFix(reasons []readiness.Reason) string {
	for _, r := range reasons {
		if r.Fix != "" {
			return r.Fix
		}
	}
	return "run: lifeboat status"
}

func (d *statusData) text(p *page) {
	head := map[string]string{"protected": p.mark(markOK, "PROTECTED"), "at_risk": p.mark(markRisk, "AT RISK"), "not_protected": p.mark(markBad, "NOT PROTECTED"), "unknown": p.mark(markUnknown, "UNKNOWN")}
	p.line("%s   %d workloads, evaluated %s", p.bold(head[d.Verdict]), len(d.Workloads), p.time(d.EvaluatedAt))
	p.line("")
	t := newTable("WORKLOAD", "STATE", "RECOVERY POINT", "RPO", "OF", "REGION LOSS", "DRILLED", "RTO", "OF")
	for _, w := range d.Workloads {
		marks := map[readiness.State]mark{readiness.OK: markOK, readiness.AtRisk: markRisk, readiness.Breached: markBad, readiness.Unknown: markUnknown}
		drilled := "never"
		if w.Drill != nil {
			drilled = p.ago(w.Drill.LastAt)
			if w.Drill.Outcome != string(drill.Passed) {
				drilled += ", " + w.Drill.Outcome
			}
		}
		loss := p.none()
		if w.RegionLossMS != nil {
			loss = formatDuration(time.Duration(*w.RegionLossMS) * time.Millisecond)
		} else if w.WorstRegion != "" {
			loss = "everything"
		}
		t.row(w.Name, p.mark(marks[w.State], strings.ReplaceAll(string(w.State), "_", " ")), p.time(w.RecoveryPoint), msText(p, w.RPO.NowMS), objectiveText(p, w.RPO), loss, drilled, msText(p, w.RTO.NowMS), objectiveText(p, w.RTO))
	}
	p.table(t)
	for _, w := range d.Workloads {
		for _, r := range w.Reasons {
			p.line("")
			p.line("%s  %s", w.Name, r.Message)
			if r.Fix != "" {
				p.line("    %s", fix(p, r.Fix))
			}
		}
	}
}

func fix(p *page, text string) string {
	if p.ascii {
		return "-> " + text
	}
	return "→ " + text
}

func msText(p *page, ms *int64) string {
	if ms == nil {
		return p.none()
	}
	return formatDuration(time.Duration(*ms) * time.Millisecond)
}

func objectiveText(p *page, o *statusObjective) string {
	if o.ObjectiveMS == 0 {
		return p.none()
	}
	return formatDuration(time.Duration(o.ObjectiveMS) * time.Millisecond)
}
