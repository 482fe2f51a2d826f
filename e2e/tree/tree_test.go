package tree

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
)

func privileged() bool { return os.Geteuid() == 0 }

// space is a directory that goes away with all that is in it.
func space(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := Remove(filepath.Join(dir, "tree")); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "tree")
}

func mustMake(t testing.TB, o Options) (string, Made) {
	t.Helper()
	dir := space(t)
	made, err := Make(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range made.Skipped {
		t.Log("left out:", s)
	}
	return dir, made
}

func take(t testing.TB, dir string) *Picture {
	t.Helper()
	p, err := Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func same(t testing.TB, want, got *Picture, ignore Ignore) {
	t.Helper()
	for i, d := range Compare(want, got, ignore) {
		if i == 20 {
			t.Fatal("and more")
		}
		t.Error(d)
	}
}

func TestMakeIsRepeatable(t *testing.T) {
	o := Options{Seed: 7, Privileged: privileged(), Image: true, Wide: 500, Deep: 60, PastPathMax: true}
	a, made := mustMake(t, o)
	b, _ := mustMake(t, o)
	same(t, take(t, a), take(t, b), Ignore{Paths: []string{"pages/disk.img"}})
	if made.HardLinks < 10 || made.Files < 850 || made.Fifos < 2 || made.Sockets != 1 {
		t.Errorf("made too little: %+v", made)
	}
	o.Seed++
	c, _ := mustMake(t, o)
	if len(Compare(take(t, a), take(t, c), Ignore{})) == 0 {
		t.Error("another seed made the same tree")
	}
}

func TestMakeUnprivileged(t *testing.T) {
	dir, made := mustMake(t, Options{Files: 20, Wide: 20, Deep: 20})
	if made.Devices != 0 {
		t.Errorf("%d devices without privilege", made.Devices)
	}
	for _, o := range take(t, dir).Objects {
		if o.Problem != "" {
			t.Errorf("%q: %s", o.Path, o.Problem)
		}
		if int(o.UID) != os.Geteuid() {
			t.Errorf("%q: owner %d", o.Path, o.UID)
		}
	}
}

func TestPictureHasAllKinds(t *testing.T) {
	o := Options{Privileged: privileged(), Files: 50, Wide: 10, Deep: 200, PastPathMax: true}
	dir, _ := mustMake(t, o)
	p := take(t, dir)
	longest := 0
	for _, o := range p.Objects {
		longest = max(longest, len(o.Path))
	}
	if longest < 3*unix.PathMax {
		t.Errorf("the longest path has only %d bytes", longest)
	}
	kinds := []string{"file", "directory", "symlink", "fifo", "socket"}
	if privileged() {
		kinds = append(kinds, "char device", "block device")
	}
	n := p.Count()
	for _, k := range kinds {
		if n[k] == 0 {
			t.Errorf("no %s", k)
		}
	}
	for path, want := range map[string]string{
		"sparse/all-hole": "no data", "sparse/hole-at-start": "393216+131072", "sparse/hole-in-middle": "0+65536 458752+65536",
		"sparse/hole-at-end": "0+196608", "sizes/zeros": "0+1048581",
	} {
		o, ok := p.Find(path)
		if !ok || describe(o.Data) != want {
			t.Errorf("%s: data %s, want %s", path, describe(o.Data), want)
		}
	}
	if o, _ := p.Find("lists/dir-both"); len(o.Xattrs[aclAccess]) == 0 || len(o.Xattrs[aclDefault]) == 0 {
		t.Error("lists/dir-both has no access lists")
	}
	if privileged() {
		if o, _ := p.Find("attributes/file-capability"); o.Xattrs["security.capability"] == "" || o.UID != 1 {
			t.Errorf("attributes/file-capability: %+v", o)
		}
	}
}

// TestCompareFindsEachDifference makes one change at a time and expects exactly
// the reports that it deserves.
func TestCompareFindsEachDifference(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(dir string) error
		want   []string // path: what
		root   bool
	}{
		{"nothing", func(string) error { return nil }, nil, false},
		{"byte", func(d string) error { return overwrite(d + "/file") }, []string{"file: contents"}, false},
		{"byte behind holes", func(d string) error { return overwriteAt(d+"/sparse", 10*blockBytes) }, []string{"sparse: contents"}, false},
		{"size", func(d string) error { return truncate(d+"/file", 4999) }, []string{"file: size", "file: contents"}, false},
		{"size of a hole", func(d string) error { return truncate(d+"/all-hole", 1<<20+1) }, []string{"all-hole: size"}, false},
		{"hole filled with zeros", func(d string) error { return fill(d + "/sparse") }, []string{"sparse: holes"}, false},
		{"zeros punched out", func(d string) error { return hole(d + "/zeros") }, []string{"zeros: holes"}, false},
		{"mode", func(d string) error { return unix.Chmod(d+"/file", 0o600) }, []string{"file: mode"}, false},
		{"setuid", func(d string) error { return unix.Chmod(d+"/file", 0o4644) }, []string{"file: mode"}, false},
		{"sticky directory", func(d string) error { return unix.Chmod(d+"/dir", 0o1755) }, []string{"dir: mode"}, false},
		{"mode of the root", func(d string) error { return unix.Chmod(d, 0o700) }, []string{".: mode"}, false},
		{"owner", func(d string) error { return os.Lchown(d+"/file", 1, -1) }, []string{"file: owner"}, true},
		{"group of a link", func(d string) error { return os.Lchown(d+"/link", -1, 1) }, []string{"link: owner"}, true},
		{"nanosecond", func(d string) error { return moveTime(d+"/file", 1) }, []string{"file: mtime"}, false},
		{"nanosecond of a directory", func(d string) error { return moveTime(d+"/dir", 1) }, []string{"dir: mtime"}, false},
		{"nanosecond of a link", func(d string) error { return moveTime(d+"/link", 1) }, []string{"link: mtime"}, false},
		{"nanosecond of a fifo", func(d string) error { return moveTime(d+"/fifo", 1) }, []string{"fifo: mtime"}, false},
		{"attribute changed", func(d string) error { return unix.Lsetxattr(d+"/file", "user.a", []byte("2"), 0) }, []string{`file: xattr "user.a"`}, false},
		{"attribute added", func(d string) error { return unix.Lsetxattr(d+"/dir", "user.b", nil, 0) }, []string{`dir: xattr "user.b"`}, false},
		{"attribute removed", func(d string) error { return unix.Lremovexattr(d+"/file", "user.a") }, []string{`file: xattr "user.a"`}, false},
		{"trusted attribute of a link", func(d string) error { return unix.Lsetxattr(d+"/link", "trusted.x", []byte("x"), 0) }, []string{`link: xattr "trusted.x"`}, true},
		{"default list", func(d string) error {
			return unix.Lsetxattr(d+"/dir", aclDefault, acl(aclEntry{aclUserObj, 7, aclNoID}, aclEntry{aclGroupObj, 5, aclNoID}, aclEntry{aclOther, 0, aclNoID}), 0)
		}, []string{`dir: xattr "system.posix_acl_default"`}, false},
		{"capability", func(d string) error {
			return unix.Lsetxattr(d+"/file", "security.capability", capability(1), 0)
		}, []string{`file: xattr "security.capability"`}, true},
		{"target", func(d string) error { return relink(d+"/link", "elsewhere") }, []string{"link: target"}, false},
		{"link broken up", func(d string) error { return apart(d + "/twin-2") }, []string{"twin-1: hard links", "twin-2: hard links"}, false},
		{"link made", func(d string) error { return again(d+"/alone-1", d+"/alone-2") }, []string{"alone-1: hard links", "alone-2: hard links"}, false},
		{"type", func(d string) error { return replaced(d+"/alone-1", 0o644|unix.S_IFIFO, 0) }, []string{"alone-1: type"}, false},
		{"device", func(d string) error { return replaced(d+"/device", 0o640|unix.S_IFCHR, int(unix.Mkdev(1, 5))) }, []string{"device: device"}, true},
		{"file missing", func(d string) error { return os.Remove(d + "/file") }, []string{"file: missing"}, false},
		{"directory missing", func(d string) error { return os.RemoveAll(d + "/dir") }, []string{"dir: missing", "dir/within: missing"}, false},
		{"file extra", func(d string) error { return os.WriteFile(d+"/dir/extra", nil, 0o644) }, []string{"dir/extra: extra"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			harness.Needs(t, !tt.root || privileged(), "root")
			a, b := space(t), space(t)
			for _, d := range []string{a, b} {
				if err := sample(d); err != nil {
					t.Fatal(err)
				}
			}
			before := times(t, b)
			if err := tt.change(b); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(tt.name, "nanosecond") {
				before(b)
			}
			all, err := CompareDirs(a, b, Ignore{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range all {
				got = append(got, d.Path+": "+d.What)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q\n%v", got, tt.want, all)
			}
		})
	}
}

// sample is a small tree with one object of each kind.
func sample(dir string) error {
	rng := rand.New(rand.NewPCG(1, 1))
	m := &maker{dir: dir, o: Options{Privileged: privileged()}.withDefaults(), rng: rng}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	m.plan(".", m.plain(0o755))
	withAttribute := m.plain(0o644)
	withAttribute.xattrs = []xattr{{"user.a", []byte("1")}}
	twin := m.plain(0o644)
	steps := []error{
		m.mkdir("dir"), m.file("dir/within", []byte("within")), m.fileAs("file", random(rng, 5000), withAttribute),
		m.symlink("file", "link"), m.node("fifo", unix.S_IFIFO, 0, &m.made.Fifos), m.fileAs("alone-1", []byte("x"), twin),
		m.fileAs("alone-2", []byte("x"), twin), m.file("twin-1", []byte("y")), m.link("twin-1", "twin-2"), m.file("zeros", make([]byte, 1<<20)),
		Sparse(m.at("sparse"), 20*blockBytes, []Span{{10 * blockBytes, blockBytes}}, rng), Sparse(m.at("all-hole"), 1<<20, nil, rng),
	}
	m.plan("sparse", m.plain(0o644))
	m.plan("all-hole", m.plain(0o644))
	if privileged() {
		steps = append(steps, m.node("device", unix.S_IFCHR, unix.Mkdev(1, 3), &m.made.Devices))
	}
	for _, err := range steps {
		if err != nil {
			return err
		}
	}
	return m.finish()
}

// times gives a function that puts all times under dir back.
func times(t *testing.T, dir string) func(string) {
	was := take(t, dir)
	return func(dir string) {
		for _, o := range slices.Backward(was.Objects) {
			when := unix.NsecToTimespec(o.MTime.UnixNano())
			err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, o.Path), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
}

func overwrite(path string) error { return overwriteAt(path, 2500) }

func overwriteAt(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}

func truncate(path string, size int64) error { return os.Truncate(path, size) }

func fill(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, blockBytes), 0)
	return err
}

func hole(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, blockBytes)
}

func moveTime(path string, by time.Duration) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	when := unix.NsecToTimespec(st.Mtim.Nano() + int64(by))
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

func apart(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func again(path, name string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return os.Link(path, name)
}

func replaced(path string, mode uint32, dev int) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return unix.Mknod(path, mode, dev)
}

func TestIgnore(t *testing.T) {
	a, b := space(t), space(t)
	for _, d := range []string{a, b} {
		if err := sample(d); err != nil {
			t.Fatal(err)
		}
	}
	err := fill(a + "/sparse")
	for _, e := range []error{err, replaced(b+"/twin-2", unix.S_IFSOCK|0o600, 0), os.WriteFile(b+"/dir/more", nil, 0o644),
		unix.Lsetxattr(b+"/alone-1", "user.more", nil, 0), unix.Chmod(b, 0o711)} {
		if e != nil {
			t.Fatal(e)
		}
	}
	want, got := take(t, a), take(t, b)
	left := []string{"sparse", "dir", "twin-2"}
	same(t, want, got, Ignore{Sockets: true, Root: true, Xattrs: []string{"user.more"}, Paths: left})
	if n := len(Compare(want, got, Ignore{})); n < 6 {
		t.Errorf("only %d differences", n)
	}
	same(t, want.Only("dir"), want.Only("dir"), Ignore{})
	if n := len(want.Only("dir").Objects); n != 2 {
		t.Errorf("dir has %d objects, want 2", n)
	}
}

func TestMutateEachKind(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(string(k), func(t *testing.T) {
			harness.Needs(t, k != Chown || privileged(), "root")
			dir, _ := mustMake(t, Options{Privileged: privileged(), Files: 60, Wide: 5, Deep: 5, Large: 1 << 16})
			before := take(t, dir)
			done, err := Mutate(dir, Mutation{Seed: 3, Each: 3, Kinds: []Kind{k}, Privileged: privileged()})
			if err != nil {
				t.Fatal(err)
			}
			if len(done) != 3 {
				t.Errorf("did %v", done)
			}
			if len(Compare(before, take(t, dir), Ignore{})) == 0 {
				t.Errorf("%v changed nothing", done)
			}
		})
	}
}

