//go:build linux

package volume

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	direntsBytes   = 64 << 10 // asked of the kernel at once
	dirEntriesMax  = 16 << 20 // of one directory
	recordHead     = 19       // bytes of a dirent64 before the name: inode 8, offset 8, length 2, type 1
	listingRecycle = 64 << 10 // bytes; larger listings are left to the collector
)

// listing is the sorted names of a directory.
type listing struct {
	names []byte // each ends in a NUL
	refs  []nameRef
}

// nameRef is one name. key is its first bytes after what all names of the
// directory have in common, so that sorting seldom looks at the names.
type nameRef struct {
	key  uint64
	off  uint32
	len  uint16
	kind uint8 // DT_DIR and so on
}

// name is a name without its NUL, which follows in memory.
func (l *listing) name(i int) []byte {
	r := l.refs[i]
	return l.names[r.off : r.off+uint32(r.len)]
}

// nameZ is a name with its NUL.
func (l *listing) nameZ(i int) []byte {
	r := l.refs[i]
	return l.names[r.off : r.off+uint32(r.len)+1]
}

// size is the memory that the listing takes, in bytes.
func (l *listing) size() int64 { return int64(cap(l.names)) + int64(cap(l.refs))*16 }

// find looks for a name.
func (l *listing) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.refs, name, func(r nameRef, want string) int {
		return cmp.Compare(string(l.names[r.off:r.off+uint32(r.len)]), want)
	})
}

// read lists a directory from where its descriptor stands. What it got before an
// error is kept.
func (l *listing) read(fd int, buf []byte) error {
	l.names, l.refs = l.names[:0], l.refs[:0]
	var err error
	for err == nil {
		var n int
		n, err = retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil || n == 0 {
			break
		}
		err = l.add(buf[:n])
	}
	l.sort()
	return err
}

// add takes over the names of one getdents64 answer. A record that does not fit
// its buffer is EIO: some file system in user space answers nonsense.
func (l *listing) add(buf []byte) error {
	for len(buf) > 0 {
		if len(buf) < recordHead+1 {
			return unix.EIO
		}
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < recordHead+1 || size > len(buf) {
			return unix.EIO
		}
		name := buf[recordHead:size]
		end := bytes.IndexByte(name, 0)
		if end <= 0 || bytes.IndexByte(name[:end], '/') >= 0 {
			return unix.EIO
		}
		kind := buf[18]
		buf = buf[size:]
		if name[0] == '.' && (end == 1 || end == 2 && name[1] == '.') {
			continue
		}
		if len(l.refs) >= dirEntriesMax || uint64(len(l.names)+end+1) > math.MaxUint32 {
			return ErrTooMany
		}
		l.refs = append(l.refs, nameRef{off: uint32(len(l.names)), len: uint16(end), kind: kind})
		l.names = append(l.names, name[:end+1]...)
	}
	return nil
}

// sort puts the names in byte order and drops doubles, which a directory that
// changes while it is listed can yield.
func (l *listing) sort() {
	if len(l.refs) == 0 {
		return
	}
	common := l.common()
	for i := range l.refs {
		l.refs[i].key = prefixKey(l.name(i)[common:])
	}
	order := func(a, b nameRef) int {
		if c := cmp.Compare(a.key, b.key); c != 0 {
			return c
		}
		return bytes.Compare(l.names[a.off:a.off+uint32(a.len)], l.names[b.off:b.off+uint32(b.len)])
	}
	if !slices.IsSortedFunc(l.refs, order) {
		slices.SortFunc(l.refs, order)
	}
	l.refs = slices.CompactFunc(l.refs, func(a, b nameRef) bool { return order(a, b) == 0 })
}

// common is the length of the prefix that all names share.
func (l *listing) common() int {
	first := l.name(0)
	n := len(first)
	for i := 1; i < len(l.refs) && n > 0; i++ {
		name := l.name(i)
		n = min(n, len(name))
		for j := range n {
			if name[j] != first[j] {
				n = j
				break
			}
		}
	}
	return n
}

// prefixKey is the first eight bytes as a number of the same order; a shorter
// name is filled with NULs, which no name contains.
func prefixKey(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var key uint64
	for i, c := range b {
		key |= uint64(c) << (56 - 8*i)
	}
	return key
}
