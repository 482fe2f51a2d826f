package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

var errTest = errors.New("as told")

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func put(t *testing.T, s storage.Store, key string) error {
	t.Helper()
	return s.Put(t.Context(), key, []byte(key), sha256.Sum256([]byte(key)))
}

// Every wrapper keeps the contract.
func TestWrappersConform(t *testing.T) {
	wrappers := map[string]func(storage.Store) storage.Store{
		"retry":     func(s storage.Store) storage.Store { return storage.WithRetry(s, storage.Backoff{}) },
		"timeout":   func(s storage.Store) storage.Store { return storage.WithTimeout(s, storage.Timeouts{}) },
		"timeouts":  func(s storage.Store) storage.Store { return storage.WithTimeout(s, long) },
		"limit":     func(s storage.Store) storage.Store { return storage.WithLimit(s, 1) },
		"breaker":   func(s storage.Store) storage.Store { return storage.WithBreaker(s, 5) },
		"bandwidth": func(s storage.Store) storage.Store { return storage.WithBandwidth(s, wide()) },
		"count":     func(s storage.Store) storage.Store { s, _ = storage.WithCount(s); return s },
	}
	for name, wrap := range wrappers {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(*testing.T) storage.Store { return wrap(storetest.Memory()) })
		})
	}
}

var long = storage.Timeouts{Op: time.Minute, PerMiB: time.Minute, NoProgress: time.Minute}

func wide() storage.Bandwidth { return storage.Bandwidth{Up: 1 << 40, Down: 1 << 40, Now: time.Now} }

func TestMarks(t *testing.T) {
	if storage.Temporary(nil) != nil || storage.SlowDown(nil) != nil {
		t.Error("nil was marked")
	}
	wrapped := fmt.Errorf("put: %w", storage.SlowDown(errTest))
	if !storage.IsTemporary(wrapped) || !storage.IsSlowDown(wrapped) || !errors.Is(wrapped, errTest) {
		t.Error("a mark is lost in wrapping")
	}
	if storage.IsSlowDown(storage.Temporary(errTest)) || storage.IsTemporary(errTest) || storage.IsTemporary(nil) {
		t.Error("a mark that was not made")
	}
	for _, final := range []error{storage.ErrNotFound, storage.ErrCorrupt, storage.ErrDenied, storage.ErrNoSpace} {
		if storage.IsTemporary(storage.Temporary(final)) {
			t.Errorf("%v is temporary", final)
		}
	}
}

func TestRetry(t *testing.T) {
	for _, op := range []storetest.Op{storetest.Put, storetest.Get, storetest.Stat, storetest.List, storetest.Delete} {
		faulty := storetest.Faulty(storetest.Memory())
		s := storage.WithRetry(faulty, storage.Backoff{Tries: 4, Sleep: noSleep})
		call := func() error {
			switch op {
			case storetest.Put:
				return put(t, s, "k")
			case storetest.Get:
				_, _, err := storage.ReadAll(t.Context(), s, "k", 100)
				return err
			case storetest.Stat:
				_, err := s.Stat(t.Context(), "k")
				return err
			case storetest.List:
				_, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
				return err
			}
			return s.Delete(t.Context(), "other")
		}
		if err := put(t, s, "k"); err != nil {
			t.Fatal(err)
		}
		rule := faulty.On(op, "").Fail(storage.Temporary(errTest)).Times(3)
		if err := call(); err != nil || rule.Hits() != 3 {
			t.Errorf("%s: %d faults, %v", op, rule.Hits(), err)
		}
		rule = faulty.On(op, "").Fail(storage.Temporary(errTest))
		if err := call(); !errors.Is(err, errTest) || rule.Hits() != 4 {
			t.Errorf("%s: %d tries, %v", op, rule.Hits(), err)
		}
		faulty.Heal()
		for _, final := range []error{errTest, storage.ErrDenied, storage.Temporary(storage.ErrNoSpace)} {
			rule = faulty.On(op, "").Fail(final)
			if err := call(); !errors.Is(err, final) || rule.Hits() != 1 {
				t.Errorf("%s: %d tries of %v, %v", op, rule.Hits(), final, err)
			}
			faulty.Heal()
		}
	}
}

// Waits are uniformly random below a bound that doubles up to Most.
func TestBackoff(t *testing.T) {
	faulty := storetest.Faulty(storetest.Memory())
	var waits []time.Duration
	s := storage.WithRetry(faulty, storage.Backoff{
		First: 100 * time.Millisecond, Most: time.Second, Tries: 7, Rand: func() float64 { return 0.5 },
		Sleep: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
	})
	faulty.On(storetest.Put, "").Fail(storage.Temporary(errTest))
	if err := put(t, s, "k"); err == nil {
		t.Error("no error")
	}
	want := []time.Duration{50, 100, 200, 400, 500, 500}
	for i, w := range want {
		if i >= len(waits) || waits[i] != w*time.Millisecond {
			t.Fatalf("waits %v, want %v ms", waits, want)
		}
	}
}

