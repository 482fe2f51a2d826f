package restore

import (
	"errors"
	"fmt"
	"hash/fnv"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// linkDir is a private directory at the top of the target. It holds one name for each
// group of hard links, of an inode that this run has made or checked. So it costs no
// memory to know them, and links are never made to anything else.
type linkDir struct {
	r    *run
	node *node // nil: not made yet
}

// linkKey names a group. It is empty for what has one name only.
func linkKey(e *catalog.Entry) string {
	if e.Links < 2 || e.Type == catalog.Dir {
		return ""
	}
	return fmt.Sprintf("%x-%x-%d", e.Dev, e.Inode, e.Type)
}

func (l *linkDir) make() error {
	if l.node != nil {
		return nil
	}
	name := l.r.tag + "-links"
	if err := unix.Mkdirat(l.r.root.fd, name, 0o700); err != nil {
		return fmt.Errorf("make %q: %w", name, err)
	}
	l.node = newNode(l.r.root, name, openDir)
	return nil
}

// claim makes an empty file for the group. It is false if the group has one.
func (l *linkDir) claim(key string) (bool, error) {
	if err := l.make(); err != nil {
		return false, err
	}
	fd, err := l.r.handles.hold(l.node)
	if err != nil {
		return false, err
	}
	defer l.r.handles.release(l.node)
	file, err := openAt(fd, key, openNew, 0o600)
	if err == unix.EEXIST {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.Close(file)
}

// fill makes the group's name one of a file that is in place already: st is what it was
// found to be.
func (l *linkDir) fill(key string, dir int, name string, id identity) error {
	if err := l.make(); err != nil {
		return err
	}
	fd, err := l.r.handles.hold(l.node)
	if err != nil {
		return err
	}
	defer l.r.handles.release(l.node)
	if err := unix.Unlinkat(fd, key, 0); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Linkat(dir, name, fd, key, 0); err != nil {
		return err
	}
	st, err := statAt(fd, key)
	if err == nil && identityOf(&st) != id {
		err = errors.Join(errSwapped, unix.Unlinkat(fd, key, 0))
	}
	return err
}

// spoil takes the group's name away, since its first file could not be written, and
// leaves a mark for that file: it has been reported.
func (l *linkDir) spoil(key, path string) {
	fd, err := l.r.handles.hold(l.node)
	if err != nil {
		return
	}
	defer l.r.handles.release(l.node)
	// If this fails, the run's end removes the name, and the links to it are refused for their size.
	_ = unix.Renameat(fd, key, fd, spoiled(key, path))
}

func spoiled(key, path string) string {
	h := fnv.New64a()
	h.Write([]byte(path))
	return fmt.Sprintf("%s-%x", key, h.Sum64())
}

// remove removes the directory with all names in it.
func (l *linkDir) remove() error {
	if l.node == nil {
		return nil
	}
	l.r.handles.drop(l.node)
	name := l.node.name
	l.node = nil
	return l.r.cleanLinks(l.r.root.fd, name)
}

// cleanLinks removes a directory of names, of this or of a killed run.
func (r *run) cleanLinks(dir int, name string) error {
	fd, err := openAt(dir, name, openDir, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	defer unix.Close(fd)
	// Removing while reading may skip names in some file systems: again, until none is left.
	for left := true; left; {
		left = false
		err := names(fd, func(inside string) error {
			left = true
			return unix.Unlinkat(fd, inside, 0)
		})
		if err != nil {
			return fmt.Errorf("empty %q: %w", name, err)
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	return nil
}
