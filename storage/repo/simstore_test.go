package repo_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

var (
	errSimCrashed = errors.New("the process is dead")
	errSimUnknown = errors.New("no answer came")
)

// simRegion is one region of the simulated world. Only the scheduler touches mem.
type simRegion struct {
	name, nonce string
	mem         *storetest.Mem
	copies      []*storetest.Mem

	// Guarded by simWorld.mu; only the scheduler changes gen and wiped.
	gen   int  // rollbacks and wipes so far
	wiped bool // and not restored since
	dirty bool // its journal is to be judged again
}

// simCall is one request of one actor, waiting to be served.
type simCall struct {
	actor  *simActor
	region *simRegion
	op     storetest.Op
	key    string
	data   []byte
	opt    storage.ListOptions
	offset int64
	length int64
	done   chan struct{}

	err   error
	body  []byte
	info  storage.Info
	infos []storage.Info
}

// order sorts the waiting calls in a way that does not hang on hashes.
func (c *simCall) order(o *simCall) int {
	return cmp.Or(cmp.Compare(c.actor.number, o.actor.number), strings.Compare(c.region.name, o.region.name),
		strings.Compare(string(c.op), string(o.op)), strings.Compare(c.key, o.key))
}

func (c *simCall) String() string {
	what := string(c.op)
	key := c.key
	if parts := strings.Split(key, "/"); len(parts) > 2 {
		for i, p := range parts {
			parts[i] = p[:min(len(p), 20)]
		}
		key = strings.Join(parts, "/")
	}
	return fmt.Sprintf("%s %s in %s: %s", c.actor.name, what, c.region.name, key)
}

// simStore is a region as one actor sees it: every call waits for its turn.
type simStore struct {
	w      *simWorld
	actor  *simActor
	region *simRegion
}

func (s *simStore) call(op storetest.Op, key string) *simCall {
	return &simCall{actor: s.actor, region: s.region, op: op, key: key, done: make(chan struct{})}
}

// park hands the call to the scheduler and waits for the answer.
func (s *simStore) park(ctx context.Context, c *simCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.w.mu.Lock()
	if s.actor.dead {
		s.w.mu.Unlock()
		return errSimCrashed
	}
	s.w.pending = append(s.w.pending, c)
	s.w.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		s.w.giveUp(c)
		return context.Cause(ctx)
	}
}

// giveUp takes a call back whose caller no longer waits; a put may land later.
func (w *simWorld) giveUp(c *simCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.pending, c); i >= 0 {
		w.pending = slices.Delete(w.pending, i, i+1)
		if c.op == storetest.Put {
			w.flying = append(w.flying, c)
		}
	}
}

// Put implements storage.Store.
func (s *simStore) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if sum != sha256.Sum256(data) {
		s.w.fail("%s puts %s with a wrong checksum", s.actor.name, key)
	}
	c := s.call(storetest.Put, key)
	c.data = bytes.Clone(data)
	if s.actor.alive() { // a dead process says nothing, though its goroutines run on for a while
		s.w.heard(key, sum)
	}
	return s.park(ctx, c)
}

// Get implements storage.Store.
func (s *simStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	c := s.call(storetest.Get, key)
	c.offset, c.length = offset, length
	if err := s.park(ctx, c); err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	return io.NopCloser(bytes.NewReader(c.body)), c.info, nil
}

// Stat implements storage.Store.
func (s *simStore) Stat(ctx context.Context, key string) (storage.Info, error) {
	c := s.call(storetest.Stat, key)
	if err := s.park(ctx, c); err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return c.info, nil
}

// List implements storage.Store. The whole listing is one request.
func (s *simStore) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		c := s.call(storetest.List, opt.Prefix)
		c.opt = opt
		err := s.park(ctx, c)
		for _, info := range c.infos {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", opt.Prefix, err))
		}
	}
}

// Delete implements storage.Store.
func (s *simStore) Delete(ctx context.Context, key string) error {
	s.w.fail("%s deletes %s", s.actor.name, key)
	return storage.ErrDenied
}

// serve carries a call out, well or badly. The scheduler calls it.
func (w *simWorld) serve(c *simCall) {
	if w.blocked[blockKey{c.actor.host.name, c.region.name}] {
		if c.op == storetest.Put && w.chance(w.weather.late) {
			w.fly(c)
		}
		c.err = storage.Temporary(storage.ErrUnreachable)
		return
	}
	switch c.op {
	case storetest.Put:
		w.servePut(c)
	case storetest.Get:
		w.serveGet(c)
	case storetest.Stat:
		if w.chance(w.weather.read) {
			c.err = storage.Temporary(errSimUnknown)
			return
		}
		c.info, c.err = c.region.mem.Stat(context.Background(), c.key)
	case storetest.List:
		w.serveList(c)
	}
}

func (w *simWorld) servePut(c *simCall) {
	h := &w.weather
	switch {
	case w.chance(h.lost):
		c.err = storage.Temporary(errSimUnknown)
		w.note("  lost")
	case w.chance(h.landed):
		w.land(c)
		c.err = storage.Temporary(errSimUnknown)
		w.note("  landed, no answer")
	case w.chance(h.late):
		w.fly(c)
		c.err = storage.Temporary(errSimUnknown)
		w.note("  late")
	case w.chance(h.silent) && !strings.HasSuffix(c.key, storage.SentinelName):
		w.note("  said to have landed, but lost")
	case w.chance(h.torn) && c.region.mem.Bytes(c.key) == nil: // the contract forbids it; what is there stays whole at least
		w.place(c.region, c.key, c.data[:w.rng.IntN(len(c.data))])
		c.err = storage.Temporary(errSimUnknown)
		w.note("  torn")
	default:
		w.land(c)
	}
}

// land makes a put take effect.
func (w *simWorld) land(c *simCall) { w.place(c.region, c.key, c.data) }

func (w *simWorld) place(r *simRegion, key string, data []byte) {
	if err := r.mem.Put(context.Background(), key, data, sha256.Sum256(data)); err != nil {
		w.fail("%v", err)
	}
	if strings.HasPrefix(key, storage.JournalPrefix) {
		w.soil(r)
	}
}

func (w *simWorld) serveGet(c *simCall) {
	if w.chance(w.weather.read) {
		c.err = storage.Temporary(errSimUnknown)
		return
	}
	body, info, err := c.region.mem.Get(context.Background(), c.key, c.offset, c.length)
	if err != nil {
		c.err = err
		return
	}
	c.info = info
	c.body, c.err = io.ReadAll(body)
}

// serveList may fail, break off, or hide objects without a word.
func (w *simWorld) serveList(c *simCall) {
	for info := range c.region.mem.List(context.Background(), c.opt) {
		c.infos = append(c.infos, info)
	}
	switch {
	case w.chance(w.weather.read):
		c.infos = c.infos[:w.rng.IntN(len(c.infos)+1)]
		c.err = storage.Temporary(errSimUnknown)
	case w.chance(w.weather.hide):
		share := w.rng.Float64()
		c.infos = slices.DeleteFunc(c.infos, func(i storage.Info) bool { return w.chance(share) })
		w.note("  lies, shows %d", len(c.infos))
	}
}
