package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// frame is a directory on the way to the current entry.
type frame struct {
	end   int         // the stack's path[:end] is its path
	node  *node       // nil until it is used
	given bool        // it has an entry of its own
	attrs *attributes // to set when it is left; second pass only
}

// stack is the directories on the way to the current entry, the target first. It
// follows the catalog's depth-first order, so it is as deep as the tree and no wider.
type stack struct {
	path   []byte
	frames []frame
	used   int // frames[:used] are there in the target
	bytes  int // of attributes kept
}

func newStack(root *node) *stack {
	return &stack{frames: []frame{{node: root}}, used: 1}
}

// to leaves the directories that rel is not in, deepest first, and adds those between
// that have no entry. Afterwards the top is the directory that rel is in.
func (s *stack) to(rel []byte, leave func(f *frame, path []byte) error) error {
	for len(s.frames) > 1 {
		f := &s.frames[len(s.frames)-1]
		if below(s.path[:f.end], rel) {
			break
		}
		if err := s.pop(leave); err != nil {
			return err
		}
	}
	s.path = s.path[:s.frames[len(s.frames)-1].end]
	for {
		rest := rel[len(s.path):]
		if len(s.path) > 0 {
			rest = rest[1:]
		}
		i := bytes.IndexByte(rest, '/')
		if i < 0 {
			return nil
		}
		s.push(rest[:i])
	}
}

// below says that rel lies in dir.
func below(dir, rel []byte) bool {
	return len(dir) == 0 || len(rel) > len(dir) && rel[len(dir)] == '/' && bytes.HasPrefix(rel, dir)
}

func (s *stack) pop(leave func(f *frame, path []byte) error) error {
	last := len(s.frames) - 1
	f := &s.frames[last]
	if last < s.used {
		if leave != nil {
			if err := leave(f, s.path[:f.end]); err != nil {
				return err
			}
		}
		s.used = last
	}
	if f.attrs != nil {
		s.bytes -= f.attrs.bytes()
	}
	s.frames = s.frames[:last]
	return nil
}

// push enters a directory of the top one.
func (s *stack) push(name []byte) *frame {
	if len(s.path) > 0 {
		s.path = append(s.path, '/')
	}
	s.path = append(s.path, name...)
	s.frames = append(s.frames, frame{end: len(s.path)})
	return s.top()
}

func (s *stack) top() *frame { return &s.frames[len(s.frames)-1] }

// nameOf is the last element of a frame's path.
func (s *stack) nameOf(i int) string {
	p := s.path[:s.frames[i].end]
	return string(p[bytes.LastIndexByte(p, '/')+1:])
}

// enter goes to an entry: for a directory into it, for anything else into the one it is in.
func (s *stack) enter(rel []byte, dir bool, leave func(f *frame, path []byte) error) error {
	if dir && len(rel) == 0 {
		s.frames[0].given = true
		return nil
	}
	if err := s.to(rel, leave); err != nil {
		return err
	}
	if dir {
		s.push(baseOf(rel)).given = true
	}
	return nil
}

func baseOf(rel []byte) []byte { return rel[bytes.LastIndexByte(rel, '/')+1:] }

// walkFiles goes over the entries for the first pass.
func (r *run) walkFiles(ctx context.Context, entries Entries, b *builder) error {
	sel, err := newSelector(r.opts, r.plan.refused)
	if err != nil {
		return err
	}
	w := &fileWalk{r: r, b: b, sel: sel, stack: newStack(r.root)}
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.entry(e); err != nil {
			return err
		}
	}
	return b.flush()
}

// fileWalk is the state of the first pass.
type fileWalk struct {
	r     *run
	b     *builder
	sel   *selector
	stack *stack

	lost    []byte // the last directory that could not be made
	lostSet bool
}

var errUnlisted = errors.New("what was in it could not be listed when the snapshot was taken")

var errLost = errors.New("its directory could not be made")

