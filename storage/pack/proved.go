package pack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"lifeboat/storage"
)

// tableEndMax is how much of a pack's end can hold a table of contents and what follows it.
const tableEndMax = FrameFileMax + blockSize + tailSize

// ReadProvedTOC reads the table of contents of a pack after all of its bytes,
// which must hash to hash. ReadTOC proves no more than that somebody with the
// public index key made the table; this one is for whoever goes by what it says.
// It keeps the pack's end in memory, not the pack. A pack that does not hash to
// its name wraps storage.ErrCorrupt; other errors are those of ReadTOC.
func ReadProvedTOC(ctx context.Context, src Getter, key string, hash Hash, dec *Decoder, open Open) (toc TOC, size int64, err error) {
	end, size, err := readProved(ctx, src, key, hash)
	if err != nil {
		return TOC{}, 0, fmt.Errorf("read %s: %w", key, err)
	}
	foot, err := ParseFooter(end, size)
	if err != nil {
		return TOC{}, 0, fmt.Errorf("read end of %s: %w", key, err)
	}
	start := size - int64(len(end))
	if foot.Offset < start {
		return TOC{}, 0, corrupt(key, fmt.Errorf("table of contents at %d, at most %d bytes from the end", foot.Offset, tableEndMax))
	}
	if toc, err = dec.OpenTOC(end[foot.Offset-start:][:foot.Length], foot, open); err != nil {
		return TOC{}, 0, fmt.Errorf("%s: %w", key, err)
	}
	return toc, size, nil
}

// readProved reads a whole pack and gives its end, at least tableEndMax bytes of it.
func readProved(ctx context.Context, src Getter, key string, hash Hash) (end []byte, size int64, err error) {
	body, info, err := src.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, 0, err
	}
	defer body.Close()
	if info.Size < tailSize || info.Size > PackMax {
		return nil, 0, corrupt("pack", fmt.Errorf("%d bytes", info.Size))
	}
	last := &lastBytes{b: make([]byte, 0, min(info.Size, 2*tableEndMax))}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, last), io.LimitReader(body, info.Size+1))
	switch {
	case err != nil:
		return nil, 0, err
	case n < info.Size: // a connection that broke, as far as anybody can tell
		return nil, 0, storage.Temporary(fmt.Errorf("%d bytes of %d: %w", n, info.Size, io.ErrUnexpectedEOF))
	case n > info.Size || Hash(sum.Sum(nil)) != hash:
		return nil, 0, corrupt("pack", errors.New("its bytes do not hash to its name"))
	}
	return last.b, info.Size, nil
}

// lastBytes keeps at least the last tableEndMax bytes of what is written to it.
type lastBytes struct{ b []byte }

// Write implements io.Writer.
func (l *lastBytes) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, n-tableEndMax):]
	if len(l.b)+len(p) > cap(l.b) {
		keep := l.b[max(0, len(l.b)+len(p)-tableEndMax):]
		l.b = l.b[:copy(l.b[:len(keep)], keep)]
	}
	l.b = append(l.b, p...)
	return n, nil
}
