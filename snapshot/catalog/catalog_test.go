package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// large is enough entries for three levels, with paths as long as below deep.
const large = 100_000

const (
	longName = "a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-"
	deep     = "srv/data/" + longName + longName + longName + longName + longName + longName
)

func TestLargeTree(t *testing.T) {
	entries := treeAt(deep, large)
	m := newMemory()
	root := build(t, m, entries)
	if root.Level < 2 || root.Entries != large {
		t.Fatalf("%+v", root)
	}
	for id, page := range m.chunks {
		if len(page) > pageHard+EntryMax {
			t.Errorf("page %s of %d bytes", id, len(page))
		}
	}
	r := open(t, m, root)
	t.Run("all", func(t *testing.T) { wantPaths(t, r.All(t.Context()), entries) })
	t.Run("lookup", func(t *testing.T) { lookups(t, m, r, entries) })
	t.Run("under", func(t *testing.T) { unders(t, m, r, entries) })
	t.Run("children", func(t *testing.T) { children(t, m, r) })
	t.Run("cursor", func(t *testing.T) { cursors(t, m, r, entries) })
	t.Run("no change", func(t *testing.T) { rebuild(t, m, r, root, entries) })
	t.Run("small change", func(t *testing.T) { smallChange(t, m, root, entries) })
}

func wantPaths(t *testing.T, seq func(func(*Entry, error) bool), want []*Entry) {
	t.Helper()
	i := 0
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(want) || !bytes.Equal(e.Path, want[i].Path) || e.Inode != want[i].Inode {
			t.Fatalf("entry %d is %q", i, e.Path)
		}
		i++
	}
	if i != len(want) {
		t.Fatalf("%d entries, want %d", i, len(want))
	}
}

func lookups(t *testing.T, m *memory, r *Reader, entries []*Entry) {
	for i := 0; i < len(entries); i += 9973 {
		m.reset()
		e, ok, err := r.Lookup(t.Context(), entries[i].Path)
		if err != nil || !ok || !same(e, entries[i]) {
			t.Fatalf("%q: %+v, %v, %v", entries[i].Path, e, ok, err)
		}
		if m.reads > r.Root().Level {
			t.Errorf("%d pages read for one path", m.reads)
		}
		missing := append(bytes.Clone(entries[i].Path), "/none"...)
		if e, ok, err := r.Lookup(t.Context(), missing); err != nil || ok || e != nil {
			t.Fatalf("%q: %+v, %v, %v", missing, e, ok, err)
		}
	}
	for _, missing := range []string{"", "a", "zzz", "srv"} {
		if _, ok, err := r.Lookup(t.Context(), []byte(missing)); err != nil || ok {
			t.Fatalf("%q: %v, %v", missing, ok, err)
		}
	}
}

func unders(t *testing.T, m *memory, r *Reader, entries []*Entry) {
	for _, top := range []string{deep + "/project-007", deep + "/project-007/dir-00360", deep + "/project-007/dir-00360/some-file-0003.txt", deep + "/project-00", "nope", "zzz", deep + "/project-019"} {
		want := slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool { return !Within([]byte(top), e.Path) })
		m.reset()
		wantPaths(t, r.Under(t.Context(), []byte(top)), want)
		if most := 4 + len(want)/100; m.reads > most {
			t.Errorf("%s: %d pages read for %d entries", top, m.reads, len(want))
		}
	}
}

func children(t *testing.T, m *memory, r *Reader) {
	count := func(dir string) (n int) {
		for e, err := range r.Children(t.Context(), []byte(dir)) {
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(e.Path, []byte(dir)) || bytes.Count(e.Path, []byte("/")) != bytes.Count([]byte(dir), []byte("/"))+1 {
				t.Errorf("%q below %q", e.Path, dir)
			}
			n++
		}
		return n
	}
	if n := count(deep + "/project-007"); n != 50 {
		t.Errorf("%d directories, want 50", n)
	}
	if n := count(deep + "/project-007/dir-00360"); n != 99 {
		t.Errorf("%d files, want 99", n)
	}
	m.reset()
	if n := count("srv"); n != 0 { // srv/data has no entry of its own
		t.Errorf("%d entries, want none", n)
	}
	if m.reads > 2*pagesRead {
		t.Errorf("%d pages read to jump over everything", m.reads)
	}
}

