package pack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"

	"lifeboat/storage/seal"
)

// Sealer seals plaintexts as age files; *seal.Sealer is one.
type Sealer interface {
	// Seal appends one age file to dst and gives the file key it made.
	Seal(dst, plain []byte) ([]byte, seal.FileKey, error)
	// Overhead is the exact number of bytes that Seal adds to n.
	Overhead(n int) int
}

// Options are a Builder's limits and tools. The zero value is a good one.
type Options struct {
	Target  int      // most bytes of a finished pack; 0: whatever the buffer holds
	Epoch   uint32   // key epoch recorded for every frame
	Verify  Verify   // how many frames are opened again before they count
	Encoder *Encoder // shared with other builders of the same goroutine; nil: made
	Decoder *Decoder // likewise, used for verifying
}

// Sealed is a finished pack. All of it belongs to the caller.
type Sealed struct {
	Kind   Kind
	Hash   Hash    // SHA-256 of Bytes, which names the pack
	Bytes  []byte  // the pack, in the buffer that the builder was given
	Frames []Frame // what it holds, in order
	Plain  int64   // bytes of plaintext in all frames
}

// Checksum gives the pack's SHA-256 in the form that storage.Store.Put wants.
// It was made while the frames were sealed and costs nothing.
func (s Sealed) Checksum() [32]byte { return s.Hash }

// Builder makes packs, one after the other, each in a buffer that it is handed
// and gives away with the finished pack. It never grows that buffer. A Builder
// belongs to one goroutine; its memory is reused for every frame.
type Builder struct {
	kind           Kind
	opt            Options
	content, index Sealer

	buf    []byte // the pack so far; nil between Finish and Reset
	max    int    // bytes that the finished pack may have
	sum    hash.Hash
	frames []Frame
	ends   []int // ends[i]: where frame i's chunks end in chunks
	chunks []Chunk
	toc    int    // bytes of the frame records so far
	plain  int64  // bytes of plaintext so far
	added  uint64 // frames ever added, for VerifySample

	opener Open // opens with key; made once
	key    seal.FileKey
	again  []byte // what verifying decodes
	tocBuf []byte // the table of contents, encoded
	name   []byte
}

// NewBuilder makes a builder of packs of one kind. content seals the frames,
// index the table of contents; buf becomes the first pack (see Reset).
func NewBuilder(kind Kind, opt Options, content, index Sealer, buf []byte) (*Builder, error) {
	if kind > Meta {
		return nil, fmt.Errorf("pack builder: unknown kind %d", kind)
	}
	if opt.Verify > VerifyOff {
		return nil, fmt.Errorf("pack builder: unknown verify level %d", opt.Verify)
	}
	var err error
	if opt.Encoder == nil {
		if opt.Encoder, err = NewEncoder(); err != nil {
			return nil, fmt.Errorf("pack builder: %w", err)
		}
	}
	if opt.Decoder == nil {
		if opt.Decoder, err = NewDecoder(); err != nil {
			return nil, fmt.Errorf("pack builder: %w", err)
		}
	}
	b := &Builder{kind: kind, opt: opt, content: content, index: index, sum: sha256.New()}
	b.opener = func(dst, file []byte) ([]byte, error) { return seal.OpenWithKey(dst, file, b.key) }
	b.Reset(buf)
	return b, nil
}

// Reset begins a new pack in buf, whose length is ignored and whose capacity
// bounds the pack (PackTarget is usual, PackMax the most that is used). An
// unfinished pack is dropped. After Finish this must come before Add.
func (b *Builder) Reset(buf []byte) {
	b.buf = buf[:0]
	b.max = min(cap(buf), PackMax)
	if b.opt.Target > 0 {
		b.max = min(b.max, b.opt.Target)
	}
	b.sum.Reset()
	// The last pack's frames went away with it, so new ones are made, of its size.
	b.frames = make([]Frame, 0, max(len(b.frames), 32))
	b.chunks = make([]Chunk, 0, max(len(b.chunks), 128))
	b.ends = b.ends[:0]
	b.toc, b.plain = 0, 0
}

// Len gives the number of frames in the pack so far.
func (b *Builder) Len() int { return len(b.frames) }

// Size bounds from above, closely, how many bytes the pack would have if it
// were finished now.
func (b *Builder) Size() int { return b.finished(len(b.buf), b.toc) }

// Fits reports whether Add is sure to take a frame of this plain length (bytes)
// and number of chunks, however badly it compresses.
func (b *Builder) Fits(plain, chunks int) bool {
	return len(b.frames) < FramesMax && b.fits(EncodedMax(plain), b.toc+frameSizeMax(chunks))
}

// Full reports that a frame of the largest kind may not fit any more. As long
// as it is false, Add cannot fail with ErrFull. Packs become fuller when Fits
// is asked about the very frame to come.
func (b *Builder) Full() bool { return !b.Fits(FramePlainMax, FrameChunksMax) }

// fits reports whether a stream of this length fits, if records bytes of frame
// records follow in the table of contents.
func (b *Builder) fits(stream, records int) bool {
	return tocSize(records) <= TOCMax && b.finished(len(b.buf)+memberSize(b.content, stream), records) <= b.max
}

// finished bounds the size of a pack with at bytes of frames and records bytes
// of frame records.
func (b *Builder) finished(at, records int) int {
	return at + memberSize(b.index, EncodedMax(tocSize(records))) + tailSize
}

// memberSize is the room that n bytes, sealed by s, take in the archive.
func memberSize(s Sealer, n int) int {
	return blockSize + int(roundUp(int64(n+s.Overhead(n))))
}

