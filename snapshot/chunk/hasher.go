package chunk

import "lifeboat/storage/pack"

// A Hasher names chunks: the keyed BLAKE3-256 of their bytes (see pack.Hasher).
type Hasher = pack.Hasher

// NewHasher makes a hasher for the chunk-id key of one kind of chunk.
func NewHasher(key [32]byte) *Hasher { return pack.NewHasher(key) }
