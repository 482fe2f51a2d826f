package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// smallTorture is a tree with one of everything, small enough for a test that
// restores it several times.
func smallTorture(t *testing.T, dir string, seed uint64) tree.Made {
	t.Helper()
	made, err := tree.Make(dir, tree.Options{Seed: seed, Privileged: harness.IsRoot(), Files: 60, Large: 1 << 20, Wide: 100, Deep: 30})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestRestoreParts restores one file, one directory, all but some, and nothing.
func TestRestoreParts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 41)
	s.init(t)
	s.backup(t, 0)
	whole := pictureOf(t, s.source())

	t.Run("a file", func(t *testing.T) {
		to := s.Path("file")
		d := s.restore(t, 0, to, "--path", s.source("names/\xff"))
		if d.Files.Restored != 1 || getFile(t, filepath.Join(to, "names/\xff")) != getFile(t, s.source("names/\xff")) {
			t.Errorf("restored %+v", d.Files)
		}
		onlyThese(t, to, ".", "names", "names/\xff")
	})
	t.Run("a directory", func(t *testing.T) {
		to := s.Path("directory")
		s.restore(t, 0, to, "--path", s.source("links"))
		reportAll(t, tree.Compare(whole.Only("links"), pictureOf(t, to).Only("links"), restorable()))
		onlyThese(t, to, ".", "links")
	})
	t.Run("relative and by glob", func(t *testing.T) {
		to := s.Path("relative")
		s.restore(t, 0, to, "--path", "sizes/random-4*", "--path", "empty/")
		onlyThese(t, to, ".", "empty", "sizes", "sizes/random-4095", "sizes/random-4096", "sizes/random-4097")
	})
	t.Run("all but", func(t *testing.T) {
		to := s.Path("but")
		s.restore(t, 0, to, "--exclude", s.source("files"), "--exclude", s.source("deep"), "--exclude", "random-*")
		ignore := restorable()
		ignore.Paths = []string{"files", "deep"}
		for _, o := range whole.Objects {
			if strings.HasPrefix(filepath.Base(o.Path), "random-") {
				ignore.Paths = append(ignore.Paths, o.Path)
			}
		}
		mustMatch(t, whole, to, ignore)
		for _, gone := range append(ignore.Paths, "files", "deep") {
			if !isGone(filepath.Join(to, gone)) {
				t.Errorf("%s was excluded and is there", gone)
			}
		}
	})
	t.Run("a hard link's other name", func(t *testing.T) {
		to := s.Path("linked")
		s.restore(t, 0, to, "--path", s.source("links/two"))
		reportAll(t, tree.Compare(whole.Only("links/two"), pictureOf(t, to).Only("links/two"), restorable()))
	})
	t.Run("no such path", func(t *testing.T) {
		to := s.Path("nothing")
		s.restore(t, 13, to, "--path", s.source("no such thing"))
		if !isGone(to) {
			t.Error("a restore that finds nothing made its target")
		}
	})
	t.Run("dry run", func(t *testing.T) {
		to := s.Path("dry")
		d := s.restore(t, 0, to, "--dry-run")
		if files := int64(whole.Count()["file"]); d.Plan.Files != files {
			t.Errorf("the plan has %d files, there are %d", d.Plan.Files, files)
		}
		if !isGone(to) {
			t.Error("a dry run made its target")
		}
		s.restore(t, 14, s.source(), "--dry-run") // as the real run would refuse
	})
	t.Run("from one region", func(t *testing.T) {
		d := s.restore(t, 0, s.Path("from-b"), "--region", "b")
		if d.Fetched["b"] == 0 || len(d.Fetched) != 1 {
			t.Errorf("--region b read %v", d.Fetched)
		}
	})
	t.Run("few bytes for one file", func(t *testing.T) {
		d := s.restore(t, 0, s.Path("few"), "--path", s.source("names/ leading"))
		var fetched int64
		for _, n := range d.Fetched {
			fetched += n
		}
		if fetched > 3<<20 {
			t.Errorf("one small file made it fetch %d bytes", fetched)
		}
	})
}

// onlyThese tells what is in a folder beside what should be. A path that is a
// directory brings all below it, unless a path below it is listed too.
func onlyThese(t *testing.T, dir string, want ...string) {
	t.Helper()
	for _, o := range pictureOf(t, dir).Objects {
		found := false
		for _, w := range want {
			below := func() bool {
				for _, other := range want {
					if other != w && strings.HasPrefix(other, w+"/") {
						return false
					}
				}
				return strings.HasPrefix(o.Path, w+"/")
			}
			if o.Path == w || w != "." && below() {
				found = true
			}
		}
		if !found {
			t.Errorf("%q was not asked for", o.Path)
		}
	}
	for _, w := range want {
		if isGone(filepath.Join(dir, w)) {
			t.Errorf("%q is missing", w)
		}
	}
}

