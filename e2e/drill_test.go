package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
)

// drillReport is one drill, as drill run and drill list give it.
type drillReport struct {
	ID       string `json:"id"`
	Workload string `json:"workload"`
	Region   string `json:"region"`
	Outcome  string `json:"outcome"`
	Key      string `json:"key_source"`
	Files    int64  `json:"files"`
	Phases   []struct {
		Name, State string
		MS          int64 `json:"duration_ms"`
	} `json:"phases"`
	Assertions []struct {
		Name string
		OK   bool
	} `json:"assertions"`
	RTO struct {
		MS int64 `json:"measured_ms"`
	} `json:"rto"`
	Reasons []string `json:"reasons"`
	Lacks   struct {
		Unreadable int64    `json:"unreadable"`
		Items      []string `json:"items"`
	} `json:"lacks"`
	Stored []string `json:"stored_in"`
}

// drill runs a drill.
func (s *site) drill(t *testing.T, code int, args ...string) drillReport {
	t.Helper()
	var d drillReport
	dataOf(t, s.run(t, code, append([]string{"drill", "run", "--json"}, args...)...), &d)
	return d
}

// drilled are all drills that the repository knows of.
func (s *site) drilled(t *testing.T) []drillReport {
	t.Helper()
	var d struct {
		Drills []drillReport `json:"drills"`
	}
	dataOf(t, s.run(t, 0, "drill", "list", "--json"), &d)
	return d.Drills
}

// drills adds a drill of files to the configuration.
func (s *site) drills(from string, lines ...string) {
	s.More = fmt.Sprintf("drills:\n  - name: nightly\n    workloads: [files]\n    schedule: {every: 90d}\n    from: %s\n    sandbox: {path: %q}\n", from, s.Path("sandbox"))
	for _, l := range lines {
		s.More += "    " + l + "\n"
	}
}

// statusOf runs status --check and gives the verdict and the codes of all reasons.
func (s *site) statusOf(t *testing.T, code int) (verdict string, reasons []string) {
	t.Helper()
	var d struct {
		Verdict   string `json:"verdict"`
		Workloads []struct {
			Reasons []struct{ Code string } `json:"reasons"`
		} `json:"workloads"`
	}
	r := s.Run("status", "--check", "--json")
	dataOf(t, r, &d)
	for _, w := range d.Workloads {
		for _, reason := range w.Reasons {
			reasons = append(reasons, reason.Code)
		}
	}
	if r.Code != code {
		t.Errorf("status --check: exit %d, want %d: %s because of %v", r.Code, code, d.Verdict, reasons)
	}
	s.run(t, 0, "status") // without --check it only tells
	return d.Verdict, reasons
}

// drillTree is a small torture tree without the files whose holes are larger than
// this machine's disk: those have a test of their own.
func drillTree(t *testing.T, s *site, seed uint64) {
	t.Helper()
	smallTorture(t, s.source(), seed)
	for _, o := range pictureOf(t, s.source()).Objects {
		if o.Size > 1<<30 {
			wipeAll(t, s.source(o.Path))
		}
	}
}

// TestDrillSparse: holes need no room in the sandbox.
func TestDrillSparse(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("sparse"), []byte("data before a hole that no disk could hold"))
	if err := os.Truncate(s.source("sparse"), 8<<40); err != nil {
		t.Skip("no such files here:", err)
	}
	s.init(t, "--drills-here")
	s.backup(t, 0)
	if d := s.drill(t, 0); d.Outcome != "passed" {
		t.Errorf("%+v", d)
	}
}

