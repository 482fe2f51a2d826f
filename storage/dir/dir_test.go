package dir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

func create(t *testing.T) (*Store, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "new", "region")
	s, err := Create(root)
	if err != nil {
		t.Fatal(err)
	}
	return s, root
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storage.Store {
		s, _ := create(t)
		return s
	})
}

func TestOpenMissing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "unmounted")
	_, err := Open(root)
	if !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open made the directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil {
		t.Error("a file was opened as a region")
	}
	if _, err := Create(file); err == nil {
		t.Error("a file was taken for a region")
	}
}

// A region that is removed while it is in use must be missed, not made anew.
func TestRegionVanishes(t *testing.T) {
	s, root := create(t)
	storetest.MustPut(t, s, "a/b", []byte("x"))
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), "a/c", []byte("x"), sha256.Sum256([]byte("x")))
	if !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("put: %v", err)
	}
	if _, err = s.Stat(t.Context(), "a/b"); !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("stat: %v", err)
	}
	if _, _, err = s.Get(t.Context(), "a/b", 0, -1); !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("get: %v", err)
	}
	if _, err = storage.ListAll(t.Context(), s, storage.ListOptions{}, 10); !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("list: %v", err)
	}
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the region came back: %v", err)
	}
}

// Nothing but objects is listed, and nothing outside the root is touched.
func TestForeignFiles(t *testing.T) {
	s, root := create(t)
	storetest.MustPut(t, s, "a/real", []byte("x"))
	outside := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(root, "a", tempPrefix+"left"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(root, "a", "white space"), []byte("x"), 0o600),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "a", "link")),
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600),
		os.Symlink(outside, filepath.Join(root, "b")),
		os.Mkdir(filepath.Join(root, "lost+found"), 0o700),
		unix.Mkfifo(filepath.Join(root, "a", "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
	if err != nil || len(infos) != 1 || infos[0].Key != "a/real" {
		t.Errorf("list: %v, %v", infos, err)
	}
	groups, err := storage.ListAll(t.Context(), s, storage.ListOptions{Delimited: true}, 10)
	if err != nil || len(groups) != 1 || groups[0].Key != "a/" {
		t.Errorf("list of groups: %v, %v", groups, err)
	}
	for _, key := range []string{"a/link", "b/secret", "a/fifo"} {
		if _, _, err := s.Get(t.Context(), key, 0, -1); err == nil {
			t.Errorf("get %s was served", key)
		}
	}
	if err := s.Put(t.Context(), "b/planted", []byte("x"), sha256.Sum256([]byte("x"))); err == nil {
		t.Error("a put went through a link")
	}
	storetest.MustPut(t, s, "a/link", []byte("object")) // replaces the link itself
	if got, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(got) != "secret" {
		t.Errorf("the file outside holds %q, %v", got, err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}
}

// A put that fails or is given up leaves nothing behind, in both ways of writing.
func TestPutLeavesNothing(t *testing.T) {
	s, root := create(t)
	storetest.MustPut(t, s, "a/there", []byte("old"))
	d, err := os.Open(filepath.Join(root, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	type putFunc func(ctx context.Context, at int, base string, data []byte) error
	for name, put := range map[string]putFunc{"named": putNamed, "unnamed": putUnnamed} {
		if err := put(ctx, int(d.Fd()), "there", []byte("new")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if err := put(t.Context(), int(d.Fd()), name, []byte(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := put(t.Context(), int(d.Fd()), name, []byte(name+" again")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, _, err := storage.ReadAll(t.Context(), s, "a/"+name, 100)
		if err != nil || string(got) != name+" again" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, "a"))
	if err != nil || len(entries) != 3 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestPermissions(t *testing.T) {
	s, root := create(t)
	storetest.MustPut(t, s, "a/b/c", []byte("x"))
	for path, want := range map[string]fs.FileMode{"": dirPerm, "a": dirPerm, "a/b": dirPerm, "a/b/c": filePerm} {
		fi, err := os.Stat(filepath.Join(root, path))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", path, fi.Mode(), err)
		}
	}
}

// What the operating system says becomes what it means for a region.
func TestClassify(t *testing.T) {
	tests := []struct {
		err       error
		want      error
		temporary bool
	}{
		{unix.ENOSPC, storage.ErrNoSpace, false},
		{unix.EDQUOT, storage.ErrNoSpace, false},
		{unix.EROFS, storage.ErrReadOnly, false},
		{unix.EACCES, storage.ErrDenied, false},
		{unix.EPERM, storage.ErrDenied, false},
		{unix.ENOENT, storage.ErrNotFound, false},
		{unix.EIO, unix.EIO, false},
		{unix.EMFILE, unix.EMFILE, true},
	}
	for _, tt := range tests {
		err := classify(&fs.PathError{Op: "open", Path: "x", Err: tt.err})
		if !errors.Is(err, tt.want) || !errors.Is(err, tt.err) || storage.IsTemporary(err) != tt.temporary {
			t.Errorf("%v became %v", tt.err, err)
		}
	}
}

// An object where a folder would have to be is an error, never a loss.
func TestObjectInTheWay(t *testing.T) {
	s, _ := create(t)
	storetest.MustPut(t, s, "a", []byte("file"))
	if err := s.Put(t.Context(), "a/b", []byte("x"), sha256.Sum256([]byte("x"))); err == nil {
		t.Error("a put below an object was accepted")
	}
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Errorf("delete below an object: %v", err)
	}
}

func TestTooDeepIsNotListed(t *testing.T) {
	s, root := create(t)
	storetest.MustPut(t, s, "a", nil)
	deep := filepath.Join(root, strings.Repeat("d/", 40))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, delimited := range []bool{false, true} {
		infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{Delimited: delimited}, 10)
		if err != nil || len(infos) != 1 {
			t.Errorf("delimited %v: %v, %v", delimited, infos, err)
		}
	}
}

// The body of a Get is as of the moment it was opened, whatever is put later.
func TestGetDuringReplace(t *testing.T) {
	s, _ := create(t)
	old := bytes.Repeat([]byte("o"), 1<<20)
	storetest.MustPut(t, s, "k", old)
	body, _, err := s.Get(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	storetest.MustPut(t, s, "k", []byte("new"))
	var got bytes.Buffer
	if _, err := got.ReadFrom(body); err != nil || !bytes.Equal(got.Bytes(), old) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
}

func BenchmarkPut32MiB(b *testing.B) {
	s, err := Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	data := storetest.Pattern(32 << 20)
	sum := sha256.Sum256(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := s.Put(b.Context(), "packs/p.tar", data, sum); err != nil {
			b.Fatal(err)
		}
	}
}
