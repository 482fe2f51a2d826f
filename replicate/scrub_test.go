package replicate_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"lifeboat/replicate"
	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
	"lifeboat/storage/storetest"
)

func TestCleanRepositoryGivesNoFinding(t *testing.T) {
	w, ids := standard(t)
	w.source = t.TempDir()
	w.write(4, map[string]int{"page.db": 258 * 32768}) // its chunk ids need a page of their own
	if err := os.WriteFile(filepath.Join(w.source, "page.db"), sqlite(258*32768), 0o600); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, w.backup("base"), w.backup("base"))
	rep := w.scrub(w.deep())
	clean(t, rep)
	if rep.Level != replicate.LevelDeep || rep.Snapshots != len(ids) || rep.Catalogs != len(ids) || rep.Entries < 1900 || rep.Orphans != 0 || rep.Unindexed != 0 {
		t.Errorf("report %+v", rep)
	}
	if rep.Coverage.BytesRatio != 1 || !rep.Coverage.OldestUnread.IsZero() {
		t.Errorf("coverage %+v", rep.Coverage)
	}
	for _, g := range rep.Regions {
		if g.State != replicate.RegionOK || g.Snapshots != len(ids) || g.Packs == 0 {
			t.Errorf("region %+v", g)
		}
	}
	if len(w.stores["a"].Keys("manifests/")) < 2 || len(w.stores["a"].Keys("packs/")) < 4 {
		t.Errorf("the repository does not hold what this test is about: %v", w.stores["a"].Keys(""))
	}
}

// sqlite gives bytes that are recognised as a database.
func sqlite(n int) []byte {
	rng := rand.New(rand.NewPCG(9, 9))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	copy(data, "SQLite format 3\x00\x10\x00")
	return data
}

func clean(t *testing.T, rep *replicate.Report) {
	t.Helper()
	for _, d := range rep.Damaged {
		t.Errorf("found %+v", d)
	}
	if len(rep.Behind) > 0 || rep.StrangeTotal > 0 {
		t.Errorf("behind %+v, strange %v", rep.Behind, rep.Strange)
	}
}

// way is how an object can be wrong.
type way struct {
	name    string
	problem string // what the report must say of an object with a hash in its name
	do      func(m *storetest.Mem, key, other string)
}

func ways() []way {
	return []way{
		{"flip", "do", func(m *storetest.Mem, key, _ string) {
			m.Change(key, func(b []byte) []byte { return storetest.FlipBit(len(b)*4 + 1)(b) })
		}},
		{"delete", "missing", func(m *storetest.Mem, key, _ string) { _ = m.Delete(context.Background(), key) }},
		{"truncate", "truncated", func(m *storetest.Mem, key, _ string) {
			m.Change(key, func(b []byte) []byte { return b[:len(b)*2/3] })
		}},
		{"zero", "zero bytes", func(m *storetest.Mem, key, _ string) { m.Change(key, func([]byte) []byte { return nil }) }},
		{"swap", "swapped", func(m *storetest.Mem, key, other string) {
			bytes := m.Bytes(other)
			m.Change(key, func([]byte) []byte { return bytes })
		}},
	}
}

