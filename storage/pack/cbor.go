package pack

import (
	"encoding/binary"
	"errors"
)

// The few pieces of CBOR (RFC 8949, section 4.2: shortest heads, definite
// lengths) that frame records need, written out because tables of contents
// for ten million chunks pass through them.

const (
	cborUint  = 0 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
)

var (
	errShort     = errors.New("ends early")
	errCanonical = errors.New("CBOR is not in its shortest form")
	errType      = errors.New("CBOR item of the wrong type")
)

// appendHead writes the initial bytes of an item of major type major.
func appendHead(dst []byte, major byte, v uint64) []byte {
	switch {
	case v < 24:
		return append(dst, major|byte(v))
	case v < 1<<8:
		return append(dst, major|24, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), v)
}

// headSize is the number of bytes that appendHead writes.
func headSize(v uint64) int {
	switch {
	case v < 24:
		return 1
	case v < 1<<8:
		return 2
	case v < 1<<16:
		return 3
	case v < 1<<32:
		return 5
	}
	return 9
}

// readHead reads the head of an item that must be of major type major, and
// gives its value and what follows the head.
func readHead(b []byte, major byte) (v uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	first := b[0]
	if first&0xe0 != major {
		return 0, nil, errType
	}
	low := first & 0x1f
	if low < 24 {
		return uint64(low), b[1:], nil
	}
	if low > 27 {
		return 0, nil, errCanonical // reserved, or an indefinite length
	}
	n := 1 << (low - 24)
	if len(b) < 1+n {
		return 0, nil, errShort
	}
	for _, c := range b[1 : 1+n] {
		v = v<<8 | uint64(c)
	}
	if headSize(v) != 1+n {
		return 0, nil, errCanonical
	}
	return v, b[1+n:], nil
}

// readBytes reads a byte or text string without copying it.
func readBytes(b []byte, major byte) (s, rest []byte, err error) {
	n, rest, err := readHead(b, major)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, errShort
	}
	return rest[:n], rest[n:], nil
}
