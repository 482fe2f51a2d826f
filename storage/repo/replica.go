package repo

import (
	"context"
	"fmt"
	"slices"

	"lifeboat/storage"
	"lifeboat/storage/journal"
)

// Copies are snapshots that a replicator has brought into its destination, and
// the packs they reach.
type Copies struct {
	Snapshots []string // ids
	Packs     []string // keys
}

// PublishCopies makes snapshots visible in the one region of a replicator's
// session: an intent and an acknowledgement of its own, after a look at every
// pack. Manifests that ride in another writer's intent ride in this one again.
func (s *Session) PublishCopies(ctx context.Context, c Copies) (*Committed, error) {
	st := journal.Statement{Type: journal.Intent, Session: s.id, At: s.opt.Now(), Packs: &journal.PackSet{Add: slices.Sorted(slices.Values(c.Packs))}}
	body := sealedBody{}
	shown := s.r.View().Snapshots()
	for _, id := range c.Snapshots {
		sn, err := s.r.anySnapshot(ctx, id, shown[id])
		if err != nil {
			return nil, err
		}
		st.Snapshots = append(st.Snapshots, sn)
		if sum, err := s.r.summary(ctx, id, shown[id]); err == nil {
			body.Snapshots = append(body.Snapshots, sum)
		}
	}
	for _, cl := range s.active() {
		st.Regions = append(st.Regions, cl.Nonce)
	}
	if len(body.Snapshots) > 0 {
		var err error
		if st.Body, st.BodyHash, err = sealBody(body, s.metaSeal); err != nil {
			return nil, err
		}
	}
	s.listed = true // so that the second look goes through the whole closure
	intent, err := s.sign1(st)
	if err != nil {
		return nil, err
	}
	return s.publish(ctx, intent, c.Snapshots, nil)
}

// anySnapshot finds how a snapshot's manifest is stored.
func (r *Repo) anySnapshot(ctx context.Context, id string, shown *journal.Shown) (journal.Snapshot, error) {
	if shown == nil {
		return journal.Snapshot{}, fmt.Errorf("snapshot %.8s: %w", id, ErrNoSnapshot)
	}
	var last error
	for _, p := range r.readOrder() {
		ref, ok := shown.Intents[p.Nonce]
		if !ok {
			continue
		}
		sn, err := r.snapshotIn(ctx, p, ref, id)
		if err == nil {
			return sn, nil
		}
		last = err
	}
	return journal.Snapshot{}, fmt.Errorf("snapshot %.8s: %w", id, last)
}

// MayMirror applies rule 8: a statement may be copied into a region unless it is
// an open, an intent or a checkpoint that names the region's current incarnation:
// those only the session itself puts there.
func (r *Repo) MayMirror(doc []byte, nonce string) (bool, error) {
	s, err := journal.Parse(doc, r.id, r.trust)
	if err != nil {
		return false, err
	}
	switch s.Type {
	case journal.Open, journal.Intent:
		return !s.Names(nonce), nil
	case journal.Checkpoint:
		return false, nil
	}
	return true, nil
}

// PutObject copies one hash-named object into a region of the session.
func (s *Session) PutObject(ctx context.Context, key string, data []byte) error {
	for _, c := range s.active() {
		if err := c.PutObject(ctx, key, data); err != nil {
			return err
		}
		s.r.opt.Events.stored(c.Name, int64(len(data)))
	}
	return nil
}

// PutSentinel marks the end of a prefix in the regions of the session.
func (s *Session) PutSentinel(ctx context.Context, key string) error {
	for _, c := range s.active() {
		if err := c.PutSentinel(ctx, key); err != nil {
			return fmt.Errorf("region %s: %w", c.Name, err)
		}
	}
	return nil
}

// PutObject copies one hash-named object into the region.
func (p *Place) PutObject(ctx context.Context, key string, data []byte) error {
	hash, ok := storage.HashOf(key)
	if !ok {
		return fmt.Errorf("copy %s: its name carries no hash", key)
	}
	if err := p.Store.Put(ctx, key, data, hash); err != nil {
		return fmt.Errorf("copy %s to %s: %w", key, p.Name, err)
	}
	return nil
}

// PutSentinel marks the end of a prefix in the region.
func (p *Place) PutSentinel(ctx context.Context, key string) error {
	return put(ctx, p.Store, key, []byte(storage.Sentinel))
}
