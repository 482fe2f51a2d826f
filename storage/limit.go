package storage

import (
	"context"
	"io"
	"iter"
	"sync"
)

// WithLimit lets at most n requests run at once; more wait, in order. A region
// that asks for fewer (IsSlowDown) gets half as many, and each full round of
// successes earns one back. A Get counts until its body is read to the end or
// closed; a List counts only while it fetches, not while its consumer works.
func WithLimit(s Store, n int) Store {
	n = max(n, 1)
	return &limited{Store: s, gate: &gate{most: n, limit: n}}
}

type limited struct {
	Store
	gate *gate
}

func (l *limited) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if err := l.gate.enter(ctx); err != nil {
		return err
	}
	err := l.Store.Put(ctx, key, data, sum)
	l.gate.leave(err)
	return err
}

func (l *limited) Stat(ctx context.Context, key string) (Info, error) {
	if err := l.gate.enter(ctx); err != nil {
		return Info{}, err
	}
	info, err := l.Store.Stat(ctx, key)
	l.gate.leave(err)
	return info, err
}

func (l *limited) Delete(ctx context.Context, key string) error {
	if err := l.gate.enter(ctx); err != nil {
		return err
	}
	err := l.Store.Delete(ctx, key)
	l.gate.leave(err)
	return err
}

func (l *limited) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := l.gate.enter(ctx); err != nil {
		return nil, Info{}, err
	}
	body, info, err := l.Store.Get(ctx, key, offset, length)
	if err != nil {
		l.gate.leave(err)
		return nil, info, err
	}
	return &gated{ReadCloser: body, gate: l.gate}, info, nil
}

func (l *limited) List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := l.gate.enter(ctx); err != nil {
			yield(Info{}, err)
			return
		}
		inside := true
		defer func() {
			if inside {
				l.gate.leave(nil)
			}
		}()
		for info, err := range l.Store.List(ctx, opt) {
			l.gate.leave(err)
			inside = false
			if !yield(info, err) {
				return
			}
			if err := l.gate.enter(ctx); err != nil {
				yield(Info{}, err)
				return
			}
			inside = true
		}
	}
}

// gated is a body that holds its place until it ends.
type gated struct {
	io.ReadCloser
	gate *gate
	once sync.Once
}

func (g *gated) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if err != nil {
		g.release(err)
	}
	return n, err
}

func (g *gated) Close() error {
	err := g.ReadCloser.Close()
	g.release(err)
	return err
}

func (g *gated) release(err error) { g.once.Do(func() { g.gate.leave(err) }) }

// gate is a semaphore whose limit moves: half on a wish for fewer requests, one
// more for each full round of successes.
type gate struct {
	mu      sync.Mutex
	most    int // what was configured
	limit   int // what holds now, 1 … most
	inside  int
	good    int // successes since the limit moved
	waiting []chan struct{}
}

func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.inside < g.limit && len(g.waiting) == 0 {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(turn)
		return ctx.Err()
	}
}

// giveUp takes a waiter out of the queue, or gives back the place it just got.
func (g *gate) giveUp(turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
	g.inside--
	g.admit()
}

func (g *gate) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	switch {
	case IsSlowDown(err):
		g.limit = max(1, g.limit/2)
		g.good = 0
	case err == nil || err == io.EOF:
		if g.good++; g.good >= g.limit && g.limit < g.most {
			g.limit++
			g.good = 0
		}
	}
	g.admit()
}

// admit lets waiters in. The caller holds the lock.
func (g *gate) admit() {
	for g.inside < g.limit && len(g.waiting) > 0 {
		g.inside++
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}
