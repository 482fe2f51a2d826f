package restore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

func TestTargets(t *testing.T) {
	m := newMemory()
	m.file("a", []byte("a"))
	top := t.TempDir()
	in := func(elements ...string) string { return filepath.Join(append([]string{top}, elements...)...) }
	os.Mkdir(in("full"), 0o755)
	os.WriteFile(in("full", "x"), nil, 0o644)
	os.MkdirAll(in("region", "packs"), 0o755)
	os.Symlink(in("region"), in("link"))
	os.Symlink(in("nowhere"), in("dangling"))
	os.Mkdir(in("other"), 0o755)
	os.Symlink(in("region"), in("other", "to-region"))
	os.MkdirAll(in("fresh", "lost+found"), 0o700)
	refuse := []string{in("region")}
	for _, tt := range []struct {
		o    Options
		want error
	}{
		{Options{Target: in("new")}, nil},
		{Options{Target: in("deep", "er", "new")}, nil},
		{Options{Target: in("fresh")}, nil},
		{Options{Target: in("full")}, ErrNotEmpty},
		{Options{Target: in("full"), Overwrite: IfChanged}, nil},
		{Options{Target: in("full", "x")}, ErrTarget},
		{Options{Target: in("full", "x", "y")}, syscall.ENOTDIR},
		{Options{Target: in("link")}, ErrTarget},
		{Options{Target: in("link") + "/"}, ErrTarget},
		{Options{Target: in("dangling")}, ErrTarget},
		{Options{Target: in("dangling", "x")}, ErrTarget},
		{Options{Target: in("region")}, ErrTarget},
		{Options{Target: in("region", "new", "er")}, ErrTarget},
		{Options{Target: in("other", "to-region", "new")}, ErrTarget},
		{Options{Target: "/"}, ErrTarget},
		{Options{}, ErrOptions},
	} {
		tt.o.Refuse = refuse
		_, err := restoreTo(t, m, tt.o)
		if tt.want == nil && err != nil || !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", tt.o.Target, err, tt.want)
		}
	}
	if names, _ := os.ReadDir(in("region")); len(names) != 1 {
		t.Errorf("the region has %v", names)
	}
}

func TestAroundRefused(t *testing.T) {
	m := newMemory()
	m.file("x/region/packs/p", []byte("junk"))
	m.file("x/ok", []byte("ok"))
	m.sort()
	top := t.TempDir()
	os.MkdirAll(filepath.Join(top, "x/region"), 0o755)
	res := mustRestore(t, m, Options{Target: top, Overwrite: Always, Refuse: []string{filepath.Join(top, "x/region")}})
	if res.Files != 1 || res.ByKind[Outside] != 1 {
		t.Errorf("%+v", res)
	}
	if names, _ := os.ReadDir(filepath.Join(top, "x/region")); len(names) != 0 {
		t.Errorf("the region has %v", names)
	}
}

