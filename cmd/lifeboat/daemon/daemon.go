// Package daemon runs named jobs when they are due: by their timetable, once
// after downtime, never twice at once, with what happened kept in a small file.
// It knows jobs only as functions; it knows nothing of backups, configuration
// or signals, and prints nothing.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Limits and timing of the loop.
const (
	lookMax       = 30 * time.Second // the clock is looked at least this often: it may jump
	lateMax       = time.Minute      // a start later than this was missed
	clockSlack    = time.Minute      // a last run this far in the future means that the clock went back
	retriesMax    = 3                // after failures, before the next regular time
	attemptsMax   = 3                // starts without an end (crashes), before the next regular time
	atOnceDefault = 4                // jobs at once
	stopDefault   = time.Minute      // for running jobs to end
	jobsMax       = 100_000
)

// ErrStillRunning is returned by Run when jobs did not end within StopWithin.
var ErrStillRunning = errors.New("jobs are still running")

// Job is something to run when due.
type Job struct {
	Name string
	// Next gives the first due time after the given one; the zero time is never.
	Next func(after time.Time) time.Time
	// Jitter is the most that a start may be moved back; Options.Spread chooses.
	Jitter time.Duration
	// CatchUp runs the job once when a time was missed, and at once when it has
	// never run. Otherwise missed times are skipped.
	CatchUp bool
	// Retry runs a failed job again after this long, up to three times; 0 waits
	// for its next regular time.
	Retry time.Duration
	// Stage orders jobs that come due at the same moment: all of a lower stage
	// end before the next begins.
	Stage int
	// Run does the work. When it is nil, the job is handed to Options.Batch
	// together with all others that are due.
	Run func(ctx context.Context) error
}

// Options say what to run, and in which world.
type Options struct {
	Jobs []Job
	// Batch runs several jobs as one; the map tells the error of each name that
	// failed. A name without an entry succeeded.
	Batch func(ctx context.Context, names []string) map[string]error
	// History is the file that remembers runs; "" remembers nothing.
	History string
	// Now is the wall clock.
	Now func() time.Time
	// Spread is this host's place in every jitter window, 0 to 1. One number for
	// all jobs keeps those that are due together, together.
	Spread float64
	// AtOnce is how many jobs run at the same time; 0 is 4. A batch counts as one.
	AtOnce int
	// StopWithin is how long running jobs get to end; 0 is a minute.
	StopWithin time.Duration
	// Reload brings new lists of jobs while Run is at work; nil brings none. Jobs
	// at work end as they began; what is remembered of a name stays. A list that is
	// no good is reported and changes nothing.
	Reload <-chan []Job
	Events Events
}

// Events report what the loop does. Nil fields are left out. They may be
// called from several goroutines.
type Events struct {
	Started  func(name string, late time.Duration)
	Finished func(name string, took time.Duration, err error)
	Skipped  func(name string, due time.Time) // missed, and not to be caught up
	Clock    func(name string, ahead time.Duration)
	History  func(err error)           // the file could not be read or written
	Waiting  func(next time.Time)      // what is due was begun; zero: nothing else will be
	Reloaded func(jobs int, err error) // a new list was taken, or refused
}

// Run runs jobs until ctx ends, then waits for those at work. It returns nil
// after a clean stop.
func Run(ctx context.Context, opt Options) error {
	r, err := newRunner(opt)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		next := r.round(ctx)
		r.sleep(ctx, next)
	}
	return r.stop()
}

// Once runs what is due and returns when it has ended. The map holds every job
// that ran, with nil for success.
func Once(ctx context.Context, opt Options) (map[string]error, error) {
	r, err := newRunner(opt)
	if err != nil {
		return nil, err
	}
	due, _ := r.due()
	r.launch(ctx, due)
	r.work.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results, ctx.Err()
}

// runner is the state of one Run or Once.
type runner struct {
	opt  Options
	work sync.WaitGroup
	room chan struct{} // holds a token per job at work
	woke chan struct{} // a job has ended

	mu      sync.Mutex
	history History
	running map[string]bool
	results map[string]error
}

func newRunner(opt Options) (*runner, error) {
	if err := opt.check(opt.Jobs); err != nil {
		return nil, err
	}
	if opt.AtOnce <= 0 {
		opt.AtOnce = atOnceDefault
	}
	if opt.StopWithin <= 0 {
		opt.StopWithin = stopDefault
	}
	opt.Spread = min(max(opt.Spread, 0), 1)
	r := &runner{
		opt: opt, room: make(chan struct{}, opt.AtOnce), woke: make(chan struct{}, 1),
		running: map[string]bool{}, results: map[string]error{},
	}
	r.load()
	return r, nil
}

