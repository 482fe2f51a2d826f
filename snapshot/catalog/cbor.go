package catalog

import (
	"encoding/binary"
	"errors"
)

// The CBOR (RFC 8949) that catalogs use, by hand: definite lengths and shortest
// heads only, one way to write each value.

// Major types, in place.
const (
	majorUint  = 0 << 5
	majorNeg   = 1 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
	majorMask  = 7 << 5

	byteTrue = 0xf5
)

// appendHead appends the head of an item.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNeg, uint64(-1-n))
	}
	return appendHead(b, majorUint, uint64(n))
}

func appendBytes(b, value []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(value))), value...)
}

var (
	errTruncated = errors.New("cut short")
	errHead      = errors.New("not in the one form that is written")
	errMajor     = errors.New("a value of another type than expected")
	errLong      = errors.New("a length above its limit")
)

// parser reads CBOR from a buffer. The first error sticks; what is read after
// it is zero.
type parser struct {
	buf []byte
	at  int
	err error
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
	p.at = len(p.buf)
}

// head reads the head of an item: its major type and its number.
func (p *parser) head() (major byte, n uint64) {
	if p.at >= len(p.buf) {
		p.fail(errTruncated)
		return 0, 0
	}
	first := p.buf[p.at]
	if short := first &^ majorMask; short < 24 {
		p.at++
		return first & majorMask, uint64(short)
	}
	return p.longHead(first)
}

func (p *parser) longHead(first byte) (major byte, n uint64) {
	rest := p.buf[p.at+1:]
	size := 1 << (first&^majorMask - 24)
	if first&^majorMask > 27 {
		p.fail(errHead)
		return 0, 0
	}
	if len(rest) < size {
		p.fail(errTruncated)
		return 0, 0
	}
	var least uint64
	switch size {
	case 1:
		n, least = uint64(rest[0]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(rest)), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(rest)), 1<<16
	case 8:
		n, least = binary.BigEndian.Uint64(rest), 1<<32
	}
	if n < least {
		p.fail(errHead)
		return 0, 0
	}
	p.at += 1 + size
	return first & majorMask, n
}

// expect reads a head that must be of one major type.
func (p *parser) expect(major byte) uint64 {
	got, n := p.head()
	if got != major {
		p.fail(errMajor)
		return 0
	}
	return n
}

// uint reads a number up to most.
func (p *parser) uint(most uint64) uint64 {
	n := p.expect(majorUint)
	if n > most {
		p.fail(errLong)
		return 0
	}
	return n
}

// nonzero reads a number from 1 to most: a zero would have been left out.
func (p *parser) nonzero(most uint64) uint64 {
	n := p.uint(most)
	if n == 0 {
		p.fail(errHead)
	}
	return n
}

// int reads a number with a sign that is not zero.
func (p *parser) int() int64 {
	major, n := p.head()
	switch {
	case n > 1<<63-1:
		p.fail(errLong)
	case major == majorNeg:
		return -1 - int64(n)
	case major != majorUint:
		p.fail(errMajor)
	case n == 0:
		p.fail(errHead)
	}
	return int64(n)
}

// bytes reads a byte string of up to most bytes, as a part of the buffer.
func (p *parser) bytes(most int) []byte { return p.take(p.expect(majorBytes), most) }

// take reads the next n bytes, at most most.
func (p *parser) take(n uint64, most int) []byte {
	if n > uint64(most) {
		p.fail(errLong)
		return nil
	}
	if n > uint64(len(p.buf)-p.at) {
		p.fail(errTruncated)
		return nil
	}
	from := p.at
	p.at += int(n)
	return p.buf[from:p.at:p.at]
}

// count reads the head of an array or map of up to most items or pairs. There
// cannot be more items than bytes left.
func (p *parser) count(major byte, most int) int {
	n := p.expect(major)
	if n > uint64(most) {
		p.fail(errLong)
		return 0
	}
	if n > uint64(len(p.buf)-p.at) {
		p.fail(errTruncated)
		return 0
	}
	return int(n)
}
