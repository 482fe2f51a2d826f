package badinput

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// badDisks fills small disks, and makes them read-only.
func badDisks(t *testing.T, f *fixture) {
	for name, story := range map[string]func(*testing.T, *fixture){
		"full region": fullRegion, "full cache": fullCache, "full state": fullState, "full target": fullTarget,
		"target fills up": fillingTarget, "read-only region": readOnlyRegion, "read-only target": readOnlyTarget,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, f)
		})
	}
}

// onDisk moves a region of the world to a small disk.
func (w *world) onDisk(region string, mib int) (disk string) {
	w.t.Helper()
	disk = harness.SmallDisk(w.t, mib)
	cloneTree(w.t, w.region(region), filepath.Join(disk, "region"), copyOne)
	if err := os.RemoveAll(w.region(region)); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(disk, "region"), w.region(region)); err != nil {
		w.t.Fatal(err)
	}
	w.on(region, "file://"+filepath.Join(disk, "region"))
	return disk
}

// ownSource gives the world a source that it may change, with so many bytes that
// do not compress.
func (w *world) ownSource(bytes int64) {
	w.t.Helper()
	w.source, w.held = w.Path("source"), nil
	if err := os.MkdirAll(w.source, 0o755); err != nil {
		w.t.Fatal(err)
	}
	placeFile(w.t, filepath.Join(w.source, "small"), []byte("small"))
	if err := tree.LargeRandom(filepath.Join(w.source, "large"), bytes, 3); err != nil {
		w.t.Fatal(err)
	}
	w.configure()
}

// makeRoom deletes what filled a disk.
func makeRoom(t *testing.T, filler string) {
	t.Helper()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
}

func fullRegion(t *testing.T, f *fixture) {
	w := f.clone(t)
	disks := map[string]string{}
	for _, name := range regionNames() {
		disks[name] = w.onDisk(name, 64)
	}
	w.ownSource(6 << 20)
	c := harness.Fill(t, disks["c"], 1<<20)
	r := w.works("backup", "files")
	mustSay(t, string(r.Stdout), "region c", "no space")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	b := harness.Fill(t, disks["b"], 1<<20)
	placeFile(t, filepath.Join(w.source, "more"), []byte(letters(7, 4<<20)))
	p := w.fails([]int{6}, "backup", "files")
	mustSay(t, p.Message, "region b", "region c", "no space")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	a := harness.Fill(t, disks["a"], 64<<10)
	placeFile(t, filepath.Join(w.source, "more"), []byte(letters(8, 4<<20)))
	mustSay(t, w.refuses(18, "backup", "files").Message, "region a", "region b", "region c", "no space")
	if got := len(w.snapshotIDs()); got != 4 {
		t.Errorf("%d snapshots, want 4: a backup without room must show nothing", got)
	}
	for _, filler := range []string{a, b, c} {
		makeRoom(t, filler)
	}
	w.whole()
}

func fullCache(t *testing.T, f *fixture) { fullOwn(t, f, "lb-cache") }

func fullState(t *testing.T, f *fixture) { fullOwn(t, f, "lb-state") }

// fullOwn fills the disk of the program's own files. It may do without the cache,
// but must never half do something.
func fullOwn(t *testing.T, f *fixture, folder string) {
	for _, leave := range []int64{0, 128 << 10} {
		w := f.clone(t)
		disk := harness.SmallDisk(t, 16)
		own := filepath.Join(disk, "own")
		cloneTree(t, w.Path(folder), own, copyOne)
		w.replace(w.Path(folder)+`"`, own+`"`)
		filler := harness.Fill(t, disk, leave)
		for _, args := range [][]string{{"backup", "files"}, {"backup", "files", "--full"}, {"snapshots"}, {"restore", "files", "--to", w.Path("out"), "--identity-file", w.kit}} {
			r := w.Run(append(args, "--json")...)
			if r.Code == 0 {
				r.Events()
				r.Envelope()
				continue
			}
			p := w.failed([]int{18}, r)
			mustSay(t, p.Message, own)
		}
		makeRoom(t, filler)
		w.whole()
	}
	// A cache that never had room.
	if folder == "lb-cache" {
		w := f.clone(t)
		disk := harness.SmallDisk(t, 16)
		w.replace(w.Path(folder)+`"`, filepath.Join(disk, "own")+`"`)
		filler := harness.Fill(t, disk, 0)
		if r := w.Run("backup", "files", "--json"); r.Code != 0 {
			w.failed([]int{18}, r)
		}
		makeRoom(t, filler)
		w.whole()
	}
}

