package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"lifeboat/storage/pack"
)

// memory holds what was added since the last run was written. Entries with one
// key, or one hash, are chained by number, newest first, so that adding is
// cheap whatever the ids are.
type memory struct {
	packs  []memoryPack
	frames []frameRow
	chunks []memoryChunk
	byKey  map[[keySize]byte]uint32 // number of the newest chunk, and 1
	byHash map[pack.Hash]uint32     // number of the newest pack, and 1
	names  map[[nameEntry]byte]struct{}
}

type memoryPack struct {
	packRow
	before  uint32 // the next older pack with this hash, and 1
	dropped bool
}

type memoryChunk struct {
	id     pack.ChunkID
	place  keyRow
	before uint32 // the next older chunk with this key, and 1
}

func newMemory() *memory {
	return &memory{
		byKey:  make(map[[keySize]byte]uint32),
		byHash: make(map[pack.Hash]uint32),
		names:  make(map[[nameEntry]byte]struct{}),
	}
}

// reset empties m and keeps its space for what comes next, unless a single
// large pack made it much larger than limit.
func (m *memory) reset(limit int) {
	if cap(m.chunks) > 2*limit {
		*m = *newMemory()
		return
	}
	m.packs, m.frames, m.chunks = m.packs[:0], m.frames[:0], m.chunks[:0]
	clear(m.byKey)
	clear(m.byHash)
	clear(m.names)
}

func (m *memory) empty() bool { return len(m.packs) == 0 && len(m.names) == 0 }

// full says that m should be written out before anything else is added.
func (m *memory) full(limit int) bool {
	return len(m.chunks) >= limit || len(m.packs) >= limit/packsShare || len(m.names) >= limit
}

// find gives the pack with that hash and writer that is not dropped.
func (m *memory) find(hash pack.Hash, writer Writer) (*memoryPack, bool) {
	for i := m.byHash[hash]; i > 0; i = m.packs[i-1].before {
		if p := &m.packs[i-1]; p.writer == writer && !p.dropped {
			return p, true
		}
	}
	return nil, false
}

// add records a pack, which was checked. It keeps nothing of r.
func (m *memory) add(r *PackRecord, writer Writer) {
	number := uint32(len(m.packs))
	p := memoryPack{before: m.byHash[r.Hash], packRow: packRow{
		hash: r.Hash, writer: writer, size: r.Size, kind: uint8(r.Kind),
		firstFrame: uint32(len(m.frames)), frames: uint32(len(r.Frames)), chunks: uint32(r.chunks()),
	}}
	for i := range r.Frames {
		f := &r.Frames[i]
		frame := uint32(len(m.frames))
		m.frames = append(m.frames, frameRow{
			pack: number, offset: f.Offset, length: f.Length, plain: f.Plain, epoch: f.Epoch,
			firstChunk: uint32(len(m.chunks)), chunks: uint32(len(f.Chunks)),
		})
		offset := uint32(0)
		for _, c := range f.Chunks {
			key := [keySize]byte(c.ID[:])
			m.chunks = append(m.chunks, memoryChunk{c.ID, keyRow{frame, offset, c.Length}, m.byKey[key]})
			m.byKey[key] = uint32(len(m.chunks))
			offset += c.Length
		}
	}
	m.packs = append(m.packs, p)
	m.byHash[r.Hash] = number + 1
}

// drop marks every record of a pack and says if there was one.
func (m *memory) drop(hash pack.Hash) bool {
	found := false
	for i := m.byHash[hash]; i > 0; i = m.packs[i-1].before {
		found = found || !m.packs[i-1].dropped
		m.packs[i-1].dropped = true
	}
	return found
}

// locations calls take with the places of a chunk until it says no more.
func (m *memory) locations(id pack.ChunkID, take func(Location) bool) bool {
	for i := m.byKey[[keySize]byte(id[:])]; i > 0; {
		c := &m.chunks[i-1]
		f := &m.frames[c.place.frame]
		p := &m.packs[f.pack]
		if !p.dropped && !take(locate(&p.packRow, f, c.place)) {
			return false
		}
		i = c.before
	}
	return true
}

// locate puts a location together.
func locate(p *packRow, f *frameRow, k keyRow) Location {
	return Location{
		Pack: p.hash, Writer: p.writer, Kind: pack.Kind(p.kind), PackSize: p.size,
		FrameOffset: f.offset, FrameLength: f.length, FramePlain: f.plain, FrameEpoch: f.epoch,
		Offset: k.offset, Length: k.length,
	}
}