// check tells why a list of jobs cannot be run.
func (opt *Options) check(jobs []Job) error {
	if len(jobs) > jobsMax {
		return fmt.Errorf("%d jobs are more than %d", len(jobs), jobsMax)
	}
	seen := map[string]bool{}
	for _, j := range jobs {
		switch {
		case seen[j.Name]:
			return fmt.Errorf("two jobs are named %q", j.Name)
		case j.Next == nil || (j.Run == nil && opt.Batch == nil):
			return fmt.Errorf("job %q has no timetable or nothing to run", j.Name)
		}
		seen[j.Name] = true
	}
	return nil
}

// replace takes over a new list of jobs.
func (r *runner) replace(jobs []Job) {
	err := r.opt.check(jobs)
	if err == nil {
		r.mu.Lock()
		r.opt.Jobs = jobs
		r.mu.Unlock()
	}
	if r.opt.Events.Reloaded != nil {
		r.opt.Events.Reloaded(len(jobs), err)
	}
}

// now is the wall clock without the monotonic reading, since runs are compared
// with times from a file and the machine may have slept.
func (r *runner) now() time.Time { return r.opt.Now().Round(0) }

// round starts what is due and tells when to look again.
func (r *runner) round(ctx context.Context) time.Time {
	due, next := r.due()
	if len(due) > 0 {
		r.launch(ctx, due)
	}
	if r.opt.Events.Waiting != nil {
		r.opt.Events.Waiting(next)
	}
	return next
}

// sleep waits until next, until a job ends, new jobs come or ctx ends, but not
// long: the clock may be set while we sleep.
func (r *runner) sleep(ctx context.Context, next time.Time) {
	wait := lookMax
	if !next.IsZero() {
		wait = min(wait, max(next.Sub(r.now()), time.Millisecond))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.woke:
	case jobs := <-r.opt.Reload:
		r.replace(jobs)
	case <-ctx.Done():
	}
}

// stop waits for running jobs, within the limit.
func (r *runner) stop() error {
	ended := make(chan struct{})
	go func() {
		r.work.Wait()
		close(ended)
	}()
	timer := time.NewTimer(r.opt.StopWithin)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.running {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("stop after %s: %w: %v", r.opt.StopWithin, ErrStillRunning, names)
}

// dueJob is a job whose time has come.
type dueJob struct {
	Job
	late time.Duration
}

// due lists jobs whose time has come and that are not running, and the
// earliest time of the others.
func (r *runner) due() (due []dueJob, next time.Time) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for _, job := range r.opt.Jobs {
		if r.running[job.Name] {
			continue
		}
		rec, known := r.history.Jobs[job.Name]
		if !known {
			rec.Seen = now
			r.history.Jobs[job.Name] = rec
			changed = true
		}
		at := r.dueAt(job, &rec, now)
		if late := now.Sub(at); !at.IsZero() && late >= 0 {
			if late > lateMax && !job.CatchUp {
				r.skip(job, &rec, at, now)
				changed = true
				at = r.dueAt(job, &rec, now)
			} else {
				due = append(due, dueJob{job, late})
				continue
			}
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if changed {
		r.save()
	}
	return due, next
}

// dueAt is when a job is to run next, given what happened to it.
func (r *runner) dueAt(job Job, rec *Record, now time.Time) time.Time {
	base := rec.Last
	if rec.Attempts >= attemptsMax && rec.Started.After(base) {
		base = rec.Started // it brings the process down: leave it until its next time
	}
	if base.IsZero() {
		if job.CatchUp {
			return now
		}
		base = rec.Seen
	}
	if ahead := base.Sub(now); ahead > clockSlack {
		if r.opt.Events.Clock != nil {
			r.opt.Events.Clock(job.Name, ahead)
		}
		rec.Last, rec.Seen, rec.Started, base = now, now, now, now
		r.history.Jobs[job.Name] = *rec
	}
	at := job.Next(base)
	if !at.IsZero() {
		at = at.Add(time.Duration(r.opt.Spread * float64(job.Jitter)))
	}
	if job.Retry > 0 && rec.Failures > 0 && rec.Failures <= retriesMax && base.Equal(rec.Last) {
		if again := rec.Finished.Add(job.Retry); at.IsZero() || again.Before(at) {
			at = again
		}
	}
	return at
}

// skip passes over a missed time.
func (r *runner) skip(job Job, rec *Record, at, now time.Time) {
	if r.opt.Events.Skipped != nil {
		r.opt.Events.Skipped(job.Name, at)
	}
	rec.Last = now
	r.history.Jobs[job.Name] = *rec
}