// fullTarget: that there is no room is said before anything is written.
func fullTarget(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.ownSource(6 << 20)
	w.works("backup", "files")
	disk := harness.SmallDisk(t, 16)
	filler := harness.Fill(t, disk, 3<<20)
	out := filepath.Join(disk, "out")
	for _, args := range [][]string{{}, {"--dry-run"}} {
		args := append([]string{"restore", "files", "--to", out, "--identity-file", w.kit}, args...)
		mustSay(t, w.refuses(18, args...).Message, "needed", "free")
	}
	if _, err := os.Lstat(out); err == nil {
		t.Error("a refused restore has made its target")
	}
	makeRoom(t, filler)
	w.works("restore", "files", "--to", out, "--identity-file", w.kit)
	sameAs(t, w.want(), out)
}

// fillingTarget: somebody else takes the room while the restore runs.
func fillingTarget(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.ownSource(8 << 20)
	w.works("backup", "files")
	w.replace("region-a\"", "region-a\", limits: {download: 3MiB}", "region-b\"", "region-b\", limits: {download: 3MiB}", "region-c\"", "region-c\", limits: {download: 3MiB}")
	disk := harness.SmallDisk(t, 16)
	out := filepath.Join(disk, "out")
	args := []string{"restore", "files", "--to", out, "--identity-file", w.kit, "--json"}
	p := w.Start(args...)
	harness.WaitFor(t, "the restore to begin writing", func() error {
		_, err := os.Lstat(out)
		return err
	})
	filler := harness.Fill(t, disk, 0)
	r := p.Wait()
	problem := w.failed([]int{18}, r)
	mustSay(t, problem.Hint, "--resume")
	makeRoom(t, filler)
	w.works(append([]string{"restore", "files", "--resume"}, args[2:len(args)-1]...)...)
	sameAs(t, w.want(), out)
}

func readOnlyRegion(t *testing.T, f *fixture) {
	w := f.clone(t)
	disks := map[string]string{}
	for _, name := range regionNames() {
		disks[name] = w.onDisk(name, 48)
	}
	harness.ReadOnly(t, disks["a"])
	r := w.works("backup", "files")
	mustSay(t, string(r.Stdout), "region a", "read-only")
	w.restores(w.cold(w.kit, "a")...) // it can still be read
	harness.ReadOnly(t, disks["b"])
	mustSay(t, w.fails([]int{6}, "backup", "files").Message, "region a", "region b", "read-only")
	harness.ReadOnly(t, disks["c"])
	p := w.refuses(1, "backup", "files")
	mustSay(t, p.Message, "region a", "region b", "region c", "read-only")
	mustSay(t, p.Hint, "mount")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	mustSay(t, string(w.works("snapshots").Stdout), f.ids[1])
	w.fails([]int{1, 6}, "replicate", "sync")
	for _, disk := range disks {
		remount(t, disk)
	}
	w.whole()
}

