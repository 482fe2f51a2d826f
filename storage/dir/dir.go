// Package dir is a region in a directory: a local disk, a mounted share, a
// removable drive. Each object is one file under the root, named by its key. An
// object appears whole and synced, or not at all.
//
// It makes no root directory on its own when opening a region: a drive that is
// not mounted must not look like an empty region. It follows no link out of the
// root, and it does not compare bytes with hashes; readers do.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"lifeboat/storage"
	"lifeboat/storage/durable"
)

// Permissions of what a region holds. Everything in it is ciphertext or signed,
// but sizes and times are nobody's business either.
const (
	filePerm fs.FileMode = 0o600
	dirPerm  fs.FileMode = 0o700
)

// Store is a region in a directory. Use Open or Create to make one.
type Store struct {
	root *os.Root
	name string
}

var _ storage.Store = (*Store)(nil)

// Open opens a region whose directory exists. A missing directory is
// ErrNoBucket: it is never made here, because a region that vanished (a drive
// that is not mounted) must be noticed.
func Open(root string) (*Store, error) {
	r, err := os.OpenRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open region %s: %w: is the disk mounted?", root, storage.ErrNoBucket)
	}
	if err != nil {
		return nil, fmt.Errorf("open region %s: %w", root, classify(err))
	}
	return &Store{root: r, name: root}, nil
}

// Create makes the directory of a new region where it is missing, durably, and
// opens it.
func Create(root string) (*Store, error) {
	if err := durable.MkdirAll(root, dirPerm); err != nil {
		return nil, fmt.Errorf("create region %s: %w", root, classify(err))
	}
	return Open(root)
}

// String names the region in messages.
func (s *Store) String() string { return s.name }

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	f, info, err := s.open(ctx, key)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	start, n, err := storage.Span(info.Size, offset, length)
	if err == nil && start > 0 {
		_, err = f.Seek(start, io.SeekStart)
	}
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, errors.Join(err, f.Close()))
	}
	return &reader{ctx: ctx, file: f, left: n}, info, nil
}

// open opens the file of a key and sees that it is a file. Opening does not
// block, so that a fifo planted in the region cannot hold a reader up.
func (s *Store) open(ctx context.Context, key string) (*os.File, storage.Info, error) {
	if err := ready(ctx, key); err != nil {
		return nil, storage.Info{}, err
	}
	f, err := s.root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, storage.Info{}, s.classify(err)
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = storage.ErrNotFound
	} else if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: not a regular file but %s", storage.ErrCorrupt, fi.Mode())
	}
	if err != nil {
		return nil, storage.Info{}, errors.Join(err, f.Close())
	}
	return f, describe(key, fi), nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	err := ready(ctx, key)
	var fi fs.FileInfo
	if err == nil {
		fi, err = s.root.Lstat(key)
		err = s.classify(err)
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = storage.ErrNotFound
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	return describe(key, fi), nil
}

// Delete implements storage.Store. Folders that become empty stay: somebody may
// be about to put into them.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := ready(ctx, key)
	if err == nil {
		err = s.classify(s.root.Remove(key))
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = s.syncDir(path.Dir(key))
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (s *Store) syncDir(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return classify(err)
	}
	return classify(errors.Join(d.Sync(), d.Close()))
}

func ready(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.CheckKey(key)
}

func describe(key string, fi fs.FileInfo) storage.Info {
	return storage.Info{Key: key, Size: fi.Size(), ModTime: fi.ModTime()}
}

// classify is classify, and tells a missing object from a missing region.
func (s *Store) classify(err error) error {
	err = classify(err)
	if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if _, rerr := s.root.Stat("."); rerr != nil || s.removed() {
		return fmt.Errorf("%w: %s is gone", storage.ErrNoBucket, s.name)
	}
	return err
}

// removed is true when the region's directory was deleted after it was opened.
func (s *Store) removed() bool {
	d, err := s.root.Open(".")
	if err != nil {
		return true
	}
	defer d.Close()
	fi, err := d.Stat()
	if err != nil {
		return true
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// classify adds the sentinel that an operating system's error means.
func classify(err error) error {
	var sentinel error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		sentinel = storage.ErrNoSpace
	case errors.Is(err, syscall.EROFS):
		sentinel = storage.ErrReadOnly
	case errors.Is(err, fs.ErrPermission):
		sentinel = storage.ErrDenied
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		sentinel = storage.ErrNotFound
	case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EMFILE),
		errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
		return storage.Temporary(err)
	default:
		return err
	}
	return fmt.Errorf("%w: %w", sentinel, err)
}

// reader gives the bytes of a range.
type reader struct {
	ctx  context.Context
	file *os.File
	left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left <= 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 { // it shrank under us
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reader) Close() error { return r.file.Close() }
