package repo_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// The simulation runs the real Session, Repo and replicator of several hosts
// against three regions in memory. Every request waits until the scheduler picks
// it; between two requests nothing runs, so that the order of events hangs on the
// seed alone. The scheduler also makes the weather: requests that are lost, land
// late or land unheard, partitions, processes that die at a request, regions that
// go back in time or lose everything, listings that lie.

const (
	simStepsMax  = 20_000 // of one world
	simAloneMax  = 400    // steps of the calm end
	simActorsMax = 3      // at once
)

// simWeather is how often what goes wrong: chances per request, or per step.
type simWeather struct {
	lost, landed, late, silent, torn, read, hide, crash float64 // per request
	part, heal, roll, copies, wipe, tick                float64 // per step
	retry                                               bool    // stores retry, as the product's do
	priority                                            bool    // not each request alike: one stream goes first
	long                                                bool    // sessions of many commits
	days                                                bool    // between two runs; checkpoints become due
}

type blockKey struct{ host, region string }

// simWorld is one seed's world.
type simWorld struct {
	t       testing.TB
	seed    uint64
	rng     *rand.Rand
	made    *simTemplate
	hosts   []*simHost
	regions []*simRegion
	weather simWeather
	broken  func(w *simWorld, c *simCall) bool // a rule of the store that is broken on purpose
	evil    func(w *simWorld)                  // another one, run at each step

	// mu guards what the scheduler and the runs share: pending, flying, actors, steps,
	// log, failed, count, clock, and of regions and actors what says so there.
	mu      sync.Mutex
	pending []*simCall
	flying  []*simCall
	actors  []*simActor
	blocked map[blockKey]bool
	rank    map[string]float64
	changes int
	steps   int
	started int
	log     []string
	failed  string
	torn    bool // puts were torn; then there may be objects that are damaged everywhere
	oracle  *simOracle
	count   simCount
	clock   time.Time
}

// simCount says what a world went through, to see that the weather is bad enough.
type simCount struct {
	runs, commits, acked, crashes, rolls, wipes, syncs, steps, refused, shown, tooFew int
}

func (c *simCount) add(o simCount) {
	c.runs += o.runs
	c.commits += o.commits
	c.acked += o.acked
	c.crashes += o.crashes
	c.rolls += o.rolls
	c.wipes += o.wipes
	c.syncs += o.syncs
	c.steps += o.steps
	c.refused += o.refused
	c.shown += o.shown
	c.tooFew += o.tooFew
}

// simHost is a machine: a writer's state and a cache on its disk.
type simHost struct {
	name, dir string
	content   [][]int // per workload, the numbers of its chunks
}

func (h *simHost) state() string { return filepath.Join(h.dir, "state") }
func (h *simHost) cache() string { return filepath.Join(h.dir, "cache") }

// simTemplate is a repository with three writers, made once.
type simTemplate struct {
	made    *repo.Created
	regions []*storetest.Mem
	members []string
	states  []map[string][]byte
	reader  *repo.Repo // opens manifests and tables of contents
}

// newTemplate makes writers 0 and 1, and 2 as the successor of 0.
func newTemplate(t *testing.T) *simTemplate {
	t.Helper()
	x := &simTemplate{}
	var regions []repo.Region
	for _, name := range []string{"a", "b", "c"} {
		m := storetest.Memory()
		x.regions = append(x.regions, m)
		regions = append(regions, repo.Region{Name: name, Store: m})
	}
	now := time.Unix(1e9, 0)
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	x.made, err = repo.Create(t.Context(), repo.CreateOptions{Regions: regions, Classic: true, Now: now})
	must()
	for _, m := range x.made.Members {
		x.members = append(x.members, m.Nonce)
	}
	dir := t.TempDir()
	_, err = repo.SaveState(dir, x.made.ID, x.made.Root.Public(), x.made.Writer, nil)
	must()
	x.states = append(x.states, readTree(t, dir))
	for _, before := range [][]string{nil, {x.made.Writer.ID}} {
		r, err := repo.Open(t.Context(), repo.Options{Regions: regions, Identities: ids(x.made)})
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.PlanEnrollment(t.Context(), repo.EnrollOptions{Root: x.made.Root, Predecessors: before, Now: now})
		if err == nil {
			_, err = e.Place(t.Context())
		}
		dir := t.TempDir()
		if err == nil {
			_, err = e.Save(dir, false)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		x.states = append(x.states, readTree(t, dir))
	}
	x.reader, err = repo.Open(t.Context(), repo.Options{Regions: regions, Identities: ids(x.made)})
	must()
	t.Cleanup(func() { x.reader.Close() })
	return x
}

func readTree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			out[rel], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func restoreTree(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// newSimWorld sets up the regions and hosts of one seed in dir.
func newSimWorld(t testing.TB, x *simTemplate, seed uint64, dir string) *simWorld {
	t.Helper()
	w := &simWorld{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), made: x, blocked: map[blockKey]bool{}, rank: map[string]float64{}, clock: time.Unix(2e9, 0)}
	for i, m := range x.regions {
		w.regions = append(w.regions, &simRegion{name: string(rune('a' + i)), nonce: x.members[i], mem: m.Clone()})
	}
	for i, files := range x.states {
		h := &simHost{name: fmt.Sprintf("h%d", i), dir: filepath.Join(dir, fmt.Sprintf("h%d", i))}
		restoreTree(t, h.state(), files)
		w.hosts = append(w.hosts, h)
	}
	w.weather = w.forecast()
	w.oracle = newSimOracle(w)
	return w
}

// forecast chooses what can go wrong in this world, and how often. Few kinds at
// once find more than all of them.
func (w *simWorld) forecast() simWeather {
	some := func(share, least, most float64) float64 {
		if w.rng.Float64() > share {
			return 0
		}
		return math.Exp(math.Log(least) + w.rng.Float64()*(math.Log(most)-math.Log(least)))
	}
	f := simWeather{
		lost: some(0.4, 0.001, 0.03), landed: some(0.4, 0.001, 0.03), late: some(0.4, 0.001, 0.03), silent: some(0.15, 0.001, 0.02), torn: some(0.15, 0.001, 0.02),
		read: some(0.3, 0.001, 0.02), hide: some(0.25, 0.003, 0.1), crash: some(0.5, 0.001, 0.02),
		part: some(0.4, 0.001, 0.01), heal: 0.01, roll: some(0.35, 0.001, 0.01), copies: 0.01, wipe: some(0.2, 0.0005, 0.003),
		tick: some(0.2, 0.001, 0.005), retry: w.rng.IntN(2) == 0, priority: w.rng.IntN(3) == 0, long: w.rng.IntN(4) == 0, days: w.rng.IntN(3) == 0,
	}
	return f
}

func (w *simWorld) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *simWorld) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%5d ", w.steps)+fmt.Sprintf(format, args...))
}

