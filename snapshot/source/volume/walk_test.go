//go:build linux

package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

func TestWalkOrder(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("n", 255)
	files := []string{
		"a", "a!", "a.b", "d/x", "d/y/z", "d!", "d-e/f", "d.e", "d\x00"[:1] + "0", "\x01", "line\nbreak", "tab\t",
		"caf\xe9", "\xff\xfe", "café", long, "dir " + long[:251] + "/" + long, "~", " ", "-rf", `back\slash`, "*",
	}
	for _, f := range files {
		write(t, filepath.Join(root, f), f)
	}
	var want []string
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		want = append(want, path[1:])
		return err
	}))
	slices.SortFunc(want, func(a, b string) int { return catalog.Compare([]byte(a), []byte(b)) })
	var got []string
	must(t, open(t, Options{Paths: []string{root}}).Walk(t.Context(), func(s *Stat) error {
		got = append(got, string(s.Path))
		return nil
	}))
	equal(t, got, want)
}

// TestWalkRandomTrees compares with the standard library, with several workers
// and batches, and with directories wide enough to be cut into batches.
func TestWalkRandomTrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	root := t.TempDir()
	var grow func(dir string, depth int)
	grow = func(dir string, depth int) {
		n := rnd.IntN(12)
		if depth == 1 && rnd.IntN(3) == 0 {
			n = 600
		}
		for i := range n {
			name := filepath.Join(dir, fmt.Sprintf("%c%d", 'a'+rnd.IntN(26), i))
			if depth < 5 && rnd.IntN(3) == 0 && (n < 100 || i%50 == 0) {
				must(t, os.Mkdir(name, 0o755))
				grow(name, depth+1)
			} else {
				must(t, os.Symlink("x", name))
			}
		}
	}
	for i := range 8 {
		dir := filepath.Join(root, fmt.Sprint(i))
		must(t, os.Mkdir(dir, 0o755))
		grow(dir, 1)
	}
	var want []string
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		want = append(want, path)
		return err
	}))
	slices.SortFunc(want, func(a, b string) int { return catalog.Compare([]byte(a), []byte(b)) })
	for i, p := range want {
		want[i], _ = filepath.Rel(root, p)
	}
	for _, workers := range []int{1, 3, 16} {
		v := open(t, Options{Paths: []string{root}, Workers: workers})
		if got := paths(t, v, root); !slices.Equal(got, want) {
			t.Errorf("%d workers: %d objects, want %d, or another order", workers, len(got), len(want))
		}
		if n := v.Counts().Visited; n != int64(len(want)) {
			t.Errorf("counted %d of %d", n, len(want))
		}
	}
}

func TestStatIsWhatLstatTells(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "f"), "hello")
	must(t, os.Link(filepath.Join(root, "f"), filepath.Join(root, "g")))
	must(t, os.Chmod(filepath.Join(root, "f"), 0o640|os.ModeSetuid))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, "f"),
		[]unix.Timespec{{Sec: 1}, {Sec: -5, Nsec: 123456789}}, 0))
	must(t, os.Symlink("f", filepath.Join(root, "l")))
	must(t, unix.Mkfifo(filepath.Join(root, "p"), 0o600))
	entries := map[string]catalog.Entry{}
	must(t, open(t, Options{Paths: []string{root}}).Walk(t.Context(), func(s *Stat) error {
		var st unix.Stat_t
		must(t, unix.Lstat("/"+string(s.Path), &st))
		if s.Mode != st.Mode || s.UID != st.Uid || s.GID != st.Gid || s.Size != st.Size || s.Inode != st.Ino ||
			s.MTime != st.Mtim.Nano() || s.CTime != st.Ctim.Nano() || uint64(s.Links) != uint64(st.Nlink) || s.Blocks != st.Blocks ||
			s.Dev != uint64(unix.Major(st.Dev))<<32|uint64(unix.Minor(st.Dev)) {
			t.Errorf("%s: %+v, lstat %+v", s.Path, s, st)
		}
		var e catalog.Entry
		s.Clone().Fill(&e)
		entries[filepath.Base(string(s.Path))] = e
		return nil
	}))
	f := entries["f"]
	if f.Type != catalog.File || f.Mode != 0o4640 || f.Size != 5 || f.Links != 2 || f.Dev == 0 || f.MTime != -5e9+123456789 {
		t.Errorf("f: %+v", f)
	}
	if l := entries["l"]; l.Type != catalog.Symlink || l.Size != 0 || l.Links != 0 || l.Dev != 0 {
		t.Errorf("l: %+v", l)
	}
	if p := entries["p"]; p.Type != catalog.Fifo {
		t.Errorf("p: %+v", p)
	}
	if d := entries[filepath.Base(root)]; d.Type != catalog.Dir || d.Links != 0 || d.Size != 0 {
		t.Errorf("root: %+v", d)
	}
}

