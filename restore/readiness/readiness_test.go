package readiness

import (
	"testing"
	"time"
)

func TestEvaluate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	both := []Region{{Name: "a", Usable: true}, {Name: "b", Usable: true}}
	proved := Drill{At: ago(time.Hour), Passed: true, RTO: time.Minute}
	good := Facts{Workload: "w", Known: true, Required: 2, RPO: time.Hour, RTO: time.Hour, DrillMaxAge: 24 * time.Hour,
		Points: []Point{{At: ago(10 * time.Minute), Regions: []string{"a", "b"}, Complete: true}}, Drills: []Drill{proved}}
	for _, tt := range []struct {
		name    string
		change  func(f *Facts)
		regions []Region
		want    State
		code    string
	}{
		{"all is well", func(*Facts) {}, both, OK, ""},
		{"nobody knows", func(f *Facts) { f.Known = false }, both, Unknown, "not_known"},
		{"no point", func(f *Facts) { f.Points = nil }, both, Breached, "no_point"},
		{"one region only", func(f *Facts) { f.Points[0].Regions = []string{"a"} }, both, Breached, "too_few_regions"},
		{"too old", func(f *Facts) { f.Points[0].At = ago(2 * time.Hour) }, both, Breached, "rpo"},
		{"from the future", func(f *Facts) { f.Points[0].At = now.Add(time.Hour) }, both, Unknown, "clock"},
		{"within the tolerance", func(f *Facts) { f.Points[0].At = now.Add(clockSkewMax) }, both, OK, ""},
		{"from the future, with an honest one", func(f *Facts) {
			f.Points = append(f.Points, Point{At: now.Add(time.Hour), Regions: []string{"a", "b"}, Complete: true})
		}, both, AtRisk, "clock"},
		{"from the future, with an old one", func(f *Facts) {
			f.Points[0].At = ago(2 * time.Hour)
			f.Points = append(f.Points, Point{At: now.Add(time.Hour), Regions: []string{"a", "b"}, Complete: true})
		}, both, Breached, "rpo"},
		{"one region has only the future", func(f *Facts) {
			f.Required = 1
			f.Points = []Point{{At: ago(time.Minute), Regions: []string{"a"}, Complete: true}, {At: now.Add(time.Hour), Regions: []string{"b"}, Complete: true}}
		}, both, AtRisk, "clock"},
		{"no longer from the future", func(f *Facts) {
			f.Points[0].At, f.Points[0].Dated = ago(time.Minute), ago(2*time.Hour)
		}, both, Breached, "rpo"},
		{"drilled in the future", func(f *Facts) { f.Drills = []Drill{{At: now.Add(time.Hour), Passed: true}} }, both, AtRisk, "clock"},
		{"drilled in the future, and too long ago", func(f *Facts) {
			f.Drills = []Drill{{At: ago(48 * time.Hour), Passed: true}, {At: now.Add(time.Hour), Passed: true}}
		}, both, AtRisk, "clock"},
		{"the last of two drills failed", func(f *Facts) { f.Drills = []Drill{proved, {At: ago(time.Minute), Reasons: []string{"x"}}} }, both, Breached, "drill_failed"},
		{"drilled what is incomplete", func(f *Facts) { f.Drills = []Drill{{At: ago(time.Hour), Passed: true, Lacks: 3}} }, both, AtRisk, "drill_incomplete"},
		{"partial", func(f *Facts) { f.Points[0].Complete = false }, both, AtRisk, "partial"},
		{"never drilled", func(f *Facts) { f.Drills = nil }, both, AtRisk, "never_drilled"},
		{"drill failed", func(f *Facts) { f.Drills = []Drill{Drill{At: ago(time.Hour), Reasons: []string{"x"}}} }, both, Breached, "drill_failed"},
		{"drill of nothing", func(f *Facts) { f.Drills = []Drill{{At: ago(time.Hour), Empty: true}} }, both, Breached, "drill_empty"},
		{"drill too old", func(f *Facts) { f.Drills = []Drill{Drill{At: ago(48 * time.Hour), Passed: true}} }, both, AtRisk, "drill_old"},
		{"too slow", func(f *Facts) { f.Drills = []Drill{Drill{At: ago(time.Hour), Passed: true, RTO: 2 * time.Hour}} }, both, Breached, "rto"},
		{"region down", func(*Facts) {}, []Region{both[0], {Name: "b", Reason: "no answer"}}, AtRisk, "region_down"},
		{"single region", func(f *Facts) { f.Required, f.Points[0].Regions = 1, []string{"a"} }, both[:1], AtRisk, "region_loss"},
	} {
		f := good
		f.Points = append([]Point(nil), good.Points...)
		tt.change(&f)
		v := Evaluate(now, []Facts{f}, tt.regions)[0]
		if v.State != tt.want {
			t.Errorf("%s: %s %v, want %s", tt.name, v.State, v.Reasons, tt.want)
		}
		if tt.code != "" && (len(v.Reasons) == 0 || v.Reasons[0].Code != tt.code) {
			t.Errorf("%s: %v, want %s first", tt.name, v.Reasons, tt.code)
		}
	}
}

// TestFutureDrillDoesNotKeepGreen: what a wrong clock has dated ages with time
// like everything else, and hides neither what is old nor what has failed.
func TestFutureDrillDoesNotKeepGreen(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := Facts{Known: true, DrillMaxAge: time.Hour, Points: []Point{{At: now, Regions: []string{"a"}, Complete: true}},
		Drills: []Drill{{ID: "old", At: now.Add(-2 * time.Hour), Passed: true}, {ID: "ahead", At: now.AddDate(10, 0, 0), Passed: true}}}
	v := Evaluate(now, []Facts{f}, nil)[0]
	codes := map[string]bool{}
	for _, r := range v.Reasons {
		codes[r.Code] = true
	}
	if v.Drill == nil || v.Drill.ID != "old" || !codes["clock"] || !codes["drill_old"] {
		t.Errorf("%+v %v", v.Drill, v.Reasons)
	}
}

func TestRegionLossTakesTheOlderPoint(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := Facts{Known: true, Required: 1, Points: []Point{
		{At: now.Add(-time.Minute), Regions: []string{"a"}, Complete: true},
		{At: now.Add(-time.Hour), Regions: []string{"a", "b"}, Complete: true},
	}}
	v := Evaluate(now, []Facts{f}, []Region{{Name: "a", Usable: true}, {Name: "b", Usable: true}})[0]
	if v.RPO != time.Minute || v.RegionLoss != time.Hour || v.WorstRegion != "a" {
		t.Errorf("RPO %v, after the loss of %s %v", v.RPO, v.WorstRegion, v.RegionLoss)
	}
}

func TestOverall(t *testing.T) {
	if got := Overall(nil); got != Unknown {
		t.Errorf("nothing at all: %s", got)
	}
	if got := Overall([]Verdict{{State: OK}, {State: AtRisk}, {State: Unknown}}); got != Unknown {
		t.Errorf("%s", got)
	}
}
