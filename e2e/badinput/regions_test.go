package badinput

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
)

// A region that is dead must cost seconds, not the run.
const (
	deadMost  = 20 * time.Second // nothing listens
	holeMost  = 60 * time.Second // it takes requests and never answers: a header timeout, or two
	placeless = 3 * time.Second  // directories answer at once
)

// badRegions takes directory regions away, and puts others in their place.
func badRegions(t *testing.T, f *fixture) {
	for name, story := range map[string]func(*testing.T, *fixture){
		"gone": goneRegions, "foreign": foreignRegions, "dead port": deadPort, "init": badInit, "twins": twinRegions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, f)
		})
	}
}

// goneRegions: directories that vanished are not made again.
func goneRegions(t *testing.T, f *fixture) {
	w := f.clone(t)
	away := func(name string) {
		if err := os.Rename(w.region(name), w.region(name)+".away"); err != nil {
			t.Fatal(err)
		}
	}
	back := func(name string) {
		if _, err := os.Lstat(w.region(name)); err == nil {
			t.Errorf("region %s was made again", name)
		}
		if err := os.Rename(w.region(name)+".away", w.region(name)); err != nil {
			t.Fatal(err)
		}
	}
	h := w.bare()
	restore := func(flags ...string) []string {
		return append([]string{"restore", "files", "--to", h.Path("none")}, flags...)
	}

	away("a")
	r := w.works("backup", "files") // two of two required
	withinTime(t, placeless, r)
	mustSay(t, string(r.Stdout), "left_out", "region a")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	mustSay(t, w.refuses(10, "snapshots", "--region", "a").Message, "region a", w.region("a"))
	mustSay(t, w.refuses(64, "snapshots", "--region", "aa").Hint, `"a"`)

	away("b")
	p := w.fails([]int{6}, "backup", "files") // what is stored stays, and is named
	mustSay(t, p.Message, "region a", "region b")
	mustSay(t, p.Hint, "replicate sync")
	w.restores(w.cold(w.kit, "a", "b", "c")...)

	away("c")
	for _, args := range [][]string{
		{"backup", "files"}, {"snapshots"}, {"replicate", "sync"}, {"replicate", "status"}, {"restore", "files", "--to", w.Path("none"), "--identity-file", w.kit}, {"check"}, {"backup", "files", "--dry-run"},
	} {
		p := w.refuses(10, args...)
		mustSay(t, p.Message, "region a", "region b", "region c")
		mustSay(t, p.Hint, "mounted")
	}
	mustSay(t, h.refuses(10, restore(w.cold(w.kit, "a")...)...).Message, w.region("a"))
	for _, path := range []string{h.Path("none"), w.Path("none")} {
		if _, err := os.Lstat(path); err == nil {
			t.Error("a refused restore has made its target")
		}
	}
	for _, name := range regionNames() {
		back(name)
	}
	w.whole()

	// An empty directory where a region was, as when a disk is not mounted.
	away("a")
	if err := os.Mkdir(w.region("a"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustSay(t, string(w.works("backup", "files").Stdout), "region a")
	if left, err := os.ReadDir(w.region("a")); err != nil || len(left) > 0 {
		t.Errorf("the empty directory was written to: %v %v", left, err)
	}
	mustSay(t, w.refuses(10, "snapshots", "--region", "a").Message, "region a")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	if err := os.Remove(w.region("a")); err != nil {
		t.Fatal(err)
	}
	// A file in its place.
	placeFile(t, w.region("a"), []byte("not a directory"))
	mustSay(t, string(w.works("backup", "files").Stdout), "region a")
	if err := os.Remove(w.region("a")); err != nil {
		t.Fatal(err)
	}
	back("a")
	w.whole()
}

// foreignRegions: a region of another repository is never read for this one,
// nor written to.
func foreignRegions(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.replace("file://"+w.region("b")+`"`, "file://"+f.foreign.region("b")+`"`)
	before := pictureIn(t, f.foreign.region("b"))
	// The backup goes to the two that are left, and somebody has to look.
	p := w.fails([]int{17}, "backup", "files")
	mustSay(t, p.Message, "region b", "another repository")
	if got := len(w.snapshotIDs()); got != 3 {
		t.Errorf("%d snapshots after the backup, want 3", got)
	}
	mustSay(t, w.refuses(17, "snapshots", "--region", "b").Message, "region b")
	w.restores(append(w.cold(w.kit, "a", "c"), "--repo", "file://"+f.foreign.region("b"))...)
	w.restores(append([]string{"--repo", "file://" + f.foreign.region("b")}, w.cold(w.kit, "c")...)...)

	for _, name := range []string{"a", "c"} {
		w.replace("file://"+w.region(name)+`"`, "file://"+f.foreign.region(name)+`"`)
	}
	for _, args := range [][]string{
		{"backup", "files"}, {"snapshots"}, {"restore", "files", "--to", w.Path("none"), "--identity-file", w.kit}, {"replicate", "sync"},
	} {
		mustSay(t, w.refuses(17, args...).Message, "region a", "region b", "region c")
	}
	sameAs(t, before, f.foreign.region("b"))
	w.edit = nil
	w.configure()
	w.whole()

	// The configuration pins another repository than this host is enrolled in.
	var made struct {
		RootKey string `json:"root_key"`
	}
	f.foreign.Must("init", "--yes", "--kit", f.foreign.kit, "--json").Data(&made)
	w.replace("version: 1\n", "version: 1\nrepository: {id: "+strings.Repeat("ab", 32)+", root_key: "+made.RootKey+"}\n")
	mustSay(t, w.refuses(17, "backup", "files").Hint, "repository.id")
	w.refuses(17, "snapshots", "--identity-file", w.kit)
	w.edit = nil
	w.configure()
	w.works("backup", "files")
}

// twinRegions: somebody put a copy of one region in the place of another. Both
// hold good objects, but they are one region, and nobody may be told of two.
func twinRegions(t *testing.T, f *fixture) {
	w := f.clone(t)
	if err := os.RemoveAll(w.region("a")); err != nil {
		t.Fatal(err)
	}
	cloneTree(t, w.region("b"), w.region("a"), os.Link)
	r := w.Run("backup", "files", "--json")
	var data struct {
		Regions []struct{ Name, State string }
	}
	r.Data(&data)
	committed := 0
	for _, region := range data.Regions {
		if region.State == "committed" {
			committed++
		}
	}
	if committed != 2 {
		t.Errorf("%d regions are told to be committed, want 2 of a, b and their like: %s", committed, r.Stdout)
	}
	mustSay(t, w.failed([]int{6, 17}, r).Message, "region b", "region a")
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	w.restores(w.cold(w.kit, "c")...)
}

// deadPort: nothing listens at the endpoint of one region, then of all.
func deadPort(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.Setenv("AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y")
	dead, dead2, dead3 := harness.S3URL("http://127.0.0.1:1", "one"), harness.S3URL("http://127.0.0.1:1", "two"), harness.S3URL("http://127.0.0.1:1", "three")
	w.on("a", dead)
	r := w.works("backup", "files")
	withinTime(t, deadMost, r)
	mustSay(t, string(r.Stdout), "left_out", "region a")
	w.restores(append([]string{"--repo", dead}, w.cold(w.kit, "b", "c")...)...)
	r = w.Run("snapshots", "--region", "a", "--json")
	withinTime(t, deadMost, r)
	mustSay(t, w.failed([]int{15}, r).Message, "region a", "127.0.0.1:1")
	w.on("b", dead2)
	r = w.Run("backup", "files", "--json")
	withinTime(t, deadMost, r)
	mustSay(t, w.failed([]int{6}, r).Message, "region a", "region b")

	w.on("c", dead3)
	for _, args := range [][]string{{"backup", "files"}, {"snapshots"}, {"restore", "files", "--to", w.Path("none"), "--identity-file", w.kit}} {
		r := w.Run(append(args, "--json")...)
		withinTime(t, deadMost, r)
		mustSay(t, w.failed([]int{15}, r).Message, "region a", "region b", "region c")
	}
	h := w.bare()
	h.Setenv("AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y")
	r = h.Run("restore", "files", "--to", h.Path("out"), "--repo", dead, "--identity-file", w.kit, "--json")
	withinTime(t, deadMost, r)
	h.failed([]int{15}, r)
	w.edit = nil
	w.configure()
	w.whole()
}

// badInit: a repository is made in empty places or not at all.
func badInit(t *testing.T, f *fixture) {
	w := newWorld(t)
	w.source, w.held = f.source, f.held
	w.configure()
	mustSay(t, w.refuses(64, "init", "--yes").Hint, "--kit")
	mustSay(t, w.refuses(64, "init", "--kit", w.kit).Hint, "--yes")
	w.refuses(1, "init", "--yes", "--kit", w.Path("no", "such", "folder", "kit.txt"))
	mustSay(t, w.refuses(14, "init", "--yes", "--kit", f.kit).Message, f.kit) // the kit of another repository is not overwritten
	placeFile(t, filepath.Join(w.region("b"), "holiday.jpg"), []byte("somebody's only copy"))
	mustSay(t, w.refuses(14, "init", "--yes", "--kit", w.kit).Message, "region b")
	mustSay(t, w.refuses(14, "init", "--dry-run", "--kit", w.kit).Message, "region b")
	cloneTree(t, f.region("c"), w.region("c"), os.Link)
	p := w.refuses(14, "init", "--yes", "--kit", w.kit)
	mustSay(t, p.Message+strings.Join(p.Causes, "\n"), "region b", "region c")
	for _, path := range []string{w.kit, w.kit + ".root", filepath.Join(w.region("a"), "format.json"), w.Path("lb-state", "state.json")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("a refused init has made %s", path)
		}
	}
	// Before there is a repository, every command says what to do.
	for _, name := range []string{"b", "c"} {
		if err := os.RemoveAll(w.region(name)); err != nil {
			t.Fatal(err)
		}
	}
	mustSay(t, w.refuses(12, "backup", "files").Hint, "lifeboat init")
	mustSay(t, w.refuses(10, "snapshots", "--identity-file", f.identity).Hint, "lifeboat init")
	w.Must("init", "--yes", "--kit", w.kit)
	w.refuses(14, "init", "--yes", "--kit", f.kit, "--state-dir", w.Path("other-state"))
	if e := w.works("init", "--yes", "--kit", w.kit).Envelope(); e.Changed {
		t.Error("a second init says that it changed something")
	}
	mustSay(t, w.refuses(13, "restore", "files", "--to", w.Path("none"), "--identity-file", w.kit).Hint, "lifeboat backup")
	w.whole()
}
