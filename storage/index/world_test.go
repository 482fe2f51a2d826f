package index

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/storage/pack"
)

// world runs an index beside a plain model of it. Crashes are copies of the
// directory: what a process leaves that is killed between two calls.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	x       *Index
	now     model
	durable model // at the last moment that promised durability
}

type model struct {
	packs map[uint64]bool // number of a record → recorded
	names map[string]bool
}

func (m model) clone() model { return model{maps.Clone(m.packs), maps.Clone(m.names)} }

func (w *world) record(n uint64) PackRecord { return record(n*500, 1+int(n*7%90), 1+int(n%9)) }

func (w *world) options() Options {
	return Options{MemoryChunks: 1 + w.rng.IntN(300), CacheBytes: 1}
}

func (w *world) step(number int) {
	switch n := w.rng.Uint64N(60); w.rng.IntN(12) {
	default: // an index object of a few packs
		for i := range 1 + n%3 {
			add(w.t, w.x, self, w.record(n+i))
			w.now.packs[n+i] = true
		}
		name := strconv.Itoa(number)
		if err := w.x.MarkLoaded(name); err != nil {
			w.t.Fatal(err)
		}
		w.now.names[name] = true
	case 0, 1:
		if err := w.x.Drop(w.record(n).Hash, w.record(n+1).Hash); err != nil {
			w.t.Fatal(err)
		}
		for _, m := range []model{w.now, w.durable} {
			delete(m.packs, n)
			delete(m.packs, n+1)
		}
	case 2:
		if err := w.x.Flush(); err != nil {
			w.t.Fatal(err)
		}
		w.durable = w.now.clone()
	case 3:
		if err := w.x.Close(); err != nil {
			w.t.Fatal(err)
		}
		w.durable = w.now.clone()
		w.x = open(w.t, w.dir, w.options())
	case 4:
		w.crash()
	}
}

// crash goes on with a copy of the directory. What was promised must be there;
// more may be, but no name without its records.
func (w *world) crash() {
	w.dir = copyDir(w.t, w.dir)
	w.x.Close()
	w.x = open(w.t, w.dir, w.options())
	got := model{make(map[uint64]bool), make(map[string]bool)}
	for n := range w.now.packs {
		if _, ok, err := w.x.HasPack(w.record(n).Hash, self); err != nil {
			w.t.Fatal(err)
		} else if ok {
			got.packs[n] = true
		}
	}
	for name := range w.now.names {
		if ok, err := w.x.Loaded(name); err != nil {
			w.t.Fatal(err)
		} else if ok {
			got.names[name] = true
		}
	}
	for n := range w.durable.packs {
		if !got.packs[n] {
			w.t.Fatalf("pack %d is gone after a crash", n)
		}
	}
	for name := range w.durable.names {
		if !got.names[name] {
			w.t.Fatalf("name %s is gone after a crash", name)
		}
	}
	w.now, w.durable = got, got.clone()
}

func (w *world) check() {
	w.t.Helper()
	for n := range uint64(63) {
		r := w.record(n)
		if !w.now.packs[n] {
			wantUnknown(w.t, w.x, r.Frames[0].Chunks[0].ID)
			continue
		}
		wantRecord(w.t, w.x, r, self)
		wantFrames(w.t, w.x, r, self)
	}
	got := packsOf(w.t, w.x)
	if len(got) != len(w.now.packs) {
		w.t.Fatalf("%d packs, want %d", len(got), len(w.now.packs))
	}
	if !slices.IsSortedFunc(got, func(a, b PackInfo) int { return strings.Compare(a.Hash.String(), b.Hash.String()) }) {
		w.t.Fatal("packs are not sorted")
	}
	for name := range w.now.names {
		wantLoaded(w.t, w.x, name, true)
	}
	if n := w.x.Stats().Files; n > mergeAbove {
		w.t.Fatalf("%d files", n)
	}
}

func runWorld(t *testing.T, seed uint64, steps int) {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir()}
	w.now = model{make(map[uint64]bool), make(map[string]bool)}
	w.durable = w.now.clone()
	w.x = open(t, w.dir, w.options())
	for i := range steps {
		w.step(i)
		if i%10 == 9 {
			w.check()
		}
	}
	w.check()
	if err := w.x.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestWorld(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runWorld(t, seed, 60) })
	}
}

