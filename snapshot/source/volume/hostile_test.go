//go:build linux

package volume

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

var wide = flag.Int("volume.wide", 20_000, "entries of the wide directory")

// chain makes directories inside each other with a file at the end, beyond what a
// path can say, and removes them when the test ends.
func chain(t *testing.T, base, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	_, err = unix.Write(file, []byte("deep"))
	must(t, err)
	unix.Close(file)
	unix.Close(fd)
}

func openFDs(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

func TestDeepTree(t *testing.T) {
	const levels = 3900
	base := t.TempDir()
	chain(t, base, "level", levels)
	for _, openat2 := range []bool{true, false} {
		v := open(t, Options{Paths: []string{base}})
		v.fds.openat2 = v.fds.openat2 && openat2
		n, most, before := 0, 0, openFDs(t)
		var last, middle *Stat
		must(t, v.Walk(t.Context(), func(s *Stat) error {
			if n++; n%500 == 0 {
				most = max(most, openFDs(t)-before)
			}
			if n == levels/2 {
				middle = s.Clone()
			}
			if s.Regular() {
				last = s.Clone()
			}
			return nil
		}))
		if n != levels+2 || last == nil || v.Counts().Unreadable != 0 {
			t.Fatalf("%d objects, %+v", n, v.Counts())
		}
		if most > dirFDsMax+2*v.opts.Workers {
			t.Errorf("%d directories open at once", most)
		}
		if len(last.Path) < 4*unix.PathMax {
			t.Errorf("path of %d bytes", len(last.Path))
		}
		f, err := v.Open(last) // with every directory closed
		must(t, err)
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "deep" {
			t.Errorf("%q, %v", b, err)
		}
		must(t, f.Close())
		var e catalog.Entry
		must(t, v.Attributes(middle, &e))
		must(t, v.Restat(last))
		if got := openFDs(t); got > before+1 {
			t.Errorf("%d descriptors before, %d after", before, got)
		}
	}
}

func TestTooDeepForACatalog(t *testing.T) {
	for _, tt := range []struct {
		name   string
		levels int
	}{{"d", depthMax + 10}, {strings.Repeat("n", 255), 270}} {
		base := t.TempDir()
		chain(t, base, tt.name, tt.levels)
		deep := 0
		v := open(t, Options{Paths: []string{base}, Events: Events{Unreadable: func(p []byte, err error) {
			if !errors.Is(err, ErrTooDeep) || len(err.Error()) > 1200 {
				t.Error(err)
			}
			deep++
		}}})
		longest, elements := 0, 0
		must(t, v.Walk(t.Context(), func(s *Stat) error {
			longest = max(longest, len(s.Path))
			elements = max(elements, strings.Count(string(s.Path), "/")+1)
			return nil
		}))
		if deep != 1 || v.Counts().Unreadable != 1 || longest > pathBytesMax || elements > depthMax {
			t.Errorf("%d events, %+v, longest path %d bytes, %d elements", deep, v.Counts(), longest, elements)
		}
	}
}

func TestWideDirectory(t *testing.T) {
	base := t.TempDir()
	write(t, base+"/x/middle/inside", "")
	const linksMax = 30_000 // of one file; links are quick to make
	for i := range *wide {
		if i%linksMax == 0 {
			write(t, fmt.Sprintf("%s/y/%03d", base, i/linksMax), "")
		}
		must(t, os.Link(fmt.Sprintf("%s/y/%03d", base, i/linksMax), fmt.Sprintf("%s/x/%d", base, i)))
	}
	v := open(t, Options{Paths: []string{base}})
	n := 0
	var last string
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		if n > 0 && catalog.Compare([]byte(last), s.Path) >= 0 {
			t.Fatalf("%q before %q", last, s.Path)
		}
		n++
		last = string(s.Path)
		return nil
	}))
	if want := *wide + 5 + (*wide+linksMax-1)/linksMax; n != want {
		t.Errorf("%d objects", n)
	}
}

