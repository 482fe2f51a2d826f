package snapshot

import (
	"context"
	"errors"
	"io"
	"sync"

	"lifeboat/snapshot/catalog"
	"lifeboat/snapshot/chunk"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage/pack"
)

// fileJob is one large file on its way. The worker that holds the token reads
// the next part into its own buffer, passes the token on, and only then names and
// stores what it read, while it is warm; so one file keeps all workers busy, and
// nothing is copied between them.
type fileJob struct {
	it   *item
	pass func() // gives the token to whoever is free
	done func() // the entry is complete

	// Owned by the holder of the token.
	f      *volume.File
	ranges []catalog.Range // what is read: data ranges, on the grid for page files
	at     int             // index of the current range
	off    int64           // in it
	piece  uint32          // 0: cut by content
	seq    int             // number of the next part
	short  bool            // the file ended before its size
	tries  int

	mu      sync.Mutex
	next    int // part whose ids come next
	early   map[int][]pack.ChunkID
	pending int
	ended   bool // everything was read, or given up; set together with the last part's pending
	err     error
	ids     *catalog.IDs
}

func newFileJob(r *run, it *item) *fileJob {
	return &fileJob{it: it, early: map[int][]pack.ChunkID{}, ids: catalog.NewIDs(r.pages.put)}
}

// newFileJob makes a file job that all workers share. The channel of tokens has
// room for all files in flight.
func (p *pipeline) newFileJob(j *job) *fileJob {
	t := newFileJob(p.r, &j.items[0])
	t.pass = func() { p.tokens <- t }
	t.done = func() {
		close(j.done)
		p.fileDone()
	}
	return t
}

