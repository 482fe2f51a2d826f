package replicate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"lifeboat/replicate"
	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// behind is a world in which region b has missed three snapshots of three
// workloads, each with packs of its own.
func behind(t *testing.T) (*world, []string) {
	t.Helper()
	w := newWorld(t, "a", "b")
	b, fault := w.stores["b"], w.faults["b"]
	delete(w.stores, "b")
	var ids []string
	for i, name := range []string{"one", "two", "three"} {
		w.source = t.TempDir()
		w.write(uint64(10+i), map[string]int{"file": 100 << 10})
		ids = append(ids, w.backup(name))
	}
	w.stores["b"], w.faults["b"] = b, fault
	return w, ids
}

// packsOf are the packs that a snapshot reaches.
func packsOf(t *testing.T, r *repo.Repo, id string) []string {
	t.Helper()
	sh := r.View().Snapshots()[id]
	for _, ref := range sh.Intents {
		keys, err := r.Closure(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	t.Fatalf("nothing shows %.8s", id)
	return nil
}

// sync runs a plan for all regions and gives the result of b.
func (w *world) sync() (replicate.Result, error) {
	w.t.Helper()
	r := w.open()
	plan, err := replicate.NewPlan(w.t.Context(), r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := plan.Run(w.t.Context(), replicate.Options{Now: w.now})
	for _, res := range all {
		if res.Region == "b" {
			return res, err
		}
	}
	return replicate.Result{}, err
}

// shownIn are the snapshots that a region shows.
func (w *world) shownIn(region string) []string {
	w.t.Helper()
	r := w.open()
	var ids []string
	all, err := r.Snapshots(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range all {
		if slices.Contains(s.Regions, region) {
			ids = append(ids, s.Summary.ID)
		}
	}
	return ids
}

// TestSyncGoesAroundDamage: what one damaged pack keeps away are the snapshots
// that need it, and they are named; all others arrive.
func TestSyncGoesAroundDamage(t *testing.T) {
	for name, harm := range map[string]func(w *world, pack string){
		"damaged everywhere": func(w *world, pack string) { w.stores["a"].Change(pack, storetest.FlipBit(1000)) },
		"gone everywhere":    func(w *world, pack string) { w.stores["a"].Change(pack, func([]byte) []byte { return nil }) },
		"not to be read":     func(w *world, pack string) { w.faults["a"].On(storetest.Get, pack).Fail(storage.ErrCorrupt) },
	} {
		t.Run(name, func(t *testing.T) {
			w, ids := behind(t)
			r := w.open()
			own, other := packsOf(t, r, ids[1]), packsOf(t, r, ids[2])
			at := slices.IndexFunc(own, func(key string) bool {
				return !slices.Contains(other, key) && !slices.Contains(packsOf(t, r, ids[0]), key)
			})
			if at < 0 {
				t.Fatal("the snapshots share all packs")
			}
			good := slices.Clone(w.stores["a"].Bytes(own[at]))
			harm(w, own[at])
			res, err := w.sync()
			if !errors.Is(err, replicate.ErrHeldBack) || !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the error: %v", err)
			}
			if res.Snapshots != 2 || res.HeldBack != 1 || len(res.Held) != 1 || res.Held[0].Snapshot != ids[1] || res.Held[0].Object != own[at] || res.Held[0].Problem == "" {
				t.Errorf("%+v", res)
			}
			if err == nil || !strings.Contains(err.Error(), ids[1][:8]) {
				t.Errorf("the error does not name the snapshot: %v", err)
			}
			if got := w.shownIn("b"); !slices.Equal(got, []string{ids[0], ids[2]}) {
				t.Errorf("b shows %v of %v", got, ids)
			}
			// Once the pack is whole again, so is the region.
			w.faults["a"].Heal()
			w.stores["a"].Change(own[at], func([]byte) []byte { return good })
			if res, err := w.sync(); err != nil || res.Snapshots != 1 || res.HeldBack != 0 {
				t.Errorf("afterwards: %+v, %v", res, err)
			}
			if got := w.shownIn("b"); !slices.Equal(got, ids) {
				t.Errorf("afterwards b shows %v of %v", got, ids)
			}
		})
	}
}
