package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Object is everything about one file-system object that a restore must bring back.
type Object struct {
	Path     string // under the root, "." for the root itself; any bytes
	Mode     uint32 // type and permission bits, as in st_mode
	UID, GID uint32
	Size     int64 // of regular files
	MTime    time.Time
	Target   string            // of a symbolic link
	Rdev     uint64            // of a device
	Xattrs   map[string]string // all that this user can read, access lists among them
	Data     []Span            // of a regular file: what is not a hole
	Sum      [32]byte          // of the bytes, the same wherever the holes are
	Group    string            // the first path of the same object, when it has several names
	Inode    uint64            // not compared: which object it was
	Problem  string            // what could not be read
}

// Type is the object's kind in a word.
func (o *Object) Type() string {
	switch o.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "char device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "unknown"
}

// Picture is a tree as it was when Take looked: every object in the order of a
// depth-first walk, names of one directory in byte order.
type Picture struct{ Objects []Object }

// Take walks dir, which may be or hold anything, and reads every byte. What it
// cannot read it notes in the object's Problem. It holds one descriptor per
// level and never leaves the descriptors it came by, so paths may be of any length.
func Take(dir string) (*Picture, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	w := &walker{groups: map[[2]uint64]int{}, buf: make([]byte, readBytes)}
	root := Object{Path: "."}
	if err := w.look(&root, fd, "."); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	w.objects = append(w.objects, root)
	if err := w.dir(fd, ""); err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	return &Picture{w.objects}, nil
}

type walker struct {
	objects []Object
	groups  map[[2]uint64]int // device and inode → the object of the first path
	buf     []byte
}

// dir reads a directory's objects and closes it.
func (w *walker) dir(fd int, prefix string) error {
	f := os.NewFile(uintptr(fd), ".")
	names, err := f.Readdirnames(-1)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.object(fd, prefix, name); err != nil {
			return errors.Join(fmt.Errorf("%q: %w", prefix+name, err), f.Close())
		}
	}
	return f.Close()
}

func (w *walker) object(dir int, prefix, name string) error {
	o := Object{Path: prefix + name}
	if err := w.look(&o, dir, name); err != nil {
		return err
	}
	at := len(w.objects)
	w.objects = append(w.objects, o)
	if o.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	child, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EACCES) {
		w.objects[at].Problem += "cannot list: " + err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	return w.dir(child, o.Path+"/")
}

// look fills in what is known of the object name of an open directory.
func (w *walker) look(o *Object, dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	o.Mode, o.UID, o.GID, o.Inode = st.Mode, st.Uid, st.Gid, st.Ino
	o.MTime = time.Unix(st.Mtim.Sec, st.Mtim.Nsec).UTC()
	kind := st.Mode & unix.S_IFMT
	if st.Nlink > 1 && kind != unix.S_IFDIR {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if at, ok := w.groups[id]; ok {
			path := o.Path
			*o = w.objects[at]
			o.Path = path
			return nil
		}
		w.groups[id] = len(w.objects)
		o.Group = o.Path
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		o.Size = st.Size
		err = w.contents(o, dir, name)
	case unix.S_IFLNK:
		o.Target, err = readlink(dir, name)
	case unix.S_IFCHR, unix.S_IFBLK:
		o.Rdev = uint64(st.Rdev)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		o.Problem = "cannot read: " + err.Error()
		err = nil
	}
	if err != nil {
		return err
	}
	o.Xattrs, err = xattrs(dir, name)
	return err
}

// contents finds the data spans of a file and sums up their bytes.
func (w *walker) contents(o *Object, dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if o.Data, err = spans(fd, o.Size); err != nil {
		return fmt.Errorf("find holes: %w", err)
	}
	o.Sum, err = w.sum(f, o.Data, o.Size)
	return err
}

const (
	readBytes = 256 << 10 // of one read
	gridBytes = 4096      // of what is summed, or is zeros, as one
)

// sum hashes the blocks that are not all zeros, each with its number, so that
// zeros count the same in a hole and in data.
func (w *walker) sum(f *os.File, data []Span, size int64) (sum [32]byte, err error) {
	hash := sha256.New()
	zeros := make([]byte, gridBytes)
	done := int64(0) // all before this is hashed
	for _, s := range data {
		at := max(done, s.Offset/gridBytes*gridBytes)
		end := min(size, (s.Offset+s.Length+gridBytes-1)/gridBytes*gridBytes)
		for at < end {
			part := w.buf[:min(int64(len(w.buf)), end-at)]
			if n, err := f.ReadAt(part, at); n != len(part) {
				return sum, fmt.Errorf("read at %d: %w", at+int64(n), err)
			}
			for block := range slices.Chunk(part, gridBytes) {
				if !bytes.Equal(block, zeros[:len(block)]) {
					var number [8]byte
					binary.BigEndian.PutUint64(number[:], uint64(at))
					hash.Write(number[:])
					hash.Write(block)
				}
				at += int64(len(block))
			}
		}
		done = max(done, at)
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// spans asks the file system where a file has data.
func spans(fd int, size int64) ([]Span, error) {
	var all []Span
	for at := int64(0); at < size; {
		begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return all, nil // a hole to the end
		}
		if err != nil {
			return nil, err
		}
		if begin >= size {
			return all, nil
		}
		end, err := unix.Seek(fd, begin, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		end = min(end, size)
		if n := len(all); n > 0 && all[n-1].Offset+all[n-1].Length == begin {
			all[n-1].Length += end - begin
		} else {
			all = append(all, Span{begin, end - begin})
		}
		at = end
	}
	return all, nil
}

func readlink(dir int, name string) (string, error) {
	b := make([]byte, 8192)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return "", fmt.Errorf("readlink: %w", err)
	}
	return string(b[:n]), nil
}

// xattrs reads all extended attributes of an object, links not followed. The
// kernel has no such call relative to a directory before 6.13; /proc is one.
func xattrs(dir int, name string) (map[string]string, error) {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || len(list) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	all := map[string]string{}
	for _, key := range strings.Split(string(bytes.TrimSuffix(list, []byte{0})), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(path, key, b) })
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			all[key] = "(cannot be read)"
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("getxattr %q: %w", key, err)
		}
		all[key] = string(value)
	}
	return all, nil
}

// grow calls read with a larger buffer until all fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	const most = 1 << 20 // the kernel's limits are 64 KiB
	for size := 256; size <= most; size *= 4 {
		b := make([]byte, size)
		n, err := read(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
	return nil, unix.E2BIG
}
