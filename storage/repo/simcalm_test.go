package repo_test

import (
	"context"
	"slices"
)

// settle ends all trouble and looks whether everything comes right by the ways
// that people have: a sync, then a backup of each host.
func (w *simWorld) settle(ctx context.Context) {
	w.calm()
	all := w.union()
	w.alone(w.hosts[0], true)
	// A mirrored acknowledgement may have shown in one region what no region
	// showed before: the second run brings that to the others.
	w.alone(w.hosts[1], true)
	if w.bad() {
		return
	}
	after := w.union()
	for id := range all {
		if !after[id] {
			w.fail("snapshot %.8s is gone after a sync without trouble", id)
		}
	}
	for _, r := range w.whole() {
		if got := len(w.oracle.view(r).Snapshots()); got != len(after) {
			w.fail("after a sync without trouble region %s shows %d snapshots, all together show %d", r.name, got, len(after))
			return
		}
	}
	for _, h := range w.hosts {
		before := len(w.oracle.claims)
		w.alone(h, false)
		if w.bad() {
			return
		}
		if got := len(w.oracle.claims) - before; got < len(w.whole()) {
			w.fail("a backup of %s without trouble was committed in %d regions of %d", h.name, got, len(w.whole()))
			return
		}
	}
	w.oracle.cold(ctx)
}

// alone lets one host do one run, and nothing else happen.
func (w *simWorld) alone(h *simHost, sync bool) {
	a := w.startOn(h, sync, true)
	w.stop()
	if sync && w.torn {
		return // it says what is damaged everywhere, and copies the rest
	}
	if a.err != nil && !w.bad() {
		w.fail("%s, without trouble: %v", a.name, a.err)
	}
}

func (w *simWorld) whole() []*simRegion {
	return slices.DeleteFunc(slices.Clone(w.regions), func(r *simRegion) bool { return r.wiped })
}

// union is what the regions show, all together.
func (w *simWorld) union() map[string]bool {
	all := map[string]bool{}
	for _, r := range w.whole() {
		for id := range w.oracle.view(r).Snapshots() {
			all[id] = true
		}
	}
	return all
}