func FuzzWorld(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { runWorld(t, seed, 60) })
}

// Lookups while everything changes: whatever was added before a lookup began is
// found by it.
func TestConcurrent(t *testing.T) {
	x := open(t, t.TempDir(), Options{MemoryChunks: 200, CacheBytes: 1 << 18})
	const packs = 150
	var added atomic.Uint64
	var wait sync.WaitGroup
	for worker := range uint64(4) {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 1))
			for n := added.Load(); n < packs; n = added.Load() {
				if n == 0 {
					continue
				}
				r := record(rng.Uint64N(n)*1000, 60, 7)
				id := r.Frames[rng.IntN(len(r.Frames))].Chunks[0].ID
				if _, ok, err := x.Has(id); err != nil || !ok {
					t.Errorf("chunk of an added pack: %v, %v", ok, err)
					return
				}
				if _, ok, err := x.Has(chunkID(1<<40 + n)); err != nil || ok {
					t.Errorf("unknown chunk: %v, %v", ok, err)
					return
				}
				if rng.IntN(50) == 0 {
					for _, err := range x.Packs() {
						if err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	for i := range uint64(packs) {
		if err := x.Add(record(i*1000, 60, 7), self); err != nil {
			t.Error(err)
		}
		added.Store(i + 1)
	}
	wait.Wait()
}

// A changed index may be changed further by who lists its packs.
func TestDropWhileListing(t *testing.T) {
	x := open(t, t.TempDir(), Options{MemoryChunks: 4000})
	for i := range uint64(700) {
		add(t, x, self, record(i*10, 2, 2))
	}
	n := 0
	for p, err := range x.Packs() {
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Drop(p.Hash); err != nil {
			t.Fatal(err)
		}
		if n++; n%250 == 0 {
			if err := x.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := packsOf(t, x); n != 700 || len(left) != 0 {
		t.Fatalf("listed %d packs, %d left", n, len(left))
	}
}

// killed is the argument that makes TestKilledProcess do its work.
const killed = "killed"

// TestKilledProcess is the process that TestKill kills: it adds packs for ever
// and says which are durable.
func TestKilledProcess(t *testing.T) {
	if flag.Arg(0) != killed {
		t.Skip("run by TestKill")
	}
	x, err := Open(flag.Arg(1), Options{MemoryChunks: 100})
	if err != nil {
		t.Fatal(err)
	}
	first := uint64(len(packsOf(t, x)))
	for i := first; ; i++ {
		r := record(i*1000, 40, 7)
		if err := x.AddObject(strconv.FormatUint(i, 10), &Object{Writer: self, Packs: []PackRecord{r}}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := x.Flush(); err != nil {
				t.Fatal(err)
			}
			fmt.Println("durable", i)
		}
	}
}

func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 12 {
		last, said := killOne(t, dir, time.Duration(rng.IntN(60))*time.Millisecond)
		x := open(t, dir, Options{}) // never ErrDamaged, never ErrLocked
		packs := packsOf(t, x)
		if said && uint64(len(packs)) <= last {
			t.Fatalf("%d packs, but %d was durable", len(packs), last)
		}
		for i := range uint64(len(packs)) {
			if ok, err := x.Loaded(strconv.FormatUint(i, 10)); err != nil {
				t.Fatal(err)
			} else if ok || i <= last && said {
				wantRecord(t, x, record(i*1000, 40, 7), self)
			}
		}
		if err := x.Verify(); err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killOne runs the process, kills it some time after it first said that
// something is durable, and gives the last number that it said.
func killOne(t *testing.T, dir string, after time.Duration) (last uint64, said bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$", killed, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "durable ")
		if !ok {
			t.Errorf("killed process: %s", lines.Text())
			continue
		}
		if last, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		if !said {
			timer.Reset(after)
		}
		said = true
	}
	_ = cmd.Wait() // killed
	return last, said
}

// The chunks of Find's locations and of packs share nothing with the caller.
func TestAddKeepsNothing(t *testing.T) {
	x := open(t, t.TempDir(), Options{})
	r := record(1, 3, 3)
	add(t, x, self, r)
	r.Frames[0].Chunks[0] = pack.Chunk{}
	r.Frames[0].Offset = 99
	wantRecord(t, x, record(1, 3, 3), self)
}
