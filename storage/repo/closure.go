package repo

import (
	"context"
	"encoding/hex"
	"fmt"

	"lifeboat/storage"
	"lifeboat/storage/journal"
)

// Closure gives the keys of all packs that the snapshots of an intent reach.
func (r *Repo) Closure(ctx context.Context, ref journal.Ref) ([]string, error) {
	return journal.Resolve(ref, func(ref journal.Ref) (*journal.Signed, error) { return r.intent(ctx, ref) })
}

// intent gives an intent from the view, or fetches one that a checkpoint stands for.
func (r *Repo) intent(ctx context.Context, ref journal.Ref) (*journal.Signed, error) {
	r.mu.Lock()
	s, ok := r.view.Intent(ref.Hash)
	r.mu.Unlock()
	if ok {
		return s, nil
	}
	sum, err := hex.DecodeString(ref.Hash)
	if err != nil {
		return nil, fmt.Errorf("intent %.8s: %w", ref.Hash, storage.ErrCorrupt)
	}
	doc, err := r.anyObject(ctx, storage.JournalKey(ref.Writer, ref.Instance, ref.Seq, pad32(sum)), journal.StatementMax)
	if err != nil {
		return nil, err
	}
	if s, err = journal.Parse(doc, r.id, r.trust); err != nil {
		return nil, fmt.Errorf("intent %.8s: %w", ref.Hash, err)
	}
	if s.Type != journal.Intent {
		return nil, fmt.Errorf("intent %.8s: %w: it is a statement of type %s", ref.Hash, journal.ErrUntrusted, s.Type)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view.AddIntent(s)
	return s, nil
}

// ReachablePacks is the union of all pack sets that the intents of shown
// snapshots name: every pack that some region must hold, and perhaps a few more.
func (r *Repo) ReachablePacks(ctx context.Context) (map[string]bool, error) {
	packs, seen := map[string]bool{}, map[string]bool{}
	for _, sh := range r.View().Snapshots() {
		for _, ref := range sh.Intents {
			for next := &ref; next != nil && !seen[next.Hash]; {
				seen[next.Hash] = true
				s, err := r.intent(ctx, *next)
				if err != nil {
					return nil, err
				}
				if next = nil; s.Packs != nil {
					for _, k := range s.Packs.Add {
						packs[k] = true
					}
					next = s.Packs.Base
				}
			}
		}
	}
	return packs, nil
}
