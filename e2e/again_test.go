package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
)

// again backs up, restores and compares.
func (s *site) again(t *testing.T, name string) backupResult {
	t.Helper()
	b := s.backup(t, 0)
	want := pictureOf(t, s.source())
	to := s.Path("again")
	s.restore(t, 0, to)
	before := t.Failed()
	mustMatch(t, want, to, restorable())
	if t.Failed() && !before {
		t.Errorf("differences after: %s", name)
	}
	wipeAll(t, to)
	return b
}

// TestIncremental: each change is seen whatever it hides behind, and nothing that
// is unchanged is read.
func TestIncremental(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	for _, name := range []string{"replaced", "edited", "future", "past", "owned", "moded", "tagged", "renamed", "grown", "old", "quiet", "linked", "many/a", "many/b", "many/c"} {
		putFile(t, s.source(name), noiseOf(name[0], 100_000))
	}
	when := func(name string, at time.Time) {
		if err := os.Chtimes(s.source(name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	future, past := time.Date(2199, 1, 1, 0, 0, 0, 7, time.UTC), time.Date(1931, 1, 1, 0, 0, 0, 7, time.UTC)
	when("future", future)
	when("past", past)
	s.init(t)
	s.again(t, "the first")
	unchanged := func(name string) {
		t.Helper()
		if b := s.backup(t, 0); b.Stats.New+b.Stats.Changed+b.Stats.Deleted+b.Stats.BytesRead+b.Stats.BytesNew != 0 {
			t.Errorf("%s: nothing has changed, and yet %+v", name, b.Stats)
		}
	}
	unchanged("after the first")

	steps := []struct {
		name    string
		change  func() error
		changed int64 // files, at least
		read    int64 // files, at most
	}{
		{"another file of the same size and time in its place", func() error { return replaceFile(s.source("replaced"), 90) }, 1, 1},
		{"an edit with the old time put back", func() error { return editHidden(s.source("edited"), 91, 0) }, 1, 1},
		{"an edit of a file from the future", func() error { return editHidden(s.source("future"), 92, 0) }, 1, 1},
		{"an edit of a file from long ago", func() error { return editHidden(s.source("past"), 93, 0) }, 1, 1},
		{"a time that went back", func() error { when("old", past); return nil }, 0, 1},
		{"a time that went far ahead", func() error { when("old", future); return nil }, 0, 1},
		{"a mode", func() error { return os.Chmod(s.source("moded"), 0o4711) }, 0, 1},
		{"an attribute", func() error { return ignoreNoXattrs(unix.Setxattr(s.source("tagged"), "user.x", []byte("y"), 0)) }, 0, 1},
		{"the attribute gone", func() error { return ignoreNoXattrs(unix.Removexattr(s.source("tagged"), "user.x")) }, 0, 1},
		{"a rename", func() error { return os.Rename(s.source("renamed"), s.source("many/renamed")) }, 0, 1},
		{"a further name", func() error { return os.Link(s.source("linked"), s.source("many/link")) }, 0, 2},
		{"a name less", func() error { return os.Remove(s.source("linked")) }, 0, 1},
		{"a folder renamed", func() error { return os.Rename(s.source("many"), s.source("lots")) }, 0, 6},
		{"bytes at the end", func() error { return appendTo(s.source("grown"), 50_000) }, 1, 1},
		{"bytes cut off", func() error { return os.Truncate(s.source("grown"), 10_000) }, 1, 1},
		{"a hole punched", func() error { return punchHole(s.source("quiet")) }, 1, 1},
		{"two files swapped", func() error { return swap(s.source("edited"), s.source("replaced")) }, 2, 2},
	}
	if harness.IsRoot() {
		steps = append(steps, struct {
			name          string
			change        func() error
			changed, read int64
		}{"an owner", func() error { return os.Chown(s.source("owned"), 4321, 1234) }, 0, 1})
	}
	for _, step := range steps {
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		b := s.again(t, step.name)
		if b.Stats.Changed+b.Stats.New < step.changed {
			t.Errorf("%s: %d changed, %d new", step.name, b.Stats.Changed, b.Stats.New)
		}
		if most := step.read * 200_000; b.Stats.BytesRead > most {
			t.Errorf("%s: %d bytes were read", step.name, b.Stats.BytesRead)
		}
	}
	unchanged("after all that")
	// --full trusts nothing that is stored: it reads and stores everything again.
	if b := s.backup(t, 0, "files", "--full"); b.Stats.BytesRead < 1_000_000 || b.Stats.Stored < 500_000 {
		t.Errorf("--full read %d bytes and stored %d", b.Stats.BytesRead, b.Stats.Stored)
	}
	unchanged("after --full")
}

func ignoreNoXattrs(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// replaceFile renames another file of the same size and mtime over one.
func replaceFile(path string, seed byte) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	other := path + ".new"
	if err := os.WriteFile(other, noiseOf(seed, int(st.Size())), st.Mode().Perm()); err != nil {
		return err
	}
	if err := os.Chtimes(other, st.ModTime(), st.ModTime()); err != nil {
		return err
	}
	return os.Rename(other, path)
}

// editHidden changes bytes in place and puts the mtime back.
func editHidden(path string, seed byte, at int64) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(noiseOf(seed, 64), at)
	return errors.Join(err, f.Close(), os.Chtimes(path, st.ModTime(), st.ModTime()))
}

func appendTo(path string, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(noiseOf(77, n))
	return errors.Join(err, f.Close())
}

func punchHole(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8192, 40960)
	if errors.Is(err, unix.ENOTSUP) {
		_, err = f.WriteAt(make([]byte, 40960), 8192)
	}
	return errors.Join(err, f.Close())
}

func swap(a, b string) error {
	return errors.Join(os.Rename(a, a+".swap"), os.Rename(b, a), os.Rename(a+".swap", b))
}

// TestRacilyClean: a file that is changed in the very moment in which it is backed
// up may keep its size and its time stamps' last tick. The next run has to see it
// all the same.
func TestRacilyClean(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	const files = 40
	for i := range files {
		putFile(t, s.source(fmt.Sprintf("f%02d", i)), []byte("00000000"))
	}
	s.init(t)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		ctx, stop := context.WithCancel(context.Background())
		written := make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				if ctx.Err() != nil {
					written <- nil
					return
				}
				// The same size, the same inode, and a time that is as good as the clock's tick.
				f, err := os.OpenFile(s.source(fmt.Sprintf("f%02d", i%files)), os.O_WRONLY, 0)
				if err == nil {
					_, err = fmt.Fprintf(f, "%08d", round*10_000_000+i%10_000_000)
					err = errors.Join(err, f.Close())
				}
				if err != nil {
					written <- err
					return
				}
			}
		}()
		r := s.Run("backup", "files", "--json")
		stop()
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if r.Code != 0 && r.Code != 3 {
			t.Fatal(r)
		}
		s.again(t, fmt.Sprintf("round %d of writing while it runs", round))
	}
}

