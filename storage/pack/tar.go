package pack

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"lifeboat/storage"
)

const (
	blockSize  = 512
	tocName    = "toc.zst.age"
	footerName = "footer"
	footerSize = blockSize
	endSize    = 2 * blockSize // the zero blocks that end an archive
	// tailSize is what follows the table of contents: the footer's header, the footer, the end.
	tailSize    = blockSize + footerSize + endSize
	footerWords = "lifeboat-pack 1 "
)

var errEmptyChunk = errors.New("empty chunk")

// roundUp rounds n up to whole tar blocks.
func roundUp(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

// appendZeros appends n zero bytes, n at most one block.
func appendZeros(dst []byte, n int) []byte {
	var zero [blockSize]byte
	return append(dst, zero[:n]...)
}

// appendPadding fills dst up to a whole tar block.
func appendPadding(dst []byte) []byte {
	return appendZeros(dst, int(roundUp(int64(len(dst))))-len(dst))
}

// appendFrameName appends the name of frame i: six digits and ".zst.age".
func appendFrameName(dst []byte, i int) []byte {
	var digits [6]byte
	for p := len(digits) - 1; p >= 0; p-- {
		digits[p] = byte('0' + i%10)
		i /= 10
	}
	return append(append(dst, digits[:]...), ".zst.age"...)
}

// appendHeader appends the only tar header that a pack ever has for a member of
// this name and size: a ustar regular file, mode 0400, owner 0, time 0, no
// names. Readers compare with it byte for byte.
func appendHeader(dst, name []byte, size int64) []byte {
	var h [blockSize]byte
	copy(h[:100], name)
	octal(h[100:107], 0o400)
	octal(h[108:115], 0)
	octal(h[116:123], 0)
	octal(h[124:135], size)
	octal(h[136:147], 0)
	copy(h[148:156], "        ") // the checksum counts itself as spaces
	h[156] = '0'
	copy(h[257:265], "ustar\x0000")
	octal(h[329:336], 0)
	octal(h[337:344], 0)
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	octal(h[148:154], sum)
	h[154] = 0
	return append(dst, h[:]...)
}

// octal fills field with v's octal digits.
func octal(field []byte, v int64) {
	for p := len(field) - 1; p >= 0; p-- {
		field[p] = byte('0' + v&7)
		v >>= 3
	}
}

// parseOctal reads what octal writes.
func parseOctal(field []byte) (int64, bool) {
	v := int64(0)
	for _, c := range field {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, true
}

// appendFooter appends the footer's 512 bytes.
func appendFooter(dst []byte, f Footer) []byte {
	start := len(dst)
	dst = append(dst, footerWords...)
	dst = strconv.AppendInt(dst, f.Offset, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, f.Length, 10)
	dst = append(dst, '\n')
	return appendZeros(dst, footerSize-(len(dst)-start))
}

// Member is one file of a pack's archive.
type Member struct {
	Name   string
	Offset int64  // of Data in the pack, bytes
	Data   []byte // a part of the pack
}

// Walk reads a whole pack strictly: frames numbered from 000000, the table of
// contents, the footer, two zero blocks and nothing else; every header exactly
// as a Builder writes it; the footer naming the table of contents. It yields
// the members in order, and as the last element an error (wrapping
// storage.ErrCorrupt) where the pack stops being one. Members yielded before
// the error are usable: recovery takes what comes.
func Walk(pack []byte) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		w := walker{pack: pack}
		for !w.done {
			m, err := w.next()
			if err != nil {
				yield(Member{}, fmt.Errorf("pack at byte %d: %w: %w", w.pos, storage.ErrCorrupt, err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// walker is the state of one Walk.
type walker struct {
	pack   []byte
	pos    int64 // of the next header
	frames int
	toc    Footer // where the table of contents lay, once it was seen
	done   bool
}

// next reads the member at pos.
func (w *walker) next() (Member, error) {
	if len(w.pack) > PackMax {
		return Member{}, fmt.Errorf("%d bytes, limit %d", len(w.pack), PackMax)
	}
	left := w.pack[w.pos:]
	if len(left) < blockSize {
		return Member{}, errShort
	}
	name, size, err := parseHeader(left[:blockSize])
	if err != nil {
		return Member{}, err
	}
	end := blockSize + roundUp(size)
	if end > int64(len(left)) {
		return Member{}, fmt.Errorf("member %s: %w", name, errShort)
	}
	m := Member{Name: string(name), Offset: w.pos + blockSize, Data: left[blockSize : blockSize+size : blockSize+size]}
	if !zero(left[blockSize+size : end]) {
		return Member{}, fmt.Errorf("member %s: padding is not zero", name)
	}
	if err := w.accept(m, left[end:]); err != nil {
		return Member{}, err
	}
	w.pos += end
	return m, nil
}

// accept checks that m may come at this place; rest is what follows it.
func (w *walker) accept(m Member, rest []byte) error {
	size := int64(len(m.Data))
	switch {
	case w.toc.Length != 0: // the footer must follow
		if m.Name != footerName || !bytes.Equal(m.Data, appendFooter(nil, w.toc)) {
			return errors.New("member " + m.Name + " in the place of the footer")
		}
		if len(rest) != endSize || !zero(rest) {
			return errors.New("archive does not end with two zero blocks")
		}
		w.done = true
		return nil
	case size == 0 || size > FrameFileMax:
		return fmt.Errorf("member %s: %d bytes, limit %d", m.Name, size, FrameFileMax)
	case m.Name == tocName && w.frames > 0:
		w.toc = Footer{Offset: m.Offset, Length: size}
		return nil
	case w.frames < FramesMax && m.Name == string(appendFrameName(nil, w.frames)):
		w.frames++
		return nil
	}
	return fmt.Errorf("member %s out of place", m.Name)
}

// parseHeader reads a tar header and refuses any but appendHeader's.
func parseHeader(h []byte) (name []byte, size int64, err error) {
	if zero(h) {
		return nil, 0, errors.New("archive ends without a footer")
	}
	name, _, _ = bytes.Cut(h[:100], []byte{0})
	size, ok := parseOctal(h[124:135])
	if !ok || !bytes.Equal(h, appendHeader(nil, name, size)) {
		return nil, 0, errors.New("not a header of a pack")
	}
	for _, c := range name {
		if c < ' ' || c > '~' {
			return nil, 0, errors.New("not a name of a pack member")
		}
	}
	return name, size, nil
}

// zero reports whether b is all zero bytes.
func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
