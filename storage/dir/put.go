package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the name of a file that is not an object yet. Keys have no
// element that begins with a dot, so it never is one.
const tempPrefix = ".put-"

// Put implements storage.Store: the bytes are written to a file without a name,
// synced once, and then given their name; a crash before that leaves nothing
// behind. File systems that cannot do this get a temporary name and a rename.
func (s *Store) Put(ctx context.Context, key string, data []byte, _ [32]byte) error {
	err := ready(ctx, key)
	if err == nil {
		err = s.put(ctx, key, data)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, data []byte) error {
	dir, err := s.openDir(path.Dir(key))
	if err != nil {
		return s.classify(err)
	}
	defer dir.Close()
	at, base := int(dir.Fd()), path.Base(key)

	err = putUnnamed(ctx, at, base, data)
	if errors.Is(err, errUnnamed) {
		err = putNamed(ctx, at, base, data)
	}
	if err == nil {
		err = dir.Sync()
	}
	return s.classify(err)
}

// openDir opens a folder of the region, making it and its parents where they
// are missing. Each new name is synced before anything is put below it.
func (s *Store) openDir(dir string) (*os.File, error) {
	d, err := s.root.Open(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || dir == "." {
		return d, err
	}
	parent, err := s.openDir(path.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := s.root.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := parent.Sync(); err != nil {
		return nil, err
	}
	return s.root.Open(dir)
}

// errUnnamed says that the file system cannot make files without a name.
var errUnnamed = errors.New("no unnamed files here")

func putUnnamed(ctx context.Context, at int, base string, data []byte) error {
	fd, err := unix.Openat(at, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, uint32(filePerm))
	if err != nil {
		return unnamed(err)
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := fill(ctx, f, data); err != nil {
		return err
	}
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	err = unix.Linkat(unix.AT_FDCWD, self, at, base, unix.AT_SYMLINK_FOLLOW)
	if !errors.Is(err, unix.EEXIST) {
		return unnamed(err)
	}
	// A name cannot be linked over: link another one and rename it.
	temp := tempPrefix + rand.Text()
	if err := unix.Linkat(unix.AT_FDCWD, self, at, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
		return unnamed(err)
	}
	return rename(at, temp, base)
}

// unnamed tells errors that mean "not on this file system, or without /proc"
// from the others.
func unnamed(err error) error {
	for _, not := range [...]error{unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOSYS, unix.ENOENT, unix.EPERM} {
		if errors.Is(err, not) {
			return fmt.Errorf("%w: %w", errUnnamed, err)
		}
	}
	return err
}

func putNamed(ctx context.Context, at int, base string, data []byte) error {
	temp := tempPrefix + rand.Text()
	flags := unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_WRONLY | unix.O_CLOEXEC
	fd, err := unix.Openat(at, temp, flags, uint32(filePerm))
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	defer f.Close()
	if err := fill(ctx, f, data); err != nil {
		_ = unix.Unlinkat(at, temp, 0) // the first error says more
		return err
	}
	return rename(at, temp, base)
}

func fill(ctx context.Context, f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return ctx.Err() // the last moment to give up
}

func rename(at int, temp, base string) error {
	err := unix.Renameat(at, temp, at, base)
	if err != nil {
		_ = unix.Unlinkat(at, temp, 0) // the first error says more
	}
	return err
}
