package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"lifeboat/storage/journal"
)

// Packs gives the packs that a snapshot reaches, by any intent that tells. The one of
// the host that took the snapshot may build on another that the regions at hand never
// may hold: one that named a region's incarnation and that this region lost. What a
// replicator stated when it brought the snapshot there builds on nothing. Of those that
// resolve and that fits, which may be nil, has nothing against, the one with the fewest
// packs is taken, and one of the host itself before any of another writer, who could
// leave something out.
func (r *Repo) Packs(ctx context.Context, s *Snapshot, fits func(ref journal.Ref, packs []string) error) ([]string, error) {
	var first error
	for _, refs := range s.tellers() {
		var packs []string
		found := false
		for _, ref := range refs {
			keys, err := r.Closure(ctx, ref)
			if err == nil && fits != nil {
				err = fits(ref, keys)
			}
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				if first == nil || isAway(err) && !isAway(first) {
					first = err
				}
			case !found || len(keys) < len(packs):
				found, packs = true, keys
			}
		}
		if found {
			return packs, nil
		}
	}
	if first == nil {
		first = fmt.Errorf("snapshot %.8s: no region shows it: %w", s.Shown.ID, ErrNoSnapshot)
	}
	return nil, first
}

// tellers lists the intents that name the snapshot and its packs, each once: those of
// the writer that took it, if it is known, and those of others.
func (s *Snapshot) tellers() (out [2][]journal.Ref) {
	seen := map[string]bool{"": true}
	add := func(ref journal.Ref) {
		if seen[ref.Hash] {
			return
		}
		seen[ref.Hash] = true
		whose := 0
		if s.own != (journal.Ref{}) && ref.Writer != s.own.Writer {
			whose = 1
		}
		out[whose] = append(out[whose], ref)
	}
	add(s.own)
	for _, nonce := range slices.Sorted(maps.Keys(s.Intents)) {
		add(s.Intents[nonce])
	}
	return out
}
