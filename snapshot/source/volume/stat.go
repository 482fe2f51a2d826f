//go:build linux

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// Stat is what lstat tells about one object, and where to find it again. A Stat
// given to a visitor is valid until the visitor returns, who must not change Path;
// Clone keeps it.
type Stat struct {
	Path  []byte // relative to "/", no leading slash; any bytes but NUL
	Mode  uint32 // st_mode: type and permission bits
	UID   uint32
	GID   uint32
	Links uint32
	Size  int64 // bytes
	MTime int64 // nanoseconds since 1970, saturated at the ends of int64
	CTime int64 // likewise
	Inode uint64
	Dev   uint64 // major<<32 | minor
	Rdev  uint64 // of a device: major<<32 | minor

	Blocks int64 // of 512 bytes

	// Unreadable is set on a directory whose entries could not be listed, all or in part.
	Unreadable bool

	dir   *dir // that the last element of Path is in
	fate  fate
	errno unix.Errno // with fateError
}

// fate is what the walk makes of an entry.
type fate uint8

const (
	fateVisit    fate = iota
	fateEnter         // a directory that is visited and entered
	fateExcluded      // skipped by a glob
	fateSocket        // skipped
	fateVanished      // gone when it was looked at
	fateDeep          // skipped: ErrTooDeep
	fateError         // skipped: errno
)

// Clone returns a copy that stays valid.
func (s *Stat) Clone() *Stat {
	c := *s
	c.Path = bytes.Clone(s.Path)
	return &c
}

// Regular tells whether it is a regular file: one that Open takes.
func (s *Stat) Regular() bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

// Type is the entry type that the mode stands for.
func (s *Stat) Type() catalog.Type {
	switch s.Mode & unix.S_IFMT {
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

// Fill sets what the Stat knows of an entry: all but owner names, link target,
// xattrs (see Attributes) and contents. The entry shares the path's bytes. Size
// is kept for regular files alone: what a directory or link measures is chance.
func (s *Stat) Fill(e *catalog.Entry) {
	e.Path = s.Path
	e.Type = s.Type()
	e.Mode = s.Mode & 0o7777
	e.UID, e.GID = s.UID, s.GID
	e.MTime, e.CTime = s.MTime, s.CTime
	e.Inode = s.Inode
	e.Size, e.Dev, e.Links, e.Rdev = 0, 0, 0, 0
	if e.Type == catalog.File {
		e.Size = s.Size
	}
	if e.Type == catalog.CharDevice || e.Type == catalog.BlockDevice {
		e.Rdev = s.Rdev
	}
	if s.Links > 1 && e.Type != catalog.Dir {
		e.Dev, e.Links = s.Dev, s.Links
	}
	if s.Unreadable {
		e.Flags |= catalog.Unreadable
	}
	if s.MTime == math.MaxInt64 || s.MTime == math.MinInt64 {
		e.Flags |= catalog.Partial // a time that nanoseconds since 1970 do not reach: the years 1678 to 2262
	}
}

// name is the last element of the path.
func (s *Stat) name() []byte { return s.Path[bytes.LastIndexByte(s.Path, '/')+1:] }

// same tells whether two looks saw the same object.
func (s *Stat) same(o *Stat) bool {
	return s.Inode == o.Inode && s.Dev == o.Dev && s.Mode&unix.S_IFMT == o.Mode&unix.S_IFMT
}

// set takes over what statx reported and leaves the rest.
func (s *Stat) set(x *unix.Statx_t) {
	s.Mode = uint32(x.Mode)
	s.UID, s.GID, s.Links = x.Uid, x.Gid, x.Nlink
	s.Size, s.Blocks = int64(x.Size), int64(x.Blocks)
	s.MTime, s.CTime = nanoseconds(x.Mtime), nanoseconds(x.Ctime)
	s.Inode = x.Ino
	s.Dev = uint64(x.Dev_major)<<32 | uint64(x.Dev_minor)
	s.Rdev = uint64(x.Rdev_major)<<32 | uint64(x.Rdev_minor)
}

// nanoseconds saturates: files can claim years that int64 does not reach.
func nanoseconds(t unix.StatxTimestamp) int64 {
	const most = math.MaxInt64/1_000_000_000 - 1
	switch {
	case t.Sec > most:
		return math.MaxInt64
	case t.Sec < -most:
		return math.MinInt64
	}
	return t.Sec*1e9 + int64(t.Nsec)
}

// statx looks at a name in a directory, not following a link and not triggering an
// automount. The name ends in a NUL, so that the hot path copies nothing.
func statx(dirfd int, name []byte, flags int, x *unix.Statx_t) unix.Errno {
	flags |= unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dirfd), uintptr(unsafe.Pointer(&name[0])),
			uintptr(flags), unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(x)), 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// statFD looks at an open descriptor.
func statFD(fd int, s *Stat) error {
	var x unix.Statx_t
	if errno := statx(fd, []byte{0}, unix.AT_EMPTY_PATH, &x); errno != 0 {
		return errno
	}
	s.set(&x)
	return nil
}

// Restat looks at the object's name again and updates the Stat, for a file that
// was replaced or that changed. The error wraps fs.ErrNotExist when it is gone,
// which it is, too, when its folder is: another one of that name never held it.
func (v *Volume) Restat(s *Stat) error {
	fd, err := v.fds.acquire(s.dir)
	if errors.Is(err, ErrReplaced) {
		err = fmt.Errorf("its folder is another one: %w", fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", show("/"+string(s.Path)), err)
	}
	defer v.fds.release(s.dir)
	var x unix.Statx_t
	if errno := statx(fd, append(s.name()[:len(s.name()):len(s.name())], 0), 0, &x); errno != 0 {
		return fmt.Errorf("look at %s: %w", show("/"+string(s.Path)), errno)
	}
	s.set(&x)
	return nil
}
