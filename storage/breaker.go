package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// Breaker is a Store that stops asking a region that does not answer.
type Breaker struct {
	inner Store
	most  int // failures in a row

	mu     sync.Mutex
	failed int
	cause  error // what opened it; nil while it lets calls through
}

// WithBreaker lets n operations fail in a row; after that every call fails at
// once with ErrUnreachable, until Reset. A missing object is an answer, and a
// cancelled call says nothing about the region: neither counts.
func WithBreaker(s Store, n int) *Breaker { return &Breaker{inner: s, most: max(n, 1)} }

// Guesses is the store for requests of which nobody knows yet whether they are
// needed. Many of them go out at the same moment, so that their failures would
// trip the breaker at once, for one reason: they do not count.
func Guesses(s Store) Store {
	if b, ok := s.(*Breaker); ok && b.Tripped() == nil {
		return b.inner
	}
	return s
}

// Reset lets calls through again.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.cause = 0, nil
}

// Tripped gives the error that made the breaker stop; nil while it lets calls
// through.
func (b *Breaker) Tripped() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cause
}

// Put implements Store.
func (b *Breaker) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if err := b.refuse("put", key); err != nil {
		return err
	}
	return b.note(ctx, b.inner.Put(ctx, key, data, sum))
}

// Get implements Store. A body that breaks counts like a call.
func (b *Breaker) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := b.refuse("get", key); err != nil {
		return nil, Info{}, err
	}
	body, info, err := b.inner.Get(ctx, key, offset, length)
	if err = b.note(ctx, err); err != nil {
		return nil, info, err
	}
	return &noted{ReadCloser: body, b: b, ctx: ctx}, info, nil
}

// Stat implements Store.
func (b *Breaker) Stat(ctx context.Context, key string) (Info, error) {
	if err := b.refuse("stat", key); err != nil {
		return Info{}, err
	}
	info, err := b.inner.Stat(ctx, key)
	return info, b.note(ctx, err)
}

// List implements Store.
func (b *Breaker) List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := b.refuse("list", opt.Prefix); err != nil {
			yield(Info{}, err)
			return
		}
		for info, err := range b.inner.List(ctx, opt) {
			if !yield(info, b.note(ctx, err)) {
				return
			}
		}
	}
}

// Delete implements Store.
func (b *Breaker) Delete(ctx context.Context, key string) error {
	if err := b.refuse("delete", key); err != nil {
		return err
	}
	return b.note(ctx, b.inner.Delete(ctx, key))
}

func (b *Breaker) refuse(verb, key string) error {
	cause := b.Tripped()
	if cause == nil {
		return nil
	}
	if !isFinal(cause) {
		cause = errors.New(cause.Error()) // its mark would have the refusal retried
	}
	return fmt.Errorf("%s %s: %w: given up after %d failures in a row, the last: %w", verb, key, ErrUnreachable, b.most, cause)
}

func (b *Breaker) note(ctx context.Context, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		b.failed = 0
	case ctx.Err() != nil, errors.Is(err, ErrCorrupt):
	default:
		if b.failed++; b.failed >= b.most && b.cause == nil {
			b.cause = err
		}
	}
	return err
}

type noted struct {
	io.ReadCloser
	b   *Breaker
	ctx context.Context
}

func (n *noted) Read(p []byte) (int, error) {
	c, err := n.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		return c, n.b.note(n.ctx, err)
	}
	return c, err
}