// TestWithoutCache: the cache is only a cache. Neither its loss, nor that of
// another host or of an older day in its place, changes what a backup holds or
// sends what is there already.
func TestWithoutCache(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 61)
	s.init(t)
	first := s.again(t, "the first")

	other := newSite(t, "a", "b")
	smallTorture(t, other.source(), 62)
	other.init(t)
	other.backup(t, 0)

	old := s.Path("cache-of-an-older-day")
	copyAll(t, s.Path("lifeboat-cache"), old)
	for i, with := range []string{"", old, other.Path("lifeboat-cache"), "damaged"} {
		name := fmt.Sprintf("cache %q", filepath.Base(with))
		if with == "damaged" {
			damage(t, s.Path("lifeboat-cache"))
		} else {
			wipeAll(t, s.Path("lifeboat-cache"))
			if with != "" {
				copyAll(t, with, s.Path("lifeboat-cache"))
			}
		}
		b := s.backup(t, 0)
		if b.Stats.New+b.Stats.Changed+b.Stats.BytesRead != 0 || b.Stats.Stored > first.Stats.Stored/10 {
			t.Errorf("%s: nothing has changed, and yet %+v", name, b.Stats)
		}
		putFile(t, s.source("added"), noiseOf(byte(i), 50_000))
		if b := s.again(t, name+" and a change"); b.Stats.BytesRead != 50_000 || b.Stats.Stored > 200_000 {
			t.Errorf("%s: one new file, and yet %+v", name, b.Stats)
		}
	}
}

// damage flips a byte in each file of a folder and halves some.
func damage(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		data[len(data)/2] ^= 0x40
		if n++; n%3 == 0 {
			data = data[:len(data)/2]
		}
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files damaged", n)
}

// copyAll copies a folder with all attributes, by the system's own tool.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// TestRebuiltHost: a host whose state is gone joins again, finds its snapshots as
// parents, and sends nothing twice. A copy of the tree has other inodes and times
// of change: it is read, and not stored again.
func TestRebuiltHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 63)
	s.init(t)
	first := s.again(t, "the first")
	wipeAll(t, s.Path("lifeboat-state"), s.Path("lifeboat-cache"))
	s.run(t, 12, "backup", "files") // this host may not write any more
	s.run(t, 0, "host", "enroll", "--kit", s.Kit, "--root", s.Kit+".root", "--yes")
	b := s.again(t, "a rebuilt host")
	if b.Stats.New+b.Stats.Changed+b.Stats.BytesRead != 0 || b.Stats.Stored > first.Stats.Stored/10 || b.Parent == "" {
		t.Errorf("a rebuilt host did it all again: %+v", b.Stats)
	}
	copyAll(t, s.source(), s.Path("copy"))
	wipeAll(t, s.source())
	moveTo(t, s.Path("copy"), s.source())
	b = s.again(t, "a copied tree")
	if b.Stats.BytesRead == 0 || b.Stats.Stored > first.Stats.Stored/10 {
		t.Errorf("a copied tree: %+v", b.Stats)
	}
}
