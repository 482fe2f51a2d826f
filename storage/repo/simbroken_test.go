package repo_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

const simBrokenSeeds = 40 // within which a broken rule must show

// TestSimulationNotices breaks rules, by regions and mirrors that lie, and wants
// the checker to see each of them.
func TestSimulationNotices(t *testing.T) {
	rules := map[string]struct {
		want  string
		spoil func(*simWorld)
	}{
		"acknowledged before the packs are stored": {"is missing", phantomPacks},
		"statements not read back":                 {"which does not show it", shadowStatements},
		"own claims mirrored":                      {"not complete there", mirrorAll},
		"a pack lost behind everybody's back":      {"is missing", losePacks},
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			x, dir := newTemplate(t), simDir(t)
			t.Setenv("TMPDIR", dir)
			for seed := uint64(1); seed <= simBrokenSeeds; seed++ {
				w := simulate(t, x, seed, dir, rule.spoil)
				if strings.Contains(w.failed, rule.want) {
					t.Logf("seed %d: %s", seed, w.failed)
					return
				}
				if w.failed != "" {
					t.Fatalf("seed %d: another failure: %s", seed, w.failed)
				}
			}
			t.Errorf("%d seeds saw nothing", simBrokenSeeds)
		})
	}
}

// phantomPacks: some packs never get to region c, which tells everybody that it
// has them, as if nobody waited for the store or looked again.
func phantomPacks(w *simWorld) {
	phantoms := map[string]int64{}
	w.broken = func(w *simWorld, c *simCall) bool {
		if c.region.name != "c" || !strings.HasPrefix(c.key, storage.PacksPrefix) {
			return false
		}
		size, ok := phantoms[c.key]
		switch {
		case c.op == storetest.Put && !strings.HasSuffix(c.key, storage.SentinelName) && w.chance(0.3):
			phantoms[c.key] = int64(len(c.data))
			return true
		case c.op == storetest.Stat && ok:
			c.info = storage.Info{Key: c.key, Size: size}
			return true
		case c.op == storetest.List:
			for info := range c.region.mem.List(context.Background(), c.opt) {
				c.infos = append(c.infos, info)
			}
			for key, size := range phantoms {
				if strings.HasPrefix(key, c.opt.Prefix) {
					c.infos = append(c.infos, storage.Info{Key: key, Size: size})
				}
			}
			slices.SortFunc(c.infos, func(a, b storage.Info) int { return strings.Compare(a.Key, b.Key) })
			return true
		}
		return false
	}
}

// shadowStatements: some statements never get to region c, and reading them back
// shows them all the same, as if nobody read them back.
func shadowStatements(w *simWorld) {
	shadows := map[string][]byte{}
	w.broken = func(w *simWorld, c *simCall) bool {
		if c.region.name != "c" || !strings.HasPrefix(c.key, storage.JournalPrefix) {
			return false
		}
		data, ok := shadows[c.key]
		switch {
		case c.op == storetest.Put && !strings.HasSuffix(c.key, storage.SentinelName) && w.chance(0.1):
			shadows[c.key] = c.data
			return true
		case c.op == storetest.Get && ok:
			c.body, c.info = data, storage.Info{Key: c.key, Size: int64(len(data))}
			return true
		case c.op == storetest.Stat && ok:
			c.info = storage.Info{Key: c.key, Size: int64(len(data))}
			return true
		}
		return false
	}
}

// mirrorAll: somebody copies statements of all kinds between the regions, which
// go back in time now and then.
func mirrorAll(w *simWorld) {
	w.weather.roll, w.weather.copies = 0.01, 0.02
	w.evil = func(w *simWorld) {
		if !w.chance(0.05) {
			return
		}
		from, to := w.anyRegion(), w.anyRegion()
		for _, key := range from.mem.Keys(storage.JournalPrefix) {
			if to.mem.Bytes(key) == nil && !to.wiped {
				w.place(to, key, from.mem.Bytes(key))
			}
		}
	}
}

// losePacks: a region loses an object now and then.
func losePacks(w *simWorld) {
	w.evil = func(w *simWorld) {
		r := w.anyRegion()
		packs := slices.DeleteFunc(r.mem.Keys(storage.PacksPrefix), func(k string) bool { return strings.HasSuffix(k, storage.SentinelName) })
		if len(packs) == 0 || !w.chance(0.01) {
			return
		}
		if err := r.mem.Delete(context.Background(), packs[w.rng.IntN(len(packs))]); err != nil {
			w.fail("%v", err)
		}
		delete(w.oracle.proved, r.name)
		w.soil(r)
	}
}
