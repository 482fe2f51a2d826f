package index

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// A run file is a row of blocks: payload, then a checksum that is bound to the
// run and to the place, so that a block from elsewhere does not pass either.
const (
	blockSize    = 4096
	blockSum     = 8
	blockPayload = blockSize - blockSum
)

// sealBlock sets the checksum of block number n of the run with that nonce.
func sealBlock(block []byte, nonce uint64, n uint32) {
	binary.LittleEndian.PutUint64(block[blockPayload:blockSize], blockHash(block, nonce, n))
}

func checkBlock(block []byte, nonce uint64, n uint32) bool {
	return binary.LittleEndian.Uint64(block[blockPayload:blockSize]) == blockHash(block, nonce, n)
}

func blockHash(block []byte, nonce uint64, n uint32) uint64 {
	return xxh3.HashSeed(block[:blockPayload], nonce+uint64(n))
}

// A table is a row of entries of one size in consecutive blocks; an entry does
// not cross blocks.
type table struct {
	first uint32 // block
	count uint32 // entries
	size  uint32 // bytes of an entry
	// fences holds the first eight bytes of each block's first entry, for tables
	// that are sorted; it finds the block of a key without reading any.
	fences []uint64
}

func (t *table) perBlock() uint32 { return blockPayload / t.size }

// blocks is the number of blocks that the entries take.
func (t *table) blocks() uint32 {
	return uint32((uint64(t.count) + uint64(t.perBlock()) - 1) / uint64(t.perBlock()))
}

// inBlock is the number of entries in the table's block b (0 is its first).
func (t *table) inBlock(b uint32) uint32 {
	return min(t.perBlock(), t.count-b*t.perBlock())
}

// Entries. All numbers are little-endian; ids and hashes are as they are.
const (
	keySize   = 16                      // bytes of a chunk id that are kept as key
	packEntry = 32 + 16 + 8 + 4*3 + 1   // hash, writer, size, first frame, frames, chunks, kind
	frameSize = 4 * 7                   // pack, offset, length, plain, epoch, first chunk, chunks
	idEntry   = chunkBytes              // id, length
	keyEntry  = keySize + 4 + 2*keyWord // key, frame, offset, length
	keyWord   = 3                       // bytes of an offset or a length: below 16 MiB
	nameEntry = 16                      // start of the SHA-256 of an object's name
	packKey   = 48                      // hash and writer: what packs are sorted by
)

type packRow struct {
	hash       [32]byte
	writer     Writer
	size       uint64
	firstFrame uint32
	frames     uint32
	chunks     uint32
	kind       uint8
}

func (p *packRow) put(b []byte) {
	copy(b[:32], p.hash[:])
	copy(b[32:48], p.writer[:])
	binary.LittleEndian.PutUint64(b[48:], p.size)
	binary.LittleEndian.PutUint32(b[56:], p.firstFrame)
	binary.LittleEndian.PutUint32(b[60:], p.frames)
	binary.LittleEndian.PutUint32(b[64:], p.chunks)
	b[68] = p.kind
}

func (p *packRow) get(b []byte) {
	p.hash, p.writer = [32]byte(b[:32]), Writer(b[32:48])
	p.size = binary.LittleEndian.Uint64(b[48:])
	p.firstFrame = binary.LittleEndian.Uint32(b[56:])
	p.frames = binary.LittleEndian.Uint32(b[60:])
	p.chunks = binary.LittleEndian.Uint32(b[64:])
	p.kind = b[68]
}

type frameRow struct {
	pack, offset, length, plain, epoch, firstChunk, chunks uint32
}

func (f *frameRow) put(b []byte) {
	for i, v := range [...]uint32{f.pack, f.offset, f.length, f.plain, f.epoch, f.firstChunk, f.chunks} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
}

func (f *frameRow) get(b []byte) {
	for i, v := range [...]*uint32{&f.pack, &f.offset, &f.length, &f.plain, &f.epoch, &f.firstChunk, &f.chunks} {
		*v = binary.LittleEndian.Uint32(b[4*i:])
	}
}

// A keyRow is one place of a chunk; its key is beside it.
type keyRow struct{ frame, offset, length uint32 }

func (k *keyRow) put(b []byte) {
	binary.LittleEndian.PutUint32(b[keySize:], k.frame)
	put24(b[keySize+4:], k.offset)
	put24(b[keySize+4+keyWord:], k.length)
}

func (k *keyRow) get(b []byte) {
	k.frame = binary.LittleEndian.Uint32(b[keySize:])
	k.offset = get24(b[keySize+4:])
	k.length = get24(b[keySize+4+keyWord:])
}

func put24(b []byte, v uint32) { b[0], b[1], b[2] = byte(v), byte(v>>8), byte(v>>16) }

func get24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// prefixOf gives the first eight bytes of a key as a number that sorts alike.
func prefixOf(key []byte) uint64 { return binary.BigEndian.Uint64(key) }
