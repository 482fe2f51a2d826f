package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// writeRest is the second pass: hard links, symlinks and special files, and the
// attributes of directories when they are left.
func (r *run) writeRest(ctx context.Context, entries Entries) error {
	sel, err := newSelector(r.opts, r.plan.refused)
	if err != nil {
		return err
	}
	w := &restWalk{r: r, sel: sel, stack: newStack(r.root)}
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("read entries again: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.entry(e); err != nil {
			return err
		}
	}
	for len(w.stack.frames) > 1 {
		if err := w.stack.pop(w.leave); err != nil {
			return err
		}
	}
	// The names in the links directory are gone before the target gets its times.
	if err := r.links.remove(); err != nil {
		return err
	}
	return w.leave(&w.stack.frames[0], nil)
}

// restWalk is the state of the second pass.
type restWalk struct {
	r     *run
	sel   *selector
	stack *stack
	next  int // of r.blocked, which is in the order of the entries
}

func (w *restWalk) entry(e *catalog.Entry) error {
	rel, c := w.sel.next(e)
	if c == bad || c == skip || w.blocked(rel) {
		return nil // reported in the first pass
	}
	dir := e.Type == catalog.Dir
	if err := w.stack.enter(rel, dir, w.leave); err != nil {
		return err
	}
	if dir {
		w.keepAttributes(w.stack.top(), e)
	}
	if c == lead {
		return nil
	}
	w.use()
	if dir || e.Type == catalog.File && e.Links < 2 {
		return nil
	}
	return w.other(e, string(rel))
}

// blocked says that a path is or lies in a directory that could not be made.
func (w *restWalk) blocked(rel []byte) bool {
	for w.next < len(w.r.blocked) {
		b := []byte(w.r.blocked[w.next])
		if catalog.Within(b, rel) {
			return true
		}
		if catalog.Compare(b, rel) > 0 {
			return false
		}
		w.next++
	}
	return false
}

// use notes that the directories on the way are there. They are opened when needed.
func (w *restWalk) use() {
	s := w.stack
	for ; s.used < len(s.frames); s.used++ {
		s.frames[s.used].node = newNode(s.frames[s.used-1].node, s.nameOf(s.used), openDir)
	}
}

var errManyAttributes = errors.New("too many attributes on nested directories")

// keepAttributes keeps what to set when a directory is left.
func (w *restWalk) keepAttributes(f *frame, e *catalog.Entry) {
	a := w.r.attributesOf(e)
	if w.stack.bytes+a.bytes() > dirAttrBytesMax && len(a.xattrs) > 0 {
		w.r.tally.notSet(xattr, string(e.Path), "", errManyAttributes)
		a.xattrs = nil
	}
	w.stack.bytes += a.bytes()
	f.attrs = &a
}

// leave sets a directory's own attributes. Nothing is done in it afterwards.
func (w *restWalk) leave(f *frame, path []byte) error {
	if f.attrs == nil {
		return nil
	}
	r := w.r
	fd := r.root.fd
	if f.node != r.root {
		var err error
		if fd, err = r.handles.hold(f.node); err != nil {
			return r.failed(string(path), Failed, err)
		}
		defer r.handles.drop(f.node)
		defer r.handles.release(f.node)
	}
	s := setter{r: r, path: string(path), fd: fd}
	if err := s.set(f.attrs); err != nil {
		return r.failed(string(path), Failed, err)
	}
	return nil
}

// other makes a hard link, a symlink or a special file.
func (w *restWalk) other(e *catalog.Entry, rel string) error {
	r := w.r
	parent := w.stack.top().node
	dir, err := r.handles.hold(parent)
	if err != nil {
		return r.failed(rel, Failed, err)
	}
	defer r.handles.release(parent)
	name := string(baseOf([]byte(rel)))
	if e.Type == catalog.File {
		return r.link(e, rel, dir, name)
	}
	if !r.wanted(e, rel) {
		return nil
	}
	if err := r.special(e, rel, dir, name); err != nil {
		what := Failed
		var in inTheWay
		if errors.As(err, &in) {
			what = Exists
		}
		return r.failed(rel, what, err)
	}
	return nil
}

// wanted sorts out devices of an untrusted repository, and symlinks that are none.
func (r *run) wanted(e *catalog.Entry, rel string) bool {
	switch {
	case e.Flags&catalog.Unreadable != 0 && e.Type == catalog.Symlink:
		r.tally.problem(rel, Unreadable, errUnreadable)
	case e.Type == catalog.Symlink && (len(e.Target) == 0 || bytes.IndexByte(e.Target, 0) >= 0):
		r.tally.problem(rel, BadEntry, fmt.Errorf("a symlink to %q", e.Target))
	case r.opts.Untrusted && (e.Type == catalog.CharDevice || e.Type == catalog.BlockDevice):
		r.tally.dropped(device, rel, "")
	default:
		return true
	}
	return false
}