// fail ends the world: something that must never be is.
func (w *simWorld) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("FAILED: %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == "" {
		w.failed = text
	}
}

func (w *simWorld) bad() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed != ""
}

func (w *simWorld) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(time.Second)
	return w.clock
}

// run lets runs begin and requests be served until the budget is spent.
func (w *simWorld) run(runs int) {
	for ; w.steps < simStepsMax && !w.bad(); w.next() {
		synctest.Wait()
		w.reap()
		for len(w.actors) < simActorsMax && w.started < runs && (len(w.actors) == 0 || w.chance(0.02)) {
			w.start()
			synctest.Wait()
		}
		if len(w.actors) == 0 && w.started >= runs {
			break
		}
		w.step()
	}
	w.stop()
}

func (w *simWorld) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps++
}

// step serves one request, or lets time pass, or something happen.
func (w *simWorld) step() {
	w.happen()
	synctest.Wait() // for those whose requests it ended
	if w.evil != nil {
		w.evil(w)
	}
	c := w.pick()
	if c == nil {
		time.Sleep(61 * time.Second) // nobody asks: they wait for the clock
		synctest.Wait()
		w.check()
		return
	}
	w.note("%v", c)
	if w.chance(w.weather.crash) {
		w.crash(c)
	} else {
		if w.broken == nil || !w.broken(w, c) {
			w.serve(c)
		}
		close(c.done)
	}
	synctest.Wait() // what the answer led to is part of what is judged
	w.check()
}

// pick takes one of the waiting requests.
func (w *simWorld) pick() *simCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return nil
	}
	slices.SortStableFunc(w.pending, (*simCall).order)
	i := w.rng.IntN(len(w.pending))
	if w.weather.priority {
		if w.changes++; w.changes%97 == 0 {
			clear(w.rank)
		}
		best := -1.0
		for j, c := range w.pending {
			stream := c.actor.name + c.region.name
			if _, ok := w.rank[stream]; !ok {
				w.rank[stream] = w.rng.Float64()
			}
			if w.rank[stream] > best {
				best, i = w.rank[stream], j
			}
		}
	}
	c := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	return c
}

// happen is what befalls the world on its own.
func (w *simWorld) happen() {
	f := &w.weather
	if c := w.arrived(); c != nil && w.chance(0.8) {
		w.note("lands late: %v", c)
		w.land(c)
	}
	if w.chance(f.part) {
		k := blockKey{w.hosts[w.rng.IntN(len(w.hosts))].name, w.anyRegion().name}
		w.blocked[k] = true
		w.note("%v are parted", k)
	}
	if w.chance(f.heal) && len(w.blocked) > 0 {
		clear(w.blocked)
		w.note("all are joined again")
	}
	if w.chance(f.copies) {
		if r := w.anyRegion(); !r.wiped {
			r.copies = append(r.copies, r.mem.Clone())
			w.note("%s is copied", r.name)
		}
	}
	if w.chance(f.roll) {
		w.rollBack(w.anyRegion())
	}
	if w.chance(f.wipe) {
		w.wipe(w.anyRegion())
	}
	if w.chance(f.tick) {
		time.Sleep(70 * time.Second)
	}
}

