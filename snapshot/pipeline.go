package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lifeboat/snapshot/catalog"
	"lifeboat/snapshot/source/volume"
	"lifeboat/storage/pack"
)

// pipeline joins the three stages of one run.
type pipeline struct {
	r     *run
	ctx   context.Context
	jobs  chan *job
	order chan slot // what the catalog takes, in path order

	// tokens are large files whose next part waits for a worker. Whoever holds
	// the token reads on; the hashing and sealing of a part goes on without it.
	tokens chan *fileJob
	mu     sync.Mutex
	files  int  // large files not finished
	walked bool // no more will come
}

// slot is one step of the catalog: exactly one field is set.
type slot struct {
	carry *carry
	job   *job
}

// carry is a run of unchanged entries, as the parent's catalog encoded them.
type carry struct {
	raw, paths []byte
	rawEnds    []int
	pathEnds   []int
}

func (c *carry) add(path, raw []byte) {
	c.raw, c.paths = append(c.raw, raw...), append(c.paths, path...)
	c.rawEnds, c.pathEnds = append(c.rawEnds, len(c.raw)), append(c.pathEnds, len(c.paths))
}

// job is work for a worker: some small items, or one large file.
type job struct {
	items []item
	file  *fileJob
	done  chan struct{} // closed when the entries are complete
}

// item is one object that is new or changed, and the entry it becomes.
type item struct {
	stat  *volume.Stat
	entry catalog.Entry
	drop  bool // it vanished
}

// walk goes through the source beside the parent and sorts objects into
// unchanged, small and large.
func (p *pipeline) walk() error {
	defer close(p.order)
	w := &walker{p: p, carry: &carry{}}
	err := p.r.vol.Walk(p.ctx, w.visit)
	if err == nil {
		err = errors.Join(w.flushCarry(), w.flushBatch())
	}
	close(p.jobs)
	p.mu.Lock()
	p.walked = true
	p.closeTokens()
	p.mu.Unlock()
	return err
}

// closeTokens ends the workers when nothing can come any more. p.mu is held.
func (p *pipeline) closeTokens() {
	if p.walked && p.files == 0 {
		close(p.tokens)
	}
}

func (p *pipeline) fileDone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files--
	p.closeTokens()
}

type walker struct {
	p     *pipeline
	carry *carry
	batch *job
	bytes int64
	files uint64
}

func (w *walker) visit(s *volume.Stat) error {
	old, err := w.old(s.Path)
	if err != nil {
		return err
	}
	w.count(s)
	if old != nil {
		w.p.r.matched++
	}
	if old != nil && !w.p.r.opt.Full && w.p.r.unchanged(s, old) {
		if taken, err := w.take(s, old); taken || err != nil {
			return err
		}
	}
	w.p.r.countChange(s, old != nil)
	if err := w.flushCarry(); err != nil {
		return err
	}
	if s.Regular() && s.Size >= largeFile {
		return w.large(s)
	}
	return w.small(s)
}

func (w *walker) old(path []byte) (*catalog.Entry, error) {
	if w.p.r.cursor == nil {
		return nil, nil
	}
	e, ok, err := w.p.r.cursor.SeekTo(path)
	if err != nil {
		return nil, w.loseParent(err)
	}
	if !ok {
		return nil, nil
	}
	return e, nil
}

// loseParent goes on without the parent when the rest of its catalog cannot be
// read: a damaged old snapshot must not keep new ones from being taken.
func (w *walker) loseParent(err error) error {
	if w.p.ctx.Err() != nil {
		return w.p.ctx.Err()
	}
	r := w.p.r
	r.warn("parent_unreadable", "the catalog of the newest snapshot cannot be read to its end, so the other files are read again: %v", err)
	r.cursor.Close()
	r.cursor = nil
	return nil
}