func (w *fileWalk) entry(e *catalog.Entry) error {
	r := w.r
	rel, c := w.sel.next(e)
	switch {
	case c == bad:
		r.tally.problem(string(rel), w.sel.kind, w.sel.why)
		return nil
	case c == skip:
		r.tally.skipped.Add(1)
		return nil
	case w.lostSet && catalog.Within(w.lost, rel):
		if c == take {
			r.tally.problem(string(rel), Failed, errLost)
		}
		return nil
	}
	if c == take && e.Type == catalog.Dir && e.Flags&catalog.Unreadable != 0 {
		r.tally.problem(string(rel), Unreadable, errUnlisted) // it is made, and what was in it is not there
	}
	if err := w.stack.enter(rel, e.Type == catalog.Dir, nil); err != nil || c == lead {
		return err
	}
	if ok, err := w.makeDirs(); err != nil || !ok {
		if !ok && err == nil && e.Type != catalog.Dir {
			r.tally.problem(string(rel), Failed, errLost)
		}
		return err
	}
	if e.Type == catalog.File {
		return w.b.file(e, rel, w.stack.top().node)
	}
	return nil
}

// makeDirs makes the directories of the stack that are not there yet. If that does
// not work, it is reported, and false.
func (w *fileWalk) makeDirs() (bool, error) {
	s := w.stack
	for s.used < len(s.frames) {
		f, parent := &s.frames[s.used], s.frames[s.used-1].node
		f.node = newNode(parent, s.nameOf(s.used), openDir)
		if err := w.r.makeDir(f); err != nil {
			path := s.path[:f.end]
			w.lost, w.lostSet = append(w.lost[:0], path...), true
			w.r.block(string(path))
			var in inTheWay
			if errors.As(err, &in) {
				return false, w.r.failed(string(path), Exists, err)
			}
			return false, w.r.failed(string(path), Failed, err)
		}
		if f.given {
			w.r.tally.dirs.Add(1)
		}
		s.used++
	}
	return true, nil
}

// inTheWay is the error of a name that is taken by something that may not be replaced.
type inTheWay string

func (e inTheWay) Error() string { return string(e) }

// makeDir makes a directory, or takes one that is there. Directories are closed to others
// until they are left; those without an entry stay as they are made.
func (r *run) makeDir(f *frame) error {
	dir, err := r.handles.hold(f.node.parent)
	if err != nil {
		return err
	}
	defer r.handles.release(f.node.parent)
	perm := uint32(0o755)
	if f.given {
		perm = 0o700
	}
	err = unix.Mkdirat(dir, f.node.name, perm)
	if err == nil {
		return r.disinherit(f.node)
	}
	if err != unix.EEXIST {
		return err
	}
	st, err := statAt(dir, f.node.name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.takeDir(dir, f.node, &st)
	}
	if r.opts.Overwrite == Never {
		return inTheWay("something else has this name")
	}
	if err := unix.Unlinkat(dir, f.node.name, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, f.node.name, perm); err != nil {
		return err
	}
	return r.disinherit(f.node)
}

// disinherit removes the ACLs that a new directory has from the one it is in.
func (r *run) disinherit(n *node) error {
	if !r.inherits.Load() {
		return nil
	}
	fd, err := r.handles.hold(n)
	if err != nil {
		return err
	}
	defer r.handles.release(n)
	return removeACLs(fd, true)
}

// takeDir prepares a directory that was there before. Without root, one that a former
// run had given its final mode may have to be opened again.
func (r *run) takeDir(dir int, n *node, st *unix.Stat_t) error {
	if r.euid != 0 && int(st.Uid) == r.euid && st.Mode&0o700 != 0o700 {
		if err := unix.Fchmodat(dir, n.name, st.Mode&0o7777|0o700, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	fd, err := r.handles.hold(n)
	if err != nil {
		return err
	}
	if hasDefaultACL(fd) {
		r.inherits.Store(true)
	}
	r.handles.release(n)
	if r.opts.Resume {
		return r.clean(n)
	}
	return nil
}

// clean removes the temporary files that a killed run left in a directory.
func (r *run) clean(n *node) error {
	fd, err := r.handles.hold(n)
	if err != nil {
		return err
	}
	defer r.handles.release(n)
	return names(fd, func(name string) error {
		if !isTemp(name) {
			return nil
		}
		st, err := statAt(fd, name)
		switch {
		case err != nil:
			return nil // gone
		case st.Mode&unix.S_IFMT == unix.S_IFREG:
			return unix.Unlinkat(fd, name, 0)
		case st.Mode&unix.S_IFMT == unix.S_IFDIR && n == r.root:
			return r.cleanLinks(fd, name)
		}
		return nil
	})
}
