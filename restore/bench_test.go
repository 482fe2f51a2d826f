package restore

import (
	"context"
	"fmt"
	"os"
	"testing"

	"lifeboat/storage/pack"
)

// straight is a memory that gives what it has without copying or checking.
type straight struct{ *memory }

func (m straight) Read(ctx context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error {
	for i, id := range want {
		if err := emit(i, m.data[id]); err != nil {
			return err
		}
	}
	return nil
}

// The benchmarks write to memory where the system has such a directory: what is
// measured is this package and the kernel, not a disk.
func benchDir(b *testing.B) string {
	top := "/dev/shm"
	if _, err := os.Stat(top); err != nil {
		top = b.TempDir()
	}
	dir, err := os.MkdirTemp(top, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func BenchmarkSmallFiles(b *testing.B) {
	const dirs, perDir = 1000, 20
	m := newMemory()
	for d := range dirs {
		m.dir(fmt.Sprintf("d%04d", d), 0o755)
		for i := range perDir {
			m.file(fmt.Sprintf("d%04d/file%02d.c", d, i), pattern(uint64(i), 3000))
		}
	}
	m.sort()
	top := benchDir(b)
	for b.Loop() {
		b.StopTimer()
		dir, err := os.MkdirTemp(top, "")
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		benchRun(b, m, Options{Target: dir, NoSync: true})
		b.StopTimer()
		os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(dirs*perDir*b.N)/b.Elapsed().Seconds(), "files/s")
}

func BenchmarkBigFile(b *testing.B) {
	m := newMemory()
	piece := pattern(1, 1<<20)
	e := m.file("big", nil)
	id := m.put(piece)
	const pieces = 512
	e.Size = pieces << 20
	for range pieces {
		e.Chunks = append(e.Chunks, id)
	}
	e.Chunking = 1
	m.paged(e)
	dir := benchDir(b)
	b.SetBytes(pieces << 20)
	for b.Loop() {
		benchRun(b, m, Options{Target: dir, NoSync: true, Overwrite: Always})
	}
}

func benchRun(b *testing.B, m *memory, o Options) {
	p, err := NewPlan(b.Context(), m.all, o)
	if err != nil {
		b.Fatal(err)
	}
	res, err := p.Run(b.Context(), m.all, straight{m})
	if err != nil || !res.Complete() {
		b.Fatal(err, res.Problems)
	}
}