// victims gives one object of every kind in region b, with its affected
// snapshots; nil: none in particular.
func victims(t *testing.T, w *world, ids []string) map[string]victim {
	t.Helper()
	m := w.stores["b"]
	all := func(prefix, suffix string) []string {
		return slices.DeleteFunc(m.Keys(prefix), func(k string) bool { return !strings.HasSuffix(k, suffix) })
	}
	journals, manifest := all("journal/", ".json"), all("manifests/", ids[2]+".age")
	if len(manifest) != 1 || len(journals) != 12 || len(all("packs/", ".tar")) < 4 {
		t.Fatalf("the repository is not what this test is about: %v", m.Keys(""))
	}
	meta := slices.DeleteFunc(all("packs/", ".tar"), func(k string) bool { return !strings.Contains(k, "/m/") })
	data := w.packOf(t, ids[1])
	return map[string]victim{
		"format":            {"format.json", "format", ids, true},
		"recovery text":     {"RECOVERY.txt", "recovery text", nil, true},
		"trust statement":   {all("trust/", ".json")[0], "trust statement", ids, true},
		"wrapped key":       {all("keys/", ".age")[1], "wrapped key", ids, true},
		"region marker":     {all("region/", ".json")[0], "region marker", ids, false},
		"sentinel":          {"gc/~end", "sentinel", nil, true},
		"folder sentinel":   {all("journal/", "~end")[0], "sentinel", nil, true},
		"metadata pack":     {meta[0], "pack", nil, true},
		"data pack":         {data, "pack", ids[1:2], true},
		"index":             {all("index/", ".age")[1], "index", ids[1:2], true},
		"manifest":          {manifest[0], "manifest", ids[2:], true},
		"open statement":    {journals[4], "journal statement", nil, true},
		"intent":            {journals[5], "journal statement", ids[1:2], true},
		"acknowledgement":   {journals[6], "journal statement", ids[1:2], true},
		"end statement":     {journals[7], "journal statement", nil, true},
		"first intent":      {journals[1], "journal statement", ids[:1], true},
		"last acknowledged": {journals[10], "journal statement", ids[2:], true},
	}
}

type victim struct {
	key, kind string
	affects   []string
	healable  bool
}

// packOf finds a data pack that only one snapshot's session stored: the one with
// the file that was new in it.
func (w *world) packOf(t *testing.T, id string) string {
	t.Helper()
	r := w.open()
	defer r.Close()
	sh := r.View().Snapshots()[id]
	for _, ref := range sh.Intents {
		st, _ := r.View().Intent(ref.Hash)
		for _, key := range st.Packs.Add {
			if strings.Contains(key, "/d/") {
				_, parts, err := storage.Parse(key)
				if err == nil && parts.PackKind == storage.PackData && len(w.stores["b"].Bytes(key)) > 300<<10 && len(w.stores["b"].Bytes(key)) < 400<<10 {
					return key
				}
			}
		}
	}
	t.Fatal("no pack of the second snapshot alone")
	return ""
}

func TestEveryKindOfDamageIsFoundAndNamed(t *testing.T) {
	base, ids := standard(t)
	for name, v := range victims(t, base, ids) {
		for _, way := range ways() {
			t.Run(name+"/"+way.name, func(t *testing.T) {
				w := base.copy(t)
				other := w.stores["b"].Keys("index/")[0]
				if v.key == other {
					other = w.stores["b"].Keys("journal/")[0]
				}
				way.do(w.stores["b"], v.key, other)
				rep := w.scrub(w.deep())
				if name == "end statement" && way.name == "delete" {
					if len(rep.Damaged) > 0 || len(rep.Behind) != 1 || rep.Behind[0].Region != "b" || !slices.Contains(rep.Behind[0].Objects, v.key) {
						t.Errorf("a region may miss an end: damaged %+v, behind %+v", rep.Damaged, rep.Behind)
					}
					return
				}
				check(t, rep, v, way)
			})
		}
	}
}

// check wants exactly one finding, of the victim, with all there is to say.
func check(t *testing.T, rep *replicate.Report, v victim, way way) {
	t.Helper()
	if len(rep.Damaged) != 1 || rep.DamagedTotal != 1 {
		t.Fatalf("%d findings, want one of %s: %+v", len(rep.Damaged), v.key, rep.Damaged)
	}
	d := rep.Damaged[0]
	if d.Object != v.key || d.Region != "b" || d.Kind != v.kind {
		t.Errorf("named %s, %s in %q, want %s, %s in b", d.Kind, d.Object, d.Region, v.kind, v.key)
	}
	if _, hashed := storage.HashOf(v.key); hashed && !strings.Contains(d.Problem, way.problem) {
		t.Errorf("problem %q, want %q", d.Problem, way.problem)
	}
	if v.healable && !slices.Equal(d.HealableFrom, []string{"a", "c"}) {
		t.Errorf("healable from %v", d.HealableFrom)
	}
	var got []string
	for _, a := range d.Affects {
		got = append(got, a.ID)
		if a.Workload == "" || a.At.IsZero() {
			t.Errorf("affected snapshot without name or time: %+v", a)
		}
	}
	for _, id := range v.affects {
		if !slices.Contains(got, id) {
			t.Errorf("affects %v, want %v", got, v.affects)
		}
	}
	if rep.Regions[1].State != replicate.RegionDamaged || rep.Regions[0].State != replicate.RegionOK {
		t.Errorf("regions %+v", rep.Regions)
	}
}

