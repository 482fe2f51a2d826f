// Package durable writes files that appear whole or not at all, even across a
// power cut: bytes are synced before they get their name, and the name is
// synced before the call returns. It does not lock, and it does not decide
// where files go.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile makes path hold exactly data, or leaves it as it was, even across a
// power cut. When it returns nil, contents and name are on the disk. A symbolic
// link at path is replaced, not followed.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Abort()
		return err // an os error: it names what was written to
	}
	return f.Commit()
}

// File is a file that gets its name when it is committed. Exactly one of
// Commit and Abort ends it; Abort after Commit does nothing, so that it can be
// deferred.
type File struct {
	*os.File
	path string
	perm fs.FileMode
	done bool
}

// tempMark is in the name of every temporary file, so that leftovers of a crash
// are recognised (see Sweep).
const tempMark = ".lifeboat-tmp-"

// Create opens a new file beside path, to be filled and committed.
func Create(path string, perm fs.FileMode) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempMark+"*")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return &File{File: f, path: path, perm: perm}, nil
}

// Commit syncs the file, gives it its name, and syncs the directory.
func (f *File) Commit() error {
	if f.done {
		return fmt.Errorf("commit %s: %w", f.path, fs.ErrClosed)
	}
	f.done = true
	err := f.Chmod(f.perm)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("commit %s: %w", f.path, errors.Join(err, os.Remove(f.Name())))
	}
	return SyncDir(filepath.Dir(f.path))
}

// Abort drops the file.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	_ = f.Close() // nothing of it is kept
	_ = os.Remove(f.Name())
}

// SyncDir makes the names in a directory durable: created, renamed, removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = errors.Join(d.Sync(), d.Close())
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// MkdirAll makes a directory and its missing parents, durably. Directories that
// exist keep their permissions.
func MkdirAll(dir string, perm fs.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make directory %s: %w", dir, fs.ErrExist)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory: %w", err)
	}
	return SyncDir(parent)
}

// Sweep removes temporary files that a crash left in a directory. Call it only
// where nobody else is writing. It gives the number removed.
func Sweep(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	removed := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempMark) {
			continue
		}
		err := os.Remove(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("sweep: %w", err)
		}
		removed++
	}
	return removed, nil
}