func cursors(t *testing.T, m *memory, r *Reader, entries []*Entry) {
	c := NewCursor(t.Context(), r)
	defer c.Close()
	rnd := rand.New(rand.NewPCG(5, 5))
	seek := func(path []byte, want *Entry) {
		t.Helper()
		e, ok, err := c.SeekTo(path)
		if err != nil || ok != (want != nil) || ok && !bytes.Equal(e.Path, path) {
			t.Fatalf("%q: %v, %v", path, ok, err)
		}
		if ok && !bytes.Equal(c.Raw(), appendEntry(nil, want)) {
			t.Fatalf("%q: raw is not its encoding", path)
		}
	}
	for i := 0; i < len(entries); i += 1 + rnd.IntN(40)*rnd.IntN(2)*rnd.IntN(30)*rnd.IntN(2) {
		seek(entries[i].Path, entries[i])
		seek(entries[i].Path, entries[i]) // again is the same
		seek(append(bytes.Clone(entries[i].Path), "/!"...), nil)
	}
	seek([]byte("zzz"), nil)
	if e, more, err := c.Next(); e != nil || more || err != nil {
		t.Errorf("after the end: %v, %v, %v", e, more, err)
	}

	far := NewCursor(t.Context(), r)
	defer far.Close()
	m.reset()
	if e, ok, err := far.SeekTo(entries[large-1].Path); err != nil || !ok || e.Inode != entries[large-1].Inode {
		t.Errorf("a far seek: %v, %v", ok, err)
	}
	if m.reads > 3*pagesRead {
		t.Errorf("%d pages read by a far seek", m.reads)
	}
}

func rebuild(t *testing.T, m *memory, r *Reader, root Root, entries []*Entry) {
	stored := len(m.chunks)
	c, b := NewCursor(t.Context(), r), NewBuilder(7, m.put)
	defer c.Close()
	for i, want := range entries {
		_, ok, err := c.SeekTo(want.Path)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if i%3 == 0 {
			err = b.Add(want)
		} else {
			err = b.AddEncoded(want.Path, c.Raw())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again, err := b.Finish()
	if err != nil || again != root || len(m.chunks) != stored {
		t.Errorf("%+v, want %+v; %d new pages; %v", again, root, len(m.chunks)-stored, err)
	}
}

// A changed, a removed and an added entry cost a few pages, and so does finding them.
func smallChange(t *testing.T, m *memory, root Root, entries []*Entry) {
	stored := len(m.chunks)
	changed := slices.Clone(entries)
	changed[1000] = changed[1000].Clone()
	changed[1000].MTime++
	changed = slices.Delete(changed, 15_000, 15_001)
	changed = slices.Insert(changed, 30_050, plain(string(changed[30_049].Path)+"x", 77))
	after := build(t, m, changed)
	if n := len(m.chunks) - stored; n > 3*(root.Level+2) {
		t.Errorf("%d new pages for three changes", n)
	}
	m.reset()
	var got []string
	for c, err := range Diff(t.Context(), open(t, m, root), open(t, m, after)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, describe(c))
	}
	want := []string{"~" + string(changed[1000].Path), "-" + string(entries[15_000].Path), "+" + string(changed[30_050].Path)}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if m.reads > 60 {
		t.Errorf("%d pages read for three changes", m.reads)
	}
}

func describe(c Change) string {
	switch {
	case c.Old == nil:
		return "+" + string(c.Path())
	case c.New == nil:
		return "-" + string(c.Path())
	case !bytes.Equal(c.Old.Path, c.New.Path):
		return "two paths"
	}
	return "~" + string(c.Path())
}

// naive is what Diff must find.
func naive(a, b []*Entry) []string {
	var changes []string
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && Compare(a[0].Path, b[0].Path) < 0:
			changes, a = append(changes, describe(Change{Old: a[0]})), a[1:]
		case len(a) == 0 || Compare(a[0].Path, b[0].Path) > 0:
			changes, b = append(changes, describe(Change{New: b[0]})), b[1:]
		default:
			if !bytes.Equal(appendEntry(nil, a[0]), appendEntry(nil, b[0])) {
				changes = append(changes, describe(Change{Old: a[0], New: b[0]}))
			}
			a, b = a[1:], b[1:]
		}
	}
	return changes
}

