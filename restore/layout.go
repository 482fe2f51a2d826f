package restore

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"lifeboat/snapshot/catalog"
)

// layout says where the bytes of a file's chunks go.
type layout struct {
	size  int64
	data  []catalog.Range // nil: everything is data
	sums  []int64         // sums[i]: bytes of data before data[i]
	fixed bool            // chunks are pieces of the grid, not of the concatenated data
	piece int64
}

// newLayout checks what the catalog says of a file. It keeps parts of e: see clone.
func newLayout(e *catalog.Entry) (layout, error) {
	l := layout{size: e.Size, data: e.Data, fixed: e.Chunking == catalog.Fixed, piece: int64(e.Piece)}
	switch {
	case e.Size < 0:
		return l, fmt.Errorf("size %d", e.Size)
	case e.Chunking > catalog.Fixed:
		return l, fmt.Errorf("unknown chunking %d", e.Chunking)
	case l.fixed && (l.piece <= 0 || l.piece > chunkMax):
		return l, fmt.Errorf("pieces of %d bytes", l.piece)
	case len(e.Data) > catalog.RangesMax:
		return l, fmt.Errorf("%d data ranges", len(e.Data))
	}
	end := int64(0)
	for _, r := range e.Data {
		if r.Offset < end || r.Length <= 0 || r.Length > e.Size-r.Offset {
			return l, fmt.Errorf("data range %d+%d of %d bytes", r.Offset, r.Length, e.Size)
		}
		end = r.Offset + r.Length
	}
	return l, nil
}

// own makes the layout independent of the entry.
func (l *layout) own() {
	if len(l.data) == 0 {
		return
	}
	l.data = slices.Clone(l.data)
	l.sums = make([]int64, len(l.data))
	for i := 1; i < len(l.data); i++ {
		l.sums[i] = l.sums[i-1] + l.data[i-1].Length
	}
}

// sparse says that the file has holes.
func (l *layout) sparse() bool { return l.data != nil }

func (l *layout) dataLength() int64 { return catalog.DataLength(l.size, l.data) }

// streamLength is what the lengths of all chunks must add up to, or -1 for a
// fixed grid, where every chunk is checked by itself.
func (l *layout) streamLength() int64 {
	if l.fixed {
		return -1
	}
	return l.dataLength()
}

// chunks is the exact number of chunks, or -1 if the catalog does not say.
func (l *layout) chunks(c catalog.Chunking) int64 {
	switch {
	case l.dataLength() == 0:
		return 0
	case c == catalog.Whole:
		return 1
	case l.fixed:
		return catalog.PieceCount(l.size, uint32(l.piece), l.data)
	}
	return -1
}

var errPastEnd = errors.New("more contents than the file has bytes")

// spread calls do for each run of the file that buf is the contents of, where pos is
// the place of buf in the stream of chunks (for a fixed grid: in the file).
func (l *layout) spread(pos int64, buf []byte, do func(offset int64, part []byte) error) error {
	if l.fixed {
		return l.clip(pos, buf, do)
	}
	if pos < 0 || int64(len(buf)) > l.dataLength()-pos {
		return errPastEnd
	}
	if l.data == nil {
		return do(pos, buf)
	}
	i := sort.Search(len(l.sums), func(i int) bool { return l.sums[i] > pos }) - 1
	for ; len(buf) > 0; i++ {
		skipped := pos - l.sums[i]
		n := min(int64(len(buf)), l.data[i].Length-skipped)
		if err := do(l.data[i].Offset+skipped, buf[:n]); err != nil {
			return err
		}
		buf, pos = buf[n:], pos+n
	}
	return nil
}

// clip is spread for a piece of the grid: the holes in it are left out, unless the
// file changed while it was read and something is in them.
func (l *layout) clip(pos int64, buf []byte, do func(offset int64, part []byte) error) error {
	end := pos + int64(len(buf))
	if pos < 0 || end > l.size {
		return errPastEnd
	}
	if l.data == nil {
		return do(pos, buf)
	}
	done := pos
	gap := func(to int64) error {
		if part := buf[done-pos : to-pos]; !zero(part) {
			return do(done, part)
		}
		return nil
	}
	i := sort.Search(len(l.data), func(i int) bool { return l.data[i].Offset+l.data[i].Length > pos })
	for ; i < len(l.data) && l.data[i].Offset < end; i++ {
		from, to := max(pos, l.data[i].Offset), min(end, l.data[i].Offset+l.data[i].Length)
		if err := gap(from); err != nil {
			return err
		}
		if err := do(from, buf[from-pos:to-pos]); err != nil {
			return err
		}
		done = to
	}
	return gap(end)
}

func zero(b []byte) bool {
	for i := range b {
		if b[i] != 0 {
			return false
		}
	}
	return true
}

// grid goes through the pieces of a fixed layout, in the order of their chunks.
type grid struct {
	l    *layout
	i    int   // data range
	next int64 // piece
}

// take gives the next piece, or false at the end.
func (g *grid) take() (catalog.Range, bool) {
	first, ok := g.step()
	if !ok {
		return catalog.Range{}, false
	}
	g.next = first + 1
	offset := first * g.l.piece
	return catalog.Range{Offset: offset, Length: min(g.l.piece, g.l.size-offset)}, true
}

func (g *grid) step() (int64, bool) {
	l := g.l
	if l.data == nil {
		return g.next, l.size > 0 && g.next <= (l.size-1)/l.piece
	}
	for ; g.i < len(l.data); g.i++ {
		r := l.data[g.i]
		if first := max(r.Offset/l.piece, g.next); first <= (r.Offset+r.Length-1)/l.piece {
			return first, true
		}
	}
	return 0, false
}
