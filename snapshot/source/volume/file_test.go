//go:build linux

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// stats walks and keeps everything, by the path relative to base.
func stats(t testing.TB, v *Volume, base string) map[string]*Stat {
	t.Helper()
	all := map[string]*Stat{}
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		rel, err := filepath.Rel(base, "/"+string(s.Path))
		all[rel] = s.Clone()
		return err
	}))
	return all
}

func TestOpenLaterFromManyGoroutines(t *testing.T) {
	base := t.TempDir()
	for i := range 400 { // more directories than stay open
		write(t, fmt.Sprintf("%s/%d/sub/f", base, i), fmt.Sprint(i))
	}
	v := open(t, Options{Paths: []string{base}})
	check := func(s *Stat) {
		f, err := v.Open(s)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		b := make([]byte, 10)
		n, err := f.ReadAt(b, 0)
		if err != io.EOF || string(b[:n]) != strings.Split(string(s.Path), "/")[len(strings.Split(base, "/"))-1] {
			t.Errorf("%s: %q, %v", s.Path, b[:n], err)
		}
		if !f.Stat().same(s) || f.Stat().Size != int64(n) {
			t.Errorf("%s: %+v", s.Path, f.Stat())
		}
	}
	queue := make(chan *Stat, 64)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for s := range queue {
				check(s)
			}
		})
	}
	must(t, v.Walk(t.Context(), func(s *Stat) error {
		if s.Regular() {
			queue <- s.Clone()
		}
		return nil
	}))
	close(queue)
	group.Wait()
	if v.fds.idle != 0 {
		t.Errorf("%d directories stay open after the walk", v.fds.idle)
	}
}

func TestOpenNoticesReplacement(t *testing.T) {
	base := t.TempDir()
	names := []string{"same", "gone", "other", "link", "fifo", "socket", "dir", "d1/f", "d2/f", "d3/f"}
	for _, n := range names {
		write(t, filepath.Join(base, n), n)
	}
	v := open(t, Options{Paths: []string{base}})
	all := stats(t, v, base)
	at := func(n string) string { return filepath.Join(base, n) }
	for _, n := range []string{"gone", "link", "fifo", "socket", "dir"} {
		must(t, os.Rename(at(n), at(n+".was")))
	}
	write(t, at("new"), "new")
	must(t, os.Rename(at("new"), at("other")))
	must(t, os.Symlink("same", at("link")))
	must(t, unix.Mkfifo(at("fifo"), 0o600))
	must(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	must(t, os.Mkdir(at("dir"), 0o755))
	must(t, os.Rename(at("d1"), at("d1.was"))) // a link to the very same directory
	must(t, os.Symlink("d1.was", at("d1")))
	must(t, os.Rename(at("d2"), at("d2.was"))) // another directory with another file
	write(t, at("d2/f"), "d2/f")
	must(t, os.RemoveAll(at("d3")))
	for name, want := range map[string]error{
		"same": nil, "gone": fs.ErrNotExist, "other": ErrReplaced, "link": ErrReplaced, "fifo": ErrReplaced,
		"socket": ErrReplaced, "dir": ErrReplaced, "d1/f": unix.ELOOP, "d2/f": ErrReplaced, "d3/f": fs.ErrNotExist,
	} {
		for _, openat2 := range []bool{v.fds.openat2, false} {
			v.fds.openat2 = openat2
			f, err := v.Open(all[name])
			if err == nil {
				f.Close()
			}
			if name == "d1/f" && errors.Is(err, unix.ENOTDIR) {
				continue // how a single open says that it met a link
			}
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
			var e catalog.Entry
			if err := v.Attributes(all[name], &e); (err == nil) != (want == nil) {
				t.Errorf("attributes of %s: %v", name, err)
			}
		}
	}
	if _, err := v.Open(all["."]); err == nil {
		t.Error("opened a directory")
	}
	must(t, v.Restat(all["other"]))
	f, err := v.Open(all["other"])
	must(t, err)
	must(t, f.Close())
	for _, name := range []string{"gone", "d2/f"} { // a folder that was replaced has taken its files with it
		if err := v.Restat(all[name]); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrReplaced) {
			t.Errorf("restat of %s: %v", name, err)
		}
	}
}

func TestChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for name, change := range map[string]func(){
		"size":  func() { must(t, os.Truncate(path, 3)) },
		"mtime": func() { must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{}, {Sec: 7}}, 0)) },
		"none":  func() {},
	} {
		write(t, path, "before")
		v := open(t, Options{Paths: []string{path}})
		f, err := v.Open(stats(t, v, filepath.Dir(path))["f"])
		must(t, err)
		change()
		changed, err := f.Changed()
		must(t, err)
		if changed != (name != "none") {
			t.Errorf("%s: %v", name, changed)
		}
		must(t, f.Close())
	}
}