func TestDiffEqualsTheNaiveOne(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	base := tree(12_000)
	mixed := anyTree(r, 2000)
	for round := range 24 {
		entries := base
		if round%2 == 0 {
			entries = mixed
		}
		other := vary(r, entries)
		m := newMemory()
		ra, rb := open(t, m, build(t, m, entries)), open(t, m, build(t, m, other))
		for _, tt := range []struct {
			a, b   *Reader
			ea, eb []*Entry
		}{{ra, rb, entries, other}, {rb, ra, other, entries}, {ra, ra, entries, entries}} {
			var got []string
			for c, err := range Diff(t.Context(), tt.a, tt.b) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, describe(c))
			}
			if want := naive(tt.ea, tt.eb); !slices.Equal(got, want) {
				t.Fatalf("round %d: %d changes, want %d", round, len(got), len(want))
			}
		}
	}
}

// vary removes, changes and adds stretches of entries.
func vary(r *rand.Rand, entries []*Entry) []*Entry {
	other := slices.Clone(entries)
	for range r.IntN(6) {
		if len(other) == 0 {
			break
		}
		from := r.IntN(len(other))
		to := min(len(other), from+1+r.IntN(1<<r.IntN(15)))
		switch r.IntN(4) {
		case 0:
			other = slices.Delete(other, from, to)
		case 1:
			for i := from; i < to; i++ {
				other[i] = other[i].Clone()
				other[i].MTime ^= 0x5555
			}
		case 2:
			var more []*Entry
			for i := range to - from {
				more = append(more, plain(fmt.Sprintf("%s/new-%06d", other[from].Path, i), i))
			}
			if from+1 == len(other) || !Within(other[from].Path, other[from+1].Path) {
				other = slices.Insert(other, from+1, more...)
			}
		case 3:
			if r.IntN(5) == 0 {
				other = nil
			}
		}
	}
	return other
}

func TestEmptyAndSmallCatalogs(t *testing.T) {
	for n := range 3 {
		m := newMemory()
		entries := tree(n)
		root := build(t, m, entries)
		if root.Level != 0 || root.Entries != uint64(n) || len(m.chunks) != 1 {
			t.Errorf("%d entries: %+v in %d pages", n, root, len(m.chunks))
		}
		r := open(t, m, root)
		wantPaths(t, r.All(t.Context()), entries)
		c := NewCursor(t.Context(), r)
		if _, ok, err := c.SeekTo([]byte("x")); ok || err != nil {
			t.Error(ok, err)
		}
		c.Close()
		c.Close()
		if c.Raw() != nil {
			t.Error("raw after close")
		}
	}
}

