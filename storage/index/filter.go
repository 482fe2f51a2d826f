package index

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/FastFilter/xorfilter"
)

// groupKeys is how many distinct keys share a filter. Building one takes about
// 33 bytes for each key at once, so groups bound that memory to 9 MB however
// long a run gets; the price is 1.16 bytes for a key instead of 1.13.
const groupKeys = 256 << 10

const (
	filterHead     = 8 + 4 + 4 // seed, segment length, segment count
	filterSegments = 3 - 1     // further segments than a filter's count says
	filterMax      = 4 * groupKeys
)

// A filter says of a key's first eight bytes that it is not there, or that it
// may be (1 of 256 wrong).
type filter struct{ fuse xorfilter.BinaryFuse[uint8] }

func (f *filter) mayContain(prefix uint64) bool { return f.fuse.Contains(prefix) }

// filterBuilder collects the keys of one group after another.
type filterBuilder struct {
	keys  []uint64
	space xorfilter.BinaryFuseBuilder
}

// add notes a key; keys come in order, and equal ones count once.
func (b *filterBuilder) add(prefix uint64) {
	if n := len(b.keys); n == 0 || b.keys[n-1] != prefix {
		b.keys = append(b.keys, prefix)
	}
}

// full says that the group is to end before a key with another prefix: keys
// with equal prefixes always share a group.
func (b *filterBuilder) full(prefix uint64) bool {
	n := len(b.keys)
	return n >= groupKeys && b.keys[n-1] != prefix
}

// build appends the filter's stored form to dst and empties the builder.
func (b *filterBuilder) build(dst []byte) ([]byte, error) {
	f, err := xorfilter.BuildBinaryFuse[uint8](&b.space, b.keys)
	if err != nil {
		return dst, fmt.Errorf("build filter over %d keys: %w", len(b.keys), err)
	}
	b.keys = b.keys[:0]
	dst = binary.LittleEndian.AppendUint64(dst, f.Seed)
	dst = binary.LittleEndian.AppendUint32(dst, f.SegmentLength)
	dst = binary.LittleEndian.AppendUint32(dst, f.SegmentCount)
	return append(dst, f.Fingerprints...), nil
}

// filterBytes checks a stored filter's head and gives the number of fingerprint
// bytes that follow it.
func filterBytes(head []byte) (int, bool) {
	segment := binary.LittleEndian.Uint32(head[8:])
	count := binary.LittleEndian.Uint32(head[12:])
	if bits.OnesCount32(segment) != 1 || segment > filterMax || count == 0 || count > filterMax {
		return 0, false
	}
	n := uint64(segment) * uint64(count+filterSegments)
	return int(n), n <= filterMax
}

// newFilter makes a filter of a head that filterBytes has accepted and of its
// fingerprints, which it keeps.
func newFilter(head, fingerprints []byte) filter {
	segment := binary.LittleEndian.Uint32(head[8:])
	count := binary.LittleEndian.Uint32(head[12:])
	return filter{xorfilter.BinaryFuse[uint8]{
		Seed:               binary.LittleEndian.Uint64(head),
		SegmentLength:      segment,
		SegmentLengthMask:  segment - 1,
		SegmentCount:       count,
		SegmentCountLength: segment * count,
		Fingerprints:       fingerprints,
	}}
}
