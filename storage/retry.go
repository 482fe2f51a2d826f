package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

// Backoff says how WithRetry repeats temporary errors: full jitter between
// nothing and a bound that doubles from First up to Most.
type Backoff struct {
	First time.Duration // bound of the first wait; 0 means 200 ms
	Most  time.Duration // bound of every wait; 0 means 20 s
	Tries int           // attempts of one call, the first included; 0 means 6
	// Budget is how many retries the whole store may spend in a burst; ten calls
	// that succeed earn one back. It keeps a region that is down from costing
	// Tries attempts on every call. 0 means 64, negative means no bound.
	Budget int

	Rand  func() float64                                   // in [0,1); nil means math/rand
	Sleep func(ctx context.Context, d time.Duration) error // nil means Sleep

	// Retried is told of every retry: the call, the attempt that failed
	// (counted from 1) and its error. May be nil.
	Retried func(verb, key string, attempt int, err error)
}

const (
	retryFirstDefault  = 200 * time.Millisecond
	retryMostDefault   = 20 * time.Second
	retryTriesDefault  = 6
	unreachableTries   = 2 // each of them has waited for a whole timeout already
	retryBudgetDefault = 64
	retryEarned        = 0.1 // retries that a success earns
)

// WithRetry repeats calls that end with a temporary error, and resumes bodies
// and listings where they broke off. It never repeats what cannot get better,
// and stops as soon as the context does.
func WithRetry(s Store, b Backoff) Store {
	if b.First <= 0 {
		b.First = retryFirstDefault
	}
	if b.Most <= 0 {
		b.Most = retryMostDefault
	}
	if b.Tries <= 0 {
		b.Tries = retryTriesDefault
	}
	if b.Budget == 0 {
		b.Budget = retryBudgetDefault
	}
	if b.Rand == nil {
		b.Rand = rand.Float64
	}
	if b.Sleep == nil {
		b.Sleep = Sleep
	}
	return &retry{Store: s, b: b, budget: float64(b.Budget)}
}

type retry struct {
	Store
	b Backoff

	mu     sync.Mutex
	budget float64 // retries left
}

func (r *retry) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	return r.do(ctx, "put", key, func() error { return r.Store.Put(ctx, key, data, sum) })
}

func (r *retry) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.do(ctx, "stat", key, func() error {
		info, err = r.Store.Stat(ctx, key)
		return err
	})
	return info, err
}

func (r *retry) Delete(ctx context.Context, key string) error {
	return r.do(ctx, "delete", key, func() error { return r.Store.Delete(ctx, key) })
}

func (r *retry) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	body, info, err := r.open(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	start, n, err := Span(info.Size, offset, length)
	if err != nil {
		return nil, info, errors.Join(err, body.Close())
	}
	return &resumer{retry: r, ctx: ctx, key: key, body: body, size: info.Size, offset: start, left: n}, info, nil
}

func (r *retry) open(ctx context.Context, key string, offset, length int64) (body io.ReadCloser, info Info, err error) {
	err = r.do(ctx, "get", key, func() error {
		body, info, err = r.Store.Get(ctx, key, offset, length)
		return err
	})
	return body, info, err
}

func (r *retry) List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for attempt := 1; ; attempt++ {
			last := opt.StartAfter
			err, stopped := listPart(ctx, r.Store, &opt, yield)
			if stopped {
				return
			}
			if err == nil {
				r.earn()
				return
			}
			if opt.StartAfter != last {
				attempt = 1 // it got further
			}
			if err = r.again(ctx, "list", opt.Prefix, attempt, err); err != nil {
				yield(Info{}, err)
				return
			}
		}
	}
}

// listPart passes a listing on until it ends or breaks, and keeps in opt where
// it came to.
func listPart(ctx context.Context, s Store, opt *ListOptions, yield func(Info, error) bool) (err error, stopped bool) {
	for info, err := range s.List(ctx, *opt) {
		if err != nil {
			return err, false
		}
		opt.StartAfter = info.Key
		if !yield(info, nil) {
			return nil, true
		}
	}
	return nil, false
}

// do runs call until it succeeds, fails for good, or has used its attempts.
func (r *retry) do(ctx context.Context, verb, key string, call func() error) error {
	for attempt := 1; ; attempt++ {
		err := call()
		if err == nil {
			r.earn()
			return nil
		}
		if err := r.again(ctx, verb, key, attempt, err); err != nil {
			return err
		}
	}
}

// again waits before the next attempt. It gives the error to return when there
// shall be none.
func (r *retry) again(ctx context.Context, verb, key string, attempt int, err error) error {
	if ctx.Err() != nil || !IsTemporary(err) {
		return err
	}
	if attempt >= r.b.Tries || errors.Is(err, ErrUnreachable) && attempt >= unreachableTries {
		return fmt.Errorf("%w (after %d tries)", err, attempt)
	}
	if !r.spend() {
		return fmt.Errorf("%w (no retries left: too many calls fail)", err)
	}
	if r.b.Retried != nil {
		r.b.Retried(verb, key, attempt, err)
	}
	bound := r.b.Most
	if shift := attempt - 1; shift < 32 && r.b.First < r.b.Most>>shift {
		bound = r.b.First << shift
	}
	if serr := r.b.Sleep(ctx, time.Duration(r.b.Rand()*float64(bound))); serr != nil {
		return errors.Join(err, serr)
	}
	return nil
}

func (r *retry) spend() bool {
	if r.b.Budget < 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.budget < 1 {
		return false
	}
	r.budget--
	return true
}

func (r *retry) earn() {
	if r.b.Budget < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget = min(r.budget+retryEarned, float64(r.b.Budget))
}

// resumer reads a range of one object and reopens it where it broke off. A clean
// end before the last byte is a broken connection, not the end.
type resumer struct {
	retry   *retry
	ctx     context.Context
	key     string
	body    io.ReadCloser
	size    int64 // of the whole object: it must not change underway
	offset  int64 // of the next byte
	left    int64
	attempt int // reopenings since the last byte came
}

func (r *resumer) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	for {
		n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
		r.offset += int64(n)
		r.left -= int64(n)
		if n > 0 {
			r.attempt = 0
		}
		if n > 0 || err == nil {
			return n, nil // a broken body says so again
		}
		if err := r.reopen(err); err != nil {
			return 0, fmt.Errorf("get %s at byte %d: %w", r.key, r.offset, err)
		}
	}
}

// reopen goes on where the body broke off with cause.
func (r *resumer) reopen(cause error) error {
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	if isFinal(cause) {
		return cause
	}
	r.attempt++
	// Whatever broke a body that had begun well is worth another attempt.
	if err := r.retry.again(r.ctx, "get", r.key, r.attempt, Temporary(cause)); err != nil {
		return err
	}
	_ = r.body.Close() // broken already
	r.body = io.NopCloser(eofReader{})
	body, info, err := r.retry.open(r.ctx, r.key, r.offset, r.left)
	if err != nil {
		return err
	}
	r.body = body
	if info.Size != r.size {
		return fmt.Errorf("%w: its size changed from %d to %d while it was read", ErrCorrupt, r.size, info.Size)
	}
	return nil
}

func (r *resumer) Close() error { return r.body.Close() }

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }
