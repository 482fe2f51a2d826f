package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

// Limits of reading.
const (
	fetchersMax = 6         // ranges fetched and decoded at once
	rangeMax    = 8 << 20   // bytes of one range request: with less, distance decides how fast it is
	gapMax      = 256 << 10 // unwanted bytes between two frames that are fetched along
)

// ReadError lists the chunks that no region could give. The others were emitted.
type ReadError struct {
	Failed map[int]error // by position in the request
}

// Error names the first failure and counts the others.
func (e *ReadError) Error() string {
	first := -1
	for i := range e.Failed {
		if first < 0 || i < first {
			first = i
		}
	}
	return fmt.Sprintf("%d chunks cannot be read, the first: %v", len(e.Failed), e.Failed[first])
}

// Unwrap gives the causes.
func (e *ReadError) Unwrap() []error {
	var out []error
	for _, err := range e.Failed {
		out = append(out, err)
		if len(out) == 8 {
			break
		}
	}
	return out
}

// Reader reads chunks: it looks them up, fetches their frames in ranges from
// whichever region has good bytes, opens them, and proves every chunk against
// its id. It is safe for concurrent use.
type Reader struct {
	r        *Repo
	idx      *index.Index
	fetchers chan *fetcher
	data     *seal.Opener
	meta     *seal.Opener
	overlay  map[pack.ChunkID][]byte // pages that ride in a manifest
}

// Chunks gives a Reader. overlay holds pages that no pack has.
func (r *Repo) Chunks(ctx context.Context, overlay [][]byte) (*Reader, error) {
	idx, err := r.Index(ctx)
	if err != nil {
		return nil, err
	}
	rd := &Reader{r: r, idx: idx, fetchers: make(chan *fetcher, fetchersMax), data: r.keys.DataOpener(),
		meta: r.metaOpener(), overlay: map[pack.ChunkID][]byte{}}
	for range fetchersMax {
		rd.fetchers <- nil // made when first used
	}
	meta := pack.NewHasher(r.keys.Domain.ChunkKey(uint8(pack.Meta)))
	for _, page := range overlay {
		rd.overlay[meta.Sum(page)] = page
	}
	return rd, nil
}

// Close gives back the decoders. No Read may be under way.
func (rd *Reader) Close() {
	for range fetchersMax {
		if f := <-rd.fetchers; f != nil {
			f.dec.Close()
		}
	}
}

// fetcher is one worker's state: buffers and a decoder.
type fetcher struct {
	buf, plain []byte
	dec        *pack.Decoder
	hash       [2]*pack.Hasher
}

func (rd *Reader) newFetcher() (*fetcher, error) {
	dec, err := pack.NewDecoder()
	if err != nil {
		return nil, err
	}
	f := &fetcher{dec: dec}
	for kind := range f.hash {
		f.hash[kind] = pack.NewHasher(rd.r.keys.Domain.ChunkKey(uint8(kind)))
	}
	return f, nil
}

// part is one wanted chunk inside a frame.
type part struct {
	index          int // in the request
	id             pack.ChunkID
	offset, length uint32
}

// frameJob is one frame to fetch, and what is wanted of it.
type frameJob struct {
	index.Location
	parts []part
}

