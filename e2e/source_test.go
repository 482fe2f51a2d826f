package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// noise is n bytes that do not compress.
func noiseOf(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed, 0xe2}).Read(b)
	return b
}

// TestUnreadable: what the user may not read is counted and named, the run exits
// 3, and the rest is safe. Once it can be read it is.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to become another user")
	s := newSite(t, "a", "b")
	put := func(name, text string, mode os.FileMode) {
		putFile(t, s.source(name), []byte(text))
		if err := os.Chmod(s.source(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("open", "everybody reads this", 0o644)
	put("closed\nfile", "root's own", 0o600)
	put("locked/inside", "in a folder of root's", 0o644)
	put("listed/inside", "in a folder that cannot be entered", 0o644)
	for name, mode := range map[string]os.FileMode{"locked": 0o700, "listed": 0o744} {
		if err := os.Chmod(s.source(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	s.configure(t)
	give(t, plainUser, s.Home, s.Path("regions"), s.Path("config"), s.Path("state"), s.Path("cache"), s.Path("run"), s.Path("tmp"), s.Path("lifeboat.yaml"))
	for _, dir := range []string{"lifeboat-state", "lifeboat-cache", "kit"} {
		if err := os.Mkdir(s.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		give(t, plainUser, s.Path(dir))
	}
	s.Kit = s.Path("kit/kit.txt")
	plain := func(want int, args ...string) backupResult {
		t.Helper()
		code, stdout, stderr := asPlainUser(t, s, append(args, "--json")...)
		if code != want {
			t.Fatalf("%q: exit %d, want %d: %s %s", args, code, want, stdout, stderr)
		}
		var b backupResult
		dataOf(t, &harness.Result{Stdout: []byte(stdout)}, &b)
		return b
	}
	plain(0, "init", "--yes", "--kit", s.Kit)
	for _, run := range []string{"first", "incremental"} {
		b := plain(3, "backup", "files")
		if b.Stats.Unreadable != 3 || len(b.Errors) != 3 || !b.names("/closed\nfile") || !b.names("/locked") || !b.names("/listed/inside") {
			t.Errorf("%s: %d unreadable: %q", run, b.Stats.Unreadable, b.Errors)
		}
		if b.Snapshot == "" || b.state("a") != "committed" {
			t.Errorf("%s: what could be read was not kept: %+v", run, b)
		}
	}
	to := s.Path("kit/restored")
	// The snapshot says itself that it lacks something.
	if code, stdout, stderr := asPlainUser(t, s, "restore", "files", "--to", to, "--identity-file", s.Kit); code != 3 {
		t.Fatalf("restore: exit %d: %s %s", code, stdout, stderr)
	}
	if got := getFile(t, filepath.Join(to, "open")); got != "everybody reads this" {
		t.Errorf("restored %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(to, "closed\nfile")); err == nil {
		t.Errorf("an unreadable file came back as %d bytes, and looks like a good one", len(b))
	}
	// Also when only a folder of the selection could not be listed, or there is not even an entry.
	for i, flags := range [][]string{{"--path", s.source("locked")}, {"--exclude", "closed*"}} {
		out := s.Path("kit/part" + strconv.Itoa(i))
		code, stdout, stderr := asPlainUser(t, s, append([]string{"restore", "files", "--to", out, "--identity-file", s.Kit}, flags...)...)
		if code != 3 || !strings.Contains(stderr, `"locked": unreadable at the source`) {
			t.Errorf("restore %q: exit %d: %s %s", flags, code, stdout, stderr)
		}
	}
	for _, name := range []string{"closed\nfile", "locked"} {
		if err := os.Chmod(s.source(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plain(3, "backup", "files")
	code, stdout, stderr := asPlainUser(t, s, "restore", "files", "--to", s.Path("kit/absent"), "--identity-file", s.Kit)
	if code != 3 || !strings.Contains(stderr, "the snapshot lacks 1 items of its source") {
		t.Errorf("restore of a snapshot without an entry of what it lacks: exit %d: %s %s", code, stdout, stderr)
	}
	for name, mode := range map[string]os.FileMode{"closed\nfile": 0o644, "locked": 0o755, "listed": 0o755} {
		if err := os.Chmod(s.source(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if b := plain(0, "backup", "files"); b.Stats.Unreadable != 0 || b.Stats.BytesRead == 0 {
		t.Errorf("now that all is readable: %+v", b.Stats)
	}
	s.run(t, 0, "restore", "files", "--to", s.Path("all"), "--identity-file", s.Kit)
	mustMatch(t, pictureOf(t, s.source()), s.Path("all"), tree.Ignore{})
}

// TestLeftOut: globs, marker files, cache tags and mount points leave out what
// they should, and only that.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to mount a file system")
	s := newSite(t, "a", "b")
	tag := "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"
	files := map[string]string{
		"keep/file": "kept", "keep/file.tmp": "by base name", "keep/deep/x.tmp/inside": "below a base name", "keep/file.tmpx": "kept",
		"build/out/a.o": "by path", "build/source.c": "kept", "other/build/out/a.o": "kept", "any/where/node_modules/m.js": "by double star",
		"marked/.nobackup": "", "marked/file": "by marker", "marked/sub/file": "by marker", "marked-not/nobackup": "kept",
		"cache/CACHEDIR.TAG": tag, "cache/file": "by tag", "cache/sub/file": "by tag",
		"tagged-not/CACHEDIR.TAG": "Signature: none\n", "tagged-not/file": "kept", "odd[1]/file": "kept", "odd1/file": "by glob",
	}
	for name, text := range files {
		putFile(t, s.source(name), []byte(text))
	}
	mount := s.source("mounted")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m,mode=0711"); err != nil {
		harness.Needs(t, false, "a right to mount: "+err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	putFile(t, filepath.Join(mount, "elsewhere"), []byte("on another file system"))

	rules := []string{
		fmt.Sprintf(`exclude: ["*.tmp", %q, "**/node_modules/**", %q]`, s.source("build/out"), s.source("odd[1]")),
		"exclude_if_present: [.nobackup]", "one_file_system: true",
	}
	s.Work[0].Rules = rules
	s.Work = append(s.Work, siteWork{Name: "caches-too", Paths: []string{s.source("cache"), s.source("tagged-not")}, Rules: []string{"exclude_caches: false"}},
		siteWork{Name: "mounts-too", Paths: []string{s.source("keep"), mount}, Rules: []string{"one_file_system: true"}})
	s.init(t)
	b := s.backup(t, 0)
	if b.Stats.Excluded == 0 {
		t.Errorf("excluded objects are not counted: %+v", b.Stats)
	}
	to := s.Path("restored")
	s.restore(t, 0, to)
	// The folders of markers, tags and mounts stay: what was left out shows.
	got := map[string]bool{}
	for _, o := range pictureOf(t, to).Objects {
		got[o.Path] = true
	}
	for name, text := range files {
		there := got[name]
		switch {
		case text == "kept" || strings.HasPrefix(name, "tagged-not/"):
			if !there {
				t.Errorf("%s was left out", name)
			}
		case strings.HasPrefix(text, "by ") || strings.HasPrefix(text, "below "):
			if there {
				t.Errorf("%s is in the snapshot", name)
			}
		}
	}
	if !got["mounted"] || got["mounted/elsewhere"] {
		t.Errorf("mount point there: %t; what is mounted: %t", got["mounted"], got["mounted/elsewhere"])
	}

	s.run(t, 0, "backup", "caches-too")
	s.run(t, 0, "restore", "caches-too", "--to", s.Path("caches"), "--identity-file", s.Kit)
	if isGone(filepath.Join(s.Path("caches"), s.source("cache/sub/file"))) {
		t.Error("exclude_caches: false left a cache out")
	}
	s.run(t, 0, "backup", "mounts-too") // a mount point named as a path is meant
	s.run(t, 0, "restore", "mounts-too", "--to", s.Path("mounts"), "--identity-file", s.Kit)
	if isGone(filepath.Join(s.Path("mounts"), mount, "elsewhere")) {
		t.Error("a path that is a mount point came without its contents")
	}

	s.Work[0].Rules = rules[:2]
	s.configure(t)
	s.backup(t, 0)
	s.restore(t, 0, s.Path("with-mount"))
	if isGone(s.Path("with-mount/mounted/elsewhere")) {
		t.Error("without one_file_system the mounted file is missing")
	}
	// What was excluded and no longer is comes in, though nothing changed.
	s.Work[0].Rules = nil
	s.configure(t)
	s.backup(t, 0)
	s.restore(t, 0, s.Path("everything"))
	for name := range files {
		if there := !isGone(s.Path("everything", name)); !there && !strings.HasPrefix(name, "cache/") {
			t.Errorf("%s is no longer excluded, and is missing", name)
		}
	}
}

// TestPathIsLink: a path that is a symbolic link protects what it leads to, or says
// that it does not. Silence would be a backup of nothing.
func TestPathIsLink(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.Path("real/file"), []byte("behind the link"))
	if err := os.Symlink(s.Path("real"), s.source()); err != nil {
		t.Fatal(err)
	}
	s.init(t)
	r := s.Run("backup", "files", "--json")
	if r.Code != 0 || len(warningsOf(t, r)) > 0 {
		return // it said so
	}
	to := s.Path("restored")
	s.restore(t, 0, to)
	if b, err := os.ReadFile(filepath.Join(to, "file")); err != nil || string(b) != "behind the link" {
		t.Errorf("a path that is a link was backed up as the link alone, with exit 0 and no word: %v", err)
	}
}

// TestChangesWhileRead: files that are written while they are read are named, the
// run exits 3, and the next quiet run has them right.
func TestChangesWhileRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("quiet"), []byte("nobody writes here"))
	putFile(t, s.source("busy.log"), noiseOf(1, 48<<20))
	putFile(t, s.source("small"), noiseOf(2, 100))
	s.init(t)

	ctx, stop := context.WithCancel(context.Background())
	written := make(chan error, 1)
	go func() { written <- writeOn(ctx, s.source("busy.log")) }()
	b := s.backup(t, 3)
	stop()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if b.Stats.Torn != 1 || !b.names("/busy.log") || len(b.Errors) != 1 {
		t.Errorf("%d changed while read: %v", b.Stats.Torn, b.Errors)
	}
	s.restore(t, 0, s.Path("torn")) // what there is comes back
	if getFile(t, s.Path("torn/quiet")) != "nobody writes here" {
		t.Error("the quiet file differs")
	}
	b = s.backup(t, 0)
	if b.Stats.Torn != 0 || b.Stats.Changed != 1 {
		t.Errorf("after the writer has ended: %+v", b.Stats)
	}
	s.restore(t, 0, s.Path("whole"))
	mustMatch(t, pictureOf(t, s.source()), s.Path("whole"), tree.Ignore{})
}

// writeOn changes a file in place, over and over, until the context ends.
func writeOn(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size := int64(48 << 20)
	block := make([]byte, 512)
	for i := int64(0); ctx.Err() == nil; i++ {
		block[0] = byte(i)
		if _, err := f.WriteAt(block, i*65537%size); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// TestVanishing: files and folders that come and go while the tree is walked are
// no error.
func TestVanishing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	const dirs, each = 40, 60
	fill := func(d int) error {
		if err := os.MkdirAll(s.source(fmt.Sprintf("d%03d", d)), 0o755); err != nil {
			return err
		}
		for f := range each {
			if err := os.WriteFile(s.source(fmt.Sprintf("d%03d/f%03d", d, f)), []byte(fmt.Sprint(d, f)), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	for d := range dirs {
		if err := fill(d); err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, s.source("stays"), []byte("to the end"))
	s.init(t)
	ctx, stop := context.WithCancel(context.Background())
	churned := make(chan error, 1)
	go func() {
		for d := 0; ctx.Err() == nil; d = (d + 7) % dirs {
			if err := errors.Join(os.RemoveAll(s.source(fmt.Sprintf("d%03d", d))), fill((d+3)%dirs)); err != nil {
				churned <- err
				return
			}
		}
		churned <- nil
	}()
	var vanished int64
	for range 6 {
		r := s.Run("backup", "files", "--json")
		if r.Code != 0 && r.Code != 3 {
			stop()
			t.Fatalf("files that vanish end a backup: %v", r)
		}
		var b backupResult
		dataOf(t, r, &b)
		vanished += b.Stats.Vanished
		if b.Stats.Unreadable > 0 {
			t.Errorf("what is gone counts as unreadable: %v", b.Errors[:min(3, len(b.Errors))])
		}
	}
	stop()
	if err := <-churned; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d vanished", vanished)
	s.backup(t, 0)
	s.restore(t, 0, s.Path("restored"))
	mustMatch(t, pictureOf(t, s.source()), s.Path("restored"), tree.Ignore{})
}

// TestSpecialTimes: times that programs choke on come back to the nanosecond, and
// unchanged files are not read again for them.
func TestSpecialTimes(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	far := time.Date(2400, 2, 29, 1, 2, 3, 0, time.UTC).Unix() // more nanoseconds than 64 bits hold
	for name, sec := range map[string]int64{"past": -2000000000, "future": 4102444800, "far": far, "epoch": 0} {
		putFile(t, s.source(name), []byte(name))
		when := []unix.Timespec{{Sec: sec, Nsec: 5}, {Sec: sec, Nsec: 5}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, s.source(name), when, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.init(t)
	want := pictureOf(t, s.source())
	// A format may have no room for the far time, if it says so.
	r := s.Run("backup", "files", "--json")
	var b backupResult
	dataOf(t, r, &b)
	if r.Code != 0 && (r.Code != 3 || len(b.Errors) != 1 || !b.names("/far")) {
		t.Fatal(r)
	}
	if again := s.backup(t, r.Code); again.Stats.Changed > int64(len(b.Errors)) || again.Stats.New != 0 {
		t.Errorf("nothing has changed: %+v", again.Stats)
	}
	s.restore(t, 0, s.Path("restored"))
	got := pictureOf(t, s.Path("restored"))
	ignore := tree.Ignore{Paths: []string{"far"}}
	if o, ok := want.Find("far"); !ok || o.MTime.Unix() != far {
		t.Log("this file system has no such times")
	} else if back, ok := got.Find("far"); !ok || !bytes.Equal(back.Sum[:], o.Sum[:]) {
		t.Error("a file from the year 2400 is lost")
	}
	reportAll(t, tree.Compare(want, got, ignore))
}
