package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
)

// Prepared is a snapshot whose packs are stored or on their way.
type Prepared struct {
	Manifest *Manifest
	// Packs are the keys of packs that the snapshot re-uses. Those that this
	// session stored are added by Commit.
	Packs map[string]bool
}

// Committed is the result of a commit.
type Committed struct {
	IDs     []string // of the snapshots, in the order given
	Regions []RegionResult
	Acked   int // regions that show the snapshots
}

// RegionResult says what became of a commit in one region.
type RegionResult struct {
	Name  string    `json:"name"`
	State string    `json:"state"` // committed, failed or left_out
	Seen  time.Time `json:"committed_at,omitzero"`
	Err   error     `json:"-"`
	Error string    `json:"error,omitempty"`
}

// Commit makes snapshots visible: index, intent, a second look, acknowledgement.
// FrameWriters must be flushed. ErrTooFewRegions, beside a result that is true,
// when fewer regions than required acknowledged.
func (s *Session) Commit(ctx context.Context, snaps []Prepared) (*Committed, error) {
	if err := errors.Join(s.up.drain(ctx), s.stillOpen(), s.broken(), s.keptPromises()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	objects, err := s.sealIndexLocked()
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	intent, ids, manifests, err := s.intent(ctx, snaps)
	if err != nil {
		return nil, err
	}
	return s.publish(ctx, intent, ids, append(objects, manifests...))
}

// stillOpen makes sure that the session may still say something.
func (s *Session) stillOpen() error {
	if s.last != nil {
		return errEnded
	}
	return nil
}

var errEnded = errors.New("the session was to commit once, and has ended")

// keptPromises makes sure that every chunk that somebody was to store is stored.
// A snapshot may count on each of them.
func (s *Session) keptPromises() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.claimed); n > 0 {
		return fmt.Errorf("commit: %d chunks were to be stored and are in no pack", n)
	}
	return nil
}

// publish does steps 4 to 6 of the protocol for an intent whose packs are stored:
// place it with the objects that go with it, look again, acknowledge it.
func (s *Session) publish(ctx context.Context, intent *journal.Signed, ids []string, objects []object) (*Committed, error) {
	if len(s.active()) == 0 {
		return nil, fmt.Errorf("commit: no region is left: %w", s.lost())
	}
	seen := s.placeIntent(ctx, intent, objects)
	s.step(ctx, func(ctx context.Context, c *claim) error { return s.lookAgain(ctx, c, intent, objects) })
	acked, err := s.acknowledge(ctx, intent, seen)
	if err != nil {
		return nil, err
	}
	res := &Committed{IDs: ids, Acked: len(acked), Regions: s.results(acked, seen)}
	if res.Acked == 0 {
		return nil, fmt.Errorf("commit: no region took the acknowledgement; the snapshot may or may not be visible: %w", s.lost())
	}
	s.remember(intent, acked, seen)
	if res.Acked < s.opt.Required {
		short := fmt.Errorf("commit: %w: %d of %d", ErrTooFewRegions, res.Acked, s.opt.Required)
		return res, errors.Join(short, s.lost())
	}
	return res, nil
}

// intent builds the statement that names the snapshots and all their packs, and
// the manifests that are too large to ride in it.
func (s *Session) intent(ctx context.Context, snaps []Prepared) (_ *journal.Signed, ids []string, manifests []object, _ error) {
	st := journal.Statement{Type: journal.Intent, Session: s.id, At: s.opt.Now()}
	body := sealedBody{}
	packs := map[string]bool{}
	for _, k := range s.newKeys {
		packs[k] = true
	}
	for _, p := range snaps {
		sealed, err := sealManifest(p.Manifest, s.metaSeal)
		if err != nil {
			return nil, nil, nil, err
		}
		sum := sha256.Sum256(sealed)
		sn := journal.Snapshot{ID: encodeID(sum), Inline: sealed}
		if len(sealed) > InlineMax {
			sn = journal.Snapshot{ID: sn.ID, Key: storage.ManifestKey(s.log.Writer, s.log.Instance, s.nextObject(), sum)}
			manifests = append(manifests, object{sn.Key, sealed})
			s.r.cache.put(sum, sealed) // the next run compares with it
		}
		ids = append(ids, sn.ID)
		st.Snapshots = append(st.Snapshots, sn)
		body.Snapshots = append(body.Snapshots, p.Manifest.summary(sn.ID))
		for k := range p.Packs {
			packs[k] = true
		}
	}
	var err error
	if st.Packs, err = s.packSet(ctx, packs, snaps); err != nil {
		return nil, nil, nil, err
	}
	if st.Body, st.BodyHash, err = sealBody(body, s.metaSeal); err != nil {
		return nil, nil, nil, err
	}
	for _, c := range s.active() {
		st.Regions = append(st.Regions, c.Nonce)
	}
	signed, err := s.sign1(st)
	return signed, ids, manifests, err
}

