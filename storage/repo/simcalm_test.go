package repo_test

import (
	"context"
	"maps"
	"slices"
)

// settle ends all trouble and looks whether everything comes right by the ways
// that people have: a sync, then a backup of each host.
func (w *simWorld) settle(ctx context.Context) {
	w.calm()
	want := w.union()
	w.alone(w.hosts[0], true)
	if w.bad() {
		return
	}
	for _, r := range w.whole() {
		if got := sortedShown(w.oracle.view(r)); got != want {
			w.fail("after a sync without trouble region %s shows %s; before, all together showed %s", r.name, got, want)
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
	if a.err != nil && !w.bad() {
		w.fail("%s, without trouble: %v", a.name, a.err)
	}
}

func (w *simWorld) whole() []*simRegion {
	return slices.DeleteFunc(slices.Clone(w.regions), func(r *simRegion) bool { return r.wiped })
}

// union is what the regions show, all together.
func (w *simWorld) union() string {
	all := map[string]bool{}
	for _, r := range w.whole() {
		for id := range w.oracle.view(r).Snapshots() {
			all[id[:8]] = true
		}
	}
	out := ""
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if out != "" {
			out += " "
		}
		out += id
	}
	return out
}
