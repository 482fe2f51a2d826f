package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// builder puts files into windows, and sends these off when they are full. It belongs to
// the goroutine that walks the entries.
type builder struct {
	ctx   context.Context
	r     *run
	group *errgroup.Group
	slots chan struct{} // one for each window in flight
	w     *window

	// The file being put in.
	cur  *file
	grid grid
	next int64 // place of its next chunk in the stream; unknown below zero
	mean int64 // bytes of its chunks, about
}

func newBuilder(ctx context.Context, r *run, group *errgroup.Group) *builder {
	return &builder{ctx: ctx, r: r, group: group, slots: make(chan struct{}, windowsInFlight), w: newWindow()}
}

// file takes a regular file. An error ends the run.
func (b *builder) file(e *catalog.Entry, rel []byte, dir *node) error {
	r := b.r
	f, err := r.newFile(e, rel, dir)
	if err != nil {
		what := BadEntry
		if errors.Is(err, errUnreadable) {
			what = Unreadable
		}
		r.tally.problem(string(rel), what, err)
		return nil
	}
	if f.key != "" {
		first, err := r.links.claim(f.key)
		if err != nil {
			return r.failed(f.path, Failed, err)
		}
		if !first {
			return nil // a name for it comes in the second pass
		}
	}
	if r.opts.merges() {
		if settled, err := b.settle(e, f); err != nil || settled {
			return err
		}
	}
	return b.fill(e, f)
}

var (
	errGivenUp = errors.New("the file was given up")
	errTooFew  = errors.New("fewer chunks than pieces")
	errTooMany = errors.New("more chunks than pieces")
)

