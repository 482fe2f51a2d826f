package badinput

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// objectKinds are all kinds of objects that a region holds.
func objectKinds() []string {
	return []string{
		"format", "trust", "keys", "marker", "open", "intent", "ack", "end", "manifest", "index", "data pack", "meta pack", "sentinel",
	}
}

// damages are the ways to spoil one object.
func damages() map[string]func(own, other []byte) []byte {
	return map[string]func(own, other []byte) []byte{
		"truncated": func(own, _ []byte) []byte { return own[:len(own)/2] },
		"flipped": func(own, _ []byte) []byte {
			out := bytes.Clone(own)
			out[len(out)/2] ^= 1
			return out
		},
		"missing": func([]byte, []byte) []byte { return nil },
		"empty":   func([]byte, []byte) []byte { return []byte{} },
		"swapped": func(_, other []byte) []byte { return other },
	}
}

// badDamage spoils every object of a kind: in the region that is read first,
// which must change nothing, and in all, which must be said plainly.
func badDamage(t *testing.T, f *fixture) {
	for _, kind := range objectKinds() {
		for name, damage := range damages() {
			t.Run("one region/"+kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				damagedRegion(t, f.clone(t), f, kind, damage)
			})
		}
		for _, name := range []string{"flipped", "missing", "empty"} {
			t.Run("all regions/"+kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				damagedEverywhere(t, f.clone(t), f, kind, damages()[name])
			})
		}
	}
	t.Run("checkpoints", func(t *testing.T) {
		t.Parallel()
		damagedCheckpoints(t)
	})
	t.Run("local cache", func(t *testing.T) {
		t.Parallel()
		damagedCache(t, f)
	})
	t.Run("rolled back", func(t *testing.T) {
		t.Parallel()
		rolledBack(t, f)
	})
	t.Run("local state", func(t *testing.T) {
		t.Parallel()
		damagedState(t, f)
	})
}

// damagedRegion: the two good regions carry everything, and the bad one harms nothing.
func damagedRegion(t *testing.T, w *world, f *fixture, kind string, damage func(own, other []byte) []byte) {
	mend := w.spoil("a", kind, damage)
	if err := os.RemoveAll(w.Path("lb-cache")); err != nil { // it would hide the damage
		t.Fatal(err)
	}
	if ids := w.snapshotIDs(); !slices.Equal(ids, f.ids) {
		t.Errorf("snapshots %v, want %v", ids, f.ids)
	}
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	h := w.bare()
	h.works(append([]string{"restore", "files", "--snapshot", f.ids[0], "--to", h.Path("out")}, w.cold(w.kit, "a", "b", "c")...)...)
	sameAs(t, f.first, h.Path("out"))
	w.works("backup", "files")
	if ids := w.snapshotIDs(); len(ids) != 3 {
		t.Errorf("%d snapshots after the backup, want 3", len(ids))
	}
	w.restores(w.cold(w.kit, "a", "b", "c")...)
	mend()
	w.whole("a")
}

// damagedEverywhere: what can be read is, and the rest is named. Nothing wrong is
// ever written, and what was good before is good again once it is mended.
func damagedEverywhere(t *testing.T, w *world, f *fixture, kind string, damage func(own, other []byte) []byte) {
	var mends []func()
	for _, name := range regionNames() {
		mends = append(mends, w.spoil(name, kind, damage))
	}
	cache := w.Path("lb-cache")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	codes := allDamaged()[kind]
	h := w.bare()
	for _, c := range []struct {
		h     *world
		codes []int
		args  []string
	}{
		{w, codes.list, []string{"snapshots"}},
		{h, codes.restore, append([]string{"restore", "files", "--to", h.Path("out")}, w.cold(w.kit, "a", "b", "c")...)},
		{w, codes.backup, []string{"backup", "files"}},
	} {
		r := c.h.Run(append(c.args, "--json")...)
		if r.Code == 0 && slices.Contains(c.codes, 0) {
			r.Events()
			r.Envelope()
			continue
		}
		c.h.failed(c.codes, r)
		if c.args[0] == "restore" && slices.Contains(c.codes, 4) && strings.HasSuffix(kind, "pack") {
			wrongBytes(t, w.source, h.Path("out"))
		}
	}
	// Contents that no region has any more can only come from the source. Success
	// means that it has them again.
	if strings.HasSuffix(kind, "pack") || kind == "index" {
		args := []string{"backup", "files"}
		if kind == "data pack" {
			args = append(args, "--full") // it takes nothing for granted
		}
		w.works(args...)
		w.restores(w.cold(w.kit, "a", "b", "c")...)
	}
	for _, mend := range mends {
		mend()
	}
	if ids := w.snapshotIDs(); len(ids) < 2 || !slices.Equal(ids[:2], f.ids) {
		t.Errorf("snapshots after mending: %v, want at least %v", ids, f.ids)
	}
	w.whole("a")
}