// Add compresses, pads and seals plain as the pack's next frame, checks it as
// Options.Verify says, and feeds it to the pack's hash while it is warm. The
// chunks must make up plain exactly; they are copied. On ErrFull (finish, reset
// and add it again), ErrVerify and any other error the pack is as it was. A
// frame that would not fit an empty pack either gives another error than ErrFull.
func (b *Builder) Add(plain []byte, chunks []Chunk, hint Hint) error {
	if b.buf == nil {
		return ErrFinished
	}
	if err := checkContents(plain, chunks); err != nil {
		return fmt.Errorf("add frame: %w", err)
	}
	stream := b.opt.Encoder.Encode(plain, hint)
	if len(b.frames) == FramesMax || !b.fits(len(stream), b.toc+frameSizeMax(len(chunks))) {
		if len(b.frames) == 0 {
			return fmt.Errorf("add frame of %d bytes: pack of %d bytes is too small for it", len(plain), b.max)
		}
		return ErrFull
	}
	b.name = appendFrameName(b.name[:0], len(b.frames))
	foot, err := b.member(b.content, stream, plain, b.opt.Verify.wants(b.added))
	if err != nil {
		return fmt.Errorf("add frame %d: %w", len(b.frames), err)
	}
	f := Frame{
		Offset: uint32(foot.Offset),
		Length: uint32(foot.Length),
		Plain:  uint32(len(plain)),
		Epoch:  b.opt.Epoch,
	}
	b.frames = append(b.frames, f)
	b.chunks = append(b.chunks, chunks...)
	b.ends = append(b.ends, len(b.chunks))
	b.toc += frameSize(&f, len(chunks))
	b.plain += int64(len(plain))
	b.added++
	return nil
}

// checkContents checks what Add was given: the same rules that readers hold frames to.
func checkContents(plain []byte, chunks []Chunk) error {
	if len(plain) == 0 || len(plain) > FramePlainMax {
		return fmt.Errorf("plain length %d, limit %d", len(plain), FramePlainMax)
	}
	if len(chunks) == 0 || len(chunks) > FrameChunksMax {
		return fmt.Errorf("%d chunks, limit %d", len(chunks), FrameChunksMax)
	}
	sum := uint64(0)
	for i := range chunks {
		if chunks[i].Length == 0 {
			return errEmptyChunk
		}
		sum += uint64(chunks[i].Length)
	}
	if sum != uint64(len(plain)) {
		return fmt.Errorf("chunks make %d bytes, frame has %d", sum, len(plain))
	}
	return nil
}

// member appends the archive member called b.name: stream, sealed by s. If
// check is set it is opened again and compared with plain. Afterwards its bytes
// are part of the hash. On error nothing has changed.
func (b *Builder) member(s Sealer, stream, plain []byte, check bool) (Footer, error) {
	start := len(b.buf)
	size := len(stream) + s.Overhead(len(stream))
	out := appendHeader(b.buf, b.name, int64(size))
	out, key, err := s.Seal(out, stream)
	if err != nil {
		return Footer{}, err
	}
	file := out[start+blockSize:]
	if len(file) != size || cap(out) != cap(b.buf) {
		return Footer{}, fmt.Errorf("sealer made %d bytes, promised %d", len(file), size)
	}
	if check {
		if err := b.check(file, key, plain); err != nil {
			return Footer{}, err
		}
	}
	b.buf = appendPadding(out)
	b.sum.Write(b.buf[start:])
	return Footer{Offset: int64(start + blockSize), Length: int64(size)}, nil
}

// check opens an age file with the key that it was just made with.
func (b *Builder) check(file []byte, key seal.FileKey, plain []byte) error {
	b.key = key
	again, err := b.opt.Decoder.Frame(b.again[:0], file, b.opener, len(plain))
	b.again = again
	b.key = seal.FileKey{}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if !bytes.Equal(again, plain) {
		return fmt.Errorf("%w: decodes to other bytes", ErrVerify)
	}
	return nil
}

// Finish adds the table of contents and the footer, and gives the pack away.
// Reset makes the builder usable again. ErrEmpty if there are no frames; after
// ErrVerify or an error of the sealer it may be tried again.
func (b *Builder) Finish() (Sealed, error) {
	if b.buf == nil {
		return Sealed{}, ErrFinished
	}
	if len(b.frames) == 0 {
		return Sealed{}, ErrEmpty
	}
	start := 0
	for i, end := range b.ends { // only now, since b.chunks moved as it grew
		b.frames[i].Chunks = b.chunks[start:end:end]
		start = end
	}
	b.tocBuf = appendTOC(b.tocBuf[:0], b.kind, b.frames)
	stream := b.opt.Encoder.Encode(b.tocBuf, HintProbe)
	b.name = append(b.name[:0], tocName...)
	foot, err := b.member(b.index, stream, b.tocBuf, b.opt.Verify != VerifyOff)
	if err != nil {
		return Sealed{}, fmt.Errorf("table of contents: %w", err)
	}
	tail := len(b.buf)
	b.buf = appendHeader(b.buf, []byte(footerName), footerSize)
	b.buf = appendFooter(b.buf, foot)
	b.buf = appendZeros(appendZeros(b.buf, blockSize), blockSize)
	b.sum.Write(b.buf[tail:])
	s := Sealed{Kind: b.kind, Bytes: b.buf, Frames: b.frames, Plain: b.plain}
	b.sum.Sum(s.Hash[:0])
	b.buf = nil
	return s, nil
}
