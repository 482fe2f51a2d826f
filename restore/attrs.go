package restore

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

const specialBits = unix.S_ISUID | unix.S_ISGID

// attributes are what an object gets once its contents are there.
type attributes struct {
	uid, gid uint32
	mode     uint32
	mtime    int64
	xattrs   []catalog.Xattr

	// What an untrusted repository does not get.
	droppedBits   bool
	droppedXattrs []string
}

// bytes is about what keeping them costs.
func (a *attributes) bytes() int {
	n := 128
	for i := range a.xattrs {
		n += 64 + len(a.xattrs[i].Name) + len(a.xattrs[i].Value)
	}
	return n
}

// attributesOf copies what is to be set out of an entry.
func (r *run) attributesOf(e *catalog.Entry) attributes {
	a := attributes{uid: e.UID, gid: e.GID, mode: e.Mode & 0o7777, mtime: e.MTime}
	if r.opts.Owner != nil {
		a.uid, a.gid = r.opts.Owner(e.UID, e.GID, e.User, e.Group)
	}
	if r.opts.Untrusted && a.mode&specialBits != 0 {
		a.mode, a.droppedBits = a.mode&^specialBits, true
	}
	for i := range e.Xattrs {
		x := &e.Xattrs[i]
		if r.opts.Untrusted && (strings.HasPrefix(x.Name, "security.") || strings.HasPrefix(x.Name, "trusted.")) {
			a.droppedXattrs = append(a.droppedXattrs, strings.Clone(x.Name))
			continue
		}
		if a.xattrs == nil {
			a.xattrs = make([]catalog.Xattr, 0, len(e.Xattrs)-i)
		}
		a.xattrs = append(a.xattrs, catalog.Xattr{Name: strings.Clone(x.Name), Value: slices.Clone(x.Value)})
	}
	return a
}

// setter sets attributes on one inode, by descriptor or, for what cannot be opened, by handle.
type setter struct {
	r    *run
	path string // for reports
	fd   int
	link bool // a symlink: it has no mode
	byID bool // fd is an O_PATH descriptor
}

// set sets owner, extended attributes, mode and times, in this order: a change of owner
// clears setuid bits and capabilities, and every change moves the times. What cannot
// be set is counted; an error means that the whole run cannot go on.
func (s *setter) set(a *attributes) error {
	s.reportDropped(a)
	if !s.byID && s.r.inherits.Load() {
		if err := removeACLs(s.fd, false); err != nil {
			s.r.tally.notSet(xattr, s.path, aclAccess, err)
		}
	}
	bits := a.mode
	if !s.owner(a) && bits&specialBits != 0 {
		// Somebody else's setuid program must not become ours.
		bits = s.keepOwn(a, bits)
	}
	if s.r.opts.merges() || s.r.inherits.Load() {
		s.removeOthers(a)
	}
	for i := range a.xattrs {
		if err := s.xattr(&a.xattrs[i]); err != nil {
			s.r.tally.notSet(xattr, s.path, a.xattrs[i].Name, err)
		}
	}
	if !s.link {
		if err := s.chmod(bits); err != nil {
			if errors.Is(err, unix.EROFS) {
				return err
			}
			s.r.tally.notSet(mode, s.path, "", err)
		}
	}
	if err := s.times(a.mtime); err != nil {
		s.r.tally.notSet(times, s.path, "", err)
	}
	return nil
}

// removeOthers takes away what an object that was there already has beyond the
// entry's attributes. Those that the system keeps for itself stay.
func (s *setter) removeOthers(a *attributes) {
	var buf [4096]byte
	list := func() (int, error) { return unix.Flistxattr(s.fd, buf[:]) }
	remove := func(name string) error { return unix.Fremovexattr(s.fd, name) }
	if s.byID {
		list = func() (int, error) { return unix.Listxattr(handle(s.fd), buf[:]) }
		remove = func(name string) error { return unix.Removexattr(handle(s.fd), name) }
	}
	n, err := list()
	if err != nil {
		return // more than fit: only names that fit are looked at, and setting goes on
	}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		wanted := slices.ContainsFunc(a.xattrs, func(x catalog.Xattr) bool { return x.Name == name })
		if name == "" || wanted || strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.") {
			continue
		}
		if err := remove(name); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			s.r.tally.notSet(xattr, s.path, name, err)
		}
	}
}

func (s *setter) reportDropped(a *attributes) {
	if a.droppedBits {
		s.r.tally.dropped(mode, s.path, "")
	}
	for _, name := range a.droppedXattrs {
		s.r.tally.dropped(xattr, s.path, name)
	}
}

// owner says whether the owner is as recorded.
func (s *setter) owner(a *attributes) bool {
	if s.r.opts.NoOwner {
		return false
	}
	if s.owned(a) {
		return true
	}
	var err error
	if s.byID {
		err = unix.Fchownat(s.fd, "", int(a.uid), int(a.gid), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	} else {
		err = unix.Fchown(s.fd, int(a.uid), int(a.gid))
	}
	if err != nil {
		s.r.tally.notSet(owner, s.path, "", err)
	}
	return err == nil
}

// owned says that nothing has to change: most files of most snapshots belong to
// who restores them, and looking is far cheaper than a change that alters nothing.
func (s *setter) owned(a *attributes) bool {
	if s.byID {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(s.fd, &st) == nil && st.Uid == a.uid && st.Gid == a.gid
}

// keepOwn drops the setuid and setgid bits that would act for somebody else than recorded.
func (s *setter) keepOwn(a *attributes, bits uint32) uint32 {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		st.Uid, st.Gid = ^a.uid, ^a.gid
	}
	kept := bits
	if st.Uid != a.uid {
		kept &^= unix.S_ISUID
	}
	if st.Gid != a.gid {
		kept &^= unix.S_ISGID
	}
	if kept != bits {
		s.r.tally.notSet(mode, s.path, "", errNotOwner)
	}
	return kept
}

var errNotOwner = errors.New("setuid and setgid are not set, since the owner is not")

func (s *setter) xattr(x *catalog.Xattr) error {
	if s.byID {
		return unix.Setxattr(handle(s.fd), x.Name, x.Value, 0)
	}
	return unix.Fsetxattr(s.fd, x.Name, x.Value, 0)
}

func (s *setter) chmod(bits uint32) error {
	if s.byID {
		return unix.Fchmodat(unix.AT_FDCWD, handle(s.fd), bits, 0)
	}
	return unix.Fchmod(s.fd, bits)
}

func (s *setter) times(mtime int64) error {
	if s.byID {
		t := timespec(mtime)
		return unix.UtimesNanoAt(s.fd, "", []unix.Timespec{t, t}, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	}
	return setTimes(s.fd, mtime)
}