func TestRetryBudget(t *testing.T) {
	faulty := storetest.Faulty(storetest.Memory())
	s := storage.WithRetry(faulty, storage.Backoff{Tries: 4, Budget: 7, Sleep: noSleep})
	rule := faulty.On(storetest.Put, "").Fail(storage.Temporary(errTest))
	for range 10 {
		if err := put(t, s, "k"); err == nil {
			t.Error("no error")
		}
	}
	if rule.Hits() != 10+7 {
		t.Errorf("%d attempts, want 10 calls and 7 retries", rule.Hits())
	}
	faulty.Heal()
	for range 20 { // earns two retries
		if err := put(t, s, "k"); err != nil {
			t.Error(err)
		}
	}
	rule = faulty.On(storetest.Put, "").Fail(storage.Temporary(errTest))
	if err := put(t, s, "k"); err == nil || rule.Hits() != 3 {
		t.Errorf("%d attempts, %v", rule.Hits(), err)
	}
}

func TestRetryStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	faulty := storetest.Faulty(storetest.Memory())
	rule := faulty.On(storetest.Stat, "").Fail(storage.Temporary(errTest))
	s := storage.WithRetry(faulty, storage.Backoff{Sleep: func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}})
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, context.Canceled) || !errors.Is(err, errTest) || rule.Hits() != 1 {
		t.Errorf("%d tries, %v", rule.Hits(), err)
	}
}

// A body that breaks goes on where it broke, for ranges of every kind.
func TestResume(t *testing.T) {
	data := storetest.Pattern(100_000)
	mem := storetest.Memory()
	storetest.MustPut(t, mem, "k", data)
	for _, r := range [][2]int64{{0, -1}, {10, -1}, {-50_000, -1}, {500, 70_000}, {99_999, 5}} {
		faulty := storetest.Faulty(mem)
		rule := faulty.On(storetest.Get, "k").Tear(0.5).Times(4)
		s := storage.WithRetry(faulty, storage.Backoff{Tries: 6, Sleep: noSleep})
		body, _, err := s.Get(t.Context(), "k", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			t.Errorf("%v: %v", r, err)
		}
		start, n, _ := storage.Span(int64(len(data)), r[0], r[1])
		if !bytes.Equal(got, data[start:start+n]) || rule.Hits() == 0 {
			t.Errorf("%v: %d bytes, want %d; %d faults", r, len(got), n, rule.Hits())
		}
	}
}

func TestResumeGivesUp(t *testing.T) {
	mem := storetest.Memory()
	storetest.MustPut(t, mem, "k", storetest.Pattern(1000))
	faulty := storetest.Faulty(mem)
	rule := faulty.On(storetest.Get, "k").Tear(0) // never a byte
	s := storage.WithRetry(faulty, storage.Backoff{Tries: 5, Sleep: noSleep})
	if _, _, err := storage.ReadAll(t.Context(), s, "k", 1000); err == nil || rule.Hits() != 5 {
		t.Errorf("%d tries, %v", rule.Hits(), err)
	}
}

// An object that is another one after the break must not be glued together.
func TestResumeSeesReplacement(t *testing.T) {
	mem := storetest.Memory()
	storetest.MustPut(t, mem, "k", storetest.Pattern(1000))
	faulty := storetest.Faulty(mem)
	faulty.On(storetest.Get, "k").Tear(0.5).Times(1)
	s := storage.WithRetry(faulty, storage.Backoff{Sleep: func(context.Context, time.Duration) error {
		mem.Change("k", func(b []byte) []byte { return b[:999] })
		return nil
	}})
	if _, _, err := storage.ReadAll(t.Context(), s, "k", 1000); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestListResumes(t *testing.T) {
	mem := storetest.Memory()
	for i := range 100 {
		storetest.MustPut(t, mem, fmt.Sprintf("p/%03d", i), nil)
	}
	faulty := storetest.Faulty(mem)
	rule := faulty.On(storetest.List, "p/").Tear(0.3).Times(9)
	s := storage.WithRetry(faulty, storage.Backoff{Tries: 3, Sleep: noSleep})
	infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: "p/"}, 1000)
	if err != nil || len(infos) != 100 || rule.Hits() != 9 {
		t.Errorf("%d keys, %d breaks, %v", len(infos), rule.Hits(), err)
	}
	for i, info := range infos {
		if info.Key != fmt.Sprintf("p/%03d", i) {
			t.Fatalf("at %d: %s", i, info.Key)
		}
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.Memory()
		storetest.MustPut(t, mem, "k", storetest.Pattern(1000))
		faulty := storetest.Faulty(mem)
		s := storage.WithTimeout(faulty, storage.Timeouts{Op: 30 * time.Second, PerMiB: time.Second, NoProgress: 10 * time.Second})
		for _, op := range []storetest.Op{storetest.Put, storetest.Get, storetest.Stat, storetest.List, storetest.Delete} {
			faulty.On(op, "").Hang()
		}
		data := storetest.Pattern(4 << 20)
		calls := map[string]struct {
			call func() error
			want time.Duration
		}{
			"put":    {func() error { return s.Put(t.Context(), "p", data, sha256.Sum256(data)) }, 34 * time.Second},
			"get":    {func() error { _, _, err := s.Get(t.Context(), "k", 0, -1); return err }, 30 * time.Second},
			"stat":   {func() error { _, err := s.Stat(t.Context(), "k"); return err }, 30 * time.Second},
			"delete": {func() error { return s.Delete(t.Context(), "k") }, 30 * time.Second},
			"list": {func() error {
				_, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
				return err
			}, 30 * time.Second},
		}
		for name, tt := range calls {
			began := time.Now()
			err := tt.call()
			if took := time.Since(began); took != tt.want || !errors.Is(err, storage.ErrUnreachable) || !storage.IsTemporary(err) {
				t.Errorf("%s: after %v: %v", name, took, err)
			}
		}
	})
}

