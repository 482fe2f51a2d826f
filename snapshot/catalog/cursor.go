package catalog

import "context"

// A Cursor goes through a catalog once, in order, side by side with another
// sorted list: for each path of that list it finds the entry. It reads pages
// ahead. A cursor belongs to one goroutine, and must be closed.
type Cursor struct {
	s     *stream
	entry Entry
	on    bool // entry is the current one
}

// farMisses is how many entries SeekTo passes one by one before it looks whether
// the rest of the page can be passed in one go.
const farMisses = 2

// NewCursor makes a cursor that stands before the first entry.
func NewCursor(ctx context.Context, r *Reader) *Cursor {
	return &Cursor{s: newStream(ctx, r, nil)}
}

// Close ends the reading ahead. It may be called more than once.
func (c *Cursor) Close() {
	c.s.close()
	c.on = false
}

// Next goes to the next entry; false at the end. The entry is valid until the
// next call of Next, SeekTo or Close.
func (c *Cursor) Next() (*Entry, bool, error) {
	more, err := c.s.next(&c.entry)
	c.on = more && err == nil
	if !c.on {
		return nil, false, err
	}
	return &c.entry, true, nil
}

// SeekTo goes forward to the first entry that does not come before path, and
// gives it if its path is exactly that; otherwise nil and false. Paths must not
// go backwards from call to call; an entry that has been passed is not found.
// The entry is valid until the next call of Next, SeekTo or Close.
func (c *Cursor) SeekTo(path []byte) (*Entry, bool, error) {
	for misses := 0; ; misses++ {
		if !c.on {
			if _, more, err := c.Next(); !more {
				return nil, false, err
			}
		}
		if d := Compare(c.entry.Path, path); d >= 0 {
			if d > 0 {
				return nil, false, nil
			}
			return &c.entry, true, nil
		}
		if misses == farMisses {
			c.s.forward(path)
		}
		c.on = false
	}
}

// Raw gives the encoding of the current entry, for Builder.AddEncoded; nil when
// there is none. It is valid as long as the entry.
func (c *Cursor) Raw() []byte {
	if !c.on {
		return nil
	}
	return c.s.leaf.raw()
}
