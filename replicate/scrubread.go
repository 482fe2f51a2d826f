package replicate

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

// readPhase reads packs whole: all metadata packs of the chosen snapshots, and
// as many data packs as asked for, going round from where the last scrub ended.
func (s *scrub) readPhase(ctx context.Context) error {
	plans := map[*scan]*readPlan{}
	var bytes, items int64
	for _, g := range s.scans {
		if !g.checked || !g.answers() {
			continue
		}
		p := s.planRead(g)
		plans[g] = p
		items += int64(len(p.meta) + len(p.data))
		for _, no := range append(slices.Clone(p.meta), p.data...) {
			bytes += g.seen[no].size
		}
	}
	s.opt.Events.expect(bytes, items)
	pool := s.framePool()
	defer pool.close()
	s.eachChecked(func(g *scan) {
		many(ctx, g, plans[g].meta, func(no uint32) { s.readPack(ctx, g, no, nil) })
		many(ctx, g, plans[g].data, func(no uint32) { s.readData(ctx, g, no, pool) })
	})
	s.level(pool != nil)
	s.measure(plans)
	return nil
}

// level says how far the data packs that were chosen are proved.
func (s *scrub) level(deep bool) {
	switch {
	case s.opt.Read.IsZero():
	case deep && !s.noKey.Load():
		s.report.Level = LevelDeep
	default:
		s.report.Level = LevelHash
	}
}

// readPlan is what one region's packs are to be read.
type readPlan struct {
	meta, data []uint32 // numbers; data in the order of the round
	all        []uint32 // data packs to choose from, sorted by hash
	from       int      // of all, where the round goes on
}

func (s *scrub) planRead(g *scan) *readPlan {
	p := &readPlan{}
	var total int64
	for no := range g.seen {
		seen, row := &g.seen[no], &s.packs.rows[no]
		switch {
		case !seen.wanted || !seen.there || !row.chosen:
		case row.kind == storage.PackMeta:
			if !seen.bad && !seen.good {
				p.meta = append(p.meta, uint32(no))
			}
		default:
			p.all = append(p.all, uint32(no))
			total += seen.size
		}
	}
	slices.SortFunc(p.all, func(a, b uint32) int { return slices.Compare(s.packs.rows[a].hash[:], s.packs.rows[b].hash[:]) })
	left := s.opt.Read.of(total)
	p.from = s.opt.Coverage.resume(g.nonce, p.all, func(no uint32) pack.Hash { return s.packs.rows[no].hash })
	if s.opt.Coverage == nil && total > 0 && left < total {
		p.from = byDay(s.opt.Now, float64(left)/float64(total), len(p.all))
	}
	for i := range p.all {
		if left <= 0 {
			break
		}
		no := p.all[(p.from+i)%len(p.all)]
		p.data = append(p.data, no)
		left -= max(1, g.seen[no].size)
	}
	return p
}

// byDay chooses where to begin when nothing is remembered: each day a part
// further, so that daily runs of the same size go round too.
func byDay(now time.Time, part float64, n int) int {
	days := float64(now.Unix() / int64(24*time.Hour/time.Second))
	_, place := math.Modf(days * part)
	return min(n-1, int(math.Abs(place)*float64(n)))
}

// of gives the bytes to read of a total.
func (a ReadAmount) of(total int64) int64 {
	switch {
	case a.All:
		return math.MaxInt64
	case a.Ratio > 0:
		return max(1, int64(math.Ceil(a.Ratio*float64(total))))
	}
	return a.Bytes
}

// readData reads one data pack; of the packs with the same bytes in several
// regions, the frames of one are opened.
func (s *scrub) readData(ctx context.Context, g *scan, no uint32, pool framePool) {
	if seen := &g.seen[no]; seen.bad {
		return // read, or found missing, when it was looked at
	}
	row := &s.packs.rows[no]
	s.mu.Lock()
	first := pool != nil && !row.deep
	row.deep = row.deep || first
	s.mu.Unlock()
	var f *frameCheck
	if first {
		f = s.frames(ctx, no, pool)
		defer pool.give(f)
	}
	s.readPack(ctx, g, no, f)
	seen := &g.seen[no]
	switch {
	case f == nil && seen.bad && pool != nil && ctx.Err() == nil:
		f = s.frames(ctx, no, pool) // which chunks are lost?
		defer pool.give(f)
		if f == nil {
			return
		}
		if _, _, err := s.hashPack(ctx, g, s.packs.key(no), f); err == nil {
			s.lose(g, no, f)
		}
	case f != nil && seen.bad:
		s.lose(g, no, f)
		s.mu.Lock()
		row.deep = false // another region's copy may be good: open that one
		s.mu.Unlock()
	case f != nil && seen.good && len(f.lost) > 0:
		bad := s.findAs(storage.KindPack.String(), nil, s.packs.key(no), "its bytes are what its name says, but %d of its %d frames do not open as what the index says", f.failed, len(f.frames))
		bad.lost = slices.Clone(f.lost)
	}
	if f != nil && f.noKey {
		s.noKey.Store(true)
	}
}