func readOnlyTarget(t *testing.T, f *fixture) {
	w := f.clone(t)
	disk := harness.SmallDisk(t, 16)
	if err := os.Mkdir(filepath.Join(disk, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	harness.ReadOnly(t, disk)
	for _, to := range []string{filepath.Join(disk, "out"), filepath.Join(disk, "new"), filepath.Join(disk, "new", "deep")} {
		mustSay(t, w.refuses(14, "restore", "files", "--to", to, "--identity-file", w.kit).Message, "read-only")
	}
	// The kit has no place to go: nothing is made.
	fresh := newWorld(t)
	fresh.source, fresh.held = f.source, f.held
	fresh.configure()
	fresh.refuses(1, "init", "--yes", "--kit", filepath.Join(disk, "kit.txt"))
	if _, err := os.Lstat(filepath.Join(fresh.region("a"), "format.json")); err == nil {
		t.Error("a repository was made whose kit cannot be written")
	}
}

// remount undoes ReadOnly.
func remount(t *testing.T, disk string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,rw", disk).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
}

// badPermission runs as a user who may not.
func badPermission(t *testing.T, _ *fixture) {
	w := newWorld(t)
	w.Host = w.Host.Unprivileged()
	w.ownSource(1 << 20)
	w.Give(w.source)
	w.Give(w.Path("lifeboat.yaml"))
	w.Must("init", "--yes", "--kit", w.kit)
	w.Must("backup", "files")
	restore := func(to string) []string {
		return []string{"restore", "files", "--to", to, "--identity-file", w.kit}
	}

	// A file of the source that may not be read: the rest is kept, and it is named.
	secret := filepath.Join(w.source, "secret")
	placeFile(t, secret, []byte("not for everybody"))
	setMode(t, secret, 0)
	r := w.Run("backup", "files", "--json")
	mustSay(t, w.failed([]int{3}, r).Hint, "named")
	mustSay(t, string(r.Stdout), secret)
	mustSay(t, string(w.Run(restore(w.Path("partial"))...).Stderr), "secret")
	w.fails([]int{3}, restore(w.Path("partial too"))...)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}

	w.works("backup", "files")

	// Regions that can only be read, then not even that.
	modes := func(name string, dir fs.FileMode) {
		for _, path := range append(foldersOf(t, w.region(name)), w.region(name)) {
			setMode(t, path, dir)
		}
	}
	modes("a", 0o555)
	mustSay(t, string(w.works("backup", "files").Stdout), "region a", "denied")
	w.restores(w.cold(w.kit, "a")...)
	modes("b", 0o555)
	mustSay(t, w.fails([]int{6}, "backup", "files").Message, "region a", "region b", "denied")
	modes("c", 0o555)
	mustSay(t, w.refuses(1, "backup", "files").Message, "region a", "region b", "region c", "denied")
	setMode(t, w.region("a"), 0)
	mustSay(t, w.refuses(1, "snapshots", "--region", "a").Message, "region a", "denied")
	w.works("snapshots")
	w.works(restore(w.Path("out"))...)
	setMode(t, w.region("b"), 0)
	setMode(t, w.region("c"), 0)
	for _, args := range [][]string{{"backup", "files"}, {"snapshots"}, restore(w.Path("none"))} {
		mustSay(t, w.refuses(1, args...).Message, "region a", "region b", "region c", "denied")
	}
	for _, name := range regionNames() {
		setMode(t, w.region(name), 0o755)
		modes(name, 0o755)
	}

	// A target in which this user may not write.
	others := w.Path("others")
	if err := os.Mkdir(others, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{others, filepath.Join(others, "out"), filepath.Join(others, "out", "deep")} {
		mustSay(t, w.refuses(14, restore(to)...).Message, "denied", others)
	}
	// Own files that cannot be read.
	for path, codes := range map[string][]int{w.Path("lifeboat.yaml"): {78}, w.Path("lb-state"): {1}, w.Path("lb-cache"): {0, 1}} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		setMode(t, path, 0)
		if r := w.Run("backup", "files", "--json"); r.Code != 0 || codes[0] != 0 {
			mustSay(t, w.failed(codes, r).Message, path, "denied")
		}
		setMode(t, path, info.Mode())
	}
	setMode(t, w.kit, 0)
	mustSay(t, w.refuses(64, restore(w.Path("none"))...).Message, w.kit, "denied")
	setMode(t, w.kit, 0o600)
	w.whole()
}

func setMode(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func foldersOf(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
