package replicate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/repo"
)

// ErrHeldBack marks that snapshots stay away from a region, since something they
// need could not be had from any other one.
var ErrHeldBack = errors.New("recovery points were held back")

// heldNamed bounds how many held snapshots a result names; all are counted.
const heldNamed = 100

// Held is a snapshot that stays away from a region, and why.
type Held struct {
	Snapshot string `json:"snapshot_id"`
	Object   string `json:"object,omitempty"` // what it needs
	Problem  string `json:"problem"`
}

// publish makes the copied snapshots visible, batch by batch, each with the packs
// that it reaches. lost are the objects that could not be had, with the reason:
// a snapshot that needs one is held back, and keeps no other away.
func (p *Plan) publish(ctx context.Context, s *repo.Session, g Gap, lost map[string]error, res *Result) error {
	shown := p.r.View().Snapshots()
	var first error
	for ids := range slices.Chunk(g.Snapshots, publishMax) {
		batch, packs := []string{}, map[string]bool{}
		for _, id := range ids {
			reached, object, err := p.reach(ctx, shown[id], g, lost)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				res.hold(Held{id, object, err.Error()})
				if first == nil {
					first = err
				}
				continue
			}
			batch = append(batch, id)
			for _, key := range reached {
				packs[key] = true
			}
		}
		if len(batch) == 0 {
			continue
		}
		if _, err := s.PublishCopies(ctx, repo.Copies{Snapshots: batch, Packs: slices.Collect(maps.Keys(packs))}); err != nil {
			return err
		}
		res.Snapshots += len(batch)
	}
	if first != nil {
		return fmt.Errorf("%w: %d of %d need what no other region has whole, the first of them %.8s: %w", ErrHeldBack, res.HeldBack, len(g.Snapshots), res.Held[0].Snapshot, first)
	}
	return nil
}

func (r *Result) hold(h Held) {
	r.HeldBack++
	if len(r.Held) < heldNamed {
		r.Held = append(r.Held, h)
	}
}

// reach gives the packs of a snapshot. Any intent that shows it will do: of those
// whose objects are all there, the one with the fewest packs. Without one it names
// an object that is not there.
func (p *Plan) reach(ctx context.Context, sh *journal.Shown, g Gap, lost map[string]error) (packs []string, object string, err error) {
	if sh == nil {
		return nil, "", repo.ErrNoSnapshot
	}
	whole := func(ref journal.Ref, keys []string) error {
		need := keys
		if key := p.manifestKey(ref, sh.ID); key != "" {
			need = append([]string{key}, keys...)
		}
		at := slices.IndexFunc(need, func(key string) bool { return lost[key] != nil || g.gone[key] })
		if at < 0 {
			return nil
		}
		object = need[at]
		if err := lost[object]; err != nil {
			return err
		}
		return fmt.Errorf("%s is in no region that answers: %w", object, storage.ErrNotFound)
	}
	if packs, err = p.r.Packs(ctx, &repo.Snapshot{Shown: *sh}, whole); err != nil {
		return nil, object, err
	}
	return packs, "", nil
}

// manifestKey is where a snapshot's manifest lies; "" when it rides in the intent.
func (p *Plan) manifestKey(ref journal.Ref, id string) string {
	s, ok := p.r.View().Intent(ref.Hash) // resolving its packs has fetched it
	if !ok {
		return ""
	}
	for _, sn := range s.Snapshots {
		if sn.ID == id {
			return sn.Key
		}
	}
	return ""
}

// goneFrom lists what snapshots need and neither the region holds nor another one
// offers for copying.
func (p *Plan) goneFrom(g *Gap, wanted map[string]bool, have held, offered map[string]int64) map[string]bool {
	gone := map[string]bool{}
	lacks := func(key string) {
		if _, ok := offered[key]; key != "" && !ok && have[key] == 0 {
			gone[key] = true
		}
	}
	for key := range wanted {
		lacks(key)
	}
	shown := p.r.View().Snapshots()
	for _, id := range g.Snapshots {
		for _, ref := range shown[id].Intents {
			lacks(p.manifestKey(ref, id))
		}
	}
	return gone
}