// lose notes which chunks a damaged pack does not give any more.
func (s *scrub) lose(g *scan, no uint32, f *frameCheck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.known[g.Name+"\x00"+s.packs.key(no)]; found != nil && !f.noKey {
		found.lost = append([]pack.ChunkID{}, f.lost...)
	}
}

// framePool bounds how many packs are opened at once; nil without a data key.
type framePool chan *frameCheck

func (s *scrub) framePool() framePool {
	if s.opt.Open == nil || s.idx == nil || s.opt.Read.IsZero() {
		return nil
	}
	p := make(framePool, scrubDeepMax)
	for range scrubDeepMax {
		p <- nil // made when first used
	}
	return p
}

func (p framePool) give(f *frameCheck) {
	if f != nil {
		p <- f
	}
}

func (p framePool) close() {
	for range cap(p) {
		if f := <-p; f != nil {
			f.dec.Close()
		}
	}
}

// frames prepares the opening of one pack's frames; nil if the index does not
// know the pack.
func (s *scrub) frames(ctx context.Context, no uint32, pool framePool) *frameCheck {
	row := &s.packs.rows[no]
	frames, err := s.idx.PackFrames(row.hash, id16(s.packs.writers[row.writer]))
	if err != nil {
		return nil // it is reported as a pack that nothing tells of
	}
	var f *frameCheck
	select {
	case f = <-pool:
	case <-ctx.Done():
		return nil
	}
	if f == nil {
		dec, err := pack.NewDecoder()
		if err != nil {
			pool <- nil
			return nil
		}
		f = &frameCheck{dec: dec, hash: pack.NewHasher(s.r.Keys().Domain.ChunkKey(uint8(pack.Data))), open: s.opt.Open}
	}
	f.frames = frames
	f.reset()
	return f
}

// frameCheck opens the frames of a pack as its bytes pass by.
type frameCheck struct {
	dec    *pack.Decoder
	hash   *pack.Hasher
	open   pack.Open
	frames []pack.Frame

	buf, plain []byte
	lost       []pack.ChunkID // chunks that did not come out right
	failed     int            // frames
	noKey      bool
}

func (f *frameCheck) reset() { f.lost, f.failed, f.noKey = f.lost[:0], 0, false }

// read takes the frames out of the stream. Its error is the stream's; frames
// that are not what they must be are noted.
func (f *frameCheck) read(r io.Reader) error {
	at := uint32(0)
	for i := range f.frames {
		fr := &f.frames[i]
		f.buf = slices.Grow(f.buf[:0], int(fr.Length))[:fr.Length]
		_, err := io.CopyN(io.Discard, r, int64(fr.Offset-at))
		if err == nil {
			_, err = io.ReadFull(r, f.buf)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			for j := i; j < len(f.frames); j++ {
				f.lose(&f.frames[j])
			}
			return nil
		}
		if err != nil {
			return err
		}
		at = fr.Offset + fr.Length
		f.frame(fr)
	}
	return nil
}

func (f *frameCheck) frame(fr *pack.Frame) {
	var err error
	f.plain, err = f.dec.Frame(f.plain[:0], f.buf, f.open, int(fr.Plain))
	if errors.Is(err, seal.ErrNoKey) {
		f.noKey = true
		return
	}
	if err != nil {
		f.lose(fr)
		return
	}
	rest, right := f.plain, true
	for _, c := range fr.Chunks {
		if f.hash.Sum(rest[:c.Length]) != c.ID {
			f.lost, right = append(f.lost, c.ID), false
		}
		rest = rest[c.Length:]
	}
	if !right {
		f.failed++
	}
}

func (f *frameCheck) lose(fr *pack.Frame) {
	f.failed++
	for _, c := range fr.Chunks {
		f.lost = append(f.lost, c.ID)
	}
}

// measure moves the rounds on and says how much of the data was ever read.
func (s *scrub) measure(plans map[*scan]*readPlan) {
	whole := s.opt.Workload == "" && s.opt.Newest == 0 // a part of the packs makes no round
	rep := &s.report.Coverage
	var total, verified, now int64
	oldest := int64(math.MaxInt64)
	for g, p := range plans {
		done := 0
		for done < len(p.data) && (g.seen[p.data[done]].good || g.seen[p.data[done]].bad) {
			done++
		}
		if whole {
			s.opt.Coverage.advance(g.nonce, s.opt.Now, p, done, func(no uint32) pack.Hash { return s.packs.rows[no].hash })
		}
		for _, no := range p.all {
			seen := &g.seen[no]
			total += seen.size
			if seen.good || seen.bad {
				now += seen.size
			}
			if seen.good || seen.bad || s.opt.Coverage.read(g.nonce, s.packs.rows[no].hash, seen.stored) {
				verified += seen.size
				continue
			}
			oldest = min(oldest, seen.stored)
		}
	}
	rep.BytesRatio, rep.RunRatio = 1, 1
	if total > 0 {
		rep.BytesRatio, rep.RunRatio = float64(verified)/float64(total), float64(now)/float64(total)
	}
	if oldest != math.MaxInt64 {
		rep.OldestUnread = time.Unix(oldest, 0).UTC()
	}
}