// Read calls emit once for each wanted chunk, from several goroutines and in
// any order, with its verified plaintext, which is valid during the call only.
// Chunks that cannot be had are reported together in a *ReadError, after all
// others were emitted; an error of emit ends the reading.
func (rd *Reader) Read(ctx context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error {
	failed := &failures{m: map[int]error{}}
	jobs := map[frameKey]*frameJob{}
	for i, id := range want {
		if page, ok := rd.overlay[id]; ok {
			if err := emit(i, page); err != nil {
				return err
			}
			continue
		}
		locs, err := rd.idx.Lookup(id)
		if err != nil {
			return fmt.Errorf("look up chunk %.8s: %w", id, err)
		}
		if len(locs) == 0 {
			failed.add(i, fmt.Errorf("chunk %.8s: %w: no index names it", id, storage.ErrNotFound))
			continue
		}
		addPart(jobs, locs[0], part{index: i, id: id, offset: locs[0].Offset, length: locs[0].Length})
	}
	if err := rd.fetchAll(ctx, jobs, emit, failed); err != nil {
		return err
	}
	if err := rd.elsewhere(ctx, want, emit, failed); err != nil {
		return err
	}
	return failed.err()
}

// frameKey tells frames apart. Records that differ in anything are different
// ones: what one writer says of a pack must not spoil what another says.
type frameKey struct {
	pack                  pack.Hash
	writer                index.Writer
	kind                  pack.Kind
	offset, length, plain uint32
}

func addPart(jobs map[frameKey]*frameJob, loc index.Location, p part) {
	key := frameKey{loc.Pack, loc.Writer, loc.Kind, loc.FrameOffset, loc.FrameLength, loc.FramePlain}
	if jobs[key] == nil {
		jobs[key] = &frameJob{Location: loc}
	}
	jobs[key].parts = append(jobs[key].parts, p)
}

// failures collects what could not be read.
type failures struct {
	mu sync.Mutex
	m  map[int]error
}

func (f *failures) add(i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[i] = err
}

func (f *failures) err() error {
	if len(f.m) == 0 {
		return nil
	}
	return &ReadError{Failed: f.m}
}

// elsewhere tries the other copies of chunks whose first location failed.
func (rd *Reader) elsewhere(ctx context.Context, want []pack.ChunkID, emit func(int, []byte) error, failed *failures) error {
	for i, first := range failed.m {
		locs, err := rd.idx.Lookup(want[i])
		if err != nil {
			return fmt.Errorf("look up chunk %.8s: %w", want[i], err)
		}
		for _, loc := range locs[min(1, len(locs)):] {
			again := &failures{m: map[int]error{}}
			jobs := map[frameKey]*frameJob{}
			addPart(jobs, loc, part{index: i, id: want[i], offset: loc.Offset, length: loc.Length})
			if err := rd.fetchAll(ctx, jobs, emit, again); err != nil {
				return err
			}
			if len(again.m) == 0 {
				delete(failed.m, i)
				break
			}
			failed.m[i] = errors.Join(first, again.m[i])
		}
	}
	return nil
}

// fetchAll sorts frames into ranges and works on several ranges at once.
func (rd *Reader) fetchAll(ctx context.Context, jobs map[frameKey]*frameJob, emit func(int, []byte) error, failed *failures) error {
	sorted := make([]*frameJob, 0, len(jobs))
	for _, j := range jobs {
		sorted = append(sorted, j)
	}
	slices.SortFunc(sorted, func(a, b *frameJob) int {
		return cmp.Or(slices.Compare(a.Pack[:], b.Pack[:]), slices.Compare(a.Writer[:], b.Writer[:]), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.FrameOffset, b.FrameOffset), cmp.Compare(a.FrameLength, b.FrameLength))
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchersMax)
	for len(sorted) > 0 {
		n := rangeLength(sorted)
		batch := sorted[:n]
		sorted = sorted[n:]
		g.Go(func() error { return rd.fetchRange(ctx, batch, emit, failed) })
	}
	return g.Wait()
}

// rangeLength counts the frames at the start that one request should fetch.
func rangeLength(jobs []*frameJob) int {
	first := jobs[0]
	end := first.FrameOffset + first.FrameLength
	for i, j := range jobs[1:] {
		apart := j.Pack != first.Pack || j.Writer != first.Writer || j.Kind != first.Kind || j.FrameOffset < end
		if apart || j.FrameOffset > end+gapMax || j.FrameOffset+j.FrameLength-first.FrameOffset > rangeMax {
			return i + 1
		}
		end = j.FrameOffset + j.FrameLength
	}
	return len(jobs)
}

// fetchRange reads one range and opens its frames. A region whose bytes do not
// open is passed over for the frames concerned.
func (rd *Reader) fetchRange(ctx context.Context, jobs []*frameJob, emit func(int, []byte) error, failed *failures) error {
	var f *fetcher
	select {
	case f = <-rd.fetchers:
	case <-ctx.Done():
		return ctx.Err()
	}
	if f == nil {
		var err error
		if f, err = rd.newFetcher(); err != nil {
			rd.fetchers <- nil
			return err
		}
	}
	defer func() { rd.fetchers <- f }()
	var all []error
	for _, src := range rd.sources(jobs[0]) {
		err := src.read(ctx, f, jobs)
		if err == nil {
			jobs, err = rd.openFrames(f, jobs, emit)
			if errors.Is(err, errEmit) {
				return errors.Unwrap(err)
			}
		}
		if len(jobs) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rd.r.opt.Events.fallback(src.name(), packKey(jobs[0].Location), err)
		all = append(all, fmt.Errorf("region %s: %w", src.name(), err))
	}
	for _, j := range jobs {
		cause := errors.Join(all...)
		if !isNoKey(cause) {
			rd.r.doubts.Store(j.Pack, true)
		}
		for _, p := range j.parts {
			failed.add(p.index, fmt.Errorf("chunk %.8s in %s: %w", p.id, packKey(j.Location), cause))
		}
	}
	return nil
}

// emitError carries an error of emit past the failover.
type emitError struct{ err error }

var errEmit = errors.New("emit")

func (e emitError) Error() string        { return e.err.Error() }
func (e emitError) Unwrap() error        { return e.err }
func (e emitError) Is(target error) bool { return target == errEmit }

// openFrames opens the frames of a range that was read into f.buf and emits the
// wanted chunks. It returns the frames that did not open.
func (rd *Reader) openFrames(f *fetcher, jobs []*frameJob, emit func(int, []byte) error) (bad []*frameJob, err error) {
	base := jobs[0].FrameOffset
	for _, j := range jobs {
		file := f.buf[j.FrameOffset-base:][:j.FrameLength]
		ferr := rd.openFrame(f, j, file)
		if ferr != nil {
			bad, err = append(bad, j), ferr
			continue
		}
		for _, p := range j.parts {
			if eerr := emit(p.index, f.plain[p.offset:][:p.length]); eerr != nil {
				return nil, emitError{eerr}
			}
		}
	}
	return bad, err
}

func (rd *Reader) openFrame(f *fetcher, j *frameJob, file []byte) error {
	opener := rd.data
	if j.Kind == pack.Meta {
		opener = rd.meta
	}
	var err error
	if f.plain, err = f.dec.Frame(f.plain[:0], file, opener.Open, int(j.FramePlain)); err != nil {
		return err
	}
	for _, p := range j.parts {
		if uint64(p.offset)+uint64(p.length) > uint64(len(f.plain)) {
			return fmt.Errorf("chunk %.8s: %w: outside its frame", p.id, storage.ErrCorrupt)
		}
		if f.hash[j.Kind].Sum(f.plain[p.offset:][:p.length]) != p.id {
			return fmt.Errorf("chunk %.8s: %w: contents do not match its id", p.id, storage.ErrCorrupt)
		}
	}
	return nil
}

// source is a place that may have a pack: the local cache or a region.
type source struct {
	place *Place // nil: the cache
	rd    *Reader
}

func (s source) name() string {
	if s.place == nil {
		return "cache"
	}
	return s.place.Name
}

func (rd *Reader) sources(j *frameJob) []source {
	var out []source
	if j.Kind == pack.Meta {
		out = append(out, source{rd: rd})
	}
	for _, p := range rd.r.readOrder() {
		out = append(out, source{place: p, rd: rd})
	}
	return out
}

func packKey(loc index.Location) string {
	return storage.PackKey(hexID(loc.Writer), packKind(loc.Kind), loc.Pack)
}

// packKind is the letter of a kind of packs in their names.
func packKind(k pack.Kind) byte {
	if k == pack.Meta {
		return storage.PackMeta
	}
	return storage.PackData
}

// read fills f.buf with the bytes from the first frame's start to the last one's end.
func (s source) read(ctx context.Context, f *fetcher, jobs []*frameJob) error {
	base := jobs[0].FrameOffset
	last := jobs[len(jobs)-1]
	n := int(last.FrameOffset + last.FrameLength - base)
	f.buf = slices.Grow(f.buf[:0], n)[:n]
	if s.place == nil {
		return s.readCached(f, jobs[0].Pack, int64(base))
	}
	key := packKey(jobs[0].Location)
	if jobs[0].Kind == pack.Meta && !s.rd.r.cache.temporary {
		return s.readThrough(ctx, f, jobs[0], int64(base))
	}
	if _, err := storage.ReadRangeInto(ctx, s.place.Store, key, int64(base), f.buf); err != nil {
		return err
	}
	s.rd.r.opt.Events.fetched(s.place.Name, int64(n))
	return nil
}

func (s source) readCached(f *fetcher, hash pack.Hash, offset int64) error {
	file, ok := s.rd.r.cache.open(hash)
	if !ok {
		return storage.ErrNotFound
	}
	defer file.Close()
	if _, err := file.ReadAt(f.buf, offset); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// readThrough fetches a whole metadata pack, keeps it in the cache for the runs
// to come, and takes the wanted range.
func (s source) readThrough(ctx context.Context, f *fetcher, j *frameJob, offset int64) error {
	data, err := s.rd.r.object(ctx, s.place, packKey(j.Location), int64(min(j.PackSize, pack.PackMax)))
	if err != nil {
		return err
	}
	if offset+int64(len(f.buf)) > int64(len(data)) {
		return fmt.Errorf("%s: %w: shorter than the index says", packKey(j.Location), storage.ErrCorrupt)
	}
	copy(f.buf, data[offset:])
	return nil
}

// Lengths sets lengths[i] to the bytes of chunk want[i] where the index knows
// them, and leaves the others alone.
func (rd *Reader) Lengths(_ context.Context, want []pack.ChunkID, lengths []uint32) error {
	for i, id := range want {
		loc, ok, err := rd.idx.Has(id)
		if err != nil {
			return fmt.Errorf("look up chunk %.8s: %w", id, err)
		}
		if ok {
			lengths[i] = loc.Length
		}
	}
	return nil
}

// Inline gives a page that rides in the manifest.
func (rd *Reader) Inline(id pack.ChunkID) ([]byte, bool) {
	page, ok := rd.overlay[id]
	return page, ok
}
