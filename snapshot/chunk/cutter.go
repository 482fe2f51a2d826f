// Package chunk cuts a stream of bytes into chunks at points that depend on
// the contents and on a secret, and names chunks by a keyed hash. Both are pure
// functions of bytes and key: the same bytes under the same domain secret give
// the same chunks and ids on every machine and in every version.
//
// It reads no files, keeps no bytes and knows nothing of holes, packs or
// encryption: the caller owns the buffer. Fixed-size pieces need no cutter, only
// a grid; see catalog.Pieces.
//
// # The cut
//
// The gear hash of a position is computed from the 64 bytes before it:
//
//	h = 0; for each of the 64 bytes, oldest first: h = h<<1 + G[byte]  (mod 2^64)
//
// A chunk may end after n bytes, min <= n < max, when the hash there is below
// the limit: 2^64/avg/4 for n < avg and 2^64/avg*4 from avg on ("normalisation
// level 2": it draws lengths towards avg). The first such n wins; with none, the
// chunk ends at max or at the end of the stream. Because the hash sees 64 bytes
// only, cuts find back into step soon after a change.
//
// The table G is the first 2048 bytes of the extendable output of BLAKE3 in its
// key-derivation mode, context "lifeboat gear table v1", key material the 32-byte
// gear seed; each G[i] is eight bytes, little-endian. Without the seed, chunk
// lengths say little about the contents.
package chunk

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
)

// The cut sizes of format version 1, in bytes.
const (
	Min = 256 << 10 // no chunk is shorter, but the last of a stream
	Avg = 1 << 20   // about the mean length on random data (m: 1.1 MiB)
	Max = 4 << 20   // no chunk is longer; also the largest frame of a pack
)

const (
	gearContext = "lifeboat gear table v1"

	window = 64 // bytes that the gear hash sees: each shift drops one
	lanes  = 3  // independent hash chains per loop: hides the shift and add latency

	// lane is the stretch of one chain. Short enough that a block of lanes is a
	// small part of a step of the scan, long enough that warming up costs under 1 %.
	lane  = 8 << 10
	block = lanes * lane

	// sizeMax bounds the sizes a cutter takes, so that lengths always fit an int32.
	sizeMax = 1 << 30
)

const _ = uint(Min - window) // does not compile if a hash could reach back before its chunk

// A Cutter finds the ends of chunks. It does not change after it is made:
// any number of goroutines may use one.
type Cutter struct {
	gear          [256]uint64
	min, avg, max int    // bytes
	strict, loose uint64 // a hash below this is a cut: before avg, and from avg on
}

// NewCutter makes the cutter of a gear seed and of sizes in bytes. The sizes
// are part of the format: use Min, Avg and Max. It panics unless
// 64 <= min <= avg <= max <= 1 GiB: a caller with other sizes is a mistake in a program.
func NewCutter(gearSeed [32]byte, min, avg, max int) *Cutter {
	if min < window || avg < min || max < avg || max > sizeMax {
		panic(fmt.Sprintf("chunk: sizes out of order: min %d, avg %d, max %d", min, avg, max))
	}
	c := &Cutter{min: min, avg: avg, max: max}
	var table [256 * 8]byte
	blake3.DeriveKey(gearContext, gearSeed[:], table[:])
	for i := range c.gear {
		c.gear[i] = binary.LittleEndian.Uint64(table[8*i:])
	}
	mean := ^uint64(0) / uint64(avg)
	c.strict, c.loose = mean/4, mean*4
	return c
}

// Next gives the length of the first chunk in buf, or 0 when buf does not
// settle it: more bytes are needed. With eof, buf is all that is left of the
// stream, and 0 means that it is empty. Bytes past the chunk do not matter.
//
// When buf grows bit by bit, use Scan: it looks at each byte once.
func (c *Cutter) Next(buf []byte, eof bool) int {
	var s State
	return c.Scan(&s, buf, eof)
}

// State remembers how much of a chunk has been scanned. The zero value is the
// beginning of a chunk.
type State struct {
	done int // no length up to and including this is a cut
}

// Reset makes s ready for the next chunk. Scan does so itself when it finds a cut.
func (s *State) Reset() { s.done = 0 }

// Scan is Next for a buffer that grows: buf begins where the chunk begins, and
// holds at least what it held in the call before. It scans only what is new.
// When it gives a length above 0, the chunk is complete and s is reset: the next
// buf must begin right after it.
func (c *Cutter) Scan(s *State, buf []byte, eof bool) int {
	end := min(len(buf), c.max)
	if n := c.find(buf[:end], max(s.done+1, c.min)); n > 0 {
		s.done = 0
		return n
	}
	if end == c.max || eof {
		s.done = 0
		return end
	}
	s.done = end
	return 0
}

// find gives the smallest cut length from first to len(buf), or 0. Length n is
// judged by the hash of the window that ends after n bytes.
func (c *Cutter) find(buf []byte, first int) int {
	if first > len(buf) {
		return 0
	}
	if first < c.avg {
		end := min(len(buf), c.avg-1)
		if n := c.below(buf[:end], first, c.strict); n > 0 {
			return n
		}
		first = end + 1
	}
	if first > len(buf) {
		return 0
	}
	return c.below(buf, first, c.loose)
}

// below gives the smallest n from first to len(buf) whose hash is under limit, or 0.
// It needs first >= window.
func (c *Cutter) below(buf []byte, first int, limit uint64) int {
	at := first - 1 // index of the last byte of the window of length first
	for ; at+block <= len(buf); at += block {
		if n := c.blockBelow(buf, at, limit); n > 0 {
			return n
		}
	}
	return c.laneBelow(buf, at, len(buf), limit)
}

// blockBelow looks at the windows that end in buf[at:at+block], in three chains
// side by side. The lowest hit wins, so a hit in a later lane has to wait for
// the rest of the lanes before it.
func (c *Cutter) blockBelow(buf []byte, at int, limit uint64) int {
	h0, h1, h2 := c.warm(buf, at), c.warm(buf, at+lane), c.warm(buf, at+2*lane)
	b0 := (*[lane]byte)(buf[at:])
	b1 := (*[lane]byte)(buf[at+lane:])
	b2 := (*[lane]byte)(buf[at+2*lane:])
	g := &c.gear
	for i := range b0 {
		h0 = h0<<1 + g[b0[i]]
		h1 = h1<<1 + g[b1[i]]
		h2 = h2<<1 + g[b2[i]]
		if min(h0, h1, h2) < limit {
			return c.settle(buf, at, i, limit)
		}
	}
	return 0
}

// settle gives the lowest hit of a block in which some lane has its first hit at
// index i: no lane has one before i.
func (c *Cutter) settle(buf []byte, at, i int, limit uint64) int {
	for l := range lanes {
		from := at + l*lane
		if n := c.laneBelow(buf, from+i, from+lane, limit); n > 0 {
			return n
		}
	}
	return 0
}

// laneBelow looks at the windows that end in buf[from:to], one by one.
func (c *Cutter) laneBelow(buf []byte, from, to int, limit uint64) int {
	if from >= to {
		return 0
	}
	h := c.warm(buf, from)
	for i, b := range buf[from:to] {
		h = h<<1 + c.gear[b]
		if h < limit {
			return from + i + 1
		}
	}
	return 0
}

// warm gives the hash of the bytes before buf[at], as far as the window that ends
// with buf[at] can see them.
func (c *Cutter) warm(buf []byte, at int) uint64 {
	var h uint64
	for _, b := range buf[at-(window-1) : at] {
		h = h<<1 + c.gear[b]
	}
	return h
}