// TestReadAheadIsBounded holds the visits still and waits until the workers stop.
func TestReadAheadIsBounded(t *testing.T) {
	v := open(t, Options{Paths: []string{t.TempDir()}})
	a := v.newAhead()
	for range aheadEntriesMax/batchEntries + 10 {
		b := a.newBatch(nil, &listing{refs: make([]nameRef, batchEntries)}, 0, batchEntries, 0)
		a.append(&b.job)
	}
	n := 0
	var done []*batch
	for j := a.next(); j != nil; j = a.next() {
		j.taken = true
		j.batch.stats = make([]Stat, batchEntries)
		a.replace(j)
		a.full = a.stats >= aheadEntriesMax
		done = append(done, j.batch)
		n++
	}
	if n != aheadEntriesMax/batchEntries {
		t.Errorf("%d batches were read ahead", n)
	}
	for _, b := range done[:n/2] {
		a.visited(b)
	}
	if a.next() == nil {
		t.Error("no job may be taken after half was visited")
	}
}

func TestMounts(t *testing.T) {
	base := t.TempDir()
	for _, d := range []string{"mnt", "proc", "bind"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o755))
	}
	write(t, filepath.Join(base, "z"), "")
	mount := func(source, name, kind string, flags uintptr) {
		at := filepath.Join(base, name)
		if err := unix.Mount(source, at, kind, flags, ""); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) })
	}
	mount("tmpfs", "mnt", "tmpfs", 0)
	write(t, filepath.Join(base, "mnt/inside/f"), "")
	mount("proc", "proc", "proc", 0)
	mount(filepath.Join(base, "mnt/inside/f"), "z", "", unix.MS_BIND)
	write(t, filepath.Join(base, "a"), "")

	var e told
	v := open(t, Options{Paths: []string{base}, Events: e.events(base)})
	equal(t, paths(t, v, base), []string{".", "a", "bind", "mnt", "mnt/inside", "mnt/inside/f", "proc", "z"})
	equal(t, e.lines, []string{"mount proc"})

	e.lines = nil // a file mounted over a file is a file
	v = open(t, Options{Paths: []string{base}, OneFileSystem: true, Events: e.events(base)})
	equal(t, paths(t, v, base), []string{".", "a", "bind", "mnt", "proc", "z"})
	equal(t, e.lines, []string{"mount mnt", "mount proc"})
	if n := v.Counts().Mounts; n != 2 {
		t.Errorf("counted %d", n)
	}
	v = open(t, Options{Paths: []string{base + "/mnt"}, OneFileSystem: true})
	equal(t, paths(t, v, base), []string{"mnt", "mnt/inside", "mnt/inside/f"})
}

const childVar = "VOLUME_TEST_CHILD"

// inChild runs the calling test in another process, as nobody when we are root,
// and tells whether this is that process. base is a directory open to both.
func inChild(t *testing.T, prepare func(base string)) (base string, child bool) {
	t.Helper()
	if base := os.Getenv(childVar); base != "" {
		return base, true
	}
	base, err := os.MkdirTemp("", "volume")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	base, err = filepath.EvalSymlinks(base)
	must(t, err)
	must(t, os.Chmod(base, 0o755))
	prepare(base)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childVar+"="+base)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return base, false
}

