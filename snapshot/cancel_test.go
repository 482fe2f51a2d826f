package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// noise writes files of bytes that do not compress.
func noise(t *testing.T, dir string, seed uint64, files, size int) {
	t.Helper()
	rng := newRand(seed)
	data := make([]byte, size)
	for i := range files {
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%03d", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// More workers than pack buffers: nobody waits for a buffer that nobody gives back.
func TestManyWorkersShareFewBuffers(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	noise(t, dir, 1, 64, 200<<10)
	for _, buffers := range []int{0, 1} {
		within(t, "a backup with many workers", func() {
			_, c, err := w.try(t.Context(), dir, attempt{workers: 6, required: 3, session: repo.SessionOptions{Buffers: buffers}})
			if err != nil {
				t.Error(err)
				return
			}
			w.whole(t, c.IDs[0])
		})
		noise(t, dir, 2, 64, 200<<10)
	}
}

// calm waits until no more goroutines run than before: all that were started have ended.
func calm(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		<-time.After(time.Millisecond)
	}
}

// faults wraps the world's regions; before is called with each request that anybody makes.
func (w *world) faults(before func(op storetest.Op, n int64) func(context.Context) error) []repo.Region {
	var n atomic.Int64
	var out []repo.Region
	for _, r := range w.regions {
		f := storetest.Faulty(r.Store)
		for _, op := range []storetest.Op{storetest.Put, storetest.Get, storetest.Stat, storetest.List} {
			f.On(op, "").Slow(func(ctx context.Context) error {
				if act := before(op, n.Add(1)); act != nil {
					return act(ctx)
				}
				return nil
			})
		}
		out = append(out, repo.Region{Name: r.Name, Store: f})
	}
	return out
}

// A backup that is cancelled at any request, in any stage, ends at once, leaves no
// goroutine behind, and the next one is whole.
func TestCancelAtAnyMoment(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	noise(t, dir, 1, 30, 300<<10)
	var requests atomic.Int64
	if _, _, err := w.try(t.Context(), dir, attempt{workers: 4, required: 3, regions: w.faults(func(storetest.Op, int64) func(context.Context) error {
		requests.Add(1)
		return nil
	})}); err != nil {
		t.Fatal(err)
	}
	total := requests.Load()
	before := runtime.NumGoroutine()
	rng := newRand(7)
	for round := range 24 {
		noise(t, dir, uint64(round), 30, 300<<10)
		ctx, cancel := context.WithCancel(t.Context())
		at := 1 + rng.Int64N(total+20)
		regions := w.faults(func(_ storetest.Op, n int64) func(context.Context) error {
			switch {
			case n < at:
				return nil
			case n == at:
				return func(context.Context) error { cancel(); return nil }
			case round%2 == 0: // and from then on no request is answered
				return func(ctx context.Context) error {
					select {
					case <-ctx.Done():
						return context.Cause(ctx)
					case <-time.After(200 * time.Millisecond):
						return storage.ErrUnreachable
					}
				}
			}
			return nil
		})
		within(t, fmt.Sprintf("round %d, cancelled at request %d", round, at), func() {
			_, c, err := w.try(ctx, dir, attempt{workers: 4, regions: regions})
			if err == nil && c == nil {
				t.Errorf("round %d: no error and no result", round)
			}
		})
		cancel()
		calm(t, before)
	}
	_, c, err := w.try(t.Context(), dir, attempt{workers: 4, required: 3})
	if err != nil {
		t.Fatal(err)
	}
	w.whole(t, c.IDs[0])
}

// Without any request in between: cancelled by the clock, while files are read.
func TestCancelWhileReading(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	noise(t, dir, 1, 4, 8<<20)
	if err := os.Mkdir(filepath.Join(dir, "small"), 0o755); err != nil {
		t.Fatal(err)
	}
	noise(t, filepath.Join(dir, "small"), 2, 500, 10<<10)
	before := runtime.NumGoroutine()
	rng := newRand(5)
	for round := range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(150))*time.Millisecond)
		within(t, fmt.Sprintf("round %d", round), func() {
			if _, c, err := w.try(ctx, dir, attempt{workers: 4}); c == nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("round %d: %v", round, err)
			}
		})
		cancel()
		calm(t, before)
	}
}

