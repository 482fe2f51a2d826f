package catalog

import (
	"context"
	"testing"

	"lifeboat/storage/pack"
)

const benchEntries = 200_000

func report(b *testing.B, entries int) {
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mentries/s")
}

func discard([]byte) (pack.ChunkID, error) { return pack.ChunkID{}, nil }

func BenchmarkBuilderAdd(b *testing.B) {
	entries := tree(benchEntries)
	b.ReportAllocs()
	for b.Loop() {
		builder := NewBuilder(7, discard)
		for _, e := range entries {
			if err := builder.Add(e); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := builder.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, benchEntries)
}

// quiet serves chunks without counting or copying.
type quiet struct{ chunks map[pack.ChunkID][]byte }

func (q quiet) Read(_ context.Context, want []pack.ChunkID, emit func(int, []byte) error) error {
	for i, id := range want {
		if err := emit(i, q.chunks[id]); err != nil {
			return err
		}
	}
	return nil
}

func benchReader(b *testing.B) (*Reader, []*Entry) {
	entries := tree(benchEntries)
	m := newMemory()
	root := build(b, m, entries)
	r, err := Open(b.Context(), quiet{m.chunks}, root)
	if err != nil {
		b.Fatal(err)
	}
	return r, entries
}

func BenchmarkReaderAll(b *testing.B) {
	r, _ := benchReader(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range r.All(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	report(b, benchEntries)
}

// BenchmarkNoChange is what a run without changes does to the catalog: find each
// path in the parent's, and write the entry again.
func BenchmarkNoChange(b *testing.B) {
	r, entries := benchReader(b)
	b.ReportAllocs()
	for b.Loop() {
		c, builder := NewCursor(b.Context(), r), NewBuilder(7, discard)
		for _, e := range entries {
			if _, ok, err := c.SeekTo(e.Path); !ok || err != nil {
				b.Fatal(ok, err)
			}
			if err := builder.AddEncoded(e.Path, c.Raw()); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
	}
	report(b, benchEntries)
}

func BenchmarkLookup(b *testing.B) {
	r, entries := benchReader(b)
	i := 0
	for b.Loop() {
		i = (i + 7919) % len(entries)
		if _, ok, err := r.Lookup(b.Context(), entries[i].Path); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
