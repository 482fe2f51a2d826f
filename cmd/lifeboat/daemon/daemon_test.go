package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// every is a timetable on even multiples, as the configuration's.
func every(d time.Duration) func(time.Time) time.Time {
	return func(after time.Time) time.Time { return after.Truncate(d).Add(d) }
}

// diary notes what ran and when.
type diary struct {
	mu    sync.Mutex
	lines []string
	runs  map[string]int
	now   func() time.Time
}

func newDiary(now func() time.Time) *diary { return &diary{runs: map[string]int{}, now: now} }

func (d *diary) note(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, d.now().UTC().Format("15:04:05 ")+name)
	d.runs[name]++
}

func (d *diary) job(name string, next func(time.Time) time.Time, took time.Duration) Job {
	return Job{Name: name, Next: next, Run: func(ctx context.Context) error {
		d.note(name)
		select {
		case <-time.After(took):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

func (d *diary) count(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[name]
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// runFor runs the loop for a while of fake time.
func runFor(t *testing.T, d time.Duration, opt Options) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, opt) }()
	time.Sleep(d)
	synctest.Wait()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The fake clock of synctest begins at 2000-01-01 00:00:00 UTC.

func TestRunsWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		runFor(t, 3*time.Hour+time.Minute, Options{Now: time.Now, Jobs: []Job{
			d.job("hourly", every(time.Hour), time.Minute),
			d.job("never", func(time.Time) time.Time { return time.Time{} }, 0),
		}})
		if got, want := d.text(), "01:00:00 hourly\n02:00:00 hourly\n03:00:00 hourly"; got != want {
			t.Errorf("ran\n%s\nwant\n%s", got, want)
		}
	})
}

func TestNeverTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		long := d.job("long", every(10*time.Minute), 25*time.Minute)
		long.CatchUp = true
		skipping := d.job("skips", every(10*time.Minute), 25*time.Minute)
		var skipped []string
		runFor(t, 69*time.Minute, Options{Now: time.Now, Jobs: []Job{long, skipping}, Events: Events{
			Skipped: func(name string, due time.Time) { skipped = append(skipped, name+due.UTC().Format(" 15:04")) },
		}})
		// long: at once, and again as soon as it ends, since it missed times meanwhile.
		want := "00:00:00 long\n00:10:00 skips\n00:25:00 long\n00:40:00 skips\n00:50:00 long"
		if got := d.text(); got != want {
			t.Errorf("ran\n%s\nwant\n%s", got, want)
		}
		if !slices.Equal(skipped, []string{"skips 00:20", "skips 00:50"}) {
			t.Errorf("skipped %q", skipped)
		}
	})
}

func TestCatchUpOnceAfterDowntime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jobs.json")
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		jobs := func() []Job {
			caught, skipped := d.job("caught", every(time.Hour), 0), d.job("skipped", every(time.Hour), 0)
			caught.CatchUp = true
			return []Job{caught, skipped}
		}
		runFor(t, 90*time.Minute, Options{Now: time.Now, Jobs: jobs(), History: file})
		time.Sleep(10 * time.Hour) // down
		runFor(t, 50*time.Minute, Options{Now: time.Now, Jobs: jobs(), History: file})
		// The runs at 01:00 begin together, in either order.
		lines := strings.Split(d.text(), "\n")
		slices.Sort(lines)
		want := []string{"00:00:00 caught", "01:00:00 caught", "01:00:00 skipped", "11:30:00 caught", "12:00:00 caught", "12:00:00 skipped"}
		if !slices.Equal(lines, want) {
			t.Errorf("ran %q\nwant %q", lines, want)
		}
		h, err := ReadHistory(file)
		if err != nil {
			t.Fatal(err)
		}
		rec := h.Jobs["caught"]
		if len(rec.Recent) != 4 || !rec.Recent[2].Late || rec.Recent[3].Late || rec.Recent[3].Result != ResultOK {
			t.Errorf("record = %+v", rec)
		}
	})
}

func TestBatchAndStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		var jobs []Job
		for i := range 20 {
			jobs = append(jobs, Job{Name: fmt.Sprintf("backup-%02d", i), Next: every(time.Hour), Jitter: 10 * time.Minute})
		}
		drill := d.job("drill", every(time.Hour), time.Minute)
		drill.Stage, drill.Jitter = 2, 10*time.Minute
		sync := d.job("sync", every(time.Hour), 2*time.Minute)
		sync.Stage, sync.Jitter = 1, 10*time.Minute
		jobs = append([]Job{drill, sync}, jobs...)
		var failed []string
		runFor(t, 80*time.Minute, Options{Now: time.Now, Jobs: jobs, Spread: 0.5,
			Batch: func(_ context.Context, names []string) map[string]error {
				d.note(fmt.Sprintf("batch of %d", len(names)))
				time.Sleep(3 * time.Minute)
				return map[string]error{"backup-07": errors.New("unreadable")}
			},
			Events: Events{Finished: func(name string, _ time.Duration, err error) {
				if err != nil {
					d.mu.Lock()
					defer d.mu.Unlock()
					failed = append(failed, name)
				}
			}},
		})
		want := "01:05:00 batch of 20\n01:08:00 sync\n01:10:00 drill"
		if got := d.text(); got != want {
			t.Errorf("ran\n%s\nwant\n%s", got, want)
		}
		if !slices.Equal(failed, []string{"backup-07"}) {
			t.Errorf("failed %q", failed)
		}
	})
}

func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		var jobs []Job
		for i := range 9 {
			jobs = append(jobs, Job{Name: fmt.Sprint(i), Next: every(time.Hour), Run: func(context.Context) error {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Minute)
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			}})
		}
		runFor(t, 70*time.Minute, Options{Now: time.Now, Jobs: jobs, AtOnce: 3})
		if most != 3 {
			t.Errorf("%d ran at once, want 3", most)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		file := filepath.Join(t.TempDir(), "jobs.json")
		job := d.job("backup", every(time.Hour), 10*time.Minute)
		runFor(t, 65*time.Minute, Options{Now: time.Now, Jobs: []Job{job}, History: file}) // stopped in the middle
		h, err := ReadHistory(file)
		if err != nil {
			t.Fatal(err)
		}
		rec := h.Jobs["backup"]
		if len(rec.Recent) != 1 || rec.Recent[0].Result != ResultStopped || !rec.Last.IsZero() || rec.Failures != 0 || rec.Attempts != 0 {
			t.Errorf("record = %+v", rec)
		}
		job.CatchUp = true
		runFor(t, time.Minute, Options{Now: time.Now, Jobs: []Job{job}, History: file})
		if d.count("backup") != 2 {
			t.Errorf("a stopped run was not begun again:\n%s", d.text())
		}
	})
}

func TestStopLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stubborn := Job{Name: "stubborn", Next: every(time.Hour), CatchUp: true, Run: func(context.Context) error { <-release; return nil }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Options{Now: time.Now, Jobs: []Job{stubborn}, StopWithin: 5 * time.Second})
		}()
		time.Sleep(time.Minute)
		stop()
		if err := <-done; !errors.Is(err, ErrStillRunning) || !strings.Contains(err.Error(), "stubborn") {
			t.Errorf("Run: %v", err)
		}
		close(release)
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		job := Job{Name: "flaky", Next: every(24 * time.Hour), Retry: 10 * time.Minute, Run: func(context.Context) error {
			d.note("flaky")
			return errors.New("503 SlowDown")
		}}
		runFor(t, 49*time.Hour, Options{Now: time.Now, Jobs: []Job{job}})
		want := "00:00:00 flaky\n00:10:00 flaky\n00:20:00 flaky\n00:30:00 flaky\n00:00:00 flaky"
		if got := d.text(); got != want {
			t.Errorf("ran\n%s\nwant\n%s", got, want)
		}
	})
}

func TestPanicIsOneJobsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		bad := Job{Name: "bad", Next: every(time.Hour), Run: func(context.Context) error { panic("boom") }}
		results, err := Once(t.Context(), Options{Now: time.Now, Jobs: []Job{bad, d.job("good", every(time.Hour), 0)}})
		if err != nil || len(results) != 0 {
			t.Fatalf("nothing was due: %v, %v", results, err)
		}
		bad.CatchUp = true
		results, err = Once(t.Context(), Options{Now: time.Now, Jobs: []Job{bad}})
		if err != nil || results["bad"] == nil || !strings.Contains(results["bad"].Error(), "boom") {
			t.Errorf("%v, %v", results, err)
		}
	})
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		file := filepath.Join(t.TempDir(), "jobs.json")
		job := d.job("backup", every(time.Hour), time.Minute)
		job.CatchUp = true
		opt := Options{Now: time.Now, Jobs: []Job{job}, History: file}
		for _, wait := range []time.Duration{0, time.Minute, 30 * time.Minute, 30 * time.Minute, 5 * time.Hour} {
			time.Sleep(wait)
			if _, err := Once(t.Context(), opt); err != nil {
				t.Fatal(err)
			}
		}
		want := "00:00:00 backup\n01:02:00 backup\n06:03:00 backup"
		if got := d.text(); got != want {
			t.Errorf("ran\n%s\nwant\n%s", got, want)
		}
	})
}

// jumpy is a wall clock that can be set.
type jumpy struct {
	mu     sync.Mutex
	offset time.Duration
}

func (j *jumpy) now() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Now().Add(j.offset)
}

func (j *jumpy) set(by time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.offset += by
}

func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jumpy{}
		d := newDiary(j.now)
		job := d.job("hourly", every(time.Hour), 0)
		job.CatchUp = true
		var back atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Options{Now: j.now, Jobs: []Job{job}, Events: Events{Clock: func(string, time.Duration) { back.Add(1) }}})
		}()
		time.Sleep(90 * time.Minute) // runs at 00:00 and 01:00
		j.set(365 * 24 * time.Hour)  // a year ahead: runs once, soon
		time.Sleep(5 * time.Minute)
		if d.count("hourly") != 3 {
			t.Errorf("after a jump ahead %d runs, want 3", d.count("hourly"))
		}
		j.set(-365 * 24 * time.Hour) // and back: the next hour counts, not the next year
		time.Sleep(time.Hour)
		if d.count("hourly") != 4 || back.Load() == 0 {
			t.Errorf("after a jump back %d runs, want 4; noticed %d", d.count("hourly"), back.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "jobs.json")
		job := Job{Name: "oom", Next: every(24 * time.Hour), CatchUp: true, Run: func(context.Context) error { return nil }}
		time.Sleep(time.Hour)
		for attempt := range attemptsMax + 2 {
			r, err := newRunner(Options{Now: time.Now, Jobs: []Job{job}, History: file})
			if err != nil {
				t.Fatal(err)
			}
			due, _ := r.due()
			if want := attempt < attemptsMax; (len(due) == 1) != want {
				t.Errorf("start %d: due %v, want %v", attempt, len(due) == 1, want)
			}
			if len(due) == 1 {
				r.begin(due, r.now()) // and the process dies here
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(24 * time.Hour)
		results, err := Once(t.Context(), Options{Now: time.Now, Jobs: []Job{job}, History: file})
		if err != nil || len(results) != 1 {
			t.Errorf("the next regular time: %v, %v", results, err)
		}
	})
}

func TestHistoryDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jobs.json")
	for _, text := range []string{"", "{", `{"version":9}`, `{"version":1,"jobs":{"a":7}}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var complained error
		ran := false
		job := Job{Name: "a", Next: every(time.Hour), CatchUp: true, Run: func(context.Context) error { ran = true; return nil }}
		if _, err := Once(t.Context(), Options{Now: time.Now, Jobs: []Job{job}, History: file, Events: Events{History: func(err error) { complained = err }}}); err != nil {
			t.Fatal(err)
		}
		if complained == nil || !ran {
			t.Errorf("%q: complained %v, ran %v", text, complained, ran)
		}
		if h, err := ReadHistory(file); err != nil || h.Jobs["a"].Last.IsZero() {
			t.Errorf("%q: not begun anew: %+v, %v", text, h, err)
		}
	}
	if h, err := ReadHistory(filepath.Join(t.TempDir(), "none")); err != nil || len(h.Jobs) != 0 {
		t.Errorf("a missing file: %v, %v", h, err)
	}
}

func TestRefusals(t *testing.T) {
	ok := Job{Name: "a", Next: every(time.Hour), Run: func(context.Context) error { return nil }}
	for want, jobs := range map[string][]Job{
		"two jobs are named": {ok, ok},
		"no timetable":       {{Name: "b", Run: ok.Run}},
		"nothing to run":     {{Name: "b", Next: ok.Next}},
	} {
		if err := Run(t.Context(), Options{Now: time.Now, Jobs: jobs}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestNextRun(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)
	job := Job{Next: every(time.Hour)}
	caught := Job{Next: every(time.Hour), CatchUp: true}
	for name, tt := range map[string]struct {
		job  Job
		rec  Record
		want time.Time
	}{
		"new":          {job, Record{}, now.Truncate(time.Hour).Add(time.Hour)},
		"new, at once": {caught, Record{}, now},
		"on time":      {job, Record{Last: now.Add(-5 * time.Minute)}, now.Truncate(time.Hour).Add(time.Hour)},
		"missed":       {job, Record{Last: now.Add(-5 * time.Hour)}, now.Truncate(time.Hour).Add(time.Hour)},
		"to catch up":  {caught, Record{Last: now.Add(-5 * time.Hour)}, now},
	} {
		if got := NextRun(tt.job, tt.rec, now); !got.Equal(tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"version":1,"jobs":{"a":{"seen_at":"2026-01-01T00:00:00Z","recent":[{"started_at":"2026-01-01T00:00:00Z","result":"ok"}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHistory(data)
		if err != nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(h.Jobs)) {
			rec := h.Jobs[name]
			rec.note(Outcome{Started: rec.Seen}, nil, false)
			if len(rec.Recent) > recentMax {
				t.Errorf("%d outcomes", len(rec.Recent))
			}
		}
	})
}

// TestNewJobs: a new list takes over at once, jobs at work end, what is remembered
// stays, and a list that is no good changes nothing.
func TestNewJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(time.Now)
		reload := make(chan []Job)
		var told []string
		opt := Options{Now: time.Now, Reload: reload, Jobs: []Job{d.job("old", every(time.Hour), 10*time.Minute), d.job("both", every(time.Hour), 0)},
			Events: Events{Reloaded: func(n int, err error) { told = append(told, fmt.Sprint(n, err != nil)) }}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, opt) }()
		time.Sleep(time.Until(every(time.Hour)(time.Now())) + time.Minute) // old is at work
		reload <- []Job{d.job("both", every(time.Hour), 0), d.job("new", every(time.Hour), 0)}
		time.Sleep(30 * time.Minute)
		if d.count("old") != 1 || d.count("both") != 1 || d.count("new") != 0 {
			t.Errorf("too early: %s", d.text())
		}
		reload <- []Job{{Name: "bad"}}
		time.Sleep(time.Hour)
		if d.count("old") != 1 || d.count("both") != 2 || d.count("new") != 1 {
			t.Errorf("an hour later: %s", d.text())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !slices.Equal(told, []string{"2 false", "1 true"}) {
			t.Errorf("told %v", told)
		}
	})
}
