package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/storage/repo"
)

// lockPoll is how often a held lock is tried again.
const lockPoll = 200 * time.Millisecond

// The holder of a lock has holderTries times holderPause to write down who it is.
const (
	holderTries = 20
	holderPause = 5 * time.Millisecond
)

// lockWorkload makes sure that one run at a time works on a workload on this
// host. The lock is the kernel's: it goes with the process, however that ends.
func (a *app) lockWorkload(ctx context.Context, name string) (unlock func(), err error) {
	dir := filepath.Join(a.stateDir(), "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock workload %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock workload %s: %w", name, err)
	}
	if err := a.waitLock(ctx, f); err != nil {
		holder := readHolder(ctx, f)
		f.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Fail{Code: Locked, Message: fmt.Sprintf("workload %s is being worked on by %s", name, holder),
			Hint: "wait for it, or use --lock-wait 10m", Err: errors.Join(err, repo.ErrInUse)}
	}
	host, _ := os.Hostname()
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("process %d on %s since %s\n", os.Getpid(), host, a.now().UTC().Format(time.RFC3339)))); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock workload %s: %w", name, err)
	}
	return func() {
		_ = f.Truncate(0) // the next holder is not taken for this one
		f.Close()
	}, nil
}

// readHolder tells who holds a lock. Whoever has only just taken it writes that
// down a moment later.
func readHolder(ctx context.Context, f *os.File) string {
	for range holderTries {
		text, _ := os.ReadFile(f.Name())
		if holder := strings.TrimSpace(string(text)); holder != "" || ctx.Err() != nil {
			return orElse(holder, "another process")
		}
		time.Sleep(holderPause)
	}
	return "another process"
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// waitLock tries until --lock-wait has passed.
func (a *app) waitLock(ctx context.Context, f *os.File) error {
	deadline := a.now().Add(a.opt.LockWait)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !a.now().Before(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func systemHost() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
