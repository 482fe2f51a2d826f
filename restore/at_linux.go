package restore

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a run asks of the kernel. All names are single elements relative to a
// directory descriptor, and the last element is never followed if it is a symlink.

const (
	openDir  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openNew  = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openFile = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openRead = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openPath = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// identity tells inodes apart.
type identity struct{ dev, ino uint64 }

func identityOf(st *unix.Stat_t) identity { return identity{uint64(st.Dev), st.Ino} }

// openAt opens one element below dir, as openat2 without any symlink or magic link
// on the way and without leaving dir; without openat2, O_NOFOLLOW says nearly the same
// for a single element.
func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if flags&unix.O_PATH == 0 { // an O_PATH descriptor may be of a symlink itself
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(mode)
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.ENOSYS || err == unix.EPERM: // an old kernel, or a filter of system calls
			return plainOpenAt(dir, name, flags, mode)
		}
		return fd, err
	}
}

func plainOpenAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// statAt describes what a name is, without following it.
func statAt(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// writeAll writes all of b at offset.
func writeAll(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("nothing written")
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// readAll fills b from offset; a file that ends before is an error.
func readAll(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("the file is too short")
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// renameNew gives a file its final name unless that exists (EEXIST).
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// The file system does not know the flag.
	if _, err := statAt(dir, to); err == nil {
		return unix.EEXIST
	} else if err != unix.ENOENT {
		return err
	}
	return unix.Renameat(dir, from, dir, to)
}

// setTimes sets access and modification time of an open file.
func setTimes(fd int, mtime int64) error {
	t := timespec(mtime)
	ts := [2]unix.Timespec{t, t}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// timespec splits nanoseconds; those before 1970 count up from the second below.
func timespec(ns int64) unix.Timespec {
	sec := ns / 1e9
	if ns%1e9 < 0 {
		sec--
	}
	return unix.Timespec{Sec: sec, Nsec: ns - sec*1e9}
}

// handle names an O_PATH descriptor as a path, for calls that take nothing else: it
// leads to the very inode, also when that is a symlink.
func handle(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// hasDefaultACL says that what is made in a directory inherits an ACL.
func hasDefaultACL(fd int) bool {
	n, err := unix.Fgetxattr(fd, aclDefault, nil)
	return err == nil && n > 0
}

// removeACLs removes what an object has inherited. Where there are no ACLs that is no error.
func removeACLs(fd int, dir bool) error {
	names := []string{aclAccess, aclDefault}
	if !dir {
		names = names[:1]
	}
	for _, name := range names {
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}

// classify turns errors that concern the whole target into the package's own.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

// freeSpace gives bytes and inodes free for this user, -1 if the file system does not
// count them, and its block size.
func freeSpace(fd int) (bytes, inodes, block int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return -1, -1, 4096, err
	}
	block = max(int64(st.Bsize), 512)
	free := st.Bavail
	if unix.Geteuid() == 0 {
		free = st.Bfree
	}
	if free > uint64(math.MaxInt64/block) {
		free = uint64(math.MaxInt64 / block)
	}
	bytes, inodes = int64(free)*block, -1
	if st.Files > 0 {
		inodes = int64(min(st.Ffree, math.MaxInt64))
	}
	return bytes, inodes, block, nil
}

// names calls do for each name in an open directory. do may remove it.
func names(fd int, do func(name string) error) error {
	buf := make([]byte, 64<<10)
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		_, _, found := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range found {
			if err := do(name); err != nil {
				return err
			}
		}
	}
}
