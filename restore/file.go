package restore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// file is a regular file that is being restored.
type file struct {
	dir     *node  // it belongs into
	name    string // in dir
	path    string // below the target
	key     string // of its group of hard links, or empty
	lay     layout
	attrs   attributes
	replace bool // what has its name may be replaced
	verify  bool // read back
	single  bool // it has just one chunk

	pending  atomic.Int32 // parts in windows, and one while the catalog is being read for it
	failed   atomic.Bool
	streamed atomic.Int64 // bytes of chunks that were written

	mu   sync.Mutex // while node is made
	node *node      // the temporary file; nil until the first write
	temp string     // its name in dir; with a key it is in the links directory
}

// newFile prepares a file, or says why the catalog's word for it cannot be taken.
func (r *run) newFile(e *catalog.Entry, rel []byte, dir *node) (*file, error) {
	lay, err := checkFile(e)
	if err != nil {
		return nil, err
	}
	lay.own()
	return &file{
		dir: dir, name: string(baseOf(rel)), path: string(rel), key: linkKey(e),
		lay: lay, attrs: r.attributesOf(e),
		verify: r.verifies(rel),
		single: !e.IDPages && len(e.Chunks) == 1,
	}, nil
}

var errUnreadable = errors.New("its contents could not be read when the snapshot was taken")

// checkFile checks what the catalog says about a file's contents.
func checkFile(e *catalog.Entry) (layout, error) {
	if e.Flags&catalog.Unreadable != 0 {
		return layout{}, errUnreadable
	}
	lay, err := newLayout(e)
	if err != nil {
		return lay, err
	}
	if n := lay.chunks(e.Chunking); e.IDPages {
		if n == 0 {
			err = errors.New("pages of chunk ids without contents")
		}
	} else if n >= 0 && n != int64(len(e.Chunks)) || n < 0 && (len(e.Chunks) == 0 || int64(len(e.Chunks)) > lay.dataLength()) {
		err = fmt.Errorf("%d chunks for %d bytes of contents", len(e.Chunks), lay.dataLength())
	}
	if err == nil && lay.dataLength() > mostContents(e) {
		err = fmt.Errorf("%d bytes of contents, but chunks for at most %d", lay.dataLength(), mostContents(e))
	}
	return lay, err
}

// mostContents is how many bytes the chunks of a file can hold.
func mostContents(e *catalog.Entry) int64 {
	n := int64(len(e.Chunks))
	if e.IDPages {
		n *= catalog.PageIDs
	}
	return n * chunkMax
}

// verifies says whether a file is to be read back.
func (r *run) verifies(rel []byte) bool {
	switch r.opts.Verify {
	case VerifyFull:
		return true
	case VerifySample:
		h := fnv.New32a()
		h.Write(rel)
		return h.Sum32()%sampleOneIn == 0
	}
	return false
}

// fail gives a file up, and reports it once.
func (r *run) fail(f *file, what Kind, err error) error {
	if ferr := r.fatal(f.path, err); ferr != nil {
		f.failed.Store(true)
		return ferr
	}
	if !f.failed.Swap(true) {
		r.tally.problem(f.path, what, err)
	}
	return nil
}

// create opens the temporary file for the first time.
func (r *run) create(f *file) (int, error) {
	parent, flags := f.dir, openNew
	if f.key != "" {
		parent, flags, f.temp = r.links.node, openFile, f.key
	} else {
		f.temp = r.temp()
	}
	dir, err := r.handles.hold(parent)
	if err != nil {
		return -1, err
	}
	defer r.handles.release(parent)
	fd, err := openAt(dir, f.temp, flags, 0o600)
	if err != nil {
		return -1, err
	}
	return r.extend(f, fd)
}

// extend gives a file with holes its length.
func (r *run) extend(f *file, fd int) (int, error) {
	if !f.lay.sparse() {
		return fd, nil
	}
	if err := unix.Ftruncate(fd, f.lay.size); err != nil {
		unix.Close(fd)
		return -1, errors.Join(err, r.unlinkTemp(f))
	}
	return fd, nil
}