func TestRootsOfEveryKind(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "dir/x"), "")
	write(t, filepath.Join(base, "dir.old/y"), "")
	write(t, filepath.Join(base, "file"), "")
	must(t, os.Symlink("dir", filepath.Join(base, "link")))
	at := func(names ...string) (p []string) {
		for _, n := range names {
			p = append(p, filepath.Join(base, n))
		}
		return p
	}
	v := open(t, Options{Paths: append(at("link", "dir.old", "file"), filepath.Join(base, "dir")+"/"), Exclude: []string{"dir", "file"}})
	equal(t, paths(t, v, base), []string{"dir", "dir/x", "dir.old", "dir.old/y", "file", "link"})

	must(t, os.Remove(filepath.Join(base, "file")))
	err := v.Walk(t.Context(), func(*Stat) error { return nil })
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(base, "file")) {
		t.Errorf("a path that went away: %v", err)
	}
}

func TestWholeSystemAsRoot(t *testing.T) {
	var e told
	v := open(t, Options{Paths: []string{"/"}, Exclude: []string{"/*"}, Events: e.events("/")})
	if got := paths(t, v, "/"); len(got) != 0 {
		t.Errorf("visited %q", got)
	}
	if !slices.Contains(e.lines, "excluded proc") || !slices.IsSorted(e.lines) {
		t.Errorf("events: %q", e.lines)
	}
}

func TestNewRefuses(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "real/sub/f"), "")
	must(t, os.Symlink("real", filepath.Join(base, "link")))
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"nothing", Options{}, "no paths"},
		{"relative", Options{Paths: []string{"etc"}}, "path etc: not absolute"},
		{"missing", Options{Paths: []string{base + "/none"}}, "/none: no such file or directory"},
		{"dots", Options{Paths: []string{base + "/../x"}}, `has ".." in it`},
		{"twice", Options{Paths: []string{base, base + "/"}}, "listed twice"},
		{"nested", Options{Paths: []string{base + "/real", base}}, "inside " + base},
		{"in root", Options{Paths: []string{"/", base}}, "inside /"},
		{"link above", Options{Paths: []string{base + "/link/sub"}}, "name the real path, " + base + "/real/sub"},
		{"glob", Options{Paths: []string{base}, Exclude: []string{"[a", "ok", "!x"}}, `exclude "[a": malformed glob`},
		{"negation", Options{Paths: []string{base}, Exclude: []string{"!x"}}, "negation is not supported"},
		{"everything", Options{Paths: []string{base}, Exclude: []string{"**"}}, "matches everything"},
		{"marker", Options{Paths: []string{base}, ExcludeIfPresent: []string{"a/b"}}, "not a file name"},
		{"file below a file", Options{Paths: []string{base + "/real/sub/f/x"}}, "not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestExcludesAndMarkers(t *testing.T) {
	base := t.TempDir()
	for _, f := range []string{
		"keep/a.o", "keep/a.c", "build/x", "src/build/y", "node_modules/m", "src/node_modules/m",
		"cache/CACHEDIR.TAG", "cache/x", "fake/CACHEDIR.TAG", "fake/x", "skip/.nobackup", "skip/x/y", "only", "dironly/f", "src/only/f",
	} {
		write(t, filepath.Join(base, f), "")
	}
	write(t, filepath.Join(base, "cache/CACHEDIR.TAG"), cacheSignature+"\n# made by a test\n")
	write(t, filepath.Join(base, ".nobackup"), "") // markers of a path itself do not count
	var e told
	v := open(t, Options{
		Paths: []string{base}, Exclude: []string{"*.o", base + "/build", "**/src/node_modules", "only/"},
		ExcludeIfPresent: []string{".nobackup"}, ExcludeCaches: true, Events: e.events(base),
	})
	equal(t, paths(t, v, base), []string{
		".", ".nobackup", "cache", "dironly", "dironly/f", "fake", "fake/CACHEDIR.TAG", "fake/x", "keep", "keep/a.c",
		"node_modules", "node_modules/m", "only", "skip", "src", "src/build", "src/build/y",
	})
	equal(t, e.lines, []string{"excluded build", "excluded cache", "excluded keep/a.o", "excluded skip", "excluded src/node_modules", "excluded src/only"})
	if n := v.Counts().Excluded; n != 6 {
		t.Errorf("counted %d", n)
	}
	v = open(t, Options{Paths: []string{base + "/cache"}, ExcludeCaches: true})
	equal(t, paths(t, v, base), []string{"cache", "cache/CACHEDIR.TAG", "cache/x"})
}

func TestSocketsAreSkipped(t *testing.T) {
	base := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(base, "s")}))
	var e told
	v := open(t, Options{Paths: []string{base}, Events: e.events(base)})
	equal(t, paths(t, v, base), []string{"."})
	equal(t, e.lines, []string{"socket s"})
	if c := v.Counts(); c.Sockets != 1 || c.Visited != 1 {
		t.Errorf("%+v", c)
	}
}

