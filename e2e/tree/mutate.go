package tree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is one way in which Mutate changes an object.
type Kind string

// The kinds of change.
const (
	Add       Kind = "add"        // a new file, directory or link
	Append    Kind = "append"     // bytes at the end
	Truncate  Kind = "truncate"   // fewer bytes
	Edit      Kind = "edit"       // other bytes in the middle, the same size
	EditHide  Kind = "edit-hide"  // the same, and the old mtime put back
	Replace   Kind = "replace"    // another file of the same size and mtime renamed over it
	Delete    Kind = "delete"     // a file, or a directory with all that is in it
	Rename    Kind = "rename"     // into another directory
	Chmod     Kind = "chmod"      // permissions alone
	Chown     Kind = "chown"      // owner alone; for root
	Xattr     Kind = "xattr"      // an attribute added
	Touch     Kind = "touch"      // mtime alone
	Link      Kind = "link"       // a further name
	ToDir     Kind = "to-dir"     // a file becomes a directory
	ToSymlink Kind = "to-symlink" // a file becomes a symbolic link
	ToFile    Kind = "to-file"    // an empty directory or a link becomes a file
	Punch     Kind = "punch"      // a hole in the middle
)

// Kinds are all kinds of change.
func Kinds() []Kind {
	return []Kind{Add, Append, Truncate, Edit, EditHide, Replace, Delete, Rename, Chmod, Chown, Xattr, Touch, Link, ToDir, ToSymlink, ToFile, Punch}
}

// Mutation says how much Mutate changes.
type Mutation struct {
	Seed       uint64
	Each       int    // changes of each kind; 0 is 3
	Kinds      []Kind // nil is all
	Privileged bool   // change owners too
}

const eachDefault = 3

// Change is one thing that Mutate did.
type Change struct {
	Kind Kind
	Path string // under the tree
	To   string // of a rename or a link: the new path
}

// Mutate changes a tree at random and tells what it did, in order. A path can
// be changed several times. What lies beyond PATH_MAX stays as it is.
func Mutate(dir string, o Mutation) ([]Change, error) {
	if o.Each == 0 {
		o.Each = eachDefault
	}
	if o.Kinds == nil {
		o.Kinds = Kinds()
	}
	m := &mutator{dir: dir, o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6d757461746f7273))}
	for round := range o.Each {
		for _, k := range o.Kinds {
			if k == Chown && !o.Privileged {
				continue
			}
			if err := m.scan(); err != nil {
				return m.done, err
			}
			if err := m.change(k, round); err != nil {
				return m.done, fmt.Errorf("%s: %w", k, err)
			}
		}
	}
	return m.done, nil
}

type mutator struct {
	dir                string
	o                  Mutation
	rng                *rand.Rand
	done               []Change
	files, dirs, links []string // that this user can change; the root is among the directories
	whole, empty       []string // directories whose parent can be written: those that can go, those that are empty
}

// pathMost leaves room for a name below any path that is chosen.
const pathMost = unix.PathMax - 2*nameMax

// scan lists what can be changed. A tree is small enough to do so every time.
func (m *mutator) scan() error {
	m.files, m.dirs, m.links, m.whole, m.empty = nil, nil, nil, nil, nil
	return m.scanDir(".", false)
}

// scanDir lists a directory; removable tells that its parent can be written.
func (m *mutator) scanDir(name string, removable bool) error {
	path := filepath.Join(m.dir, name)
	writable := unix.Access(path, unix.W_OK|unix.X_OK) == nil
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if writable {
		m.dirs = append(m.dirs, name)
		if removable {
			m.whole = append(m.whole, name)
		}
		if removable && len(entries) == 0 {
			m.empty = append(m.empty, name)
		}
	}
	for _, e := range entries {
		child := filepath.Join(name, e.Name())
		switch {
		case len(m.dir)+len(child) > pathMost:
		case e.IsDir():
			if err := m.scanDir(child, writable); err != nil {
				return err
			}
		case !writable:
		case e.Type()&os.ModeSymlink != 0:
			m.links = append(m.links, child)
		case e.Type().IsRegular() && unix.Access(filepath.Join(m.dir, child), unix.R_OK|unix.W_OK) == nil:
			m.files = append(m.files, child)
		}
	}
	return nil
}

func (m *mutator) at(name string) string { return filepath.Join(m.dir, name) }

// pick gives one of names, and false when there are none.
func (m *mutator) pick(names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	return names[m.rng.IntN(len(names))], true
}