func TestPlanWritesNothing(t *testing.T) {
	m := tree(t)
	target := filepath.Join(t.TempDir(), "new")
	p, err := NewPlan(t.Context(), m.all, Options{Target: target, StripPrefix: []byte("srv/files")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("the plan made the target")
	}
	var b bytes.Buffer
	if n, err := p.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Error(n, err)
	}
	for _, want := range []string{target, "to be made", "4 directories", "free"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if p.Files+p.Dirs+p.Symlinks+p.Fifos+p.Devices != int64(len(m.entries)) || p.Bytes < 300_000 {
		t.Errorf("%+v", p)
	}
	big := newMemory()
	big.file("a", pattern(1, 100), 1).Size = 1 << 50
	big.entries[0].IDPages, big.entries[0].Chunks = true, make([]pack.ChunkID, 1<<20)
	if _, err := NewPlan(t.Context(), big.all, Options{Target: target}); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
}

func TestOverwrite(t *testing.T) {
	m := newMemory()
	m.dir("d", 0o755)
	for _, name := range []string{"d/changed", "d/missing", "d/same", "d/touched", "d/was-dir", "d/was-link", "d/was-fifo"} {
		m.file(name, []byte("from the snapshot")).MTime = someTime
	}
	m.add(catalog.Entry{Path: []byte("d/link"), Type: catalog.Symlink, Target: []byte("new"), Mode: 0o777, MTime: someTime})
	m.dir("e", 0o755)
	m.file("e/x", []byte("x"))
	m.sort()
	for _, tt := range []struct {
		when           Overwrite
		resume         bool
		verify         Verify
		files, kept    int64
		failed, exists int64
	}{
		{Never, true, VerifyNone, 1, 2, 6, 6}, // e is a symlink: two entries
		{IfChanged, false, VerifyNone, 5, 2, 1, 1},
		{IfChanged, false, VerifyFull, 6, 1, 1, 1},
		{Always, false, VerifyNone, 7, 0, 1, 1},
	} {
		t.Run(fmt.Sprintf("%d", tt.when), func(t *testing.T) {
			top := t.TempDir()
			secret := filepath.Join(t.TempDir(), "secret")
			os.WriteFile(secret, []byte("secret"), 0o600)
			in := func(name string) string { return filepath.Join(top, name) }
			os.MkdirAll(in("d/was-dir/full"), 0o755)
			for name, what := range map[string]string{"same": "from the snapshot", "changed": "old", "touched": "FROM THE SNAPSHOT"} {
				os.WriteFile(in("d/"+name), []byte(what), 0o644)
				stamp := time.Unix(0, someTime)
				os.Chtimes(in("d/"+name), stamp, stamp)
			}
			os.Symlink(secret, in("d/was-link"))
			unix.Mkfifo(in("d/was-fifo"), 0o600)
			os.Symlink("old", in("d/link"))
			os.Symlink(filepath.Dir(secret), in("e"))
			res := mustRestore(t, m, Options{Target: top, Overwrite: tt.when, Resume: tt.resume, Verify: tt.verify, NewHash: newHash})
			if res.Files != tt.files || res.Kept != tt.kept {
				t.Errorf("%d files, %d kept, %d failed: %v", res.Files, res.Kept, res.Failed, res.Problems)
			}
			if tt.when != Never && (res.Failed != tt.failed || res.ByKind[Exists] != tt.exists) {
				t.Errorf("%d failed: %v", res.Failed, res.Problems)
			}
			if data, _ := os.ReadFile(secret); string(data) != "secret" {
				t.Error("followed a symlink")
			}
			if names, _ := os.ReadDir(filepath.Dir(secret)); len(names) != 1 {
				t.Error("followed a symlink to a directory")
			}
			noTemps(t, top)
		})
	}
}

func TestUntrusted(t *testing.T) {
	m := newMemory()
	m.file("suid", []byte("x")).Mode = 0o6755
	m.dir("sgid", 0o2755)
	m.add(catalog.Entry{Path: []byte("dev"), Type: catalog.CharDevice, Mode: 0o666, Rdev: 1<<32 | 3})
	x := m.file("x", nil)
	x.Xattrs = []catalog.Xattr{{Name: "security.capability", Value: []byte("x")}, {Name: "trusted.x", Value: []byte("x")}, {Name: "user.x", Value: []byte("x")}}
	m.sort()
	dir := t.TempDir()
	res := mustRestore(t, m, Options{Target: dir, Untrusted: true, NoOwner: true})
	if !res.Complete() || res.Dropped.Mode != 2 || res.Dropped.Device != 1 || res.Dropped.Xattr != 2 {
		t.Errorf("%+v", res)
	}
	if info, err := os.Stat(filepath.Join(dir, "suid")); err != nil || info.Mode() != 0o755 {
		t.Error(info, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "dev")); err == nil {
		t.Error("a device was made")
	}
}

// again runs this test once more in a process of its own, as nobody if asked to, with
// arguments. It gives nil in that process.
func again(t *testing.T, nobody bool, args ...string) *exec.Cmd {
	t.Helper()
	if flag.NArg() > 0 {
		return nil
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=^" + t.Name() + "$", "--"}, args...)...)
	if nobody && os.Geteuid() == 0 {
		// The binary's own directory may be closed to others.
		exe, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { exe.Close() })
		cmd.ExtraFiles = []*os.File{exe}
		cmd.Path = "/proc/self/fd/3"
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return cmd
}

// openDirFor makes a directory that nobody may write to.
func openDirFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "restore-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWithoutRoot(t *testing.T) {
	if flag.NArg() == 0 {
		cmd := again(t, true, openDirFor(t))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := filepath.Join(flag.Arg(0), "target")
	m := newMemory()
	m.dir("d", 0o500)
	m.dir("d/closed", 0)
	m.file("d/closed/f", []byte("f"))
	m.file("d/mine", []byte("x")).Mode = 0o4755
	m.file("theirs", []byte("x")).Mode = 0o4755
	l := m.file("zz", []byte("linked"))
	l.Links, l.Inode = 2, 1
	l2 := *l
	l2.Path = []byte("d/closed/zz")
	m.add(l2)
	m.add(catalog.Entry{Path: []byte("dev"), Type: catalog.CharDevice, Mode: 0o666, Rdev: 1<<32 | 3})
	m.add(catalog.Entry{Path: []byte("sym"), Type: catalog.Symlink, Target: []byte("x")})
	m.file("x", nil).Xattrs = []catalog.Xattr{{Name: "trusted.x", Value: []byte("x")}}
	for i := range m.entries {
		if p := string(m.entries[i].Path); p != "theirs" {
			m.entries[i].UID, m.entries[i].GID = uint32(os.Geteuid()), uint32(os.Getegid())
		}
	}
	m.sort()
	for _, resume := range []bool{false, true} {
		res := mustRestore(t, m, Options{Target: dir, Resume: resume})
		n := res.NotSet
		if !res.Complete() || n.Owner != 1 || n.Mode != 1 || n.Device != 1 || n.Xattr != 1 || len(n.Names) != 4 {
			t.Errorf("%+v", res)
		}
		for path, want := range map[string]os.FileMode{"d": os.ModeDir | 0o500, "d/mine": 0o755 | os.ModeSetuid, "theirs": 0o755} {
			if info, err := os.Lstat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
				t.Errorf("%s: %v %v", path, info.Mode(), err)
			}
		}
	}
	os.Mkdir(filepath.Join(flag.Arg(0), "closed"), 0o500)
	for _, path := range []string{"closed", "closed/new"} {
		if _, err := restoreTo(t, m, Options{Target: filepath.Join(flag.Arg(0), path)}); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", path, err)
		}
	}
	os.Chmod(filepath.Join(dir, "d"), 0o700)
	os.Chmod(filepath.Join(dir, "d/closed"), 0o700)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=200"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	m := newMemory()
	for i := range 100 {
		m.file(fmt.Sprintf("f%d", i), pattern(uint64(i), 30_000), 10_000, 10_000)
	}
	m.sort()
	if _, err := restoreTo(t, m, Options{Target: dir}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the plan does not see it: %v", err)
	}
	// In a target where something could be reused, the plan only warns.
	os.WriteFile(filepath.Join(dir, "x"), nil, 0o644)
	p, err := NewPlan(t.Context(), m.all, Options{Target: dir, Resume: true})
	if err != nil || !p.Short {
		t.Fatal(err, p)
	}
	res, err := p.Run(t.Context(), m.all, m)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir) || res.Bytes == 0 {
		t.Errorf("%v, %+v", err, res)
	}
	noTemps(t, dir)
	many := newMemory()
	for i := range 300 {
		many.file(fmt.Sprintf("g%d", i), nil)
	}
	many.sort()
	if p, err = NewPlan(t.Context(), many.all, Options{Target: dir, Resume: true}); err != nil || !p.Short {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), many.all, many); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreTo(t, m, Options{Target: filepath.Join(dir, "new")}); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
}

