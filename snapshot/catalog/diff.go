package catalog

import (
	"bytes"
	"context"
	"iter"
)

// Change is one difference between two catalogs.
type Change struct {
	Old *Entry // nil: New was added
	New *Entry // nil: Old was removed
}

// Path is the path of the entry that differs.
func (c Change) Path() []byte {
	if c.New != nil {
		return c.New.Path
	}
	return c.Old.Path
}

// Diff yields what differs between two catalogs, in order: entries only in a,
// only in b, or in both but with any field unlike. Subtrees with equal ids are
// not read, so the cost follows the change. Both catalogs must be of one domain.
// A change is valid until the next. An error ends the sequence.
func Diff(ctx context.Context, a, b *Reader) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if a.root.id == b.root.id {
			return
		}
		d := differ{a: newSide(a), b: newSide(b)}
		for {
			change, more, err := d.next(ctx)
			if err != nil {
				yield(Change{}, err)
				return
			}
			if !more || !yield(change, nil) {
				return
			}
		}
	}
}

// differ merges two trees from the top down. Each side stands at an entry, or at
// a page that it has not opened.
type differ struct{ a, b *side }

// next finds the next change; false at the end.
func (d *differ) next(ctx context.Context) (Change, bool, error) {
	for {
		if err := d.a.settle(); err != nil {
			return Change{}, false, err
		}
		if err := d.b.settle(); err != nil {
			return Change{}, false, err
		}
		if d.a.ended() && d.b.ended() {
			return Change{}, false, nil
		}
		if skipped := d.skipEqual(); skipped {
			continue
		}
		opened, err := d.open(ctx)
		if err != nil {
			return Change{}, false, err
		}
		if opened {
			continue
		}
		if change, differs := d.take(); differs {
			return change, true, nil
		}
	}
}

// skipEqual passes the page that both sides stand at, if it is the same one.
func (d *differ) skipEqual() bool {
	la, lb := d.a.link(), d.b.link()
	if la == nil || lb == nil || la.id != lb.id || la.level != lb.level {
		return false
	}
	d.a.pass()
	d.b.pass()
	return true
}

// open opens a page of one side, when the next change cannot be told without.
func (d *differ) open(ctx context.Context) (opened bool, err error) {
	la, lb := d.a.link(), d.b.link()
	switch {
	case la != nil && lb != nil:
		if Compare(lb.last, la.first) < 0 || Compare(la.last, lb.first) >= 0 && lb.level > la.level {
			return true, d.b.open(ctx, d.a)
		}
		return true, d.a.open(ctx, d.b)
	case la != nil && (d.b.ended() || Compare(d.b.entry.Path, la.first) >= 0):
		return true, d.a.open(ctx, d.b)
	case lb != nil && (d.a.ended() || Compare(d.a.entry.Path, lb.first) >= 0):
		return true, d.b.open(ctx, d.a)
	}
	return false, nil
}

// take takes the lower of two entries, or both when they have one path; no
// change when they are equal. A side that stands before a page, or at the end, has
// nothing lower than the other's entry.
func (d *differ) take() (Change, bool) {
	order := 0
	switch {
	case !d.a.on:
		order = 1
	case !d.b.on:
		order = -1
	default:
		order = Compare(d.a.entry.Path, d.b.entry.Path)
	}
	var change Change
	if order <= 0 {
		change.Old, d.a.on = &d.a.entry, false
	}
	if order >= 0 {
		change.New, d.b.on = &d.b.entry, false
	}
	return change, order != 0 || !bytes.Equal(d.a.leaf.raw(), d.b.leaf.raw())
}

// side is a place in one tree.
type side struct {
	r     *Reader
	stack []spot
	leaf  leaf
	entry Entry
	on    bool    // stands at entry
	pages []*page // leaves that have been read, the open one among them
	known int     // how many of pages hold something
}

func newSide(r *Reader) *side {
	w := newWalk(r, nil)
	return &side{r: r, stack: w.stack}
}

// settle goes to the next entry of the open leaf; without one, to the next page.
func (s *side) settle() error {
	if s.on {
		return nil
	}
	if s.leaf.left > 0 {
		err := s.leaf.next(&s.entry)
		s.on = err == nil
		return err
	}
	for len(s.stack) > 0 && s.spot().next == len(s.spot().links) {
		s.stack = s.stack[:len(s.stack)-1]
	}
	return nil
}

func (s *side) spot() *spot { return &s.stack[len(s.stack)-1] }

func (s *side) ended() bool { return !s.on && len(s.stack) == 0 }

// link is the page that the side stands at, or nil when it stands at an entry or the end.
func (s *side) link() *link {
	if s.on || len(s.stack) == 0 {
		return nil
	}
	return &s.spot().links[s.spot().next]
}

// pass goes over a page without opening it.
func (s *side) pass() { s.spot().next++ }

// open opens the page that the side stands at.
func (s *side) open(ctx context.Context, other *side) error {
	l := *s.link()
	if l.level > 0 {
		links, err := s.r.fetchLinks(ctx, l)
		if err != nil {
			return err
		}
		s.pass()
		s.stack = append(s.stack, spot{links: links})
		return nil
	}
	p := s.have(&l)
	if p == nil {
		if err := s.readAhead(ctx, other); err != nil {
			return err
		}
		p = s.pages[0]
	}
	s.pass()
	return s.leaf.open(p.buf, p.of)
}

// have gives a leaf that has been read already.
func (s *side) have(l *link) *page {
	for _, p := range s.pages[:s.known] {
		if p.of.id == l.id {
			return p
		}
	}
	return nil
}

// readAhead reads the leaf that the side stands at, and those after it on the
// same page that the other side does not have too: they will be wanted.
func (s *side) readAhead(ctx context.Context, other *side) error {
	spot := s.spot()
	links := make([]link, 0, pagesRead)
	for i := spot.next; i < len(spot.links) && len(links) < pagesRead; i++ {
		if l := spot.links[i]; i == spot.next || !other.shows(&l) {
			links = append(links, l)
		}
	}
	for len(s.pages) < len(links) {
		s.pages = append(s.pages, new(page))
	}
	s.known = 0
	if err := s.r.fetchLeaves(ctx, links, s.pages[:len(links)]); err != nil {
		return err
	}
	s.known = len(links)
	return nil
}

// shows says whether a page is among those that follow on the side's lowest page of links.
func (s *side) shows(l *link) bool {
	if len(s.stack) == 0 {
		return false
	}
	spot := s.spot()
	for i := spot.next; i < len(spot.links); i++ {
		if spot.links[i].id == l.id {
			return true
		}
	}
	return false
}
