package journal

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// held is a statement and the region that holds it.
type held struct {
	region string
	*Signed
}

// in gives the statements, each as held by one region.
func in(region string, all ...*Signed) (out []held) {
	for _, s := range all {
		out = append(out, held{region, s})
	}
	return out
}

// shown renders what a view shows: "name:regions" of the snapshots named one to nine.
func shown(v *View) string {
	names := map[string]string{}
	for _, n := range strings.Split("one two three four five", " ") {
		names[id(n)] = n
	}
	letter := map[string]string{regionA: "a", regionB: "b"}
	var out []string
	for sid, s := range v.Snapshots() {
		var where []string
		for nonce := range s.Intents {
			where = append(where, letter[nonce])
		}
		slices.Sort(where)
		out = append(out, names[sid]+":"+strings.Join(where, ""))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Rule 7: a region shows a snapshot iff it holds its intent and an ack of it (or a
// checkpoint of them) naming its current incarnation, and no forget.
func TestVisibility(t *testing.T) {
	f := newFixture(t)
	one := []string{"one"}
	for _, tt := range []struct {
		name string
		hold func(c *chain) []held
		want string
	}{
		{"nothing", func(c *chain) []held { return nil }, ""},
		{"intent and ack", func(c *chain) []held {
			i := c.intent(one, regionA, regionB)
			k := c.ack(i, one, regionA, regionB)
			return slices.Concat(in(regionA, i, k), in(regionB, i, k))
		}, "one:ab"},
		{"an intent without an ack", func(c *chain) []held {
			return in(regionA, c.open(regionA), c.intent(one, regionA))
		}, ""},
		{"an ack without the intent in the region", func(c *chain) []held {
			i := c.intent(one, regionA, regionB)
			k := c.ack(i, one, regionA, regionB)
			return slices.Concat(in(regionA, i, k), in(regionB, k))
		}, "one:a"},
		{"an ack whose intent no region holds", func(c *chain) []held {
			return in(regionA, c.ack(c.intent(one, regionA), one, regionA))
		}, ""},
		{"an ack naming another incarnation", func(c *chain) []held {
			i := c.intent(one, formerA, regionA)
			return in(regionA, i, c.ack(i, one, formerA))
		}, ""},
		{"an intent naming another incarnation", func(c *chain) []held {
			i := c.intent(one, formerA)
			return in(regionA, i, c.ack(i, one, formerA, regionA))
		}, ""},
		{"an ack that left the region out", func(c *chain) []held {
			i := c.intent(one, regionA, regionB)
			k := c.ack(i, one, regionB)
			return slices.Concat(in(regionA, i, k), in(regionB, i, k))
		}, "one:b"},
		{"an ack of some of the intent's snapshots", func(c *chain) []held {
			i := c.intent([]string{"one", "two"}, regionA)
			return in(regionA, i, c.ack(i, []string{"two"}, regionA))
		}, "two:a"},
		{"an ack of what the intent does not name", func(c *chain) []held {
			i := c.intent(one, regionA)
			return in(regionA, i, c.ack(i, []string{"one", "two"}, regionA))
		}, "one:a"},
		{"an ack of another session", func(c *chain) []held {
			i := c.intent(one, regionA)
			c.session = session2
			return in(regionA, i, c.ack(i, one, regionA))
		}, ""},
		{"an ack of another writer", func(c *chain) []held {
			i := c.intent(one, regionA)
			return in(regionA, i, f.chain(t, writerTwo, instance2, session1).ack(i, one, regionA))
		}, ""},
		{"a forget", func(c *chain) []held {
			i := c.intent([]string{"one", "two"}, regionA, regionB)
			k := c.ack(i, []string{"one", "two"}, regionA, regionB)
			return slices.Concat(in(regionA, i, k, c.forget("one")), in(regionB, i, k))
		}, "one:b two:ab"},
		{"a forget before the ack is seen", func(c *chain) []held {
			i := c.intent(one, regionA)
			k, g := c.ack(i, one, regionA), c.forget("one")
			return in(regionA, g, i, k)
		}, ""},
		{"another writer's forget", func(c *chain) []held {
			i := c.intent(one, regionA)
			return in(regionA, i, c.ack(i, one, regionA), f.chain(t, writerTwo, instance2, session2).forget("one"))
		}, "one:a"},
		{"a checkpoint", func(c *chain) []held {
			i := c.intent(one, regionA, regionB)
			c.ack(i, one, regionA, regionB)
			return in(regionA, c.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA, regionB}}}, nil))
		}, "one:a"},
		{"a checkpoint of another incarnation", func(c *chain) []held {
			i := c.intent(one, formerA)
			return in(regionA, c.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{formerA, regionB}}}, nil))
		}, ""},
		{"a checkpoint of another writer's snapshot", func(c *chain) []held {
			i := c.intent(one, regionA)
			x := f.chain(t, writerTwo, instance2, session2)
			x.open(regionA)
			return in(regionA, x.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA}}}, nil))
		}, ""},
		{"a checkpoint of another instance's snapshot", func(c *chain) []held {
			i := c.intent(one, regionA)
			x := f.chain(t, writerOne, instance2, session2)
			x.open(regionA)
			return in(regionA, x.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA}}}, nil))
		}, ""},
		{"a forget after a checkpoint", func(c *chain) []held {
			i := c.intent([]string{"one", "two"}, regionA)
			k := c.checkpoint([]Live{
				{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA}},
				{Snapshot: id("two"), Intent: i.Ref(), Session: session1, Regions: []string{regionA}},
			}, nil)
			return in(regionA, k, c.forget("two"))
		}, "one:a"},
		{"one snapshot through two sessions", func(c *chain) []held {
			x := f.chain(t, writerTwo, instance2, session2)
			i, j := c.intent(one, regionA), x.intent(one, regionB)
			return slices.Concat(in(regionA, i, c.ack(i, one, regionA), j), in(regionB, i, j, x.ack(j, one, regionB)))
		}, "one:ab"},
		{"one of two sessions forgets", func(c *chain) []held {
			x := f.chain(t, writerTwo, instance2, session2)
			i, j := c.intent(one, regionA), x.intent(one, regionA)
			return in(regionA, i, c.ack(i, one, regionA), j, x.ack(j, one, regionA), x.forget("one"))
		}, "one:a"},
		{"two writers' checkpoints, one forgets", func(c *chain) []held {
			x := f.chain(t, writerTwo, instance2, session2)
			i, j := c.intent(one, regionA), x.intent(one, regionA)
			return in(regionA,
				c.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA}}}, nil),
				x.checkpoint([]Live{{Snapshot: id("one"), Intent: j.Ref(), Session: session2, Regions: []string{regionA}}}, nil), x.forget("one"))
		}, "one:a"},
		{"an end shows nothing and hides nothing", func(c *chain) []held {
			i := c.intent(one, regionA)
			k := c.ack(i, one, regionA)
			j := c.intent([]string{"two"}, regionA)
			return in(regionA, i, k, j, c.say(Statement{Type: End, Aborted: true}))
		}, "one:a"},
		{"an ack after the end", func(c *chain) []held {
			i := c.intent(one, regionA)
			e := c.say(Statement{Type: End})
			return in(regionA, i, e, c.ack(i, one, regionA))
		}, "one:a"},
		{"an intent fetched for its packs only", func(c *chain) []held {
			i := c.intent(one, regionA)
			return in(regionA, c.ack(i, one, regionA)) // the test adds the intent with AddIntent
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := f.chain(t, writerOne, instance1, session1)
			statements := tt.hold(c)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 8 { // what comes first must not matter
				v := NewView()
				v.AddRegion(regionA)
				v.AddRegion(regionB)
				for _, h := range statements {
					v.Add(h.region, h.Signed)
					if h.Type == Ack && tt.want == "" && len(statements) == 1 {
						v.AddIntent(f.chain(t, writerOne, instance1, session1).intent(one, regionA))
					}
				}
				if got := shown(v); got != tt.want {
					t.Fatalf("%q is shown, want %q", got, tt.want)
				}
				rng.Shuffle(len(statements), func(i, j int) { statements[i], statements[j] = statements[j], statements[i] })
			}
		})
	}
}

