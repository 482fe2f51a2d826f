package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"lifeboat/storage"
)

// Op is a verb of a Store that a fault can hit.
type Op string

// The verbs.
const (
	Put    Op = "put"
	Get    Op = "get"
	Stat   Op = "stat"
	List   Op = "list"
	Delete Op = "delete"
)

// ErrInjected is the cause of faults that have no error of their own.
var ErrInjected = errors.New("injected fault")

// Fault is a Store that fails as told. Use Faulty to make one.
type Fault struct {
	inner storage.Store
	mu    sync.Mutex
	rules []*Rule
}

// Faulty wraps a store; without rules it changes nothing.
func Faulty(inner storage.Store) *Fault { return &Fault{inner: inner} }

// On begins a rule for calls of one verb whose key (or listed prefix) begins
// with keyPrefix. Among rules that match a call, the first that is due acts. A
// rule does nothing until it is told what to do.
func (f *Fault) On(op Op, keyPrefix string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &Rule{fault: f, op: op, prefix: keyPrefix, times: -1}
	f.rules = append(f.rules, r)
	return r
}

// Heal drops all rules.
func (f *Fault) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// action is what a due rule does.
type action struct {
	err     error
	hang    bool
	tear    float64 // fraction that gets through
	torn    bool
	corrupt func([]byte) []byte
	hide    string
	hidden  bool
	slow    func(context.Context) error
}

// Rule is one scripted fault.
type Rule struct {
	fault  *Fault
	op     Op
	prefix string
	after  int // calls to let pass
	times  int // calls to hit; negative: all
	hits   int
	active bool
	act    action
}

// After lets n matching calls pass first.
func (r *Rule) After(n int) *Rule { return r.edit(func() { r.after = n }) }

// Times ends the fault after n hits.
func (r *Rule) Times(n int) *Rule { return r.edit(func() { r.times = n }) }

// Fail makes the call fail without reaching the store.
func (r *Rule) Fail(err error) *Rule { return r.do(action{err: err}) }

// Hang makes the call wait until its context is done.
func (r *Rule) Hang() *Rule { return r.do(action{hang: true}) }

// Tear lets a fraction (0 … 1) of the bytes through: a Put stores a torn object
// and fails with a temporary error, a Get's body breaks off, a List ends early
// with an error.
func (r *Rule) Tear(fraction float64) *Rule { return r.do(action{torn: true, tear: fraction}) }

// Corrupt changes bytes on their way, without an error.
func (r *Rule) Corrupt(change func(data []byte) []byte) *Rule { return r.do(action{corrupt: change}) }

// Hide makes listings silently leave out the keys that begin with keyPrefix.
func (r *Rule) Hide(keyPrefix string) *Rule {
	return r.do(action{hidden: true, hide: keyPrefix})
}

// Slow calls wait before the call, and before each read of a Get's body.
func (r *Rule) Slow(wait func(context.Context) error) *Rule { return r.do(action{slow: wait}) }

// Hits is how often the rule has acted.
func (r *Rule) Hits() int {
	r.fault.mu.Lock()
	defer r.fault.mu.Unlock()
	return r.hits
}

// FlipBit gives a change for Corrupt: one bit, counted from the start, is
// flipped; past the end it counts on from the start again.
func FlipBit(bit int) func([]byte) []byte {
	return func(data []byte) []byte {
		if len(data) > 0 {
			data[bit/8%len(data)] ^= 1 << (bit % 8)
		}
		return data
	}
}

func (r *Rule) edit(change func()) *Rule {
	r.fault.mu.Lock()
	defer r.fault.mu.Unlock()
	change()
	return r
}

func (r *Rule) do(a action) *Rule {
	return r.edit(func() { r.act, r.active = a, true })
}

// due gives what shall happen to a call; a zero action: nothing.
func (f *Fault) due(op Op, key string) action {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if !r.active || r.op != op || !strings.HasPrefix(key, r.prefix) || r.times == 0 {
			continue
		}
		if r.after > 0 {
			r.after--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		r.hits++
		return r.act
	}
	return action{}
}

// before does what a fault does ahead of a call.
func (a action) before(ctx context.Context) error {
	if a.err != nil {
		return a.err
	}
	if a.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if a.slow != nil {
		return a.slow(ctx)
	}
	return nil
}

// Put implements storage.Store.
func (f *Fault) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	a := f.due(Put, key)
	if err := a.before(ctx); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if a.corrupt != nil {
		data = a.corrupt(bytes.Clone(data))
		sum = sha256.Sum256(data)
	}
	if !a.torn {
		return f.inner.Put(ctx, key, data, sum)
	}
	part := data[:int(a.tear*float64(len(data)))]
	if err := f.inner.Put(ctx, key, part, sha256.Sum256(part)); err != nil {
		return err
	}
	return fmt.Errorf("put %s: %w", key, storage.Temporary(ErrInjected))
}

// Get implements storage.Store.
func (f *Fault) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	a := f.due(Get, key)
	if err := a.before(ctx); err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	body, info, err := f.inner.Get(ctx, key, offset, length)
	if err != nil || (!a.torn && a.corrupt == nil && a.slow == nil) {
		return body, info, err
	}
	if a.slow != nil {
		return &slowBody{ReadCloser: body, ctx: ctx, wait: a.slow}, info, nil
	}
	data, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, info, err
	}
	if a.corrupt != nil {
		return io.NopCloser(bytes.NewReader(a.corrupt(data))), info, nil
	}
	part := bytes.NewReader(data[:int(a.tear*float64(len(data)))])
	return io.NopCloser(io.MultiReader(part, brokenReader{})), info, nil
}

// Stat implements storage.Store.
func (f *Fault) Stat(ctx context.Context, key string) (storage.Info, error) {
	a := f.due(Stat, key)
	if err := a.before(ctx); err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return f.inner.Stat(ctx, key)
}

// List implements storage.Store.
func (f *Fault) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		a := f.due(List, opt.Prefix)
		if err := a.before(ctx); err != nil {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", opt.Prefix, err))
			return
		}
		infos, err := collect(f.inner.List(ctx, opt))
		if a.torn && err == nil {
			infos = infos[:int(a.tear*float64(len(infos)))]
			err = fmt.Errorf("list %s: %w", opt.Prefix, storage.Temporary(ErrInjected))
		}
		for _, info := range infos {
			if a.hidden && strings.HasPrefix(info.Key, a.hide) {
				continue
			}
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(storage.Info{}, err)
		}
	}
}

// Delete implements storage.Store.
func (f *Fault) Delete(ctx context.Context, key string) error {
	a := f.due(Delete, key)
	if err := a.before(ctx); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return f.inner.Delete(ctx, key)
}

func collect(seq iter.Seq2[storage.Info, error]) (infos []storage.Info, err error) {
	for info, err := range seq {
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type slowBody struct {
	io.ReadCloser
	ctx  context.Context
	wait func(context.Context) error
}

func (s *slowBody) Read(p []byte) (int, error) {
	if err := s.wait(s.ctx); err != nil {
		return 0, err
	}
	return s.ReadCloser.Read(p)
}
