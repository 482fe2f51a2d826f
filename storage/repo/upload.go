package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/pack"
)

const (
	slowRegionDefault = 60 * time.Second
	// An index object is written when as many packs are in none as are in one, and
	// so many at least; at the latest after so many or so long. Thus a killed run
	// has to send at most half of its packs again, and few runs write a second one.
	indexFirstPacks = 4
	indexEveryPacks = 64
	indexEvery      = 60 * time.Second
)

// uploader sends packs to all regions of the session at once. The number of
// buffers bounds its memory and is the back-pressure on those who make packs.
type uploader struct {
	s       *Session
	buffers chan []byte
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	ticker  *time.Ticker

	mu      sync.Mutex
	flying  int            // packs on their way
	landed  chan struct{}  // closed when one of them arrives
	waiting map[*claim]int // packs not yet in this region
	cancels map[*claim]context.CancelCauseFunc
	ctxs    map[*claim]context.Context
}

func newUploader(s *Session) *uploader {
	n := s.opt.Buffers
	if n <= 0 {
		n = buffersDefault
	}
	u := &uploader{s: s, buffers: make(chan []byte, n), landed: make(chan struct{}), ticker: time.NewTicker(indexEvery),
		waiting: map[*claim]int{}, cancels: map[*claim]context.CancelCauseFunc{}, ctxs: map[*claim]context.Context{}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	for range n {
		u.buffers <- nil // made when first used
	}
	for _, c := range s.claims {
		u.ctxs[c], u.cancels[c] = context.WithCancelCause(u.ctx)
	}
	return u
}

// buffer waits for a free pack buffer. When one region alone holds all of them
// up for too long, the region is left out.
func (u *uploader) buffer(ctx context.Context) ([]byte, error) {
	wait := u.s.patience()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		flying, landed := u.flight()
		if flying == 0 {
			return u.spare(), nil
		}
		select {
		case b := <-u.buffers:
			return orMake(b), nil
		case <-landed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			u.dropSlow(wait)
			timer.Reset(wait)
		}
	}
}

// spare gives a buffer without waiting. With no pack on its way, those that are
// missing are in the hands of FrameWriters, who may all wait for the one who asks:
// then there is one more.
func (u *uploader) spare() []byte {
	select {
	case b := <-u.buffers:
		return orMake(b)
	default:
		return orMake(nil)
	}
}

func orMake(b []byte) []byte {
	if b == nil {
		return make([]byte, 0, pack.PackTarget)
	}
	return b
}

// give takes a buffer back, unless there are enough.
func (u *uploader) give(b []byte) {
	select {
	case u.buffers <- b:
	default:
	}
}

// flight counts the packs on their way; landed is closed when one arrives.
func (u *uploader) flight() (n int, landed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.flying, u.landed
}

func (u *uploader) takeOff() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.flying++
}

func (u *uploader) land() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.flying--
	close(u.landed)
	u.landed = make(chan struct{})
}

// dropSlow leaves out the regions that others wait for.
func (u *uploader) dropSlow(wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	active := u.s.active()
	var slow []*claim
	for _, c := range active {
		if u.waiting[c] > 0 {
			slow = append(slow, c)
		}
	}
	if len(slow) == len(active) {
		return // all are slow: that is the speed there is
	}
	for _, c := range slow {
		err := fmt.Errorf("too slow: the other regions waited %v for it", wait)
		u.s.drop(c, err)
		u.cancels[c](err)
	}
}

// send stores a finished pack in all regions still in the session, and gives
// its buffer back when they are done.
func (u *uploader) send(sealed pack.Sealed) {
	u.takeOff()
	u.wg.Go(func() {
		defer u.land()
		defer u.give(sealed.Bytes[:0])
		if err := u.store(sealed); err != nil {
			u.s.fail(err)
		}
	})
}

