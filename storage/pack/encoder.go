package pack

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/klauspost/compress"
	"github.com/klauspost/compress/zstd"
)

// Hint says what the caller knows of a frame's contents.
type Hint uint8

const (
	HintProbe Hint = 0 // nothing: a few samples decide whether compressing is tried
	HintRaw   Hint = 1 // already compressed or encrypted: stored as it is
	HintZstd  Hint = 2 // compressible: compressed without probing
)

const (
	zstdMagic      = 0xFD2FB528
	skippableMagic = 0x184D2A50
	skippableHead  = 8         // bytes of magic and length
	rawBlockMax    = 128 << 10 // bytes in a zstd block
	rawHeadMax     = 4 + 1 + 4 // magic, descriptor, content size
	windowSize     = 1 << 20

	// A sample this long in each quarter MiB (but in 4 places at least and 16 at
	// most) is asked how compressible it is; 0.02 is noise, text begins at 0.5.
	probeSize         = 4 << 10
	probesMin         = 4
	probesMax         = 16
	probeSpacing      = 256 << 10
	compressibleAbove = 0.05

	// Compressed output must save one byte in 32; less is not worth decoding.
	worthwhileShift = 5
)

// Encoder makes padded zstd streams, and is the reusable state for it: about
// 11 MB. It is not safe for concurrent use; a worker keeps one and shares it
// between its builders.
type Encoder struct {
	z   *zstd.Encoder
	out []byte
}

// NewEncoder makes an Encoder: zstd at its fastest level, one thread, no
// checksum (the age file around it has a better one), a window of 1 MiB.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), // or short streams would not declare their length
		zstd.WithWindowSize(windowSize))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &Encoder{z: z}, nil
}

// Encode compresses plain, or stores it in raw blocks when compressing gains
// nothing, and pads the stream with a skippable frame to one of few lengths.
// The result is a standard zstd stream that declares its content size, at most
// EncodedMax(len(plain)) bytes. It is valid until the next call.
func (e *Encoder) Encode(plain []byte, hint Hint) []byte {
	e.out = e.out[:0]
	if hint == HintZstd || hint == HintProbe && compressible(plain) {
		e.out = e.z.EncodeAll(plain, e.out)
	}
	if n := len(plain); len(e.out) == 0 || len(e.out) > n-n>>worthwhileShift {
		e.out = appendRaw(e.out[:0], plain)
	}
	e.out = appendSkippable(e.out, paddedSize(len(e.out)))
	return e.out
}

// EncodedMax bounds the length of what Encode makes of n bytes.
func EncodedMax(n int) int {
	size := rawSize(n)
	return size + size>>padShift + 2*skippableHead
}

// compressible probes plain in a few places. One place that promises something
// is enough: the encoder skips over the rest quickly.
func compressible(plain []byte) bool {
	if len(plain) <= probesMin*probeSize {
		return true
	}
	probes := min(max(len(plain)/probeSpacing, probesMin), probesMax)
	step := (len(plain) - probeSize) / (probes - 1)
	for i := range probes {
		if compress.Estimate(plain[i*step:][:probeSize]) >= compressibleAbove {
			return true
		}
	}
	return false
}

// appendRaw writes plain as one zstd frame of raw blocks (RFC 8878, 3.1.1).
func appendRaw(dst, plain []byte) []byte {
	const singleSegment = 1 << 5
	n := len(plain)
	dst = binary.LittleEndian.AppendUint32(dst, zstdMagic)
	switch {
	case n < 256:
		dst = append(dst, singleSegment, byte(n))
	case n < 256+1<<16:
		dst = binary.LittleEndian.AppendUint16(append(dst, singleSegment|1<<6), uint16(n-256))
	default:
		dst = binary.LittleEndian.AppendUint32(append(dst, singleSegment|2<<6), uint32(n))
	}
	for {
		block := plain[:min(len(plain), rawBlockMax)]
		plain = plain[len(block):]
		head := uint32(len(block)) << 3 // type 0: raw
		if len(plain) == 0 {
			head |= 1 // the last one
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, block...)
		if len(plain) == 0 {
			return dst
		}
	}
}

// rawSize bounds the length of what appendRaw writes for n bytes.
func rawSize(n int) int {
	return rawHeadMax + max(1, (n+rawBlockMax-1)/rawBlockMax)*3 + n
}

// padShift: padding is at most one 64th of a stream, and never more than 15
// bytes above that (a skippable frame has 8 at least).
const padShift = 6

// paddedSize is the length to which a stream of n bytes is padded: the next
// multiple of 2^(floor(log2 n)-6), or the first after it that leaves room for
// a skippable frame.
func paddedSize(n int) int {
	if n < 1<<padShift {
		return n
	}
	step := 1 << (bits.Len(uint(n)) - 1 - padShift)
	size := (n + step - 1) &^ (step - 1)
	for size != n && size < n+skippableHead {
		size += step
	}
	return size
}

// appendSkippable pads dst to size bytes with a skippable frame.
func appendSkippable(dst []byte, size int) []byte {
	n := size - len(dst)
	if n == 0 {
		return dst
	}
	n -= skippableHead
	dst = binary.LittleEndian.AppendUint32(dst, skippableMagic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	for ; n > blockSize; n -= blockSize {
		dst = appendZeros(dst, blockSize)
	}
	return appendZeros(dst, n)
}
