package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// memory is a catalog and its chunks in memory.
type memory struct {
	entries []catalog.Entry
	data    map[pack.ChunkID][]byte
	broken  map[pack.ChunkID]bool // fail to be read

	shuffle bool // deliver out of order
	onEmit  func()

	mu    sync.Mutex
	reads int
	given int64
}

func newMemory() *memory {
	return &memory{data: map[pack.ChunkID][]byte{}, broken: map[pack.ChunkID]bool{}}
}

func idOf(data []byte) pack.ChunkID { return sha256.Sum256(data) }

func newHash() func([]byte) pack.ChunkID { return idOf }

func (m *memory) put(data []byte) pack.ChunkID {
	id := idOf(data)
	m.data[id] = bytes.Clone(data)
	return id
}

// add adds an entry as it is.
func (m *memory) add(e catalog.Entry) *catalog.Entry {
	m.entries = append(m.entries, e)
	return &m.entries[len(m.entries)-1]
}

const someTime = 1_700_000_000_123_456_789

func (m *memory) dir(path string, mode uint32) *catalog.Entry {
	return m.add(catalog.Entry{Path: []byte(path), Type: catalog.Dir, Mode: mode, MTime: someTime - int64(len(path))})
}

// file adds a file of one chunk, or cut into pieces of the lengths.
func (m *memory) file(path string, contents []byte, cut ...int) *catalog.Entry {
	e := catalog.Entry{Path: []byte(path), Mode: 0o644, MTime: someTime + int64(len(path)), Size: int64(len(contents))}
	m.cut(&e, contents, cut...)
	return m.add(e)
}

// cut makes the chunks of an entry out of what is not holes.
func (m *memory) cut(e *catalog.Entry, stream []byte, cut ...int) {
	e.Chunks = nil
	if len(cut) > 0 {
		e.Chunking = catalog.Content
	}
	for _, n := range cut {
		n = min(n, len(stream))
		e.Chunks = append(e.Chunks, m.put(stream[:n]))
		stream = stream[n:]
	}
	if len(stream) > 0 {
		e.Chunks = append(e.Chunks, m.put(stream))
	}
}

// paged moves an entry's chunk ids to pages.
func (m *memory) paged(e *catalog.Entry) {
	var pages []pack.ChunkID
	for ids := range slices.Chunk(e.Chunks, catalog.PageIDs) {
		var page []byte
		for _, id := range ids {
			page = append(page, id[:]...)
		}
		pages = append(pages, m.put(page))
	}
	e.Chunks, e.IDPages = pages, true
}

func (m *memory) sort() *memory {
	slices.SortFunc(m.entries, func(a, b catalog.Entry) int { return catalog.Compare(a.Path, b.Path) })
	return m
}

// all yields the entries, each time in the same storage, which is spoiled afterwards.
func (m *memory) all(ctx context.Context) Entries {
	return func(yield func(*catalog.Entry, error) bool) {
		for i := range m.entries {
			e := m.entries[i]
			e.Path = bytes.Clone(e.Path)
			e.Chunks = slices.Clone(e.Chunks)
			e.Target = bytes.Clone(e.Target)
			if e.Data != nil {
				e.Data = append([]catalog.Range{}, e.Data...)
			}
			if !yield(&e, nil) {
				return
			}
			for j := range e.Path {
				e.Path[j] = '!'
			}
			for j := range e.Chunks {
				e.Chunks[j] = pack.ChunkID{}
			}
			for j := range e.Data {
				e.Data[j] = catalog.Range{}
			}
		}
	}
}

var errBroken = errors.New("broken chunk")

// Read gives chunks from two goroutines.
func (m *memory) Read(ctx context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error {
	m.mu.Lock()
	m.reads++
	m.mu.Unlock()
	order := make([]int, len(want))
	for i := range order {
		order[i] = i
	}
	if m.shuffle {
		rand.New(rand.NewPCG(7, uint64(len(want)))).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for k := range errs {
		wg.Go(func() {
			for j := k; j < len(order) && errs[k] == nil && ctx.Err() == nil; j += len(errs) {
				errs[k] = m.one(want, order[j], emit)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func (m *memory) one(want []pack.ChunkID, i int, emit func(int, []byte) error) error {
	data, ok := m.data[want[i]]
	if !ok || m.broken[want[i]] {
		return fmt.Errorf("read %v: %w", want[i], errBroken)
	}
	buf := bytes.Clone(data)
	m.mu.Lock()
	m.given += int64(len(data))
	if m.onEmit != nil {
		m.onEmit()
	}
	m.mu.Unlock()
	err := emit(i, buf)
	for j := range buf {
		buf[j] = 0xee
	}
	return err
}

// measured is a memory that knows the lengths of its chunks.
type measured struct{ *memory }

func (m measured) Lengths(ctx context.Context, want []pack.ChunkID, lengths []uint32) error {
	for i, id := range want {
		lengths[i] = uint32(len(m.data[id]))
	}
	return nil
}

var _ Lengths = measured{}

// restoreTo plans and runs.
func restoreTo(t testing.TB, m *memory, o Options) (*Result, error) {
	t.Helper()
	o.NoSync = true
	p, err := NewPlan(t.Context(), m.all, o)
	if err != nil {
		return nil, err
	}
	return p.Run(t.Context(), m.all, m)
}

func mustRestore(t testing.TB, m *memory, o Options) *Result {
	t.Helper()
	res, err := restoreTo(t, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustComplete(t testing.TB, m *memory, o Options) *Result {
	t.Helper()
	res := mustRestore(t, m, o)
	if !res.Complete() || res.NotSet.Total() != 0 {
		t.Fatalf("not complete: %v, not set %v", res.Problems, res.NotSet.Names)
	}
	return res
}

func pattern(seed uint64, n int) []byte {
	r, b := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

var _ iter.Seq2[*catalog.Entry, error] = Entries(nil)