// The time between reads is the reader's own; the time inside one is bounded.
func TestNoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.Memory()
		storetest.MustPut(t, mem, "k", storetest.Pattern(1000))
		faulty := storetest.Faulty(mem)
		slow := 9 * time.Second
		faulty.On(storetest.Get, "").Slow(func(ctx context.Context) error { return storage.Sleep(ctx, slow) })
		s := storage.WithTimeout(faulty, storage.Timeouts{Op: 10 * time.Second, NoProgress: 10 * time.Second})
		body, _, err := s.Get(t.Context(), "k", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		buf := make([]byte, 100)
		for range 3 {
			if _, err := io.ReadFull(body, buf); err != nil {
				t.Errorf("a slow read: %v", err)
			}
			if err := storage.Sleep(t.Context(), time.Hour); err != nil { // fake time: the consumer is busy
				t.Fatal(err)
			}
		}
		slow = time.Hour
		if _, err := body.Read(buf); !errors.Is(err, storage.ErrUnreachable) || !storage.IsTemporary(err) {
			t.Errorf("a stuck read: %v", err)
		}
	})
}

func TestTimeoutKeepsCallersCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	faulty := storetest.Faulty(storetest.Memory())
	faulty.On(storetest.Stat, "").Slow(func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() })
	s := storage.WithTimeout(faulty, long)
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// crowd counts how many requests are inside at once.
type crowd struct {
	storage.Store
	inside, most atomic.Int32
	slow         atomic.Bool
}

func (c *crowd) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	if err := storage.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if c.slow.Load() {
		return storage.SlowDown(errTest)
	}
	return c.Store.Put(ctx, key, data, sum)
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{Store: storetest.Memory()}
		s := storage.WithLimit(c, 8)
		round := func(n int) (most int32, took time.Duration) {
			c.most.Store(0)
			began := time.Now()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { _ = put(t, s, fmt.Sprint("k", i)) })
			}
			wg.Wait()
			return c.most.Load(), time.Since(began)
		}
		if most, took := round(32); most != 8 || took != 4*time.Second {
			t.Errorf("at most %d at once, in %v", most, took)
		}
		c.slow.Store(true)
		for range 10 { // down to one at a time, never to none
			round(1)
		}
		if most, _ := round(4); most != 1 {
			t.Errorf("%d at once after the region asked for fewer", most)
		}
		c.slow.Store(false)
		round(1 + 2 + 3 + 4 + 5 + 6 + 7)
		if most, _ := round(32); most != 8 {
			t.Errorf("%d at once after it recovered", most)
		}
	})
}

// A waiter that gives up leaves the queue, and its place to others.
func TestLimitGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.Memory()
		storetest.MustPut(t, mem, "k", []byte("x"))
		s := storage.WithLimit(mem, 1)
		body, _, err := s.Get(t.Context(), "k", 0, -1) // holds the only place
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Stat(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := body.Close(); err != nil {
			t.Fatal(err)
		}
		_ = body.Close() // the place is given back once
		for range 3 {
			if _, err := s.Stat(t.Context(), "k"); err != nil {
				t.Error(err)
			}
		}
	})
}

