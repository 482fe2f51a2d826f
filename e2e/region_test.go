package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// regionRow is a region in replicate status.
type regionRow struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Points  int    `json:"missing_snapshots"`
	Objects int    `json:"missing_objects"`
	LagMS   int64  `json:"lag_ms"`
}

// replicated is replicate status, by region.
func (s *site) replicated(t *testing.T, code int) map[string]regionRow {
	t.Helper()
	var d struct {
		Regions []regionRow `json:"regions"`
	}
	dataOf(t, s.run(t, code, "replicate", "status", "--json"), &d)
	rows := map[string]regionRow{}
	for _, r := range d.Regions {
		rows[r.Name] = r
	}
	return rows
}

// currentEverywhere tells which regions are not up to date.
func (s *site) currentEverywhere(t *testing.T) {
	t.Helper()
	for name, row := range s.replicated(t, 0) {
		if row.State != "current" || row.Points+row.Objects != 0 {
			t.Errorf("region %s: %+v", name, row)
		}
	}
}

// aloneHas restores the newest snapshot from one region as a stranger and compares.
func (s *site) aloneHas(t *testing.T, r siteRegion, want *tree.Picture) {
	t.Helper()
	stranger := s.stranger(t)
	to := stranger.Path("restored")
	t.Cleanup(func() { _ = tree.Remove(to) })
	stranger.run(t, 0, "restore", "files", "--to", to, "--repo", r.URL, "--identity-file", s.Kit)
	before := t.Failed()
	mustMatch(t, want, to, restorable())
	if t.Failed() && !before {
		t.Errorf("the differences are in region %s", r.Name)
	}
}

// TestRegionAway: a directory region goes and comes back. Backups go on without
// it and say so; one sync brings it up to date, with no key that opens contents.
func TestRegionAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	smallTorture(t, s.source(), 81)
	s.init(t)
	s.backup(t, 0)
	s.currentEverywhere(t)

	moveTo(t, s.dir("b"), s.Path("b-away"))
	for i := range 3 {
		putFile(t, s.source("added", fmt.Sprint(i)), noiseOf(byte(i), 100_000))
		b := s.backup(t, 0)
		if b.state("b") == "committed" || b.state("a") != "committed" || b.state("c") != "committed" {
			t.Errorf("without b: %+v", b.Regions)
		}
	}
	if !isGone(s.dir("b")) {
		t.Error("a region that had vanished was made anew")
	}
	want := pictureOf(t, s.source())
	s.restore(t, 0, s.Path("without-b"))
	mustMatch(t, want, s.Path("without-b"), restorable())
	if rows := s.replicated(t, 0); rows["b"].State == "current" {
		t.Errorf("b is away: %+v", rows["b"])
	}

	moveTo(t, s.Path("b-away"), s.dir("b"))
	if row := s.replicated(t, 0)["b"]; row.State != "behind" || row.Points != 3 {
		t.Errorf("b is back and lacks 3 snapshots: %+v", row)
	}
	// A backup leaves a region out that lacks what the parent reaches.
	if b := s.backup(t, 0); b.state("b") == "committed" {
		t.Errorf("b lacks the parent's packs, and yet: %+v", b.Regions)
	}
	s.noContentsKey(t)
	s.run(t, 0, "replicate", "sync", "--json")
	s.currentEverywhere(t)
	before := objectsIn(s.Path("regions"))
	if r := s.run(t, 0, "replicate", "sync", "--json"); !strings.Contains(string(r.Stdout), `"changed":false`) || objectsIn(s.Path("regions")) != before {
		t.Errorf("a second sync had something to do: %d objects, %d before: %v", objectsIn(s.Path("regions")), before, r)
	}
	s.aloneHas(t, s.Regions[1], want)
	putFile(t, s.source("added/after"), []byte("sync"))
	if b := s.backup(t, 0); b.state("b") != "committed" {
		t.Errorf("after the sync: %+v", b.Regions)
	}
	s.currentEverywhere(t)
}

// noContentsKey fails when this host holds what opens contents: restore must be
// refused without the kit.
func (s *site) noContentsKey(t *testing.T) {
	t.Helper()
	s.run(t, 12, "restore", "files", "--to", s.Path("refused"))
	if !isGone(s.Path("refused")) {
		t.Error("a refused restore made its target")
	}
}