// TestDrillRotation: the daemon's drill takes the regions in turn, with the keys
// of the kit, leaves nothing in the sandbox, and its reports outlive the host.
func TestDrillRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	drillTree(t, s, 91)
	s.drills("{region: rotate, point: latest}", fmt.Sprintf("key: {from_file: %q}", s.Kit), `verify: [{name: a file, run: [test, -f, sizes/random-1]}]`)
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	var regions []string
	for range 3 { // what is due together is stored first and drilled then
		s.age(t, 4*90*24*time.Hour)
		if ran := s.once(t, 0); !ran["drill nightly"].OK || !ran["backup files"].OK {
			t.Errorf("both were due: %v", ran)
		}
		all := s.drilled(t)
		last := all[len(all)-1]
		regions = append(regions, last.Region)
		if last.Outcome != "passed" || last.Files == 0 || last.RTO.MS <= 0 || len(last.Assertions) != 2 {
			t.Errorf("%+v", last)
		}
		var phases []string
		for _, p := range last.Phases {
			phases = append(phases, p.Name)
		}
		if !slices.Equal(phases, []string{"locate", "fetch", "verify", "clean up"}) {
			t.Errorf("phases %v", phases)
		}
	}
	slices.Sort(regions)
	if !slices.Equal(regions, []string{"a", "b", "c"}) {
		t.Errorf("three drills in turn were in %v", regions)
	}
	if left, err := os.ReadDir(s.Path("sandbox")); err != nil || len(left) > 0 {
		t.Errorf("in the sandbox there is %v, %v", left, err)
	}
	if verdict, reasons := s.statusOf(t, 0); verdict != "protected" {
		t.Errorf("%s because of %v", verdict, reasons)
	}
	// A host that lost all it knew finds the reports in the regions.
	wipeAll(t, s.Path("lifeboat-state"), s.Path("lifeboat-cache"))
	s.run(t, 0, "host", "enroll", "--kit", s.Kit, "--root", s.Kit+".root", "--yes")
	if n := len(s.drilled(t)); n != 3 {
		t.Errorf("a rebuilt host knows of %d drills, want 3", n)
	}
	if verdict, reasons := s.statusOf(t, 0); verdict != "protected" {
		t.Errorf("a rebuilt host: %s because of %v", verdict, reasons)
	}
}

// TestDrillFails: a check that fails is exit 4 and breaches the workload, until a
// drill passes.
func TestDrillFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	drillTree(t, s, 92)
	good := `verify: [{name: marker, run: [grep, -q, go, marker]}]`
	s.drills("{region: any, point: latest}", good)
	s.init(t, "--drills-here")
	putFile(t, s.source("marker"), []byte("no"))
	s.backup(t, 0)
	d := s.drill(t, 4, "nightly")
	if d.Outcome != "failed" || len(d.Reasons) == 0 || len(d.Stored) != 2 {
		t.Errorf("%+v", d)
	}
	if verdict, reasons := s.statusOf(t, 5); verdict != "not_protected" || !slices.Contains(reasons, "drill_failed") {
		t.Errorf("%s because of %v", verdict, reasons)
	}
	putFile(t, s.source("marker"), []byte("go"))
	s.backup(t, 0)
	if _, reasons := s.statusOf(t, 5); !slices.Contains(reasons, "drill_failed") {
		t.Errorf("a new backup proves nothing: %v", reasons)
	}
	if d := s.drill(t, 0, "nightly"); d.Outcome != "passed" || d.Key != "installed" {
		t.Errorf("%+v", d)
	}
	if verdict, reasons := s.statusOf(t, 0); verdict != "protected" {
		t.Errorf("%s because of %v", verdict, reasons)
	}
	for name, verify := range map[string]string{
		"no such command": `verify: [{name: x, run: [no-such-command-anywhere]}]`,
		"takes too long":  `verify: [{name: x, run: [sleep, "600"], timeout: 1s}]`,
	} {
		s.drills("{region: any, point: latest}", verify)
		s.configure(t)
		begun := time.Now()
		if d := s.drill(t, 4, "nightly"); d.Outcome != "failed" || time.Since(begun) > time.Minute {
			t.Errorf("%s: %+v after %v", name, d, time.Since(begun))
		}
	}
	if left, err := os.ReadDir(s.Path("sandbox")); err != nil || len(left) > 0 {
		t.Errorf("in the sandbox there is %v, %v", left, err)
	}
	s.drills("{region: any, point: latest}", "objectives: {rto: 1ms}")
	s.configure(t)
	if d := s.drill(t, 5, "nightly"); d.Outcome != "missed_objective" {
		t.Errorf("an RTO of a millisecond: %+v", d)
	}
}