// createWhole opens a file that is written and named in one go: without a name,
// where that can be.
func (r *run) createWhole(f *file) (int, error) {
	if f.key != "" || f.replace || r.unnamed == cannotName {
		return r.create(f)
	}
	dir, err := r.handles.hold(f.dir)
	if err != nil {
		return -1, err
	}
	defer r.handles.release(f.dir)
	fd, err := openUnnamed(dir)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.EINVAL { // another file system than the target's
		return r.create(f)
	}
	if err != nil {
		return -1, err
	}
	return r.extend(f, fd)
}

// unlinkTemp removes the temporary file; for a group of hard links that is up to spoil.
func (r *run) unlinkTemp(f *file) error {
	if f.key != "" || f.temp == "" {
		return nil
	}
	dir, err := r.handles.hold(f.dir)
	if err != nil {
		return err
	}
	defer r.handles.release(f.dir)
	return unix.Unlinkat(dir, f.temp, 0)
}

// publish sets the attributes and gives the file its final name.
func (r *run) publish(f *file, fd int) error {
	s := setter{r: r, path: f.path, fd: fd}
	if err := s.set(&f.attrs); err != nil {
		return err
	}
	dir, err := r.handles.hold(f.dir)
	if err != nil {
		return err
	}
	defer r.handles.release(f.dir)
	if f.key != "" {
		err = r.publishLinked(f, dir)
	} else if f.temp == "" {
		err = r.unnamed.name(fd, dir, f.name)
	} else if f.replace {
		err = unix.Renameat(dir, f.temp, dir, f.name)
	} else {
		err = renameNew(dir, f.temp, f.name)
	}
	if err == unix.EEXIST || err == unix.EISDIR {
		return inTheWay("something has taken its name meanwhile")
	}
	return err
}

// publishLinked gives a file of several names its first one. The one in the links
// directory stays for the others.
func (r *run) publishLinked(f *file, dir int) error {
	links, err := r.handles.hold(r.links.node)
	if err != nil {
		return err
	}
	defer r.handles.release(r.links.node)
	err = r.linkAs(links, f.key, dir, f.name, f.replace)
	if err == unix.EPERM || err == unix.EOPNOTSUPP || err == unix.EMLINK {
		// No hard links here: this name at least.
		return unix.Renameat(links, f.key, dir, f.name)
	}
	return err
}

// linkAs links a group's file to a name, in place of what has that name if replace is set.
func (r *run) linkAs(links int, key string, dir int, name string, replace bool) error {
	err := unix.Linkat(links, key, dir, name, 0)
	if err != unix.EEXIST || !replace {
		return err
	}
	temp := r.temp()
	if err := unix.Linkat(links, key, dir, temp, 0); err != nil {
		return err
	}
	if err := unix.Renameat(dir, temp, dir, name); err != nil {
		return errors.Join(err, unix.Unlinkat(dir, temp, 0))
	}
	return nil
}

// discard removes what there is of a file that failed.
func (r *run) discard(f *file) {
	if f.node != nil {
		r.handles.drop(f.node)
	}
	if f.key != "" {
		r.links.spoil(f.key, f.path)
		return
	}
	if f.node != nil {
		// If even that fails, a resumed run cleans up.
		_ = r.unlinkTemp(f)
	}
}

// writeWhole writes a file of one chunk, or of none, from nothing to its final name.
func (r *run) writeWhole(f *file, pos int64, data []byte, id pack.ChunkID) error {
	fd, err := r.createWhole(f)
	if err != nil {
		return r.giveUp(f, err)
	}
	if len(data) > 0 {
		err = f.lay.spread(pos, data, func(offset int64, part []byte) error { return writeAll(fd, part, offset) })
		if err == nil && f.verify {
			err = r.readBack(f, fd, pos, len(data), id)
		}
	}
	if err == nil {
		err = r.publish(f, fd)
	}
	if cerr := unix.Close(fd); err == nil && cerr != nil && cerr != unix.EINTR {
		// The name is there already, but what it holds may not be whole.
		err = fmt.Errorf("close: %w", cerr)
		if dir, herr := r.handles.hold(f.dir); herr == nil {
			err = errors.Join(err, unix.Unlinkat(dir, f.name, 0))
			r.handles.release(f.dir)
		}
	}
	if err != nil {
		// A failure here is told by the first error.
		_ = r.unlinkTemp(f)
		return r.giveUp(f, err)
	}
	r.wrote(f, len(data))
	r.completed(f)
	return nil
}

