package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

const (
	modeMax  = 0o7777
	flagsMax = Changed | Unreadable | Partial
	pieceMin = 512     // bytes: a disk sector
	pieceMax = 4 << 20 // bytes: the largest chunk
)

// check says what is wrong with an entry, if anything: the same rules before
// writing and after reading. The order of xattrs is the codec's business.
func (e *Entry) check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Type > BlockDevice:
		return fmt.Errorf("unknown type %d", e.Type)
	case len(e.Path) == 0 && e.Type != Dir:
		return errors.New("the empty path is not a directory")
	case e.Mode > modeMax:
		return fmt.Errorf("mode %#o has more than permission bits", e.Mode)
	case e.Flags > flagsMax:
		return fmt.Errorf("unknown flags %#x", uint8(e.Flags))
	case len(e.User) > NameMax || len(e.Group) > NameMax:
		return fmt.Errorf("owner name of %d bytes, at most %d", max(len(e.User), len(e.Group)), NameMax)
	case e.Links == 1 || e.Links != 0 && e.Type == Dir:
		return fmt.Errorf("link count %d of type %d", e.Links, e.Type)
	case e.Dev != 0 && e.Links == 0:
		return errors.New("a device without links")
	case e.Rdev != 0 && e.Type != CharDevice && e.Type != BlockDevice:
		return errors.New("a device number on what is no device")
	}
	if err := e.checkTarget(); err != nil {
		return err
	}
	if err := e.checkXattrs(); err != nil {
		return err
	}
	return e.checkContents()
}

func (e *Entry) checkTarget() error {
	switch {
	case e.Type != Symlink && len(e.Target) > 0:
		return errors.New("a target on what is no symlink")
	case e.Type == Symlink && len(e.Target) == 0 && e.Flags&Unreadable == 0:
		return errors.New("a symlink without a target")
	case len(e.Target) > TargetMax:
		return fmt.Errorf("target of %d bytes, at most %d", len(e.Target), TargetMax)
	case len(e.Target) > 0 && bytes.IndexByte(e.Target, 0) >= 0:
		return errors.New("a target with a NUL")
	}
	return nil
}

func (e *Entry) checkXattrs() error {
	if len(e.Xattrs) > XattrsMax {
		return fmt.Errorf("%d xattrs, at most %d", len(e.Xattrs), XattrsMax)
	}
	for i := range e.Xattrs {
		name := e.Xattrs[i].Name
		if name == "" || len(name) > XattrKeyMax || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("xattr with a bad name of %d bytes", len(name))
		}
	}
	return nil
}

// checkContents looks at size, data and chunks.
func (e *Entry) checkContents() error {
	if e.Size < 0 {
		return fmt.Errorf("size %d", e.Size)
	}
	if e.Type != File {
		if e.Data != nil || e.Chunking != Whole || e.Piece != 0 || len(e.Chunks) != 0 || e.IDPages {
			return fmt.Errorf("contents on type %d", e.Type)
		}
		return nil
	}
	if err := checkRanges(e.Data, e.Size); err != nil {
		return err
	}
	if e.Chunking == Fixed && (e.Piece < pieceMin || e.Piece > pieceMax) || e.Chunking != Fixed && e.Piece != 0 {
		return fmt.Errorf("piece of %d bytes", e.Piece)
	}
	return e.checkCount()
}

// checkCount looks at how many chunks there are.
func (e *Entry) checkCount() error {
	n := len(e.Chunks)
	if e.Flags&Unreadable != 0 {
		if n != 0 || e.IDPages {
			return fmt.Errorf("%d chunks of an unreadable file", n)
		}
		return nil
	}
	switch {
	case !e.IDPages && n > InlineIDs:
		return fmt.Errorf("%d chunk ids in an entry, at most %d", n, InlineIDs)
	case e.IDPages && n == 0:
		return errors.New("no pages of chunk ids")
	case e.Chunking > Fixed:
		return fmt.Errorf("unknown chunking %d", e.Chunking)
	}
	least, most := e.chunkCount()
	if e.IDPages && most <= InlineIDs {
		return fmt.Errorf("pages of chunk ids for at most %d chunks", most)
	}
	if e.IDPages {
		least, most = max(least, InlineIDs+1), most+PageIDs-1
		least, most = (least+PageIDs-1)/PageIDs, most/PageIDs
	}
	if int64(n) < least || int64(n) > most {
		return fmt.Errorf("%d chunks or pages of chunk ids for %d bytes", n, e.Size)
	}
	return nil
}

// chunkCount gives the least and the most chunks that the file can have.
func (e *Entry) chunkCount() (least, most int64) {
	switch length := DataLength(e.Size, e.Data); {
	case length == 0:
		return 0, 0
	case e.Chunking == Whole:
		return 1, 1
	case e.Chunking == Fixed:
		n := PieceCount(e.Size, e.Piece, e.Data)
		return n, n
	default:
		return 1, min(length, 1<<50) // far from overflow
	}
}

// checkRanges looks at a file's data ranges: in order, apart, not empty, within size.
func checkRanges(data []Range, size int64) error {
	if len(data) > RangesMax {
		return fmt.Errorf("%d data ranges, at most %d", len(data), RangesMax)
	}
	end := int64(-1) // so that the first may begin at 0
	for _, r := range data {
		if r.Length <= 0 || r.Offset <= end || r.Length > size-r.Offset {
			return fmt.Errorf("data range %d+%d after %d in %d bytes", r.Offset, r.Length, end, size)
		}
		end = r.End()
	}
	return nil
}