func (p *packRow) info() PackInfo {
	return PackInfo{Hash: p.hash, Writer: p.writer, Kind: pack.Kind(p.kind), Size: p.size, Frames: int(p.frames), Chunks: int(p.chunks)}
}

// packFrames gives a pack's frames as they were added.
func (m *memory) packFrames(p *memoryPack) []pack.Frame {
	frames := make([]pack.Frame, p.frames)
	chunks := make([]pack.Chunk, p.chunks)
	for i := range frames {
		f := &m.frames[int(p.firstFrame)+i]
		frames[i] = pack.Frame{Offset: f.offset, Length: f.length, Plain: f.plain, Epoch: f.epoch, Chunks: chunks[:f.chunks:f.chunks]}
		for j := range frames[i].Chunks {
			c := &m.chunks[int(f.firstChunk)+j]
			frames[i].Chunks[j] = pack.Chunk{ID: c.id, Length: c.place.length}
		}
		chunks = chunks[f.chunks:]
	}
	return frames
}

// nameKey shortens an object's name. Its start of a SHA-256 cannot be met by
// another name, even one that was chosen for it.
func nameKey(name string) [nameEntry]byte {
	sum := sha256.Sum256([]byte(name))
	return [nameEntry]byte(sum[:nameEntry])
}

// writeTo writes m as a run.
func (m *memory) writeTo(w *runWriter) layout {
	var l layout
	order := m.packOrder()
	frames := make([]uint32, len(m.frames)) // number in the run, and 1; 0: dropped
	w.begin(packEntry, true)
	next := uint32(0)
	for _, i := range order {
		p := m.packs[i].packRow
		for j := range p.frames {
			frames[p.firstFrame+j] = next + j + 1
		}
		p.firstFrame, next = next, next+p.frames
		p.put(w.put(prefixOf(p.hash[:])))
	}
	l.packs = w.end()
	l.packFences = w.fences(l.packs.fences)
	m.writeFrames(w, order, &l)
	m.writeKeys(w, frames)
	w.begin(nameEntry, true)
	names := make([][nameEntry]byte, 0, len(m.names))
	for n := range m.names {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b [nameEntry]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, n := range names {
		copy(w.put(prefixOf(n[:])), n[:])
	}
	l.names = w.end()
	l.nameFences = w.fences(l.names.fences)
	return l
}

// packOrder gives the numbers of the packs that are not dropped, sorted as runs are.
func (m *memory) packOrder() []uint32 {
	order := make([]uint32, 0, len(m.packs))
	for i := range m.packs {
		if !m.packs[i].dropped {
			order = append(order, uint32(i))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int {
		p, q := &m.packs[a], &m.packs[b]
		if c := bytes.Compare(p.hash[:], q.hash[:]); c != 0 {
			return c
		}
		return bytes.Compare(p.writer[:], q.writer[:])
	})
	return order
}

// writeFrames writes the tables of frames and of ids, in the order of packs.
func (m *memory) writeFrames(w *runWriter, order []uint32, l *layout) {
	w.begin(frameSize, false)
	chunk := uint32(0)
	for number, i := range order {
		p := &m.packs[i]
		for _, f := range m.frames[p.firstFrame:][:p.frames] {
			f.pack, f.firstChunk = uint32(number), chunk
			chunk += f.chunks
			f.put(w.put(0))
		}
	}
	l.frames = w.end()
	w.begin(idEntry, false)
	for _, i := range order {
		p := &m.packs[i]
		for _, c := range m.chunks[m.frames[p.firstFrame].firstChunk:][:p.chunks] {
			entry := w.put(0)
			copy(entry, c.id[:])
			binary.LittleEndian.PutUint32(entry[32:], c.place.length)
		}
	}
	l.ids = w.end()
}

// writeKeys writes the groups of sorted keys; frames maps frame numbers.
func (m *memory) writeKeys(w *runWriter, frames []uint32) {
	order := make([]uint32, 0, len(m.chunks))
	for i := range m.chunks {
		if frames[m.chunks[i].place.frame] > 0 {
			order = append(order, uint32(i))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return bytes.Compare(m.chunks[a].id[:keySize], m.chunks[b].id[:keySize])
	})
	w.begin(keyEntry, true)
	for _, i := range order {
		c := &m.chunks[i]
		entry := w.key(prefixOf(c.id[:]))
		copy(entry, c.id[:keySize])
		place := c.place
		place.frame = frames[place.frame] - 1
		place.put(entry)
	}
	w.endGroup()
}
