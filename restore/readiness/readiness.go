// Package readiness judges whether workloads are protected: a pure function from
// facts and a time to verdicts. It reads nothing and asks nobody. What is not
// known is unknown, and unknown is never green.
package readiness

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// State is the verdict on one workload.
type State string

// The verdicts, best first.
const (
	OK       State = "ok"
	AtRisk   State = "at_risk"
	Unknown  State = "unknown"
	Breached State = "breached"
)

// Point is a usable recovery point and where it is.
type Point struct {
	Snapshot string
	At       time.Time // as its host says
	Dated    time.Time // the same, or when a region held it if that was well before; zero: At
	Regions  []string  // that show it
	Complete bool      // nothing in it was unreadable
}

// Drill is a drill that was carried out for a workload.
type Drill struct {
	ID      string
	At      time.Time
	Passed  bool   // restored and verified, whatever the objectives said
	Lacks   uint64 // items of the source that the drilled snapshot does not hold
	Empty   bool   // it failed, since there was nothing to restore
	RTO     time.Duration
	Region  string
	Reasons []string
}

// Facts is all that is known of one workload.
type Facts struct {
	Workload    string
	Kind        string
	RPO, RTO    time.Duration // promised; 0: nothing was
	DrillMaxAge time.Duration
	Required    int // regions that must show a point before it counts
	Points      []Point
	Drills      []Drill // those that proved something, either way
	// Known is false when the repository could not be asked.
	Known bool
}

// Region is what is known of one region.
type Region struct {
	Name   string
	Usable bool
	Reason string // why not
}

// Reason says why a state is not ok, and what to do.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// Verdict is the judgement of one workload.
type Verdict struct {
	Workload     string
	Kind         string
	State        State
	Reasons      []Reason
	Newest       *Point // the newest that counts
	RPO          time.Duration
	RegionLoss   time.Duration // RPO if the worst region is lost; negative: everything
	WorstRegion  string
	RPOObjective time.Duration
	RTOObjective time.Duration
	Drill        *Drill // the newest that counts
}

// Evaluate judges all workloads at one moment.
func Evaluate(now time.Time, facts []Facts, regions []Region) []Verdict {
	out := make([]Verdict, 0, len(facts))
	for _, f := range facts {
		out = append(out, evaluate(now, f, regions))
	}
	return out
}

// Overall is the worst of the verdicts; unknown when there are none.
func Overall(vs []Verdict) State {
	if len(vs) == 0 {
		return Unknown
	}
	worst := OK
	for _, v := range vs {
		if rank(v.State) > rank(worst) {
			worst = v.State
		}
	}
	return worst
}

func rank(s State) int { return slices.Index([]State{OK, AtRisk, Unknown, Breached}, s) }

func evaluate(now time.Time, f Facts, regions []Region) Verdict {
	v := Verdict{Workload: f.Workload, Kind: f.Kind, State: OK, RPOObjective: f.RPO, RTOObjective: f.RTO}
	if !f.Known {
		v.add(Unknown, "not_known", "the repository could not be asked", "run: lifeboat status, when a region answers")
		return v
	}
	for _, r := range regions {
		if !r.Usable {
			v.add(AtRisk, "region_down", fmt.Sprintf("region %s is not usable: %s", r.Name, r.Reason), "run: lifeboat replicate status")
		}
	}
	if newest(f.Points, f.Required, "") == nil {
		v.noPoint(f)
		return v
	}
	v.judgePoints(now, f, regions)
	v.judgeDrill(now, f)
	return v
}

// judgePoints judges the newest recovery point that counts. One that is dated in
// the future does not.
func (v *Verdict) judgePoints(now time.Time, f Facts, regions []Region) {
	dated := believable(now, f.Points)
	ahead := round(latest(f.Points).Sub(now))
	if v.Newest = newest(dated, f.Required, ""); v.Newest == nil {
		v.add(Unknown, "clock", fmt.Sprintf("the recovery points that count are dated in the future, up to %v from now: a clock is or was wrong, and their age cannot be told", ahead), clockFix)
		return
	}
	v.RPO = max(now.Sub(v.Newest.At), 0)
	if f.RPO > 0 && v.RPO > f.RPO {
		v.add(Breached, "rpo", fmt.Sprintf("the newest recovery point is %v old, %v was promised", round(v.RPO), f.RPO), "run: lifeboat backup "+f.Workload)
	}
	if len(dated) < len(f.Points) {
		v.add(AtRisk, "clock", fmt.Sprintf("a recovery point is dated %v in the future and does not count: a clock is or was wrong", ahead), clockFix)
	}
	if !v.Newest.Complete {
		v.add(AtRisk, "partial", "items of the newest recovery point could not be read", "run: lifeboat backup "+f.Workload+", and look at what it names")
	}
	v.judgeLoss(now, f, dated, regions)
}

// clockSkewMax is how far in the future a time may lie before clocks are doubted.
// What lies further ahead never grows old, and so must not count as fresh.
const clockSkewMax = 5 * time.Minute

const clockFix = "compare the clocks of the hosts that back up, drill and ask; with a right clock, back up and drill again"

