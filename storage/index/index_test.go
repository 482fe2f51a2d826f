package index

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

var self = Writer{1, 2, 3} // the writer of most tests

// chunkID makes a random-looking id of a number.
func chunkID(n uint64) (id pack.ChunkID) {
	r := rand.New(rand.NewPCG(n, 99))
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], r.Uint64())
	}
	return id
}

// record makes a pack of the chunks numbered from first on, perFrame to a frame.
func record(first uint64, chunks, perFrame int) PackRecord {
	r := PackRecord{Hash: pack.Hash(chunkID(first ^ 1<<63)), Kind: pack.Kind(first % 2)}
	at := uint32(0)
	for n := 0; n < chunks; {
		f := pack.Frame{Offset: at + 512, Epoch: uint32(first % 7)}
		for ; n < chunks && len(f.Chunks) < perFrame; n++ {
			c := pack.Chunk{ID: chunkID(first + uint64(n)), Length: uint32(1 + (first+uint64(n))%1000)}
			f.Chunks = append(f.Chunks, c)
			f.Plain += c.Length
		}
		f.Length = f.Plain + 200
		at = (f.Offset + f.Length + 511) / 512 * 512
		r.Frames = append(r.Frames, f)
	}
	r.Size = uint64(at) + 4096
	return r
}