// TestDrillIncomplete: a drill of a snapshot that does not hold all of its source
// does not pass, names what is missing, and keeps status from being green. One in
// which no file could be read proves nothing.
func TestDrillIncomplete(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to become another user")
	s := newSite(t, "a", "b")
	putFile(t, s.source("open"), []byte("everybody reads this"))
	putFile(t, s.source("closed"), []byte("root's own"))
	if err := errors.Join(os.Chmod(s.source("open"), 0o644), os.Chmod(s.source("closed"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.configure(t)
	give(t, plainUser, s.Home, s.Path("regions"), s.Path("config"), s.Path("state"), s.Path("cache"), s.Path("run"), s.Path("tmp"), s.Path("lifeboat.yaml"))
	for _, dir := range []string{"lifeboat-state", "lifeboat-cache", "kit"} {
		if err := os.Mkdir(s.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		give(t, plainUser, s.Path(dir))
	}
	plain := func(want int, args ...string) *harness.Result {
		t.Helper()
		code, stdout, stderr := asPlainUser(t, s, args...)
		if code != want {
			t.Fatalf("%q: exit %d, want %d: %s %s", args, code, want, stdout, stderr)
		}
		return &harness.Result{Stdout: []byte(stdout)}
	}
	drill := func(want int) (d drillReport) {
		t.Helper()
		dataOf(t, plain(want, "drill", "run", "--json"), &d)
		return d
	}
	plain(0, "init", "--yes", "--kit", s.Path("kit/kit.txt"), "--drills-here")
	plain(3, "backup", "files")
	if d := drill(3); d.Outcome != "incomplete" || d.Files != 1 || d.Lacks.Unreadable != 1 || len(d.Lacks.Items) != 1 || !strings.Contains(d.Lacks.Items[0], "/closed") {
		t.Errorf("%+v", d)
	}
	if out := string(plain(3, "drill", "run").Stdout); strings.Contains(out, "PASSED") || !strings.Contains(out, "INCOMPLETE") || !strings.Contains(out, "closed") {
		t.Errorf("shown as %s", out)
	}
	if out := string(plain(6, "status", "--check", "--json").Stdout); !strings.Contains(out, "drill_incomplete") {
		t.Errorf("status does not say so: %s", out)
	}
	if err := os.Remove(s.source("open")); err != nil {
		t.Fatal(err)
	}
	plain(3, "backup", "files")
	if d := drill(4); d.Outcome != "failed" || !strings.Contains(strings.Join(d.Reasons, " "), "nothing was restored") {
		t.Errorf("%+v", d)
	}
}

// TestSabotage: damage to the stored contents makes the drill fail, whatever the
// damage is. Where one region is still good a restore gets through.
func TestSabotage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	drillTree(t, s, 93)
	s.drills("{region: any, point: latest}")
	s.init(t, "--drills-here")
	s.backup(t, 0)
	want := pictureOf(t, s.source())
	s.drill(t, 0)

	packs := func(region string) []string {
		all, err := filepath.Glob(filepath.Join(s.dir(region), "packs/*/d/*/*.tar"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%d packs in %s: %v", len(all), region, err)
		}
		return all
	}
	harm := map[string]func(path string, data []byte) error{
		"a flipped bit":  func(path string, data []byte) error { data[len(data)/3] ^= 1; return os.WriteFile(path, data, 0o600) },
		"a short object": func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)*2/3], 0o600) },
		"no object":      func(path string, _ []byte) error { return os.Remove(path) },
		"zeros":          func(path string, data []byte) error { return os.WriteFile(path, make([]byte, len(data)), 0o600) },
	}
	for name, do := range harm {
		saved := map[string]string{}
		for _, r := range s.Regions {
			for _, path := range packs(r.Name) {
				saved[path] = getFile(t, path)
			}
		}
		for _, r := range s.Regions[:2] {
			harmAll(t, packs(r.Name), do)
		}
		if d := s.drill(t, 4, "--region", "a"); d.Outcome != "failed" {
			t.Errorf("%s in the drilled region: %+v", name, d)
		}
		s.drill(t, 0, "--region", "c")
		to := s.Path("restored")
		s.restore(t, 0, to)
		mustMatch(t, want, to, restorable())
		wipeAll(t, to)

		harmAll(t, packs("c"), do)
		if d := s.drill(t, 4); d.Outcome != "failed" || len(d.Reasons) == 0 {
			t.Errorf("%s in every region: %+v", name, d)
		}
		if verdict, reasons := s.statusOf(t, 5); verdict != "not_protected" || !slices.Contains(reasons, "drill_failed") {
			t.Errorf("%s: %s because of %v", name, verdict, reasons)
		}
		s.restore(t, 4, to)
		wipeAll(t, to)
		for path, data := range saved {
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.drill(t, 0)
		s.statusOf(t, 0)
	}
}

func harmAll(t *testing.T, paths []string, do func(string, []byte) error) {
	t.Helper()
	for _, p := range paths {
		if err := errors.Join(os.Chmod(p, 0o600), do(p, []byte(getFile(t, p)))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStatusCodes walks through the states that a workload can be in.
func TestStatusCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	putFile(t, s.source("file"), []byte("one"))
	s.init(t, "--drills-here")
	expect := func(what string, code int, verdict, reason string) {
		t.Helper()
		got, reasons := s.statusOf(t, code)
		if got != verdict || reason != "" && !slices.Contains(reasons, reason) {
			t.Errorf("%s: %s because of %v, want %s because of %s", what, got, reasons, verdict, reason)
		}
	}
	expect("before the first backup", 5, "not_protected", "no_point")
	s.backup(t, 0)
	expect("not drilled", 6, "at_risk", "never_drilled")
	s.drill(t, 0)
	expect("all is well", 0, "protected", "")

	moveTo(t, s.dir("b"), s.Path("b-away"))
	expect("a region is lost", 6, "at_risk", "region_down")
	moveTo(t, s.dir("c"), s.Path("c-away"))
	expect("fewer regions than required", 5, "not_protected", "region_down")
	moveTo(t, s.dir("a"), s.Path("a-away"))
	expect("all regions are lost", 1, "unknown", "")
	for _, n := range []string{"a", "b", "c"} {
		moveTo(t, s.Path(n+"-away"), s.dir(n))
	}
	expect("they are back", 0, "protected", "")

	s.Work[0].Lines = []string{"objectives: {rpo: 1s}"}
	s.configure(t)
	harness.WaitFor(t, "the objective to be missed", func() error {
		if r := s.Run("status", "--check"); r.Code != 5 {
			return errors.New(r.String())
		}
		return nil
	})
	expect("older than promised", 5, "not_protected", "rpo")
	s.backup(t, 0)
	s.Work[0].Lines = []string{"objectives: {rto: 1ms}"}
	s.configure(t)
	expect("slower than promised", 5, "not_protected", "rto")
	s.Work[0].Lines = []string{"objectives: {rpo: 1h, rto: 1h, drill_max_age: 1ms}"}
	s.configure(t)
	expect("drilled too long ago", 6, "at_risk", "drill_old")
	s.Work[0].Lines = []string{"objectives: {rpo: 1h, rto: 1h, drill_max_age: 1d}"}
	s.configure(t)
	expect("within all objectives", 0, "protected", "")

	// One region behind: what the worst loss would cost is told.
	moveTo(t, s.dir("b"), s.Path("b-away"))
	moveTo(t, s.dir("c"), s.Path("c-away"))
	putFile(t, s.source("file"), []byte("two"))
	s.backup(t, 6)
	moveTo(t, s.Path("b-away"), s.dir("b"))
	moveTo(t, s.Path("c-away"), s.dir("c"))
	var d struct {
		Workloads []struct {
			Point string    `json:"snapshot_id"`
			At    time.Time `json:"recovery_point_at"`
		} `json:"workloads"`
	}
	dataOf(t, s.run(t, 0, "status", "--json"), &d)
	ids := s.snapshotIDs(t)
	if len(d.Workloads) != 1 || d.Workloads[0].Point == ids[len(ids)-1] {
		t.Errorf("a point in one region of two required counts as protection: %+v", d.Workloads)
	}
}
