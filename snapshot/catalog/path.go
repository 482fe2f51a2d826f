package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Compare orders two paths as a catalog does: by bytes, with '/' below every
// other byte. It is negative, zero or positive, as a comes before, is, or comes after b.
func Compare(a, b []byte) int {
	n := common(a, b)
	switch {
	case n == len(a) || n == len(b):
		return len(a) - len(b)
	case a[n] == '/':
		return -1
	case b[n] == '/':
		return 1
	}
	return int(a[n]) - int(b[n])
}

// common counts the bytes that a and b begin with together.
func common(a, b []byte) int {
	n, least := 0, min(len(a), len(b))
	for ; n+8 <= least; n += 8 {
		if diff := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); diff != 0 {
			return n + bits.TrailingZeros64(diff)/8
		}
	}
	for n < least && a[n] == b[n] {
		n++
	}
	return n
}

// Within says whether path is top or lies below it. All paths are within the empty path.
func Within(top, path []byte) bool {
	if !bytes.HasPrefix(path, top) {
		return false
	}
	return len(top) == 0 || len(path) == len(top) || path[len(top)] == '/'
}

// CheckPath says what is wrong with a path, if anything: see the package comment
// and the limits. The empty path is good: it is "/".
func CheckPath(path []byte) error {
	if len(path) == 0 {
		return nil
	}
	if len(path) > PathMax {
		return fmt.Errorf("path of %d bytes, at most %d", len(path), PathMax)
	}
	if bytes.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("path %q holds a NUL", shorten(path))
	}
	depth := 0
	for rest, more := path, true; more; depth++ {
		var element []byte
		element, rest, more = cutElement(rest)
		if err := checkElement(element); err != nil {
			return fmt.Errorf("path %q: %w", shorten(path), err)
		}
	}
	if depth > DepthMax {
		return fmt.Errorf("path %q is %d deep, at most %d", shorten(path), depth, DepthMax)
	}
	return nil
}

func checkElement(element []byte) error {
	switch {
	case len(element) == 0:
		return errors.New("an empty element")
	case len(element) > ElementMax:
		return fmt.Errorf("an element of %d bytes, at most %d", len(element), ElementMax)
	case element[0] == '.' && (len(element) == 1 || len(element) == 2 && element[1] == '.'):
		return fmt.Errorf("the element %q", element)
	}
	return nil
}

// shorten keeps error texts short, whatever somebody has put into a path.
func shorten(path []byte) []byte {
	const most = 200
	if len(path) > most {
		return path[:most]
	}
	return path
}

// cutElement splits a path behind its first element.
func cutElement(path []byte) (element, rest []byte, more bool) {
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return path, nil, false
}
