package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"lifeboat/storage"
)

const (
	tocTag   = "toc1"
	tocItems = 3 // tag, kind, frames
	// tailGuess is how much of a pack's end ReadTOC asks for at first: enough for
	// the table of some hundreds of chunks, so that a second request is rare.
	tailGuess = 64 << 10
)

// TOC is a pack's table of contents.
type TOC struct {
	Kind   Kind
	Frames []Frame
}

// Footer says where in a pack the age file of its table of contents lies.
type Footer struct {
	Offset int64 // bytes from the start of the pack
	Length int64 // bytes
}

// Open opens one age file, appends its plaintext to dst and returns the whole:
// the shape of (*seal.Opener).Open. It must not keep dst or file.
type Open func(dst, file []byte) ([]byte, error)

// Getter is the one thing that ReadTOC needs of a store (see storage.Store).
type Getter interface {
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error)
}

// appendTOC encodes a table of contents.
func appendTOC(dst []byte, kind Kind, frames []Frame) []byte {
	dst = appendHead(dst, cborArray, tocItems)
	dst = append(appendHead(dst, cborText, uint64(len(tocTag))), tocTag...)
	dst = appendHead(dst, cborUint, uint64(kind))
	return EncodeFrames(dst, frames)
}

// tocSize bounds what appendTOC writes for frames whose records take records bytes.
func tocSize(records int) int { return 1 + 1 + len(tocTag) + 1 + 5 + records }

// ParseTOC reads the CBOR of a table of contents. end is the first byte of the
// pack that no frame may reach: the offset of the table's tar header. Errors
// wrap storage.ErrCorrupt.
func ParseTOC(b []byte, end int64) (TOC, error) {
	const what = "table of contents"
	if len(b) > TOCMax {
		return TOC{}, corrupt(what, fmt.Errorf("%d bytes, limit %d", len(b), TOCMax))
	}
	n, b, err := readHead(b, cborArray)
	if err != nil {
		return TOC{}, corrupt(what, err)
	}
	if n != tocItems {
		return TOC{}, corrupt(what, fmt.Errorf("%d items, want %d", n, tocItems))
	}
	tag, b, err := readBytes(b, cborText)
	if err != nil {
		return TOC{}, corrupt(what, err)
	}
	if string(tag) != tocTag {
		return TOC{}, corrupt(what, fmt.Errorf("tag %q, want %q", tag, tocTag))
	}
	kind, b, err := readHead(b, cborUint)
	if err != nil {
		return TOC{}, corrupt(what, err)
	}
	if kind > uint64(Meta) {
		return TOC{}, corrupt(what, fmt.Errorf("unknown kind %d", kind))
	}
	frames, rest, err := DecodeFrames(b)
	if err != nil {
		return TOC{}, fmt.Errorf("%s: %w", what, err)
	}
	if len(rest) != 0 {
		return TOC{}, corrupt(what, fmt.Errorf("%d bytes after its end", len(rest)))
	}
	if err := CheckFrames(frames, end); err != nil {
		return TOC{}, fmt.Errorf("%s: %w", what, err)
	}
	return TOC{Kind: Kind(kind), Frames: frames}, nil
}

// CheckFrames checks that there are frames, that they lie in order, apart from
// each other and before end (bytes from the start of the pack), and that their
// lengths obey the limits. Errors wrap storage.ErrCorrupt.
func CheckFrames(frames []Frame, end int64) error {
	if len(frames) == 0 {
		return corrupt("frames", ErrEmpty)
	}
	last := int64(0)
	for i := range frames {
		next, err := checkFrame(&frames[i], last)
		if err == nil && next > end {
			err = fmt.Errorf("ends at %d, out of range, frames end at %d", next, end)
		}
		if err != nil {
			return corrupt(fmt.Sprintf("frame %d", i), err)
		}
		last = next
	}
	return nil
}