// arrived takes one of the puts that are still under way, now and then.
func (w *simWorld) arrived() *simCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.flying) == 0 || !w.chance(0.02) {
		return nil
	}
	i := w.rng.IntN(len(w.flying))
	c := w.flying[i]
	w.flying = slices.Delete(w.flying, i, i+1)
	return c
}

// fly lets a put be under way that nobody waits for any more.
func (w *simWorld) fly(c *simCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flying = append(w.flying, c)
}

func (w *simWorld) anyRegion() *simRegion { return w.regions[w.rng.IntN(len(w.regions))] }

// rollBack brings an older copy of a region back under the same incarnation.
// Requests under way to it are lost (the one gap that design.md leaves open).
func (w *simWorld) rollBack(r *simRegion) {
	if len(r.copies) == 0 {
		return
	}
	i := w.rng.IntN(len(r.copies))
	w.note("%s goes back to copy %d of %d", r.name, i, len(r.copies))
	r.mem = r.copies[i].Clone()
	r.copies = r.copies[:i+1]
	w.count.rolls++
	w.lostAll(r, false)
}

// wipe empties a region. One region at least is left whole.
func (w *simWorld) wipe(r *simRegion) {
	for _, o := range w.regions {
		if o.wiped {
			return
		}
	}
	w.note("%s is wiped", r.name)
	r.mem = storetest.Memory()
	w.count.wipes++
	w.lostAll(r, true)
}

func (w *simWorld) lostAll(r *simRegion, wiped bool) {
	w.oracle.forget(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.gen++
	r.wiped, r.dirty = wiped, true
	w.flying = slices.DeleteFunc(w.flying, func(c *simCall) bool { return c.region == r })
	w.pending = slices.DeleteFunc(w.pending, func(c *simCall) bool {
		if c.region != r || c.op != storetest.Put {
			return false
		}
		c.err = storage.Temporary(errSimUnknown)
		close(c.done)
		return true
	})
}

// crash kills the process whose request this is: it may still land.
func (w *simWorld) crash(c *simCall) {
	w.count.crashes++
	a := c.actor
	w.note("  %s dies", a.name)
	a.disk = readTree(w.t, a.host.dir)
	w.mu.Lock()
	a.dead = true
	dead := []*simCall{c}
	w.pending = slices.DeleteFunc(w.pending, func(o *simCall) bool {
		if o.actor == a {
			dead = append(dead, o)
		}
		return o.actor == a
	})
	w.mu.Unlock()
	for _, o := range dead {
		if o.op == storetest.Put {
			switch w.rng.IntN(3) {
			case 0:
				w.land(o)
			case 1:
				w.fly(o)
			}
		}
		o.err = errSimCrashed
		close(o.done)
	}
}

// reap takes leave of actors that are done.
func (w *simWorld) reap() {
	w.mu.Lock()
	var gone []*simActor
	w.actors = slices.DeleteFunc(w.actors, func(a *simActor) bool {
		if a.done {
			gone = append(gone, a)
		}
		return a.done
	})
	left := slices.Clone(w.actors)
	w.mu.Unlock()
	for _, a := range gone {
		w.bury(a, left)
	}
}

// bury puts a dead process's disk back to what it was when it died. What
// processes of the same host write meanwhile stays.
func (w *simWorld) bury(a *simActor, left []*simActor) {
	alone := !slices.ContainsFunc(left, func(o *simActor) bool { return o.host == a.host }) && !a.isShared()
	if a.disk != nil && alone {
		for _, sub := range []string{"state", "cache"} {
			files := map[string][]byte{}
			for name, data := range a.disk {
				if rest, ok := strings.CutPrefix(name, sub+"/"); ok {
					files[rest] = data
				}
			}
			restoreTree(w.t, filepath.Join(a.host.dir, sub), files)
		}
	}
	if a.err != nil {
		w.note("%s ended: %v", a.name, a.err)
	} else {
		w.note("%s ended well", a.name)
	}
}

// stop lets nobody leave before they are done, without weather.
func (w *simWorld) stop() {
	for range simStepsMax {
		synctest.Wait()
		w.reap()
		if len(w.actors) == 0 {
			return
		}
		c := w.pick()
		if c == nil {
			time.Sleep(61 * time.Second)
			continue
		}
		if w.bad() {
			c.err = errSimCrashed
		} else {
			w.serve(c)
		}
		close(c.done)
		synctest.Wait()
		if !w.bad() {
			w.check()
		}
	}
	w.fail("actors do not end")
}

// calm ends all trouble.
func (w *simWorld) calm() {
	w.torn = w.weather.torn > 0
	w.weather = simWeather{}
	clear(w.blocked)
	w.flying = nil
	w.broken, w.evil = nil, nil
	w.note("calm")
}

// tail is the end of the log, for people.
func (w *simWorld) tail(n int) string {
	return strings.Join(w.log[max(0, len(w.log)-n):], "\n")
}

func hexOf(h [32]byte) string { return hex.EncodeToString(h[:]) }
