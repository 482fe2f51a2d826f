package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// interruption is the cause of a context that a signal ended.
type interruption struct{ signal os.Signal }

func (i interruption) Error() string { return i.signal.String() }

func (i interruption) code() Code {
	if i.signal == syscall.SIGTERM {
		return Terminated
	}
	return Interrupted
}

// interruptible ends the context at the first SIGINT or SIGTERM, with the
// signal as its cause, and the process at the second.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(interruption{s})
		case <-done:
			return
		}
		select {
		case s := <-signals:
			os.Exit(int(interruption{s}.code()))
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// watch tells the user at once when the run is being stopped, and answers
// SIGUSR1 with one status line, even with -q. The returned function ends it.
func (a *app) watch(ctx context.Context) (stop func()) {
	status := make(chan os.Signal, 1)
	signal.Notify(status, syscall.SIGUSR1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		interrupted := ctx.Done()
		for {
			select {
			case <-interrupted:
				interrupted = nil
				if _, ok := context.Cause(ctx).(interruption); ok {
					a.note("stopping cleanly; what is stored is kept. Interrupt again to stop at once")
				}
			case <-status:
				a.printStatus()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(status)
		close(done)
		<-ended
	}
}

// printStatus prints one line about the run so far.
func (a *app) printStatus() {
	line := a.progress.status()
	if a.events != nil {
		a.events.send("progress", a.progress.look().event())
	}
	if !a.opt.isJSON() {
		a.progress.print(a.stderr, "lifeboat: "+a.kind+": "+line+", running "+formatDuration(a.now().Sub(a.started).Round(time.Second))+"\n")
	}
}