// codesOf are the exit codes that one damage may give to each command.
type codesOf struct{ list, restore, backup []int }

// allDamaged says what happens when no region holds a good object of a kind. 0
// where the program does without.
func allDamaged() map[string]codesOf {
	none := codesOf{[]int{0}, []int{0}, []int{0}}
	return map[string]codesOf{
		"format":    {[]int{4, 10, 17}, []int{4, 10, 17}, []int{4, 10, 17}},
		"trust":     {[]int{4}, []int{4}, []int{4}},
		"keys":      {[]int{0}, []int{4, 12}, []int{0}},
		"marker":    {[]int{4, 17}, []int{4, 17}, []int{4, 17}},
		"open":      none,
		"intent":    {[]int{0, 4}, []int{4, 13}, []int{0, 4}},
		"ack":       {[]int{0, 4}, []int{4, 13}, []int{0, 4}},
		"end":       none,
		"manifest":  none, // of an older snapshot, whose facts its intent tells
		"index":     none, // the packs tell the same
		"data pack": {[]int{0}, []int{4}, []int{0}},
		"meta pack": {[]int{0}, []int{4}, []int{0}},
		"sentinel":  {[]int{0, 4}, []int{0, 4}, []int{0, 4}},
	}
}

// wrongBytes checks that whatever a failed restore left has only right contents.
func wrongBytes(t *testing.T, source, out string) {
	t.Helper()
	if _, err := os.Lstat(out); err != nil {
		return
	}
	sums := map[string][32]byte{}
	for _, o := range pictureIn(t, source).Objects {
		sums[o.Path] = o.Sum
	}
	for _, o := range pictureIn(t, out).Objects {
		if want, ok := sums[o.Path]; ok && o.Type() == "file" && o.Sum != want {
			t.Errorf("%s was restored with wrong contents", o.Path)
		}
	}
}

// damagedCheckpoints: a checkpoint only saves reading what it stands for.
func damagedCheckpoints(t *testing.T) {
	const enough = 66 // backups of four statements each, until there is one
	w := newWorld(t)
	w.source = w.Path("source")
	placeFile(t, filepath.Join(w.source, "file"), []byte("x"))
	w.configure()
	w.Must("init", "--yes", "--kit", w.kit)
	for range enough {
		w.Must("backup", "files")
	}
	ids := w.snapshotIDs()
	if len(ids) != enough || len(w.objects("a", "checkpoint")) == 0 {
		t.Fatalf("%d snapshots, %d checkpoints", len(ids), len(w.objects("a", "checkpoint")))
	}
	for name, damage := range damages() {
		var mends []func()
		for _, region := range regionNames() {
			mends = append(mends, w.spoil(region, "checkpoint", damage))
			if got := w.bare().snapshotIDs(w.cold(w.kit, regionNames()...)...); !slices.Equal(got, ids) {
				t.Errorf("%s up to region %s: %d snapshots, want %d", name, region, len(got), len(ids))
			}
		}
		if err := os.RemoveAll(w.Path("lb-cache")); err != nil {
			t.Fatal(err)
		}
		w.works("backup", "files")
		before := ids
		if ids = w.snapshotIDs(); len(ids) != len(before)+1 {
			t.Errorf("%s: %d snapshots, %d after a backup", name, len(before), len(ids))
		}
		for _, mend := range mends {
			mend()
		}
	}
	w.whole()
}

// damagedCache: what may be lost may also be wrong.
func damagedCache(t *testing.T, f *fixture) {
	for name, damage := range damages() {
		w := f.clone(t)
		spoilFiles(t, plainFiles(t, w.Path("lb-cache")), damage)
		w.works("backup", "files")
		if ids := w.snapshotIDs(); len(ids) != 3 {
			t.Errorf("%s: %d snapshots, want 3", name, len(ids))
		}
		w.works("restore", "files", "--to", w.Path("out"), "--identity-file", w.kit)
		sameAs(t, w.want(), w.Path("out"))
		w.whole("b")
	}
}