func TestMutateManyRounds(t *testing.T) {
	o := Options{Privileged: privileged(), Files: 60, Wide: 5, Deep: 100, PastPathMax: true, Large: 1 << 16}
	a, _ := mustMake(t, o)
	b, _ := mustMake(t, o)
	for seed := range uint64(3) {
		x, err := Mutate(a, Mutation{Seed: seed, Privileged: privileged()})
		if err != nil {
			t.Fatal(err)
		}
		y, err := Mutate(b, Mutation{Seed: seed, Privileged: privileged()})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x, y) {
			t.Fatal("the same seed did other things")
		}
	}
	var later []Difference // what the clock decided differs
	for _, d := range Compare(take(t, a), take(t, b), Ignore{}) {
		if d.What != "mtime" {
			later = append(later, d)
		}
	}
	if len(later) > 0 {
		t.Error(later)
	}
}

func TestBulk(t *testing.T) {
	dir := space(t)
	if err := Small(dir+"/small", 1000, 7, 1); err != nil {
		t.Fatal(err)
	}
	if err := Source(dir+"/source", 500, 1); err != nil {
		t.Fatal(err)
	}
	for path, write := range map[string]func(string, int64, uint64) error{"random": LargeRandom, "text": LargeText, "sparse": LargeSparse} {
		if err := write(filepath.Join(dir, path), 3<<20+17, 9); err != nil {
			t.Fatal(err)
		}
	}
	if err := Scatter(dir+"/random", 0.01, 1); err != nil {
		t.Fatal(err)
	}
	p := take(t, dir)
	if n := p.Count(); n["file"] != 1503 {
		t.Errorf("%d files, want 1503", n["file"])
	}
	if o, _ := p.Find("text"); o.Size != 3<<20+17 {
		t.Errorf("text has %d bytes", o.Size)
	}
}

// TestTextCompresses holds what benchmarks assume of the text.
func TestTextCompresses(t *testing.T) {
	zstd, err := exec.LookPath("zstd")
	harness.Needs(t, err == nil, "zstd")
	data := Text(rand.New(rand.NewPCG(1, 2)), 1<<20)
	cmd := exec.Command(zstd, "-1", "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if r := float64(len(data)) / float64(len(out)); r < 2.5 || r > 6 {
		t.Errorf("compresses %.1f : 1", r)
	} else {
		t.Logf("compresses %.1f : 1", r)
	}
}
