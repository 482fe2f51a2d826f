package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// window is a stretch of the entries whose contents are fetched in one go.
type window struct {
	want    []pack.ChunkID
	parts   []part
	part    []int32  // of want[i], an index of parts
	written []uint32 // atomically: 1 once want[i] has been dealt with
	empty   []*file  // without contents

	// Where want[i] goes in its file's stream (below zero: unknown), and how long it is
	// (0: unknown). Under mu unless everything is known, which placed says.
	placed bool
	mu     sync.Mutex
	pos    []int64
	length []uint32

	bytes, meta int64
}

// part is what a window has of a file: want[first:end].
type part struct {
	file       *file
	first, end int
	base       int64 // place of the first chunk in the stream; unused for a fixed grid
	known      int   // the places of want[first:known] are known
	left       int32 // atomically: chunks that are not written yet
	ended      bool  // set by who writes the last one, or else at the window's end
}

// limits bound a window.
type limits struct {
	chunks, files int
	bytes, meta   int64
}

func defaultLimits() limits {
	return limits{chunks: windowChunksMax, files: windowFilesMax, bytes: windowBytesMax, meta: windowMetaMax}
}

func newWindow() *window { return &window{} }

// resolve finds the places of chunks that follow ones of known place and length.
func (w *window) resolve(p *part) {
	for p.known < p.end && w.pos[p.known-1] >= 0 && w.length[p.known-1] > 0 {
		w.pos[p.known] = w.pos[p.known-1] + int64(w.length[p.known-1])
		p.known++
	}
}

// behind is the place after a part's last chunk, or below zero if that is unknown.
func (w *window) behind(p *part) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := p.end - 1
	if p.known < p.end || w.length[last] == 0 {
		return -1
	}
	return w.pos[last] + int64(w.length[last])
}

// locate says where a chunk of n bytes goes, if that is known by now.
func (w *window) locate(i, n int) (pos int64, err error) {
	if n == 0 || n > chunkMax {
		return 0, fmt.Errorf("chunk %v has %d bytes", w.want[i], n)
	}
	if !w.placed {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	if have := w.length[i]; have != 0 && int(have) != n {
		return 0, fmt.Errorf("chunk %v has %d bytes, want %d", w.want[i], n, have)
	}
	if !w.placed {
		w.length[i] = uint32(n)
		if p := &w.parts[w.part[i]]; w.pos[i] < 0 {
			w.resolve(p)
		}
	}
	return w.pos[i], nil
}

// window fetches the contents of a window and finishes its files as far as they end here.
func (r *run) window(ctx context.Context, w *window) error {
	err := r.writeEmpty(ctx, w)
	if err == nil && len(w.want) > 0 {
		all := make([]int, len(w.want))
		for i := range all {
			all[i] = i
		}
		err = r.fetch(ctx, w, all, readRoundsMax)
	}
	for i := range w.parts {
		p := &w.parts[i]
		if p.ended {
			continue
		}
		if err != nil {
			p.file.failed.Store(true)
		}
		if eerr := r.endPart(ctx, p.file); err == nil {
			err = eerr
		}
	}
	return err
}

// writeEmpty writes the files without contents.
func (r *run) writeEmpty(ctx context.Context, w *window) error {
	for _, f := range w.empty {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.writeWhole(f, 0, nil, pack.ChunkID{})
		if f.failed.Load() {
			r.discard(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch reads the chunks with these indexes. What a read does not give is asked for again; when
// reads fail, it narrows down to the chunks that cannot be had, so that they cost
// only the files they belong to.
func (r *run) fetch(ctx context.Context, w *window, indexes []int, rounds int) error {
	ids := make([]pack.ChunkID, len(indexes))
	for j, i := range indexes {
		ids[j] = w.want[i]
	}
	err := r.chunks.Read(ctx, ids, func(j int, data []byte) error {
		if j < 0 || j >= len(indexes) {
			return fmt.Errorf("chunk %d of %d was delivered", j, len(indexes))
		}
		return r.emit(ctx, w, indexes[j], data)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	left := w.left(indexes)
	switch {
	case len(left) == 0:
		return nil
	case err == nil && rounds > 1:
		return r.fetch(ctx, w, left, rounds-1)
	case err == nil:
		return r.missing(w, left, errors.New("it was not delivered"))
	case errors.Is(err, storage.ErrUnreachable) || r.readErrors.Add(1) > readErrorsMax:
		return fmt.Errorf("read contents: %w", err)
	case len(left) == 1:
		return r.missing(w, left, err)
	}
	half := len(left) / 2
	if err := r.fetch(ctx, w, left[:half], rounds); err != nil {
		return err
	}
	return r.fetch(ctx, w, left[half:], rounds)
}

// left gives those of the indexes that have not been dealt with. Those of files that
// were given up count as dealt with.
func (w *window) left(indexes []int) []int {
	var left []int
	for _, i := range indexes {
		if atomic.LoadUint32(&w.written[i]) == 0 && !w.parts[w.part[i]].file.failed.Load() {
			left = append(left, i)
		}
	}
	return left
}

// missing gives up the files of chunks that cannot be had.
func (r *run) missing(w *window, indexes []int, err error) error {
	for _, i := range indexes {
		f := w.parts[w.part[i]].file
		if ferr := r.fail(f, Missing, fmt.Errorf("chunk %v: %w", w.want[i], err)); ferr != nil {
			return ferr
		}
	}
	return nil
}

// emit writes a chunk that has been delivered. An error ends the run.
func (r *run) emit(ctx context.Context, w *window, i int, data []byte) error {
	f := w.parts[w.part[i]].file
	if f.failed.Load() {
		return nil
	}
	pos, err := w.locate(i, len(data))
	if err != nil {
		return r.fail(f, Missing, err)
	}
	if pos < 0 || atomic.SwapUint32(&w.written[i], 1) != 0 {
		return nil // to be read again when its place is known; or given twice
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.slots }()
	p := &w.parts[w.part[i]]
	if f.single {
		err = r.writeWhole(f, pos, data, w.want[i])
	} else {
		err = r.writePart(f, pos, data)
	}
	if err != nil || atomic.AddInt32(&p.left, -1) > 0 || f.failed.Load() {
		return err
	}
	// That was its last one: the file is finished while its descriptor is at hand.
	p.ended = true
	err = r.verifyPart(w, p)
	if eerr := r.endPart(ctx, f); err == nil {
		err = eerr
	}
	return err
}

// verifyPart reads a window's part of a file back.
func (r *run) verifyPart(w *window, p *part) error {
	f := p.file
	if !f.verify || f.single || f.failed.Load() {
		return nil
	}
	fd, err := r.holdTemp(f)
	if err != nil {
		return r.giveUp(f, err)
	}
	defer r.handles.release(f.node)
	for i := p.first; i < p.end; i++ {
		if err := r.readBack(f, fd, w.pos[i], int(w.length[i]), w.want[i]); err != nil {
			return r.giveUp(f, err)
		}
	}
	return nil
}
