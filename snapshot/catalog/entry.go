package catalog

import (
	"bytes"
	"slices"

	"lifeboat/storage/pack"
)

// Type is the kind of a file-system entry.
type Type uint8

const (
	File Type = iota
	Dir
	Symlink
	Fifo
	CharDevice
	BlockDevice
)

// Chunking says how a file's bytes were cut.
type Chunking uint8

const (
	Whole   Chunking = iota // one chunk, or none for an empty file
	Content                 // content-defined points
	Fixed                   // pieces of Entry.Piece bytes on the file's own grid
)

// Entry is one file-system object of a snapshot.
//
// A file's bytes: Data lists the ranges of the file that are not holes (nil:
// the whole file is data). For Whole and Content the chunks, in order, cover
// the concatenation of these ranges. For Fixed each chunk is one piece of the
// grid (the last one shorter), for every piece that touches a data range, in order.
type Entry struct {
	Path     []byte // relative to "/", no leading slash; any bytes but NUL
	Type     Type
	Mode     uint32 // permission bits with setuid, setgid and sticky (07777)
	UID, GID uint32
	User     string // owner name at capture; empty if unknown
	Group    string
	MTime    int64 // nanoseconds since 1970
	CTime    int64 // nanoseconds; for change detection only
	Size     int64
	Inode    uint64
	Dev      uint64 // only with Links > 1: (Dev, Inode) names the hard-link group
	Links    uint32 // link count if above 1 and not a directory, else 0
	Target   []byte // of a symlink
	Rdev     uint64 // of a device: major<<32 | minor
	Xattrs   []Xattr
	Data     []Range
	Chunking Chunking
	Piece    uint32         // bytes, with Fixed
	Chunks   []pack.ChunkID // in order; when IDPages is set, these are the ids of pages of ids
	IDPages  bool           // Chunks names metadata chunks, each holding concatenated chunk ids
	Flags    Flags
}

// Flags records what went wrong with an entry while it was captured.
type Flags uint8

const (
	Changed    Flags = 1 << iota // changed while read, also when read again
	Unreadable                   // contents could not be read: Chunks is empty
	Partial                      // attributes (xattrs) could not all be read
)

// Xattr is an extended attribute; ACLs and file capabilities are the system.* and security.* ones, raw.
type Xattr struct {
	Name  string
	Value []byte
}

// Range is a run of bytes in a file.
type Range struct{ Offset, Length int64 }

// End is the offset of the first byte after the range.
func (r Range) End() int64 { return r.Offset + r.Length }

// Clone makes a copy that shares no memory with e.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Path = bytes.Clone(e.Path)
	c.Target = bytes.Clone(e.Target)
	c.Data = slices.Clone(e.Data)
	c.Chunks = slices.Clone(e.Chunks)
	c.Xattrs = slices.Clone(e.Xattrs)
	for i := range c.Xattrs {
		c.Xattrs[i].Value = bytes.Clone(c.Xattrs[i].Value)
	}
	return &c
}