func TestListingThatHidesAnObject(t *testing.T) {
	base, ids := standard(t)
	for name, v := range victims(t, base, ids) {
		if name == "format" || name == "recovery text" {
			continue // never listed
		}
		t.Run(name, func(t *testing.T) {
			w := base.copy(t)
			w.regions()
			w.faults["b"].On(storetest.List, "").Hide(v.key)
			rep := w.scrub(replicate.ScrubOptions{})
			found := slices.ContainsFunc(rep.Damaged, func(d replicate.Damage) bool {
				return d.Region == "b" && d.Kind == "listing" && (d.Object == v.key || strings.HasPrefix(v.key, d.Object))
			})
			if !found || slices.ContainsFunc(rep.Damaged, func(d replicate.Damage) bool { return d.Region != "b" || d.Problem == "missing" }) {
				t.Errorf("found %+v, behind %+v", rep.Damaged, rep.Behind)
			}
		})
	}
}

func TestTruncatedListing(t *testing.T) {
	w, _ := small(t)
	w.regions()
	w.faults["c"].On(storetest.List, "").Hide("keys/~end")
	rep := w.scrub(replicate.ScrubOptions{})
	if len(rep.Damaged) != 1 || rep.Damaged[0].Kind != "listing" || rep.Damaged[0].Region != "c" {
		t.Errorf("found %+v", rep.Damaged)
	}
}

func TestOnlyRegionIsDamaged(t *testing.T) {
	w := newWorld(t, "a")
	w.write(1, map[string]int{"f": 100 << 10, "g/h": 10})
	ids := []string{w.backup("files"), w.backup("files")}
	clean(t, w.scrub(w.deep()))
	for _, prefix := range []string{"packs/", "index/", "journal/", "RECOVERY.txt", "keys/", "gc/"} {
		for _, way := range ways() {
			t.Run(prefix+way.name, func(t *testing.T) {
				w := w.copy(t)
				key := w.stores["a"].Keys(prefix)[0]
				if prefix == "journal/" {
					key = w.stores["a"].Keys(prefix)[1] // the first intent
				}
				way.do(w.stores["a"], key, w.stores["a"].Keys("trust/")[0])
				rep := w.scrub(w.deep())
				if prefix == "index/" && way.name == "delete" {
					if rep.Unindexed == 0 || len(rep.Damaged) > 0 {
						t.Errorf("a lost index object is made up for by tables of contents: %+v", rep)
					}
					return
				}
				if prefix == "keys/" && way.name == "delete" && len(rep.Damaged) == 1 {
					return // it cannot know the name
				}
				if prefix == "RECOVERY.txt" && len(rep.Damaged) == 0 && way.name != "zero" && way.name != "delete" {
					return // the text has no hash, and no other region to compare with
				}
				if !slices.ContainsFunc(rep.Damaged, func(d replicate.Damage) bool { return d.Object == key && len(d.HealableFrom) == 0 }) {
					t.Fatalf("%s is not named: %+v", key, rep.Damaged)
				}
				if prefix == "packs/" || prefix == "journal/" {
					d := rep.Damaged[slices.IndexFunc(rep.Damaged, func(d replicate.Damage) bool { return d.Object == key })]
					if !slices.ContainsFunc(d.Affects, func(a replicate.Affected) bool { return a.ID == ids[0] }) {
						t.Errorf("affects %+v, want %s", d.Affects, ids[0])
					}
				}
			})
		}
	}
}