// packSet writes the closure as a difference from the parent's where that is
// shorter and every region can resolve it.
func (s *Session) packSet(ctx context.Context, packs map[string]bool, snaps []Prepared) (*journal.PackSet, error) {
	whole := &journal.PackSet{Add: sortedKeys(packs)}
	for _, p := range snaps {
		if len(p.Manifest.Parent) == 0 {
			continue
		}
		keys, intent, base, err := s.ClosureOf(ctx, encodeID(pad32(p.Manifest.Parent)))
		if err != nil || !base {
			continue // the whole set is always right
		}
		if depth, err := s.Depth(ctx, intent); err != nil || depth >= ClosureDepth {
			continue
		}
		diff := &journal.PackSet{Base: &intent}
		had := map[string]bool{}
		for _, k := range keys {
			had[k] = true
			if !packs[k] {
				diff.Drop = append(diff.Drop, k)
			}
		}
		for _, k := range whole.Add {
			if !had[k] {
				diff.Add = append(diff.Add, k)
			}
		}
		if len(diff.Add)+len(diff.Drop) < len(whole.Add) {
			return diff, nil
		}
	}
	return whole, nil
}

func sortedKeys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// placeIntent puts the intent into every region and reads it back, and notes the
// region's own time. Beside the intent it puts index objects and manifests: rule 4
// asks for the packs before an intent, and they are there. What is put beside it is
// looked at again with the packs; without all of it there is no acknowledgement, and
// an intent alone shows nothing.
func (s *Session) placeIntent(ctx context.Context, intent *journal.Signed, objects []object) map[string]time.Time {
	seen := map[string]time.Time{}
	s.step(ctx, func(ctx context.Context, c *claim) error {
		puts := []func(context.Context) error{func(ctx context.Context) error { return s.place(ctx, c, intent) }}
		for _, o := range objects {
			puts = append(puts, func(ctx context.Context) error { return s.putObject(ctx, c, o) })
		}
		if err := atOnce(ctx, puts...); err != nil {
			return err
		}
		info, err := s.readBack(ctx, c, intent)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		seen[c.Nonce] = info.ModTime.UTC()
		return nil
	})
	return seen
}

