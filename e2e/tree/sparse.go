package tree

import (
	"errors"
	"math/rand/v2"
	"os"
)

// Span is a run of bytes in a file that is written; the rest is a hole.
type Span struct{ Offset, Length int64 }

// blockBytes is a multiple of every usual file system's block, so that holes
// begin and end where they are asked to.
const blockBytes = 64 << 10

// sparse makes files with holes in all places.
func (m *maker) sparse() error {
	if err := m.mkdir("sparse"); err != nil {
		return err
	}
	const k = blockBytes
	var many []Span
	for i := range int64(64) {
		many = append(many, Span{i * 3 * k, k})
	}
	for _, s := range []struct {
		name  string
		size  int64
		spans []Span
	}{
		{"hole-at-start", 8 * k, []Span{{6 * k, 2 * k}}},
		{"hole-in-middle", 8 * k, []Span{{0, k}, {7 * k, k}}},
		{"hole-at-end", 8 * k, []Span{{0, 3 * k}}},
		{"hole-at-both-ends", 8 * k, []Span{{2 * k, k}}},
		{"odd-size-with-hole-at-end", 8*k + 77, []Span{{0, k}}},
		{"odd-size-after-hole", 8*k + 77, []Span{{8 * k, 77}}},
		{"one-byte-after-hole", 100*k + 1, []Span{{100 * k, 1}}},
		{"all-hole", 9 * k, nil},
		{"all-hole-odd", 9*k + 1, nil},
		{"smaller-than-a-block", 1000, nil},
		{"many-holes", 64 * 3 * k, many},
		{"huge-hole", 1 << 36, []Span{{0, k}, {1<<36 - k, k}}},
	} {
		if err := Sparse(m.at("sparse/"+s.name), s.size, s.spans, m.rng); err != nil {
			return err
		}
		m.made.Files++
		m.plan("sparse/"+s.name, m.plain(0o644))
	}
	return nil
}

// Sparse writes a file that has random bytes in the spans and holes elsewhere.
func Sparse(path string, size int64, spans []Span, rng *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	write := func() error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		for _, s := range spans {
			if _, err := f.WriteAt(random(rng, s.Length), s.Offset); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.Join(write(), f.Close())
}