// change does one change of a kind. Where nothing fits it does none.
func (m *mutator) change(k Kind, round int) error {
	from := m.files
	switch k {
	case Add:
		from = m.dirs
	case Chmod, Xattr, Touch, Chown:
		from = append(append([]string(nil), m.files...), m.dirs...)
	case ToFile:
		from = append(append([]string(nil), m.empty...), m.links...)
	case Delete:
		if round%3 == 2 && len(m.whole) > 0 {
			from = m.whole
		}
	case Punch, Truncate, Edit, EditHide, Replace:
		from = m.withBytes()
	}
	name, ok := m.pick(from)
	if !ok {
		return nil
	}
	c := Change{Kind: k, Path: name}
	if k == Add {
		c.Path = filepath.Join(name, fmt.Sprintf("added-%d-%d", m.o.Seed, len(m.done)))
	}
	if k == Rename || k == Link {
		into, _ := m.pick(m.dirs)
		c.To = filepath.Join(into, fmt.Sprintf("%s-%d-%d", k, m.o.Seed, len(m.done)))
	}
	if err := m.do(c, round); err != nil {
		return fmt.Errorf("%q: %w", c.Path, err)
	}
	m.done = append(m.done, c)
	return nil
}

// withBytes are the files that have a few bytes and are not huge.
func (m *mutator) withBytes() []string {
	var some []string
	for _, f := range m.files {
		if st, err := os.Lstat(m.at(f)); err == nil && st.Size() > 8 && st.Size() < 1<<30 {
			some = append(some, f)
		}
	}
	return some
}

func (m *mutator) do(c Change, round int) error {
	path := m.at(c.Path)
	switch c.Kind {
	case Add:
		return m.add(path, round)
	case Append:
		return m.write(path, -1)
	case Truncate:
		return os.Truncate(path, m.rng.Int64N(size(path)))
	case Edit:
		return m.write(path, m.rng.Int64N(size(path)))
	case EditHide:
		return keepTimes(path, func() error { return m.write(path, m.rng.Int64N(size(path))) })
	case Replace:
		return m.replace(path)
	case Delete:
		return Remove(path)
	case Rename:
		return os.Rename(path, m.at(c.To))
	case Link:
		return os.Link(path, m.at(c.To))
	case Chmod:
		return chmodOther(path)
	case Chown:
		return os.Lchown(path, 20000+m.rng.IntN(1000), 30000+m.rng.IntN(1000))
	case Xattr:
		err := unix.Lsetxattr(path, "user.mutated", fmt.Appendf(nil, "%d", m.rng.Uint32()), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSPC) {
			return nil
		}
		return err
	case Touch:
		when := time.Unix(1700000000+m.rng.Int64N(1e7), m.rng.Int64N(1e9))
		return os.Chtimes(path, when, when)
	case ToDir, ToSymlink, ToFile:
		return m.become(path, c.Kind)
	case Punch:
		return punch(path)
	}
	return fmt.Errorf("unknown kind %q", c.Kind)
}

func (m *mutator) add(path string, round int) error {
	switch round % 3 {
	case 1:
		return os.Symlink(strings.Repeat("x", 1+m.rng.IntN(80)), path)
	case 2:
		if err := os.Mkdir(path, 0o750); err != nil {
			return err
		}
		path = filepath.Join(path, "within")
	}
	return os.WriteFile(path, Text(m.rng, m.rng.Int64N(100<<10)), 0o640)
}

// write puts a few random bytes at an offset, or at the end when it is -1. The
// size stays the same, or grows.
func (m *mutator) write(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	was := size(path)
	b := random(m.rng, 1+m.rng.Int64N(5000))
	if at < 0 {
		at = was
	} else {
		b = b[:min(int64(len(b)), was-at)]
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// replace puts another file of the same size and mtime at path: only inode and
// ctime tell.
func (m *mutator) replace(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	other := filepath.Join(filepath.Dir(path), ".replacement")
	if err := os.WriteFile(other, random(m.rng, st.Size()), st.Mode().Perm()); err != nil {
		return err
	}
	if err := os.Chtimes(other, st.ModTime(), st.ModTime()); err != nil {
		return err
	}
	return os.Rename(other, path)
}

func (m *mutator) become(path string, k Kind) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	switch k {
	case ToDir:
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, "was-a-file"), []byte("now within"), 0o644)
	case ToSymlink:
		return os.Symlink("../was-a-file", path)
	}
	return os.WriteFile(path, Text(m.rng, 3000), 0o644)
}

// chmodOther flips the bit that lets others read: always a change, never one
// that takes the tree from its owner. An access list's mask stays.
func chmodOther(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	return unix.Chmod(path, (st.Mode^0o004)&0o7777)
}

// punch makes a hole of whole blocks inside a file, or at its end.
func punch(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	n := size(path)
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, n/2/gridBytes*gridBytes, max(n/4, gridBytes))
	return errors.Join(err, f.Close())
}

func size(path string) int64 {
	st, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// keepTimes puts a file's mtime back after a change.
func keepTimes(path string, change func() error) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return os.Chtimes(path, st.ModTime(), st.ModTime())
}

// Scatter overwrites a share (0 to 1) of a file's 4 KiB blocks, chosen at
// random, with random bytes, as a busy disk image or database changes.
func Scatter(path string, share float64, seed uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0x7363617474657273))
	blocks := size(path) / gridBytes
	for range int64(share * float64(blocks)) {
		if _, err := f.WriteAt(random(rng, gridBytes), rng.Int64N(blocks)*gridBytes); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
