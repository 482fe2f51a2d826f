package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"lifeboat/snapshot/chunk"
	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// memory keeps chunks in a map, and counts what is read.
type memory struct {
	mu     sync.Mutex
	chunks map[pack.ChunkID][]byte
	hash   *chunk.Hasher
	reads  int // chunks read
	calls  int // calls of Read
	fail   map[pack.ChunkID]error
}

func newMemory() *memory {
	return &memory{chunks: map[pack.ChunkID][]byte{}, hash: chunk.NewHasher([32]byte{1, 2, 3}), fail: map[pack.ChunkID]error{}}
}

func (m *memory) put(page []byte) (pack.ChunkID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.hash.Sum(page)
	m.chunks[id] = slices.Clone(page)
	return id, nil
}

// Read emits from two goroutines, last things first, out of a buffer that it
// spoils afterwards: all that the contract allows.
func (m *memory) Read(ctx context.Context, want []pack.ChunkID, emit func(int, []byte) error) error {
	m.mu.Lock()
	m.calls++
	m.reads += len(want)
	m.mu.Unlock()
	part := func(from, to int) error {
		for i := to - 1; i >= from; i-- {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.mu.Lock()
			data, ok := m.chunks[want[i]]
			err := m.fail[want[i]]
			m.mu.Unlock()
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("chunk %s: %w", want[i], storage.ErrNotFound)
			}
			data = slices.Clone(data)
			if err := emit(i, data); err != nil {
				return err
			}
			for j := range data {
				data[j] = 0xff
			}
		}
		return nil
	}
	if len(want) < 2 {
		return part(0, len(want))
	}
	other := make(chan error, 1)
	go func() { other <- part(0, len(want)/2) }()
	err := part(len(want)/2, len(want))
	return errors.Join(err, <-other)
}

func (m *memory) reset() { m.reads, m.calls = 0, 0 }

// build writes a catalog of entries that are sorted.
func build(t testing.TB, m *memory, entries []*Entry) Root {
	t.Helper()
	b := NewBuilder(7, m.put)
	for _, e := range entries {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func open(t testing.TB, m *memory, root Root) *Reader {
	t.Helper()
	r, err := Open(t.Context(), m, root)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// plain makes a file as most files are.
func plain(path string, i int) *Entry {
	return &Entry{
		Path: []byte(path), Mode: 0o644, UID: 1000, GID: 1000, User: "alice", Group: "users",
		MTime: 1_700_000_000_000_000_000 + int64(i), CTime: 1_700_000_000_000_000_000 + int64(i)*7,
		Size: int64(i%100_000) + 1, Inode: uint64(i) + 12, Chunks: []pack.ChunkID{{byte(i), byte(i >> 8), byte(i >> 16), 1}},
	}
}

// tree makes a sorted list of n entries: plain files in directories of a hundred.
func tree(n int) []*Entry { return treeAt("srv/data", n) }

func treeAt(top string, n int) []*Entry {
	var entries []*Entry
	for i := 0; len(entries) < n; i++ {
		dir := fmt.Sprintf("%s/project-%03d/dir-%05d", top, i/50, i)
		entries = append(entries, &Entry{Path: []byte(dir), Type: Dir, Mode: 0o755, UID: 1000, MTime: int64(i)})
		for j := 0; j < 99 && len(entries) < n; j++ {
			entries = append(entries, plain(fmt.Sprintf("%s/some-file-%04d.txt", dir, j), len(entries)))
		}
	}
	return entries
}

// anyEntry makes an entry of any kind at all, valid as a whole.
func anyEntry(r *rand.Rand, path []byte) *Entry {
	e := &Entry{Path: path, Type: Type(r.IntN(6)), Mode: uint32(r.IntN(0o10000)), UID: r.Uint32() >> r.IntN(32), GID: r.Uint32() >> r.IntN(32)}
	names := []string{"", "root", "alice", "caf\xe9", "日本", string(make([]byte, 300))}
	e.User, e.Group = names[r.IntN(len(names))], names[r.IntN(len(names))]
	e.MTime, e.CTime = r.Int64()-r.Int64(), (r.Int64()-r.Int64())>>r.IntN(64)
	e.Inode = r.Uint64() >> r.IntN(64)
	if r.IntN(4) == 0 {
		for range r.IntN(4) {
			name := fmt.Sprintf("user.%x\xff", r.IntN(1<<r.IntN(30)))
			e.Xattrs = append(e.Xattrs, Xattr{Name: name, Value: make([]byte, r.IntN(300))})
		}
		slices.SortFunc(e.Xattrs, compareXattrs)
		e.Xattrs = slices.CompactFunc(e.Xattrs, func(a, b Xattr) bool { return a.Name == b.Name })
	}
	switch e.Type {
	case Symlink:
		e.Target = []byte("../somewhere/\xfe/else")
	case CharDevice, BlockDevice:
		e.Rdev = r.Uint64()
	case File:
		anyContents(r, e)
	}
	if e.Type != Dir && r.IntN(5) == 0 {
		e.Links, e.Dev = 2+r.Uint32N(9), r.Uint64()
	}
	if r.IntN(9) == 0 {
		e.Flags = Partial
	}
	return e
}

func anyContents(r *rand.Rand, e *Entry) {
	if e.Size = r.Int64N(1 << (1 + r.IntN(32))); r.IntN(3) == 0 {
		e.Data = []Range{}
		for at := r.Int64N(1 << 20); at+4096 < e.Size && len(e.Data) < 9; at += 4096 + 1 + r.Int64N(1<<24) {
			e.Data = append(e.Data, Range{at, 1 + r.Int64N(4096)})
		}
	}
	if r.IntN(2) == 0 {
		e.Chunking = Content
	}
	if r.IntN(3) == 0 {
		e.Chunking, e.Piece = Fixed, 32768
	}
	n, _ := e.chunkCount()
	if n == 1 && e.Chunking == Content {
		n = 1 + r.Int64N(min(DataLength(e.Size, e.Data), 1000))
	}
	if n > InlineIDs {
		e.IDPages, n = true, (n+PageIDs-1)/PageIDs
	}
	for range n {
		e.Chunks = append(e.Chunks, pack.ChunkID{byte(r.Uint32()), byte(r.Uint32()), 5})
	}
}

// anyTree makes a sorted list of entries with all kinds of names.
func anyTree(r *rand.Rand, n int) []*Entry {
	paths := map[string]bool{}
	elements := []string{"a", "b", "a b", "a-", "a.d", "\xff\xfe", "日本", "..a", "...", ".a", "name with many many bytes in it", "\x01", "0", "~"}
	for len(paths) < n {
		path := elements[r.IntN(len(elements))]
		for range r.IntN(12) {
			path += "/" + elements[r.IntN(len(elements))]
		}
		paths[path] = true
	}
	var entries []*Entry
	for path := range paths {
		entries = append(entries, &Entry{Path: []byte(path)})
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return Compare(a.Path, b.Path) })
	for i, e := range entries {
		entries[i] = anyEntry(r, e.Path)
	}
	return entries
}
