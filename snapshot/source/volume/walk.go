//go:build linux

package volume

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Walk visits every object in the order of the catalog. It returns the first error
// of visit as it is; its own errors are that ctx ended, or that a path of Options
// is missing or cannot be looked at. What goes wrong below a path is told through
// Events and Counts. visit and Events are called by the calling goroutine alone.
// The workers that read ahead have ended when Walk returns.
func (v *Volume) Walk(ctx context.Context, visit func(*Stat) error) error {
	v.fds.begin()
	defer v.fds.end()
	a := v.newAhead()
	w := &walker{v: v, a: a, ctx: ctx, visit: visit, sc: newScratch()}
	defer w.count()
	roots := make([]*batch, len(v.roots))
	tops := make([]*branch, len(v.roots))
	for i, root := range v.roots {
		if root == "/" {
			tops[i] = &branch{dir: newTop(root), root: true}
			tops[i].dir.listed = true
			tops[i].job.branch = tops[i]
			a.append(&tops[i].job)
			continue
		}
		roots[i] = a.rootBatch(root)
		a.append(&roots[i].job)
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	defer a.stop()
	for range v.opts.Workers {
		workers.Go(a.run)
	}
	for i := range roots {
		if err := w.root(v.roots[i], roots[i], tops[i]); err != nil {
			return err
		}
	}
	return nil
}

// rootBatch is the job of looking at a path of Options in its directory.
func (a *ahead) rootBatch(path string) *batch {
	parent, name := filepath.Split(path)
	list := &listing{names: append([]byte(name), 0), refs: []nameRef{{len: uint16(len(name))}}}
	b := a.newBatch(newTop(filepath.Clean(parent)), list, 0, 1, 0)
	b.root = true
	a.names += list.size()
	return b
}

// walker visits what is read ahead.
type walker struct {
	v      *Volume
	a      *ahead
	ctx    context.Context
	visit  func(*Stat) error
	sc     *scratch
	path   []byte
	stack  []frame
	counts Counts
}

// frame is a directory of which the visits are somewhere in the middle.
type frame struct {
	dir     *dir
	batches []*batch
	entry   int // next in batches[0]
	sub     int // next in batches[0]
	path    int // length of the path that names are appended to, with its '/'
}

// root visits one path of Options and everything below it.
func (w *walker) root(path string, b *batch, top *branch) error {
	if top != nil {
		w.a.await(w.sc, &top.job)
		if top.outcome != opened {
			return fmt.Errorf("list /: %w", top.err)
		}
		w.path = w.path[:0]
		w.push(top, 0)
		return w.run()
	}
	w.a.await(w.sc, &b.job)
	switch s := &b.stats[0]; s.fate {
	case fateError, fateVanished:
		return fmt.Errorf("look at %s: %w", show(path), s.errno)
	}
	w.path = b.dir.appendPath(w.path[:0])
	if len(w.path) > 0 {
		w.path = append(w.path, '/')
	}
	w.stack = append(w.stack[:0], frame{dir: b.dir, batches: []*batch{b}, path: len(w.path)})
	return w.run()
}

// push begins the entries of a directory whose path, w.path[:n], has no '/' yet.
func (w *walker) push(br *branch, n int) {
	w.path = w.path[:n]
	if n > 0 {
		w.path = append(w.path, '/')
	}
	w.stack = append(w.stack, frame{dir: br.dir, batches: br.batches, path: len(w.path)})
}

// run visits until the stack is empty.
func (w *walker) run() error {
	for len(w.stack) > 0 {
		if err := w.ctx.Err(); err != nil {
			w.stack = w.stack[:0]
			return fmt.Errorf("walk: %w", context.Cause(w.ctx))
		}
		f := &w.stack[len(w.stack)-1]
		if len(f.batches) == 0 {
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		b := f.batches[0]
		w.a.await(w.sc, &b.job)
		sub, err := w.entries(f, b)
		if err != nil {
			return err
		}
		if sub != nil {
			if err := w.directory(f, sub, len(w.path)); err != nil {
				return err
			}
			continue
		}
		w.a.visited(b)
		f.batches[0], f.batches = nil, f.batches[1:]
		f.entry, f.sub = 0, 0
	}
	return nil
}

// entries visits what is left of a batch, up to the next directory, which it returns.
func (w *walker) entries(f *frame, b *batch) (*branch, error) {
	for f.entry < len(b.stats) {
		s := &b.stats[f.entry]
		name := b.list.name(b.lo + f.entry)
		f.entry++
		w.path = append(w.path[:f.path], name...)
		switch s.fate {
		case fateEnter:
			sub := b.subs[f.sub]
			b.subs[f.sub] = nil
			f.sub++
			return sub, nil
		case fateVisit:
			s.Path, s.dir = w.path, f.dir
			w.counts.Visited++
			if err := w.visit(s); err != nil {
				return nil, err
			}
		default:
			w.skip(s)
		}
	}
	return nil, nil
}

// directory visits a directory and begins its entries.
func (w *walker) directory(f *frame, br *branch, n int) error {
	w.a.await(w.sc, &br.job)
	s := &br.stat
	switch {
	case br.outcome == gone && br.root:
		return fmt.Errorf("open directory %s: %w", show("/"+string(w.path[:n])), br.err)
	case br.outcome == gone:
		w.counts.Vanished++
		w.path = w.path[:n]
		call(w.v.opts.Events.Vanished, w.path)
		return nil
	case br.outcome == replaced:
		w.unreadable(fmt.Errorf("open directory %s: %w", show("/"+string(w.path[:n])), ErrReplaced))
		return nil
	}
	if s.Mode == 0 { // never opened: what the look at its name told
		b := f.batches[0]
		*s = b.stats[f.entry-1]
	}
	s.Unreadable = br.outcome == failed
	s.Path, s.dir, s.fate = w.path, f.dir, fateVisit
	w.counts.Visited++
	if err := w.visit(s); err != nil {
		return err
	}
	w.path = w.path[:n]
	switch br.outcome {
	case failed:
		w.unreadable(fmt.Errorf("list directory %s: %w", show("/"+string(w.path)), br.err))
	case marked:
		w.counts.Excluded++
		call(w.v.opts.Events.Excluded, w.path)
	case mounted:
		w.counts.Mounts++
		call(w.v.opts.Events.Mount, w.path)
	}
	w.push(br, n)
	return nil
}

// skip counts and tells an entry that is not visited; its path is w.path.
func (w *walker) skip(s *Stat) {
	e := &w.v.opts.Events
	switch s.fate {
	case fateExcluded:
		w.counts.Excluded++
		call(e.Excluded, w.path)
	case fateSocket:
		w.counts.Sockets++
		call(e.Socket, w.path)
	case fateVanished:
		w.counts.Vanished++
		call(e.Vanished, w.path)
	case fateDeep:
		w.unreadable(fmt.Errorf("look at …%s: %w", show(string(w.path[max(0, len(w.path)-256):])), ErrTooDeep))
	case fateError:
		w.unreadable(fmt.Errorf("look at %s: %w", show("/"+string(w.path)), s.errno))
	}
}

func (w *walker) unreadable(err error) {
	w.counts.Unreadable++
	if w.v.opts.Events.Unreadable != nil {
		w.v.opts.Events.Unreadable(w.path, err)
	}
}

func call(event func([]byte), path []byte) {
	if event != nil {
		event(path)
	}
}

// count publishes the counts.
func (w *walker) count() {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	w.v.counts = w.counts
}

const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// marked tells whether a directory holds a file that says to stay out.
func (v *Volume) marked(fd int, l *listing) bool {
	for _, name := range v.opts.ExcludeIfPresent {
		if _, ok := l.find(name); ok {
			return true
		}
	}
	if !v.opts.ExcludeCaches {
		return false
	}
	i, ok := l.find(cacheTag)
	return ok && l.refs[i].kind&^unix.DT_REG == 0 && cacheTagged(fd)
}

// cacheTagged reads the signature; a name alone marks nothing.
func cacheTagged(dirfd int) bool {
	fd, err := openAt(dirfd, cacheTag, fileRead)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var s Stat
	if err := statFD(fd, &s); err != nil || !s.Regular() {
		return false
	}
	var head [len(cacheSignature)]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, head[:], 0) })
	return err == nil && bytes.Equal(head[:n], []byte(cacheSignature))
}

// pseudo tells whether a directory is on a file system that shows the kernel's
// state and holds no files. Those without a constant are fusectl and nfsd.
func pseudo(fd int) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false
	}
	switch uint32(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC, unix.SELINUX_MAGIC,
		unix.BINFMTFS_MAGIC, unix.NSFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC, 0x65735543, 0x6e667364:
		return true
	}
	return false
}