// fill puts all chunks of a file into windows.
func (b *builder) fill(e *catalog.Entry, f *file) error {
	b.w.meta += int64(256 + len(f.path) + f.attrs.bytes() + 24*len(f.lay.data))
	if len(e.Chunks) == 0 {
		b.w.empty = append(b.w.empty, f)
		if b.full() {
			return b.flush()
		}
		return nil
	}
	b.cur, b.grid, b.next = f, grid{l: &f.lay}, 0
	b.mean = meanChunk(e, &f.lay)
	f.pending.Store(1)
	err := b.ids(e, func(ids []pack.ChunkID) error {
		for i := range ids {
			if f.failed.Load() {
				return errGivenUp
			}
			if err := b.chunk(&ids[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && f.lay.fixed {
		if _, more := b.grid.step(); more {
			err = errTooFew
		}
	}
	return b.end(f, err)
}

// end is called when a file's chunks are all in windows, or cannot be.
func (b *builder) end(f *file, err error) error {
	b.cur = nil
	switch {
	case b.ctx.Err() != nil:
		f.failed.Store(true)
		err = context.Cause(b.ctx)
	case errors.Is(err, storage.ErrUnreachable):
		f.failed.Store(true)
	case errors.Is(err, errGivenUp):
		err = nil
	case err != nil:
		err = b.r.fail(f, Missing, err)
	}
	if perr := b.r.endPart(b.ctx, f); err == nil {
		err = perr
	}
	return err
}

// chunk puts one chunk of the current file into a window.
func (b *builder) chunk(id *pack.ChunkID) error {
	f := b.cur
	pos, length := int64(-1), int64(0)
	switch {
	case f.lay.fixed:
		piece, ok := b.grid.take()
		if !ok {
			return errTooMany
		}
		pos, length = piece.Offset, piece.Length
	case f.single:
		pos, length = 0, f.lay.dataLength()
	}
	if length > chunkMax {
		return fmt.Errorf("a chunk of %d bytes", length)
	}
	if b.full() {
		if err := b.flush(); err != nil {
			return err
		}
	}
	w := b.w
	if n := len(w.parts); n == 0 || w.parts[n-1].file != f {
		f.pending.Add(1)
		w.parts = append(w.parts, part{file: f, first: len(w.want), base: b.next})
	}
	w.want = append(w.want, *id)
	w.part = append(w.part, int32(len(w.parts)-1))
	w.pos = append(w.pos, pos)
	w.length = append(w.length, uint32(length))
	p := &w.parts[len(w.parts)-1]
	p.end = len(w.want)
	p.left++
	if length == 0 {
		length = b.mean
	}
	w.bytes += length
	return nil
}

// meanChunk is about how long a file's chunks are. With pages of ids, all but the last are full.
func meanChunk(e *catalog.Entry, l *layout) int64 {
	n := int64(len(e.Chunks))
	if e.IDPages {
		n = (n-1)*catalog.PageIDs + 1
	}
	return min(max(l.dataLength()/n, 1), chunkMax)
}

func (b *builder) full() bool {
	w, most := b.w, &b.r.plan.limits
	return len(w.want) >= most.chunks || len(w.parts)+len(w.empty) >= most.files ||
		w.bytes >= most.bytes || w.meta >= most.meta
}

// flush sends the window off, once there is room for another in flight. If it is not
// known how long the current file's chunks are, it waits for them: the next ones come behind.
func (b *builder) flush() error {
	w := b.w
	if len(w.want)+len(w.empty) == 0 {
		return nil
	}
	if err := b.place(w); err != nil {
		return err
	}
	select {
	case b.slots <- struct{}{}:
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
	b.w = newWindow()
	done := make(chan struct{})
	b.group.Go(func() error {
		defer func() { <-b.slots; close(done) }()
		return b.r.window(b.ctx, w)
	})
	n := len(w.parts)
	if b.cur == nil || n == 0 || w.parts[n-1].file != b.cur || b.cur.lay.fixed {
		return nil
	}
	if !w.placed {
		<-done
	}
	if b.next = w.behind(&w.parts[n-1]); b.next < 0 && !b.cur.failed.Load() {
		return context.Cause(b.ctx)
	}
	return nil
}

// place finds out where in their files the chunks of a window go, as far as possible.
func (b *builder) place(w *window) error {
	if b.r.lengths != nil {
		if err := b.askLengths(w); err != nil {
			return err
		}
	}
	w.written = make([]uint32, len(w.want))
	w.placed = true
	for i := range w.parts {
		p := &w.parts[i]
		if p.file.lay.fixed || p.file.single {
			continue
		}
		w.pos[p.first], p.known = p.base, p.first+1
		w.resolve(p)
		w.placed = w.placed && p.known == p.end && w.length[p.end-1] > 0
	}
	return nil
}

// askLengths asks for the lengths that the entries do not tell.
func (b *builder) askLengths(w *window) error {
	var ids []pack.ChunkID
	for i, n := range w.length {
		if n == 0 {
			ids = append(ids, w.want[i])
		}
	}
	if len(ids) == 0 {
		return nil
	}
	lengths := make([]uint32, len(ids))
	if err := b.r.lengths.Lengths(b.ctx, ids, lengths); err != nil {
		return fmt.Errorf("look up lengths of chunks: %w", err)
	}
	next := 0
	for i, n := range w.length {
		if n == 0 {
			w.length[i] = lengths[next]
			next++
		}
	}
	return nil
}

// close gives up what was not sent off, when the run has failed.
func (b *builder) close(err error) {
	if err == nil {
		return
	}
	for i := range b.w.parts {
		f := b.w.parts[i].file
		f.failed.Store(true)
		_ = b.r.endPart(b.ctx, f) // the run has an error already
	}
}

// ids calls do with a file's chunk ids, in order and in batches. With pages of ids
// only a few of these are in memory at once.
func (b *builder) ids(e *catalog.Entry, do func([]pack.ChunkID) error) error {
	if !e.IDPages {
		return do(e.Chunks)
	}
	for first := 0; first < len(e.Chunks); first += idPagesAtOnce {
		want := e.Chunks[first:min(first+idPagesAtOnce, len(e.Chunks))]
		pages := make([][]pack.ChunkID, len(want))
		err := b.r.chunks.Read(b.ctx, want, func(i int, data []byte) (err error) {
			pages[i], err = parseIDs(data)
			return err
		})
		if err != nil {
			return fmt.Errorf("read pages of chunk ids: %w", err)
		}
		for i, ids := range pages {
			if ids == nil {
				return fmt.Errorf("page of chunk ids %v was not delivered", want[i])
			}
			if err := do(ids); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseIDs reads a page of chunk ids.
func parseIDs(data []byte) ([]pack.ChunkID, error) {
	const one = len(pack.ChunkID{})
	if len(data) == 0 || len(data)%one != 0 || len(data) > catalog.PageIDs*one {
		return nil, fmt.Errorf("a page of chunk ids of %d bytes", len(data))
	}
	ids := make([]pack.ChunkID, len(data)/one)
	for i := range ids {
		copy(ids[i][:], data[i*one:])
	}
	return ids, nil
}