func (u *uploader) store(sealed pack.Sealed) error {
	kind := byte('d')
	if sealed.Kind == pack.Meta {
		kind = 'm'
		u.s.r.cache.put(sealed.Hash, sealed.Bytes)
	}
	key := storage.PackKey(u.s.log.Writer, kind, sealed.Hash)
	u.s.each(u.ctx, func(_ context.Context, c *claim) error { // slow regions are dropSlow's business
		u.count(c, 1)
		defer u.count(c, -1)
		if err := c.Store.Put(u.ctxs[c], key, sealed.Bytes, sealed.Checksum()); err != nil {
			if cause := context.Cause(u.ctxs[c]); cause != nil {
				err = cause
			}
			return err // it names the key
		}
		u.s.r.opt.Events.stored(c.Name, int64(len(sealed.Bytes)))
		return nil
	})
	if len(u.s.active()) == 0 {
		return fmt.Errorf("store %s: no region took it: %w", key, u.s.lost())
	}
	return u.s.stored(key, sealed)
}

func (u *uploader) count(c *claim, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting[c] += n
}

// drain waits until all packs that were sent are stored or given up. A region
// that alone keeps the others waiting, with no pack arriving anywhere meanwhile,
// is left out. When ctx ends, what is under way is called off.
func (u *uploader) drain(ctx context.Context) error {
	wait := u.s.patience()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		flying, landed := u.flight()
		if flying == 0 {
			return nil
		}
		select {
		case <-landed:
			timer.Reset(wait)
		case <-timer.C:
			u.dropSlow(wait)
			timer.Reset(wait)
		case <-ctx.Done():
			u.cancel()
			u.wg.Wait()
			return fmt.Errorf("wait for packs under way: %w", context.Cause(ctx))
		}
	}
}

func (u *uploader) close() {
	u.cancel()
	u.wg.Wait()
	u.ticker.Stop()
}

// stored takes a pack into the index, and writes an index object when it is time.
func (s *Session) stored(key string, sealed pack.Sealed) error {
	rec := index.PackRecord{Hash: sealed.Hash, Kind: sealed.Kind, Size: uint64(len(sealed.Bytes)), Frames: sealed.Frames}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.idx.Add(rec, hex16(s.log.Writer)); err != nil {
		return fmt.Errorf("index %s: %w", key, err)
	}
	s.reuse[sealed.Hash] = true
	s.newKeys = append(s.newKeys, key)
	s.records = append(s.records, rec)
	for _, f := range sealed.Frames {
		for _, c := range f.Chunks {
			delete(s.claimed, c.ID)
		}
	}
	s.since++
	due := s.since >= min(indexEveryPacks, max(indexFirstPacks, len(s.newKeys)/2))
	select {
	case <-s.up.ticker.C:
		due = true
	default:
	}
	if !due {
		return nil
	}
	return s.putIndexLocked(s.up.ctx)
}