// TestRestorePlaces: one path comes straight into the target with the path's own
// attributes on it, several come below it by their absolute paths, and a single
// file comes into it.
func TestRestorePlaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 42)
	if err := os.Chmod(s.source(), 0o751); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(s.source(), "user.root", []byte("of the tree"), 0); err != nil {
		t.Log("no attributes here:", err)
	}
	when := time.Unix(1234567890, 987654321)
	if err := os.Chtimes(s.source(), when, when); err != nil {
		t.Fatal(err)
	}
	one, two, file := s.Path("srv/one"), s.Path("srv/deep/two"), s.Path("srv/single.txt")
	for _, dir := range []string{one, two} {
		if _, err := tree.Make(dir, tree.Options{Seed: 43, Privileged: harness.IsRoot(), Files: 20, Large: 1 << 18, Wide: 20, Deep: 5}); err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, file, []byte("a file that is a workload's path"))
	s.Work = append(s.Work, siteWork{Name: "several", Paths: []string{one, two, file}}, siteWork{Name: "single", Paths: []string{s.Path("srv/alone.txt")}})
	putFile(t, s.Path("srv/alone.txt"), []byte("the only path"))
	s.init(t)
	s.backup(t, 0, "--all")

	t.Run("one path", func(t *testing.T) {
		want := pictureOf(t, s.source())
		to := s.Path("out-one")
		s.restore(t, 0, to)
		mustMatch(t, want, to, restorable())
		// Into a directory that is there and empty: it gets the attributes too.
		to = s.Path("out-made")
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		s.restore(t, 0, to)
		mustMatch(t, want, to, restorable())
	})
	t.Run("into a folder that hands on its access list", func(t *testing.T) {
		want, parent := pictureOf(t, s.source()), s.Path("hands-on")
		if err := os.Mkdir(parent, 0o2775); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("setfacl", "-d", "-m", "u:1234:rwx,g:77:r", parent).CombinedOutput(); err != nil {
			t.Skipf("setfacl: %v: %s", err, out)
		}
		to := filepath.Join(parent, "out")
		s.restore(t, 0, to)
		mustMatch(t, want, to, restorable())
	})
	t.Run("several paths", func(t *testing.T) {
		to := s.Path("out-several")
		s.run(t, 0, "restore", "several", "--to", to, "--identity-file", s.Kit)
		t.Cleanup(func() { _ = tree.Remove(to) })
		for _, path := range []string{one, two} {
			mustMatch(t, pictureOf(t, path), filepath.Join(to, path), restorable())
		}
		reportAll(t, tree.Compare(pictureOf(t, s.Path("srv")).Only("single.txt"), pictureOf(t, filepath.Join(to, s.Path("srv"))).Only("single.txt"), tree.Ignore{}))
		if got := pictureOf(t, filepath.Join(to, s.Path("srv"))); len(got.Only("alone.txt").Objects) > 0 {
			t.Error("another workload's file came along")
		}
	})
	t.Run("one path of several", func(t *testing.T) {
		to := s.Path("out-part")
		s.run(t, 0, "restore", "several", "--to", to, "--identity-file", s.Kit, "--path", two)
		t.Cleanup(func() { _ = tree.Remove(to) })
		mustMatch(t, pictureOf(t, two), filepath.Join(to, two), restorable())
		if !isGone(filepath.Join(to, one)) {
			t.Error("what was not asked for came along")
		}
	})
	t.Run("a file as the only path", func(t *testing.T) {
		to := s.Path("out-single")
		s.run(t, 0, "restore", "single", "--to", to, "--identity-file", s.Kit)
		if got := getFile(t, filepath.Join(to, "alone.txt")); got != "the only path" {
			t.Errorf("restored %q", got)
		}
	})
}

