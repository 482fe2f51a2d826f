//go:build linux

package volume

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/snapshot/catalog"
)

// benchFiles is the size of the benchmarked tree: 100 empty files in a directory.
var benchFiles = flag.Int("volume.files", 20_000, "files of the walk benchmark")

func BenchmarkWalk(b *testing.B) {
	root := b.TempDir()
	for d := range *benchFiles / 100 {
		dir := filepath.Join(root, fmt.Sprintf("%02d", d%50), fmt.Sprintf("directory-%05d", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 100 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%08d.txt", f)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("bare", func(b *testing.B) {
		measure(b, func() (n int) { return bareWalk(b, root, 2) })
	})
	for _, workers := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			v := open(b, Options{Paths: []string{root}, Workers: workers, Exclude: []string{"*.o", "/proc/**"}})
			measure(b, func() (n int) {
				must(b, v.Walk(b.Context(), func(*Stat) error { n++; return nil }))
				return n
			})
		})
	}
}

// measure reports files per second, and what the processors spent on each, which
// says more on a machine that does other things too.
func measure(b *testing.B, walk func() int) {
	b.ReportAllocs()
	var before, after unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	n := 0
	for b.Loop() {
		n += walk()
	}
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
	b.ReportMetric(float64(spent)/float64(n), "cpu-ns/file")
}

// bareWalk lists and looks, and no more: without order, without keeping anything.
func bareWalk(b *testing.B, root string, workers int) int {
	tops, err := os.ReadDir(root)
	must(b, err)
	work := make(chan string, len(tops))
	for _, top := range tops {
		work <- filepath.Join(root, top.Name())
	}
	close(work)
	var total atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			buf := make([]byte, direntsBytes)
			for path := range work {
				total.Add(int64(bareDir(b, unix.AT_FDCWD, path, buf)))
			}
		})
	}
	group.Wait()
	return int(total.Load()) + len(tops)
}

func bareDir(b *testing.B, at int, path string, buf []byte) (n int) {
	fd, err := unix.Openat(at, path, dirRead, 0)
	must(b, err)
	defer unix.Close(fd)
	var l listing
	must(b, l.read(fd, buf))
	var x unix.Statx_t
	for i := range l.refs {
		n++
		if errno := statx(fd, l.nameZ(i), 0, &x); errno != 0 {
			b.Fatal(errno)
		}
		if x.Mode&unix.S_IFMT == unix.S_IFDIR {
			n += bareDir(b, fd, string(l.name(i)), buf)
		}
	}
	return n
}

func BenchmarkOpenClose(b *testing.B) {
	onFile(b, func(v *Volume, s *Stat) error {
		f, err := v.Open(s)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

func BenchmarkAttributes(b *testing.B) {
	var e catalog.Entry
	onFile(b, func(v *Volume, s *Stat) error { return v.Attributes(s, &e) })
}

// onFile repeats something with one file of a walk.
func onFile(b *testing.B, do func(*Volume, *Stat) error) {
	root := b.TempDir()
	write(b, filepath.Join(root, "a/b/c/file"), "contents")
	v := open(b, Options{Paths: []string{root}})
	must(b, v.Walk(b.Context(), func(s *Stat) error {
		if !s.Regular() {
			return nil
		}
		b.ReportAllocs()
		for b.Loop() {
			must(b, do(v, s))
		}
		return nil
	}))
}