// putIndexLocked writes what is in no index object yet. s.mu is held.
func (s *Session) putIndexLocked(ctx context.Context) error {
	objects, err := s.sealIndexLocked()
	if err != nil {
		return err
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	for _, o := range objects {
		s.putAll(ctx, o)
	}
	return nil
}

// sealIndexLocked makes index objects of what is in none yet, for the caller to
// put. The local index knows what is in them. s.mu is held.
func (s *Session) sealIndexLocked() (objects []object, err error) {
	records := s.records
	s.records, s.since = nil, 0
	for len(records) > 0 {
		n, room := 0, 0
		for n < len(records) && (n == 0 || room+records[n].Room() < indexRoom) {
			room += records[n].Room()
			n++
		}
		o, err := s.sealIndexObject(records[:n])
		if err != nil {
			return objects, err
		}
		objects, records = append(objects, o), records[n:]
	}
	return objects, nil
}

// indexRoom is how many bytes of records go into one index object.
const indexRoom = 4 << 20

func (s *Session) sealIndexObject(records []index.PackRecord) (object, error) {
	seq := s.nextObject()
	enc, err := pack.NewEncoder()
	if err != nil {
		return object{}, err
	}
	data, err := index.EncodeObject(&index.Object{Repo: s.r.id, Writer: hex16(s.log.Writer), Instance: hex16(s.log.Instance), Seq: seq, Domain: uint64(s.r.trust.Domain.ID), Packs: records}, s.sign, enc, s.indexSeal)
	if err != nil {
		return object{}, fmt.Errorf("encode index object: %w", err)
	}
	key := storage.IndexKey(s.log.Writer, s.log.Instance, seq, sha256.Sum256(data))
	return object{key, data}, s.idx.MarkLoaded(key)
}

// putAll stores one small object in every region of the session.
func (s *Session) putAll(ctx context.Context, o object) {
	s.each(ctx, func(ctx context.Context, c *claim) error { return s.putObject(ctx, c, o) })
}

func (s *Session) putObject(ctx context.Context, c *claim, o object) error {
	if err := put(ctx, c.Store, o.key, o.data); err != nil {
		return err // it names the key
	}
	s.r.opt.Events.stored(c.Name, int64(len(o.data)))
	return nil
}

func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// broken gives the error that ended the session, if any.
func (s *Session) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// FrameWriter packs frames of one kind. It belongs to one goroutine.
type FrameWriter struct {
	s    *Session
	kind pack.Kind
	b    *pack.Builder
	sent int // bytes of packs handed to the uploader
}

// Writer makes a FrameWriter of the session.
func (s *Session) Writer(kind pack.Kind) *FrameWriter { return &FrameWriter{s: s, kind: kind} }

// Add seals one frame: plain is the concatenation of the chunks.
func (w *FrameWriter) Add(ctx context.Context, plain []byte, chunks []pack.Chunk, hint pack.Hint) error {
	if err := w.s.broken(); err != nil {
		return err
	}
	if w.b != nil && w.b.Len() > 0 && !w.b.Fits(len(plain), len(chunks)) {
		if err := w.Flush(ctx); err != nil {
			return err
		}
	}
	if err := w.ready(ctx); err != nil {
		return err
	}
	return w.b.Add(plain, chunks, hint)
}

// ready makes sure that there is a builder with a buffer.
func (w *FrameWriter) ready(ctx context.Context) error {
	if w.b != nil && w.b.Ready() {
		return nil
	}
	buf, err := w.s.up.buffer(ctx)
	if err != nil {
		return err
	}
	if w.b != nil {
		w.b.Reset(buf)
		return nil
	}
	content := w.s.dataSeal
	opt := pack.Options{Verify: w.s.opt.Verify, Epoch: w.s.dataEpoch}
	if w.kind == pack.Meta {
		content, opt.Epoch = w.s.metaSeal, 0
	}
	w.b, err = pack.NewBuilder(w.kind, opt, content, w.s.indexSeal, buf)
	return err
}

// Flush finishes the pack at hand and hands it to the uploader.
func (w *FrameWriter) Flush(ctx context.Context) error {
	if w.b == nil || !w.b.Ready() || w.b.Len() == 0 {
		return nil
	}
	sealed, err := w.b.Finish()
	if err != nil {
		return err
	}
	w.sent += len(sealed.Bytes)
	w.s.up.send(sealed)
	return nil
}

// Absorb takes over the frames that another writer of the same kind has not
// sent yet, as they are sealed, so that a small run makes one pack.
func (w *FrameWriter) Absorb(ctx context.Context, o *FrameWriter) error {
	if o.b == nil || !o.b.Ready() {
		return nil
	}
	if o.b.Len() > 0 {
		if err := w.ready(ctx); err != nil {
			return err
		}
		if err := w.b.Absorb(o.b); errors.Is(err, pack.ErrFull) {
			return o.Flush(ctx)
		} else if err != nil {
			return err
		}
	}
	w.s.up.give(o.b.Release())
	return nil
}

// Written counts the bytes this writer has sealed, for statistics.
func (w *FrameWriter) Written() int {
	if w.b == nil || !w.b.Ready() {
		return w.sent
	}
	return w.sent + w.b.Written()
}
