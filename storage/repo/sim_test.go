package repo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
)

const (
	simSeeds = 100 // of a plain go test; LIFEBOAT_SIM_SEEDS runs others
	simRuns  = 6   // of one world
)

// simSettings reads LIFEBOAT_SIM_SEED (the only or first seed) and
// LIFEBOAT_SIM_SEEDS (how many).
func simSettings(t *testing.T) (first, n uint64) {
	t.Helper()
	first, n = 1, simSeeds
	number := func(name string, to *uint64) bool {
		text := os.Getenv(name)
		if text == "" {
			return false
		}
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		*to = v
		return true
	}
	if number("LIFEBOAT_SIM_SEED", &first) {
		n = 1
	}
	number("LIFEBOAT_SIM_SEEDS", &n)
	if testing.Short() {
		n = min(n, 20)
	}
	return first, n
}

// simDir is a directory in memory where there is one: the state directories are
// written often, each time to the disk itself.
func simDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lifeboat-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestSimulation runs hosts, regions and accidents by seed. On a failure it
// prints the seed; LIFEBOAT_SIM_SEED=n runs that one again.
func TestSimulation(t *testing.T) {
	first, n := simSettings(t)
	cryptotest.SetGlobalRandom(t, 1)
	x, dir := newTemplate(t), simDir(t)
	t.Setenv("TMPDIR", dir)
	var sum simCount
	for seed := first; seed < first+n; seed++ {
		w := simulate(t, x, seed, dir, nil)
		sum.add(w.count)
		if w.failed != "" {
			t.Fatalf("seed %d: %s\nLIFEBOAT_SIM_SEED=%d runs it again; the last events:\n%s", seed, w.failed, seed, w.tail(120))
		}
	}
	t.Logf("%d seeds: %+v", n, sum)
}

// simulate runs one world to its end. change may spoil it first.
func simulate(t *testing.T, x *simTemplate, seed uint64, dir string, change func(*simWorld)) *simWorld {
	cryptotest.SetGlobalRandom(t, seed)
	var w *simWorld
	synctest.Test(t, func(t *testing.T) {
		home := filepath.Join(dir, fmt.Sprint("seed", seed))
		defer os.RemoveAll(home)
		w = newSimWorld(t, x, seed, home)
		if change != nil {
			change(w)
		}
		w.run(simRuns)
		w.count.steps = w.steps
		if !w.bad() && seed%4 == 1 {
			w.oracle.cold(t.Context())
		} else if !w.bad() && seed%4 == 0 {
			w.settle(t.Context())
		}
	})
	return w
}
