package catalog

import (
	"errors"
	"slices"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

func idsOf(n int) []pack.ChunkID {
	ids := make([]pack.ChunkID, n)
	for i := range ids {
		ids[i] = pack.ChunkID{byte(i), byte(i >> 8), byte(i >> 16), 9}
	}
	return ids
}

// fileOf makes the entry of a file of pieces, and stores its pages of ids.
func fileOf(t *testing.T, m *memory, c *IDs, n int) *Entry {
	t.Helper()
	e := &Entry{Path: []byte("file"), Size: int64(n) * 4096, Chunking: Fixed, Piece: 4096}
	for _, id := range idsOf(n) {
		if err := c.Add(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Finish(e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestChunkLists(t *testing.T) {
	m := newMemory()
	c := NewIDs(m.put)
	for _, n := range []int{0, 1, InlineIDs, InlineIDs + 1, PageIDs - 1, PageIDs, PageIDs + 1, 2 * PageIDs, 21*PageIDs + 5} {
		e := fileOf(t, m, c, n)
		if e.IDPages != (n > InlineIDs) {
			t.Errorf("%d chunks: pages %v", n, e.IDPages)
		}
		if err := e.check(); err != nil {
			t.Errorf("%d chunks: %v", n, err)
		}
		var got []pack.ChunkID
		for id, err := range FileChunks(t.Context(), e, m) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		if !slices.Equal(got, idsOf(n)) {
			t.Errorf("%d chunks: %d came back", n, len(got))
		}
		for range FileChunks(t.Context(), e, m) {
			break
		}
	}
	for range 3 { // a file that is given up leaves nothing behind
		if err := c.Add(pack.ChunkID{1}); err != nil {
			t.Fatal(err)
		}
	}
	c.Reset()
	if e := fileOf(t, m, c, 2); len(e.Chunks) != 2 {
		t.Errorf("%d chunks after a reset", len(e.Chunks))
	}
}

func TestDamagedChunkLists(t *testing.T) {
	m := newMemory()
	e := fileOf(t, m, NewIDs(m.put), 10*PageIDs+7)
	for _, tt := range []struct {
		name  string
		page  int
		spoil func([]byte) []byte
		want  error
	}{
		{"shorter", 3, func(b []byte) []byte { return b[:len(b)-idLen] }, storage.ErrCorrupt},
		{"half an id", 3, func(b []byte) []byte { return b[:len(b)-1] }, storage.ErrCorrupt},
		{"longer", 3, func(b []byte) []byte { return append(b, b[:idLen]...) }, storage.ErrCorrupt},
		{"empty", 10, func(b []byte) []byte { return b[:0] }, storage.ErrCorrupt},
		{"last shorter", 10, func(b []byte) []byte { return b[:idLen] }, storage.ErrCorrupt},
		{"last longer", 10, func(b []byte) []byte { return append(b, b[:idLen]...) }, storage.ErrCorrupt},
		{"missing", 10, nil, storage.ErrNotFound},
	} {
		id := e.Chunks[tt.page]
		page := m.chunks[id]
		if tt.spoil == nil {
			delete(m.chunks, id)
		} else {
			m.chunks[id] = tt.spoil(slices.Clone(page))
		}
		var err error
		for _, err = range FileChunks(t.Context(), e, m) {
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		m.chunks[id] = page
	}
}

func TestChunkListPutFails(t *testing.T) {
	full := errors.New("full")
	c := NewIDs(func([]byte) (pack.ChunkID, error) { return pack.ChunkID{}, full })
	var err error
	for range PageIDs {
		err = errors.Join(err, c.Add(pack.ChunkID{}))
	}
	if !errors.Is(err, full) || !errors.Is(c.Finish(new(Entry)), full) {
		t.Error(err)
	}
}

func TestPieces(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		piece uint32
		data  []Range
		want  []Range
	}{
		{0, 10, nil, nil},
		{0, 10, []Range{}, nil},
		{25, 10, nil, []Range{{0, 10}, {10, 10}, {20, 5}}},
		{20, 10, nil, []Range{{0, 10}, {10, 10}}},
		{25, 10, []Range{}, nil},
		{100, 10, []Range{{5, 1}, {7, 1}, {9, 2}, {35, 30}, {99, 1}}, []Range{{0, 10}, {10, 10}, {30, 10}, {40, 10}, {50, 10}, {60, 10}, {90, 10}}},
		{25, 10, []Range{{12, 13}}, []Range{{10, 10}, {20, 5}}},
		{25, 10, []Range{{10, 10}}, []Range{{10, 10}}},
		{25, 0, nil, nil},
	} {
		got := slices.Collect(Pieces(tt.size, tt.piece, tt.data))
		if !slices.Equal(got, tt.want) || PieceCount(tt.size, tt.piece, tt.data) != int64(len(tt.want)) {
			t.Errorf("%d/%d %v: %v, want %v", tt.size, tt.piece, tt.data, got, tt.want)
		}
	}
	for range Pieces(1<<40, 512, nil) {
		break
	}
	for range Pieces(100, 10, []Range{{5, 1}, {50, 1}}) {
		break
	}
	if n := DataLength(100, []Range{{5, 10}, {20, 3}}); n != 13 {
		t.Errorf("%d bytes of data", n)
	}
}

func TestSummary(t *testing.T) {
	var s Summary
	for _, e := range []*Entry{
		{Size: 100, Data: []Range{{0, 10}}, Links: 2}, {Size: 50, Flags: Changed}, {Type: Dir, Size: 4096, Flags: Partial},
		{Type: Symlink, Size: 7}, {Type: Fifo}, {Type: BlockDevice}, {Size: 9, Flags: Unreadable},
	} {
		s.Add(e)
	}
	want := Summary{Files: 3, Directories: 1, Symlinks: 1, Others: 2, HardLinks: 1, Bytes: 159, DataBytes: 69, Changed: 1, Unreadable: 1, Partial: 1}
	if s != want || s.Entries() != 7 || !s.Flagged() {
		t.Errorf("%+v", s)
	}
}
