package pack

import "errors"

// Limits of the format, checked when writing and again when reading.
const (
	PackMax        = 128 << 20 // bytes of a pack
	PackTarget     = 16 << 20  // bytes that a pack is meant to reach; a pack buffer's usual capacity
	FramePlainMax  = 4 << 20   // bytes of plaintext in a frame
	FrameFileMax   = 5 << 20   // bytes of a frame's age file
	FrameChunksMax = 16384     // chunks in a frame
	FramesMax      = 65536     // frames in a pack
	TOCMax         = 4 << 20   // bytes of CBOR in a table of contents; its age file stays below FrameFileMax
	ObjectPlainMax = 16 << 20  // bytes that Decoder.Object ever yields, whatever its caller allows
)

// A table of contents must fit into a frame-sized age file (and into the 8 MiB
// of an index object); that file must have room for the worst padding and an age
// header of 64 KiB.
const (
	_ = uint(FramePlainMax - TOCMax)
	_ = uint(FrameFileMax - FramePlainMax - FramePlainMax/32 - 64<<10)
)

// Sentinel errors of the writing side. Reading errors wrap storage.ErrCorrupt.
var (
	// ErrFull is returned by Add for a frame that does not fit any more; the
	// builder is as it was, and wants Finish.
	ErrFull = errors.New("pack is full")
	// ErrVerify is returned when a frame, opened again, is not what was put in:
	// a bug of the encoder or bad memory. The builder is as it was.
	ErrVerify = errors.New("frame does not read back")
	// ErrEmpty is returned by Finish for a pack without frames.
	ErrEmpty = errors.New("pack has no frames")
	// ErrFinished is returned for a builder that has no buffer: Reset gives it one.
	ErrFinished = errors.New("pack is finished")
)
