package storage

import (
	"context"
	"errors"
	"time"
)

// mark carries what a store knows about an error beyond its text.
type mark struct {
	err  error
	slow bool
}

func (m *mark) Error() string   { return m.err.Error() }
func (m *mark) Unwrap() error   { return m.err }
func (m *mark) Temporary() bool { return true }
func (m *mark) SlowDown() bool  { return m.slow }

// Temporary marks an error as worth trying again unchanged. nil stays nil.
func Temporary(err error) error {
	if err == nil {
		return nil
	}
	return &mark{err: err}
}

// SlowDown marks an error as temporary and as the region's wish for fewer
// requests (503 SlowDown, 429). nil stays nil.
func SlowDown(err error) error {
	if err == nil {
		return nil
	}
	return &mark{err: err, slow: true}
}

// IsTemporary says whether the same call may succeed later. Only errors that a
// Store has marked are temporary: an unknown error is reported, not repeated.
func IsTemporary(err error) bool {
	var m *mark
	return errors.As(err, &m) && !isFinal(err)
}

// IsSlowDown says whether the region asked for fewer requests.
func IsSlowDown(err error) bool {
	var m *mark
	return errors.As(err, &m) && m.slow
}

// isFinal is true of errors that no repetition cures.
func isFinal(err error) bool {
	for _, final := range [...]error{ErrNotFound, ErrCorrupt, ErrDenied, ErrNoSpace, ErrNoBucket, ErrReadOnly} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// Sleep waits for d, or until ctx is done, whose error it then gives.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
