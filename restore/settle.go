package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// settle looks at what has a file's name already, in a target that may hold files. It says
// true if the file needs no writing: it is kept, or it may not be replaced.
func (b *builder) settle(e *catalog.Entry, f *file) (bool, error) {
	r := b.r
	dir, err := r.handles.hold(f.dir)
	if err != nil {
		return true, r.settled(f, Failed, err)
	}
	defer r.handles.release(f.dir)
	st, err := statAt(dir, f.name)
	switch {
	case err == unix.ENOENT:
		return false, nil
	case err != nil:
		return true, r.settled(f, Failed, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return true, r.settled(f, Exists, inTheWay("a directory has its name"))
	}
	same, err := b.same(e, f, dir, &st)
	if err != nil {
		return true, err
	}
	if same {
		return true, r.keep(f, dir, &st)
	}
	if r.opts.Overwrite == Never {
		return true, r.settled(f, Exists, inTheWay("it is there already, and differs"))
	}
	f.replace = true
	return false, nil
}

// settled reports a file that is not going to be written.
func (r *run) settled(f *file, what Kind, err error) error {
	if f.key != "" {
		r.links.spoil(f.key, f.path)
	}
	return r.failed(f.path, what, err)
}

// same says whether what is there can stay: same size and time, and with VerifyFull same contents.
func (b *builder) same(e *catalog.Entry, f *file, dir int, st *unix.Stat_t) (bool, error) {
	o := b.r.opts
	if !o.Resume && o.Overwrite != IfChanged || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	if st.Size != f.lay.size || unix.Timespec(st.Mtim) != timespec(f.attrs.mtime) {
		return false, nil
	}
	if o.Verify != VerifyFull {
		return true, nil
	}
	return b.sameContents(e, f, dir)
}

var errContents = errors.New("the contents differ")

// sameContents compares a file with its chunk ids. Without a way to know how long chunks
// are, a file that was cut by content counts as different.
func (b *builder) sameContents(e *catalog.Entry, f *file, dir int) (bool, error) {
	r := b.r
	fd, err := openAt(dir, f.name, openRead, 0)
	if err != nil {
		return false, nil // it is about to be replaced, or reported
	}
	defer unix.Close(fd)
	pieces, pos, bytes := grid{l: &f.lay}, int64(0), int64(0)
	err = b.ids(e, func(ids []pack.ChunkID) error {
		lengths, err := r.lengthsOf(b.ctx, f, ids)
		if err != nil {
			return err
		}
		for i := range ids {
			at, length := pos, int64(lengths[i])
			if f.lay.fixed {
				piece, ok := pieces.take()
				if !ok {
					return errContents
				}
				at, length = piece.Offset, piece.Length
			}
			same := length > 0 && length <= chunkMax
			if same {
				same, err = r.sameChunk(&f.lay, fd, at, int(length), ids[i])
			}
			if err != nil || !same {
				return errContents
			}
			pos, bytes = pos+length, bytes+length
		}
		return nil
	})
	if b.ctx.Err() != nil {
		return false, context.Cause(b.ctx)
	}
	if err != nil || !f.lay.fixed && pos != f.lay.dataLength() || !sameHoles(fd, &f.lay) {
		return false, nil
	}
	r.tally.verifiedFiles.Add(1)
	r.tally.verifiedBytes.Add(bytes)
	return true, nil
}

// sameHoles says whether nothing lies where the entry has holes. Chunks do not
// cover holes, so that bytes written into one would go unseen.
func sameHoles(fd int, l *layout) bool {
	if l.data == nil {
		return true
	}
	at := int64(0)
	for _, r := range append(slices.Clone(l.data), catalog.Range{Offset: l.size}) {
		if at < r.Offset {
			next, err := unix.Seek(fd, at, unix.SEEK_DATA)
			if err != nil && err != unix.ENXIO || err == nil && next < r.Offset {
				return false
			}
		}
		at = r.End()
	}
	return true
}

// lengthsOf gives the lengths of chunks, 0 where they are unknown.
func (r *run) lengthsOf(ctx context.Context, f *file, ids []pack.ChunkID) ([]uint32, error) {
	lengths := make([]uint32, len(ids))
	switch {
	case f.lay.fixed:
		return lengths, nil
	case f.single:
		lengths[0] = uint32(min(f.lay.dataLength(), chunkMax+1))
		return lengths, nil
	case r.lengths == nil:
		return lengths, nil
	}
	err := r.lengths.Lengths(ctx, ids, lengths)
	return lengths, err
}

// keep leaves a file that is there as it is, but for attributes that differ.
func (r *run) keep(f *file, dir int, st *unix.Stat_t) error {
	fd, err := openAt(dir, f.name, openPath, 0)
	if err != nil {
		return r.settled(f, Failed, fmt.Errorf("open: %w", err))
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || identityOf(&now) != identityOf(st) {
		return r.settled(f, Failed, errors.Join(errSwapped, err))
	}
	a := &f.attrs
	asIs := st.Mode&0o7777 == a.mode && (r.opts.NoOwner || st.Uid == a.uid && st.Gid == a.gid) && len(a.xattrs) == 0
	s := setter{r: r, path: f.path, fd: fd, byID: true}
	if asIs {
		s.removeOthers(a)
	} else {
		if err := s.set(a); err != nil {
			return r.settled(f, Failed, err)
		}
	}
	if f.key != "" {
		if err := r.links.fill(f.key, dir, f.name, identityOf(st)); err != nil {
			return r.settled(f, Link, err)
		}
	}
	r.tally.kept.Add(1)
	r.opts.Events.done(f.path)
	return nil
}
