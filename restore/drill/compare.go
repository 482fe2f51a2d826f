package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// differences is what a comparison of the restored tree with the catalog found.
type differences struct {
	mu           sync.Mutex
	total        int64
	named        []string
	files, bytes int64
	unread       int64 // regular files whose contents the snapshot does not have
}

func (d *differences) add(path, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total++
	if len(d.named) < differencesMax {
		d.named = append(d.named, fmt.Sprintf("%q: %s", path, fmt.Sprintf(format, args...)))
	}
}

func (d *differences) count(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files++
	d.bytes += bytes
}

// String names the first differences.
func (d *differences) String() string {
	if d.total == 0 {
		return ""
	}
	text := fmt.Sprintf("%d differences: %s", d.total, strings.Join(d.named, "; "))
	return text[:min(len(text), messageMax)]
}

// compare reads the restored tree back and holds it against the catalog: it
// shares nothing with the code that wrote it but the catalog itself.
func (d *run) compare(ctx context.Context) (*differences, error) {
	diff := &differences{}
	strip := ""
	if len(d.man.Roots) == 1 {
		strip = strings.Trim(string(d.man.Roots[0]), "/")
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	var walkErr error
	for e, err := range d.cat.All(ctx) {
		if err != nil {
			walkErr = err
			break
		}
		if e.Flags&catalog.Unreadable != 0 {
			if e.Type == catalog.File {
				diff.unread++ // only this loop counts them
			}
			continue // there is nothing to compare with
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(string(e.Path), strip), "/")
		entry := e.Clone()
		g.Go(func() error { return d.compareOne(gctx, filepath.Join(d.target, rel), entry, diff) })
	}
	return diff, errors.Join(g.Wait(), walkErr)
}

func (d *run) compareOne(ctx context.Context, path string, e *catalog.Entry, diff *differences) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if os.Geteuid() != 0 && (e.Type == catalog.CharDevice || e.Type == catalog.BlockDevice) {
			return nil // only root makes devices
		}
		diff.add(path, "%v", err)
		return nil
	}
	if typeOf(st.Mode) != e.Type {
		diff.add(path, "type %o, want %d", st.Mode&unix.S_IFMT, e.Type)
		return nil
	}
	if e.Type != catalog.Symlink && st.Mode&0o777 != e.Mode&0o777 {
		diff.add(path, "mode %04o, want %04o", st.Mode&0o7777, e.Mode)
	}
	if mtime := st.Mtim.Nano(); mtime != e.MTime {
		diff.add(path, "modified %d, want %d", mtime, e.MTime)
	}
	switch e.Type {
	case catalog.Symlink:
		if target, err := os.Readlink(path); err != nil || target != string(e.Target) {
			diff.add(path, "link to %q, want %q", target, e.Target)
		}
	case catalog.File:
		if st.Size != e.Size {
			diff.add(path, "%d bytes, want %d", st.Size, e.Size)
			return nil
		}
		diff.count(e.Size)
		return d.compareContents(ctx, path, e, diff)
	}
	return nil
}

func typeOf(mode uint32) catalog.Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return catalog.Dir
	case unix.S_IFLNK:
		return catalog.Symlink
	case unix.S_IFIFO:
		return catalog.Fifo
	case unix.S_IFCHR:
		return catalog.CharDevice
	case unix.S_IFBLK:
		return catalog.BlockDevice
	}
	return catalog.File
}

// compareContents hashes the file chunk by chunk.
func (d *run) compareContents(ctx context.Context, path string, e *catalog.Entry, diff *differences) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		diff.add(path, "%v", err)
		return nil
	}
	defer f.Close()
	hash, err := d.repo.Hasher(pack.Data)
	if err != nil {
		return err
	}
	p := &position{ranges: e.Data, piece: int64(e.Piece), size: e.Size}
	if e.Data == nil {
		p.ranges = []catalog.Range{{Length: e.Size}}
	}
	if e.Chunking == catalog.Fixed {
		p.ranges = nil
		for r := range catalog.Pieces(e.Size, e.Piece, e.Data) {
			p.ranges = append(p.ranges, r)
		}
	}
	var buf []byte
	var one [1]pack.ChunkID
	var length [1]uint32
	for id, err := range catalog.FileChunks(ctx, e, d.reader) {
		if err != nil {
			diff.add(path, "chunk list: %v", err)
			return ctx.Err()
		}
		one[0], length[0] = id, 0
		if err := d.reader.Lengths(ctx, one[:], length[:]); err != nil {
			return err
		}
		if buf, err = p.read(f, buf[:0], int64(length[0])); err != nil {
			diff.add(path, "%v", err)
			return nil
		}
		if hash.Sum(buf) != id {
			diff.add(path, "contents differ before byte %d", p.done)
			return nil
		}
	}
	if !p.end() {
		diff.add(path, "the catalog names contents for %d bytes only", p.done)
	}
	return nil
}

// position walks through the parts of a file that chunks cover.
type position struct {
	ranges []catalog.Range
	in     int64
	done   int64
	piece  int64
	size   int64
}

func (p *position) end() bool {
	for _, r := range p.ranges {
		if r.Length > p.in {
			return false
		}
		p.in = 0
	}
	return true
}

// read appends the next n bytes that chunks cover.
func (p *position) read(f *os.File, buf []byte, n int64) ([]byte, error) {
	for n > 0 {
		if len(p.ranges) == 0 {
			return buf, errors.New("the catalog names more contents than the file has")
		}
		r := p.ranges[0]
		take := min(n, r.Length-p.in)
		at := len(buf)
		buf = append(buf, make([]byte, take)...)
		if _, err := f.ReadAt(buf[at:], r.Offset+p.in); err != nil {
			return buf, err
		}
		p.in, n, p.done = p.in+take, n-take, r.Offset+p.in+take
		if p.in == r.Length {
			p.ranges, p.in = p.ranges[1:], 0
		}
	}
	return buf, nil
}