// TestTooFewRegions: below the required number a backup is no success, and what
// is stored is not lost.
func TestTooFewRegions(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	smallTorture(t, s.source(), 82)
	s.init(t)
	s.backup(t, 0)
	away := func(names ...string) {
		for _, n := range names {
			moveTo(t, s.dir(n), s.dir(n)+"-away")
		}
	}
	back := func(names ...string) {
		for _, n := range names {
			moveTo(t, s.dir(n)+"-away", s.dir(n))
		}
	}
	putFile(t, s.source("one"), []byte("only in a"))
	want := pictureOf(t, s.source())
	away("b", "c")
	b := s.backup(t, 6)
	if b.state("a") != "committed" || b.state("b") == "committed" {
		t.Errorf("%+v", b.Regions)
	}
	s.replicated(t, 6)
	away("a")
	s.run(t, 10, "backup", "files") // folders that are not there hold no repository
	s.run(t, 10, "replicate", "status")
	back("a", "b", "c")
	s.run(t, 0, "replicate", "sync")
	s.currentEverywhere(t)
	for _, r := range s.Regions {
		s.aloneHas(t, r, want)
	}
	away("c")
	s.backup(t, 6, "files", "--require-regions", "3")
	s.backup(t, 0, "files", "--require-regions", "1")
	back("c")
	s.run(t, 0, "replicate", "sync", "--to", "c")
	if row := s.replicated(t, 0)["c"]; row.State != "current" || row.Points+row.Objects != 0 {
		t.Errorf("sync --to c left %+v", row)
	}
	s.run(t, 0, "replicate", "sync") // the others learn of it
	s.currentEverywhere(t)
}

// TestRegionsTakeTurns: in each run another region is away, and nobody syncs. No
// run makes anything worse, and one sync at the end makes all regions equal.
func TestRegionsTakeTurns(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	smallTorture(t, s.source(), 87)
	s.init(t)
	s.backup(t, 0)
	var codes []int
	last := ""
	for i := range 6 {
		away := s.Regions[i%3].Dir
		moveTo(t, away, away+"-away")
		putFile(t, s.source("turns", fmt.Sprint(i)), noiseOf(byte(i), 50_000))
		settled(t, s.source("turns", fmt.Sprint(i))) // or the next run reads it again
		r := s.Run("backup", "files", "--json")
		var b backupResult
		dataOf(t, r, &b)
		committed := 0
		for _, region := range b.Regions {
			if region.State == "committed" {
				committed++
			}
		}
		if r.Code != map[bool]int{true: 0, false: 6}[committed >= 2] || committed == 0 {
			t.Errorf("run %d: exit %d with %+v", i, r.Code, b.Regions)
		}
		codes, last = append(codes, r.Code), b.Snapshot
		moveTo(t, away+"-away", away)
	}
	t.Logf("exit codes %v", codes)
	s.run(t, 0, "replicate", "sync")
	s.currentEverywhere(t)
	want, ids := pictureOf(t, s.source()), s.snapshotIDs(t)
	if len(ids) != 7 {
		t.Errorf("%d snapshots, want 7", len(ids))
	}
	for _, r := range s.Regions {
		s.aloneHas(t, r, want)
		alone := s.stranger(t)
		alone.Flags = []string{"--repo", r.URL, "--identity-file", s.Kit}
		if got := alone.snapshotIDs(t); !slices.Equal(got, ids) {
			t.Errorf("region %s alone shows %d snapshots of %d", r.Name, len(got), len(ids))
		}
	}
	if b := s.backup(t, 0); b.Parent != last || b.Stats.BytesRead != 0 || b.Stats.Stored > 100_000 {
		t.Errorf("nothing has changed since %.8s, and yet, since %.8s: %+v", last, b.Parent, b.Stats)
	}
}