// special makes a symlink, fifo or device, or a further name of one.
func (r *run) special(e *catalog.Entry, rel string, dir int, name string) error {
	kept, err := r.makeRoom(e, dir, name)
	if err != nil {
		return err
	}
	key := linkKey(e)
	if key != "" && !kept {
		if done, err := r.linkSpecial(key, dir, name); done || err != nil {
			return err
		}
	}
	if !kept {
		err := r.make(e, dir, name)
		if err == unix.EPERM && e.Type != catalog.Symlink {
			r.tally.notSet(device, rel, "", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := r.finishSpecial(e, rel, key, dir, name); err != nil {
		return err
	}
	if e.Type == catalog.Symlink {
		r.tally.symlinks.Add(1)
	} else {
		r.tally.specials.Add(1)
	}
	r.opts.Events.done(rel)
	return nil
}

// makeRoom removes what has a name, if that may be, or says that it is what is wanted.
func (r *run) makeRoom(e *catalog.Entry, dir int, name string) (kept bool, err error) {
	st, err := statAt(dir, name)
	switch {
	case err == unix.ENOENT:
		return false, nil
	case err != nil:
		return false, err
	case r.opts.merges() && isAlike(e, dir, name, &st):
		if linkKey(e) == "" {
			return true, nil
		}
		return false, unix.Unlinkat(dir, name, 0) // made or linked again, so that all its names are one object
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return false, inTheWay("a directory has its name")
	case r.opts.Overwrite == Never:
		return false, inTheWay("something else has its name")
	}
	return false, unix.Unlinkat(dir, name, 0)
}

// isAlike says that a name is a symlink, fifo or device like the entry's already.
func isAlike(e *catalog.Entry, dir int, name string, st *unix.Stat_t) bool {
	if st.Mode&unix.S_IFMT != format(e.Type) {
		return false
	}
	if e.Type != catalog.Symlink {
		return e.Type == catalog.Fifo || uint64(st.Rdev) == deviceNumber(e)
	}
	buf := make([]byte, len(e.Target)+1)
	n, err := unix.Readlinkat(dir, name, buf)
	return err == nil && bytes.Equal(buf[:n], e.Target)
}

func format(t catalog.Type) uint32 {
	return [...]uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK}[t]
}

func deviceNumber(e *catalog.Entry) uint64 {
	return unix.Mkdev(uint32(e.Rdev>>32), uint32(e.Rdev))
}

func (r *run) make(e *catalog.Entry, dir int, name string) error {
	switch e.Type {
	case catalog.Symlink:
		return unix.Symlinkat(string(e.Target), dir, name)
	case catalog.Fifo:
		return unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0)
	}
	return unix.Mknodat(dir, name, format(e.Type)|0o600, int(deviceNumber(e)))
}

// finishSpecial sets attributes. It does so on a descriptor of what was made, after
// making sure that nobody has put something else there.
func (r *run) finishSpecial(e *catalog.Entry, rel, key string, dir int, name string) error {
	fd, err := openAt(dir, name, openPath, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != format(e.Type) || st.Nlink > 1 && !r.opts.merges() {
		return errSwapped
	}
	if key != "" {
		if err := r.links.fill(key, dir, name, identityOf(&st)); err != nil && err != unix.EPERM {
			return fmt.Errorf("link: %w", err)
		}
	}
	s := setter{r: r, path: rel, fd: fd, byID: true, link: e.Type == catalog.Symlink}
	a := r.attributesOf(e)
	return s.set(&a)
}

// linkSpecial makes a further name of a symlink, fifo or device that has been made.
func (r *run) linkSpecial(key string, dir int, name string) (bool, error) {
	if r.links.node == nil {
		return false, nil
	}
	links, err := r.handles.hold(r.links.node)
	if err != nil {
		return false, err
	}
	defer r.handles.release(r.links.node)
	err = unix.Linkat(links, key, dir, name, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err == nil {
		r.tally.links.Add(1)
	}
	return true, err
}

var errNoFirst = errors.New("the file it is another name of was not restored")

// link makes a further name of a regular file.
func (r *run) link(e *catalog.Entry, rel string, dir int, name string) error {
	if _, err := checkFile(e); err != nil || r.links.node == nil {
		return nil // reported in the first pass
	}
	links, err := r.handles.hold(r.links.node)
	if err != nil {
		return r.failed(rel, Link, err)
	}
	defer r.handles.release(r.links.node)
	key := linkKey(e)
	if _, err := statAt(links, spoiled(key, rel)); err == nil {
		return nil // it is the first one, and reported
	}
	first, err := statAt(links, key)
	switch {
	case err == unix.ENOENT && r.isFirstMoved(e, dir, name):
		return nil
	case err == unix.ENOENT:
		return r.failed(rel, Link, errNoFirst)
	case err != nil:
		return r.failed(rel, Link, err)
	case first.Size != e.Size:
		return r.failed(rel, BadEntry, fmt.Errorf("%d bytes, another name of the same file has %d", e.Size, first.Size))
	}
	return r.linkTo(e, rel, links, key, dir, name, &first)
}

// isFirstMoved says that a group's first file is in place, on a file system without hard links.
func (r *run) isFirstMoved(e *catalog.Entry, dir int, name string) bool {
	st, err := statAt(dir, name)
	return err == nil && !r.opts.merges() && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == e.Size
}

func (r *run) linkTo(e *catalog.Entry, rel string, links int, key string, dir int, name string, first *unix.Stat_t) error {
	st, err := statAt(dir, name)
	replace := false
	switch {
	case err == unix.ENOENT:
	case err != nil:
		return r.failed(rel, Link, err)
	case identityOf(&st) == identityOf(first):
		return nil // the first one, or kept
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return r.failed(rel, Exists, inTheWay("a directory has its name"))
	default:
		// A name that an interrupted run made leads to the same contents by another inode.
		leftover := r.opts.Resume && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == e.Size && unix.Timespec(st.Mtim) == timespec(e.MTime)
		if replace = leftover || r.opts.Overwrite != Never; !replace {
			return r.failed(rel, Exists, inTheWay("something else has its name"))
		}
	}
	if err := r.linkAs(links, key, dir, name, replace); err != nil {
		return r.failed(rel, Link, err)
	}
	r.tally.links.Add(1)
	r.opts.Events.done(rel)
	return nil
}
