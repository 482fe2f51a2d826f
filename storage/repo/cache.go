package repo

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// cacheMax is how many bytes of sealed objects the cache keeps; the oldest go first.
const cacheMax = 4 << 30

// cache keeps sealed objects by hash on the local disk. It holds nothing that a
// region does not hold, and every read is verified: losing or damaging it costs
// time only.
type cache struct {
	dir       string
	temporary bool
}

func openCache(dir string, id ID) (*cache, error) {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "lifeboat-cache-")
		if err != nil {
			return nil, fmt.Errorf("make temporary cache: %w", err)
		}
		return &cache{dir: tmp, temporary: true}, nil
	}
	dir = filepath.Join(dir, id.String()[:16])
	if err := os.MkdirAll(filepath.Join(dir, "objects"), 0o700); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	return &cache{dir: dir}, nil
}

func (c *cache) close() error {
	if c == nil {
		return nil
	}
	if c.temporary {
		return os.RemoveAll(c.dir)
	}
	if rand.IntN(sweepOneIn) == 0 {
		c.sweep()
	}
	return nil
}

// sweepOneIn is in how many closings the cache's size is looked at.
const sweepOneIn = 32

// sweep removes the oldest objects until the rest fits. What cannot be looked
// at or removed stays: a cache that is too large is no error.
func (c *cache) sweep() {
	type object struct {
		path string
		size int64
		at   int64
	}
	var all []object
	total := int64(0)
	_ = filepath.WalkDir(filepath.Join(c.dir, "objects"), func(path string, e os.DirEntry, err error) error { // best effort
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			all = append(all, object{path, info.Size(), info.ModTime().UnixNano()})
			total += info.Size()
		}
		return nil
	})
	slices.SortFunc(all, func(a, b object) int { return cmp.Compare(a.at, b.at) })
	for _, o := range all {
		if total <= cacheMax {
			return
		}
		if os.Remove(o.path) == nil {
			total -= o.size
		}
	}
}

func (c *cache) path(hash [32]byte) string {
	h := hex.EncodeToString(hash[:])
	return filepath.Join(c.dir, "objects", h[:2], h)
}

// get gives an object if it is there and whole. A nil cache is empty, and stays so.
func (c *cache) get(hash [32]byte) ([]byte, bool) {
	if c == nil {
		return nil, false
	}
	data, err := os.ReadFile(c.path(hash))
	if err != nil || sha256.Sum256(data) != hash {
		return nil, false
	}
	return data, true
}

// open gives a file for ranged reads; its frames prove themselves.
func (c *cache) open(hash [32]byte) (*os.File, bool) {
	f, err := os.Open(c.path(hash))
	return f, err == nil
}

// put keeps an object. A full disk is not an error for a cache: the object is
// just not kept, and what was half written is removed.
func (c *cache) put(hash [32]byte, data []byte) {
	if c == nil {
		return
	}
	path := c.path(hash)
	if os.MkdirAll(filepath.Dir(path), 0o700) == nil {
		replaceFile(path, data)
	}
}

// replaceFile puts a file whole, or not at all.
func replaceFile(path string, data []byte) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return
	}
	_, werr := f.Write(data)
	if errors.Join(werr, f.Close()) != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
	}
}