// take hands an unchanged entry on, as it is encoded in the parent's catalog.
// false: what it refers to cannot be found out, so it counts as changed.
func (w *walker) take(s *volume.Stat, old *catalog.Entry) (bool, error) {
	if err := w.flushBatch(); err != nil {
		return false, err
	}
	r := w.p.r
	if old.Type == catalog.File {
		if kept, err := r.keepContents(w.p.ctx, old); !kept || err != nil {
			return false, err
		}
		r.stats.Unmodified++
	}
	r.carried++
	r.cbytes += uint64(old.Size)
	w.carry.add(s.Path, r.cursor.Raw())
	if len(w.carry.raw) < carryBytes {
		return true, nil
	}
	return true, w.flushCarry()
}

// keepContents makes sure that what an unchanged file refers to is in reach of
// the new snapshot: pages of chunk ids that ride in the parent's manifest are
// stored again, and in an exact run each chunk's pack is looked up. false: the
// pages of ids cannot be read.
func (r *run) keepContents(ctx context.Context, e *catalog.Entry) (bool, error) {
	if e.IDPages {
		if err := r.keepPages(ctx, e); err != nil {
			return false, err
		}
	}
	if !r.exact {
		return true, nil
	}
	for id, err := range catalog.FileChunks(ctx, e, r.reader) {
		if err != nil {
			r.warn("parent_unreadable", "/%s is read again: %v", e.Path, err)
			return false, ctx.Err()
		}
		if err := r.lookUp(ctx, id); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *run) keepPages(ctx context.Context, e *catalog.Entry) error {
	for _, id := range e.Chunks {
		if page, inline := r.reader.Inline(id); inline {
			if _, err := r.pages.put(page); err != nil {
				return err
			}
			continue
		}
		if r.exact {
			if err := r.lookUp(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUp notes the pack of a chunk that an unchanged file needs.
func (r *run) lookUp(ctx context.Context, id pack.ChunkID) error {
	stored, key, err := r.t.session.Stored(ctx, id)
	if err != nil {
		return err
	}
	if !stored { // the closure of the parent has it all the same
		r.inexact = true
	}
	r.use(key)
	return nil
}

func (w *walker) count(s *volume.Stat) {
	st := &w.p.r.stats
	switch {
	case s.Regular():
		st.Files++
		st.Bytes += uint64(s.Size)
	case s.Type() == catalog.Dir:
		st.Dirs++
	default:
		st.Others++
	}
	if ev := w.p.r.opt.Events.Progress; ev != nil {
		if w.files++; w.files%64 == 0 || s.Size > largeFile {
			w.p.r.mu.Lock()
			read := st.BytesRead
			w.p.r.mu.Unlock()
			ev(Progress{Files: st.Files, Bytes: st.Bytes, BytesRead: read, Current: string(s.Path)})
		}
	}
}

func (w *walker) flushCarry() error {
	if len(w.carry.rawEnds) == 0 {
		return nil
	}
	c := w.carry
	w.carry = &carry{raw: make([]byte, 0, carryBytes+4096)}
	return w.send(slot{carry: c})
}

// small adds an object to the batch at hand.
func (w *walker) small(s *volume.Stat) error {
	if w.batch == nil {
		w.batch = &job{done: make(chan struct{})}
	}
	w.batch.items = append(w.batch.items, item{stat: s.Clone()})
	if s.Regular() {
		w.bytes += s.Size
	}
	if len(w.batch.items) < batchItems && w.bytes < batchBytes {
		return nil
	}
	return w.flushBatch()
}

func (w *walker) flushBatch() error {
	if w.batch == nil {
		return nil
	}
	j := w.batch
	w.batch, w.bytes = nil, 0
	return w.dispatch(j)
}

func (w *walker) large(s *volume.Stat) error {
	if err := w.flushBatch(); err != nil {
		return err
	}
	w.p.mu.Lock()
	w.p.files++
	w.p.mu.Unlock()
	j := &job{done: make(chan struct{}), items: []item{{stat: s.Clone()}}}
	j.file = w.p.newFileJob(j)
	return w.dispatch(j)
}

// dispatch puts a job into the order first, so that the catalog waits for it,
// and then before the workers.
func (w *walker) dispatch(j *job) error {
	if err := w.send(slot{job: j}); err != nil {
		return err
	}
	select {
	case w.p.jobs <- j:
		return nil
	case <-w.p.ctx.Done():
		return w.p.ctx.Err()
	}
}

func (w *walker) send(s slot) error {
	select {
	case w.p.order <- s:
		return nil
	case <-w.p.ctx.Done():
		return w.p.ctx.Err()
	}
}

// unchanged compares what lstat tells with the parent's entry. The change time
// cannot be set by a program, so it decides; where it is so young that the last
// run may have read the file within the same tick of the clock, the file is read.
func (r *run) unchanged(s *volume.Stat, e *catalog.Entry) bool {
	if s.Type() != e.Type || s.Mode&0o7777 != e.Mode || s.UID != e.UID || s.GID != e.GID || s.MTime != e.MTime || s.CTime != e.CTime || s.Inode != e.Inode {
		return false
	}
	if e.Flags != 0 || s.Unreadable || e.CTime >= r.parent.Start-int64(racyWindow) {
		return false
	}
	if e.Type == catalog.File && s.Size != e.Size {
		return false
	}
	links := uint32(0)
	if s.Links > 1 && e.Type != catalog.Dir {
		links = s.Links
	}
	return links == e.Links && (links == 0 || s.Dev == e.Dev)
}

func (r *run) countChange(s *volume.Stat, existed bool) {
	if !s.Regular() {
		return
	}
	if existed {
		r.stats.Changed++
		return
	}
	r.stats.New++
}

// write is the last stage: it takes the slots in order and builds the catalog.
func (p *pipeline) write() error {
	for {
		var s slot
		var ok bool
		select {
		case s, ok = <-p.order:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
		if !ok {
			return p.ctx.Err()
		}
		if err := p.writeSlot(s); err != nil {
			return err
		}
	}
}

func (p *pipeline) writeSlot(s slot) error {
	if s.carry != nil {
		return p.writeCarry(s.carry)
	}
	select {
	case <-s.job.done:
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	for i := range s.job.items {
		it := &s.job.items[i]
		if it.drop {
			continue
		}
		if it.entry.Flags&catalog.Partial != 0 {
			p.r.problem(it.entry.Path, &p.r.stats.Partial, "its attributes or times could not all be recorded")
		}
		err := p.r.builder.Add(&it.entry)
		if errors.Is(err, catalog.ErrInvalid) {
			p.r.problem(it.entry.Path, &p.r.stats.Unreadable, err.Error())
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pipeline) writeCarry(c *carry) error {
	raw, path := 0, 0
	for i := range c.rawEnds {
		if err := p.r.builder.AddEncoded(c.paths[path:c.pathEnds[i]], c.raw[raw:c.rawEnds[i]]); err != nil {
			return err
		}
		raw, path = c.rawEnds[i], c.pathEnds[i]
	}
	return nil
}

// pageRules are globs of files that are cut on a grid whatever they look like.
type pageRules struct{ match []*catalog.Matcher }

func newPageRules(globs []string) (*pageRules, error) {
	r := &pageRules{}
	for _, g := range globs {
		m, err := catalog.NewMatcher(g)
		if err != nil {
			return nil, fmt.Errorf("page_files %q: %w", g, err)
		}
		r.match = append(r.match, m)
	}
	return r, nil
}

func (r *pageRules) piece(path, head []byte, size int64) (uint32, bool) {
	if slices.ContainsFunc(r.match, func(m *catalog.Matcher) bool { return m.Match(path) }) {
		return 32 << 10, true
	}
	return volume.PageFile(string(path), head, size)
}
