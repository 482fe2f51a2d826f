package catalog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	for seed := range uint64(20) {
		m := newMemory()
		entries := anyTree(rand.New(rand.NewPCG(seed, 1)), 300)
		r := open(t, m, build(t, m, entries))
		i := 0
		for e, err := range r.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if want := entries[i]; !same(e, want) {
				t.Fatalf("entry %d:\n got %+v\nwant %+v", i, e, want)
			}
			i++
		}
		if i != len(entries) {
			t.Fatalf("%d entries of %d", i, len(entries))
		}
	}
}

// same compares entries, where no chunks and an empty list of them are one.
func same(a, b *Entry) bool {
	x, y := a.Clone(), b.Clone()
	for _, e := range []*Entry{x, y} {
		if len(e.Chunks) == 0 {
			e.Chunks = nil
		}
		if len(e.Xattrs) == 0 {
			e.Xattrs = nil
		}
		for i := range e.Xattrs {
			if len(e.Xattrs[i].Value) == 0 {
				e.Xattrs[i].Value = nil
			}
		}
	}
	return reflect.DeepEqual(x, y)
}

// Another implementation must read our pages, and write the same bytes.
func TestPagesAreDeterministicCBOR(t *testing.T) {
	dec, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxArrayElements: 1 << 20}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	build(t, m, anyTree(rand.New(rand.NewPCG(4, 4)), 3000))
	if len(m.chunks) < 4 {
		t.Fatalf("%d pages are too few to mean something", len(m.chunks))
	}
	for id, page := range m.chunks {
		var any3 []any
		if err := dec.Unmarshal(page, &any3); err != nil {
			t.Fatalf("page %s: %v", id, err)
		}
		again, err := enc.Marshal(any3)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, page) {
			t.Errorf("page %s is encoded differently by others", id)
		}
	}
}

