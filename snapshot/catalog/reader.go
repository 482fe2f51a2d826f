package catalog

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// Chunks reads metadata chunks. Reads run ahead in a goroutine of their own, so a
// caller that writes one catalog while it reads another needs a Chunks that
// stands a Read beside a Put.
type Chunks interface {
	// Read gets chunks by id, and has checked that their bytes match it. It calls
	// emit once for every index of want, from several goroutines at once if it
	// likes and in any order; data is valid only during the call. When emit
	// fails, or a chunk cannot be had, Read returns that error. No call of emit
	// is running or comes when it has returned.
	Read(ctx context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error
}

// A Reader reads one catalog. It holds only the top page. Any number of
// goroutines may use it, if they may use its Chunks.
type Reader struct {
	chunks Chunks
	root   link
	page   []byte // the root page
	links  []link // its items, unless it is a leaf
}

// Open reads the root page of a catalog.
func Open(ctx context.Context, chunks Chunks, root Root) (*Reader, error) {
	if root.Level < 0 || root.Level > levelMax {
		return nil, damaged(root.ID, fmt.Errorf("level %d of the root", root.Level))
	}
	r := &Reader{chunks: chunks, root: link{id: root.ID, level: root.Level, entries: root.Entries}}
	var top page
	err := fetch(ctx, chunks, []link{r.root}, []*page{&top})
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	r.page = top.buf
	if root.Level > 0 {
		r.links, err = readLinks(r.page, &r.root)
	} else {
		err = new(leaf).open(r.page, r.root)
	}
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	return r, nil
}

// Root gives what the catalog was opened with.
func (r *Reader) Root() Root {
	return Root{ID: r.root.id, Level: r.root.level, Entries: r.root.entries}
}

// page is a page that has been read, and what led to it.
type page struct {
	buf []byte
	of  link
}

// fetch reads pages into buffers of ours: into[i] is the page that links[i] names.
func fetch(ctx context.Context, chunks Chunks, links []link, into []*page) error {
	want := make([]pack.ChunkID, len(links))
	for i := range links {
		want[i] = links[i].id
	}
	got := make([]bool, len(links))
	err := chunks.Read(ctx, want, func(i int, data []byte) error {
		if len(data) > PageMax {
			return damaged(want[i], fmt.Errorf("page of %d bytes, at most %d", len(data), PageMax))
		}
		into[i].buf, into[i].of = append(into[i].buf[:0], data...), links[i]
		got[i] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("read catalog pages from %s: %w", want[0], err)
	}
	if i := slices.Index(got, false); i >= 0 {
		return fmt.Errorf("read catalog page %s: it did not come: %w", want[i], storage.ErrNotFound)
	}
	return nil
}

// fetchLinks reads a page above the leaves.
func (r *Reader) fetchLinks(ctx context.Context, l link) ([]link, error) {
	if l.id == r.root.id && l.level == r.root.level {
		return r.links, nil
	}
	var p page
	if err := fetch(ctx, r.chunks, []link{l}, []*page{&p}); err != nil {
		return nil, err
	}
	return readLinks(p.buf, &l)
}

// fetchLeaves reads leaves.
func (r *Reader) fetchLeaves(ctx context.Context, links []link, into []*page) error {
	if r.root.level == 0 && len(links) == 1 && links[0].id == r.root.id {
		into[0].buf, into[0].of = append(into[0].buf[:0], r.page...), r.root
		return nil
	}
	return fetch(ctx, r.chunks, links, into)
}

// Lookup finds the entry with exactly this path; false if there is none. It
// reads one page per level below the root. The entry is the caller's to keep.
func (r *Reader) Lookup(ctx context.Context, path []byte) (*Entry, bool, error) {
	at := r.root
	for links := r.links; at.level > 0; {
		i, found := slices.BinarySearchFunc(links, path, func(l link, path []byte) int { return Compare(l.last, path) })
		if !found && (i == len(links) || Compare(path, links[i].first) < 0) {
			return nil, false, nil
		}
		if at = links[i]; at.level == 0 {
			break
		}
		var err error
		if links, err = r.fetchLinks(ctx, at); err != nil {
			return nil, false, fmt.Errorf("look up %q: %w", shorten(path), err)
		}
	}
	var p page
	err := r.fetchLeaves(ctx, []link{at}, []*page{&p})
	if err != nil {
		return nil, false, fmt.Errorf("look up %q: %w", shorten(path), err)
	}
	var f leaf
	e := new(Entry)
	for err = f.open(p.buf, at); err == nil && f.left > 0; {
		if err = f.next(e); err != nil {
			break
		}
		if d := Compare(e.Path, path); d == 0 {
			return e, true, nil
		} else if d > 0 {
			break // its place is empty
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("look up %q: %w", shorten(path), err)
	}
	return nil, false, nil
}

// All yields every entry in order. An entry is valid until the next; Clone it to
// keep it. An error ends the sequence.
func (r *Reader) All(ctx context.Context) iter.Seq2[*Entry, error] {
	return r.Under(ctx, nil)
}

// Under yields the entry with the path and all that lie below it, in order. It
// reads no pages that hold none of them. Entries are valid until the next. An
// error ends the sequence.
func (r *Reader) Under(ctx context.Context, top []byte) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		s := newStream(ctx, r, top)
		defer s.close()
		var e Entry
		for {
			more, err := s.next(&e)
			if err != nil {
				yield(nil, err)
				return
			}
			if !more || !yield(&e, nil) {
				return
			}
		}
	}
}

// Children yields the entries right below a directory, in order, and jumps over
// what lies deeper. Entries are valid until the next. An error ends the sequence.
func (r *Reader) Children(ctx context.Context, dir []byte) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		s := newStream(ctx, r, dir)
		defer s.close()
		var e Entry
		for {
			more, err := s.next(&e)
			if err != nil {
				yield(nil, err)
				return
			}
			if !more {
				return
			}
			if len(e.Path) == len(dir) {
				continue
			}
			child := childOf(dir, e.Path)
			if len(child) == len(e.Path) && !yield(&e, nil) {
				return
			}
			s.jump(child)
		}
	}
}

// childOf gives the part of path that is right below dir.
func childOf(dir, path []byte) []byte {
	from := len(dir)
	if from > 0 {
		from++ // the slash
	}
	if i := bytes.IndexByte(path[from:], '/'); i >= 0 {
		return path[:from+i]
	}
	return path
}
