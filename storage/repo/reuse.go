package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
)

// findReusable collects the packs that may be re-used without a look: those in
// the closure of the newest snapshot of a workload, when each claimed region
// shows that snapshot itself. A region that does not is behind: it is left out,
// to be caught up by a replicator.
func (s *Session) findReusable(ctx context.Context) error {
	if s.opt.Fresh {
		s.listed = true // nothing that is stored is re-used, so nothing is listed for it
		return nil
	}
	newest, err := s.newestSnapshots(ctx)
	if err != nil {
		return err
	}
	for _, c := range s.active() {
		for _, sn := range newest {
			if !sn.Shows(c.Nonce) && !s.acknowledgeAgain(ctx, c, sn) {
				s.drop(c, fmt.Errorf("it is behind: it does not show snapshot %.8s of %s; run: lifeboat replicate sync", sn.Summary.ID, sn.Workload))
				break
			}
		}
	}
	if len(s.active()) == 0 {
		return fmt.Errorf("begin session: every region is behind another one: %w", s.lost())
	}
	for _, sn := range newest {
		keys, err := s.reusable(ctx, &sn)
		if isAway(err) {
			return err
		}
		if err != nil { // its packs are listed when they are met
			s.r.opt.Events.warn("closure_unreadable", "snapshot %.8s: %v", sn.Summary.ID, err)
			continue
		}
		for _, k := range keys {
			if hash, ok := storage.HashOf(k); ok {
				s.reuse[hash] = true
			}
		}
	}
	return nil
}

// reusable gives the packs that every claimed region shows to need for a snapshot. Each
// is asked by the intent by which it shows the snapshot itself: that of a replicator may
// name more, which only the region it was brought to must hold. Where that is somebody
// else's, who could name what is not there, an intent of this writer has to tell.
func (s *Session) reusable(ctx context.Context, sn *Snapshot) ([]string, error) {
	believed := func(ref journal.Ref, _ []string) error {
		if !s.mayReuse[hex16(ref.Writer)] {
			return fmt.Errorf("intent %.8s: %w: only another writer says what the snapshot reaches", ref.Hash, journal.ErrUntrusted)
		}
		return nil
	}
	tell := func(ref journal.Ref) ([]string, error) {
		if believed(ref, nil) == nil {
			if keys, err := s.r.Closure(ctx, ref); err == nil || ctx.Err() != nil {
				return keys, err
			}
		}
		return s.r.Packs(ctx, sn, believed)
	}
	asked, count := map[string]bool{}, map[string]int{}
	for _, c := range s.active() {
		ref := sn.Intents[c.Nonce]
		if asked[ref.Hash] {
			continue
		}
		asked[ref.Hash] = true
		keys, err := tell(ref)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			count[k]++
		}
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n < len(asked) })
	return slices.Collect(maps.Keys(count)), nil
}

// newestSnapshots finds, for each workload of the session, the newest snapshot
// that any usable region shows and whose chunks this writer may re-use.
func (s *Session) newestSnapshots(ctx context.Context) ([]Snapshot, error) {
	all, err := s.r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []Snapshot
	for _, sn := range slices.Backward(all) {
		wanted := len(s.opt.Workloads) == 0 || slices.Contains(s.opt.Workloads, sn.Workload)
		if !wanted || seen[sn.Workload] || !s.r.trust.MayReuse(s.log.Writer, sn.Writer) {
			continue
		}
		seen[sn.Workload] = true
		out = append(out, sn)
	}
	return out, nil
}

// listReusable adds what all claimed regions list: packs of sessions that died
// before they could acknowledge. It is done once, and only when such a pack is met.
func (s *Session) listReusable(ctx context.Context) error {
	s.listing <- struct{}{} // others who meet such a pack wait, or they would store its chunks again
	defer func() { <-s.listing }()
	if s.hasListed() {
		return nil
	}
	count := map[pack.Hash]int{}
	active := s.active()
	for _, c := range active {
		for _, w := range s.r.trust.Writers {
			if !s.r.trust.MayReuse(s.log.Writer, w.ID) {
				continue
			}
			infos, err := storage.ListAll(ctx, c.Store, storage.ListOptions{Prefix: "packs/" + w.ID + "/"}, packsListMax)
			if err != nil {
				s.drop(c, fmt.Errorf("list packs: %w", err))
				break
			}
			for _, info := range infos {
				if hash, ok := packHash(info.Key); ok && s.sizeFits(hash, w.ID, info.Size) {
					count[hash]++
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = true
	for hash, n := range count {
		if n == len(active) {
			s.reuse[hash] = true
		}
	}
	return nil
}

// sizeFits holds a listed pack against the index: one that was cut short is as
// good as missing, and one that no index names is never met.
func (s *Session) sizeFits(hash pack.Hash, writer string, size int64) bool {
	info, known, err := s.idx.HasPack(hash, hex16(writer))
	return err == nil && known && int64(info.Size) == size
}

func (s *Session) hasListed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// Known reports whether a chunk is stored and may be re-used, and in which pack.
// A chunk for which it answers false belongs to the caller from then on: the
// next question gets true, so the caller must store it, or give it back with
// Disclaim. An empty pack means one of this session.
func (s *Session) Known(ctx context.Context, id pack.ChunkID) (known bool, in pack.Hash, key string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, in, key, err = s.lookUpLocked(ctx, id)
	if err == nil && !known {
		s.claimed[id] = true
	}
	return known, in, key, err
}

// Stored is Known without the claim: it only asks.
func (s *Session) Stored(ctx context.Context, id pack.ChunkID) (stored bool, key string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, _, key, err = s.lookUpLocked(ctx, id)
	return stored, key, err
}

// Disclaim gives back chunks that Known left to the caller and that were not
// stored after all. Whatever already counts on them must be given up as well.
func (s *Session) Disclaim(ids ...pack.ChunkID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.claimed, id)
	}
}

// lookUpLocked answers for Known and Stored. s.mu is held, except while packs are listed.
func (s *Session) lookUpLocked(ctx context.Context, id pack.ChunkID) (known bool, in pack.Hash, key string, err error) {
	if s.err != nil {
		return false, in, "", s.err
	}
	if s.claimed[id] {
		return true, in, "", nil
	}
	loc, ok, strange, err := s.find(id)
	if err == nil && !ok && strange && !s.listed {
		s.mu.Unlock()
		err = s.listReusable(ctx)
		s.mu.Lock()
		if s.claimed[id] {
			return true, in, "", nil // by somebody else meanwhile
		}
		if err == nil {
			loc, ok, _, err = s.find(id)
		}
	}
	if err != nil {
		return false, in, "", fmt.Errorf("look up chunk %.8s: %w", id, err)
	}
	if !ok {
		return false, in, "", nil
	}
	return true, loc.Pack, packKey(loc), nil
}

// find looks for a copy of a chunk in a pack that may be re-used, and of which
// everything that was asked for in this run could be read. strange: there
// is one in a pack of which nobody has told yet whether it may. s.mu is held.
func (s *Session) find(id pack.ChunkID) (loc index.Location, ok, strange bool, err error) {
	loc, ok, err = s.idx.Find(id, func(l index.Location) bool {
		if _, doubted := s.r.doubts.Load(l.Pack); doubted || !s.mayReuse[l.Writer] {
			return false
		}
		strange = strange || !s.reuse[l.Pack]
		return s.reuse[l.Pack]
	})
	return loc, ok, strange, err
}
