package journal

import (
	"slices"
	"testing"
)

// What a checkpoint carries on, put in the place of the statements, shows the same.
func TestCheckpointStandsForTheStatements(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	c.open(regionA, regionB)
	i := c.intent([]string{"one", "two"}, regionA, regionB)
	k := c.ack(i, []string{"one", "two"}, regionA, regionB)
	j := c.intent([]string{"three"}, regionA, regionB)
	l := c.ack(j, []string{"three"}, regionA) // B was left out
	d := c.say(Statement{Type: Drill})
	g := c.forget("two")
	x := f.chain(t, writerTwo, instance2, session2)
	o := x.intent([]string{"four"}, regionA)
	p := x.ack(o, []string{"four"}, regionA)

	v := NewView()
	for _, h := range slices.Concat(in(regionA, i, k, j, l, d, g, o, p), in(regionB, i, k, j, l, d, g)) {
		v.Add(h.region, h.Signed)
	}
	live, kept := v.Carry(writerOne, instance1)
	if len(live) != 2 || live[0].Snapshot != id("one") || live[1].Snapshot != id("three") {
		t.Fatalf("carried on: %+v", live)
	}
	if !slices.Equal(live[0].Regions, []string{regionA, regionB}) || !slices.Equal(live[1].Regions, []string{regionA}) {
		t.Errorf("in regions %v and %v", live[0].Regions, live[1].Regions)
	}
	if !slices.Equal(kept, []Ref{d.Ref()}) {
		t.Errorf("kept: %v", kept)
	}
	if !v.Replaces(regionA, live) || !v.Replaces(regionB, live) || v.Replaces(formerA, live) {
		t.Error("which regions may take it")
	}
	point := c.checkpoint(live, kept)
	w := NewView()
	for _, h := range slices.Concat(in(regionA, point, o, p), in(regionB, point)) {
		w.Add(h.region, h.Signed)
	}
	if got, want := shown(w), shown(v); got != want {
		t.Errorf("the checkpoint shows %q, the statements show %q", got, want)
	}
	again, _ := w.Carry(writerOne, instance1)
	if len(again) != len(live) || again[0].Intent != live[0].Intent || !slices.Equal(again[0].Regions, live[0].Regions) {
		t.Errorf("the next checkpoint would carry %+v, this one carries %+v", again, live)
	}
	if !w.Replaces(regionA, again) || !w.Replaces(regionB, again) {
		t.Error("the next checkpoint may not replace this one")
	}
}

// A region that lacks something of what a checkpoint stands for must not get it:
// the checkpoint would claim for it what it does not hold.
func TestCheckpointGoesOnlyWhereItIsTrue(t *testing.T) {
	f := newFixture(t)
	one := []string{"one"}
	for _, tt := range []struct {
		name string
		hold func(i, k *Signed) []held
		want bool
	}{
		{"all of it", func(i, k *Signed) []held { return in(regionB, i, k) }, true},
		{"no ack", func(i, k *Signed) []held { return in(regionB, i) }, false},
		{"no intent", func(i, k *Signed) []held { return in(regionB, k) }, false},
		{"nothing", func(i, k *Signed) []held { return nil }, false},
	} {
		c := f.chain(t, writerOne, instance1, session1)
		i := c.intent(one, regionA, regionB)
		k := c.ack(i, one, regionA, regionB)
		v := NewView()
		v.AddRegion(regionB)
		for _, h := range slices.Concat(in(regionA, i, k), tt.hold(i, k)) {
			v.Add(h.region, h.Signed)
		}
		live, _ := v.Carry(writerOne, instance1)
		if len(live) != 1 || v.Replaces(regionB, live) != tt.want || !v.Replaces(regionA, live) {
			t.Errorf("%s: %d carried on, B %v, want %v", tt.name, len(live), v.Replaces(regionB, live), tt.want)
		}
	}
}

// A snapshot is carried on until all regions hold its forget, and then no more.
func TestForgottenEverywhereIsNotCarriedOn(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	one := []string{"one"}
	i := c.intent(one, regionA, regionB)
	k, g := c.ack(i, one, regionA, regionB), c.forget("one")
	v := NewView()
	for _, h := range slices.Concat(in(regionA, i, k, g), in(regionB, i, k)) {
		v.Add(h.region, h.Signed)
	}
	if live, _ := v.Carry(writerOne, instance1); len(live) != 1 {
		t.Errorf("forgotten in one region: %+v", live)
	}
	v.Add(regionB, g)
	if live, _ := v.Carry(writerOne, instance1); len(live) != 0 {
		t.Errorf("forgotten in all: %+v", live)
	}
}

func TestChain(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	var all []*Signed
	for range 5 {
		all = append(all, c.open(regionA))
	}
	if got := CheckChain([]*Signed{all[3], all[1], all[0], all[4], all[2]}); len(got) != 0 {
		t.Errorf("a whole chain: %v", got)
	}
	if got := CheckChain([]*Signed{all[0], all[1], all[4]}); len(got) != 1 {
		t.Errorf("a gap: %v", got)
	}
	twin := f.chain(t, writerOne, instance1, session2)
	twin.open(regionB)
	fork := twin.open(regionB)
	if got := CheckChain([]*Signed{all[0], fork}); len(got) != 1 {
		t.Errorf("a break: %v", got)
	}
	if got := CheckChain([]*Signed{all[0], all[1], fork}); len(got) != 1 {
		t.Errorf("a fork: %v", got)
	}
	far := *all[1]
	far.Seq = ^uint64(0)
	if got := CheckChain([]*Signed{&far, all[0]}); len(got) != 1 {
		t.Errorf("a number beyond all bounds: %v", got)
	}
	if got := CheckChain(nil); got != nil {
		t.Errorf("nothing: %v", got)
	}
}
