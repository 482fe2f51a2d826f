package index

import (
	"fmt"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// Limits of records, checked when writing and again when reading.
const (
	// PackChunksMax is the number of chunks that one pack's record may name. It
	// is what fits into a table of contents.
	PackChunksMax = pack.TOCMax / chunkBytes
	// packFrameHead is the space before a frame's age file: its tar header.
	packFrameHead = 512
	chunkBytes    = 36 // bytes of a chunk in a frame record: id and length
)

// Writer is the id of the writer in whose folder a pack lies.
type Writer = [16]byte

// PackRecord describes one stored pack: what a table of contents says, and the
// pack's name and size.
type PackRecord struct {
	Hash   pack.Hash // SHA-256 of the pack, part of its name
	Kind   pack.Kind
	Size   uint64 // bytes of the pack
	Frames []pack.Frame
}

// Location says where a copy of a chunk lies. The frame's plaintext from Offset
// on, Length bytes, is the chunk.
type Location struct {
	Pack        pack.Hash
	Writer      Writer
	Kind        pack.Kind
	PackSize    uint64 // bytes of the pack
	FrameOffset uint32 // of the frame's age file in the pack
	FrameLength uint32 // bytes of the age file
	FramePlain  uint32 // bytes of the frame's plaintext
	FrameEpoch  uint32 // key epoch that the frame is sealed to
	Offset      uint32 // of the chunk in the frame's plaintext
	Length      uint32 // bytes of the chunk
}

// PackInfo describes a recorded pack without its frames.
type PackInfo struct {
	Hash   pack.Hash
	Writer Writer
	Kind   pack.Kind
	Size   uint64 // bytes
	Frames int
	Chunks int
}

// check holds what a record must be, on its way in and on its way out. Errors
// wrap storage.ErrCorrupt.
func (r *PackRecord) check() error {
	err := r.checkPack()
	if err != nil {
		return fmt.Errorf("record of pack %s: %w: %w", r.Hash, storage.ErrCorrupt, err)
	}
	return nil
}

func (r *PackRecord) checkPack() error {
	switch {
	case r.Kind > pack.Meta:
		return fmt.Errorf("unknown kind %d", r.Kind)
	case r.Size > pack.PackMax:
		return fmt.Errorf("%d bytes, limit %d", r.Size, pack.PackMax)
	case len(r.Frames) == 0 || len(r.Frames) > pack.FramesMax:
		return fmt.Errorf("%d frames, limit %d", len(r.Frames), pack.FramesMax)
	}
	chunks, end := 0, uint64(0)
	for i := range r.Frames {
		f := &r.Frames[i]
		if err := checkFrame(f, end, r.Size); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		end = uint64(f.Offset) + uint64(f.Length)
		chunks += len(f.Chunks)
	}
	if chunks > PackChunksMax {
		return fmt.Errorf("%d chunks, limit %d", chunks, PackChunksMax)
	}
	return nil
}

// checkFrame checks one frame; before is where the frame before it ends.
func checkFrame(f *pack.Frame, before, size uint64) error {
	switch {
	case f.Plain == 0 || f.Plain > pack.FramePlainMax:
		return fmt.Errorf("plain length %d, limit %d", f.Plain, pack.FramePlainMax)
	case f.Length == 0 || f.Length > pack.FrameFileMax:
		return fmt.Errorf("length %d, limit %d", f.Length, pack.FrameFileMax)
	case uint64(f.Offset) < before+packFrameHead:
		return fmt.Errorf("offset %d overlaps what is before it", f.Offset)
	case uint64(f.Offset)+uint64(f.Length) > size:
		return fmt.Errorf("ends at %d of a pack of %d bytes", uint64(f.Offset)+uint64(f.Length), size)
	case len(f.Chunks) == 0 || len(f.Chunks) > pack.FrameChunksMax:
		return fmt.Errorf("%d chunks, limit %d", len(f.Chunks), pack.FrameChunksMax)
	}
	sum := uint64(0)
	for i := range f.Chunks {
		if f.Chunks[i].Length == 0 {
			return fmt.Errorf("chunk %d is empty", i)
		}
		sum += uint64(f.Chunks[i].Length)
	}
	if sum != uint64(f.Plain) {
		return fmt.Errorf("chunks make %d bytes, frame says %d", sum, f.Plain)
	}
	return nil
}

// chunks counts the chunks of a record.
func (r *PackRecord) chunks() int {
	n := 0
	for i := range r.Frames {
		n += len(r.Frames[i].Chunks)
	}
	return n
}
