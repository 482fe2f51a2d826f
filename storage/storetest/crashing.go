package storetest

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"lifeboat/storage"
)

// ErrCrashed is what every call gives after the crash.
var ErrCrashed = errors.New("the process is dead")

// Crash is a Store whose client dies at a chosen call. Use Crashing to make one.
type Crash struct {
	inner storage.Store
	mu    sync.Mutex
	left  int
	lands bool
	calls int
}

// Crashing lets calls succeed until the n-th (counted from 1), at which the
// client dies: that call and all later ones give ErrCrashed. With lands, the
// fatal call still takes effect on the region, as a request does whose answer
// never came.
func Crashing(inner storage.Store, n int, lands bool) *Crash {
	return &Crash{inner: inner, left: n, lands: lands}
}

// Calls is how many calls were made, those after the crash included.
func (c *Crash) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Crashed says whether the fatal call was reached.
func (c *Crash) Crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left <= 0
}

// step counts a call: alive says whether it returns, reaches whether it has an
// effect.
func (c *Crash) step() (alive, reaches bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.left <= 0 {
		return false, false
	}
	c.left--
	return c.left > 0, c.left > 0 || c.lands
}

// Put implements storage.Store.
func (c *Crash) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	alive, reaches := c.step()
	var err error
	if reaches {
		err = c.inner.Put(ctx, key, data, sum)
	}
	if !alive {
		return ErrCrashed
	}
	return err
}

// Get implements storage.Store.
func (c *Crash) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	if alive, _ := c.step(); !alive {
		return nil, storage.Info{}, ErrCrashed
	}
	return c.inner.Get(ctx, key, offset, length)
}

// Stat implements storage.Store.
func (c *Crash) Stat(ctx context.Context, key string) (storage.Info, error) {
	if alive, _ := c.step(); !alive {
		return storage.Info{}, ErrCrashed
	}
	return c.inner.Stat(ctx, key)
}

// List implements storage.Store.
func (c *Crash) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if alive, _ := c.step(); !alive {
			yield(storage.Info{}, ErrCrashed)
			return
		}
		c.inner.List(ctx, opt)(yield)
	}
}

// Delete implements storage.Store.
func (c *Crash) Delete(ctx context.Context, key string) error {
	alive, reaches := c.step()
	var err error
	if reaches {
		err = c.inner.Delete(ctx, key)
	}
	if !alive {
		return ErrCrashed
	}
	return err
}