// TestVanished drives the jobs by hand: the gap between listing and looking is
// too short to meet.
func TestVanished(t *testing.T) {
	base := t.TempDir()
	v := open(t, Options{Paths: []string{base}})
	a := v.newAhead()
	top := newTop(base)
	list := &listing{names: []byte("gone\x00"), refs: []nameRef{{len: 4}}}
	b := a.newBatch(top, list, 0, 1, 0)
	a.look(newScratch(), b)
	if b.stats[0].fate != fateVanished {
		t.Errorf("a file: %+v", b.stats[0])
	}
	br := &branch{dir: newDir(top, []byte("gone"))}
	a.enter(newScratch(), br)
	if br.outcome != gone {
		t.Errorf("a directory: %v", br.outcome)
	}
	must(t, os.Symlink("/", filepath.Join(base, "swapped")))
	br = &branch{dir: newDir(top, []byte("swapped"))}
	a.enter(newScratch(), br)
	if br.outcome != replaced {
		t.Errorf("a link in place of a directory: %v", br.outcome)
	}
	b = a.newBatch(newDir(top, []byte("gone")), list, 0, 1, 0)
	a.look(newScratch(), b)
	if b.stats[0].fate != fateVanished {
		t.Errorf("a file in a directory that is gone: %+v", b.stats[0])
	}
}

// TestVanishedWhileWalking removes directories that the visits have not come to.
func TestVanishedWhileWalking(t *testing.T) {
	base := t.TempDir()
	for i := range 300 {
		write(t, fmt.Sprintf("%s/%03d/f", base, i), "")
	}
	v := open(t, Options{Paths: []string{base}, Workers: 1})
	removed := false
	var got int64
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		if got++; !removed {
			for i := range 300 {
				must(t, os.RemoveAll(fmt.Sprintf("%s/%03d", base, i)))
			}
			removed = true
		}
		return nil
	}))
	c := v.Counts()
	if c.Visited != got || c.Unreadable != 0 || c.Visited+c.Vanished < 1 {
		t.Errorf("%+v, visited %d", c, got)
	}
}

func TestVisitErrorAndCancel(t *testing.T) {
	base := t.TempDir()
	for i := range 2000 {
		must(t, os.Symlink("x", fmt.Sprintf("%s/%d", base, i)))
	}
	before := runtime.NumGoroutine()
	v := open(t, Options{Paths: []string{base}})
	stop := errors.New("stop")
	n := 0
	err := v.Walk(t.Context(), func(*Stat) error {
		if n++; n == 700 {
			return stop
		}
		return nil
	})
	if err != stop || n != 700 || v.Counts().Visited != 700 {
		t.Errorf("%v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err = v.Walk(ctx, func(*Stat) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n > 2*batchEntries {
		t.Errorf("%v after %d", err, n)
	}
	// A worker that has said it is done may take a moment to be gone.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func TestAnyNumberOfRootsAndWalks(t *testing.T) {
	base := t.TempDir()
	var opts Options
	for i := range 500 {
		opts.Paths = append(opts.Paths, fmt.Sprintf("%s/%03d", base, i))
		write(t, opts.Paths[i]+"/f", "")
	}
	v := open(t, opts)
	for range 3 {
		if got := paths(t, v, base); len(got) != 1000 || !slices.IsSorted(got) {
			t.Errorf("%d objects", len(got))
		}
	}
}

func TestListingReportsNonsense(t *testing.T) {
	for _, buf := range [][]byte{
		{1}, make([]byte, 19), make([]byte, 24),
		dirent("a/b", unix.DT_REG), dirent("", unix.DT_REG), dirent("abc", unix.DT_REG)[:23],
	} {
		var l listing
		if err := l.add(buf); err == nil {
			t.Errorf("%q: no error", buf)
		}
	}
	var l listing
	for _, n := range []string{"b", ".", "aaaaaaaaab", "..", "a", "b", "aaaaaaaaaa", "..."} {
		must(t, l.add(dirent(n, unix.DT_REG)))
	}
	l.sort()
	var got []string
	for i := range l.refs {
		got = append(got, string(l.name(i)))
	}
	equal(t, got, []string{"...", "a", "aaaaaaaaaa", "aaaaaaaaab", "b"})
	if _, ok := l.find("aa"); ok {
		t.Error("found aa")
	}
	if i, ok := l.find("aaaaaaaaab"); !ok || i != 3 {
		t.Error("did not find aaaaaaaaab")
	}
}

// dirent is a record of getdents64.
func dirent(name string, kind byte) []byte {
	b := make([]byte, (recordHead+len(name)+1+7)/8*8)
	b[16] = byte(len(b))
	b[18] = kind
	copy(b[recordHead:], name)
	return b
}

func FuzzListing(f *testing.F) {
	f.Add(dirent("name", unix.DT_DIR))
	f.Add(slices.Concat(dirent("b", 8), dirent("a", 8), dirent("a", 4)))
	f.Fuzz(func(t *testing.T, buf []byte) {
		var l listing
		l.add(buf)
		l.sort()
		for i := range l.refs {
			name := l.nameZ(i)
			if len(name) < 2 || bytes.IndexByte(name, 0) != len(name)-1 || bytes.IndexByte(name, '/') >= 0 {
				t.Fatalf("name %q", name)
			}
			if i > 0 && bytes.Compare(l.name(i-1), l.name(i)) >= 0 {
				t.Fatalf("%q before %q", l.name(i-1), l.name(i))
			}
		}
	})
}
