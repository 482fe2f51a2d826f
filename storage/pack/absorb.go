package pack

import (
	"fmt"

	"lifeboat/storage"
)

// Ready reports whether the builder has a buffer, so that Add may be called.
func (b *Builder) Ready() bool { return b.buf != nil }

// Release gives the buffer back and drops what is in it.
func (b *Builder) Release() []byte {
	buf := b.buf
	b.buf = nil
	return buf[:0]
}

// offsetGrows is by how many bytes a frame's record may grow when its offset does.
const offsetGrows = 4

// Absorb appends the frames of another builder of the same kind, byte for byte
// as they are sealed, so that several small packs become one. The other builder
// is left as it was. ErrFull, with nothing taken over, when they do not all fit.
func (b *Builder) Absorb(o *Builder) error {
	if b.buf == nil || o.buf == nil {
		return ErrFinished
	}
	if b.kind != o.kind {
		return fmt.Errorf("absorb frames: kinds %d and %d: %w", b.kind, o.kind, storage.ErrCorrupt)
	}
	records := b.toc + o.toc + offsetGrows*len(o.frames)
	if len(b.frames)+len(o.frames) > FramesMax || tocSize(records) > TOCMax || b.finished(len(b.buf)+len(o.buf), records) > b.max {
		return ErrFull
	}
	start := 0
	for i, end := range o.ends {
		f := o.frames[i]
		at := len(b.buf)
		b.name = appendFrameName(b.name[:0], len(b.frames))
		b.buf = appendHeader(b.buf, b.name, int64(f.Length))
		b.buf = append(b.buf, o.buf[f.Offset:][:f.Length]...)
		b.buf = appendPadding(b.buf)
		b.sum.Write(b.buf[at:])
		f.Offset = uint32(at + blockSize)
		b.frames = append(b.frames, f)
		b.chunks = append(b.chunks, o.chunks[start:end]...)
		b.ends = append(b.ends, len(b.chunks))
		b.toc += frameSize(&f, end-start)
		start = end
	}
	b.plain += o.plain
	return nil
}

// Written is how many bytes of the buffer are filled.
func (b *Builder) Written() int { return len(b.buf) }
