package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/cmd/lifeboat/daemon"
)

const (
	notifyTimeout = 5 * time.Second // for a service manager that is busy
	namedJobs     = 3               // of those at work, in a status; the others are counted
)

// notify tells systemd about the state of a service, such as "READY=1" or
// "STATUS=3 jobs at work", as sd_notify(3) does. Without NOTIFY_SOCKET it does nothing.
func (a *app) notify(state string) error {
	path := a.getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@…" is an abstract one
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// service is the daemon as a service manager sees it. What is told keeps its order.
type service struct {
	a         *app
	mu        sync.Mutex
	running   []string
	next      time.Time // when the next job is due; zero: none but those at work
	said      string    // the last status
	ready     bool      // the jobs were scheduled
	reloading bool
	stopping  bool
	failed    bool // the last word did not arrive
}

// listen puts the service beside the log: what happens is told to both.
func (s *service) listen(to daemon.Events) daemon.Events {
	both := to
	both.Started = func(name string, late time.Duration) {
		to.Started(name, late)
		s.change(func() []string {
			s.running = append(s.running, name)
			return nil
		})
	}
	both.Finished = func(name string, took time.Duration, err error) {
		to.Finished(name, took, err)
		s.change(func() []string {
			if i := slices.Index(s.running, name); i >= 0 {
				s.running = slices.Delete(s.running, i, i+1)
			}
			return nil
		})
	}
	both.Waiting = func(next time.Time) {
		to.Waiting(next)
		s.change(func() (words []string) {
			s.next = next
			if !s.ready && !s.reloading && !s.stopping { // the end of a reload says it as well
				s.ready = true
				words = []string{"READY=1"}
			}
			return words
		})
	}
	both.Reloaded = func(jobs int, err error) {
		to.Reloaded(jobs, err)
		s.reloaded()
	}
	return both
}

// change takes over what happened, and tells what it gives, with the status if that is
// another one now.
func (s *service) change(what func() (words []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := what()
	if status := s.status(); status != s.said {
		s.said = status
		words = append(words, "STATUS="+status)
	}
	if len(words) == 0 {
		return
	}
	err := s.a.notify(strings.Join(words, "\n"))
	if err != nil && !s.failed {
		s.a.log.Warn("the service manager does not hear", "error", err)
	}
	s.failed = err != nil
}

// reload says that the configuration is read again; reloaded, that it was, be the new
// one in force or refused.
func (s *service) reload() {
	var now unix.Timespec
	words := []string{"RELOADING=1"}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		words = append(words, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
	}
	s.change(func() []string {
		if s.stopping {
			return nil
		}
		s.reloading = true
		return words
	})
}

func (s *service) reloaded() {
	s.change(func() []string {
		if !s.reloading || s.stopping {
			return nil
		}
		s.reloading, s.ready = false, true
		return []string{"READY=1"}
	})
}

// stop says that the daemon ends, once.
func (s *service) stop() {
	s.change(func() []string {
		if s.stopping {
			return nil
		}
		s.stopping = true
		return []string{"STOPPING=1"}
	})
}

// stopWith says so as soon as ctx ends. The returned function says it at the latest.
func (s *service) stopWith(ctx context.Context) (last func()) {
	free := context.AfterFunc(ctx, s.stop)
	return func() {
		free()
		s.stop()
	}
}

func (s *service) status() string {
	names := strings.Join(s.running[:min(len(s.running), namedJobs)], ", ")
	if more := len(s.running) - namedJobs; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	switch {
	case s.stopping && names != "":
		return "stopping: " + names
	case s.stopping:
		return "stopping"
	case names != "":
		return "running: " + names
	case s.next.IsZero():
		return "waiting"
	}
	return "waiting: the next job is due at " + s.next.UTC().Format(time.RFC3339)
}
