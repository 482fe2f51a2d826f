package pack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"lifeboat/storage/seal"
)

// keys are what a pack needs to be made and read again.
type keys struct {
	content, index         *seal.Sealer
	openContent, openIndex Open
	contentID              seal.Identity
}

func newKeys(t testing.TB, classic bool) keys {
	t.Helper()
	var k keys
	var id [2]seal.Identity
	var err error
	for i := range id {
		if id[i], err = seal.NewIdentity(classic); err != nil {
			t.Fatal(err)
		}
	}
	k.contentID = id[0]
	if k.content, err = seal.NewSealer(id[0].Recipient()); err != nil {
		t.Fatal(err)
	}
	if k.index, err = seal.NewSealer(id[1].Recipient()); err != nil {
		t.Fatal(err)
	}
	k.openContent, k.openIndex = seal.NewOpener(id[0]).Open, seal.NewOpener(id[1]).Open
	return k
}

// noise is n bytes that no encoder can shorten.
func noise(seed uint64, n int) []byte {
	b := make([]byte, (n+7)&^7)
	r := rand.NewPCG(seed, 0)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

// prose is n bytes that every encoder can shorten.
func prose(seed uint64, n int) []byte {
	words := []string{"region ", "frame ", "chunk ", "pack ", "drill ", "restore ", "journal\n", "the ", "of ", "and ", "lifeboat "}
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
	}
	return b[:n]
}

// chunksOf cuts plain into chunks of at most size bytes, with made-up ids.
func chunksOf(plain []byte, size int) []Chunk {
	var chunks []Chunk
	for i := 0; i < len(plain); i += size {
		c := Chunk{Length: uint32(min(size, len(plain)-i))}
		binary.BigEndian.PutUint64(c.ID[:], uint64(i)+uint64(len(plain))<<32)
		copy(c.ID[8:], plain[i:])
		chunks = append(chunks, c)
	}
	return chunks
}

func newBuilder(t testing.TB, kind Kind, opt Options, k keys, size int) *Builder {
	t.Helper()
	b, err := NewBuilder(kind, opt, k.content, k.index, make([]byte, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// buildPack makes one pack of plains.
func buildPack(t testing.TB, kind Kind, opt Options, k keys, plains ...[]byte) Sealed {
	t.Helper()
	b := newBuilder(t, kind, opt, k, PackTarget)
	for _, p := range plains {
		if err := b.Add(p, chunksOf(p, 32<<10), HintProbe); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func equalFrames(a, b []Frame) bool {
	return bytes.Equal(EncodeFrames(nil, a), EncodeFrames(nil, b))
}

// fewestAllocs counts the allocations of the best of ten calls: now and then the
// zstd library refills a pool (the race detector empties pools on purpose).
func fewestAllocs(f func()) float64 {
	fewest := testing.AllocsPerRun(1, f)
	for range 9 {
		fewest = min(fewest, testing.AllocsPerRun(1, f))
	}
	return fewest
}