// Two readers that hear the same in another order say the same of every snapshot.
func TestShownDoesNotHangOnOrder(t *testing.T) {
	f := newFixture(t)
	c, x := f.chain(t, writerOne, instance1, session1), f.chain(t, writerTwo, instance2, session2)
	names := []string{"one"}
	i, j := c.intent(names, regionA, regionB), x.intent(names, regionA, regionB)
	all := slices.Concat(in(regionA, i, c.ack(i, names, regionA), j, x.ack(j, names, regionA, regionB)), in(regionB, i, j, x.ack(j, names, regionA, regionB)))
	rng := rand.New(rand.NewPCG(3, 4))
	read := func(prefer string) *Shown {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		v := NewView()
		if prefer != "" {
			v.Prefer(func(writer string) bool { return writer == prefer })
		}
		for _, h := range all {
			v.Add(h.region, h.Signed)
		}
		return v.Snapshots()[id("one")]
	}
	for _, prefer := range []string{"", writerOne, writerTwo} {
		first := read(prefer)
		for range 20 {
			s := read(prefer)
			if s.Writer != first.Writer || s.Session != first.Session || !maps.Equal(s.Intents, first.Intents) || !s.Seen.Equal(first.Seen) || s.Best() != first.Best() {
				t.Fatalf("prefer %q: %+v, before %+v", prefer, s, first)
			}
		}
		if prefer != "" && (first.Writer != prefer || first.Intents[regionA].Writer != prefer) {
			t.Errorf("prefer %.8s: %+v", prefer, first)
		}
		if first.Intents[regionB] != j.Ref() {
			t.Errorf("region B shows it by %+v, which acknowledged nothing there", first.Intents[regionB])
		}
	}
}