func TestRegionsThatDoNotAnswer(t *testing.T) {
	w, _ := small(t)
	w.regions()
	for _, op := range []storetest.Op{storetest.Get, storetest.List, storetest.Stat} {
		w.faults["b"].On(op, "").Fail(storage.ErrUnreachable)
	}
	rep := w.scrub(replicate.ScrubOptions{})
	clean(t, rep)
	if rep.Regions[1].State != replicate.RegionUnreachable || rep.Regions[1].Error == "" || rep.Regions[0].State != replicate.RegionOK {
		t.Errorf("regions %+v", rep.Regions)
	}
	w.faults["b"].Heal()
	w.faults["b"].On(storetest.Get, "packs/").Fail(storage.ErrDenied)
	rep = w.scrub(w.deep())
	clean(t, rep)
	if rep.Regions[1].State != replicate.RegionUnreachable || rep.Regions[2].State != replicate.RegionOK {
		t.Errorf("regions %+v", rep.Regions)
	}
}

func TestWipedAndForeignRegions(t *testing.T) {
	w, _ := small(t)
	w.stores["b"] = storetest.Memory()
	w.stores["c"] = newWorld(t, "x").stores["x"]
	w.faults = map[string]*storetest.Fault{}
	rep := w.scrub(replicate.ScrubOptions{})
	if len(rep.Damaged) != 2 || rep.Regions[1].State == replicate.RegionOK || rep.Regions[2].State != replicate.RegionForeign {
		t.Errorf("found %+v, regions %+v", rep.Damaged, rep.Regions)
	}
}

func TestOneRegionAndOneWorkload(t *testing.T) {
	w, ids := small(t)
	for _, key := range w.stores["c"].Keys("packs/") {
		w.stores["c"].Change(key, storetest.FlipBit(4000))
	}
	rep := w.scrub(replicate.ScrubOptions{Regions: []string{"a"}, Workload: "files", Newest: 1})
	clean(t, rep)
	if rep.Snapshots != 1 || rep.Catalogs != 1 || len(rep.Regions) != 1 || rep.Level != replicate.LevelInventory {
		t.Errorf("report %+v", rep)
	}
	w.stores["a"].Change(w.packOf(t, ids[1]), storetest.FlipBit(1<<20))
	opt := w.deep()
	opt.Regions = []string{"a"}
	rep = w.scrub(opt)
	if len(rep.Damaged) != 1 || !slices.Equal(rep.Damaged[0].HealableFrom, []string{"b"}) {
		t.Errorf("c is damaged too, and must not be offered: %+v", rep.Damaged)
	}
}

func TestFilesThatLoseContentsAreNamed(t *testing.T) {
	w, ids := small(t)
	key := w.packOf(t, ids[1])
	w.stores["b"].Change(key, storetest.FlipBit(8*2000)) // inside the first frame
	rep := w.scrub(w.deep())
	want := filepath.Join(w.firstSource, "new")
	if len(rep.Damaged) != 1 || rep.Damaged[0].FilesTotal != 1 || !slices.Equal(rep.Damaged[0].Files, []string{want}) {
		t.Errorf("found %+v, want %s", rep.Damaged, want)
	}
	w.stores["b"].Change(key, storetest.FlipBit(8*2000)) // whole again
	clean(t, w.scrub(w.deep()))
	w.stores["b"].Change(key, func(b []byte) []byte { b[len(b)-1] = 1; return b }) // outside of all frames
	rep = w.scrub(w.deep())
	if len(rep.Damaged) != 1 || rep.Damaged[0].FilesTotal != 0 {
		t.Errorf("no frame is hit: %+v", rep.Damaged)
	}
}

func TestGapThatNoRegionFills(t *testing.T) {
	w, ids := small(t)
	journals := w.stores["a"].Keys("journal/")
	i := slices.IndexFunc(journals, func(k string) bool { return strings.Contains(k, "/0000000000000006-") })
	for _, m := range w.stores {
		if err := m.Delete(t.Context(), journals[i]); err != nil {
			t.Fatal(err)
		}
	}
	rep := w.scrub(replicate.ScrubOptions{})
	if len(rep.Damaged) != 1 || rep.Damaged[0].Object != journals[i] || rep.Damaged[0].Region != "" || rep.Damaged[0].Affects[0].ID != ids[1] {
		t.Errorf("found %+v, want %s", rep.Damaged, journals[i])
	}
}

