package pack

import (
	"fmt"

	"github.com/zeebo/blake3"
)

// A Hasher names chunks: the keyed BLAKE3-256 of their bytes. It is reused from
// chunk to chunk without garbage, and belongs to one goroutine at a time.
type Hasher struct {
	keyed *blake3.Hasher
	sum   []byte
}

// NewHasher makes a hasher for the chunk-id key of one kind of chunk (data or
// metadata): the keys differ, so that the two never share an id.
func NewHasher(key [32]byte) *Hasher {
	keyed, err := blake3.NewKeyed(key[:])
	if err != nil { // only for a key that is not 32 bytes
		panic(fmt.Sprintf("pack: keyed hash: %v", err))
	}
	return &Hasher{keyed: keyed, sum: make([]byte, 0, len(ChunkID{}))}
}

// Sum gives the id of a chunk.
func (h *Hasher) Sum(data []byte) ChunkID {
	h.keyed.Reset()
	h.keyed.Write(data) // a hash takes every write
	h.sum = h.keyed.Sum(h.sum[:0])
	return ChunkID(h.sum)
}
