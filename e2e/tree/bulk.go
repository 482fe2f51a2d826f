package tree

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Small makes n small files in so many directories, fast: for memory tests.
// Each holds its own short text, so that none deduplicates against another.
func Small(dir string, n, dirs int, seed uint64) error {
	if dirs < 1 {
		return errors.New("small files need a directory")
	}
	rng := rand.New(rand.NewPCG(seed, 0x736d616c6c66696c))
	for d := range dirs {
		name := filepath.Join(dir, fmt.Sprintf("%03d", d/1000), fmt.Sprintf("%03d", d%1000))
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		from, to := n*d/dirs, n*(d+1)/dirs
		if err := smallDir(name, from, to, rng); err != nil {
			return err
		}
	}
	return nil
}

func smallDir(dir string, from, to int, rng *rand.Rand) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var data []byte
	for i := from; i < to; i++ {
		data = fmt.Appendf(data[:0], "file %d of a million: %016x\n", i, rng.Uint64())
		if err := smallFile(fd, fmt.Sprintf("file-%07d.txt", i), data, unix.Timespec{Sec: 1767225600 - int64(i), Nsec: int64(i) * 997}); err != nil {
			return fmt.Errorf("%s: file %d: %w", dir, i, err)
		}
	}
	return nil
}

// Source makes something like the source tree of a large project: so many text
// files of a few KiB (the median is 3 KiB, the mean 9), nested directories of
// about 12 files each, and a few binaries.
func Source(dir string, files int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x736f757263657472))
	const perDir = 12
	dirs := []string{dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for made := 0; made < files; {
		parent := dirs[rng.IntN(len(dirs))]
		if strings.Count(parent, "/")-strings.Count(dir, "/") > 9 {
			continue
		}
		d := filepath.Join(parent, string(appendIdentifier(nil, uint32(rng.IntN(1<<20))))+fmt.Sprint(len(dirs)))
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
		dirs = append(dirs, d)
		n := min(1+rng.IntN(2*perDir), files-made)
		if err := sourceDir(d, n, rng); err != nil {
			return err
		}
		made += n
	}
	return nil
}

func sourceDir(dir string, files int, rng *rand.Rand) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i := range files {
		n := int64(3000 * math.Exp(1.4*rng.NormFloat64()))
		n = min(n, 2<<20)
		data, suffix := Text(rng, n), "go"
		if rng.IntN(60) == 0 {
			data, suffix = random(rng, n), "png"
		}
		name := string(appendIdentifier(nil, uint32(rng.IntN(1<<16)))) + fmt.Sprintf("_%d.%s", i, suffix)
		when := unix.Timespec{Sec: 1767225600 - rng.Int64N(1e8), Nsec: rng.Int64N(1e9)}
		if err := smallFile(fd, name, data, when); err != nil {
			return err
		}
	}
	return nil
}

// LargeRandom writes size bytes that do not compress.
func LargeRandom(path string, size int64, seed uint64) error {
	return large(path, size, seed, random)
}

// LargeText writes size bytes that compress about 3 : 1 and do not repeat.
func LargeText(path string, size int64, seed uint64) error { return large(path, size, seed, Text) }

func large(path string, size int64, seed uint64, make func(*rand.Rand, int64) []byte) error {
	rng := rand.New(rand.NewPCG(seed, 0x6c61726765666c65))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, readBytes)
	for left := size; left > 0; {
		n := min(left, 1<<20)
		if _, err := w.Write(make(rng, n)); err != nil {
			return errors.Join(err, f.Close())
		}
		left -= n
	}
	return errors.Join(w.Flush(), f.Close())
}

// LargeSparse writes a file of which every tenth MiB is random data and the
// rest is a hole.
func LargeSparse(path string, size int64, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x6c61726765737073))
	var spans []Span
	for at := int64(0); at+1<<20 <= size; at += 10 << 20 {
		spans = append(spans, Span{at, 1 << 20})
	}
	return Sparse(path, size, spans, rng)
}