func TestSeenIsTheEarliest(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	i := c.intent([]string{"one"}, regionA, regionB)
	k := c.ack(i, []string{"one"}, regionA, regionB)
	v := NewView()
	v.Add(regionB, i)
	v.Add(regionB, k)
	s := v.Snapshots()[id("one")]
	if s == nil || !s.Seen.Equal(at()) || !s.Shows(regionB) || s.Shows(regionA) {
		t.Errorf("%+v", s)
	}
	if _, ok := v.Intent(i.HashText()); !ok || !v.Holds(regionB, i.HashText()) || v.Holds(regionA, i.HashText()) {
		t.Error("the intent is not held by region B alone")
	}
	if ref, ok := v.Authored(writerOne, id("one")); !ok || ref != i.Ref() {
		t.Errorf("authored: %+v, %v", ref, ok)
	}
	if _, ok := v.Authored(writerTwo, id("one")); ok {
		t.Error("the other writer has said nothing")
	}
}

func TestSessionsAndHeads(t *testing.T) {
	f := newFixture(t)
	c, x := f.chain(t, writerOne, instance1, session1), f.chain(t, writerTwo, instance2, session1)
	v := NewView()
	v.Add(regionA, c.open(regionA))
	v.Add(regionA, x.open(regionA))
	if got := v.OpenSessions(); len(got) != 2 {
		t.Errorf("open: %v", got)
	}
	end := c.say(Statement{Type: End})
	v.Add(regionB, end)
	if got := v.OpenSessions(); !slices.Equal(got, []string{writerTwo + session1}) {
		t.Errorf("open after the end of another writer's session of the same name: %v", got)
	}
	if got := v.OpenIn(writerTwo, instance2); !slices.Equal(got, []string{session1}) {
		t.Errorf("open in the other instance: %v", got)
	}
	if got := v.Head(writerOne, instance1); got != end.Ref() {
		t.Errorf("head %+v, want %+v", got, end.Ref())
	}
	v.Add(regionA, c.checkpoint(nil, nil))
	if got := v.Head(writerOne, instance1); got != end.Ref() {
		t.Errorf("head after a checkpoint %+v, want %+v", got, end.Ref())
	}
}

