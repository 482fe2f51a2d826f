package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lifeboat/storage"
)

// Replaceable gives, for each region, the damaged objects of which another region
// was seen to hold good bytes: what Plan.Replace takes.
func (r *Report) Replaceable() map[string][]string {
	out := map[string][]string{}
	for _, d := range r.Damaged {
		if d.Region != "" && d.Kind != kindListing && len(d.HealableFrom) > 0 {
			out[d.Region] = append(out[d.Region], d.Object)
		}
	}
	return out
}

// Replace adds objects to the plan that are to be put into a region again,
// whatever it lists: those that a scrub found wrong there. It gives back the keys
// that cannot be copied: objects whose names carry no hash, statements that only
// their own session may place, and what no other region has.
func (p *Plan) Replace(ctx context.Context, region string, keys []string) (left []string, err error) {
	i := slices.IndexFunc(p.Gaps, func(g Gap) bool { return g.Region == region })
	if i < 0 {
		return keys, fmt.Errorf("replace objects in region %s: %w", region, storage.ErrUnreachable)
	}
	g := &p.Gaps[i]
	planned := map[string]bool{}
	for _, o := range g.Objects {
		planned[o.Key] = true
	}
	for _, key := range keys {
		if planned[key] {
			continue
		}
		planned[key] = true
		size, ok, err := p.replaceable(ctx, g, key)
		if err != nil {
			return left, fmt.Errorf("replace %s in region %s: %w", key, region, err)
		}
		if !ok {
			left = append(left, key)
			continue
		}
		g.Objects, g.Bytes = append(g.Objects, Object{Key: key, Size: size}), g.Bytes+size
	}
	slices.SortStableFunc(g.Objects, func(a, b Object) int {
		if c := rank(a.Key) - rank(b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return left, nil
}

// rank is a key's place in the commit order; -1: it is not copied at all.
func rank(key string) int {
	return slices.IndexFunc(prefixes(), func(p string) bool { return strings.HasPrefix(key, p) })
}

// replaceable tells the size of an object, and whether it may be copied.
func (p *Plan) replaceable(ctx context.Context, g *Gap, key string) (size int64, ok bool, err error) {
	kind, parts, err := storage.Parse(key)
	if err != nil || rank(key) < 0 || !parts.HasSum && kind != storage.KindSentinel {
		return 0, false, nil
	}
	if kind == storage.KindJournal || kind == storage.KindCheckpoint {
		doc, err := p.read(ctx, g.Region, key)
		if err != nil {
			return 0, false, ctx.Err() // damaged everywhere
		}
		may, err := p.r.MayMirror(doc, g.Nonce)
		return int64(len(doc)), may && err == nil, nil
	}
	for _, place := range p.r.Places() {
		if !place.Usable() || place.Name == g.Region {
			continue
		}
		info, err := place.Store.Stat(ctx, key)
		switch {
		case err == nil && info.Size > 0:
			return info.Size, true, nil
		case err != nil && !errors.Is(err, storage.ErrNotFound) && ctx.Err() != nil:
			return 0, false, err
		}
	}
	return 0, false, nil
}