// TestKilled kills a restore at several moments, and resumes it.
func TestKilled(t *testing.T) {
	m := newMemory()
	for d := range 10 {
		m.dir(fmt.Sprintf("d%d", d), 0o755)
		for i := range 20 {
			m.file(fmt.Sprintf("d%d/small%d", d, i), pattern(uint64(i), 3000))
			m.file(fmt.Sprintf("d%d/big%d", d, i), pattern(uint64(i), 50_000), 9000, 9000, 9000)
			h := m.file(fmt.Sprintf("d%d/hard%d", d, i), []byte("hard"))
			h.Inode, h.Links, h.MTime = uint64(i), 10, someTime
		}
	}
	m.sort()
	if flag.NArg() > 0 {
		restoreTo(t, m, Options{Target: flag.Arg(0), Resume: true})
		return
	}
	dir := filepath.Join(t.TempDir(), "target")
	for round := range 12 {
		cmd := again(t, false, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Kill it when it has made so many files: no clocks.
		waitFor(t, cmd, dir, 60*round)
		cmd.Process.Kill()
		cmd.Wait()
		for i := range m.entries {
			e := &m.entries[i]
			if path := filepath.Join(dir, string(e.Path)); e.Type == catalog.File {
				if _, err := os.Lstat(path); err == nil {
					checkContents(t, path, m, e)
				}
			}
		}
		if round%4 == 3 {
			mustComplete(t, m, Options{Target: dir, Resume: true})
			for i := range m.entries {
				m.entries[i].UID, m.entries[i].GID = uint32(os.Geteuid()), uint32(os.Getegid())
			}
			check(t, dir, m, "")
			os.RemoveAll(dir)
		}
	}
}

// waitFor waits until a directory holds so many names, or a process has ended.
func waitFor(t *testing.T, cmd *exec.Cmd, dir string, want int) {
	deadline := time.Now().Add(2 * time.Minute) // the race detector, on a busy machine
	for time.Now().Before(deadline) {
		n := 0
		filepath.WalkDir(dir, func(string, os.DirEntry, error) error { n++; return nil })
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if n > want || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
	}
	t.Error("the restore makes no progress")
}
