package catalog

import (
	"bytes"
	"errors"
	"fmt"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

const (
	pageTag     = "cat1"
	pageHeadMax = 16 // bytes before the items, at most
)

// link is an item of a page above the leaves.
type link struct {
	first, last []byte // paths of the first and last entry below it
	id          pack.ChunkID
	entries     uint64 // leaf entries below it
	level       int    // of the page it names
}

// pageHeadLen gives the bytes before the items of a page.
func pageHeadLen(level, items int) int {
	var b [pageHeadMax]byte
	return len(appendPageHead(b[:0], level, items))
}

func appendPageHead(b []byte, level, items int) []byte {
	b = append(b, majorArray|3)
	b = append(b, majorText|byte(len(pageTag)))
	b = append(b, pageTag...)
	b = appendHead(b, majorUint, uint64(level))
	return appendHead(b, majorArray, uint64(items))
}

func appendLink(b []byte, l *link) []byte {
	b = append(b, majorArray|4)
	b = appendBytes(b, l.first)
	b = appendBytes(b, l.last)
	b = appendBytes(b, l.id[:])
	return appendHead(b, majorUint, l.entries)
}

// readPageHead reads up to the first item, and gives how many follow.
func (p *parser) readPageHead(wantLevel int) (items int, err error) {
	if len(p.buf) > PageMax {
		return 0, fmt.Errorf("page of %d bytes, at most %d", len(p.buf), PageMax)
	}
	if n := p.expect(majorArray); n != 3 && p.err == nil {
		return 0, errors.New("not a catalog page")
	}
	if tag := p.take(p.expect(majorText), len(pageTag)); string(tag) != pageTag {
		return 0, errors.New("not a catalog page")
	}
	level := p.uint(levelMax)
	items = p.count(majorArray, PageMax)
	switch {
	case p.err != nil:
		return 0, p.err
	case level != uint64(wantLevel):
		return 0, fmt.Errorf("page of level %d, not %d", level, wantLevel)
	}
	return items, nil
}

// readLink reads an item of a page of the level.
func (p *parser) readLink(level int) (l link, err error) {
	if n := p.expect(majorArray); n != 4 && p.err == nil {
		return l, errHead
	}
	l.first, l.last = p.bytes(PathMax), p.bytes(PathMax)
	id := p.bytes(idLen)
	l.entries = p.nonzero(1 << 62)
	l.level = level - 1
	if p.err != nil {
		return l, p.err
	}
	if len(id) != idLen {
		return l, errHead
	}
	l.id = pack.ChunkID(id)
	return l, nil
}

// readLinks reads a whole page above the leaves and holds it against the link
// that leads to it: what it spans, how many entries are below, and all in order.
// The links' paths are parts of buf.
func readLinks(buf []byte, of *link) ([]link, error) {
	p := parser{buf: buf}
	items, err := p.readPageHead(of.level)
	if err != nil {
		return nil, damaged(of.id, err)
	}
	if items == 0 {
		return nil, damaged(of.id, errors.New("no items"))
	}
	links := make([]link, 0, min(items, len(buf)/idLen))
	entries := uint64(0)
	for i := range items {
		l, err := p.readLink(of.level)
		if err == nil {
			err = l.check(links)
		}
		if err != nil {
			return nil, damaged(of.id, fmt.Errorf("item %d: %w", i, err))
		}
		links = append(links, l)
		entries += l.entries
		if entries > of.entries {
			break // before it can overflow
		}
	}
	switch {
	case p.at != len(buf):
		err = errors.New("bytes after the last item, or too many entries")
	case entries != of.entries:
		err = fmt.Errorf("%d entries, the page above says %d", entries, of.entries)
	case !of.spans(links[0].first, links[len(links)-1].last):
		err = errors.New("not what the page above says that it spans")
	}
	if err != nil {
		return nil, damaged(of.id, err)
	}
	return links, nil
}

// check holds a link against those before it on the page.
func (l *link) check(before []link) error {
	if err := CheckPath(l.first); err != nil {
		return err
	}
	if err := CheckPath(l.last); err != nil {
		return err
	}
	if d := Compare(l.first, l.last); d > 0 || (d == 0) != (l.entries == 1) {
		return fmt.Errorf("%d entries from %q to %q", l.entries, shorten(l.first), shorten(l.last))
	}
	if n := len(before); n > 0 && Compare(before[n-1].last, l.first) >= 0 {
		return fmt.Errorf("%q after %q", shorten(l.first), shorten(before[n-1].last))
	}
	return nil
}

// spans says whether a page from first to last is what the link promises. The
// link to the root promises nothing.
func (l *link) spans(first, last []byte) bool {
	return l.first == nil || bytes.Equal(l.first, first) && bytes.Equal(l.last, last)
}

// damaged makes the error of a page that breaks the rules.
func damaged(id pack.ChunkID, why error) error {
	return fmt.Errorf("catalog page %s: %w: %w", id, why, storage.ErrCorrupt)
}

// leaf reads the entries of a leaf, one by one.
type leaf struct {
	decoder
	of    link // leads to the page; its paths must live as long as the leaf
	left  int  // entries not read yet
	index int  // of the entry to be read next
	first []byte
	last  []byte // path of the entry read last
	start int    // where its encoding begins
}

// open begins a page. The decoder keeps what it can from the page before.
func (f *leaf) open(buf []byte, of link) error {
	f.parser = parser{buf: buf}
	f.of, f.index, f.left = of, 0, 0
	items, err := f.readPageHead(0)
	switch {
	case err != nil:
	case uint64(items) != of.entries:
		err = fmt.Errorf("%d entries, the page above says %d", items, of.entries)
	case items == 0 && f.at != len(buf):
		err = errors.New("bytes after the last entry")
	}
	if err != nil {
		return damaged(of.id, err)
	}
	f.left = items
	return nil
}

// next reads the next entry; there must be one left.
func (f *leaf) next(e *Entry) error {
	f.start = f.at
	err := f.entry(e)
	if err == nil {
		err = f.place(e.Path)
	}
	if err != nil {
		f.left = 0
		return damaged(f.of.id, fmt.Errorf("entry %d: %w", f.index, err))
	}
	f.left--
	f.index++
	f.last = e.Path
	return nil
}

// place checks that an entry with the path may stand where it stands.
func (f *leaf) place(path []byte) error {
	switch {
	case f.index == 0:
		f.first = path
	case Compare(f.last, path) >= 0:
		return fmt.Errorf("%q after %q", shorten(path), shorten(f.last))
	}
	if f.left > 1 {
		return nil
	}
	if f.at != len(f.buf) {
		return errors.New("bytes after the last entry")
	}
	if !f.of.spans(f.first, path) {
		return errors.New("the page is not what the page above says that it spans")
	}
	return nil
}

// raw gives the encoding of the entry read last.
func (f *leaf) raw() []byte { return f.buf[f.start:f.at:f.at] }
