package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

// Limits of a session.
const (
	slotsMax       = 8       // sessions one host may have open at once
	packsListMax   = 4 << 20 // packs one writer may list in a region
	gcListMax      = 100_000
	statPacksMax   = 32 // new packs looked at one by one before the acknowledgement; more are listed
	buffersDefault = 5  // pack buffers in flight
)

// ClosureDepth is from how many intents a pack set is built before it is
// computed anew and written whole.
const ClosureDepth = 16

// SessionOptions says how a session behaves.
type SessionOptions struct {
	Required int // regions that must acknowledge; fewer is ErrTooFewRegions in the result, not a failure
	Verify   pack.Verify
	Now      func() time.Time
	// Workloads are those that the session will store; empty means any. A region
	// that lacks the newest snapshot of one of them is behind and left out.
	Workloads []string
	// Buffers is the number of pack buffers (pack.PackTarget each) in use at once; 0 means 5.
	Buffers int
	// SlowRegion is how long a run waits for one region when all others are done
	// with what they have; then the region is left out. Joining, the steps of a commit
	// and the end count together; while packs are sent, a wait ends when one arrives. 0 means 60 s.
	SlowRegion time.Duration
	// Fresh stores everything again: nothing that the regions hold is re-used. It is
	// how a repository whose packs are damaged everywhere is mended from the source.
	Fresh bool
	// Once says that the session commits once and then ends: its end is put while the
	// acknowledgement is read back.
	Once bool
	// Only names the one region to work in: a replicator's session in its
	// destination, which is expected to be behind.
	Only string
	// Reports says that the session puts reports only and stores no snapshot: then
	// regions that are behind take part too.
	Reports bool
}

// Session writes snapshots. It follows the commit protocol: join each region,
// store packs, index, intent, look again, acknowledge. A region that fails at
// any step is left out; it never fails the others. One goroutine drives a
// session; its FrameWriters belong to one goroutine each.
type Session struct {
	r      *Repo
	opt    SessionOptions
	id     string
	log    journal.Log
	chain  chainFile
	lock   *os.File
	dir    string
	sign   seal.SigningKey
	claims []*claim
	idx    *index.Index

	dataSeal, metaSeal, indexSeal *seal.Sealer
	dataEpoch                     uint32

	mayReuse map[index.Writer]bool // this writer and its predecessors
	reuse    map[pack.Hash]bool    // packs that every claimed region was seen to hold
	listed   bool                  // reuse holds what the regions list, too
	listing  chan struct{}         // held by whoever makes it so

	mu      sync.Mutex
	claimed map[pack.ChunkID]bool // chunks in packs that are not in the index yet
	newKeys []string              // packs stored by this session
	records []index.PackRecord    // not yet in an index object
	objects uint64                // index and manifest objects put so far
	since   int                   // packs since the last index object
	err     error                 // the session is broken
	up      *uploader

	last    *journal.Signed // the end of a session that commits once
	lastPut map[*claim]bool // where it was put
}

// claim is one region that the session works in.
type claim struct {
	*Place
	err  error         // why it was left out
	kept time.Duration // how long it kept the others waiting since the last commit
}

