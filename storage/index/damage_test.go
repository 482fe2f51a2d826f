package index

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/storage/pack"
)

// small makes an index of a few files, closes it and gives what is in it.
func small(t testing.TB, dir string) []PackRecord {
	t.Helper()
	x := open(t, dir, Options{})
	var records []PackRecord
	for i := range uint64(3) {
		r := record(i*1000, 200, 9)
		records = append(records, r)
		add(t, x, self, r)
		x.MarkLoaded(r.Hash.String())
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	add(t, x, self, record(9000, 1, 1))
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := x.Drop(record(9000, 1, 1).Hash); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return records
}

// filesOf gives the files of an index but its lock.
func filesOf(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		if filepath.Base(f) != lockName {
			all = append(all, f)
		}
	}
	return all
}

// wantDamageSeen opens an index that was damaged, and reads all of it: the
// damage must show, and the next Open must give an empty index.
func wantDamageSeen(t *testing.T, dir, what string) {
	t.Helper()
	x, err := Open(dir, Options{})
	if err == nil {
		err = x.Verify()
		if cerr := x.Close(); cerr != nil {
			t.Fatalf("%s: close: %v", what, cerr)
		}
	}
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("%s: got %v, want ErrDamaged", what, err)
	}
	x, err = Open(dir, Options{})
	if err != nil {
		t.Fatalf("%s: open again: %v", what, err)
	}
	defer x.Close()
	if s := x.Stats(); s.Chunks != 0 || s.Files != 0 {
		t.Fatalf("%s: not discarded: %+v", what, s)
	}
	if left := filesOf(t, dir); len(left) != 0 {
		t.Fatalf("%s: files left: %v", what, left)
	}
}

func TestDamageIsSeen(t *testing.T) {
	master := t.TempDir()
	small(t, master)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, file := range filesOf(t, master) {
		name := filepath.Base(file)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases := map[string][]byte{
			"empty":    {},
			"cut":      good[:len(good)/2],
			"cut tail": good[:len(good)-1],
			"longer":   append(bytes.Clone(good), 0),
			"block twice": append(append(bytes.Clone(good[:len(good)/2/blockSize*blockSize]),
				good[:blockSize%len(good)]...), good[min(len(good), (len(good)/2/blockSize+1)*blockSize):]...),
		}
		for at := 0; at < len(good); at += 1 + rng.IntN(len(good)/20) {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << rng.IntN(8)
			cases["bit of byte "+string(rune('0'+len(cases)%10))+name] = bad
		}
		for what, bad := range cases {
			if bytes.Equal(bad, good) {
				continue
			}
			dir := copyDir(t, master)
			if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			wantDamageSeen(t, dir, name+": "+what)
		}
	}
}

func TestMissingRunIsDamage(t *testing.T) {
	dir := t.TempDir()
	small(t, dir)
	if err := os.Remove(filepath.Join(dir, runName(1))); err != nil {
		t.Fatal(err)
	}
	wantDamageSeen(t, dir, "missing")
}

func TestSwappedRunsAreDamage(t *testing.T) {
	dir := t.TempDir()
	small(t, dir)
	a, b := filepath.Join(dir, runName(0)), filepath.Join(dir, runName(1))
	for _, step := range [][2]string{{a, a + "x"}, {b, a}, {a + "x", b}} {
		if err := os.Rename(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	wantDamageSeen(t, dir, "swapped")
}

func TestOtherRepository(t *testing.T) {
	dir := t.TempDir()
	small(t, dir)
	if _, err := Open(dir, Options{Repo: [32]byte{5}}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("index of another repository: %v", err)
	}
	open(t, dir, Options{Repo: [32]byte{5}})
}

// Damage in a block that only a lookup reads shows in the lookup, then nothing
// more is written, and Close discards the index.
func TestDamageInLookup(t *testing.T) {
	dir := t.TempDir()
	records := small(t, dir)
	x := open(t, dir, Options{})
	r := x.runs[0]
	file, err := os.OpenFile(filepath.Join(dir, runName(r.id)), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("garbage"), int64(r.groups[0].keys.first)*blockSize+100); err != nil {
		t.Fatal(err)
	}
	file.Close()
	var seen error
	for _, f := range records[0].Frames {
		for _, c := range f.Chunks {
			if _, _, err := x.Has(c.ID); err != nil {
				seen = err
			}
		}
	}
	if !errors.Is(seen, ErrDamaged) || !strings.Contains(seen.Error(), runName(r.id)) {
		t.Fatalf("lookups: %v", seen)
	}
	if err := x.Add(record(1<<20, 1, 1), self); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Add after damage: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if s := open(t, dir, Options{}).Stats(); s.Files != 0 {
		t.Fatalf("not discarded: %+v", s)
	}
}

// FuzzState feeds the state's decoder; its checksum is made right, so that the
// rest is reached.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	small(f, dir)
	good, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-32])
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := decodeState(appendSum(body))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeState(s.encode())
		if err != nil || len(again.runs) != len(s.runs) || len(again.drops) != len(s.drops) || again.next != s.next {
			t.Fatalf("does not read back: %v", err)
		}
	})
}

// FuzzRun changes a run's payloads and makes the checksums right: whatever is in
// there, the index answers or says ErrDamaged, within its limits.
func FuzzRun(f *testing.F) {
	dir := f.TempDir()
	records := small(f, dir)
	x := open(f, dir, Options{})
	rf := x.runs[0].runFile
	good, err := os.ReadFile(filepath.Join(dir, runName(rf.id)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(len(good)-blockSize+8), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(blockSize), []byte("changed"))
	f.Add(uint32(2*blockSize+16), []byte{0xff})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		bad := bytes.Clone(good)
		copy(bad[int(at)%len(bad):], change)
		for n := 0; n < len(bad)/blockSize; n++ {
			sealBlock(bad[n*blockSize:][:blockSize], rf.nonce, uint32(n))
		}
		path := filepath.Join(t.TempDir(), runName(rf.id))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		readEverything(t, path, rf, records[0])
	})
}

// readEverything uses a run in every way; only ErrDamaged and ErrNotFound may come out.
func readEverything(t *testing.T, path string, rf runFile, rec PackRecord) {
	fine := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	r, err := openRun(path, rf)
	fine(err)
	if err != nil {
		return
	}
	c, err := newCache(1)
	if err != nil {
		t.Fatal(err)
	}
	y := &Index{dir: filepath.Dir(path), opt: Options{Temporary: true}, cache: c, runs: []*run{r}, memory: newMemory(), drops: map[pack.Hash]uint64{}, next: rf.id + 1}
	defer func() {
		for _, r := range y.runs {
			r.close()
		}
		c.close()
	}()
	for _, f := range rec.Frames {
		for _, chunk := range f.Chunks {
			_, err := y.Lookup(chunk.ID)
			fine(err)
		}
	}
	n := 0
	for _, err := range y.Packs() {
		fine(err)
		if n++; n > 1000 {
			t.Fatal("no end of packs")
		}
	}
	_, err = y.PackFrames(rec.Hash, self)
	fine(err)
	_, err = y.Loaded(rec.Hash.String())
	fine(err)
	fine(y.merge([]*run{r}))
}