// TestRestoreOverwrite: what is in the target stays unless the user says otherwise.
func TestRestoreOverwrite(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 44)
	s.init(t)
	s.backup(t, 0)
	want := pictureOf(t, s.source())
	to := s.Path("target")
	s.restore(t, 0, to)

	// A directory in a file's place is not removed: that would delete what the
	// user may have in it.
	kinds := slices.DeleteFunc(tree.Kinds(), func(k tree.Kind) bool { return k == tree.ToDir })
	if _, err := tree.Mutate(to, tree.Mutation{Seed: 45, Kinds: kinds, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	putFile(t, filepath.Join(to, "extra/of the user"), []byte("stays"))
	changed := pictureOf(t, to)
	s.restore(t, 14, to)
	s.restore(t, 14, to, "--overwrite", "never")
	reportAll(t, tree.Compare(changed, pictureOf(t, to), tree.Ignore{}))

	before := pictureOf(t, to)
	d := s.restore(t, 0, to, "--overwrite", "if-changed")
	after := pictureOf(t, to)
	// What only the user has stays, and so its folders' times may differ.
	reportAll(t, tree.Compare(want, remaining(after, want), restorable()))
	if getFile(t, filepath.Join(to, "extra/of the user")) != "stays" {
		t.Error("a file that the snapshot does not have was touched")
	}
	if d.Files.Kept == 0 {
		t.Errorf("nothing was kept: %+v", d.Files)
	}
	rewritten := 0
	for _, o := range before.Objects {
		now, ok := after.Find(o.Path)
		was, had := want.Find(o.Path)
		if ok && had && o.Type() == "file" && now.Inode != o.Inode && was.Sum == o.Sum && was.MTime.Equal(o.MTime) && was.Mode == o.Mode && was.Size == o.Size && o.Group == "" {
			rewritten++
			if rewritten < 5 {
				t.Logf("%q was written again though nothing differed", o.Path)
			}
		}
	}
	if rewritten > 5 {
		t.Errorf("if-changed wrote %d files again that had not changed", rewritten)
	}

	if _, err := tree.Mutate(to, tree.Mutation{Seed: 46, Kinds: kinds, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	d = s.restore(t, 0, to, "--overwrite", "always")
	reportAll(t, tree.Compare(want, remaining(pictureOf(t, to), want), restorable()))
	if files := int64(want.Count()["file"]); d.Files.Kept > 0 {
		t.Errorf("always kept %d of %d files", d.Files.Kept, files)
	}
	if getFile(t, filepath.Join(to, "extra/of the user")) != "stays" {
		t.Error("a file that the snapshot does not have was touched")
	}

	wipeAll(t, filepath.Join(to, "names/ab"))
	putFile(t, filepath.Join(to, "names/ab/of the user"), []byte("stays"))
	d = s.restore(t, 3, to, "--overwrite", "always")
	if d.Files.Failed != 1 || len(d.Problems) != 1 || d.Problems[0].Item != "names/ab" || getFile(t, filepath.Join(to, "names/ab/of the user")) != "stays" {
		t.Errorf("a directory in a file's place: %+v, %v", d.Files, d.Problems)
	}
}

// remaining is the part of a picture that the other has too.
func remaining(p, of *tree.Picture) *tree.Picture {
	there := map[string]bool{}
	for _, o := range of.Objects {
		there[o.Path] = true
	}
	var part tree.Picture
	for _, o := range p.Objects {
		if there[o.Path] {
			part.Objects = append(part.Objects, o)
		}
	}
	return &part
}

// TestRestoreResume kills a restore several times on its way. Each time it goes
// on, and in the end nothing is missing, doubled or outside the target.
func TestRestoreResume(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	if _, err := tree.Make(s.source(), tree.Options{Seed: 47, Privileged: harness.IsRoot(), Files: 300, Large: 24 << 20, Wide: 300, Deep: 30}); err != nil {
		t.Fatal(err)
	}
	s.init(t)
	s.backup(t, 0)
	want := pictureOf(t, s.source())
	wipeAll(t, s.source())
	around := pictureOf(t, s.Path())

	to := s.Path("resumed")
	t.Cleanup(func() { _ = tree.Remove(to) })
	args := []string{"restore", "files", "--to", to, "--identity-file", s.Kit, "--json"}
	proxy.Latency(60 * time.Millisecond)
	for kill := range 3 {
		before := objectsIn(to)
		p := s.Start(args...)
		harness.WaitFor(t, "the restore to write something", func() error {
			if n := objectsIn(to); n <= before+5 && !ended(p) {
				return fmt.Errorf("%d objects, %d before", n, before)
			}
			return nil
		})
		p.Kill()
		r := p.Wait()
		t.Logf("kill %d: exit %d, %d objects in the target", kill+1, r.Code, objectsIn(to))
		if r.Code == 0 {
			break
		}
		if kill == 0 {
			s.run(t, 14, args...) // what is there is not overwritten unless that is asked for
			args = append(args, "--resume")
		}
	}
	proxy.Latency(0)
	s.run(t, 0, args...)
	mustMatch(t, want, to, restorable())
	ignore := restorable()
	ignore.Root = true
	ignore.Paths = []string{"resumed", "tmp", "cache", "run", "lifeboat-cache", "lifeboat-state"}
	reportAll(t, tree.Compare(around, pictureOf(t, s.Path()), ignore))
	s.run(t, 14, "restore", "files", "--to", to, "--identity-file", s.Kit)
}

// ended tells whether a process has ended.
func ended(p *harness.Process) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// objectsIn counts what is below a folder, as far as it can be seen.
func objectsIn(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, _ os.DirEntry, err error) error {
		if err == nil {
			n++
		}
		return nil
	})
	return n
}

// TestRestoreUntrusted drops what a hostile snapshot could harm a host with, and
// nothing else.
func TestRestoreUntrusted(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to make devices")
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 48)
	s.init(t)
	s.backup(t, 0)
	want := pictureOf(t, s.source())
	to := s.Path("untrusted")
	d := s.restore(t, 0, to, "--untrusted")
	got := pictureOf(t, to)
	var plain, dropped tree.Picture
	for _, o := range want.Objects {
		switch o.Mode & unix.S_IFMT {
		case unix.S_IFCHR, unix.S_IFBLK:
			dropped.Objects = append(dropped.Objects, o)
			continue
		}
		if o.Mode&unix.S_IFMT == unix.S_IFREG {
			o.Mode &^= unix.S_ISUID | unix.S_ISGID
		}
		if o.Mode&unix.S_IFMT == unix.S_IFDIR {
			got, ok := got.Find(o.Path)
			if ok && got.Mode&unix.S_ISUID == 0 {
				o.Mode &^= unix.S_ISUID // on a directory it does nothing; both are right
			}
			if ok && got.Mode&unix.S_ISGID == 0 {
				o.Mode &^= unix.S_ISGID
			}
		}
		plain.Objects = append(plain.Objects, o)
	}
	ignore := restorable()
	ignore.Xattrs = []string{"security.", "trusted."}
	reportAll(t, tree.Compare(&plain, got, ignore))
	for _, o := range got.Objects {
		for name := range o.Xattrs {
			if strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.") {
				t.Errorf("%q has %s", o.Path, name)
			}
		}
	}
	if d.Dropped == nil || d.Dropped.Device != int64(len(dropped.Objects)) || d.Dropped.Mode == 0 || d.Dropped.Xattr == 0 {
		t.Errorf("dropped %+v, there are %d devices", d.Dropped, len(dropped.Objects))
	}
}