func TestRegionThatWasAwayIsBehindNotDamaged(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.write(1, map[string]int{"f": 100})
	w.backup("files")
	w.regions()
	for _, op := range []storetest.Op{storetest.Put, storetest.Get, storetest.List, storetest.Stat} {
		w.faults["b"].On(op, "").Fail(storage.ErrUnreachable)
	}
	w.write(2, map[string]int{"g": 100})
	w.backup("files")
	w.faults["b"].Heal()
	rep := w.scrub(w.deep())
	if len(rep.Damaged) > 0 || len(rep.Behind) != 1 || rep.Behind[0].Region != "b" || rep.Behind[0].Total < 4 {
		t.Errorf("damaged %+v, behind %+v", rep.Damaged, rep.Behind)
	}
}

func TestOrphansAreCountedAndMustBeWhole(t *testing.T) {
	w, _ := small(t)
	writer := strings.Split(w.stores["a"].Keys("packs/")[0], "/")[1]
	key := storage.PackKey(writer, storage.PackData, [32]byte{1})
	w.stores["a"].Change(key, func([]byte) []byte { return []byte("half a pack") })
	rep := w.scrub(w.deep())
	clean(t, rep)
	if rep.Orphans != 1 || rep.OrphanBytes != 11 {
		t.Errorf("orphans %d of %d bytes", rep.Orphans, rep.OrphanBytes)
	}
	w.stores["a"].Change(key, func([]byte) []byte { return nil })
	if rep = w.scrub(replicate.ScrubOptions{}); len(rep.Damaged) != 1 || rep.Damaged[0].Object != key {
		t.Errorf("found %+v", rep.Damaged)
	}
}

func TestRunsCoverEverythingInTheEnd(t *testing.T) {
	w, _ := small(t)
	file := filepath.Join(t.TempDir(), "sub", "coverage.json")
	ratio := 0.0
	for range 8 {
		cov, err := replicate.LoadCoverage(file)
		if err != nil {
			t.Fatal(err)
		}
		opt := w.deep()
		opt.Read, opt.Coverage = replicate.ReadAmount{Ratio: 0.2}, cov
		rep := w.scrub(opt)
		if rep.Coverage.BytesRatio < ratio || rep.Coverage.RunRatio == 0 || rep.Coverage.RunRatio == 1 {
			t.Errorf("coverage %+v after %v", rep.Coverage, ratio)
		}
		if ratio = rep.Coverage.BytesRatio; ratio < 1 && rep.Coverage.OldestUnread.IsZero() {
			t.Errorf("coverage %+v", rep.Coverage)
		}
		if err := cov.Save(file, filepath.Dir(file)); err != nil {
			t.Fatal(err)
		}
		if ratio == 1 {
			return
		}
	}
	t.Errorf("covered %v after 8 runs", ratio)
}

func TestDamagedCoverageFileBeginsAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coverage.json")
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"regions":{"x":null,"y":{"cursor":"zz"}}}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := replicate.LoadCoverage(file)
		if err != nil || len(c.Regions) != 0 {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
}

func TestCancelledScrubSaysSo(t *testing.T) {
	w, _ := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := w.open()
	rep, err := replicate.Scrub(ctx, r, replicate.ScrubOptions{Now: w.now(), Events: replicate.ScrubEvents{Phase: func(name string) {
		if name == replicate.PhasePacks {
			cancel()
		}
	}}})
	if err == nil || rep == nil || len(rep.Damaged) > 0 {
		t.Errorf("%v, %+v", err, rep)
	}
}

