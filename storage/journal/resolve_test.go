package journal

import (
	"errors"
	"slices"
	"testing"

	"lifeboat/storage"
)

// intents serves intents by hash, as a view does.
type intents map[string]*Signed

func (m intents) get(r Ref) (*Signed, error) {
	s, ok := m[r.Hash]
	if !ok {
		return nil, storage.ErrNotFound
	}
	return s, nil
}

func (m intents) set(c *chain, base *Ref, add, drop []string) *Signed {
	s := c.say(Statement{Type: Intent, Snapshots: snapshots(true, "one"), Regions: []string{regionA}, Packs: &PackSet{Base: base, Add: add, Drop: drop}})
	m[s.HashText()] = s
	return s
}

func ref(s *Signed) *Ref { r := s.Ref(); return &r }

func TestResolve(t *testing.T) {
	f := newFixture(t)
	c, m := f.chain(t, writerOne, instance1, session1), intents{}
	a := m.set(c, nil, []string{"p1", "p2"}, nil)
	b := m.set(c, ref(a), []string{"p3"}, []string{"p1"})
	again := m.set(c, ref(b), []string{"p1"}, []string{"p2", "p9"})
	both := m.set(c, ref(again), []string{"p4"}, []string{"p4"})
	none := c.say(Statement{Type: Intent, Snapshots: snapshots(true, "one"), Regions: []string{regionA}})
	m[none.HashText()] = none
	for _, tt := range []struct {
		name string
		of   *Signed
		want []string
	}{
		{"whole", a, []string{"p1", "p2"}},
		{"a difference", b, []string{"p2", "p3"}},
		{"dropped and back, and a drop of what is not there", again, []string{"p1", "p3"}},
		{"added and dropped at once", both, []string{"p1", "p3"}},
		{"no set at all", none, nil},
	} {
		got, err := Resolve(tt.of.Ref(), m.get)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	delete(m, a.HashText())
	if got, err := Resolve(b.Ref(), m.get); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("without its base: %v, %v", got, err)
	}
}

// A chain of differences without end is refused, also one that bites its tail.
func TestResolveEnds(t *testing.T) {
	f := newFixture(t)
	c, m := f.chain(t, writerOne, instance1, session1), intents{}
	s := m.set(c, nil, []string{"p0"}, nil)
	for n := 1; n < closureDepthMax; n++ {
		s = m.set(c, ref(s), []string{pack(string(rune('0' + n)))}, nil)
	}
	if got, err := Resolve(s.Ref(), m.get); err != nil || len(got) != closureDepthMax {
		t.Errorf("%d deep: %d packs, %v", closureDepthMax, len(got), err)
	}
	s = m.set(c, ref(s), nil, nil)
	if _, err := Resolve(s.Ref(), m.get); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("one deeper: %v", err)
	}
	self := m.set(c, nil, []string{"p"}, nil)
	self.Packs.Base = ref(self)
	if _, err := Resolve(self.Ref(), m.get); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("built on itself: %v", err)
	}
}