// believable leaves out what is dated in the future. What was, and is not any
// more, is as old as the regions say.
func believable(now time.Time, points []Point) []Point {
	var out []Point
	for _, p := range points {
		if !p.At.After(now.Add(clockSkewMax)) {
			if !p.Dated.IsZero() {
				p.At = p.Dated
			}
			out = append(out, p)
		}
	}
	return out
}

func latest(points []Point) time.Time {
	var t time.Time
	for _, p := range points {
		if p.At.After(t) {
			t = p.At
		}
	}
	return t
}

func (v *Verdict) noPoint(f Facts) {
	if newest(f.Points, 1, "") != nil {
		v.add(Breached, "too_few_regions", fmt.Sprintf("no recovery point is in %d regions", f.Required), "run: lifeboat replicate sync")
		return
	}
	v.add(Breached, "no_point", "there is no recovery point", "run: lifeboat backup "+f.Workload)
}

// judgeLoss asks what would be lost if each region were lost, and keeps the worst.
// Where all that would be left is dated in the future, that cannot be told.
func (v *Verdict) judgeLoss(now time.Time, f Facts, dated []Point, regions []Region) {
	for _, r := range regions {
		loss := time.Duration(-1)
		if p := newest(dated, 1, r.Name); p != nil {
			loss = max(now.Sub(p.At), 0)
		} else if newest(f.Points, 1, r.Name) != nil {
			continue
		}
		if v.WorstRegion == "" || v.RegionLoss >= 0 && (loss < 0 || loss > v.RegionLoss) {
			v.WorstRegion, v.RegionLoss = r.Name, loss
		}
	}
	switch {
	case v.WorstRegion == "":
	case v.RegionLoss < 0:
		v.add(AtRisk, "region_loss", fmt.Sprintf("if region %s is lost, nothing is left", v.WorstRegion), "run: lifeboat replicate sync")
	case f.RPO > 0 && v.RegionLoss > f.RPO && v.RPO <= f.RPO:
		v.add(AtRisk, "region_loss", fmt.Sprintf("if region %s is lost, %v are lost", v.WorstRegion, round(v.RegionLoss)), "run: lifeboat replicate sync")
	}
}

func (v *Verdict) judgeDrill(now time.Time, f Facts) {
	fix := "run: lifeboat drill run --workload " + f.Workload
	d, ahead := newestDrill(now, f.Drills)
	v.Drill = d
	if ahead != nil {
		v.add(AtRisk, "clock", fmt.Sprintf("a drill is dated %v in the future and does not count: a clock is or was wrong", round(ahead.At.Sub(now))), clockFix)
	}
	switch {
	case d == nil && ahead != nil:
		return
	case d == nil:
		v.add(AtRisk, "never_drilled", "no drill has proved a restore", fix)
		return
	case d.Empty:
		v.add(Breached, "drill_empty", "the last drill restored nothing, and so proved nothing: the snapshot holds no files that could be read",
			"see whether its paths are mounted and readable, run: lifeboat backup "+f.Workload+", and drill again")
	case !d.Passed:
		v.add(Breached, "drill_failed", "the last drill failed: "+first(d.Reasons), fix)
	case f.DrillMaxAge > 0 && now.Sub(d.At) > f.DrillMaxAge:
		v.add(AtRisk, "drill_old", fmt.Sprintf("the last drill is %v old, at most %v was promised", round(now.Sub(d.At)), f.DrillMaxAge), fix)
	}
	if d.Passed && d.Lacks > 0 {
		v.add(AtRisk, "drill_incomplete", fmt.Sprintf("the last drill restored a snapshot that lacks %d items of its source", d.Lacks),
			"mend what lifeboat drill list --json names, then run: lifeboat backup "+f.Workload+", and drill again")
	}
	if f.RTO > 0 && d.Passed && d.RTO > f.RTO {
		v.add(Breached, "rto", fmt.Sprintf("the last drill took %v, %v was promised", round(d.RTO), f.RTO), "make the restore faster, or promise less")
	}
}

// newestDrill gives the newest drill, and the newest of those that are dated in
// the future.
func newestDrill(now time.Time, drills []Drill) (counts, ahead *Drill) {
	for i := range drills {
		d, best := &drills[i], &counts
		if d.At.After(now.Add(clockSkewMax)) {
			best = &ahead
		}
		if *best == nil || !d.At.Before((*best).At) {
			*best = d
		}
	}
	return counts, ahead
}

func first(reasons []string) string {
	if len(reasons) == 0 {
		return "no reason was recorded"
	}
	return reasons[0]
}

func (v *Verdict) add(s State, code, message, fix string) {
	v.Reasons = append(v.Reasons, Reason{Code: code, Message: message, Fix: fix})
	if rank(s) > rank(v.State) {
		v.State = s
	}
}

// newest gives the newest point that at least required regions show, not
// counting the lost one.
func newest(points []Point, required int, lost string) *Point {
	var best *Point
	for i := range points {
		p := &points[i]
		n := len(p.Regions)
		if slices.Contains(p.Regions, lost) {
			n--
		}
		if n >= max(required, 1) && (best == nil || cmp.Compare(p.At.UnixNano(), best.At.UnixNano()) > 0) {
			best = p
		}
	}
	return best
}

func round(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}