func open(t testing.TB, dir string, opt Options) *Index {
	t.Helper()
	x, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func add(t testing.TB, x *Index, w Writer, records ...PackRecord) {
	t.Helper()
	for _, r := range records {
		if err := x.Add(r, w); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRecord checks every chunk of a recorded pack.
func wantRecord(t testing.TB, x *Index, r PackRecord, w Writer) {
	t.Helper()
	for _, f := range r.Frames {
		offset := uint32(0)
		for _, c := range f.Chunks {
			want := Location{Pack: r.Hash, Writer: w, Kind: r.Kind, PackSize: r.Size,
				FrameOffset: f.Offset, FrameLength: f.Length, FramePlain: f.Plain, FrameEpoch: f.Epoch,
				Offset: offset, Length: c.Length}
			got, err := x.Lookup(c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(got, want) {
				t.Fatalf("chunk %s: got %+v, want %+v in it", c.ID, got, want)
			}
			offset += c.Length
		}
	}
}

func wantFrames(t testing.TB, x *Index, r PackRecord, w Writer) {
	t.Helper()
	got, err := x.PackFrames(r.Hash, w)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, r.Frames, sameFrame) {
		t.Fatalf("pack %s: got frames %+v, want %+v", r.Hash, got, r.Frames)
	}
}

func sameFrame(a, b pack.Frame) bool {
	return a.Offset == b.Offset && a.Length == b.Length && a.Plain == b.Plain && a.Epoch == b.Epoch && slices.Equal(a.Chunks, b.Chunks)
}

func wantUnknown(t testing.TB, x *Index, id pack.ChunkID) {
	t.Helper()
	l, ok, err := x.Has(id)
	if err != nil || ok {
		t.Fatalf("chunk %s: got %+v, %v, %v; want none", id, l, ok, err)
	}
}

func packsOf(t testing.TB, x *Index) []PackInfo {
	t.Helper()
	var all []PackInfo
	for p, err := range x.Packs() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func wantLoaded(t testing.TB, x *Index, name string, want bool) {
	t.Helper()
	got, err := x.Loaded(name)
	if err != nil || got != want {
		t.Fatalf("loaded %s: got %v, %v; want %v", name, got, err, want)
	}
}

func TestAddLookupReopen(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, Options{})
	a, b := record(1, 100, 7), record(1000, 3, 1)
	add(t, x, self, a, b)
	if err := x.MarkLoaded("index/one"); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		wantRecord(t, x, a, self)
		wantRecord(t, x, b, self)
		wantFrames(t, x, a, self)
		wantFrames(t, x, b, self)
		wantUnknown(t, x, chunkID(5000))
		wantLoaded(t, x, "index/one", true)
		wantLoaded(t, x, "index/two", false)
		if got := packsOf(t, x); len(got) != 2 || got[0].Chunks+got[1].Chunks != 103 {
			t.Fatalf("packs: %+v", got)
		}
		if info, ok, err := x.HasPack(a.Hash, self); err != nil || !ok || info.Frames != len(a.Frames) {
			t.Fatalf("HasPack: %+v, %v, %v", info, ok, err)
		}
	}
	check()
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	check()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Has(chunkID(1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	x = open(t, dir, Options{})
	check()
	if err := x.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestUnflushedIsNotLoaded(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, Options{})
	a, b := record(1, 10, 7), record(100, 10, 7)
	add(t, x, self, a)
	x.MarkLoaded("a")
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	add(t, x, self, b)
	x.MarkLoaded("b")
	y := open(t, copyDir(t, dir), Options{}) // what a killed process leaves
	wantRecord(t, y, a, self)
	wantLoaded(t, y, "a", true)
	wantLoaded(t, y, "b", false)
	wantUnknown(t, y, b.Frames[0].Chunks[0].ID)
}

// copyDir copies the files of an index, but not its lock.
func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestAddTwiceIsOnce(t *testing.T) {
	x := open(t, t.TempDir(), Options{})
	a := record(1, 10, 3)
	other := Writer{9}
	for range 3 {
		add(t, x, self, a, a)
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	add(t, x, other, a)
	got, err := x.Lookup(chunkID(1))
	if err != nil || len(got) != 2 {
		t.Fatalf("got %d locations, %v; want one of each writer", len(got), err)
	}
	l, ok, err := x.Find(chunkID(1), func(l Location) bool { return l.Writer == other })
	if err != nil || !ok || l.Writer != other {
		t.Fatalf("Find: %+v, %v, %v", l, ok, err)
	}
	if _, ok, _ := x.Find(chunkID(1), func(Location) bool { return false }); ok {
		t.Fatal("Find took a location that was refused")
	}
}

func TestDrop(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		dir := t.TempDir()
		x := open(t, dir, Options{})
		a, b := record(1, 10, 3), record(100, 10, 3)
		add(t, x, self, a, b)
		if flushed {
			if err := x.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Drop(a.Hash, pack.Hash{77}); err != nil {
			t.Fatal(err)
		}
		gone := func(x *Index) {
			t.Helper()
			wantUnknown(t, x, chunkID(1))
			wantRecord(t, x, b, self)
			if got := packsOf(t, x); len(got) != 1 || got[0].Hash != b.Hash {
				t.Fatalf("packs: %+v", got)
			}
			if _, err := x.PackFrames(a.Hash, self); !errors.Is(err, ErrNotFound) {
				t.Fatalf("frames of a dropped pack: %v", err)
			}
		}
		gone(x)
		if flushed {
			gone(open(t, copyDir(t, dir), Options{})) // durable without Flush
		}
		add(t, x, self, a) // again: it counts again
		wantRecord(t, x, a, self)
		wantFrames(t, x, a, self)
		x.Close()
		x = open(t, dir, Options{})
		wantRecord(t, x, a, self)
		wantRecord(t, x, b, self)
		if err := x.Drop(a.Hash); err != nil {
			t.Fatal(err)
		}
		gone(x)
		x.change.Lock()
		err := x.purge()
		x.change.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		gone(x)
		if s := x.Stats(); s.Dropped != 0 || s.Chunks != 10 {
			t.Fatalf("after purge: %+v", s)
		}
	}
}

// Every pack in a file of its own, then all merged: nothing may get lost, and
// the number of files stays small.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	merges := 0
	opt := Options{MemoryChunks: 64, CacheBytes: 1, Events: Events{Merged: func(int, int) { merges++ }}}
	x := open(t, dir, opt)
	var records []PackRecord
	for i := range uint64(120) {
		r := record(i*1000, 1+int(i%90), 1+int(i%5))
		records = append(records, r)
		add(t, x, self, r)
		if err := x.MarkLoaded("object " + strconv.Itoa(int(i))); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			if err := x.Drop(records[len(records)-5].Hash); err != nil {
				t.Fatal(err)
			}
			records = slices.Delete(records, len(records)-5, len(records)-4)
		}
		if n := x.Stats().Files; n > mergeAbove {
			t.Fatalf("%d files", n)
		}
	}
	if merges == 0 {
		t.Fatal("no merge")
	}
	check := func() {
		t.Helper()
		for _, r := range records {
			wantRecord(t, x, r, self)
			wantFrames(t, x, r, self)
		}
		if got := packsOf(t, x); len(got) != len(records) {
			t.Fatalf("%d packs, want %d", len(got), len(records))
		}
		for i := range 120 {
			wantLoaded(t, x, "object "+strconv.Itoa(i), true)
		}
	}
	check()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, opt)
	check()
	if err := x.Verify(); err != nil {
		t.Fatal(err)
	}
}

// A chunk that lies in very many packs: its keys cross blocks.
func TestManyLocations(t *testing.T) {
	x := open(t, t.TempDir(), Options{})
	const copies = 600
	id := chunkID(1)
	for i := range uint64(copies) {
		r := record(1000+10*i, 3, 2)
		r.Frames[0].Chunks[1].ID = id
		add(t, x, self, r)
	}
	want := func(n int) {
		t.Helper()
		got, err := x.Lookup(id)
		if err != nil || len(got) != n {
			t.Fatalf("got %d locations, %v; want %d", len(got), err, n)
		}
	}
	want(LocationsMax)
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	want(LocationsMax)
	seen := 0
	if _, _, err := x.Find(id, func(Location) bool { seen++; return false }); err != nil || seen != copies {
		t.Fatalf("Find showed %d, %v; want %d", seen, err, copies)
	}
}

// Enough chunks for several groups of keys with a filter each.
func TestGroups(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an index of 300,000 chunks")
	}
	x := open(t, t.TempDir(), Options{Temporary: true, MemoryChunks: memoryChunksMax})
	const chunks, perPack = 300_000, 2000
	for i := range uint64(chunks / perPack) {
		add(t, x, self, record(i*perPack, perPack, 100))
	}
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := len(x.runs[0].groups); n != 2 {
		t.Fatalf("%d groups, want 2", n)
	}
	for i := range uint64(chunks) {
		if _, ok, err := x.Has(chunkID(i)); err != nil || !ok {
			t.Fatalf("chunk %d: %v, %v", i, ok, err)
		}
	}
	wrong := 0
	for i := range uint64(50_000) {
		id := chunkID(chunks + i)
		wantUnknown(t, x, id)
		if x.runs[0].groupOf(prefixOf(id[:])) != nil {
			wrong++
		}
	}
	if wrong > 500 {
		t.Errorf("filters let %d of 50000 unknown chunks pass", wrong)
	}
	s := x.Stats()
	t.Logf("%.3f bytes of filter and %.1f of file for a chunk", float64(s.FilterBytes)/chunks, float64(s.FileBytes)/chunks)
	if s.FilterBytes > chunks*12/10 {
		t.Errorf("%d bytes of filters", s.FilterBytes)
	}
}

func TestBadRecords(t *testing.T) {
	x := open(t, t.TempDir(), Options{})
	for name, spoil := range map[string]func(*PackRecord){
		"no frames":     func(r *PackRecord) { r.Frames = nil },
		"kind":          func(r *PackRecord) { r.Kind = 2 },
		"size":          func(r *PackRecord) { r.Size = pack.PackMax + 1 },
		"past the end":  func(r *PackRecord) { r.Size = uint64(r.Frames[1].Offset) + 1 },
		"overlap":       func(r *PackRecord) { r.Frames[1].Offset = r.Frames[0].Offset },
		"no chunks":     func(r *PackRecord) { r.Frames[0].Chunks = nil },
		"empty chunk":   func(r *PackRecord) { r.Frames[0].Chunks[0].Length = 0 },
		"plain":         func(r *PackRecord) { r.Frames[0].Plain++ },
		"too long":      func(r *PackRecord) { r.Frames[0].Length = pack.FrameFileMax + 1 },
		"empty file":    func(r *PackRecord) { r.Frames[0].Length = 0 },
		"too plain":     func(r *PackRecord) { r.Frames[0].Plain = pack.FramePlainMax + 1 },
		"first at zero": func(r *PackRecord) { r.Frames[0].Offset = 0 },
	} {
		r := record(1, 10, 5)
		spoil(&r)
		if err := x.Add(r, self); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	if !x.memory.empty() {
		t.Error("something of a bad record was kept")
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.PID != strconv.Itoa(os.Getpid()) {
		t.Fatalf("second Open: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}

func TestTemporaryAndDestroy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache", "index")
	x := open(t, dir, Options{Temporary: true, MemoryChunks: 10})
	for i := range uint64(40) {
		add(t, x, self, record(i*100, 9, 2))
	}
	wantRecord(t, x, record(0, 9, 2), self)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("temporary index is still there: %v", err)
	}
	x = open(t, dir, Options{})
	add(t, x, self, record(0, 9, 2))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Temporary: true}); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("temporary index over another: %v", err)
	}
	x = open(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := x.Destroy(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("after Destroy: %v, %v", entries, err)
	}
}

// A file that cannot be written fails the Add that needed it, loses nothing,
// and does not stop a later one.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, Options{MemoryChunks: 20})
	a := record(0, 20, 3)
	add(t, x, self, a)
	if err := os.Mkdir(x.path(0), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := x.Add(record(1000, 5, 3), self); err == nil {
		t.Fatal("Add where a file could not be written")
	}
	wantRecord(t, x, a, self)
	wantUnknown(t, x, chunkID(1000))
	os.Remove(x.path(0))
	add(t, x, self, record(1000, 5, 3))
	wantRecord(t, x, a, self)
	wantRecord(t, x, record(1000, 5, 3), self)
}

// However many files are written, few are left, and each chunk was copied a few
// times only.
func TestPickMerge(t *testing.T) {
	var runs []*run
	written, copied := 0, 0
	for i := range 2000 {
		chunks := MemoryDefault
		if i%3 == 0 {
			chunks = 50 // a flush of little
		}
		written += chunks
		runs = append(runs, &run{chunks: chunks})
		inputs := pickMerge(runs)
		if inputs == nil {
			continue
		}
		sum := 0
		for _, r := range inputs {
			sum += r.chunks
		}
		copied += sum
		runs = slices.DeleteFunc(runs, func(r *run) bool { return slices.Contains(inputs, r) })
		runs = append(runs, &run{chunks: sum})
		if len(inputs) < 2 || sum > runChunksMax {
			t.Fatalf("merge of %d files to %d chunks", len(inputs), sum)
		}
	}
	if most := mergeAbove + written/(runChunksMax/2); len(runs) > most {
		t.Errorf("%d files, want at most %d", len(runs), most)
	}
	if copied > 6*written {
		t.Errorf("chunks were copied %.1f times", float64(copied)/float64(written))
	}
	t.Logf("%d files of %d chunks, copied %.1f times", len(runs), written, float64(copied)/float64(written))
}
