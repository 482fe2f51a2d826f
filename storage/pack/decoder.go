package pack

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"lifeboat/storage"
)

const (
	// decodeWindowMax is the zstd window that a stream may ask for, in bytes. It
	// costs no memory: what was decoded is the window.
	decodeWindowMax = ObjectPlainMax
	// decodeSlack lets the zstd decoder copy in whole vectors up to the end.
	decodeSlack = 16
)

// Decoder opens frames, and is the reusable state for it: scratch for one
// decrypted frame and a zstd decoder. It is not safe for concurrent use.
type Decoder struct {
	z      *zstd.Decoder
	stream []byte // the zstd stream of the last frame
	toc    []byte
}

// NewDecoder makes a Decoder with hard limits: it never yields more than a
// caller declares, and never more than ObjectPlainMax bytes.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(decodeWindowMax),
		zstd.WithDecoderMaxMemory(ObjectPlainMax),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return &Decoder{z: z}, nil
}

// Close frees the decoder's state; it cannot be used afterwards.
func (d *Decoder) Close() { d.z.Close() }

// Frame opens a frame's age file with open, decompresses it and appends its
// plaintext to dst, which must come out as exactly plainLen bytes. Errors of
// open are passed on; a wrong length or a damaged stream wraps
// storage.ErrCorrupt, and then dst is returned as it was.
func (d *Decoder) Frame(dst, ageFile []byte, open Open, plainLen int) ([]byte, error) {
	if plainLen <= 0 || plainLen > FramePlainMax {
		return dst, corrupt("frame", fmt.Errorf("plain length %d, limit %d", plainLen, FramePlainMax))
	}
	if len(ageFile) > FrameFileMax {
		return dst, corrupt("frame", fmt.Errorf("%d bytes, limit %d", len(ageFile), FrameFileMax))
	}
	stream, err := open(d.stream[:0], ageFile)
	if err != nil {
		return dst, fmt.Errorf("open frame: %w", err)
	}
	d.stream = stream
	out, err := d.Decode(dst, stream, plainLen)
	if err != nil {
		return dst, fmt.Errorf("frame: %w", err)
	}
	return out, nil
}

// Object opens a small object (index record, manifest, table of contents): an
// age file of a zstd stream of at most plainMax bytes, which it must declare.
// It appends the plaintext to dst. Errors are those of Frame.
func (d *Decoder) Object(dst, ageFile []byte, open Open, plainMax int) ([]byte, error) {
	stream, err := open(d.stream[:0], ageFile)
	if err != nil {
		return dst, fmt.Errorf("open: %w", err)
	}
	d.stream = stream
	n, err := contentSize(stream)
	if err != nil {
		return dst, err
	}
	if n > uint64(min(plainMax, ObjectPlainMax)) {
		return dst, corrupt("zstd stream", fmt.Errorf("declares %d bytes, limit %d", n, min(plainMax, ObjectPlainMax)))
	}
	return d.Decode(dst, stream, int(n))
}

// Decode decompresses a zstd stream that must declare and yield exactly
// plainLen bytes, and appends them to dst. Other errors than wrong arguments
// wrap storage.ErrCorrupt, and then dst is returned as it was.
func (d *Decoder) Decode(dst, stream []byte, plainLen int) ([]byte, error) {
	n, err := contentSize(stream)
	if err != nil {
		return dst, err
	}
	if n != uint64(plainLen) {
		return dst, corrupt("zstd stream", fmt.Errorf("declares %d bytes, want %d", n, plainLen))
	}
	start := len(dst)
	room := slices.Grow(dst, plainLen+decodeSlack)[:start]
	// The decoder may not go beyond what it is given here, whatever the stream says.
	out, err := d.z.DecodeAll(stream, room[start:start:start+plainLen+decodeSlack])
	if err != nil {
		return dst, corrupt("zstd stream", err)
	}
	if len(out) != plainLen {
		return dst, corrupt("zstd stream", fmt.Errorf("%d bytes, want %d", len(out), plainLen))
	}
	if plainLen == 0 {
		return dst, nil
	}
	room = room[:start+plainLen]
	if &room[start] != &out[0] {
		return dst, fmt.Errorf("zstd stream: %w: decoder left its buffer", storage.ErrCorrupt)
	}
	return room, nil
}

// contentSize gives the length that a zstd stream declares for its contents.
func contentSize(stream []byte) (uint64, error) {
	var h zstd.Header
	if err := h.Decode(stream); err != nil {
		return 0, corrupt("zstd stream", err)
	}
	switch {
	case h.Skippable:
		return 0, corrupt("zstd stream", fmt.Errorf("begins with a skippable frame"))
	case h.DictionaryID != 0:
		return 0, corrupt("zstd stream", fmt.Errorf("wants dictionary %d", h.DictionaryID))
	case !h.HasFCS:
		return 0, corrupt("zstd stream", fmt.Errorf("does not declare its length"))
	}
	return h.FrameContentSize, nil
}
