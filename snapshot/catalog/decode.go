package catalog

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"lifeboat/storage/pack"
)

const (
	idLen = len(pack.ChunkID{})

	// namesMax bounds the owner and attribute names that a decoder keeps, so that
	// equal ones are one string. Names past it are made anew each time.
	namesMax = 4096
)

// decoder reads entries. It keeps the slices of the last entry for the next, and
// the names that it has seen.
type decoder struct {
	parser
	names  map[string]string
	user   string // the last ones, which are mostly the next ones too
	group  string
	data   []Range
	chunks []pack.ChunkID
	xattrs []Xattr
}

// entry reads the next entry. Its path, target and values are parts of the
// buffer; its slices are the decoder's, until the next call. The error has no
// sentinel yet.
func (d *decoder) entry(e *Entry) error {
	at := d.at
	*e = Entry{}
	pairs := d.count(majorMap, keysAll)
	last := -1
	for range pairs {
		key := int(d.uint(keysAll - 1))
		if key <= last && d.err == nil {
			return errors.New("keys out of order")
		}
		if last < 0 && key != keyPath {
			return errors.New("no path")
		}
		last = key
		d.value(key, e)
		if d.err != nil {
			return fmt.Errorf("key %d: %w", key, d.err)
		}
	}
	switch {
	case d.err != nil:
		return d.err
	case last < 0:
		return errors.New("no path")
	case d.at-at > EntryMax:
		return fmt.Errorf("%d bytes, at most %d", d.at-at, EntryMax)
	}
	return e.check()
}

// value reads the value of one key.
func (d *decoder) value(key int, e *Entry) {
	switch key {
	case keyPath:
		e.Path = d.bytes(PathMax)
	case keyType:
		e.Type = Type(d.nonzero(math.MaxUint8))
	case keyMode:
		e.Mode = uint32(d.nonzero(modeMax))
	case keyUID:
		e.UID = uint32(d.nonzero(math.MaxUint32))
	case keyGID:
		e.GID = uint32(d.nonzero(math.MaxUint32))
	case keyUser:
		e.User = d.text(&d.user)
	case keyGroup:
		e.Group = d.text(&d.group)
	case keyMTime:
		e.MTime = d.int()
	case keyCTime:
		e.CTime = d.int()
	case keySize:
		e.Size = int64(d.nonzero(math.MaxInt64))
	case keyInode:
		e.Inode = d.nonzero(math.MaxUint64)
	case keyDev:
		e.Dev = d.nonzero(math.MaxUint64)
	case keyLinks:
		e.Links = uint32(d.nonzero(math.MaxUint32))
	default:
		d.rareValue(key, e)
	}
}

// rareValue is value for the keys that not every file has.
func (d *decoder) rareValue(key int, e *Entry) {
	switch key {
	case keyTarget:
		e.Target = d.filled(TargetMax)
	case keyXattrs:
		e.Xattrs = d.readXattrs()
	case keyRdev:
		e.Rdev = d.nonzero(math.MaxUint64)
	case keyData:
		e.Data = d.readRanges()
	case keyChunking:
		e.Chunking = Chunking(d.nonzero(math.MaxUint8))
	case keyPiece:
		e.Piece = uint32(d.nonzero(math.MaxUint32))
	case keyChunks:
		e.Chunks = d.readChunks()
	case keyIDPages:
		if d.at >= len(d.buf) || d.buf[d.at] != byteTrue {
			d.fail(errMajor)
			return
		}
		d.at++
		e.IDPages = true
	case keyFlags:
		e.Flags = Flags(d.nonzero(math.MaxUint8))
	}
}

// filled reads a byte string that is not empty.
func (d *decoder) filled(most int) []byte {
	b := d.bytes(most)
	if len(b) == 0 {
		d.fail(errHead)
	}
	return b
}

// text reads a name. last is the last one that was text, and a guess at this one.
func (d *decoder) text(last *string) string {
	major, n := d.head()
	if major != majorText && major != majorBytes {
		d.fail(errMajor)
		return ""
	}
	b := d.take(n, NameMax)
	if major == majorText && len(b) > 0 && string(b) == *last {
		return *last
	}
	if len(b) == 0 || utf8.Valid(b) != (major == majorText) {
		d.fail(errHead)
		return ""
	}
	s := d.name(b)
	if major == majorText {
		*last = s
	}
	return s
}

// name gives the one string for equal names.
func (d *decoder) name(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.names == nil {
		d.names = map[string]string{}
	}
	if len(d.names) < namesMax {
		d.names[s] = s
	}
	return s
}

func (d *decoder) readXattrs() []Xattr {
	n := d.count(majorMap, XattrsMax)
	if n == 0 {
		d.fail(errHead)
		return nil
	}
	d.xattrs = d.xattrs[:0]
	for i := range n {
		x := Xattr{Name: d.name(d.filled(XattrKeyMax)), Value: d.bytes(EntryMax)}
		if d.err == nil && i > 0 && compareXattrs(d.xattrs[i-1], x) >= 0 {
			d.fail(errors.New("xattrs out of order"))
		}
		if d.err != nil {
			return nil
		}
		d.xattrs = append(d.xattrs, x)
	}
	return d.xattrs
}

func (d *decoder) readRanges() []Range {
	n := d.count(majorArray, 2*RangesMax)
	if n%2 != 0 {
		d.fail(errHead)
		return nil
	}
	if d.data == nil {
		d.data = []Range{} // an empty list is not the same as none
	}
	d.data = d.data[:0]
	for range n / 2 {
		r := Range{Offset: int64(d.uint(math.MaxInt64)), Length: int64(d.uint(math.MaxInt64))}
		if d.err != nil {
			return nil
		}
		d.data = append(d.data, r)
	}
	return d.data
}

func (d *decoder) readChunks() []pack.ChunkID {
	b := d.filled(EntryMax)
	if len(b)%idLen != 0 {
		d.fail(errHead)
		return nil
	}
	d.chunks = appendIDs(d.chunks[:0], b)
	return d.chunks
}

// appendIDs appends the ids that b is the concatenation of.
func appendIDs(ids []pack.ChunkID, b []byte) []pack.ChunkID {
	for ; len(b) >= idLen; b = b[idLen:] {
		ids = append(ids, pack.ChunkID(b))
	}
	return ids
}
