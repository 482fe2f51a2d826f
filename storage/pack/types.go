package pack

import "encoding/hex"

// ChunkID names a chunk: the keyed BLAKE3-256 of its plaintext. Data chunks and
// metadata chunks use different keys, so the two never share an id.
type ChunkID [32]byte

// String gives the id in lower-case hexadecimal.
func (id ChunkID) String() string { return hex.EncodeToString(id[:]) }

// Kind says what a pack holds, and so to whom its frames are sealed.
type Kind uint8

const (
	Data Kind = 0 // file contents, sealed to the data key
	Meta Kind = 1 // catalog pages, sealed to the writer's and the maintainers' meta keys
)

// Hash is the SHA-256 of a stored object, which is also the last part of its name.
type Hash [32]byte

// String gives the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Chunk is one piece inside a frame, in order; its offset in the frame's
// plaintext is the sum of the lengths before it.
type Chunk struct {
	ID     ChunkID
	Length uint32 // bytes of plaintext
}

// Frame describes one frame of a pack: where its age file lies in the tar, and
// which chunks its plaintext is made of.
type Frame struct {
	Offset uint32 // of the age file (not its tar header) in the pack
	Length uint32 // of the age file
	Plain  uint32 // bytes of plaintext: the sum of the chunk lengths
	Epoch  uint32 // key epoch it is sealed to
	Chunks []Chunk
}
