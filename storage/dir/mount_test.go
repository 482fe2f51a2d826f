package dir

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

// A full disk and a read-only one each give their error, and lose nothing.
func TestFullAndReadOnlyDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	storetest.MustPut(t, s, "a/there", []byte("kept"))
	put := func(key string, size int) error {
		data := storetest.Pattern(size)
		return s.Put(t.Context(), key, data, sha256.Sum256(data))
	}
	for _, key := range []string{"a/large", "a/there"} {
		if err := put(key, 8<<20); !errors.Is(err, storage.ErrNoSpace) || storage.IsTemporary(err) {
			t.Errorf("put %s on a full disk: %v", key, err)
		}
	}
	if err := put("a/small", 1<<20); err != nil {
		t.Errorf("the failed put kept its space: %v", err)
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := put("a/more", 1); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("put on a read-only disk: %v", err)
	}
	if err := s.Delete(t.Context(), "a/small"); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("delete on a read-only disk: %v", err)
	}
	got, _, err := storage.ReadAll(t.Context(), s, "a/there", 100)
	if err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
	infos, err := storage.ListAll(t.Context(), s, storage.ListOptions{}, 10)
	if err != nil || len(infos) != 2 {
		t.Errorf("%v, %v", infos, err)
	}
}
