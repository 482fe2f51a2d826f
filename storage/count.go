package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
)

// Counts are the requests that went to a region, and the bytes of their bodies.
// Failed requests count: they cost too.
type Counts struct {
	Puts, Gets, Stats, Lists, Deletes atomic.Int64
	Sent, Received                    atomic.Int64 // bytes
}

// listPage is how many entries a region gives per request of a listing.
const listPage = 1000

// Requests is the number of requests of all kinds.
func (c *Counts) Requests() int64 {
	return c.Puts.Load() + c.Gets.Load() + c.Stats.Load() + c.Lists.Load() + c.Deletes.Load()
}

// String gives the counts in one line.
func (c *Counts) String() string {
	return fmt.Sprintf("%d put, %d get, %d stat, %d list, %d delete, %d bytes sent, %d received",
		c.Puts.Load(), c.Gets.Load(), c.Stats.Load(), c.Lists.Load(), c.Deletes.Load(), c.Sent.Load(), c.Received.Load())
}

// WithCount counts what passes through. A listing counts as one request for
// every thousand entries.
func WithCount(s Store) (Store, *Counts) {
	c := &counted{Store: s}
	return c, &c.counts
}

type counted struct {
	Store
	counts Counts
}

func (c *counted) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	c.counts.Puts.Add(1)
	c.counts.Sent.Add(int64(len(data)))
	return c.Store.Put(ctx, key, data, sum)
}

func (c *counted) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	c.counts.Gets.Add(1)
	body, info, err := c.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	return &countedBody{ReadCloser: body, received: &c.counts.Received}, info, nil
}

func (c *counted) Stat(ctx context.Context, key string) (Info, error) {
	c.counts.Stats.Add(1)
	return c.Store.Stat(ctx, key)
}

func (c *counted) Delete(ctx context.Context, key string) error {
	c.counts.Deletes.Add(1)
	return c.Store.Delete(ctx, key)
}

func (c *counted) List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		c.counts.Lists.Add(1)
		seen := 0
		for info, err := range c.Store.List(ctx, opt) {
			if seen++; seen > listPage {
				seen = 1
				c.counts.Lists.Add(1)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

type countedBody struct {
	io.ReadCloser
	received *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.received.Add(int64(n))
	return n, err
}