// lookAgain is step 5: the region must still be what it was when it was joined,
// and hold every pack that this session stored, and what was put beside the intent.
// Packs re-used on the word of earlier snapshots are covered by the region still
// showing the base. Rule 5 has all of it happen after the intent was read back: then
// whoever collects garbage finds the intent, or has left in gc/ what is found here,
// and a region that went back in time lacks what is looked at. Among each other
// the looks have no order.
func (s *Session) lookAgain(ctx context.Context, c *claim, intent *journal.Signed, beside []object) error {
	looks := []func(context.Context) error{
		func(ctx context.Context) error { return s.seeMarker(ctx, c) },
		func(ctx context.Context) error { return s.checkGC(ctx, c) },
	}
	if intent.Packs != nil && intent.Packs.Base != nil {
		looks = append(looks, func(ctx context.Context) error { return s.seeIntent(ctx, c, *intent.Packs.Base) })
	}
	var keys []string
	if len(s.newKeys) > statPacksMax || s.hasListed() || s.reusesBeyondBase(intent) {
		looks = append(looks, func(ctx context.Context) error { return s.lookInListing(ctx, c, intent) })
	} else {
		keys = append(keys, s.newKeys...)
	}
	for _, o := range beside {
		keys = append(keys, o.key)
	}
	for _, sn := range intent.Snapshots {
		if sn.Key != "" { // otherwise it rides in the intent
			keys = append(keys, sn.Key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		looks = append(looks, seeAgain(c, key))
	}
	return atOnce(ctx, looks...)
}

func seeAgain(c *claim, key string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := c.Store.Stat(ctx, key); err != nil {
			return fmt.Errorf("look again at %s: %w", key, err)
		}
		return nil
	}
}

func (s *Session) seeIntent(ctx context.Context, c *claim, ref journal.Ref) error {
	hash, err := hex.DecodeString(ref.Hash)
	if err != nil {
		return fmt.Errorf("look again at intent %.8s: %w", ref.Hash, storage.ErrCorrupt)
	}
	if _, err := c.Store.Stat(ctx, storage.JournalKey(ref.Writer, ref.Instance, ref.Seq, pad32(hash))); err != nil {
		return fmt.Errorf("look again at intent %.8s: %w", ref.Hash, err)
	}
	return nil
}

// reusesBeyondBase reports whether the closure names packs that neither this
// session stored nor the base covers.
func (s *Session) reusesBeyondBase(intent *journal.Signed) bool {
	own := map[string]bool{}
	for _, k := range s.newKeys {
		own[k] = true
	}
	return intent.Packs != nil && slices.ContainsFunc(intent.Packs.Add, func(k string) bool { return !own[k] })
}

// lookInListing checks the whole closure against what the region lists.
func (s *Session) lookInListing(ctx context.Context, c *claim, intent *journal.Signed) error {
	want := map[string]bool{}
	for _, k := range s.newKeys {
		want[k] = true
	}
	if intent.Packs != nil {
		for _, k := range intent.Packs.Add {
			want[k] = true
		}
	}
	writers := map[string]bool{} // a replicator's packs are other writers' ones, too
	for k := range want {
		_, parts, err := storage.Parse(k)
		if err != nil {
			return fmt.Errorf("look again at %s: %w", k, err)
		}
		writers[parts.Writer] = true
	}
	for w := range writers {
		for info, err := range c.Store.List(ctx, storage.ListOptions{Prefix: "packs/" + w + "/"}) {
			if err != nil {
				return fmt.Errorf("list packs: %w", err)
			}
			if info.Size > 0 {
				delete(want, info.Key)
			}
		}
	}
	for k := range want {
		return fmt.Errorf("look again at %s and %d others: %w", k, len(want)-1, storage.ErrNotFound)
	}
	return nil
}

// acknowledge puts the one statement that makes the snapshots visible. The end of a
// session that commits once follows it in each region that took it, without
// waiting for the read-back: an end closes the session (rule 6) and says nothing of
// what it acknowledged, and what is acknowledged nowhere stays as it would after
// a crash, whatever ends.
func (s *Session) acknowledge(ctx context.Context, intent *journal.Signed, seen map[string]time.Time) (map[string]bool, error) {
	st := journal.Statement{Type: journal.Ack, Session: s.id, At: s.opt.Now(), Intent: encodeID(intent.Hash), Seen: map[string]time.Time{}}
	for _, c := range s.active() {
		st.Regions = append(st.Regions, c.Nonce)
		st.Seen[c.Nonce] = seen[c.Nonce]
	}
	if len(st.Regions) == 0 {
		return nil, fmt.Errorf("acknowledge: no region is left: %w", s.lost())
	}
	for _, sn := range intent.Snapshots {
		st.Snapshots = append(st.Snapshots, journal.Snapshot{ID: sn.ID})
	}
	ack, err := s.sign1(st)
	if err != nil {
		return nil, err
	}
	if s.opt.Once {
		if s.last, err = s.sign1(journal.Statement{Type: journal.End, Session: s.id, At: s.opt.Now()}); err != nil {
			return nil, err
		}
	}
	acked := map[string]bool{}
	s.step(ctx, func(ctx context.Context, c *claim) error {
		if err := s.place(ctx, c, ack); err != nil {
			return err
		}
		return atOnce(ctx, func(ctx context.Context) error {
			if _, err := s.readBack(ctx, c, ack); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			acked[c.Nonce] = true
			return nil
		}, func(ctx context.Context) error { return s.placeLast(ctx, c) })
	})
	return acked, nil
}

func (s *Session) placeLast(ctx context.Context, c *claim) error {
	if s.last == nil {
		return nil
	}
	if err := s.place(ctx, c, s.last); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastPut[c] = true
	return nil
}

func (s *Session) results(acked map[string]bool, seen map[string]time.Time) []RegionResult {
	var out []RegionResult
	for _, p := range s.r.regions {
		res := RegionResult{Name: p.Name, State: "left_out", Err: p.Err}
		for _, c := range s.claims {
			if c.Place == p {
				res.State, res.Err = "failed", c.err
			}
		}
		if p.Err == nil && p.Nonce != "" && acked[p.Nonce] {
			res = RegionResult{Name: p.Name, State: "committed", Seen: seen[p.Nonce]}
		}
		if res.Err != nil {
			res.Error = res.Err.Error()
		}
		out = append(out, res)
	}
	return out
}

// remember makes the view show what was just committed, so that the next
// snapshot of the session can build on it.
func (s *Session) remember(intent *journal.Signed, acked map[string]bool, seen map[string]time.Time) {
	ack := &journal.Signed{Statement: journal.Statement{Type: journal.Ack, Writer: intent.Writer, Instance: intent.Instance, Session: s.id, Intent: encodeID(intent.Hash), Snapshots: intent.Snapshots, Regions: intent.Regions, Seen: seen}}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for nonce := range acked {
		s.r.view.Add(nonce, intent)
		s.r.view.Add(nonce, ack)
	}
	s.newKeys = nil
	for _, c := range s.claims {
		c.kept = 0
	}
}

// Report puts a statement of another type than the commit's, with a sealed body.
func (s *Session) Report(ctx context.Context, t journal.Type, report []byte) (*journal.Signed, error) {
	st := journal.Statement{Type: t, Session: s.id, At: s.opt.Now()}
	err := s.stillOpen()
	if err != nil {
		return nil, err
	}
	if st.Body, st.BodyHash, err = sealBody(sealedBody{Report: report}, s.metaSeal); err != nil {
		return nil, err
	}
	for _, c := range s.active() {
		st.Regions = append(st.Regions, c.Nonce)
	}
	signed, err := s.sign1(st)
	if err != nil {
		return nil, err
	}
	s.step(ctx, func(ctx context.Context, c *claim) error { return s.say(ctx, c, signed) })
	s.r.mu.Lock()
	for _, c := range s.active() {
		s.r.view.Add(c.Nonce, signed)
	}
	s.r.mu.Unlock()
	if len(s.active()) == 0 {
		return nil, fmt.Errorf("put %s report: no region took it: %w", t, s.lost())
	}
	return signed, nil
}

// End closes the session: with a commit behind it, or aborted. It always frees
// what the session holds; an error means that the regions were not told, which
// costs a later collection some waiting and nothing else.
func (s *Session) End(ctx context.Context, aborted bool) error {
	s.up.close()
	err := s.end(ctx, aborted)
	if s.idx != nil {
		err = errors.Join(err, s.idx.Flush())
	}
	return errors.Join(err, s.release())
}

func (s *Session) end(ctx context.Context, aborted bool) error {
	if s.broken() != nil {
		return nil // the chain's state is unknown: the next session begins a new instance
	}
	st, err := s.last, error(nil)
	if st == nil {
		st, err = s.sign1(journal.Statement{Type: journal.End, Session: s.id, At: s.opt.Now(), Aborted: aborted})
	}
	if err != nil {
		return err
	}
	told := 0
	s.step(ctx, func(ctx context.Context, c *claim) error {
		if err := s.sayEnd(ctx, c, st); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		told++
		return nil
	})
	if told == 0 {
		return fmt.Errorf("end session: no region was told: %w", s.lost())
	}
	s.checkpoint(ctx)
	s.chain.Session = ""
	return saveChain(s.dir, s.chain)
}

// sayEnd is say for a statement that may have been put.
func (s *Session) sayEnd(ctx context.Context, c *claim, st *journal.Signed) error {
	s.mu.Lock()
	put := s.lastPut[c]
	s.mu.Unlock()
	if !put {
		return s.say(ctx, c, st)
	}
	_, err := s.readBack(ctx, c, st)
	return err
}

// Left lists the regions that were left out so far, with the reason.
func (s *Session) Left() error { return s.lost() }

// Regions lists the names of the regions still in the session.
func (s *Session) Regions() []string {
	var out []string
	for _, c := range s.active() {
		out = append(out, c.Name)
	}
	return out
}

func isPack(key string) bool {
	return strings.HasPrefix(key, "packs/") && strings.HasSuffix(key, ".tar")
}

// Hash parses the name of a pack.
func packHash(key string) (pack.Hash, bool) {
	h, ok := storage.HashOf(key)
	return h, ok && isPack(key)
}

// Save records what the session has stored without committing anything, so
// that the next run re-uses it. FrameWriters must be flushed.
func (s *Session) Save(ctx context.Context) error {
	if err := errors.Join(s.up.drain(ctx), s.broken()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putIndexLocked(ctx)
}