// A consumer may use the store while it lists, even with a single place.
func TestLimitInsideList(t *testing.T) {
	mem := storetest.Memory()
	for i := range 5 {
		storetest.MustPut(t, mem, fmt.Sprint("k", i), []byte("x"))
	}
	s := storage.WithLimit(mem, 1)
	for info, err := range s.List(t.Context(), storage.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := storage.ReadAll(t.Context(), s, info.Key, 10); err != nil {
			t.Error(err)
		}
		if info.Key == "k3" {
			break
		}
	}
	if _, err := s.Stat(t.Context(), "k0"); err != nil {
		t.Error(err)
	}
}

func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.Memory()
		s := storage.WithBandwidth(mem, storage.Bandwidth{Up: 1 << 20, Down: 2 << 20, Now: time.Now})
		began := time.Now()
		for i := range 4 {
			storetest.MustPut(t, s, fmt.Sprint("k", i), storetest.Pattern(1<<20))
		}
		if took := time.Since(began); took < 3*time.Second || took > 3*time.Second+time.Millisecond {
			t.Errorf("4 MiB at 1 MiB/s took %v, want 3 s and the last one on credit", took)
		}
		began = time.Now()
		for i := range 4 {
			if _, _, err := storage.ReadAll(t.Context(), s, fmt.Sprint("k", i), 1<<20); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2*time.Second {
			t.Errorf("4 MiB at 2 MiB/s took %v", took)
		}
	})
}

func TestCount(t *testing.T) {
	mem := storetest.Memory()
	for i := range 2500 {
		storetest.MustPut(t, mem, fmt.Sprintf("p/%04d", i), []byte("x"))
	}
	s, counts := storage.WithCount(mem)
	storetest.MustPut(t, s, "k", storetest.Pattern(1000))
	if _, _, err := storage.ReadRange(t.Context(), s, "k", 0, 600); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "none"); err == nil {
		t.Error("found")
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if _, err := storage.ListAll(t.Context(), s, storage.ListOptions{Prefix: "p/"}, 5000); err != nil {
		t.Error(err)
	}
	want := "1 put, 1 get, 1 stat, 3 list, 1 delete, 1000 bytes sent, 600 received"
	if counts.String() != want || counts.Requests() != 7 {
		t.Errorf("%s (%d), want %s", counts, counts.Requests(), want)
	}
}

func TestBreaker(t *testing.T) {
	faulty := storetest.Faulty(storetest.Memory())
	b := storage.WithBreaker(faulty, 3)
	rule := faulty.On(storetest.Put, "").Fail(storage.Temporary(errTest))
	for range 2 {
		if err := put(t, b, "k"); !errors.Is(err, errTest) {
			t.Errorf("%v", err)
		}
	}
	if _, err := b.Stat(t.Context(), "none"); !errors.Is(err, storage.ErrNotFound) { // an answer
		t.Errorf("%v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 { // not the region's doing
		if _, err := b.Stat(cancelled, "k"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	for range 3 {
		if b.Tripped() != nil {
			t.Error("gave up too early")
		}
		_ = put(t, b, "k")
	}
	hits := rule.Hits()
	for verb, err := range map[string]error{
		"put":    put(t, b, "k"),
		"delete": b.Delete(t.Context(), "k"),
	} {
		if !errors.Is(err, storage.ErrUnreachable) || storage.IsTemporary(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	_, err := b.Stat(t.Context(), "k")
	_, _, gerr := b.Get(t.Context(), "k", 0, -1)
	_, lerr := storage.ListAll(t.Context(), b, storage.ListOptions{}, 1)
	for _, err := range []error{err, gerr, lerr} {
		if !errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("%v", err)
		}
	}
	if rule.Hits() != hits || b.Tripped() == nil {
		t.Error("the region was still asked")
	}
	b.Reset()
	faulty.Heal()
	if err := put(t, b, "k"); err != nil {
		t.Error(err)
	}
}

// Denied access trips too, and stays recognisable.
func TestBreakerKeepsCause(t *testing.T) {
	faulty := storetest.Faulty(storetest.Memory())
	faulty.On(storetest.Put, "").Fail(storage.ErrDenied)
	b := storage.WithBreaker(faulty, 1)
	_ = put(t, b, "k")
	if err := put(t, b, "k"); !errors.Is(err, storage.ErrDenied) || !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// Guesses that fail do not count; a breaker that is open lets no guess through.
func TestBreakerGuesses(t *testing.T) {
	faulty := storetest.Faulty(storetest.Memory())
	faulty.On(storetest.Put, "").Fail(storage.ErrNoBucket)
	b := storage.WithBreaker(faulty, 2)
	for range 3 {
		if err := put(t, storage.Guesses(b), "k"); !errors.Is(err, storage.ErrNoBucket) || errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("a guess: %v", err)
		}
	}
	if b.Tripped() != nil {
		t.Error("guesses tripped it")
	}
	_, _ = put(t, b, "k"), put(t, b, "k")
	if err := put(t, storage.Guesses(b), "k"); !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("a guess when it is open: %v", err)
	}
}
