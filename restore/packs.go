package restore

import (
	"context"
	"maps"
	"slices"

	"lifeboat/storage/repo"
)

// Packs gives the packs that a snapshot reaches, by the first intent that tells. The
// one of the host that took the snapshot is the most exact, and may build on another
// that the regions at hand never may hold: one that named a region's incarnation and
// that this region lost. What a replicator stated when it brought the snapshot there
// builds on nothing.
func Packs(ctx context.Context, r *repo.Repo, s *repo.Snapshot) ([]string, error) {
	packs, err := r.Closure(ctx, s.AnyIntent())
	if err == nil || ctx.Err() != nil {
		return packs, err
	}
	for _, nonce := range slices.Sorted(maps.Keys(s.Intents)) {
		if packs, other := r.Closure(ctx, s.Intents[nonce]); other == nil {
			return packs, nil
		}
	}
	return nil, err
}
