package catalog

import (
	"bytes"
	"fmt"

	"github.com/zeebo/xxh3"

	"lifeboat/storage/pack"
)

// Root names a catalog: the top page of its tree.
type Root struct {
	ID      pack.ChunkID
	Level   int    // of that page; 0 when it is the only one
	Entries uint64 // in the whole catalog
}

// Put stores a finished page as a metadata chunk and gives its id. The page is
// only lent for the call.
type Put func(page []byte) (pack.ChunkID, error)

// A Builder writes a catalog: entries go in sorted, pages come out. It holds one
// unfinished page per level of the tree, however many entries there are. After
// Put has failed, so does everything else with the same error.
type Builder struct {
	seed   uint64
	put    Put
	levels []*level
	last   []byte // path of the last entry
	begun  bool   // there is a last entry
	err    error
}

// level is the unfinished page of one level.
type level struct {
	buf     []byte // pageHeadMax bytes for the head, then the items
	items   int
	entries uint64 // leaf entries below the items
	first   []byte // path of the first entry below
	pages   int    // finished
}

// NewBuilder makes a builder. pathSeed is the domain's: it decides where pages
// end, so a catalog deduplicates against its parent only under the same one. put
// is called once per page, a page's children before it, from inside Add,
// AddEncoded and Finish.
func NewBuilder(pathSeed uint64, put func(page []byte) (pack.ChunkID, error)) *Builder {
	return &Builder{seed: pathSeed, put: put, levels: []*level{newLevel()}}
}

func newLevel() *level { return &level{buf: make([]byte, pageHeadMax, pageSoft)} }

// Add appends an entry. Its path must come after the one before. It keeps
// nothing of e, but may put its Xattrs into the order in which they are stored.
// ErrInvalid: the entry breaks a rule, the catalog is as it was and may go on.
func (b *Builder) Add(e *Entry) error {
	if b.err != nil {
		return b.err
	}
	err := sortXattrs(e.Xattrs)
	if err == nil {
		err = e.check()
	}
	if err == nil {
		err = b.follows(e.Path)
	}
	if err != nil {
		return fmt.Errorf("add %q: %w: %w", shorten(e.Path), ErrInvalid, err)
	}
	leaf := b.levels[0]
	size := len(leaf.buf)
	leaf.buf = appendEntry(leaf.buf, e)
	if n := len(leaf.buf) - size; n > EntryMax {
		leaf.buf = leaf.buf[:size]
		return fmt.Errorf("add %q: %w: %d bytes, at most %d", shorten(e.Path), ErrInvalid, n, EntryMax)
	}
	return b.added(e.Path)
}

// AddEncoded appends an entry by its encoding, as Cursor.Raw gives it, which a
// reader has checked. The path must be the entry's own, and come after the one before.
func (b *Builder) AddEncoded(path, raw []byte) error {
	if b.err != nil {
		return b.err
	}
	p := parser{buf: raw}
	p.expect(majorMap)
	p.uint(keyPath)
	if own := p.bytes(PathMax); p.err != nil || !bytes.Equal(own, path) || len(raw) > EntryMax {
		return fmt.Errorf("add %q: %w: not an encoding of it", shorten(path), ErrInvalid)
	}
	if err := b.follows(path); err != nil {
		return fmt.Errorf("add %q: %w: %w", shorten(path), ErrInvalid, err)
	}
	leaf := b.levels[0]
	leaf.buf = append(leaf.buf, raw...)
	return b.added(path)
}

// follows checks that a path may come next.
func (b *Builder) follows(path []byte) error {
	if b.begun && Compare(b.last, path) >= 0 {
		return fmt.Errorf("it does not come after %q", shorten(b.last))
	}
	return nil
}

// added counts the entry at the end of the leaf, and ends the leaf if it is time.
func (b *Builder) added(path []byte) error {
	leaf := b.levels[0]
	if leaf.items == 0 {
		leaf.first = append(leaf.first[:0], path...)
	}
	leaf.items++
	leaf.entries++
	b.last, b.begun = append(b.last[:0], path...), true
	b.err = b.cut(0)
	return b.err
}

// cut ends pages from a level upwards, as far as the rule says so.
func (b *Builder) cut(at int) error {
	for ; b.ends(at); at++ {
		l, err := b.finish(at)
		if err != nil {
			return err
		}
		if err := b.link(&l); err != nil {
			return err
		}
	}
	return nil
}

// ends says whether the page of a level ends after its last item: see the package comment.
func (b *Builder) ends(at int) bool {
	l := b.levels[at]
	if len(l.buf) < pageSoft || at > 0 && l.items < 2 {
		return false // the head is shorter than its room: a cheap first look
	}
	size := len(l.buf) - pageHeadMax + pageHeadLen(at, l.items)
	if size >= pageHard {
		return true
	}
	return size >= pageSoft && xxh3.HashSeed(b.last, b.seed+uint64(at)) < 1<<63/(cutOneIn/2)
}

// finish puts the page of a level, and empties it. The last path below it is b.last.
func (b *Builder) finish(at int) (link, error) {
	l := b.levels[at]
	head := pageHeadMax - pageHeadLen(at, l.items)
	appendPageHead(l.buf[head:head], at, l.items)
	id, err := b.put(l.buf[head:])
	if err != nil {
		return link{}, fmt.Errorf("store catalog page up to %q: %w", shorten(b.last), err)
	}
	done := link{first: l.first, last: b.last, id: id, entries: l.entries, level: at}
	l.buf, l.items, l.entries = l.buf[:pageHeadMax], 0, 0
	l.pages++
	return done, nil
}

// link adds a finished page to the level above it.
func (b *Builder) link(l *link) error {
	at := l.level + 1
	if at > levelMax {
		return fmt.Errorf("catalog tree higher than %d levels", levelMax)
	}
	if at == len(b.levels) {
		b.levels = append(b.levels, newLevel())
	}
	above := b.levels[at]
	if above.items == 0 {
		above.first = append(above.first[:0], l.first...)
	}
	above.buf = appendLink(above.buf, l)
	above.items++
	above.entries += l.entries
	return nil
}

// Finish stores what is left and gives the root. The builder takes no more entries.
func (b *Builder) Finish() (Root, error) {
	if b.err != nil {
		return Root{}, b.err
	}
	root, err := b.close()
	if b.err = err; err == nil {
		b.err = fmt.Errorf("%w: the catalog is finished", ErrInvalid)
	}
	return root, err
}

// close ends the pages from the bottom up. A level that makes but one page has
// made the root.
func (b *Builder) close() (Root, error) {
	for at := 0; ; at++ {
		l := b.levels[at]
		if l.items == 0 && l.pages > 0 {
			continue // ended on the spot; the level above has its link
		}
		if at > 0 && l.items == 1 && l.pages == 0 {
			return b.onlyChild(l)
		}
		done, err := b.finish(at)
		if err != nil {
			return Root{}, err
		}
		if l.pages == 1 {
			return Root{ID: done.id, Level: at, Entries: done.entries}, nil
		}
		if err := b.link(&done); err != nil {
			return Root{}, err
		}
	}
}

// onlyChild gives the root when the top level holds nothing but one link: what
// that names is the root.
func (b *Builder) onlyChild(l *level) (Root, error) {
	p := parser{buf: l.buf, at: pageHeadMax}
	at := 0
	for b.levels[at] != l {
		at++
	}
	only, err := p.readLink(at)
	if err != nil {
		return Root{}, fmt.Errorf("own catalog page: %w", err) // cannot be: we have just written it
	}
	return Root{ID: only.id, Level: only.level, Entries: only.entries}, nil
}
