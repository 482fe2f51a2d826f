package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// launch marks jobs as running and works through them in the background, one
// stage after the other.
func (r *runner) launch(ctx context.Context, due []dueJob) {
	slices.SortStableFunc(due, func(a, b dueJob) int { return cmp.Compare(a.Stage, b.Stage) })
	r.mu.Lock()
	for _, job := range due {
		r.running[job.Name] = true
	}
	r.mu.Unlock()
	r.work.Go(func() {
		for len(due) > 0 {
			n := 1
			for n < len(due) && due[n].Stage == due[0].Stage {
				n++
			}
			r.stage(ctx, due[:n])
			due = due[n:]
		}
	})
}

// stage runs jobs side by side: the batch as one, the others each.
func (r *runner) stage(ctx context.Context, jobs []dueJob) {
	var together []dueJob
	var parts sync.WaitGroup
	for _, job := range jobs {
		if job.Run == nil {
			together = append(together, job)
			continue
		}
		parts.Go(func() {
			r.admitted(ctx, []dueJob{job}, func(ctx context.Context) map[string]error {
				return map[string]error{job.Name: job.Run(ctx)}
			})
		})
	}
	if len(together) > 0 {
		parts.Go(func() {
			names := make([]string, len(together))
			for i, job := range together {
				names[i] = job.Name
			}
			r.admitted(ctx, together, func(ctx context.Context) map[string]error { return r.opt.Batch(ctx, names) })
		})
	}
	parts.Wait()
}

// admitted waits for room, runs work, and records how it went for each job.
func (r *runner) admitted(ctx context.Context, jobs []dueJob, work func(context.Context) map[string]error) {
	select {
	case r.room <- struct{}{}:
		defer func() { <-r.room }()
	case <-ctx.Done():
		r.release(jobs)
		return
	}
	if ctx.Err() != nil { // both were ready: do not begin what would be stopped
		r.release(jobs)
		return
	}
	began := r.now()
	r.begin(jobs, began)
	errs := guarded(ctx, jobs, work)
	r.finish(ctx, jobs, began, errs)
}

// release forgets jobs that never began.
func (r *runner) release(jobs []dueJob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, job := range jobs {
		delete(r.running, job.Name)
	}
}

// guarded turns a panic of a job into its error: one bad job must not end the others.
func guarded(ctx context.Context, jobs []dueJob, work func(context.Context) map[string]error) (errs map[string]error) {
	defer func() {
		if p := recover(); p != nil {
			errs = map[string]error{}
			for _, job := range jobs {
				errs[job.Name] = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}
	}()
	return work(ctx)
}

func (r *runner) begin(jobs []dueJob, began time.Time) {
	r.mu.Lock()
	for _, job := range jobs {
		rec := r.history.Jobs[job.Name]
		rec.Started = began
		rec.Attempts++
		r.history.Jobs[job.Name] = rec
	}
	r.save()
	r.mu.Unlock()
	if r.opt.Events.Started != nil {
		for _, job := range jobs {
			r.opt.Events.Started(job.Name, job.late)
		}
	}
}

// finish records the outcome. A job that was stopped from outside has not run:
// it is due again at the next start.
func (r *runner) finish(ctx context.Context, jobs []dueJob, began time.Time, errs map[string]error) {
	ended := r.now()
	took := max(ended.Sub(began), 0)
	r.mu.Lock()
	for _, job := range jobs {
		err := errs[job.Name]
		rec := r.history.Jobs[job.Name]
		rec.Attempts = 0
		rec.Finished = ended
		if err == nil || ctx.Err() == nil {
			rec.Last = began
		}
		rec.note(Outcome{Started: began, DurationMS: took.Milliseconds(), Late: job.late > lateMax}, err, ctx.Err() != nil)
		r.history.Jobs[job.Name] = rec
		r.results[job.Name] = err
		delete(r.running, job.Name)
	}
	r.save()
	r.mu.Unlock()
	if r.opt.Events.Finished != nil {
		for _, job := range jobs {
			r.opt.Events.Finished(job.Name, took, errs[job.Name])
		}
	}
	select {
	case r.woke <- struct{}{}:
	default: // the loop has been woken already
	}
}

// errorTextMax bounds what is kept of an error.
const errorTextMax = 1000

// note adds an outcome and counts it.
func (rec *Record) note(out Outcome, err error, stopped bool) {
	switch {
	case err == nil:
		out.Result = ResultOK
		rec.Succeeded = out.Started
		rec.Failures = 0
	case stopped:
		out.Result = ResultStopped
	default:
		out.Result = ResultFailed
		rec.Failures++
	}
	if err != nil {
		out.Error = err.Error()
		if len(out.Error) > errorTextMax {
			out.Error = out.Error[:errorTextMax]
		}
		if errors.Is(err, context.Canceled) && stopped {
			out.Error = "stopped"
		}
	}
	rec.Recent = append(rec.Recent, out)
	if n := len(rec.Recent); n > recentMax {
		rec.Recent = slices.Clone(rec.Recent[n-recentMax:])
	}
}
