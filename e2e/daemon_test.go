package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
)

// rarely is a schedule that does not come due by itself while a test runs. What
// was never run is due at once.
const rarely = "schedule: {every: 90d}"

// stopsWithin is how long a daemon with nothing large on its way may take to stop.
const stopsWithin = 15 * time.Second

// jobRun is what daemon --once says of one job.
type jobRun struct {
	Job   string `json:"job"`
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

// once runs what is due and gives the jobs that ran.
func (s *site) once(t *testing.T, code int, args ...string) map[string]jobRun {
	t.Helper()
	var d struct {
		Ran []jobRun `json:"ran"`
	}
	dataOf(t, s.run(t, code, append([]string{"daemon", "--once", "--json"}, args...)...), &d)
	ran := map[string]jobRun{}
	for _, r := range d.Ran {
		ran[r.Job] = r
	}
	return ran
}

// historyPath is the daemon's memory.
func (s *site) historyPath() string { return s.Path("lifeboat-state", "daemon.json") }

// history reads the daemon's memory as it is.
func (s *site) history(t *testing.T) map[string]map[string]any {
	t.Helper()
	var h struct {
		Jobs map[string]map[string]any `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(getFile(t, s.historyPath())), &h); err != nil {
		t.Fatal(err)
	}
	return h.Jobs
}

// age makes every remembered run so much older, as if the time had passed. With
// no memory yet there is nothing to do: all jobs are due.
func (s *site) age(t *testing.T, by time.Duration) {
	t.Helper()
	if isGone(s.historyPath()) {
		return
	}
	var h map[string]any
	if err := json.Unmarshal([]byte(getFile(t, s.historyPath())), &h); err != nil {
		t.Fatal(err)
	}
	jobs, ok := h["jobs"].(map[string]any)
	if !ok {
		t.Fatal("the daemon's memory holds no jobs")
	}
	for _, j := range jobs {
		older(j, by)
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.historyPath(), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// older moves all times below a value back.
func older(v any, by time.Duration) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if text, ok := x.(string); ok {
				if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
					v[k] = at.Add(-by).Format(time.RFC3339Nano)
				}
				continue
			}
			older(x, by)
		}
	case []any:
		for _, x := range v {
			older(x, by)
		}
	}
}

// outcomes are how the remembered runs of a job ended, oldest first.
func (s *site) outcomes(t *testing.T, job string) []string {
	t.Helper()
	if isGone(s.historyPath()) {
		return nil
	}
	recent, _ := s.history(t)[job]["recent"].([]any)
	var all []string
	for _, r := range recent {
		run, _ := r.(map[string]any)
		all = append(all, fmt.Sprint(run["result"]))
	}
	return all
}

// waitForRuns waits until a job has ended so often.
func (s *site) waitForRuns(t *testing.T, p *harness.Process, job string, n int) {
	t.Helper()
	harness.WaitFor(t, fmt.Sprintf("run %d of %s", n, job), func() error {
		if ended(p) {
			t.Fatalf("the daemon has ended: %v", p.Wait())
		}
		if all := s.outcomes(t, job); len(all) < n {
			return fmt.Errorf("its runs: %v", all)
		}
		return nil
	})
}

// stop ends a daemon as a service manager does.
func stopDaemon(t *testing.T, p *harness.Process, within time.Duration) *harness.Result {
	t.Helper()
	begun := time.Now()
	p.Signal(syscall.SIGTERM)
	r := p.Wait()
	if r.Code != 143 {
		t.Errorf("SIGTERM: %v", r)
	}
	if took := time.Since(begun); took > within {
		t.Errorf("the stop took %v", took)
	}
	return r
}

// snapshotIDs are the recovery points that there are.
func (s *site) snapshotIDs(t *testing.T) []string {
	t.Helper()
	var d struct {
		Snapshots []struct{ ID string } `json:"snapshots"`
	}
	dataOf(t, s.run(t, 0, "snapshots", "--json"), &d)
	var ids []string
	for _, sn := range d.Snapshots {
		ids = append(ids, sn.ID)
	}
	return ids
}

// TestDaemonCatchesUp: what was missed while the daemon was down is done once at
// the next start, and what is not due is left alone; its memory survives restarts
// and does not survive damage by stopping.
func TestDaemonCatchesUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	putFile(t, s.Path("second/file"), []byte("two"))
	s.Work[0].Lines = []string{rarely}
	s.More = "maintenance:\n  sync: {schedule: {every: 90d}}\n"
	s.init(t)

	p := s.Start("daemon")
	s.waitForRuns(t, p, "backup files", 1)
	s.waitForRuns(t, p, "sync", 1)
	stopDaemon(t, p, stopsWithin)
	if n := len(s.snapshotIDs(t)); n != 1 {
		t.Fatalf("%d snapshots after the first run", n)
	}

	// A second workload is new, and so it runs; the first is not due.
	s.Work = append(s.Work, siteWork{Name: "second", Paths: []string{s.Path("second")}, Lines: []string{rarely}},
		siteWork{Name: "third", Paths: []string{s.Path("third")}, Lines: []string{"schedule: {every: 90d, catch_up: false}"}})
	putFile(t, s.Path("third/file"), []byte("three"))
	s.configure(t)
	p = s.Start("daemon")
	s.waitForRuns(t, p, "backup second", 1)
	stopDaemon(t, p, stopsWithin)
	if all := s.outcomes(t, "backup files"); len(all) != 1 {
		t.Errorf("it was not due and ran: %v", all)
	}
	if all := s.outcomes(t, "backup third"); len(all) != 0 {
		t.Errorf("without catch_up it ran at once: %v", all)
	}

	// Four times were missed: one run.
	s.age(t, 4*90*24*time.Hour)
	p = s.Start("daemon")
	s.waitForRuns(t, p, "backup files", 2)
	s.waitForRuns(t, p, "backup second", 2)
	s.waitForRuns(t, p, "sync", 2)
	stopDaemon(t, p, stopsWithin)
	for _, job := range []string{"backup files", "backup second", "sync"} {
		if all := s.outcomes(t, job); len(all) != 2 {
			t.Errorf("%s was missed four times and ran %v", job, all)
		}
	}
	if all := s.outcomes(t, "backup third"); len(all) != 0 {
		t.Errorf("without catch_up it was caught up: %v", all)
	}
	if ran := s.once(t, 0); len(ran) != 0 {
		t.Errorf("nothing is due, and yet %v", ran)
	}
	var status struct {
		Workloads []struct {
			Name string
			Next time.Time `json:"next_backup_at"`
		} `json:"workloads"`
	}
	dataOf(t, s.run(t, 0, "status", "--json"), &status)
	for _, w := range status.Workloads {
		if until := time.Until(w.Next); until <= 0 || until > 91*24*time.Hour {
			t.Errorf("%s: next backup at %v", w.Name, w.Next)
		}
	}

	if err := os.WriteFile(s.historyPath(), []byte(`{"version":1,"jobs":{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if ran := s.once(t, 0); !ran["backup files"].OK || !ran["backup second"].OK {
		t.Errorf("with a damaged memory: %v", ran)
	}
}

// TestDaemonEveryMinute waits for real time to come round.
func TestDaemonEveryMinute(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for up to a minute")
	}
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{"schedule: {every: 1m}"}
	s.init(t)
	p := s.Start("daemon")
	s.waitForRuns(t, p, "backup files", 1)
	putFile(t, s.source("file"), []byte("two"))
	deadline := time.Now().Add(75 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(s.outcomes(t, "backup files")) < 2 && time.Now().Before(deadline) {
		<-tick.C
	}
	stopDaemon(t, p, stopsWithin)
	for i, o := range s.outcomes(t, "backup files") {
		if o != "ok" {
			t.Errorf("run %d: %s", i, o)
		}
	}
	if n := len(s.snapshotIDs(t)); n < 2 {
		t.Errorf("%d snapshots after more than a minute", n)
	}
	s.restore(t, 0, s.Path("restored"))
	if got := getFile(t, s.Path("restored/file")); got != "two" {
		t.Errorf("restored %q", got)
	}
}

// TestDaemonStopsInRun: SIGTERM in the middle of a first backup ends it soon.
// Nothing half is visible, and what was sent is not sent again.
func TestDaemonStopsInRun(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	const files, each = 8, 40 << 20
	for i := range files {
		putFile(t, s.source(fmt.Sprint("large-", i)), noiseOf(byte(20+i), each))
	}
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	proxy.Fault(func(r harness.Request) harness.Fault {
		if r.Method == "PUT" && strings.Contains(r.Path, "/packs/") && r.Bytes > 1<<20 {
			proxy.Latency(700 * time.Millisecond)
		}
		return harness.Pass
	})
	packs := func() (n, size int64) {
		all, err := filepath.Glob(filepath.Join(s.dir("a"), "packs/*/d/*/*.tar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			if st, err := os.Stat(name); err == nil {
				n, size = n+1, size+st.Size()
			}
		}
		return n, size
	}
	p := s.Start("daemon")
	harness.WaitFor(t, "three packs", func() error {
		if n, _ := packs(); n < 3 && !ended(p) {
			return fmt.Errorf("%d packs", n)
		}
		return nil
	})
	stopDaemon(t, p, 40*time.Second)
	proxy.Fault(nil)
	proxy.Latency(0)
	n, sent := packs()
	t.Logf("%d packs, %d MiB were stored", n, sent>>20)
	if ids := s.snapshotIDs(t); len(ids) != 0 {
		t.Errorf("an interrupted run is visible: %v", ids)
	}
	if all := s.outcomes(t, "backup files"); len(all) != 1 || all[0] != "stopped" {
		t.Errorf("the stopped run counts as %v", all)
	}
	if ran := s.once(t, 0); !ran["backup files"].OK {
		t.Errorf("the next start: %v", ran)
	}
	if _, size := packs(); size > files*each*23/20 {
		t.Errorf("%d MiB are stored of %d: what was sent before the stop was sent again", size>>20, files*each>>20)
	}
	want := pictureOf(t, s.source())
	for _, r := range s.Regions {
		s.aloneHas(t, r, want)
	}
}

// TestTwoDaemons: one state folder has one daemon. A backup by hand beside it is
// fine, and a killed daemon leaves no lock.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	first := s.Start("daemon")
	s.waitForRuns(t, first, "backup files", 1)
	for _, args := range [][]string{{"daemon"}, {"daemon", "--once"}} {
		begun := time.Now()
		r := s.run(t, 11, args...)
		if took := time.Since(begun); took > stopsWithin {
			t.Errorf("%q refused after %v: %v", args, took, r)
		}
	}
	s.backup(t, 0)
	first.Signal(syscall.SIGHUP) // with the same configuration: nothing changes
	s.backup(t, 0)
	if ended(first) {
		t.Error("SIGHUP ends the daemon")
		first.Wait()
	} else {
		stopDaemon(t, first, stopsWithin)
	}
	s.once(t, 0)

	s.age(t, 4*90*24*time.Hour)
	killed := s.Start("daemon")
	s.waitForRuns(t, killed, "backup files", 2)
	killed.Kill()
	killed.Wait()
	s.age(t, 4*90*24*time.Hour)
	if ran := s.once(t, 0); !ran["backup files"].OK {
		t.Errorf("after a killed daemon: %v", ran)
	}
	if n := len(s.snapshotIDs(t)); n != 5 {
		t.Errorf("%d snapshots, want 5", n)
	}
}

// TestDaemonReloads: SIGHUP puts a new configuration into force; one with mistakes
// is refused with the reason, and the old one goes on.
func TestDaemonReloads(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	p := s.Start("daemon")
	s.waitForRuns(t, p, "backup files", 1)
	add := func(name string) {
		putFile(t, s.Path(name, "file"), []byte(name))
		s.Work = append(s.Work, siteWork{Name: name, Paths: []string{s.Path(name)}, Lines: []string{rarely}})
		s.configure(t)
		p.Signal(syscall.SIGHUP)
		s.waitForRuns(t, p, "backup "+name, 1)
	}
	add("second")
	good := getFile(t, s.Path("lifeboat.yaml"))
	for _, bad := range []struct{ text, reason string }{
		{strings.ReplaceAll(good, "name: second", "name: Second!"), "Second!"},
		{strings.ReplaceAll(good, "workloads:", "worklaods:"), "worklaods"},
		{strings.ReplaceAll(good, "lifeboat-state", "another-state"), "paths.state"},
		{strings.ReplaceAll(good, rarely, ""), "schedules nothing"},
	} {
		if err := os.WriteFile(s.Path("lifeboat.yaml"), []byte(bad.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Signal(syscall.SIGHUP)
		harness.WaitFor(t, "the refusal of "+bad.reason, func() error {
			if log := p.Stderr(); !strings.Contains(log, "refused") || !strings.Contains(log, bad.reason) {
				return fmt.Errorf("the log: %s", log)
			}
			return nil
		})
	}
	add("third")
	stopDaemon(t, p, stopsWithin)
	for _, job := range []string{"backup files", "backup second", "backup third"} {
		if all := s.outcomes(t, job); len(all) != 1 || all[0] != "ok" {
			t.Errorf("%s: %v", job, all)
		}
	}
}

// TestDaemonWaitsForLock: a backup by hand is at work when the daemon's is due.
// The daemon waits for it.
func TestDaemonWaitsForLock(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	proxy.Latency(150 * time.Millisecond)
	p := s.Start("backup", "files")
	harness.WaitFor(t, "the backup to begin", func() error {
		_, err := os.Stat(s.Path("lifeboat-state/locks/files.lock"))
		return err
	})
	s.run(t, 11, "backup", "files")
	if ran := s.once(t, 0); !ran["backup files"].OK {
		t.Errorf("%v", ran)
	}
	if r := p.Wait(); r.Code != 0 {
		t.Error(r)
	}
}

// TestDaemonFailures: a job that fails does not stop the others, is remembered as
// failed, and tells the caller of --once.
func TestDaemonFailures(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b", "c")
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{rarely}
	s.Work = append(s.Work, siteWork{Name: "gone", Paths: []string{s.Path("no-such-folder")}, Lines: []string{rarely}})
	s.More = "maintenance:\n  sync: {schedule: {every: 90d}}\n  check: {schedule: {every: 90d}}\n"
	s.init(t)
	r := s.Run("daemon", "--once", "--json")
	if r.Code == 0 {
		t.Errorf("a failed job, and yet: %v", r)
	}
	var d struct {
		Ran      []jobRun `json:"ran"`
		Requests []struct {
			Region string
			Puts   int64
			Sent   int64 `json:"sent_bytes"`
		} `json:"requests"`
	}
	dataOf(t, r, &d)
	if len(d.Requests) != len(s.Regions) {
		t.Errorf("requests of %d regions are told, there are %d: %+v", len(d.Requests), len(s.Regions), d.Requests)
	}
	for _, q := range d.Requests {
		if q.Puts == 0 || q.Sent == 0 {
			t.Errorf("a backup went to every region, and yet %+v", q)
		}
	}
	for _, j := range d.Ran {
		if j.OK == (j.Job == "backup gone") {
			t.Errorf("%+v", j)
		}
	}
	if all := s.outcomes(t, "backup gone"); len(all) != 1 || all[0] != "failed" {
		t.Errorf("remembered as %v", all)
	}
	if all := s.outcomes(t, "backup files"); len(all) != 1 || all[0] != "ok" {
		t.Errorf("remembered as %v", all)
	}
	for _, job := range []string{"sync", "check"} {
		if all := s.outcomes(t, job); len(all) != 1 || all[0] != "ok" {
			t.Errorf("%s: %v", job, all)
		}
	}
	// A region is away, comes back, and the daemon's sync brings it up to date.
	moveTo(t, s.dir("c"), s.Path("c-away"))
	s.age(t, 4*90*24*time.Hour)
	s.once(t, r.Code)
	moveTo(t, s.Path("c-away"), s.dir("c"))
	s.age(t, 4*90*24*time.Hour)
	s.once(t, r.Code)
	s.currentEverywhere(t)
	s.aloneHas(t, s.Regions[2], pictureOf(t, s.source()))
}