func TestData(t *testing.T) {
	const block = 64 << 10
	type ranges = []catalog.Range
	run := func(at, n int64) catalog.Range { return catalog.Range{Offset: at * block, Length: n * block} }
	for _, tt := range []struct {
		name string
		data []int64 // blocks that are written
		size int64
		want ranges
	}{
		{"empty", nil, 0, nil},
		{"dense", []int64{0, 1, 2}, 3 * block, nil},
		{"hole", nil, 10 * block, ranges{}},
		{"hole at the start", []int64{3}, 4 * block, ranges{run(3, 1)}},
		{"hole at the end", []int64{0}, 4*block + 5, ranges{run(0, 1)}},
		{"holes", []int64{1, 2, 7}, 9 * block, ranges{run(1, 2), run(7, 1)}},
		{"huge", []int64{1 << 20}, 1 << 40, ranges{run(1<<20, 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			sparse(t, path, tt.size, block, tt.data)
			v := open(t, Options{Paths: []string{path}})
			f, err := v.Open(stats(t, v, filepath.Dir(path))["f"])
			must(t, err)
			defer f.Close()
			got, err := f.Data()
			must(t, err)
			if tt.name == "hole" && got == nil {
				t.Skip("this file system has no holes")
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// sparse makes a file of size bytes with some blocks written.
func sparse(t testing.TB, path string, size, block int64, data []int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for _, b := range data {
		_, err := f.WriteAt(bytes.Repeat([]byte{1}, int(block)), b*block)
		must(t, err)
	}
}

// TestHoleListKeepsTheLargest holds the early pruning against sorting everything.
func TestHoleListKeepsTheLargest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var list holeList
	var all []catalog.Range
	at, size := int64(0), int64(0)
	for range 5 * holesMax {
		at += 1 + rnd.Int64N(100)
		hole := catalog.Range{Offset: at, Length: 1 + rnd.Int64N(1<<40)}
		at += hole.Length
		all = append(all, hole)
		list.add(hole)
	}
	size = at + 1
	got := list.ranges(size)
	if len(got) != rangesMax {
		t.Fatalf("%d ranges, want %d", len(got), rangesMax)
	}
	lengths := make([]int64, len(all))
	for i, h := range all {
		lengths[i] = h.Length
	}
	slices.Sort(lengths)
	smallest := lengths[len(lengths)-holesMax]
	var want []catalog.Range
	from := int64(0)
	for _, h := range all {
		if h.Length >= smallest {
			want = append(want, catalog.Range{Offset: from, Length: h.Offset - from})
			from = h.Offset + h.Length
		}
	}
	want = append(want, catalog.Range{Offset: from, Length: size - from})
	if !slices.Equal(got, want) {
		t.Error("other ranges than those between the largest holes")
	}
}

func TestAttributes(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "f"), "x")
	target := strings.Repeat("t/", 2000) + "\n\xff"
	must(t, os.Symlink(target, filepath.Join(base, "l")))
	must(t, unix.Mkfifo(filepath.Join(base, "p"), 0o600))
	big := bytes.Repeat([]byte("v"), 3000)
	set := func(name, attr string, value []byte) bool {
		err := unix.Lsetxattr(filepath.Join(base, name), attr, value, 0)
		if err != nil {
			t.Logf("%s on %s: %v", attr, name, err)
		}
		return err == nil
	}
	user := set("f", "user.z", []byte("1")) && set("f", "user.a", big) && set("f", "user.empty", nil) && set(".", "user.dir", []byte("d"))
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x01\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	hasACL := set("f", "system.posix_acl_access", acl)
	trusted := set("l", "trusted.link", []byte("t"))
	capability := set("f", "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))

	v := open(t, Options{Paths: []string{base}})
	got := map[string]catalog.Entry{}
	for name, s := range stats(t, v, base) {
		var e catalog.Entry
		s.Fill(&e)
		must(t, v.Attributes(s, &e))
		if e.Flags != 0 {
			t.Errorf("%s: flags %v", name, e.Flags)
		}
		if os.Getuid() == 0 && (e.User != "root" || e.Group != "root") {
			t.Errorf("%s: owner %q, %q", name, e.User, e.Group)
		}
		got[name] = e
	}
	if l := got["l"]; string(l.Target) != target {
		t.Errorf("target of %d bytes, want %d", len(l.Target), len(target))
	}
	want := func(have bool, name, attr string, value []byte) {
		i := slices.IndexFunc(got[name].Xattrs, func(x catalog.Xattr) bool { return x.Name == attr })
		if have && (i < 0 || !bytes.Equal(got[name].Xattrs[i].Value, value)) {
			t.Errorf("%s of %s is missing or wrong", attr, name)
		}
	}
	want(user, "f", "user.z", []byte("1"))
	want(user, "f", "user.a", big)
	want(user, "f", "user.empty", nil)
	want(user, ".", "user.dir", []byte("d"))
	want(trusted, "l", "trusted.link", []byte("t"))
	want(hasACL, "f", "system.posix_acl_access", acl)
	if x := got["f"].Xattrs; !slices.IsSortedFunc(x, func(a, b catalog.Xattr) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not sorted: %v", x)
	}
	if capability && len(got["f"].Xattrs) < 2 {
		t.Errorf("capability is missing: %v", got["f"].Xattrs)
	}
}

func TestDeviceNumbers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "null")
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("make a device: %v", err)
	}
	v := open(t, Options{Paths: []string{path}})
	var e catalog.Entry
	stats(t, v, filepath.Dir(path))["null"].Fill(&e)
	if e.Type != catalog.CharDevice || e.Rdev != 1<<32|3 {
		t.Errorf("%+v", e)
	}
}

func TestReadPastTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "0123456789")
	v := open(t, Options{Paths: []string{path}})
	f, err := v.Open(stats(t, v, filepath.Dir(path))["f"])
	must(t, err)
	defer f.Close()
	b := make([]byte, 4)
	if n, err := f.ReadAt(b, 6); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.ReadAt(b, 8); n != 2 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if all, err := io.ReadAll(io.NewSectionReader(f, 0, 10)); string(all) != "0123456789" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
}
