//go:build linux

package volume

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// dirFDsMax bounds the directories that stay open without being in use. Those
	// in use are bounded by the workers and the callers of Open and Attributes.
	dirFDsMax = 256

	// relativeMax is the longest path given to the kernel at once, its NUL included.
	relativeMax = unix.PathMax

	pathOnly = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dirRead  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOATIME
)

// dir is a directory of the walk. It lives as long as anything points to it (a
// Stat, a directory below it); its descriptor comes and goes with the fdCache,
// which finds it again through its parents.
type dir struct {
	parent *dir
	name   string // last element; of a top, which has no parent, the absolute path
	bytes  int    // of the path relative to "/"
	depth  int    // elements of that path
	listed bool   // a top that is listed itself: "/"

	// The rest belongs to fdCache.mu.
	ino, dev     uint64 // what it must be when it is opened again; ino 0: not known
	fd           int    // -1: closed
	pins         int    // users of fd
	newer, older *dir   // among the idle
}

func newTop(path string) *dir {
	rel := path[1:]
	d := &dir{name: path, bytes: len(rel), fd: -1}
	if rel != "" {
		d.depth = strings.Count(rel, "/") + 1
	}
	return d
}

func newDir(parent *dir, name []byte) *dir {
	return &dir{parent: parent, name: string(name), bytes: parent.below(len(name)), depth: parent.depth + 1, fd: -1}
}

// below is the length of the path of an object in d whose name has n bytes.
func (d *dir) below(n int) int {
	if d.bytes == 0 {
		return n
	}
	return d.bytes + 1 + n
}

// appendPath appends the path relative to "/".
func (d *dir) appendPath(p []byte) []byte {
	start := len(p)
	p = slices.Grow(p, d.bytes)[:start+d.bytes]
	for end := len(p); d.parent != nil; d = d.parent {
		end -= len(d.name)
		copy(p[end:], d.name)
		if end > start {
			end--
			p[end] = '/'
		}
	}
	copy(p[start:], d.name[1:])
	return p
}

// fdCache opens directories and keeps the last used ones open while a walk runs.
type fdCache struct {
	openat2 bool // the kernel has it and lets us use it

	mu             sync.Mutex
	walks          int  // 0: nothing idle stays open
	idle           int  // directories that are open and not in use
	newest, oldest *dir // of the idle
}

func newFDCache() *fdCache {
	c := &fdCache{}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	if fd, err := unix.Openat2(unix.AT_FDCWD, "/", &how); err == nil {
		unix.Close(fd)
		c.openat2 = true
	}
	return c
}

// begin lets idle directories stay open until end is called as often.
func (c *fdCache) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.walks++
}

func (c *fdCache) end() {
	c.mu.Lock()
	c.walks--
	c.mu.Unlock()
	c.trim()
}

// acquire returns the directory's descriptor, which stays open until release. A
// top's is good only as the start of a path (O_PATH), unless it is listed itself.
func (c *fdCache) acquire(d *dir) (int, error) {
	if fd, ok := c.pin(d); ok {
		return fd, nil
	}
	fd, err := c.sparing(func() (int, error) { return c.open(d) })
	if err != nil {
		return -1, err
	}
	return c.keep(d, fd)
}

// sparing calls open, and again without idle directories when descriptors ran out.
func (c *fdCache) sparing(open func() (int, error)) (int, error) {
	fd, err := open()
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		c.drop(0)
		return open()
	}
	return fd, err
}

// openIn opens an object by its name in a directory, not following a link.
func (c *fdCache) openIn(d *dir, name []byte, flags int) (int, error) {
	dirfd, err := c.acquire(d)
	if err != nil {
		return -1, err
	}
	defer c.release(d)
	return c.sparing(func() (int, error) { return openAt(dirfd, string(name), flags|unix.O_NOFOLLOW) })
}

// openAt opens one name in an open directory.
func openAt(dirfd int, name string, flags int) (int, error) {
	return withoutATime(flags, func(flags int) (int, error) {
		return retry(func() (int, error) { return unix.Openat(dirfd, name, flags, 0) })
	})
}

// pin takes d's descriptor into use if it is open.
func (c *fdCache) pin(d *dir) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pinLocked(d)
}

func (c *fdCache) pinLocked(d *dir) (int, bool) {
	if d.fd < 0 {
		return -1, false
	}
	if d.pins == 0 {
		c.unlink(d)
	}
	d.pins++
	return d.fd, true
}