// A catalog whose last entry ends a page on the spot: the tree must not grow a
// chain of single pages above it.
func TestRootAtAPageEnd(t *testing.T) {
	b := NewBuilder(7, newMemory().put)
	for i := 0; b.levels[0].pages < 3; i++ {
		m := newMemory()
		b2 := NewBuilder(7, m.put)
		if err := b.Add(plain(fmt.Sprintf("f%07d", i), i)); err != nil {
			t.Fatal(err)
		}
		if b.levels[0].items > 0 {
			continue
		}
		var entries []*Entry
		for j := range i + 1 {
			entries = append(entries, plain(fmt.Sprintf("f%07d", j), j))
			if err := b2.Add(entries[j]); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b2.Finish()
		if err != nil || root.Level != min(1, b.levels[0].pages-1) || root.Entries != uint64(i+1) {
			t.Fatalf("after %d pages: %+v, %v", b.levels[0].pages, root, err)
		}
		wantPaths(t, open(t, m, root).All(t.Context()), entries)
	}
}

// Paths of the largest size make links of the largest size: pages above the
// leaves still take two, and the tree ends.
func TestLongPaths(t *testing.T) {
	long := bytes.Repeat(append(bytes.Repeat([]byte("d"), 4000), '/'), 16)
	m := newMemory()
	var entries []*Entry
	for i := range 200 {
		entries = append(entries, plain(fmt.Sprintf("%s%04d", long, i), i))
	}
	root := build(t, m, entries)
	if root.Level < 4 {
		t.Errorf("level %d", root.Level)
	}
	wantPaths(t, open(t, m, root).All(t.Context()), entries)
}

func TestBuilderStopsWhenPutFails(t *testing.T) {
	full := errors.New("full")
	b := NewBuilder(7, func([]byte) (pack.ChunkID, error) { return pack.ChunkID{}, full })
	var err error
	for i := 0; err == nil && i < 100_000; i++ {
		err = b.Add(plain(fmt.Sprintf("f%07d", i), i))
	}
	_, ferr := b.Finish()
	if !errors.Is(err, full) || !errors.Is(ferr, full) || !errors.Is(b.AddEncoded(nil, nil), full) {
		t.Errorf("%v; %v", err, ferr)
	}
}

func TestBuilderEndsWithFinish(t *testing.T) {
	b := NewBuilder(7, newMemory().put)
	if _, err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(); err == nil {
		t.Error("finished twice")
	}
	if err := b.Add(plain("a", 1)); err == nil {
		t.Error("an entry after the end")
	}
}

func TestReaderReportsWhatFails(t *testing.T) {
	m := newMemory()
	entries := tree(30_000)
	root := build(t, m, entries)
	r := open(t, m, root)
	for i := range r.links {
		id := r.links[i].id
		page := m.chunks[id]
		t.Run(fmt.Sprintf("page %d", i), func(t *testing.T) {
			defer func() { m.chunks[id] = page }()
			delete(m.chunks, id)
			wantError(t, r, &r.links[i], storage.ErrNotFound)
			m.chunks[id] = page[:len(page)-1]
			wantError(t, r, &r.links[i], storage.ErrCorrupt)
			m.chunks[id] = m.chunks[r.links[(i+1)%len(r.links)].id] // a good page in the wrong place
			wantError(t, r, &r.links[i], storage.ErrCorrupt)
			m.chunks[id] = make([]byte, PageMax+1)
			wantError(t, r, &r.links[i], storage.ErrCorrupt)
			denied := fmt.Errorf("get: %w", storage.ErrDenied)
			m.fail[id] = denied
			wantError(t, r, &r.links[i], storage.ErrDenied)
			delete(m.fail, id)
		})
		if i == 4 {
			break
		}
	}
	if _, err := Open(t.Context(), m, Root{ID: root.ID, Level: root.Level, Entries: root.Entries + 1}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("wrong number of entries: %v", err)
	}
	if _, err := Open(t.Context(), m, Root{ID: root.ID, Level: root.Level + 1, Entries: root.Entries}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("wrong level: %v", err)
	}
	if _, err := Open(t.Context(), m, Root{ID: root.ID, Level: -1}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("negative level: %v", err)
	}
}

// wantError goes through the catalog in every way that must meet the page.
func wantError(t *testing.T, r *Reader, l *link, want error) {
	t.Helper()
	check := func(way string, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", way, err, want)
		}
	}
	var err error
	for _, err = range r.All(t.Context()) {
	}
	check("all", err)
	_, _, err = r.Lookup(t.Context(), l.last)
	check("lookup", err)
	c := NewCursor(t.Context(), r)
	defer c.Close()
	_, _, err = c.SeekTo(l.last)
	check("cursor", err)
	_, _, again := c.Next()
	check("cursor again", again)
	empty := newMemory()
	for _, err = range Diff(t.Context(), r, open(t, empty, build(t, empty, nil))) {
	}
	check("diff", err)
}

func TestStoppingEarly(t *testing.T) {
	m := newMemory()
	r := open(t, m, build(t, m, tree(30_000)))
	n := 0
	for _, err := range r.All(t.Context()) {
		if n++; err != nil || n == 2000 {
			break
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var err error
	for _, err = range r.All(ctx) {
		stop()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