func TestEntriesThatAreRefused(t *testing.T) {
	id := pack.ChunkID{1}
	many := make([]pack.ChunkID, InlineIDs+1)
	for name, e := range map[string]Entry{
		"dot dot":               {Path: []byte("a/../b")},
		"root file":             {},
		"type":                  {Path: []byte("a"), Type: 6},
		"mode":                  {Path: []byte("a"), Mode: 0o10000},
		"flags":                 {Path: []byte("a"), Flags: 8},
		"user":                  {Path: []byte("a"), User: strings.Repeat("u", NameMax+1)},
		"one link":              {Path: []byte("a"), Links: 1},
		"links of a directory":  {Path: []byte("a"), Type: Dir, Links: 2},
		"device without links":  {Path: []byte("a"), Dev: 1},
		"rdev of a file":        {Path: []byte("a"), Rdev: 1},
		"target of a file":      {Path: []byte("a"), Target: []byte("b")},
		"no target":             {Path: []byte("a"), Type: Symlink},
		"NUL target":            {Path: []byte("a"), Type: Symlink, Target: []byte("a\x00")},
		"long target":           {Path: []byte("a"), Type: Symlink, Target: make([]byte, TargetMax+1)},
		"xattr without a name":  {Path: []byte("a"), Xattrs: []Xattr{{}}},
		"xattr with a NUL":      {Path: []byte("a"), Xattrs: []Xattr{{Name: "a\x00"}}},
		"xattr twice":           {Path: []byte("a"), Xattrs: []Xattr{{Name: "b"}, {Name: "a"}, {Name: "b"}}},
		"too many xattrs":       {Path: []byte("a"), Xattrs: make([]Xattr, XattrsMax+1)},
		"large xattr":           {Path: []byte("a"), Xattrs: []Xattr{{Name: "b", Value: make([]byte, EntryMax)}}},
		"chunks of a directory": {Path: []byte("a"), Type: Dir, Chunks: []pack.ChunkID{id}},
		"size":                  {Path: []byte("a"), Size: -1},
		"no chunk":              {Path: []byte("a"), Size: 1},
		"chunk of nothing":      {Path: []byte("a"), Chunks: []pack.ChunkID{id}},
		"two whole":             {Path: []byte("a"), Size: 9, Chunks: []pack.ChunkID{id, id}},
		"chunking":              {Path: []byte("a"), Size: 9, Chunking: 3, Chunks: []pack.ChunkID{id}},
		"fixed without piece":   {Path: []byte("a"), Size: 9, Chunking: Fixed, Chunks: []pack.ChunkID{id}},
		"piece of content":      {Path: []byte("a"), Size: 9, Piece: 4096, Chunks: []pack.ChunkID{id}},
		"pieces":                {Path: []byte("a"), Size: 8193, Chunking: Fixed, Piece: 4096, Chunks: []pack.ChunkID{id, id}},
		"many inline":           {Path: []byte("a"), Size: 1 << 30, Chunking: Content, Chunks: many},
		"id pages of whole":     {Path: []byte("a"), Size: 1 << 30, IDPages: true, Chunks: []pack.ChunkID{id}},
		"no id pages":           {Path: []byte("a"), Size: 1 << 30, Chunking: Content, IDPages: true},
		"few on id pages":       {Path: []byte("a"), Size: 8192, Chunking: Fixed, Piece: 4096, IDPages: true, Chunks: []pack.ChunkID{id}},
		"unreadable chunks":     {Path: []byte("a"), Size: 9, Flags: Unreadable, Chunks: []pack.ChunkID{id}},
		"range past the end":    {Path: []byte("a"), Size: 9, Data: []Range{{5, 5}}, Chunks: []pack.ChunkID{id}},
		"negative range":        {Path: []byte("a"), Size: 9, Data: []Range{{-5, 5}}, Chunks: []pack.ChunkID{id}},
		"empty range":           {Path: []byte("a"), Size: 9, Data: []Range{{5, 0}}, Chunks: []pack.ChunkID{id}},
		"huge range":            {Path: []byte("a"), Size: 9, Data: []Range{{5, 1<<63 - 1}}, Chunks: []pack.ChunkID{id}},
		"touching ranges":       {Path: []byte("a"), Size: 9, Data: []Range{{0, 2}, {2, 2}}, Chunks: []pack.ChunkID{id}},
		"ranges backwards":      {Path: []byte("a"), Size: 9, Data: []Range{{4, 2}, {1, 2}}, Chunks: []pack.ChunkID{id}},
		"too many ranges":       {Path: []byte("a"), Size: 9, Data: make([]Range, RangesMax+1), Chunks: []pack.ChunkID{id}},
	} {
		m := newMemory()
		b := NewBuilder(1, m.put)
		if err := b.Add(&e); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
			continue
		}
		// The builder goes on as if nothing had been.
		if err := b.Add(&Entry{Path: []byte("z")}); err != nil {
			t.Errorf("%s: then %v", name, err)
		}
		root, err := b.Finish()
		if err != nil || root.Entries != 1 {
			t.Errorf("%s: then %+v, %v", name, root, err)
		}
		if got, _, err := open(t, m, root).Lookup(t.Context(), []byte("z")); err != nil || got == nil {
			t.Errorf("%s: then %v", name, err)
		}
	}
}

