//go:build linux

package volume

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

const (
	xattrListMax   = 64 << 10  // bytes of names: the kernel's own limit
	xattrValueMax  = 64 << 10  // bytes of a value: the kernel's own limit
	xattrsBytesMax = 512 << 10 // bytes of an object's values and names together: an entry must fit its limit
	xattrTries     = 4         // when attributes grow while they are read
	ownersMax      = 64 << 10  // names of users and groups that are remembered, each
)

// Attributes sets what lstat does not tell: link target, extended attributes
// (sorted by name; ACLs and file capabilities among them), names of owner and
// group. It opens nothing for reading. Extended attributes that could not be read
// set catalog.Partial, no error. The error wraps fs.ErrNotExist when the object is
// gone, and ErrReplaced when its name stands for another.
func (v *Volume) Attributes(s *Stat, e *catalog.Entry) error {
	if err := v.attributes(s, e); err != nil {
		return fmt.Errorf("read attributes of %s: %w", show("/"+string(s.Path)), err)
	}
	return nil
}

func (v *Volume) attributes(s *Stat, e *catalog.Entry) error {
	fd, err := v.fds.openIn(s.dir, s.name(), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The descriptor holds on to one object, so that all attributes are of it.
	var now Stat
	if err := statFD(fd, &now); err != nil {
		return err
	}
	if !now.same(s) {
		return ErrReplaced
	}
	e.User, e.Group = v.owners.user(s.UID), v.owners.group(s.GID)
	e.Target = nil
	if s.Type() == catalog.Symlink {
		if e.Target, err = readlink(fd); err != nil {
			return err
		}
	}
	var whole bool
	if e.Xattrs, whole = readXattrs(fd); !whole {
		e.Flags |= catalog.Partial
	}
	return nil
}

// readlink reads a link through a descriptor of the link itself.
func readlink(fd int) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return nil, err
		}
		if n < len(buf) || n >= relativeMax {
			return bytes.Clone(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// readXattrs reads all attributes, and tells whether it got them all. A path
// descriptor does not serve for that, its link in /proc does, also for a symbolic
// link's own attributes.
func readXattrs(fd int) (xattrs []catalog.Xattr, whole bool) {
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	return collectXattrs(
		func(b []byte) (int, error) { return unix.Listxattr(path, b) },
		func(name string, b []byte) (int, error) { return unix.Getxattr(path, name, b) })
}

// collectXattrs reads all attributes through the two system calls.
func collectXattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (xattrs []catalog.Xattr, whole bool) {
	names, err := fill(xattrListMax, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	whole = true
	total := 0
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value, err := fill(xattrValueMax, func(b []byte) (int, error) { return get(string(name), b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if total += len(name) + len(value); err != nil || total > xattrsBytesMax {
			whole = false
			continue
		}
		xattrs = append(xattrs, catalog.Xattr{Name: string(name), Value: value})
	}
	slices.SortFunc(xattrs, func(a, b catalog.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return xattrs, whole
}

// fill calls get with a buffer that is large enough, at most max bytes. Most
// objects have no attributes at all: the first buffer stays on the stack.
func fill(max int, get func([]byte) (int, error)) ([]byte, error) {
	var first [256]byte
	buf := first[:]
	for try := 1; ; try++ {
		n, err := retry(func() (int, error) { return get(buf) })
		if err == nil {
			return bytes.Clone(buf[:n]), nil
		}
		if err != unix.ERANGE || try == xattrTries || len(buf) >= max {
			return nil, err
		}
		if n, err = retry(func() (int, error) { return get(nil) }); err != nil {
			return nil, err
		}
		buf = make([]byte, min(max, n+n/4+256))
	}
}

// owners remembers names of users and groups; an id without a name gives "".
type owners struct {
	mu     sync.Mutex
	users  map[uint32]string
	groups map[uint32]string
}

func newOwners() *owners {
	return &owners{users: map[uint32]string{}, groups: map[uint32]string{}}
}

func (o *owners) user(id uint32) string {
	return o.name(o.users, id, func(id string) (string, error) {
		u, err := user.LookupId(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (o *owners) group(id uint32) string {
	return o.name(o.groups, id, func(id string) (string, error) {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

// name looks an id up once. The lock is held meanwhile, so that many files of one
// new owner cause one lookup.
func (o *owners) name(known map[uint32]string, id uint32, look func(string) (string, error)) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	name, ok := known[id]
	if !ok {
		name, _ = look(strconv.FormatUint(uint64(id), 10)) // no name is an answer too
		if len(known) < ownersMax {
			known[id] = name
		}
	}
	return name
}