// A region that stops answering, one that fails in the middle, and one that is
// well: the backup ends, counts the well one alone, and is whole in it.
func TestRegionsFailInTheMiddle(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(f *storetest.Fault, n int)
		slow  time.Duration
	}{
		{"puts of packs fail", func(f *storetest.Fault, n int) {
			f.On(storetest.Put, "packs/").After(n).Fail(storage.ErrUnreachable)
		}, 0},
		{"all puts fail", func(f *storetest.Fault, n int) { f.On(storetest.Put, "").After(3 + n).Fail(storage.ErrNoSpace) }, 0},
		{"puts of packs hang", func(f *storetest.Fault, n int) { f.On(storetest.Put, "packs/").After(1 + n).Hang() }, 5 * time.Second}, // or a busy machine makes the others slow, too
		{"puts are torn", func(f *storetest.Fault, n int) { f.On(storetest.Put, "packs/").After(n).Tear(0.5) }, 0},
		{"puts of packs are lost", func(f *storetest.Fault, n int) { f.On(storetest.Stat, "packs/").Fail(storage.ErrNotFound) }, 0},
		{"statements are damaged on their way", func(f *storetest.Fault, n int) {
			f.On(storetest.Put, "journal/").After(2 + n%2).Corrupt(storetest.FlipBit(77))
		}, 0},
		{"the listing of packs is short", func(f *storetest.Fault, n int) { f.On(storetest.List, "packs/").Hide("packs/") }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			dir := t.TempDir()
			for n := range 3 {
				noise(t, dir, uint64(n), 12, 3<<20)
				fault := storetest.Faulty(w.regions[1].Store)
				tt.spoil(fault, n)
				regions := []repo.Region{w.regions[0], {Name: "b", Store: fault}, w.regions[2]}
				var c *repo.Committed
				within(t, tt.name, func() {
					var err error
					_, c, err = w.try(t.Context(), dir, attempt{workers: 4, required: 2, regions: regions, session: repo.SessionOptions{SlowRegion: tt.slow}})
					if err != nil && !strings.Contains(err.Error(), "index") {
						t.Errorf("run %d: %v", n, err)
					}
				})
				if t.Failed() {
					return
				}
				for i, res := range c.Regions {
					if res.State != "committed" {
						if i != 1 || res.Error == "" {
							t.Errorf("run %d: region %s: %s, %q", n, res.Name, res.State, res.Error)
						}
						continue
					}
					w.wholeIn(t, c.IDs[0], i)
				}
			}
		})
	}
}

// wholeIn is whole, from one region alone and without a cache.
func (w *world) wholeIn(t *testing.T, id string, region int) {
	t.Helper()
	alone := *w
	alone.t, alone.regions, alone.cache = t, w.regions[region:region+1], ""
	alone.whole(t, id)
}

// A snapshot that failed leaves nothing behind that the next one of the session
// counts on: what it was to store, and did not, the next one stores. It is
// cancelled while workers wait for a buffer, each with a chunk in hand.
func TestFailedSnapshotIsNotCountedOn(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	noise(t, dir, 1, 12, 6<<20)
	ctx := t.Context()
	short, cancel := context.WithCancel(ctx)
	regions := w.faults(func(op storetest.Op, _ int64) func(context.Context) error {
		if op != storetest.Put {
			return nil
		}
		return func(ctx context.Context) error {
			if short.Err() != nil {
				return nil
			}
			return storage.Sleep(ctx, 100*time.Millisecond)
		}
	})
	r, err := repo.Open(ctx, repo.Options{Regions: regions, State: w.state, CacheDir: w.cache})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 3, Now: w.now, Buffers: 1})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := snapshot.NewTaker(r, s, 4)
	if err != nil {
		t.Fatal(err)
	}
	opt := snapshot.Options{Workload: "first", Kind: "volume", Paths: []string{dir}, Now: w.now}
	read := opt
	read.Events.Progress = func(p snapshot.Progress) {
		if p.BytesRead > 40<<20 { // more than fits into the buffers
			cancel()
		}
	}
	if _, err := tk.Take(short, read); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first was to be cancelled: %v", err)
	}
	opt.Workload = "second"
	p, err := tk.Take(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := tk.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := s.Commit(ctx, []repo.Prepared{*p})
	if err := errors.Join(err, s.End(ctx, false)); err != nil {
		t.Fatal(err)
	}
	w.wholeIn(t, c.IDs[0], 0)
}

// One that cannot be sealed must not be committed either, whoever asks.
func TestPromisesAreKept(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	r := w.open(false)
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 3, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	id := [32]byte{1}
	if known, _, _, err := s.Known(ctx, id); known || err != nil {
		t.Fatal(known, err)
	}
	rid := r.ID()
	prepared := []repo.Prepared{{Manifest: &repo.Manifest{Type: "manifest", Version: 1, Repo: rid[:], Workload: "x"}}}
	if _, err := s.Commit(ctx, prepared); err == nil || !strings.Contains(err.Error(), "were to be stored") {
		t.Errorf("a chunk was claimed and not stored: %v", err)
	}
	s.Disclaim(id)
	if _, err := s.Commit(ctx, prepared); err != nil {
		t.Error(err)
	}
	if err := s.End(ctx, false); err != nil {
		t.Error(err)
	}
}