func TestUnreadable(t *testing.T) {
	base, child := inChild(t, func(base string) {
		for _, f := range []string{"a/ok", "closed/hidden", "listonly/unseen", "searchonly/f", "z/last"} {
			write(t, filepath.Join(base, f), f)
		}
		write(t, filepath.Join(base, "secret"), "")
		shift := 0 // the bits of others, or, when the child runs as the owner, of the owner
		if os.Getuid() != 0 {
			shift = 6
			t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwX", base).Run() })
		}
		for name, bits := range map[string]os.FileMode{"closed": 0, "searchonly": 1, "listonly": 4, "secret": 0} {
			must(t, os.Chmod(filepath.Join(base, name), bits<<shift))
		}
	})
	if !child {
		return
	}
	var e told
	v := open(t, Options{Paths: []string{base}, Events: e.events(base)})
	var flagged []string
	var secret *Stat
	var got []string
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		rel, _ := filepath.Rel(base, "/"+string(s.Path))
		got = append(got, rel)
		if s.Unreadable {
			var entry catalog.Entry
			s.Fill(&entry)
			if entry.Flags != catalog.Unreadable || entry.Type != catalog.Dir {
				t.Errorf("%s: %+v", rel, entry)
			}
			flagged = append(flagged, rel)
		}
		if rel == "secret" {
			secret = s.Clone()
		}
		return nil
	}))
	equal(t, got, []string{".", "a", "a/ok", "closed", "listonly", "searchonly", "secret", "z", "z/last"})
	equal(t, flagged, []string{"closed", "searchonly"})
	equal(t, e.lines, []string{
		"unreadable closed: list directory " + base + "/closed: permission denied",
		"unreadable listonly/unseen: look at " + base + "/listonly/unseen: permission denied",
		"unreadable searchonly: list directory " + base + "/searchonly: permission denied",
	})
	if n := v.Counts().Unreadable; n != 3 {
		t.Errorf("counted %d", n)
	}
	if _, err := v.Open(secret); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open: %v", err)
	}
	var entry catalog.Entry
	must(t, v.Attributes(secret, &entry))
	if entry.Flags != 0 {
		t.Errorf("flags %v", entry.Flags)
	}
}

// TestFewDescriptors walks and opens with hardly any descriptors to be had.
func TestFewDescriptors(t *testing.T) {
	base, child := inChild(t, func(base string) {
		for i := range 300 {
			write(t, fmt.Sprintf("%s/%d/sub/f", base, i), "x")
		}
	})
	if !child {
		return
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 60, Max: 60}))
	var e told
	v := open(t, Options{Paths: []string{base}, Events: e.events(base)})
	n := 0
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		if !s.Regular() {
			return nil
		}
		n++
		f, err := v.Open(s)
		if err != nil {
			return err
		}
		return f.Close()
	}))
	if n != 300 || len(e.lines) > 0 {
		t.Errorf("%d files, %q", n, e.lines)
	}
}

// TestLinksAreNeverFollowed swaps a directory with a link to forbidden ground, as
// fast as it can, while walks and opens go on.
func TestLinksAreNeverFollowed(t *testing.T) {
	base := t.TempDir()
	write(t, base+"/outside/f", "forbidden")
	write(t, base+"/in/d/f", "fine")
	must(t, os.Symlink("../outside", base+"/in/l"))
	stop := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		defer func() { swapped <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, base+"/in/d", unix.AT_FDCWD, base+"/in/l", unix.RENAME_EXCHANGE)
			n++
			runtime.Gosched()
		}
	}()
	v := open(t, Options{Paths: []string{base + "/in"}})
	read := 0
	for range 300 {
		must(t, v.Walk(t.Context(), func(s *Stat) error {
			if !s.Regular() {
				return nil
			}
			v.fds.drop(0)
			f, err := v.Open(s)
			if err != nil {
				return nil
			}
			defer f.Close()
			b := make([]byte, 16)
			n, _ := f.ReadAt(b, 0)
			if string(b[:n]) != "fine" {
				t.Errorf("read %q", b[:n])
			}
			read++
			return nil
		}))
	}
	close(stop)
	t.Logf("%d files read during %d swaps", read, <-swapped)
}

func TestAppendPath(t *testing.T) {
	for _, tt := range []struct {
		top   string
		names []string
		want  string
	}{
		{"/", nil, ""}, {"/", []string{"a"}, "a"}, {"/", []string{"a", "bc"}, "a/bc"},
		{"/srv", nil, "srv"}, {"/srv/x", []string{"a", "bc"}, "srv/x/a/bc"},
	} {
		d := newTop(tt.top)
		for _, n := range tt.names {
			d = newDir(d, []byte(n))
		}
		if got := string(d.appendPath([]byte("+"))); got != "+"+tt.want || d.bytes != len(tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
		if want := len(strings.Fields(strings.ReplaceAll(tt.want, "/", " "))); d.depth != want {
			t.Errorf("%q: depth %d", tt.want, d.depth)
		}
		if !slices.Equal([]byte("+"), d.appendPath([]byte("+"))[:1]) {
			t.Error("overwrote")
		}
	}
}