// TestRegionGoesDuringRun deletes a region's folder while packs are written to it.
func TestRegionGoesDuringRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	s.init(t)
	putFile(t, s.source("small"), []byte("small"))
	for i := range 6 {
		putFile(t, s.source(fmt.Sprintf("large-%d", i)), noiseOf(byte(10+i), 40<<20))
	}
	p := s.Start("backup", "files", "--json")
	harness.WaitFor(t, "a first pack in b", func() error {
		packs, err := filepath.Glob(filepath.Join(s.dir("b"), "packs/*/d/*/*"))
		if err == nil && len(packs) == 0 && !ended(p) {
			err = fmt.Errorf("none yet")
		}
		return err
	})
	harness.WaitFor(t, "b to be gone", func() error { return os.RemoveAll(s.dir("b")) })
	r := p.Wait()
	var b backupResult
	dataOf(t, r, &b)
	if r.Code != 0 || b.state("a") != "committed" || b.state("c") != "committed" || b.state("b") == "committed" {
		t.Errorf("%+v: %v", b.Regions, r)
	}
	if !isGone(s.dir("b")) {
		t.Error("the deleted region was made anew")
	}
	want := pictureOf(t, s.source())
	s.aloneHas(t, s.Regions[0], want)
	s.aloneHas(t, s.Regions[2], want)
	if r := s.Run("status", "--check", "--json"); r.Code != 6 || !strings.Contains(string(r.Stdout), "region_down") {
		t.Errorf("a region is lost, and status says %v", r)
	}
}

// TestRegionWiped: a region that comes back empty, or as it was long ago, is
// never believed.
func TestRegionWiped(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	smallTorture(t, s.source(), 83)
	s.init(t)
	s.backup(t, 0)
	copyAll(t, s.dir("b"), s.Path("b-old"))
	putFile(t, s.source("new"), noiseOf(3, 300_000))
	s.backup(t, 0)
	want := pictureOf(t, s.source())

	wipeAll(t, s.dir("b"))
	moveTo(t, s.Path("b-old"), s.dir("b")) // it went back in time
	if b := s.backup(t, 0); b.state("b") == "committed" {
		t.Errorf("b went back in time, and was taken for complete: %+v", b.Regions)
	}
	if row := s.replicated(t, 0)["b"]; row.State == "current" {
		t.Errorf("b went back in time: %+v", row)
	}
	s.run(t, 0, "replicate", "sync")
	s.aloneHas(t, s.Regions[1], want)

	wipeAll(t, s.dir("c"))
	if err := os.Mkdir(s.dir("c"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := s.backup(t, 0)
	if b.state("c") == "committed" {
		t.Errorf("c is empty, and was taken for complete: %+v", b.Regions)
	}
	if row := s.replicated(t, 0)["c"]; row.State == "current" {
		t.Errorf("c is empty: %+v", row)
	}
	s.restore(t, 0, s.Path("restored"))
	mustMatch(t, want, s.Path("restored"), restorable())
}

// TestManyRuns takes so many snapshots that statements are gathered in checkpoints,
// with one region away for a third of them. Nothing grows, and nothing is lost.
func TestManyRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many snapshots")
	}
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", "b", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	smallTorture(t, s.source(), 88)
	s.init(t)
	const runs = 75 // of four statements each; a checkpoint comes with 256
	for i := range runs {
		switch i {
		case runs / 3:
			moveTo(t, s.dir("b"), s.Path("b-away"))
		case runs * 2 / 3:
			moveTo(t, s.Path("b-away"), s.dir("b"))
			s.run(t, 0, "replicate", "sync")
			s.currentEverywhere(t)
		}
		putFile(t, s.source("counter"), fmt.Append(nil, i))
		s.backup(t, 0)
	}
	for _, cold := range []bool{false, true} {
		if cold {
			wipeAll(t, s.Path("lifeboat-cache"))
		}
		proxy.Reset()
		s.backup(t, 0)
		n := proxy.Count()
		t.Logf("after %d runs, cache gone: %t: %v", runs, cold, n)
		if n["PUT"] > 4 || !cold && n["GET"]+n["HEAD"]+n["LIST"] > 40 {
			t.Errorf("after %d runs a run without changes costs %v", runs, n)
		}
	}
	s.currentEverywhere(t)
	want, ids := pictureOf(t, s.source()), s.snapshotIDs(t)
	if len(ids) != runs+2 {
		t.Errorf("%d snapshots, want %d", len(ids), runs+2)
	}
	for _, r := range s.Regions {
		s.aloneHas(t, r, want)
		alone := s.stranger(t)
		alone.Flags = []string{"--repo", r.URL, "--identity-file", s.Kit}
		proxy.Reset()
		if got := alone.snapshotIDs(t); !slices.Equal(got, ids) {
			t.Errorf("region %s alone shows %d snapshots of %d", r.Name, len(got), len(ids))
		}
		if n := proxy.Count(); r.Dir == "" {
			t.Logf("to list %d snapshots from S3 alone: %v", len(ids), n)
		}
		for _, back := range []int{2, runs / 2, runs + 1} {
			out := alone.run(t, 0, "cat", fmt.Sprintf("latest~%d:%s", back, s.source("counter"))).Stdout
			if want := fmt.Sprint(runs + 1 - back); string(out) != want {
				t.Errorf("%d back the counter is %q, want %s", back, out, want)
			}
		}
	}
	s.run(t, 0, "check", "--read-data=all", "--identity-file", s.Kit)
}