// damagedState: a host that lost or broke its own memory is told so, and can be
// enrolled again. It never writes as somebody else.
func damagedState(t *testing.T, f *fixture) {
	for name, damage := range damages() {
		for _, path := range plainFiles(t, f.Path("lb-state")) {
			rel, err := filepath.Rel(f.Path("lb-state"), path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				continue
			}
			w := f.clone(t)
			mine := filepath.Join(w.Path("lb-state"), rel)
			mend := spoilFiles(t, []string{mine}, damage)
			r := w.Run("backup", "files", "--json")
			if r.Code != 0 { // a chain that cannot be read may be given up for a new one
				p := w.failed([]int{1, 4, 12, 17}, r)
				if !strings.Contains(p.Message, w.Path("lb-state")) {
					t.Errorf("%s of %s: %q does not say where", name, rel, shorten(p.Message))
				}
			}
			mend()
			w.whole("b")
		}
	}
}

// rolledBack brings an older copy of something back, as a restored machine or
// disk does. What was done since must stay, and work must go on.
func rolledBack(t *testing.T, f *fixture) {
	for _, what := range [][]string{{"lb-state"}, {"lb-cache"}, {"lb-state", "lb-cache"}, {"region-a"}, {"lb-state", "lb-cache", "region-a"}} {
		t.Logf("an older copy of %v", what)
		w := f.clone(t)
		older := f.clone(t) // as it was before the next two backups
		w.works("backup", "files")
		w.works("backup", "files", "--full")
		for _, folder := range what {
			if err := os.RemoveAll(w.Path(folder)); err != nil {
				t.Fatal(err)
			}
			cloneTree(t, older.Path(folder), w.Path(folder), copyOne)
		}
		if got := len(w.snapshotIDs()); got != 4 {
			t.Errorf("%d snapshots, want 4", got)
		}
		w.works("backup", "files")
		w.restores(w.cold(w.kit, regionNames()...)...)
		w.whole()
		if got := len(w.snapshotIDs()); got != 6 {
			t.Errorf("%d snapshots, want 6", got)
		}
	}
	// A cache that is another host's, or another repository's.
	w := f.clone(t)
	for _, from := range []string{f.foreign.Path("lb-cache"), w.region("a")} {
		if err := os.RemoveAll(w.Path("lb-cache")); err != nil {
			t.Fatal(err)
		}
		cloneTree(t, from, w.Path("lb-cache"), copyOne)
		w.works("backup", "files")
	}
	w.whole("b")
}

// objects are the paths of a region's objects of one kind, in order of their names.
func (w *world) objects(region, kind string) []string {
	w.t.Helper()
	return objectsOf(w.t, w.region(region), kind)
}

func objectsOf(t *testing.T, dir, kind string) []string {
	t.Helper()
	var out []string
	for _, path := range plainFiles(t, dir) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if kindOf(t, path, rel) == kind {
			out = append(out, path)
		}
	}
	return out
}

func kindOf(t *testing.T, path, key string) string {
	top, _, _ := strings.Cut(key, "/")
	switch {
	case strings.HasSuffix(key, "~end"):
		return "sentinel"
	case key == "format.json":
		return "format"
	case top == "region":
		return "marker"
	case top == "manifests":
		return "manifest"
	case top == "packs":
		return map[bool]string{true: "data pack", false: "meta pack"}[strings.Contains(key, "/d/")]
	case top == "journal" && strings.Contains(key, "/c/"):
		return "checkpoint"
	case top == "journal":
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return statementType(data)
	}
	return top
}

func statementType(data []byte) string {
	var s struct {
		Type string `json:"type"`
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	_ = json.Unmarshal(line, &s) // a damaged one has no type
	return s.Type
}

// spoil damages all objects of a kind in a region. The returned function puts
// them back as they were.
func (w *world) spoil(region, kind string, damage func(own, other []byte) []byte) (mend func()) {
	w.t.Helper()
	paths := w.objects(region, kind)
	if len(paths) == 0 {
		w.t.Fatalf("no %s in region %s", kind, region)
	}
	return spoilFiles(w.t, paths, damage)
}

// spoilFiles damages files, each with the next one at hand for a swap; a single
// one gets bytes that are nobody's. Other names of the same file keep theirs.
func spoilFiles(t *testing.T, paths []string, damage func(own, other []byte) []byte) (mend func()) {
	t.Helper()
	good := make([][]byte, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		good[i] = data
	}
	for i, path := range paths {
		other := good[(i+1)%len(good)]
		if bytes.Equal(other, good[i]) {
			other = []byte(letters(1, len(other)))
		}
		if len(good[i]) == 0 {
			continue
		}
		bad := damage(good[i], other)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if bad != nil {
			placeFile(t, path, bad)
		}
	}
	return func() {
		t.Helper()
		for i, path := range paths {
			if len(good[i]) > 0 {
				placeFile(t, path, good[i])
			}
		}
	}
}

func plainFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
