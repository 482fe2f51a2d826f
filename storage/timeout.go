package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Timeouts are the limits that WithTimeout sets. A zero means no limit.
type Timeouts struct {
	// Op bounds a Stat, a Delete, the opening of a Get, each step of a List, and
	// the fixed part of a Put.
	Op time.Duration
	// PerMiB is what a Put gets on top of Op for every MiB.
	PerMiB time.Duration
	// NoProgress bounds one read of a Get's body: no byte for so long, and the
	// read fails. Time that the reader spends elsewhere does not count.
	NoProgress time.Duration
}

// WithTimeout makes every call end: what takes longer than its limit fails with
// a temporary ErrUnreachable. A Put that ran out of time may still land.
func WithTimeout(s Store, t Timeouts) Store { return &timeout{Store: s, t: t} }

type timeout struct {
	Store
	t Timeouts
}

func (t *timeout) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	limit := t.t.Op
	if limit > 0 {
		limit += time.Duration(float64(t.t.PerMiB) * float64(len(data)) / (1 << 20))
	}
	w := newWatchdog(ctx, limit)
	defer w.end()
	w.start()
	return w.explain(t.Store.Put(w.ctx, key, data, sum))
}

func (t *timeout) Stat(ctx context.Context, key string) (Info, error) {
	w := newWatchdog(ctx, t.t.Op)
	defer w.end()
	w.start()
	info, err := t.Store.Stat(w.ctx, key)
	return info, w.explain(err)
}

func (t *timeout) Delete(ctx context.Context, key string) error {
	w := newWatchdog(ctx, t.t.Op)
	defer w.end()
	w.start()
	return w.explain(t.Store.Delete(w.ctx, key))
}

func (t *timeout) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	w := newWatchdog(ctx, t.t.Op)
	w.start()
	body, info, err := t.Store.Get(w.ctx, key, offset, length)
	w.stop()
	if err != nil {
		w.end()
		return nil, info, w.explain(err)
	}
	w.limit = t.t.NoProgress
	return &watched{body: body, w: w}, info, nil
}

func (t *timeout) List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		w := newWatchdog(ctx, t.t.Op)
		defer w.end()
		w.start()
		for info, err := range t.Store.List(w.ctx, opt) {
			w.stop()
			if !yield(info, w.explain(err)) {
				return
			}
			w.start()
		}
	}
}

// watched is a body whose reads are watched.
type watched struct {
	body io.ReadCloser
	w    *watchdog
}

func (b *watched) Read(p []byte) (int, error) {
	b.w.start()
	n, err := b.body.Read(p)
	b.w.stop()
	if err == io.EOF {
		return n, err
	}
	return n, b.w.explain(err)
}

func (b *watched) Close() error {
	defer b.w.end()
	return b.body.Close()
}

// errSlow is the cause of a context that a watchdog cancelled.
var errSlow = errors.New("took too long")

// watchdog cancels a context when a step takes longer than limit.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer
}

func newWatchdog(ctx context.Context, limit time.Duration) *watchdog {
	w := &watchdog{limit: limit}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// start begins a step.
func (w *watchdog) start() {
	if w.limit <= 0 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, func() { w.cancel(errSlow) })
		return
	}
	w.timer.Reset(w.limit)
}

// stop ends a step.
func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watchdog) end() {
	w.stop()
	w.cancel(nil)
}

// explain turns an error that the watchdog caused into what it means.
func (w *watchdog) explain(err error) error {
	if err == nil || !errors.Is(context.Cause(w.ctx), errSlow) {
		return err
	}
	return Temporary(fmt.Errorf("%w: no answer in %v: %w", ErrUnreachable, w.limit, err))
}