// giveUp sorts the errors of writing a file, and gives the file up.
func (r *run) giveUp(f *file, err error) error {
	what := Failed
	var in inTheWay
	switch {
	case errors.As(err, &in):
		what = Exists
	case errors.Is(err, errDiffers):
		what = Differs
	case errors.Is(err, errPastEnd):
		what = Missing
	}
	return r.fail(f, what, err)
}

func (r *run) wrote(f *file, n int) {
	f.streamed.Add(int64(n))
	r.tally.bytes.Add(int64(n))
	r.opts.Events.wrote(int64(n))
}

func (r *run) completed(f *file) {
	r.tally.files.Add(1)
	if f.verify {
		r.tally.verifiedFiles.Add(1)
	}
	r.opts.Events.done(f.path)
}

// writePart writes a chunk of a file that has more of them.
func (r *run) writePart(f *file, pos int64, data []byte) error {
	fd, err := r.holdTemp(f)
	if err != nil {
		return r.giveUp(f, err)
	}
	defer r.handles.release(f.node)
	err = f.lay.spread(pos, data, func(offset int64, part []byte) error { return writeAll(fd, part, offset) })
	if err != nil {
		return r.giveUp(f, err)
	}
	r.wrote(f, len(data))
	return nil
}

// holdTemp makes the temporary file, or opens it again, and holds it.
func (r *run) holdTemp(f *file) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.node != nil {
		return r.handles.hold(f.node)
	}
	fd, err := r.create(f)
	if err != nil {
		return -1, err
	}
	parent := f.dir
	if f.key != "" {
		parent = r.links.node
	}
	n := newNode(parent, f.temp, openFile)
	if err := r.handles.adopt(n, fd); err != nil {
		return -1, errors.Join(err, r.unlinkTemp(f))
	}
	f.node = n
	return fd, nil
}

var errDiffers = errors.New("what was read back is not what was written")

// readBack reads a chunk from a file and compares it with its id.
func (r *run) readBack(f *file, fd int, pos int64, length int, id pack.ChunkID) error {
	same, err := r.sameChunk(&f.lay, fd, pos, length, id)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !same {
		return errDiffers
	}
	r.tally.verifiedBytes.Add(int64(length))
	return nil
}

// sameChunk says whether a file holds a chunk at its place.
func (r *run) sameChunk(l *layout, fd int, pos int64, length int, id pack.ChunkID) (bool, error) {
	buf := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buf)
	if cap(*buf) < length {
		*buf = make([]byte, length)
	}
	b := (*buf)[:length]
	var err error
	if l.fixed { // with its holes
		err = readAll(fd, b, pos)
	} else {
		err = l.spread(pos, b, func(offset int64, part []byte) error { return readAll(fd, part, offset) })
	}
	return err == nil && r.hash(b) == id, err
}

// endPart is called when a window is done with its part of a file; the last one finishes it.
func (r *run) endPart(ctx context.Context, f *file) error {
	if f.pending.Add(-1) > 0 {
		return nil
	}
	if want := f.lay.streamLength(); !f.single && !f.failed.Load() && ctx.Err() == nil && want >= 0 && f.streamed.Load() != want {
		if err := r.fail(f, Missing, fmt.Errorf("%d bytes of contents, want %d", f.streamed.Load(), want)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil || f.failed.Load() {
		r.discard(f)
		return nil
	}
	if f.single {
		return nil // complete since its chunk came
	}
	fd, err := r.holdTemp(f)
	if err == nil {
		err = r.publish(f, fd)
		r.handles.release(f.node)
	}
	if err != nil {
		err = r.giveUp(f, err)
		r.discard(f)
		return err
	}
	r.handles.drop(f.node)
	r.completed(f)
	return nil
}