func TestWhatAScrubFoundCanBeReplaced(t *testing.T) {
	base, ids := standard(t)
	for name, v := range victims(t, base, ids) {
		switch name {
		case "format", "recovery text", "region marker", "sentinel", "trust statement":
			continue // sync copies none of these, or does not use the region at all without them
		case "open statement", "intent", "first intent":
			continue // only their own session may place them
		}
		t.Run(name, func(t *testing.T) {
			w := base.copy(t)
			ways()[0].do(w.stores["b"], v.key, "")
			rep := w.scrub(w.deep())
			r := w.open()
			plan, err := replicate.NewPlan(t.Context(), r, nil)
			if err != nil {
				t.Fatal(err)
			}
			for region, keys := range rep.Replaceable() {
				if left, err := plan.Replace(t.Context(), region, keys); err != nil || len(left) > 0 {
					t.Fatalf("left out %v, %v", left, err)
				}
			}
			if _, err := plan.Run(t.Context(), replicate.Options{Now: w.now}); err != nil {
				t.Fatal(err)
			}
			if rep := w.scrub(w.deep()); len(rep.Damaged) > 0 {
				t.Errorf("still wrong: %+v", rep.Damaged)
			}
		})
	}
}

func TestSnapshotThatNamesTooFewPacks(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.write(1, map[string]int{"f": 100 << 10, "g": 200 << 10})
	w.backup("files")
	w.write(2, map[string]int{"h": 100})
	w.spoil = func(p *repo.Prepared) { clear(p.Packs) }
	id := w.backup("files")
	rep := w.scrub(replicate.ScrubOptions{})
	if len(rep.Damaged) != 1 || rep.Damaged[0].Kind != "snapshot" || rep.Damaged[0].Region != "" || rep.Damaged[0].AffectsTotal != 1 || rep.Damaged[0].Affects[0].ID != id ||
		!strings.Contains(rep.Damaged[0].Problem, "the recovery point does not name") {
		t.Errorf("found %+v", rep.Damaged)
	}
}

func TestFramesThatDoNotOpen(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.write(1, map[string]int{"f": 100 << 10})
	w.backup("files")
	opt := w.deep()
	opt.Open = func(dst, _ []byte) ([]byte, error) { return dst, storage.ErrCorrupt }
	rep := w.scrub(opt)
	if len(rep.Damaged) != 1 || rep.Damaged[0].Region != "" || rep.Damaged[0].Kind != "pack" || !strings.Contains(rep.Damaged[0].Problem, "frames do not open") || rep.Damaged[0].FilesTotal != 1 {
		t.Errorf("found %+v", rep.Damaged)
	}
	other, err := seal.NewIdentity(true)
	if err != nil {
		t.Fatal(err)
	}
	opt.Open = seal.NewOpener(other).Open
	rep = w.scrub(opt)
	clean(t, rep)
	if rep.Level != replicate.LevelHash {
		t.Errorf("level %s with a foreign key", rep.Level)
	}
}

func TestProgressIsTold(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.write(1, map[string]int{"f": 100 << 10})
	w.backup("files")
	var phases []string
	var items atomic.Int64
	opt := w.deep()
	opt.Events = replicate.ScrubEvents{Phase: func(name string) { phases = append(phases, name) }, Done: func(_, n int64) { items.Add(n) }}
	rep := w.scrub(opt)
	want := []string{replicate.PhaseStatements, replicate.PhasePacks, replicate.PhaseCatalogs, replicate.PhaseRead, replicate.PhaseCompare}
	if !slices.Equal(phases, want) || items.Load() < rep.ObjectsChecked {
		t.Errorf("phases %v, %d items of %d objects", phases, items.Load(), rep.ObjectsChecked)
	}
}

// TestBackupMeanwhile: what a running backup puts between two listings is no finding.
func TestBackupMeanwhile(t *testing.T) {
	for _, op := range []storetest.Op{storetest.List, storetest.Get} {
		for after := range 8 {
			w, _ := small(t)
			w.write(9, map[string]int{"more": 1000})
			r := w.open()
			ran := false
			w.faults["b"].On(op, "").After(after * 3).Times(1).Slow(func(context.Context) error {
				if !ran {
					ran = true
					w.backup("files")
				}
				return nil
			})
			rep, err := replicate.Scrub(t.Context(), r, replicate.ScrubOptions{Now: w.now()})
			if err != nil || !ran && after < 3 {
				t.Fatal(err, ran)
			}
			for _, d := range rep.Damaged {
				t.Errorf("%s %d: found %+v", op, after, d)
			}
		}
	}
}