func TestDrillsAreSorted(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	v := NewView()
	var all []*Signed
	for range 5 {
		all = append(all, c.say(Statement{Type: Drill}))
	}
	for _, d := range slices.Backward(all) {
		v.Add(regionA, d)
		v.Add(regionB, d)
	}
	got := v.Drills()
	for i, d := range got {
		if len(got) != 5 || d.Hash != all[i].Hash {
			t.Fatalf("%d drills, number %d is %d", len(got), i, d.Seq)
		}
	}
}

// A view may be read while it is filled.
func TestViewIsSafeForConcurrentUse(t *testing.T) {
	f := newFixture(t)
	v := NewView()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := f.chain(t, writerOne, instance1, session1)
		for range 200 {
			i := c.intent([]string{"one"}, regionA)
			v.Add(regionA, i)
			v.AddIntent(i)
			v.Add(regionA, c.ack(i, []string{"one"}, regionA))
		}
	}()
	for {
		v.Snapshots()
		v.Carry(writerOne, instance1)
		v.Drills()
		v.OpenSessions()
		v.Replaces(regionA, nil)
		v.Head(writerOne, instance1)
		select {
		case <-done:
			return
		case <-time.After(time.Microsecond):
		}
	}
}

// Where a snapshot was taken in its writer's chain: the first intent that names it
// in several regions, be it read itself or from a checkpoint. What may be a
// replicator's copy, or comes from two instances, tells nothing.
func TestTaken(t *testing.T) {
	f := newFixture(t)
	one := []string{"one"}
	var want Ref
	for _, tt := range []struct {
		name string
		say  func(c *chain) []*Signed
	}{
		{"an intent", func(c *chain) []*Signed {
			c.open(regionA, regionB)
			i := c.intent(one, regionA, regionB)
			want = i.Ref()
			return []*Signed{i}
		}},
		{"two intents of one instance", func(c *chain) []*Signed {
			i, j := c.intent(one, regionA, regionB), c.intent(one, regionA, regionB)
			want = i.Ref()
			return []*Signed{j, i, j}
		}},
		{"copied later", func(c *chain) []*Signed {
			i, j := c.intent(one, regionA, regionB), c.intent(one, regionB)
			want = i.Ref()
			return []*Signed{i, j}
		}},
		{"only the copy", func(c *chain) []*Signed {
			c.intent(one, regionA, regionB)
			want = Ref{}
			return []*Signed{c.intent(one, regionB)}
		}},
		{"two instances", func(c *chain) []*Signed {
			x := f.chain(t, writerOne, instance2, session2)
			want = Ref{}
			return []*Signed{c.intent(one, regionA, regionB), x.intent(one, regionA, regionB), c.intent(one, regionA, regionB)}
		}},
		{"another writer", func(c *chain) []*Signed {
			want = Ref{}
			return []*Signed{f.chain(t, writerTwo, instance2, session2).intent(one, regionA, regionB)}
		}},
		{"a checkpoint", func(c *chain) []*Signed {
			i := c.intent(one, regionA, regionB)
			c.ack(i, one, regionA, regionB)
			want = i.Ref()
			return []*Signed{c.checkpoint([]Live{{Snapshot: id("one"), Intent: i.Ref(), Session: session1, Regions: []string{regionA, regionB}}}, nil)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := tt.say(f.chain(t, writerOne, instance1, session1))
			v := NewView()
			for _, s := range all {
				v.Add(regionB, s)
			}
			got, ok := v.Taken(writerOne, id("one"))
			if ok != (want != Ref{}) || got != want {
				t.Errorf("got %+v, %v, want %+v", got, ok, want)
			}
		})
	}
}