// keep enters a descriptor that was just opened, unless another goroutine was
// faster, or the directory is not the one it was.
func (c *fdCache) keep(d *dir, fd int) (int, error) {
	c.mu.Lock()
	known, ino, dev := d.ino != 0, d.ino, d.dev
	c.mu.Unlock()
	if known {
		var s Stat
		if err := statFD(fd, &s); err != nil || s.Inode != ino || s.Dev != dev {
			unix.Close(fd)
			return -1, errors.Join(err, ErrReplaced)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.pinLocked(d); ok {
		unix.Close(fd)
		return have, nil
	}
	d.fd, d.pins = fd, 1
	return fd, nil
}

// identify says what the directory must be whenever it is opened again.
func (c *fdCache) identify(d *dir, s *Stat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.ino, d.dev = s.Inode, s.Dev
}

// release ends one use of what acquire returned.
func (c *fdCache) release(d *dir) {
	c.mu.Lock()
	d.pins--
	if d.pins == 0 {
		c.link(d)
	}
	over := c.idle > dirFDsMax || c.walks == 0
	c.mu.Unlock()
	if over {
		c.trim()
	}
}

// trim closes what has been idle longest, down to what may stay open.
func (c *fdCache) trim() {
	c.mu.Lock()
	most := dirFDsMax
	if c.walks == 0 {
		most = 0
	}
	c.mu.Unlock()
	c.drop(most)
}

// drop closes idle directories until most are left.
func (c *fdCache) drop(most int) {
	for {
		c.mu.Lock()
		d, fd := c.oldest, -1
		if d != nil && c.idle > most {
			c.unlink(d)
			fd, d.fd = d.fd, -1
		}
		c.mu.Unlock()
		if fd < 0 {
			return
		}
		unix.Close(fd)
	}
}

func (c *fdCache) link(d *dir) {
	d.newer, d.older = nil, c.newest
	if c.newest != nil {
		c.newest.newer = d
	} else {
		c.oldest = d
	}
	c.newest = d
	c.idle++
}

func (c *fdCache) unlink(d *dir) {
	if d.newer != nil {
		d.newer.older = d.older
	} else {
		c.newest = d.older
	}
	if d.older != nil {
		d.older.newer = d.newer
	} else {
		c.oldest = d.newer
	}
	d.newer, d.older = nil, nil
	c.idle--
}

// open opens a directory from its nearest ancestor that is open, or from "/". It never
// gives the descriptor that the directory may have by now: the caller owns the answer.
func (c *fdCache) open(d *dir) (int, error) {
	var names []string // from the last element up
	c.mu.Lock()
	var at *dir
	fd, pinned := -1, false
	for below := d; ; below = at {
		if at = below.parent; at == nil {
			names = appendReversed(names, below.name)
			break
		}
		names = append(names, below.name)
		if fd, pinned = c.pinLocked(at); pinned {
			break
		}
	}
	c.mu.Unlock()
	slices.Reverse(names)
	flags := dirRead
	if d.parent == nil && !d.listed {
		flags = pathOnly
	}
	if pinned {
		defer c.release(at)
		return c.descend(fd, names, flags)
	}
	if len(names) == 0 {
		return c.step(unix.AT_FDCWD, "/", flags, false)
	}
	root, err := c.step(unix.AT_FDCWD, "/", pathOnly, false)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return c.descend(root, names, flags)
}

// appendReversed appends the elements of an absolute path, last first.
func appendReversed(names []string, path string) []string {
	for path != "/" && path != "" {
		cut := strings.LastIndexByte(path, '/')
		names = append(names, path[cut+1:])
		path = path[:cut]
	}
	return names
}

// descend opens names, one inside the other, never through a symbolic link, as
// many at once as the kernel takes. It leaves fd open.
func (c *fdCache) descend(fd int, names []string, flags int) (int, error) {
	start := fd
	for len(names) > 0 {
		n, size := 1, len(names[0])
		for c.openat2 && n < len(names) && size+1+len(names[n])+1 <= relativeMax {
			size += 1 + len(names[n])
			n++
		}
		with := pathOnly
		if n == len(names) {
			with = flags
		}
		next, err := c.step(fd, strings.Join(names[:n], "/"), with, n > 1)
		if fd != start {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd, names = next, names[n:]
	}
	return fd, nil
}

// step opens a relative path; O_NOFOLLOW guards only the last element, so a path
// of several goes through openat2.
func (c *fdCache) step(fd int, path string, flags int, several bool) (int, error) {
	if !several {
		return openAt(fd, path, flags)
	}
	return withoutATime(flags, func(flags int) (int, error) {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_SYMLINKS}
		return retry(func() (int, error) { return unix.Openat2(fd, path, &how) })
	})
}

// withoutATime calls open; not everybody may ask that access times be left alone.
func withoutATime(flags int, open func(flags int) (int, error)) (int, error) {
	fd, err := open(flags)
	if err == unix.EPERM && flags&unix.O_NOATIME != 0 {
		fd, err = open(flags &^ unix.O_NOATIME)
	}
	return fd, err
}

// retry repeats a call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