func TestEntriesOutOfOrder(t *testing.T) {
	b := NewBuilder(1, newMemory().put)
	for _, tt := range []struct {
		path string
		ok   bool
	}{{"a", true}, {"a/b", true}, {"a/b", false}, {"a", false}, {"a/a", false}, {"a-", true}, {"a/z", false}, {"b", true}} {
		raw := appendEntry(nil, &Entry{Path: []byte(tt.path)})
		if tt.ok == (tt.path == "a-") {
			if err := b.AddEncoded([]byte(tt.path), raw); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("encoded %s: %v", tt.path, err)
			}
			continue
		}
		if err := b.Add(&Entry{Path: []byte(tt.path)}); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
	if err := b.AddEncoded([]byte("c"), appendEntry(nil, &Entry{Path: []byte("d")})); !errors.Is(err, ErrInvalid) {
		t.Errorf("another entry's encoding: %v", err)
	}
	if err := b.AddEncoded([]byte("c"), []byte{0xa1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("half an encoding: %v", err)
	}
}

func TestXattrsAreSortedWhenAdded(t *testing.T) {
	m := newMemory()
	root := build(t, m, []*Entry{{Path: []byte("a"), Xattrs: []Xattr{{Name: "zz"}, {Name: "y", Value: []byte("1")}, {Name: "aaa"}}}})
	e, _, err := open(t, m, root).Lookup(t.Context(), []byte("a"))
	if err != nil || len(e.Xattrs) != 3 || e.Xattrs[0].Name != "y" || e.Xattrs[1].Name != "zz" || e.Xattrs[2].Name != "aaa" {
		t.Errorf("%+v, %v", e, err)
	}
}

// readAny reads a page as whatever level it claims, without a page above it.
func readAny(data []byte) error {
	for level := range 3 {
		p := parser{buf: data}
		items, err := p.readPageHead(level)
		if err != nil {
			continue
		}
		if level > 0 {
			links, err := readLinks(data, &link{level: level, entries: 1})
			if err == nil && len(links) != 1 {
				err = errors.New("one entry under several links")
			}
			return err
		}
		_, _, err = readLeaf(data, items)
		return err
	}
	return damaged(pack.ChunkID{}, errors.New("no page"))
}

// readLeaf reads a leaf and writes it again.
func readLeaf(data []byte, items int) (entries []*Entry, again []byte, err error) {
	var f leaf
	if err := f.open(data, link{entries: uint64(items)}); err != nil {
		return nil, nil, err
	}
	again = appendPageHead(nil, 0, items)
	for f.left > 0 {
		var e Entry
		if err := f.next(&e); err != nil {
			return nil, nil, err
		}
		again = appendEntry(again, &e)
		entries = append(entries, e.Clone())
	}
	return entries, again, nil
}

func FuzzPage(f *testing.F) {
	m := newMemory()
	build(f, m, anyTree(rand.New(rand.NewPCG(9, 9)), 12))
	build(f, m, []*Entry{{Path: []byte("only")}})
	build(f, m, nil)
	for _, page := range m.chunks {
		f.Add(page)
	}
	f.Add(appendLink(appendPageHead(nil, 1, 1), &link{first: []byte("a"), last: []byte("a"), entries: 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := readAny(data); err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		p := parser{buf: data}
		items, err := p.readPageHead(0)
		if err != nil {
			return // a page of links
		}
		entries, again, err := readLeaf(data, items)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("one page, two encodings:\n%x\n%x", data, again)
		}
		b := NewBuilder(1, newMemory().put)
		for _, e := range entries {
			if err := b.Add(e); err != nil {
				t.Fatalf("read but not written: %v", err)
			}
		}
	})
}

func FuzzLinks(f *testing.F) {
	two := appendPageHead(nil, 1, 2)
	two = appendLink(two, &link{first: []byte("a"), last: []byte("b"), entries: 2})
	two = appendLink(two, &link{first: []byte("c"), last: []byte("d/e"), entries: 3})
	f.Add(two, uint64(5))
	f.Fuzz(func(t *testing.T, data []byte, entries uint64) {
		links, err := readLinks(data, &link{level: 1, entries: entries})
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		again := appendPageHead(nil, 1, len(links))
		for i := range links {
			again = appendLink(again, &links[i])
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("one page, two encodings:\n%x\n%x", data, again)
		}
	})
}

func TestNoAllocationPerEntry(t *testing.T) {
	entries := tree(20_000)
	b := NewBuilder(1, discard)
	at := 0
	if n := testing.AllocsPerRun(9000, func() {
		if err := b.Add(entries[at]); err != nil {
			t.Fatal(err)
		}
		at++
	}); n != 0 {
		t.Errorf("%v allocations to write an entry", n)
	}
	m := newMemory()
	r := open(t, m, build(t, m, entries))
	if n := testing.AllocsPerRun(3, func() {
		for _, err := range r.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}); n > 1000 {
		t.Errorf("%v allocations to read 20,000 entries", n)
	}
}