// plainUser is who runs the program where it must not be root.
const plainUser = 48123

// asPlainUser runs the program as a user without any privilege, in a host that
// is his. It gives the exit code and both outputs.
func asPlainUser(t *testing.T, s *site, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	harness.Needs(t, harness.IsRoot(), "root, to become another user")
	binary := s.Path("lifeboat")
	if isGone(binary) {
		if err := copyOf(harness.Binary(t), binary); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{s.Dir, filepath.Dir(s.Dir)} { // test folders are closed to others
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command(binary, append(append([]string(nil), s.Flags...), args...)...)
	var out, errs strings.Builder
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.Env, s.Dir, &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: plainUser, Gid: plainUser}}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func copyOf(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// give makes a user the owner of folders and all they hold.
func give(t *testing.T, uid int, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, uid)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreUnprivileged: who is not root gets all that he can have. What could
// not be set is counted and named, and --strict makes it exit 3.
func TestRestoreUnprivileged(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to become another user")
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 49)
	s.init(t)
	s.backup(t, 0)
	want := pictureOf(t, s.source())
	home := s.Path("plain")
	for _, dir := range []string{home, s.Home} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A cold start needs to read regions, and a kit of one's own.
	if err := copyOf(s.Kit, filepath.Join(home, "kit.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(home, "kit.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, plainUser, home, s.Home, s.Path("regions"), s.Path("config"), s.Path("state"), s.Path("cache"), s.Path("run"), s.Path("tmp"))
	s.Flags = []string{"--repo", s.Regions[0].URL, "--identity-file", filepath.Join(home, "kit.txt")}

	to := filepath.Join(home, "restored")
	code, stdout, stderr := asPlainUser(t, s, "restore", "files", "--to", to, "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s %s", code, stdout, stderr)
	}
	var d restoreResult
	dataOf(t, &harness.Result{Stdout: []byte(stdout)}, &d)
	if d.NotSet == nil || d.NotSet.Owner == 0 || d.NotSet.Device == 0 || d.NotSet.Xattr == 0 || len(d.NotSet.Names) == 0 {
		t.Errorf("not set: %+v", d.NotSet)
	}
	got := pictureOf(t, to)
	var can tree.Picture
	for _, o := range want.Objects {
		if o.Mode&unix.S_IFMT == unix.S_IFBLK || o.Mode&unix.S_IFMT == unix.S_IFCHR && o.Rdev != 0 { // anybody may make 0:0
			continue
		}
		if o.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && (o.UID != plainUser || o.GID != plainUser) {
			// Whose file cannot be given back must not be setuid for another.
			if r, ok := got.Find(o.Path); ok {
				o.Mode = o.Mode&^(unix.S_ISUID|unix.S_ISGID) | r.Mode&(unix.S_ISUID|unix.S_ISGID)
			}
		}
		can.Objects = append(can.Objects, o)
	}
	ignore := restorable()
	ignore.Owners = true
	ignore.Xattrs = []string{"security.", "trusted."}
	reportAll(t, tree.Compare(&can, got, ignore))
	for _, o := range got.Objects {
		if o.Mode&unix.S_ISUID != 0 && o.Type() == "file" {
			t.Errorf("%q was root's and setuid, and is now setuid for %d", o.Path, o.UID)
		}
	}

	code, stdout, _ = asPlainUser(t, s, "restore", "files", "--to", filepath.Join(home, "strict"), "--strict", "--json")
	if code != 3 {
		t.Errorf("--strict: exit %d: %s", code, stdout)
	}
	// What has nothing special is restored without any remark, even strictly.
	code, stdout, _ = asPlainUser(t, s, "restore", "files", "--to", filepath.Join(home, "easy"), "--strict", "--no-owner", "--path", s.source("sizes"), "--json")
	if code != 0 {
		t.Errorf("a part without specials: exit %d: %s", code, stdout)
	}
}

// TestRestoreAt goes back to a time, by flag and by reference.
func TestRestoreAt(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	s.init(t)
	first := s.backup(t, 0)
	harness.WaitFor(t, "the next second", func() error {
		if time.Since(first.At) < 1100*time.Millisecond {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	between := time.Now()
	harness.WaitFor(t, "the second after", func() error {
		if time.Since(between) < 1100*time.Millisecond {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	putFile(t, s.source("file"), []byte("two"))
	second := s.backup(t, 0)
	if !first.At.Before(between) || !second.At.After(between) {
		t.Fatalf("points %v and %v around %v", first.At, second.At, between)
	}
	n := 0
	back := func(want string, args ...string) {
		t.Helper()
		n++
		to := s.Path(fmt.Sprint("at-", n))
		s.restore(t, 0, to, args...)
		if got := getFile(t, filepath.Join(to, "file")); got != want {
			t.Errorf("%q gave %q, want %q", args, got, want)
		}
	}
	at := between.UTC().Format(time.RFC3339)
	back("one", "--at", at)
	back("one", "--at", between.UTC().Format("2006-01-02 15:04:05"))
	back("one", "--at", between.In(time.FixedZone("", 2*3600)).Format(time.RFC3339))
	back("one", "--snapshot", "files@"+at)
	back("one", "--snapshot", first.Snapshot)
	back("one", "--snapshot", first.Snapshot[:10])
	back("one", "--snapshot", "latest~1")
	back("two", "--at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	back("two", "--at", second.At.Format(time.RFC3339Nano)) // exactly its own time
	back("two", "--snapshot", "latest")
	back("two")
	s.restore(t, 13, s.Path("before all"), "--at", "2001-01-01T00:00:00Z")
	s.restore(t, 13, s.Path("too far"), "--snapshot", "latest~2")
	s.restore(t, 64, s.Path("both"), "--at", at, "--snapshot", "latest")
	if got := string(s.run(t, 0, "cat", "files@"+at+":"+s.source("file"), "--identity-file", s.Kit).Stdout); got != "one" {
		t.Errorf("cat at %s gave %q", at, got)
	}
	if got := string(s.run(t, 0, "cat", "latest:"+s.source("file"), "--identity-file", s.Kit).Stdout); got != "two" {
		t.Errorf("cat of the latest gave %q", got)
	}
}