// alone reads a large file in this worker only: one that was small a moment ago.
func (w *worker) alone(ctx context.Context, it *item) error {
	done := false
	t := newFileJob(w.r, it)
	t.pass, t.done = func() {}, func() { done = true }
	for !done {
		if err := w.turn(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// turn does one part of a large file.
func (w *worker) turn(ctx context.Context, t *fileJob) error {
	if t.f == nil {
		if err := w.begin(t); err != nil {
			return t.finish(w, err)
		}
	}
	part, err := w.readPart(t)
	seq := t.seq
	t.seq++
	t.mu.Lock()
	t.pending++
	if err != nil {
		t.err = err
	}
	t.ended = err != nil || t.at >= len(t.ranges)
	ended := t.ended
	t.mu.Unlock()
	if !ended {
		t.pass()
	}
	ids, err := w.storePart(ctx, t, part)
	if err != nil {
		return err
	}
	return t.complete(w, seq, ids)
}

// begin opens the file and decides how it is cut.
func (w *worker) begin(t *fileJob) error {
	f, err := w.r.vol.Open(t.it.stat)
	if err != nil {
		return err
	}
	t.f = f
	t.it.entry = catalog.Entry{}
	e := &t.it.entry
	f.Stat().Fill(e)
	f.Attributes(e)
	if e.Data, err = f.Data(); err != nil { // the block count tells of no hole when attributes have blocks too
		return err
	}
	head := make([]byte, volume.PageHead)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	e.Chunking, t.piece = catalog.Content, 0
	if piece, ok := w.r.rules.piece(e.Path, head[:n], e.Size); ok {
		e.Chunking, e.Piece, t.piece = catalog.Fixed, piece, piece
	}
	t.ranges, t.at, t.off, t.seq = toRead(e.Size, t.piece, e.Data), 0, 0, 0
	return nil
}

// toRead gives the ranges of a file that its chunks cover: its data, rounded to
// the grid for page files.
func toRead(size int64, piece uint32, data []catalog.Range) []catalog.Range {
	if data == nil {
		if size == 0 {
			return nil
		}
		return []catalog.Range{{Length: size}}
	}
	if piece == 0 {
		return data
	}
	var out []catalog.Range
	grid := int64(piece)
	for _, r := range data {
		start, end := r.Offset/grid*grid, min((r.End()+grid-1)/grid*grid, size)
		if n := len(out); n > 0 && out[n-1].End() >= start {
			out[n-1].Length = end - out[n-1].Offset
			continue
		}
		out = append(out, catalog.Range{Offset: start, Length: end - start})
	}
	return out
}

// readPart reads the next chunk, or the next pieces, into the worker's buffer.
func (w *worker) readPart(t *fileJob) ([]byte, error) {
	if cap(w.buf) < chunk.Max {
		w.buf = make([]byte, 0, chunk.Max)
	}
	if t.at >= len(t.ranges) {
		return nil, nil
	}
	if t.piece > 0 {
		return w.readPieces(t)
	}
	return w.readChunk(t)
}

func (w *worker) readPieces(t *fileJob) ([]byte, error) {
	r := t.ranges[t.at]
	n := min(r.Length-t.off, unitBytes)
	got, err := w.fill(t, w.buf[:n], r.Offset+t.off)
	if t.off += n; t.off == r.Length {
		t.at, t.off = t.at+1, 0
	}
	if t.short {
		t.at = len(t.ranges)
	}
	return w.buf[:got], err
}

// readChunk reads and scans in steps until the chunk ends.
func (w *worker) readChunk(t *fileJob) ([]byte, error) {
	var st chunk.State
	at, off, n := t.at, t.off, 0
	for {
		for n < chunk.Max && at < len(t.ranges) {
			r := t.ranges[at]
			step := int(min(r.Length-off, stepBytes, int64(chunk.Max-n)))
			got, err := w.fill(t, w.buf[n:n+step], r.Offset+off)
			n += got
			if off += int64(got); off == r.Length {
				at, off = at+1, 0
			}
			if err != nil || got < step {
				at = len(t.ranges) // the file ends here, or cannot be read on
				if err != nil {
					return nil, err
				}
			}
			if got > 0 && n >= chunk.Min {
				break
			}
		}
		if cut := w.t.cutter.Scan(&st, w.buf[:n], at >= len(t.ranges)); cut > 0 {
			t.advance(int64(cut), at >= len(t.ranges) && cut == n)
			return w.buf[:cut], nil
		}
		if at >= len(t.ranges) {
			t.at = at
			return w.buf[:n], nil
		}
	}
}

// advance moves the reading position by what the chunk took of the ranges.
func (t *fileJob) advance(n int64, end bool) {
	if end {
		t.at = len(t.ranges)
		return
	}
	for n > 0 && t.at < len(t.ranges) {
		left := t.ranges[t.at].Length - t.off
		if n < left {
			t.off += n
			return
		}
		n -= left
		t.at, t.off = t.at+1, 0
	}
}

// fill reads one stretch. A file that is shorter than it was ends there: what
// follows is not asked for again, even if it comes back, so that size and chunks
// stay in step.
func (w *worker) fill(t *fileJob, buf []byte, offset int64) (int, error) {
	n, err := t.f.ReadAt(buf, offset)
	w.read(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil || n == len(buf) {
		return n, err
	}
	t.short = true
	t.it.entry.Size = offset + int64(n)
	t.ranges = clip(t.ranges, t.it.entry.Size)
	return n, nil
}

func (w *worker) storePart(ctx context.Context, t *fileJob, part []byte) ([]pack.ChunkID, error) {
	if len(part) == 0 {
		return nil, nil
	}
	if t.piece == 0 {
		id, err := w.store(ctx, part)
		return []pack.ChunkID{id}, err
	}
	var ids []pack.ChunkID
	for len(part) > 0 {
		n := min(len(part), int(t.piece))
		id, err := w.store(ctx, part[:n])
		if err != nil {
			return nil, err
		}
		ids, part = append(ids, id), part[n:]
	}
	return ids, nil
}

// complete hands in the ids of one part. They go into the entry in order; the
// last part to come in finishes the file.
func (t *fileJob) complete(w *worker, seq int, ids []pack.ChunkID) error {
	t.mu.Lock()
	t.early[seq] = ids
	for {
		ids, ok := t.early[t.next]
		if !ok {
			break
		}
		delete(t.early, t.next)
		t.next++
		for _, id := range ids {
			if err := t.ids.Add(id); err != nil {
				t.mu.Unlock()
				return err
			}
		}
	}
	t.pending--
	last := t.ended && t.pending == 0
	err := t.err
	t.mu.Unlock()
	if !last {
		return nil
	}
	return t.finish(w, err)
}

// finish closes the file's entry, or begins again when the file changed.
func (t *fileJob) finish(w *worker, err error) error {
	changed := t.short
	if t.f != nil {
		if err == nil && !changed {
			changed, err = t.f.Changed()
		}
		t.f.Close()
	}
	again := err == nil && changed || errors.Is(err, volume.ErrReplaced)
	if again && t.tries < rereadsMax {
		return t.restart(w)
	}
	if err == nil {
		e := &t.it.entry
		if t.short && e.Data != nil {
			e.Data = t.ranges // what was read, and no more
		}
		err = t.ids.Finish(e)
		if err != nil {
			return err
		}
		if changed {
			e.Flags |= catalog.Changed
			w.r.problem(e.Path, &w.r.stats.Torn, "changed while it was read")
		}
	} else if err := w.failed(t.it, err); err != nil {
		return err
	}
	t.done()
	return nil
}

func (t *fileJob) restart(w *worker) error {
	t.tries++
	t.mu.Lock()
	t.f, t.next, t.ended, t.short, t.err = nil, 0, false, false, nil
	t.seq, t.at, t.off = 0, 0, 0
	t.ids.Reset()
	t.mu.Unlock()
	if err := w.r.vol.Restat(t.it.stat); err != nil {
		t.tries = rereadsMax
		return t.finish(w, err)
	}
	t.pass()
	return nil
}
