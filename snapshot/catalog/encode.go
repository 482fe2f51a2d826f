package catalog

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Keys of an entry's map; see the package comment.
const (
	keyPath = iota
	keyType
	keyMode
	keyUID
	keyGID
	keyUser
	keyGroup
	keyMTime
	keyCTime
	keySize
	keyInode
	keyDev
	keyLinks
	keyTarget
	keyXattrs
	keyRdev
	keyData
	keyChunking
	keyPiece
	keyChunks
	keyIDPages
	keyFlags
	keysAll // how many there are; below 24, so that a key is one byte
)

// encoder writes the pairs of an entry's map and counts them.
type encoder struct {
	buf   []byte
	pairs byte
}

// appendEntry appends the encoding of an entry that has passed check. Its xattrs
// must be sorted and unique.
func appendEntry(b []byte, e *Entry) []byte {
	at := len(b)
	c := encoder{buf: append(b, majorMap)}
	c.key(keyPath)
	c.buf = appendBytes(c.buf, e.Path)
	c.uint(keyType, uint64(e.Type))
	c.uint(keyMode, uint64(e.Mode))
	c.uint(keyUID, uint64(e.UID))
	c.uint(keyGID, uint64(e.GID))
	c.text(keyUser, e.User)
	c.text(keyGroup, e.Group)
	c.int(keyMTime, e.MTime)
	c.int(keyCTime, e.CTime)
	c.int(keySize, e.Size)
	c.uint(keyInode, e.Inode)
	c.uint(keyDev, e.Dev)
	c.uint(keyLinks, uint64(e.Links))
	c.bytes(keyTarget, e.Target)
	c.xattrs(e.Xattrs)
	c.uint(keyRdev, e.Rdev)
	c.data(e.Data)
	c.uint(keyChunking, uint64(e.Chunking))
	c.uint(keyPiece, uint64(e.Piece))
	c.chunks(e)
	c.uint(keyFlags, uint64(e.Flags))
	c.buf[at] |= c.pairs
	return c.buf
}

func (c *encoder) key(key byte) {
	c.buf = append(c.buf, key)
	c.pairs++
}

func (c *encoder) uint(key byte, n uint64) {
	if n == 0 {
		return
	}
	c.key(key)
	c.buf = appendHead(c.buf, majorUint, n)
}

func (c *encoder) int(key byte, n int64) {
	if n == 0 {
		return
	}
	c.key(key)
	c.buf = appendInt(c.buf, n)
}

func (c *encoder) bytes(key byte, value []byte) {
	if len(value) == 0 {
		return
	}
	c.key(key)
	c.buf = appendBytes(c.buf, value)
}

// text writes a name: text when it is UTF-8, bytes when it is not.
func (c *encoder) text(key byte, value string) {
	if value == "" {
		return
	}
	c.key(key)
	major := byte(majorText)
	if !utf8.ValidString(value) {
		major = majorBytes
	}
	c.buf = append(appendHead(c.buf, major, uint64(len(value))), value...)
}

func (c *encoder) xattrs(xattrs []Xattr) {
	if len(xattrs) == 0 {
		return
	}
	c.key(keyXattrs)
	c.buf = appendHead(c.buf, majorMap, uint64(len(xattrs)))
	for i := range xattrs {
		c.buf = appendHead(c.buf, majorBytes, uint64(len(xattrs[i].Name)))
		c.buf = append(c.buf, xattrs[i].Name...)
		c.buf = appendBytes(c.buf, xattrs[i].Value)
	}
}

func (c *encoder) data(data []Range) {
	if data == nil {
		return
	}
	c.key(keyData)
	c.buf = appendHead(c.buf, majorArray, 2*uint64(len(data)))
	for _, r := range data {
		c.buf = appendInt(c.buf, r.Offset)
		c.buf = appendInt(c.buf, r.Length)
	}
}

func (c *encoder) chunks(e *Entry) {
	if len(e.Chunks) == 0 {
		return
	}
	c.key(keyChunks)
	c.buf = appendHead(c.buf, majorBytes, uint64(idLen*len(e.Chunks)))
	for i := range e.Chunks {
		c.buf = append(c.buf, e.Chunks[i][:]...)
	}
	if e.IDPages {
		c.key(keyIDPages)
		c.buf = append(c.buf, byteTrue)
	}
}

// compareXattrs orders names as RFC 8949 orders the keys of a map.
func compareXattrs(a, b Xattr) int {
	if d := len(a.Name) - len(b.Name); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}

// sortXattrs puts xattrs into the order in which they are written.
func sortXattrs(xattrs []Xattr) error {
	if len(xattrs) < 2 {
		return nil
	}
	if !slices.IsSortedFunc(xattrs, compareXattrs) {
		slices.SortFunc(xattrs, compareXattrs)
	}
	for i := range xattrs[1:] {
		if xattrs[i].Name == xattrs[i+1].Name {
			return fmt.Errorf("xattr %q twice", xattrs[i].Name)
		}
	}
	return nil
}
