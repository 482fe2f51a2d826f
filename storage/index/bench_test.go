package index

import (
	"flag"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"lifeboat/storage/pack"
)

// benchChunks is how many chunks the benchmarks' index has; go test -bench . -args N
// gives it another number.
func benchChunks(b *testing.B) uint64 {
	if flag.NArg() == 0 {
		return 1 << 20
	}
	n, err := strconv.ParseUint(flag.Arg(0), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

const benchPack = 256 // chunks of a pack, 8 of them in a frame

// fill adds chunks 0 … chunks-1. It makes its records in one place.
func fill(b *testing.B, x *Index, chunks uint64) {
	r := PackRecord{Kind: pack.Data, Frames: make([]pack.Frame, benchPack/8)}
	list := make([]pack.Chunk, benchPack)
	for first := uint64(0); first < chunks; first += benchPack {
		at := uint32(512)
		for i := range r.Frames {
			f := &r.Frames[i]
			*f = pack.Frame{Offset: at, Length: 80_000, Plain: 80_000, Chunks: list[i*8 : i*8+8]}
			for j := range f.Chunks {
				f.Chunks[j] = pack.Chunk{ID: chunkID(first + uint64(i*8+j)), Length: 10_000}
			}
			at += 81_408
		}
		r.Hash, r.Size = pack.Hash(chunkID(first|1<<62)), uint64(at)+4096
		if err := x.Add(r, self); err != nil {
			b.Fatal(err)
		}
	}
	if err := x.Flush(); err != nil {
		b.Fatal(err)
	}
}

// anonymous gives the process's anonymous memory in MiB.
func anonymous(b *testing.B) float64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Skip("no RssAnon")
	return 0
}

func BenchmarkBuild(b *testing.B) {
	chunks := benchChunks(b)
	for b.Loop() {
		x := open(b, b.TempDir(), Options{})
		fill(b, x, chunks)
		x.Destroy()
	}
	b.ReportMetric(float64(chunks)*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}

func BenchmarkLookup(b *testing.B) {
	chunks := benchChunks(b)
	before := anonymous(b)
	dir := b.TempDir()
	x := open(b, dir, Options{})
	fill(b, x, chunks)
	b.Logf("building: %.1f MiB more anonymous memory than before", anonymous(b)-before)
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	before = anonymous(b)
	x = open(b, dir, Options{})
	s := x.Stats()
	b.Logf("open: %.1f MiB more; %d files of %.1f bytes, filters of %.3f bytes for a chunk",
		anonymous(b)-before, s.Files, float64(s.FileBytes)/float64(chunks), float64(s.FilterBytes)/float64(chunks))
	rng := rand.New(rand.NewPCG(1, 1))
	run := func(name string, from, n uint64, want bool) {
		ids := make([]pack.ChunkID, 1<<16)
		for i := range ids {
			ids[i] = chunkID(from + rng.Uint64N(n))
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_, ok, err := x.Has(ids[i%len(ids)])
				if err != nil || ok != want {
					b.Fatal(ok, err)
				}
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
	}
	run("miss", chunks, 1<<40, false)
	run("hit", 0, chunks, true)
	run("hit-near", 0, 20_000, true)
	b.Logf("after lookups: %.1f MiB more", anonymous(b)-before)
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	x := open(b, dir, Options{})
	fill(b, x, benchChunks(b))
	x.Close()
	for b.Loop() {
		open(b, dir, Options{}).Close()
	}
}