// TestRequestBudget counts what a run sends, by what it says itself and by what
// the proxy before the S3 region saw.
func TestRequestBudget(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	const many = 20
	for i := range many {
		s.Work = append(s.Work, siteWork{Name: fmt.Sprintf("w%02d", i), Paths: []string{s.Path("work", fmt.Sprint(i))}, Lines: []string{"schedule: {every: 1h}"}})
		putFile(t, s.Path("work", fmt.Sprint(i), "file"), noiseOf(byte(i), 10_000+i))
	}
	smallTorture(t, s.source(), 84)
	s.init(t)
	s.backup(t, 0)

	budget := func(what string, most int, args ...string) {
		t.Helper()
		proxy.Reset()
		b := s.backup(t, 0, args...)
		seen := proxy.Count()
		t.Logf("%s: %v", what, seen)
		if seen["PUT"] > most {
			t.Errorf("%s: %d PUTs, at most %d", what, seen["PUT"], most)
			for _, r := range proxy.Requests() {
				t.Logf("  %s %s %d", r.Verb(), r.Path, r.Status)
			}
		}
		for _, r := range b.Requests {
			if int(r.Puts) > most {
				t.Errorf("%s: the run says %d PUTs to %s, at most %d", what, r.Puts, r.Region, most)
			}
			if r.Region == "s1" && int(r.Puts) != seen["PUT"] {
				t.Errorf("%s: the run says %d PUTs, the server saw %d", what, r.Puts, seen["PUT"])
			}
		}
		if len(b.Requests) != len(s.Regions) {
			t.Errorf("%s: requests of %d regions: %+v", what, len(b.Requests), b.Requests)
		}
	}
	for i := range 2 {
		budget("a lone run without changes", 4, "files")
		putFile(t, s.source("changed"), noiseOf(byte(i), 200_000))
		budget("a lone run with changes", 6, "files")
	}
	all := []string{}
	for _, w := range s.Work[1:] {
		all = append(all, w.Name)
	}
	budget("20 workloads for the first time", many*3/2, all...)
	budget("20 workloads without changes", many*3/2, all...)
	for i := range many {
		putFile(t, s.Path("work", fmt.Sprint(i), "file"), noiseOf(byte(100+i), 10_000+i))
	}
	budget("20 workloads with changes", many*3/2, all...)

	// The daemon hands what is due together to one session.
	for _, changed := range []bool{false, true} {
		for i := range many {
			if changed {
				putFile(t, s.Path("work", fmt.Sprint(i), "file"), noiseOf(byte(50+i), 10_000+i))
			}
		}
		s.age(t, 2*time.Hour)
		proxy.Reset()
		if ran := s.once(t, 0); len(ran) != many {
			t.Errorf("%d jobs ran, %d were due", len(ran), many)
		}
		if puts := proxy.Count()["PUT"]; puts > many*3/2 || puts == 0 {
			t.Errorf("daemon --once with 20 workloads (changed: %t): %d PUTs, at most %d", changed, puts, many*3/2)
		}
	}
}
