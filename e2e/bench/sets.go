package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"lifeboat/e2e/tree"
)

const (
	largeParts   = 4    // files that a set of large ones is made of
	changedShare = 0.01 // of the files, or of an image's blocks
	imageFill    = 24 << 10
	dataSeed     = 20260101
)

// set is one kind of data.
type set struct {
	name   string
	about  string
	sparse bool // it has holes
	holes  bool // where they are is compared, for programs that restore them
	make   func(dir string) error
	change func(dir string, seed uint64) error // nil: is not measured
}

// sets are all data sets in the sizes asked for.
func sets(o *options) []*set {
	each := o.large / 4
	return []*set{
		{name: "source", about: fmt.Sprintf("a source-like tree of %d files; 1 %% of the files changed", o.files), change: changeFiles,
			make: func(dir string) error { return tree.Source(dir, o.files, dataSeed) }},
		{name: "text", about: fmt.Sprintf("%s of compressible text in %d files", size(each), largeParts),
			make: parts(each, tree.LargeText)},
		{name: "random", about: fmt.Sprintf("%s of random bytes in %d files", size(each), largeParts),
			make: parts(each, tree.LargeRandom)},
		{name: "sparse", about: fmt.Sprintf("%s of which nine tenths are holes, in %d files", size(each), largeParts), sparse: true, holes: true,
			make: parts(each, tree.LargeSparse)},
		// Its holes are not compared: mkfs preallocates, and what is preallocated turns from
		// a hole into data when somebody has read it.
		{name: "image", about: fmt.Sprintf("an ext4 image of %s, half full of small files; 1 %% of its 4 KiB blocks rewritten, scattered", size(each)), sparse: true,
			make: func(dir string) error { return makeImage(dir, each) },
			change: func(dir string, seed uint64) error {
				return tree.Scatter(filepath.Join(dir, imageName), changedShare, seed)
			}},
	}
}

// parts makes a set of several large files.
func parts(total int64, one func(path string, size int64, seed uint64) error) func(string) error {
	return func(dir string) error {
		for i := range largeParts {
			if err := one(filepath.Join(dir, fmt.Sprintf("part-%d.dat", i)), total/largeParts, dataSeed+uint64(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

const imageName = "disk.img"

func makeImage(dir string, size int64) error {
	from := dir + ".contents"
	if err := tree.Source(from, int(size/imageFill), dataSeed); err != nil {
		return err
	}
	return errors.Join(tree.Image(filepath.Join(dir, imageName), size, from, dataSeed), os.RemoveAll(from))
}

// changeFiles edits a share of the files of a tree as a programmer would: a few
// words in the middle, some lines at the end.
func changeFiles(dir string, seed uint64) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, dataSeed))
	rng.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	for _, path := range paths[:int(changedShare*float64(len(paths)))] {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		middle := len(old) / 2
		data := bytes.Join([][]byte{old[:middle], tree.Text(rng, 100), old[middle:], tree.Text(rng, 300)}, nil)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// size is a number of bytes as people write it.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
}