// Begin opens a session in every usable region that lets itself be joined.
func (r *Repo) Begin(ctx context.Context, opt SessionOptions) (*Session, error) {
	if r.opt.State == nil {
		return nil, fmt.Errorf("begin session: %w", ErrNotWriter)
	}
	if err := r.trust.MayWrite(); err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	if r.forked != nil {
		return nil, fmt.Errorf("begin session: %w", r.forked)
	}
	w, ok := r.trust.Enrolled(r.opt.State.Writer())
	if !ok || w.Disabled {
		return nil, fmt.Errorf("begin session: %w: writer %.8s is not enrolled or was disabled", ErrNotWriter, r.opt.State.Writer())
	}
	s := &Session{r: r, opt: opt, id: newNonce(), claimed: map[pack.ChunkID]bool{}, reuse: map[pack.Hash]bool{}, listing: make(chan struct{}, 1), mayReuse: map[index.Writer]bool{}, lastPut: map[*claim]bool{}}
	for _, e := range r.trust.Writers {
		if r.trust.MayReuse(w.ID, e.ID) {
			s.mayReuse[hex16(e.ID)] = true
		}
	}
	if err := s.prepare(w); err != nil {
		return nil, err
	}
	if err := s.join(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	s.up = newUploader(s)
	return s, nil
}

// prepare makes keys and takes a slot of the writer's chain. It touches no region.
func (s *Session) prepare(w journal.Enrolled) error {
	var err error
	if s.sign, err = s.r.opt.State.signKey(); err != nil {
		return err
	}
	if err := s.sealers(w); err != nil {
		return err
	}
	return s.takeSlot()
}

func (s *Session) sealers(w journal.Enrolled) error {
	t := s.r.trust
	key, err := t.DataKey()
	if err != nil {
		return err
	}
	s.dataEpoch = key.Epoch
	for _, job := range []struct {
		to   **seal.Sealer
		keys []string
	}{
		{&s.dataSeal, []string{key.Recipient}},
		{&s.metaSeal, append([]string{w.Meta}, t.Maintainers...)},
		{&s.indexSeal, []string{t.Domain.Index}},
	} {
		var to []seal.Recipient
		for _, k := range job.keys {
			rcpt, err := seal.ParseRecipient(k)
			if err != nil {
				return fmt.Errorf("read the trust statement's keys: %w", err)
			}
			to = append(to, rcpt)
		}
		if *job.to, err = seal.NewSealer(to...); err != nil {
			return fmt.Errorf("prepare sealing: %w", err)
		}
	}
	return nil
}

// takeSlot locks one of the host's chains. A chain whose last session did not
// end begins a new instance: nobody knows which of its statements landed, and a
// chain must not have gaps.
func (s *Session) takeSlot() error {
	for slot := range slotsMax {
		dir := s.r.opt.State.chainDir(slot)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("open journal: %w", err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("open journal: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		s.lock, s.dir = f, dir
		if s.chain, err = loadChain(dir); err != nil {
			return errors.Join(err, s.release())
		}
		s.resumeChain()
		return nil
	}
	return fmt.Errorf("begin session: %w: %d sessions of this host are open", ErrInUse, slotsMax)
}

func (s *Session) resumeChain() {
	writer := s.r.opt.State.Writer()
	if s.chain.Session != "" || !s.chain.valid(writer) || s.outrun(writer) {
		s.chain = chainFile{Instance: newNonce(), CheckpointAt: s.opt.Now().UnixNano()}
	}
	s.log = journal.Log{Writer: writer, Instance: s.chain.Instance, Head: s.chain.Head}
}

// outrun reports whether the regions hold other or later statements of the chain
// than this host knows of: its disk went back in time, or it has a twin. To go on
// would use numbers again, and a checkpoint that covers them would hide what is said.
func (s *Session) outrun(writer string) bool {
	known := s.r.View().Head(writer, s.chain.Instance)
	return known.Seq > s.chain.Head.Seq || known.Seq > 0 && known.Seq == s.chain.Head.Seq && known.Hash != s.chain.Head.Hash
}

func (s *Session) release() error {
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close() // closing gives the lock back
	s.lock = nil
	return err
}

// join does steps 2 and 3 of the protocol in every usable region: marker, open,
// read back, look at gc/, and find out which packs may be re-used. The index,
// which no rule leans on, is read meanwhile.
func (s *Session) join(ctx context.Context) error {
	var names []string
	for _, p := range s.r.regions {
		if !p.Usable() || s.opt.Only != "" && p.Name != s.opt.Only {
			continue
		}
		s.claims = append(s.claims, &claim{Place: p})
		names = append(names, p.Nonce)
	}
	if err := s.markOpen(); err != nil {
		return err
	}
	open, err := s.sign1(journal.Statement{Type: journal.Open, Session: s.id, At: s.opt.Now(), Regions: names})
	if err != nil {
		return err
	}
	looksUp := s.opt.Only == "" && !s.opt.Reports // neither a replicator nor a reporter cuts or looks up chunks
	var wg sync.WaitGroup
	if looksUp {
		wg.Go(func() { s.idx, err = s.r.Index(ctx) })
	}
	s.step(ctx, func(ctx context.Context, c *claim) error { return s.joinRegion(ctx, c, open) })
	wg.Wait()
	if len(s.active()) == 0 {
		return fmt.Errorf("begin session: no region can be joined: %w", s.lost())
	}
	if err != nil || !looksUp {
		return err
	}
	return s.findReusable(ctx)
}

// markOpen records durably that a session is open, before any region hears of it.
func (s *Session) markOpen() error {
	s.chain.Session = s.id
	return saveChain(s.dir, s.chain)
}

// joinRegion is step 2 of the protocol, whose order is: put open, read it back, then
// list gc/. The marker is looked at beside the put: an open in a region that is in
// another incarnation by now claims nothing there.
func (s *Session) joinRegion(ctx context.Context, c *claim, open *journal.Signed) error {
	first := []func(context.Context) error{
		func(ctx context.Context) error { return s.seeMarker(ctx, c) },
		func(ctx context.Context) error { return s.place(ctx, c, open) },
	}
	if open.Seq == 1 {
		first = append(first, s.sentinels(c)...)
	}
	if err := atOnce(ctx, first...); err != nil {
		return err
	}
	if _, err := s.readBack(ctx, c, open); err != nil {
		return err
	}
	return s.checkGC(ctx, c)
}

// sentinels mark the ends of the prefixes that a new instance writes under,
// so that a listing that was cut short shows.
func (s *Session) sentinels(c *claim) []func(context.Context) error {
	prefixes := []string{storage.PacksPrefix + s.log.Writer + "/"}
	for _, kind := range []string{storage.IndexPrefix, storage.ManifestPrefix, storage.JournalPrefix} {
		prefixes = append(prefixes, storage.InstancePrefix(kind, s.log.Writer, s.log.Instance))
	}
	var puts []func(context.Context) error
	for _, p := range prefixes {
		puts = append(puts, func(ctx context.Context) error { return c.PutSentinel(ctx, storage.SentinelKey(p)) })
	}
	return puts
}

// checkGC refuses a region in which packs are being collected: this lifeboat
// cannot follow a collection, and re-using a condemned pack would lose data.
func (s *Session) checkGC(ctx context.Context, c *claim) error {
	infos, err := storage.ListAll(ctx, c.Store, storage.ListOptions{Prefix: "gc/"}, gcListMax)
	if err != nil {
		return fmt.Errorf("list gc/: %w", err)
	}
	if err := storage.CheckListing("gc/", infos); err != nil {
		return err
	}
	if len(infos) > 1 {
		return fmt.Errorf("gc/ holds %s: written by a newer lifeboat, which must be used here", infos[0].Key)
	}
	return nil
}

// seeMarker proves that the region is still in the incarnation that the trust
// statement names.
func (s *Session) seeMarker(ctx context.Context, c *claim) error {
	if _, err := c.Store.Stat(ctx, storage.RegionKey(c.Nonce)); err != nil {
		return fmt.Errorf("look at the region's marker: %w", err)
	}
	return nil
}

// sign1 makes the next statement of the chain and remembers it as the head.
func (s *Session) sign1(st journal.Statement) (*journal.Signed, error) {
	signed, err := journal.Sign(s.log.Next(st), s.r.id, s.sign)
	if err != nil {
		return nil, err
	}
	s.log.Follow(signed)
	s.chain.Head = s.log.Head
	return signed, nil
}

// say puts a statement into a region and reads it back.
func (s *Session) say(ctx context.Context, c *claim, st *journal.Signed) error {
	if err := s.place(ctx, c, st); err != nil {
		return err
	}
	_, err := s.readBack(ctx, c, st)
	return err
}

// place puts a statement into a region. Nothing may count on it before readBack.
func (s *Session) place(ctx context.Context, c *claim, st *journal.Signed) error {
	key, err := st.Key()
	if err != nil {
		return err
	}
	if err := c.Store.Put(ctx, key, st.Bytes, st.Hash); err != nil {
		return fmt.Errorf("put %s statement: %w", st.Type, err)
	}
	return nil
}

// readBack reads a statement that was put, byte for byte, and keeps it, so that
// the next run of this host need not fetch it.
func (s *Session) readBack(ctx context.Context, c *claim, st *journal.Signed) (storage.Info, error) {
	key, err := st.Key()
	if err != nil {
		return storage.Info{}, err
	}
	back, info, err := storage.ReadVerified(ctx, c.Store, key, journal.StatementMax)
	if err != nil {
		return info, fmt.Errorf("read back %s statement: %w", st.Type, err)
	}
	if !slices.Equal(back, st.Bytes) {
		return info, fmt.Errorf("read back %s statement: %w", st.Type, storage.ErrCorrupt)
	}
	s.r.cache.put(st.Hash, back)
	return info, nil
}

// each runs f for all regions still in the session, at once, and leaves out
// those for which it fails, or that all others have waited for too long.
func (s *Session) each(ctx context.Context, f func(context.Context, *claim) error) {
	active := s.active()
	grace := make([]time.Duration, len(active))
	for i := range grace {
		grace[i] = s.patience()
	}
	s.leaveOut(active, together(ctx, grace, func(ctx context.Context, i int) error { return f(ctx, active[i]) }))
}

// step is each for the steps that follow one another while nothing else goes on:
// what a region keeps the others waiting in them counts together.
func (s *Session) step(ctx context.Context, f func(context.Context, *claim) error) {
	active := s.active()
	grace := make([]time.Duration, len(active))
	for i, c := range active {
		grace[i] = s.patience() - c.kept
	}
	errs := together(ctx, grace, func(ctx context.Context, i int) error { return f(ctx, active[i]) })
	for i, c := range active {
		c.kept = s.patience() - grace[i]
	}
	s.leaveOut(active, errs)
}

// patience is how long one region may keep the others waiting.
func (s *Session) patience() time.Duration {
	if s.opt.SlowRegion > 0 {
		return s.opt.SlowRegion
	}
	return slowRegionDefault
}

func (s *Session) leaveOut(claims []*claim, errs []error) {
	for i, err := range errs {
		if err != nil {
			s.drop(claims[i], err)
		}
	}
}

// drop leaves a region out of the session.
func (s *Session) drop(c *claim, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("region %s: %w", c.Name, err)
		s.r.opt.Events.region(c.Name, c.err)
	}
}

func (s *Session) active() []*claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*claim
	for _, c := range s.claims {
		if c.err == nil {
			out = append(out, c)
		}
	}
	return out
}

// lost joins why regions were left out, those that never answered included.
func (s *Session) lost() error {
	var all []error
	for _, p := range s.r.regions {
		if p.Err != nil {
			all = append(all, p.Err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.claims {
		if c.err != nil {
			all = append(all, c.err)
		}
	}
	return errors.Join(all...)
}

// Hasher makes a hasher of chunk ids of one kind.
func (r *Repo) Hasher(kind pack.Kind) (*pack.Hasher, error) {
	if r.keys.Domain == nil {
		return nil, fmt.Errorf("chunk ids: %w", ErrNoKey)
	}
	return pack.NewHasher(r.keys.Domain.ChunkKey(uint8(kind))), nil
}

// ClosureOf gives the pack keys that a snapshot reaches, and the intent that
// says so: one of this writer or a predecessor, since what another one leaves out
// would be missing from what is built on it. base tells whether every claimed
// region holds that intent, so that a difference may be built on it. ErrNoSnapshot
// if a claimed region does not show the snapshot, or nobody who is believed says
// what it reaches.
func (s *Session) ClosureOf(ctx context.Context, snapshot string) (keys []string, intent journal.Ref, base bool, err error) {
	view := s.r.View()
	sh := view.Snapshots()[snapshot]
	if sh == nil {
		return nil, intent, false, fmt.Errorf("snapshot %.8s: %w", snapshot, ErrNoSnapshot)
	}
	told, err := s.believed(sh)
	if err != nil {
		return nil, intent, false, err
	}
	found := false
	for _, ref := range told {
		packs, cerr := s.r.Closure(ctx, ref)
		if ctx.Err() != nil {
			return nil, intent, false, ctx.Err()
		}
		if cerr != nil {
			err = cerr
			continue
		}
		if !found || len(packs) < len(keys) {
			found, keys, intent = true, packs, ref
		}
	}
	if !found {
		return nil, intent, false, err
	}
	base = true
	for _, c := range s.active() {
		base = base && sh.Intents[c.Nonce] == intent
	}
	return keys, intent, base, nil
}

// believed lists, each once, the intents that may say what a snapshot reaches: those by
// which the claimed regions show it, or else one of our own. There is at least one.
func (s *Session) believed(sh *journal.Shown) (told []journal.Ref, err error) {
	for _, c := range s.active() {
		ref, ok := sh.Intents[c.Nonce]
		if !ok {
			return nil, fmt.Errorf("snapshot %.8s: region %s: %w", sh.ID, c.Name, ErrNoSnapshot)
		}
		if s.mayReuse[hex16(ref.Writer)] && !slices.Contains(told, ref) {
			told = append(told, ref)
		}
	}
	for _, w := range s.r.trust.Writers {
		if own, ok := s.r.View().Authored(w.ID, sh.ID); len(told) == 0 && ok && s.mayReuse[hex16(w.ID)] {
			told = append(told, own)
		}
	}
	if len(told) == 0 {
		return nil, fmt.Errorf("snapshot %.8s: only other writers say what it reaches: %w", sh.ID, ErrNoSnapshot)
	}
	return told, nil
}

// Depth counts the intents that a pack set built on ref would be resolved from.
func (s *Session) Depth(ctx context.Context, ref journal.Ref) (int, error) {
	n := 0
	for next := &ref; next != nil; n++ {
		st, err := s.r.intent(ctx, *next)
		if err != nil {
			return n, err
		}
		if next = nil; st.Packs != nil {
			next = st.Packs.Base
		}
	}
	return n, nil
}

func (s *Session) nextObject() uint64 {
	s.objects++
	return s.log.Head.Seq<<16 + s.objects
}

func encodeID(h [32]byte) string { return hex.EncodeToString(h[:]) }

// WriterID is the id of the writer whose session this is.
func (s *Session) WriterID() string { return s.log.Writer }
