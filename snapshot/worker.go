package snapshot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"lifeboat/snapshot/catalog"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// worker reads, names and stores. Its buffers live as long as the session.
type worker struct {
	t      *Taker
	hash   *pack.Hasher
	frames *repo.FrameWriter
	bundle *bundle
	buf    []byte
	r      *run // of the run at hand
}

// work takes jobs until there are none. A token goes before a new job: its file
// has been begun.
func (w *worker) work(p *pipeline) error {
	w.r = p.r
	jobs, tokens := p.jobs, p.tokens
	for jobs != nil || tokens != nil {
		select {
		case t, ok := <-tokens:
			if !ok {
				tokens = nil
				continue
			}
			if err := w.turn(p.ctx, t); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case t, ok := <-tokens:
			if !ok {
				tokens = nil
				continue
			}
			if err := w.turn(p.ctx, t); err != nil {
				return err
			}
		case j, ok := <-jobs:
			if !ok {
				jobs = nil
				continue
			}
			if err := w.job(p, j); err != nil {
				return err
			}
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	return nil
}

func (w *worker) job(p *pipeline, j *job) error {
	if j.file != nil {
		return w.turn(p.ctx, j.file)
	}
	defer close(j.done)
	for i := range j.items {
		if err := w.small(p.ctx, &j.items[i]); err != nil {
			return err
		}
	}
	return nil
}

// flush seals what the worker has collected into a frame.
func (w *worker) flush(ctx context.Context) error { return w.sealBundle(ctx) }

func (w *worker) sealBundle(ctx context.Context) error {
	before := w.frames.Written()
	return w.bundle.seal(ctx, w.frames, func(plain int) { w.count(plain, w.frames.Written()-before) })
}

func (w *worker) count(plain, stored int) {
	w.r.mu.Lock()
	w.r.stats.BytesNew += uint64(plain)
	w.r.stats.BytesStored += uint64(max(stored, 0))
	w.r.mu.Unlock()
}

// store makes sure that a chunk is in the repository, and gives its id.
func (w *worker) store(ctx context.Context, data []byte) (pack.ChunkID, error) {
	id := w.hash.Sum(data)
	known, _, key, err := w.t.session.Known(ctx, id)
	if err != nil {
		return id, err
	}
	if known {
		w.r.use(key)
		return id, nil
	}
	if err := w.storeNew(ctx, id, data); err != nil {
		w.t.session.Disclaim(id)
		return id, err
	}
	return id, nil
}

func (w *worker) storeNew(ctx context.Context, id pack.ChunkID, data []byte) error {
	if len(data) >= bundleBytes {
		before := w.frames.Written()
		err := w.frames.Add(ctx, data, []pack.Chunk{{ID: id, Length: uint32(len(data))}}, pack.HintProbe)
		w.count(len(data), w.frames.Written()-before)
		return err
	}
	if w.bundle.full(len(data)) {
		if err := w.sealBundle(ctx); err != nil {
			return err
		}
	}
	w.bundle.add(id, data)
	return nil
}

// small makes the entry of anything but a large file.
func (w *worker) small(ctx context.Context, it *item) error {
	for try := 0; ; try++ {
		it.entry = catalog.Entry{}
		again, err := w.attempt(ctx, it)
		if errors.Is(err, errGrown) {
			return w.alone(ctx, it)
		}
		if err == nil && (!again || try == rereadsMax) {
			if again {
				it.entry.Flags |= catalog.Changed
				w.r.problem(it.stat.Path, &w.r.stats.Torn, "changed while it was read")
			}
			return nil
		}
		if err != nil {
			replaced := errors.Is(err, volume.ErrReplaced) && try < rereadsMax
			if !replaced {
				return w.failed(it, err)
			}
		}
		if err := w.t.restat(w.r, it); err != nil {
			return w.failed(it, err)
		}
	}
}

// errGrown says that a file is too large by now to be read in one go.
var errGrown = errors.New("it grew")

func (t *Taker) restat(r *run, it *item) error { return r.vol.Restat(it.stat) }

// failed sorts an error of one object: gone is counted, unreadable is counted,
// named and recorded in the entry, everything else ends the run.
func (w *worker) failed(it *item, err error) error {
	var se *storeError
	switch {
	case errors.As(err, &se):
		return se.err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		it.drop = true
		w.r.mu.Lock()
		w.r.stats.Vanished++
		w.r.mu.Unlock()
		return nil
	}
	it.stat.Fill(&it.entry)
	it.entry.Chunks, it.entry.IDPages, it.entry.Data, it.entry.Chunking = nil, false, nil, catalog.Whole
	it.entry.Flags |= catalog.Unreadable
	w.r.problem(it.stat.Path, &w.r.stats.Unreadable, err.Error())
	return nil
}

// storeError separates what went wrong in the repository from what went wrong with the source.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// attempt reads one small object once. again: it changed meanwhile.
func (w *worker) attempt(ctx context.Context, it *item) (again bool, err error) {
	if !it.stat.Regular() {
		it.stat.Fill(&it.entry)
		return false, w.r.vol.Attributes(it.stat, &it.entry)
	}
	f, err := w.r.vol.Open(it.stat)
	if err != nil {
		return false, err
	}
	defer f.Close()
	f.Stat().Fill(&it.entry)
	f.Attributes(&it.entry)
	size := f.Stat().Size
	if size >= largeFile {
		return false, errGrown
	}
	ranges, err := w.ranges(f, &it.entry)
	if err != nil {
		return false, err
	}
	w.buf = slices.Grow(w.buf[:0], int(size))[:size]
	n, err := f.ReadAt(w.buf, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	w.read(n)
	if again, err = f.Changed(); err != nil {
		return false, err
	}
	it.entry.Size = int64(n)
	if err := w.storeWhole(ctx, ranges, &it.entry, w.buf[:n]); err != nil {
		return false, err
	}
	return again || int64(n) < size, nil
}

func (w *worker) read(n int) {
	w.r.mu.Lock()
	w.r.stats.BytesRead += uint64(n)
	w.r.mu.Unlock()
}

// storeWhole stores a small file that lies in memory: as one chunk, or as pieces
// when it is a page file, or without its holes.
func (w *worker) storeWhole(ctx context.Context, ranges []catalog.Range, e *catalog.Entry, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if e.Data = clip(ranges, int64(len(data))); e.Data != nil {
		data = dense(data, e.Data)
	} else if len(data) >= pageFileMin {
		if piece, ok := w.r.rules.piece(e.Path, data[:min(len(data), volume.PageHead)], e.Size); ok {
			return w.storePieces(ctx, e, data, piece)
		}
	}
	if len(data) == 0 {
		return nil
	}
	id, err := w.store(ctx, data)
	if err != nil {
		return &storeError{err}
	}
	e.Chunks = []pack.ChunkID{id}
	return nil
}

func (w *worker) storePieces(ctx context.Context, e *catalog.Entry, data []byte, piece uint32) error {
	e.Chunking, e.Piece = catalog.Fixed, piece
	for len(data) > 0 {
		n := min(len(data), int(piece))
		id, err := w.store(ctx, data[:n])
		if err != nil {
			return &storeError{err}
		}
		e.Chunks, data = append(e.Chunks, id), data[n:]
	}
	return nil
}

// clip cuts data ranges at the size that was read; nil stays nil.
func clip(ranges []catalog.Range, size int64) []catalog.Range {
	if ranges == nil {
		return nil
	}
	out := []catalog.Range{}
	for _, r := range ranges {
		if r.Offset >= size {
			break
		}
		out = append(out, catalog.Range{Offset: r.Offset, Length: min(r.Length, size-r.Offset)})
	}
	return out
}

// dense moves the data ranges together, in place.
func dense(data []byte, ranges []catalog.Range) []byte {
	n := 0
	for _, r := range ranges {
		n += copy(data[n:], data[r.Offset:r.End()])
	}
	return data[:n]
}

// ranges gives what of a file is data, or nil when it has no holes. It is asked
// for before the reading, so that Changed, asked after it, answers for both.
// Attributes may take blocks of their own, which hide a hole from the count.
func (w *worker) ranges(f *volume.File, e *catalog.Entry) ([]catalog.Range, error) {
	if f.Stat().Blocks*512 >= f.Stat().Size && len(e.Xattrs) == 0 {
		return nil, nil
	}
	return f.Data()
}
