package catalog

import (
	"bytes"
	"context"
)

// walk goes through the tree and finds the leaves that are wanted, in order.
type walk struct {
	r     *Reader
	top   []byte // only leaves with something within this
	from  []byte // no leaves that end before this
	over  []byte // no leaves that lie wholly within this, unless it is nil
	stack []spot
}

// spot is a place on a page above the leaves.
type spot struct {
	links []link
	next  int
}

func newWalk(r *Reader, top []byte) walk {
	links := r.links
	if r.root.level == 0 {
		links = []link{r.root}
	}
	top = bytes.Clone(top)
	return walk{r: r, top: top, from: top, stack: []spot{{links: links}}}
}

// leaves gives the links to the next leaves, at most most; none at the end.
func (w *walk) leaves(ctx context.Context, most int) ([]link, error) {
	var found []link
	for len(w.stack) > 0 && len(found) < most {
		s := &w.stack[len(w.stack)-1]
		if s.next == len(s.links) {
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		l := s.links[s.next]
		s.next++
		switch {
		case !w.wants(&l):
		case l.level == 0:
			found = append(found, l)
		default:
			links, err := w.r.fetchLinks(ctx, l)
			if err != nil {
				return nil, err
			}
			w.stack = append(w.stack, spot{links: links})
		}
	}
	return found, nil
}

// wants says whether there can be something wanted below a link.
func (w *walk) wants(l *link) bool {
	if l.first == nil { // the root
		return true
	}
	if Compare(l.last, w.from) < 0 || w.over != nil && Within(w.over, l.first) && Within(w.over, l.last) {
		return false
	}
	if past(w.top, l.first) {
		w.stack = w.stack[:0] // and so is all that follows
		return false
	}
	return true
}

// past says whether path comes after all that is within top.
func past(top, path []byte) bool {
	return Compare(path, top) > 0 && !Within(top, path)
}

// stream yields the entries within a path, and reads pages ahead: while one
// batch is being looked at, a goroutine fetches the next. close waits for it.
type stream struct {
	ctx    context.Context // of this one pass, held because the pass is an object
	stop   context.CancelFunc
	walk   walk
	leaf   leaf
	now    []*page     // the batch being looked at
	at     int         // pages of it that have been begun
	spare  []*page     // buffers for the batch after
	batch  int         // pages in the next batch
	flight chan landed // of the batch that is being fetched, or nil
	from   []byte      // where a jump forward leads, or nil
	over   []byte      // what is to be jumped over, or nil
	ended  bool
	err    error
}

// landed is a batch that has been fetched.
type landed struct {
	pages []*page
	err   error
}

func newStream(ctx context.Context, r *Reader, top []byte) *stream {
	s := &stream{walk: newWalk(r, top), batch: 1}
	s.ctx, s.stop = context.WithCancel(ctx)
	return s
}

// close ends the stream, and the goroutine that reads ahead.
func (s *stream) close() {
	s.stop()
	if s.flight != nil {
		<-s.flight
		s.flight = nil
	}
	s.ended = true
}

// next reads the next entry; false at the end. An error comes again and again.
func (s *stream) next(e *Entry) (bool, error) {
	for {
		for s.leaf.left == 0 {
			if more, err := s.nextPage(); !more {
				return false, err
			}
		}
		if err := s.leaf.next(e); err != nil {
			s.err = err
			return false, err
		}
		switch {
		case s.over != nil && Within(s.over, e.Path):
			s.dropPage(s.over)
		case len(s.walk.top) == 0 || Within(s.walk.top, e.Path):
			return true, nil
		case Compare(e.Path, s.walk.top) > 0:
			s.leaf.left = 0
			s.close()
			return false, nil
		}
	}
}

// jump makes the stream pass over all that is within a path.
func (s *stream) jump(over []byte) { s.over = append(s.over[:0], over...) }

// dropPage leaves the rest of the page unread when it lies wholly within over.
func (s *stream) dropPage(over []byte) {
	if last := s.leaf.of.last; last != nil && Within(over, last) {
		s.leaf.left = 0
	}
}

// forward makes the stream pass over pages that end before path. It may still
// yield earlier entries.
func (s *stream) forward(path []byte) {
	if last := s.leaf.of.last; last == nil || Compare(last, path) >= 0 {
		return
	}
	s.leaf.left = 0
	s.from = append(s.from[:0], path...)
}

// nextPage opens the next page that is wanted; false at the end.
func (s *stream) nextPage() (bool, error) {
	for s.err == nil && !s.ended {
		if s.at == len(s.now) {
			s.err = s.nextBatch()
			continue
		}
		p := s.now[s.at]
		s.at++
		if p.of.last != nil && s.from != nil && Compare(p.of.last, s.from) < 0 {
			continue
		}
		if s.over != nil && p.of.last != nil && Within(s.over, p.of.first) && Within(s.over, p.of.last) {
			continue
		}
		s.err = s.leaf.open(p.buf, p.of)
		return s.err == nil, s.err
	}
	return false, s.err
}

// nextBatch waits for the batch in flight, or fetches one, and sends for the one after.
func (s *stream) nextBatch() error {
	if s.flight == nil {
		s.takeOff()
	}
	got := <-s.flight
	s.flight = nil
	if got.err != nil {
		return got.err
	}
	s.spare, s.now, s.at = s.now, got.pages, 0
	if len(s.now) == 0 {
		s.close()
		return nil
	}
	s.takeOff()
	return nil
}

// takeOff sends for the next batch. Until it lands, the walk belongs to the goroutine.
func (s *stream) takeOff() {
	if s.from != nil {
		s.walk.from = append([]byte(nil), s.from...)
	}
	if s.over != nil {
		s.walk.over = append([]byte(nil), s.over...)
	}
	pages, batch := s.spare, s.batch
	s.batch = min(2*s.batch, pagesRead)
	s.flight = make(chan landed, 1)
	go func(to chan<- landed) {
		got, err := s.walk.fetch(s.ctx, pages, batch)
		to <- landed{pages: got, err: err}
	}(s.flight)
}

// fetch reads the next leaves, at most most, into the buffers of pages.
func (w *walk) fetch(ctx context.Context, pages []*page, most int) ([]*page, error) {
	links, err := w.leaves(ctx, most)
	if err != nil || len(links) == 0 {
		return nil, err
	}
	for len(pages) < len(links) {
		pages = append(pages, new(page))
	}
	pages = pages[:len(links)]
	return pages, w.r.fetchLeaves(ctx, links, pages)
}
