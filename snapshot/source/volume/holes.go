//go:build linux

package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

const (
	rangesMax = 16384         // of one file
	holesMax  = rangesMax - 1 // between them
)

// Data tells which ranges of the file, as it was opened, are not holes: nil for a
// file without holes, an empty slice for one that is a hole from end to end. Of
// more than 16,384 ranges, those around the smallest holes are joined. It is
// optional knowledge: where the file system does not tell, the file is all data.
func (f *File) Data() ([]catalog.Range, error) {
	size := f.stat.Size
	if size == 0 || f.stat.Blocks >= (size+511)/512 {
		return nil, nil // as many blocks as bytes: looking for holes would find none worth having
	}
	var holes holeList
	for at := int64(0); at < size; {
		data, err := f.seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			data = size // no data from here on
		case errors.Is(err, unix.EINVAL) && at == 0:
			return nil, nil // the file system does not tell
		case err != nil:
			return nil, err
		}
		if data = min(data, size); data > at {
			holes.add(catalog.Range{Offset: at, Length: data - at})
		}
		if data >= size {
			break
		}
		if at, err = f.seek(data, unix.SEEK_HOLE); errors.Is(err, unix.ENXIO) {
			break // the file was cut off meanwhile; Changed will tell
		} else if err != nil {
			return nil, err
		}
		if at <= data {
			return nil, fmt.Errorf("look for holes in %s: data without length at %d", show("/"+string(f.stat.Path)), data)
		}
	}
	return holes.ranges(size), nil
}

func (f *File) seek(offset int64, whence int) (int64, error) {
	for {
		at, err := unix.Seek(f.fd, offset, whence)
		if err == nil {
			return at, nil
		}
		if err != unix.EINTR {
			return 0, fmt.Errorf("look for holes in %s: %w", show("/"+string(f.stat.Path)), err)
		}
	}
}

// holeList collects holes in order and keeps the largest, in bounded memory.
type holeList struct{ holes []catalog.Range }

func (h *holeList) add(r catalog.Range) {
	if len(h.holes) == 2*holesMax {
		h.prune()
	}
	h.holes = append(h.holes, r)
}

// prune keeps the holesMax largest holes; of equal ones, those nearest the start.
// Doing so early loses nothing: what goes is smaller than holesMax others.
func (h *holeList) prune() {
	if len(h.holes) <= holesMax {
		return
	}
	slices.SortFunc(h.holes, func(a, b catalog.Range) int {
		return cmp.Or(cmp.Compare(b.Length, a.Length), cmp.Compare(a.Offset, b.Offset))
	})
	h.holes = h.holes[:holesMax]
	slices.SortFunc(h.holes, func(a, b catalog.Range) int { return cmp.Compare(a.Offset, b.Offset) })
}

// ranges is what is left of size bytes between the holes; nil when there is no hole.
func (h *holeList) ranges(size int64) []catalog.Range {
	h.prune()
	if len(h.holes) == 0 {
		return nil
	}
	ranges := make([]catalog.Range, 0, len(h.holes)+1)
	at := int64(0)
	for _, hole := range h.holes {
		if hole.Offset > at {
			ranges = append(ranges, catalog.Range{Offset: at, Length: hole.Offset - at})
		}
		at = hole.Offset + hole.Length
	}
	if at < size {
		ranges = append(ranges, catalog.Range{Offset: at, Length: size - at})
	}
	return ranges
}
