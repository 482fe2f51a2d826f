package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// lookAtTarget checks the target as far as that goes without writing, and gives the
// block size of its file system.
func (p *Plan) lookAtTarget() (block int64, err error) {
	if p.opts.Target == "" {
		return 0, fmt.Errorf("%w: no target", ErrOptions)
	}
	if p.Target, err = filepath.Abs(p.opts.Target); err != nil {
		return 0, err
	}
	if p.Target == "/" && !p.opts.AllowRoot {
		return 0, fmt.Errorf("%w: it is the root directory", ErrTarget)
	}
	info, err := os.Lstat(p.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Exists, p.Empty = false, true
	case err != nil:
		return 0, denied(err)
	case info.Mode()&fs.ModeSymlink != 0:
		return 0, fmt.Errorf("%w: it is a symlink", ErrTarget)
	case !info.IsDir():
		return 0, fmt.Errorf("%w: it is not a directory", ErrTarget)
	default:
		p.Exists = true
	}
	top, real, err := nearest(p.Target)
	if err != nil {
		return 0, denied(err)
	}
	if err := p.checkRefused(real); err != nil {
		return 0, err
	}
	return p.lookInside(top)
}

// lookInside asks the target, or the nearest directory above it that exists, for
// room, permission and contents.
func (p *Plan) lookInside(top string) (block int64, err error) {
	if err := unix.Faccessat(unix.AT_FDCWD, top, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return 0, denied(fmt.Errorf("write into %s: %w", top, err))
	}
	fd, err := plainOpenAt(unix.AT_FDCWD, top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, denied(fmt.Errorf("open %s: %w", top, err))
	}
	defer unix.Close(fd)
	if p.Exists {
		if p.Empty, err = isEmpty(fd); err != nil {
			return 0, err
		}
		if !p.Empty && !p.opts.merges() {
			return 0, ErrNotEmpty
		}
	}
	p.Free, p.FreeInodes, block, err = freeSpace(fd)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", top, err)
	}
	return block, nil
}

var errStop = errors.New("seen enough")

// isEmpty looks for names in an open directory. The lost+found of a fresh file system does not count.
func isEmpty(fd int) (bool, error) {
	err := names(fd, func(name string) error {
		if name == "lost+found" {
			return nil
		}
		return errStop
	})
	if errors.Is(err, errStop) {
		return false, nil
	}
	return err == nil, err
}

// nearest gives the nearest directory at or above a path that exists, and the path
// with the symlinks above its last element resolved.
func nearest(target string) (top, real string, err error) {
	rest := ""
	for top = target; ; top = filepath.Dir(top) {
		real, err = filepath.EvalSymlinks(top)
		if err == nil {
			return top, filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || top == filepath.Dir(top) {
			return "", "", err
		}
		if _, lerr := os.Lstat(top); lerr == nil {
			return "", "", fmt.Errorf("%w: %s is a dangling symlink", ErrTarget, top)
		}
		rest = filepath.Join(filepath.Base(top), rest)
	}
}

// checkRefused makes sure that the target is in no refused directory, also by another
// name of it (a bind mount), and notes the refused ones that lie in the target.
func (p *Plan) checkRefused(real string) error {
	p.refused = nil
	for _, r := range p.opts.Refuse {
		abs, err := filepath.Abs(r)
		if err != nil {
			return err
		}
		_, resolved, err := nearest(abs)
		if err != nil {
			resolved = abs
		}
		if catalog.Within(slashed(resolved), slashed(real)) || reaches(real, resolved) {
			return fmt.Errorf("%w: it lies in %s, which belongs to a region or to lifeboat's own state", ErrTarget, r)
		}
		if top := slashed(real); catalog.Within(top, slashed(resolved)) {
			below := slashed(resolved)[len(top):]
			if len(top) > 0 {
				below = below[1:]
			}
			p.refused = append(p.refused, below)
		}
	}
	return nil
}

// slashed is an absolute path in the catalog's form: without the leading slash.
func slashed(abs string) []byte { return []byte(abs[1:]) }

// reaches says that path, or a directory above it, is the same directory as top.
func reaches(path, top string) bool {
	want, err := os.Stat(top)
	if err != nil {
		return false
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true
		}
		up := filepath.Dir(path)
		if up == path {
			return false
		}
		path = up
	}
}

// openTarget makes the target if it is absent and opens it. made says that it was.
func (p *Plan) openTarget() (fd int, made bool, err error) {
	if _, err := p.lookAtTarget(); err != nil {
		return -1, false, err
	}
	if !p.Exists {
		if err := os.MkdirAll(filepath.Dir(p.Target), 0o755); err != nil {
			return -1, false, denied(err)
		}
		if err := os.Mkdir(p.Target, 0o700); err != nil {
			return -1, false, denied(err)
		}
	}
	fd, err = plainOpenAt(unix.AT_FDCWD, p.Target, openDir, 0)
	if err != nil {
		return -1, false, denied(fmt.Errorf("open: %w", err))
	}
	if p.opts.merges() {
		return fd, !p.Exists, nil
	}
	empty, err := isEmpty(fd)
	if err == nil && !empty {
		err = ErrNotEmpty
	}
	if err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, !p.Exists, nil
}

// denied wraps errors about the target as a whole.
func denied(err error) error {
	if known := classify(err); known != nil {
		return known
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return err
}
