package pack

import (
	"encoding/binary"
	"fmt"
	"math"

	"lifeboat/storage"
)

const (
	chunkRecord  = 36 // bytes of a chunk in a frame record: its id and its big-endian length
	frameItems   = 5  // offset, length, plain, epoch, chunks
	frameMinSize = 1 + 4 + 2 + chunkRecord
)

// EncodeFrames appends the CBOR array of frame records to dst: for each frame
// [offset, length, plain, epoch, chunks], chunks being one byte string of 36
// bytes for each chunk. DecodeFrames reads it back.
func EncodeFrames(dst []byte, frames []Frame) []byte {
	dst = appendHead(dst, cborArray, uint64(len(frames)))
	for i := range frames {
		dst = appendFrame(dst, &frames[i])
	}
	return dst
}

func appendFrame(dst []byte, f *Frame) []byte {
	dst = appendHead(dst, cborArray, frameItems)
	dst = appendHead(dst, cborUint, uint64(f.Offset))
	dst = appendHead(dst, cborUint, uint64(f.Length))
	dst = appendHead(dst, cborUint, uint64(f.Plain))
	dst = appendHead(dst, cborUint, uint64(f.Epoch))
	dst = appendHead(dst, cborBytes, uint64(len(f.Chunks)*chunkRecord))
	for i := range f.Chunks {
		dst = append(dst, f.Chunks[i].ID[:]...)
		dst = binary.BigEndian.AppendUint32(dst, f.Chunks[i].Length)
	}
	return dst
}

// frameSize is the number of bytes that appendFrame writes for a frame of n chunks.
func frameSize(f *Frame, n int) int {
	return headSize(frameItems) + headSize(uint64(f.Offset)) + headSize(uint64(f.Length)) +
		headSize(uint64(f.Plain)) + headSize(uint64(f.Epoch)) +
		headSize(uint64(n*chunkRecord)) + n*chunkRecord
}

// frameSizeMax bounds frameSize for any frame of n chunks.
func frameSizeMax(n int) int { return 1 + 4*headSize(math.MaxUint32) + 5 + n*chunkRecord }

// DecodeFrames reads an array of frame records from the front of b and returns
// what follows it. Everything is checked: CBOR in its shortest form, the limits
// of the format, plain lengths against the chunks, and that the frames lie in
// order and apart from each other. The frames share one array of chunks and
// keep nothing of b. Errors wrap storage.ErrCorrupt.
func DecodeFrames(b []byte) (frames []Frame, rest []byte, err error) {
	n, body, err := readHead(b, cborArray)
	if err != nil {
		return nil, nil, corrupt("frames", err)
	}
	if n > FramesMax {
		return nil, nil, corrupt("frames", fmt.Errorf("%d of them, limit %d", n, FramesMax))
	}
	if n > uint64(len(body)/frameMinSize) {
		return nil, nil, corrupt("frames", errShort)
	}
	frames = make([]Frame, n)
	chunks, end := 0, int64(0)
	rest = body
	for i := range frames {
		ids, tail, err := readFrame(rest, &frames[i])
		if err == nil {
			end, err = checkFrame(&frames[i], end)
		}
		if err != nil {
			return nil, nil, corrupt(fmt.Sprintf("frame %d", i), err)
		}
		chunks += len(ids) / chunkRecord
		rest = tail
	}
	fillChunks(frames, make([]Chunk, chunks), body)
	return frames, rest, nil
}

// readFrame reads one record but for its chunks, which it checks and gives as they are.
func readFrame(b []byte, f *Frame) (ids, rest []byte, err error) {
	n, b, err := readHead(b, cborArray)
	if err != nil {
		return nil, nil, err
	}
	if n != frameItems {
		return nil, nil, fmt.Errorf("record of %d items, want %d", n, frameItems)
	}
	for _, field := range [...]*uint32{&f.Offset, &f.Length, &f.Plain, &f.Epoch} {
		v, tail, err := readHead(b, cborUint)
		if err != nil {
			return nil, nil, err
		}
		if v > math.MaxUint32 {
			return nil, nil, fmt.Errorf("number %d out of range", v)
		}
		*field, b = uint32(v), tail
	}
	ids, rest, err = readBytes(b, cborBytes)
	if err != nil {
		return nil, nil, err
	}
	return ids, rest, checkChunks(ids, f.Plain)
}

// checkChunks checks a frame's chunk records against its plain length.
func checkChunks(ids []byte, plain uint32) error {
	if len(ids) == 0 || len(ids)%chunkRecord != 0 {
		return fmt.Errorf("chunk list of %d bytes", len(ids))
	}
	if n := len(ids) / chunkRecord; n > FrameChunksMax {
		return fmt.Errorf("%d chunks, limit %d", n, FrameChunksMax)
	}
	sum := uint64(0)
	for ; len(ids) > 0; ids = ids[chunkRecord:] {
		n := binary.BigEndian.Uint32(ids[chunkRecord-4:])
		if n == 0 {
			return errEmptyChunk
		}
		sum += uint64(n)
	}
	if sum != uint64(plain) {
		return fmt.Errorf("chunks make %d bytes, frame says %d", sum, plain)
	}
	return nil
}

// checkFrame checks where a frame lies and how big it is; prev is where the
// frame before it ends. It returns where this one ends.
func checkFrame(f *Frame, prev int64) (end int64, err error) {
	offset, length := int64(f.Offset), int64(f.Length)
	switch {
	case f.Plain == 0 || f.Plain > FramePlainMax:
		return 0, fmt.Errorf("plain length %d, limit %d", f.Plain, FramePlainMax)
	case length == 0 || length > FrameFileMax:
		return 0, fmt.Errorf("length %d, limit %d", length, FrameFileMax)
	case offset%blockSize != 0:
		return 0, fmt.Errorf("offset %d is not a tar block", offset)
	case offset < roundUp(prev)+blockSize:
		return 0, fmt.Errorf("offset %d overlaps what is before it", offset)
	case offset+length > PackMax:
		return 0, fmt.Errorf("ends at %d, pack limit %d", offset+length, PackMax)
	}
	return offset + length, nil
}

// fillChunks gives every frame its chunks; body was checked by readFrame before.
func fillChunks(frames []Frame, chunks []Chunk, body []byte) {
	for i := range frames {
		var f Frame
		ids, rest, err := readFrame(body, &f)
		if err != nil {
			panic("pack: a checked frame record changed: " + err.Error())
		}
		n := len(ids) / chunkRecord
		for j := range chunks[:n] {
			record := ids[j*chunkRecord:]
			copy(chunks[j].ID[:], record)
			chunks[j].Length = binary.BigEndian.Uint32(record[chunkRecord-4 : chunkRecord])
		}
		frames[i].Chunks, chunks = chunks[:n:n], chunks[n:]
		body = rest
	}
}

// corrupt wraps what is wrong with what as storage.ErrCorrupt.
func corrupt(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, storage.ErrCorrupt, err)
}
