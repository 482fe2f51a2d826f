package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"lifeboat/storage/pack"
)

// packsBatch is how many packs Packs reads while it keeps changes waiting.
const packsBatch = 256

// Packs yields every recorded pack that is not dropped, sorted by hash and
// writer. Changes made meanwhile may or may not be seen; the index may be used
// and changed between two packs. An error ends the sequence: ErrDamaged if a
// file is damaged.
func (x *Index) Packs() iter.Seq2[PackInfo, error] {
	return func(yield func(PackInfo, error) bool) {
		var after []byte // key of the last pack that was yielded
		for {
			batch, err := x.packsAfter(after)
			if err != nil {
				yield(PackInfo{}, fmt.Errorf("list packs: %w", err))
				return
			}
			for _, row := range batch {
				if !yield(row.info(), nil) {
					return
				}
			}
			if len(batch) == 0 {
				return
			}
			after = batch[len(batch)-1].key()
		}
	}
}

// key is what packs are sorted by.
func (p *packRow) key() []byte {
	return append(append(make([]byte, 0, packKey), p.hash[:]...), p.writer[:]...)
}

// packsAfter gives the next packs, in order: some, if there are any.
func (x *Index) packsAfter(after []byte) ([]packRow, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return nil, ErrClosed
	}
	rows := x.memory.packsAfter(after)
	for _, r := range x.runs {
		more, err := x.runPacksAfter(r, after)
		if err != nil {
			return nil, x.note(err)
		}
		rows = append(rows, more...)
	}
	slices.SortFunc(rows, comparePacks)
	rows = slices.CompactFunc(rows, func(a, b packRow) bool { return comparePacks(a, b) == 0 })
	// No source gave fewer than packsBatch if it has more, so these are complete.
	return rows[:min(len(rows), packsBatch)], nil
}

func comparePacks(a, b packRow) int {
	if c := bytes.Compare(a.hash[:], b.hash[:]); c != 0 {
		return c
	}
	return bytes.Compare(a.writer[:], b.writer[:])
}

// packsAfter gives the first packsBatch packs after a key.
func (m *memory) packsAfter(after []byte) []packRow {
	var rows []packRow
	for i := range m.packs {
		p := &m.packs[i]
		if !p.dropped && (after == nil || bytes.Compare(p.key(), after) > 0) {
			rows = append(rows, p.packRow)
		}
		if len(rows) >= 2*packsBatch {
			slices.SortFunc(rows, comparePacks)
			rows = rows[:packsBatch]
		}
	}
	slices.SortFunc(rows, comparePacks)
	return rows[:min(len(rows), packsBatch)]
}

// runPacksAfter gives the first packsBatch packs of a run after a key.
func (x *Index) runPacksAfter(r *run, after []byte) ([]packRow, error) {
	from := uint32(0)
	if after != nil {
		var err error
		if from, err = r.lowerBound(x.cache, &r.packs, after); err != nil {
			return nil, err
		}
	}
	var rows []packRow
	err := r.scan(x.cache, &r.packs, from, func(entry []byte) bool {
		var row packRow
		row.get(entry)
		if !bytes.Equal(entry[:packKey], after) && !x.isDropped(row.hash, r) {
			rows = append(rows, row)
		}
		return len(rows) < packsBatch
	})
	return rows, err
}

// PackFrames gives all frames of a recorded pack, with their chunks, in the
// order of the pack. ErrNotFound if the pack is not recorded, or dropped;
// ErrDamaged if a file is damaged.
func (x *Index) PackFrames(hash pack.Hash, writer Writer) ([]pack.Frame, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return nil, ErrClosed
	}
	if p, ok := x.memory.find(hash, writer); ok {
		return x.memory.packFrames(p), nil
	}
	r, row, ok, err := x.liveRow(hash, writer)
	if err == nil && !ok {
		err = ErrNotFound
	}
	var frames []pack.Frame
	if err == nil {
		frames, err = r.packFrames(x.cache, &row)
	}
	if err != nil {
		return nil, fmt.Errorf("frames of pack %s: %w", hash, x.note(err))
	}
	return frames, nil
}

func (r *run) packFrames(c *cache, p *packRow) ([]pack.Frame, error) {
	if p.frames == 0 || p.frames > pack.FramesMax || p.chunks > PackChunksMax || uint64(p.firstFrame)+uint64(p.frames) > uint64(r.frames.count) {
		return nil, r.damaged("pack of %d frames", p.frames)
	}
	rows := make([]frameRow, 0, p.frames)
	err := r.scan(c, &r.frames, p.firstFrame, func(e []byte) bool {
		rows = rows[:len(rows)+1]
		rows[len(rows)-1].get(e)
		return len(rows) < cap(rows)
	})
	if err != nil {
		return nil, err
	}
	chunks := make([]pack.Chunk, 0, p.chunks)
	if p.chunks > 0 {
		err = r.scan(c, &r.ids, rows[0].firstChunk, func(e []byte) bool {
			chunks = append(chunks, pack.Chunk{ID: pack.ChunkID(e[:32]), Length: binary.LittleEndian.Uint32(e[32:])})
			return len(chunks) < cap(chunks)
		})
	}
	if err != nil {
		return nil, err
	}
	frames := make([]pack.Frame, len(rows))
	for i, f := range rows {
		if uint64(f.chunks) > uint64(len(chunks)) {
			return nil, r.damaged("frame of %d chunks", f.chunks)
		}
		frames[i] = pack.Frame{Offset: f.offset, Length: f.length, Plain: f.plain, Epoch: f.epoch, Chunks: chunks[:f.chunks:f.chunks]}
		chunks = chunks[f.chunks:]
	}
	return frames, nil
}

// Verify reads every file to its end and checks every block. ErrDamaged if one
// is not what was written.
func (x *Index) Verify() error {
	x.change.Lock()
	defer x.change.Unlock()
	if err := x.usable(); err != nil {
		return fmt.Errorf("verify index: %w", err)
	}
	buf := make([]byte, scanBlocks*blockSize)
	for _, r := range x.runs {
		for block := uint32(0); block < r.blocks; block += scanBlocks {
			n := min(scanBlocks, r.blocks-block)
			if err := r.readBlocks(buf[:n*blockSize], block); err != nil {
				return fmt.Errorf("verify index: %w", x.note(err))
			}
		}
	}
	return nil
}