// ParseFooter reads the footer from the end of a pack of size bytes; tail is at
// least the last 2048 bytes of it. Errors wrap storage.ErrCorrupt.
func ParseFooter(tail []byte, size int64) (Footer, error) {
	const what = "footer"
	if size > PackMax || size%blockSize != 0 || size < int64(len(tail)) || len(tail) < tailSize {
		return Footer{}, corrupt(what, fmt.Errorf("pack of %d bytes, %d of them here", size, len(tail)))
	}
	tail = tail[len(tail)-tailSize:]
	if !bytes.Equal(tail[:blockSize], appendHeader(nil, []byte(footerName), footerSize)) {
		return Footer{}, corrupt(what, fmt.Errorf("not where it must be"))
	}
	if !zero(tail[blockSize+footerSize:]) {
		return Footer{}, corrupt(what, fmt.Errorf("archive does not end with two zero blocks"))
	}
	block := tail[blockSize : blockSize+footerSize]
	f, ok := parseFooterText(block)
	if !ok || !bytes.Equal(block, appendFooter(nil, f)) {
		return Footer{}, corrupt(what, fmt.Errorf("not understood"))
	}
	switch {
	case f.Length == 0 || f.Length > FrameFileMax:
		return Footer{}, corrupt(what, fmt.Errorf("table of contents of %d bytes, limit %d", f.Length, FrameFileMax))
	case f.Offset%blockSize != 0 || f.Offset < 3*blockSize || f.Offset+roundUp(f.Length)+tailSize != size:
		return Footer{}, corrupt(what, fmt.Errorf("table of contents at %d, %d bytes, does not end at the footer", f.Offset, f.Length))
	}
	return f, nil
}

// parseFooterText reads the two numbers of a footer; the caller compares the
// block with what they would make.
func parseFooterText(block []byte) (Footer, bool) {
	text, ok := bytes.CutPrefix(block, []byte(footerWords))
	if !ok {
		return Footer{}, false
	}
	line, _, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return Footer{}, false
	}
	offset, length, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return Footer{}, false
	}
	var f Footer
	var okOffset, okLength bool
	f.Offset, okOffset = parseDecimal(offset)
	f.Length, okLength = parseDecimal(length)
	return f, okOffset && okLength
}

// parseDecimal reads up to nine digits: more than any offset in a pack has.
func parseDecimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	v := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, true
}

// ReadTOC reads the table of contents of the pack stored as key: one request
// for the pack's end, and a second one for the rest of a table that is longer
// than that. open must have the index key. Errors of the store and of open are
// passed on; bytes that are not a pack's end wrap storage.ErrCorrupt.
func ReadTOC(ctx context.Context, src Getter, key string, dec *Decoder, open Open) (TOC, error) {
	tail, size, err := readTail(ctx, src, key)
	if err != nil {
		return TOC{}, fmt.Errorf("read end of %s: %w", key, err)
	}
	foot, err := ParseFooter(tail, size)
	if err != nil {
		return TOC{}, fmt.Errorf("read end of %s: %w", key, err)
	}
	start := size - int64(len(tail))
	if foot.Offset < start {
		head, err := readRange(ctx, src, key, foot.Offset, start-foot.Offset, size)
		if err != nil {
			return TOC{}, fmt.Errorf("read table of contents of %s: %w", key, err)
		}
		tail, start = append(head, tail...), foot.Offset
	}
	file := tail[foot.Offset-start:][:foot.Length]
	toc, err := dec.OpenTOC(file, foot, open)
	if err != nil {
		return TOC{}, fmt.Errorf("%s: %w", key, err)
	}
	return toc, nil
}

// OpenTOC opens and parses the age file of a table of contents that foot points
// at. Errors of open are passed on; the rest wraps storage.ErrCorrupt.
func (d *Decoder) OpenTOC(file []byte, foot Footer, open Open) (TOC, error) {
	plain, err := d.Object(d.toc[:0], file, open, TOCMax)
	if err != nil {
		return TOC{}, fmt.Errorf("table of contents: %w", err)
	}
	d.toc = plain
	return ParseTOC(plain, foot.Offset-blockSize)
}

// readTail reads the last tailGuess bytes of an object, or all of a smaller one.
func readTail(ctx context.Context, src Getter, key string) (tail []byte, size int64, err error) {
	body, info, err := src.Get(ctx, key, -tailGuess, -1)
	if err != nil {
		return nil, 0, err
	}
	defer body.Close()
	if info.Size < tailSize || info.Size > PackMax {
		return nil, 0, corrupt("pack", fmt.Errorf("%d bytes", info.Size))
	}
	tail, err = readExactly(body, min(info.Size, tailGuess))
	return tail, info.Size, err
}

// readRange reads n bytes at offset of an object that must still have size bytes.
func readRange(ctx context.Context, src Getter, key string, offset, n, size int64) ([]byte, error) {
	body, info, err := src.Get(ctx, key, offset, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if info.Size != size {
		return nil, corrupt("pack", fmt.Errorf("changed from %d to %d bytes", size, info.Size))
	}
	return readExactly(body, n)
}

// readExactly reads n bytes; a body that holds fewer or more is corrupt.
func readExactly(body io.Reader, n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, n+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != n {
		return nil, corrupt("range", fmt.Errorf("%d bytes, want %d", len(b), n))
	}
	return b, nil
}
