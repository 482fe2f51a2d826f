// Package replicate brings a region that was away up to date: it compares what
// the regions hold, copies ciphertext whose bytes hash to their names, and makes
// the copied snapshots visible by a session of its own in the destination. It
// deletes nothing, and believes no listing about what may go. It also scrubs: it
// holds every object of a region against its name, its signature and what refers
// to it. Copying opens nothing; only a scrub does, when it is given a key.
package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// Limits of one run.
const (
	copiesMax     = 3       // objects copied at once: each may be a pack in memory
	listMax       = 4 << 20 // objects one prefix may list
	publishMax    = 256     // snapshots one acknowledgement makes visible
	objectSizeMax = 128 << 20
)

// Gap is what one region lacks.
type Gap struct {
	Region    string
	Nonce     string
	Snapshots []string        // ids that other regions show and this one does not, oldest first
	Objects   []Object        // to copy, in commit order
	Bytes     int64           // of Objects
	gone      map[string]bool // what snapshots need and no region that answers has
}

// Object is one object to copy.
type Object struct {
	Key  string
	Size int64 // bytes; as listed by the region it comes from
	// Differs is set when the destination has the object in another size: then its
	// own bytes are looked at first, since they may be the good ones.
	Differs bool
}

// Plan lists the gaps of all regions that answer.
type Plan struct {
	Gaps []Gap
	// Skipped are regions that could not be listed, and why.
	Skipped map[string]error
	r       *repo.Repo
}

// NewPlan compares the usable regions. to limits the destinations; empty means
// all. It writes nothing.
func NewPlan(ctx context.Context, r *repo.Repo, to []string) (*Plan, error) {
	p := &Plan{r: r, Skipped: map[string]error{}}
	union := p.inventory(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for _, place := range r.Places() {
		if !place.Usable() || p.Skipped[place.Name] != nil || len(to) > 0 && !slices.Contains(to, place.Name) {
			continue
		}
		gap, err := p.gap(ctx, place, union)
		if err != nil {
			return nil, fmt.Errorf("compare region %s: %w", place.Name, err)
		}
		p.Gaps = append(p.Gaps, gap)
	}
	return p, nil
}

// prefixes are what a region must hold, in commit order: what a thing refers to
// comes before it.
func prefixes() []string {
	return []string{"keys/", "trust/", "packs/", "index/", "manifests/", "journal/"}
}

// held is what one region lists: sizes by key.
type held map[string]int64

// inventory lists all usable regions. One that cannot be listed is skipped.
func (p *Plan) inventory(ctx context.Context) map[string]held {
	out := map[string]held{}
	for _, place := range p.r.Places() {
		if !place.Usable() {
			continue
		}
		h, err := list(ctx, place)
		if err != nil {
			p.Skipped[place.Name] = err
			continue
		}
		out[place.Name] = h
	}
	return out
}

func list(ctx context.Context, place *repo.Place) (held, error) {
	h := held{}
	for _, prefix := range prefixes() {
		infos, err := storage.ListAll(ctx, place.Store, storage.ListOptions{Prefix: prefix}, listMax)
		if err != nil {
			return nil, fmt.Errorf("list %s in region %s: %w", prefix, place.Name, err)
		}
		for _, info := range infos {
			h[info.Key] = info.Size
		}
	}
	return h, nil
}

func (p *Plan) gap(ctx context.Context, place *repo.Place, all map[string]held) (Gap, error) {
	g := Gap{Region: place.Name, Nonce: place.Nonce}
	p.missingSnapshots(&g)
	wanted, err := p.r.ReachablePacks(ctx)
	if err != nil {
		return g, err
	}
	have := all[place.Name]
	sizes, differs := map[string]int64{}, map[string]bool{}
	for name, h := range all {
		if name == place.Name {
			continue
		}
		for key, size := range h {
			own, there := have[key]
			if there && own == size && size > 0 || size == 0 {
				continue
			}
			if strings.HasPrefix(key, "packs/") && !wanted[key] && !strings.HasSuffix(key, "~end") {
				continue // of no snapshot: a later session's business
			}
			sizes[key], differs[key] = size, there && own > 0
		}
	}
	g.gone = p.goneFrom(&g, wanted, have, sizes)
	for _, prefix := range prefixes() {
		for key, size := range sizes {
			if strings.HasPrefix(key, prefix) {
				g.Objects = append(g.Objects, Object{Key: key, Size: size, Differs: differs[key]})
			}
		}
	}
	rank := func(o Object) int {
		return slices.IndexFunc(prefixes(), func(p string) bool { return strings.HasPrefix(o.Key, p) })
	}
	slices.SortFunc(g.Objects, func(a, b Object) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return g, p.mirrorable(ctx, &g)
}

// mirrorable drops the statements that rule 8 forbids to copy.
func (p *Plan) mirrorable(ctx context.Context, g *Gap) error {
	keep := g.Objects[:0]
	for _, o := range g.Objects {
		if strings.HasPrefix(o.Key, "journal/") && strings.HasSuffix(o.Key, ".json") {
			doc, err := p.read(ctx, g.Region, o.Key)
			if err != nil {
				continue // damaged everywhere: check reports it
			}
			ok, err := p.r.MayMirror(doc, g.Nonce)
			if err != nil || !ok {
				continue
			}
		}
		keep = append(keep, o)
		g.Bytes += o.Size
	}
	g.Objects = keep
	return ctx.Err()
}

// missingSnapshots lists what other regions show and this one does not, oldest first.
func (p *Plan) missingSnapshots(g *Gap) {
	var missing []*journal.Shown
	for _, sh := range p.r.View().Snapshots() {
		if !sh.Shows(g.Nonce) {
			missing = append(missing, sh)
		}
	}
	slices.SortFunc(missing, func(a, b *journal.Shown) int {
		if c := a.Seen.Compare(b.Seen); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	for _, sh := range missing {
		g.Snapshots = append(g.Snapshots, sh.ID)
	}
}

// Empty reports whether nothing has to be done.
func (p *Plan) Empty() bool {
	for _, g := range p.Gaps {
		if len(g.Objects)+len(g.Snapshots) > 0 {
			return false
		}
	}
	return true
}

// WriteTo prints the plan.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, g := range p.Gaps {
		fmt.Fprintf(&b, "%s: %d snapshots and %d objects to copy, %.1f MiB\n", g.Region, len(g.Snapshots), len(g.Objects), float64(g.Bytes)/(1<<20))
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Options says how to run a plan.
type Options struct {
	Now    func() time.Time
	Events Events
}

// Events tells what goes on; every field may be nil.
type Events struct {
	Copied  func(region, key string, size int64)
	Skipped func(region, key string, err error)
}

// Result says what a run did in one region.
type Result struct {
	Region    string `json:"region"`
	Snapshots int    `json:"snapshots"`
	Objects   int    `json:"objects"`
	Bytes     int64  `json:"bytes"`
	// HeldBack counts the snapshots that stay away, since something that they need
	// could not be had; Held names the first of them.
	HeldBack int    `json:"held_back"`
	Held     []Held `json:"held,omitempty"`
	Error    string `json:"error,omitempty"`
	Err      error  `json:"-"`
}

// Run fills the gaps, region by region. A region that fails does not stop the
// others; its error is in its result and in the joined error.
func (p *Plan) Run(ctx context.Context, opt Options) ([]Result, error) {
	var out []Result
	var all []error
	for _, g := range p.Gaps {
		if len(g.Objects)+len(g.Snapshots) == 0 {
			continue
		}
		res := Result{Region: g.Region}
		if res.Err = p.fill(ctx, g, opt, &res); res.Err != nil {
			res.Error = res.Err.Error()
			all = append(all, fmt.Errorf("catch up region %s: %w", g.Region, res.Err))
		}
		out = append(out, res)
	}
	return out, errors.Join(all...)
}

// fill closes one gap. Where only statements and the like are missing, they are
// mirrored as they are; snapshots need a session of the replicator's own.
func (p *Plan) fill(ctx context.Context, g Gap, opt Options, res *Result) (err error) {
	if len(g.Snapshots) == 0 {
		return p.mirror(ctx, g, opt, res)
	}
	s, err := p.r.Begin(ctx, repo.SessionOptions{Required: 1, Only: g.Region, Now: opt.Now, Buffers: 1, Verify: pack.VerifyOff})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.End(context.WithoutCancel(ctx), err != nil)) }()
	lost, failed := p.copyAll(ctx, s, g, opt, res)
	if ctx.Err() != nil {
		return failed
	}
	return errors.Join(failed, p.publish(ctx, s, g, lost, res))
}

// target is where objects are put: a session, or the region itself.
type target interface {
	PutObject(ctx context.Context, key string, data []byte) error
	PutSentinel(ctx context.Context, key string) error
}

func (p *Plan) mirror(ctx context.Context, g Gap, opt Options, res *Result) error {
	for _, place := range p.r.Places() {
		if place.Name == g.Region {
			_, err := p.copyAll(ctx, place, g, opt, res)
			return err
		}
	}
	return fmt.Errorf("region %s: %w", g.Region, storage.ErrUnreachable)
}

// copyAll copies kind by kind, so that a crash leaves nothing that refers to
// what is not there. lost is what could not be copied, and why.
func (p *Plan) copyAll(ctx context.Context, s target, g Gap, opt Options, res *Result) (lost map[string]error, err error) {
	lost = map[string]error{}
	var first error
	results := make(chan outcome)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o := range results {
			if o.err != nil {
				lost[o.Key], first = o.err, cmp.Or(first, o.err)
				opt.Events.skipped(g.Region, o.Key, o.err)
				continue
			}
			res.Objects++
			res.Bytes += o.Size
			opt.Events.copied(g.Region, o.Key, o.Size)
		}
	}()
	for _, prefix := range prefixes() {
		var group errgroup.Group
		group.SetLimit(copiesMax)
		for _, o := range g.Objects {
			if !strings.HasPrefix(o.Key, prefix) || ctx.Err() != nil {
				continue
			}
			group.Go(func() error {
				results <- outcome{o, p.copyOne(ctx, s, g.Region, o)}
				return nil
			})
		}
		_ = group.Wait() // outcomes carry the errors
	}
	close(results)
	<-done
	if first != nil {
		return lost, fmt.Errorf("%d objects could not be copied, the first: %w", len(lost), first)
	}
	return lost, ctx.Err()
}

type outcome struct {
	Object
	err error
}

func (e Events) copied(region, key string, size int64) {
	if e.Copied != nil {
		e.Copied(region, key, size)
	}
}

func (e Events) skipped(region, key string, err error) {
	if e.Skipped != nil {
		e.Skipped(region, key, err)
	}
}

func (p *Plan) copyOne(ctx context.Context, s target, to string, o Object) error {
	if strings.HasSuffix(o.Key, storage.SentinelName) {
		return s.PutSentinel(ctx, o.Key)
	}
	if o.Differs && p.ownIsGood(ctx, to, o.Key) {
		return nil
	}
	data, err := p.read(ctx, to, o.Key)
	if err != nil {
		return err
	}
	return s.PutObject(ctx, o.Key, data)
}

// ownIsGood reports whether a region's own copy hashes to its name: then it is
// another region's that is cut short.
func (p *Plan) ownIsGood(ctx context.Context, region, key string) bool {
	for _, place := range p.r.Places() {
		if place.Name == region && place.Usable() {
			_, _, err := storage.ReadVerified(ctx, place.Store, key, objectSizeMax)
			return err == nil
		}
	}
	return false
}

// read takes an object from the first other region whose bytes hash to its name.
func (p *Plan) read(ctx context.Context, not, key string) ([]byte, error) {
	var all []error
	for _, place := range p.r.Places() {
		if !place.Usable() || place.Name == not {
			continue
		}
		data, _, err := storage.ReadVerified(ctx, place.Store, key, objectSizeMax)
		if err == nil {
			return data, nil
		}
		all = append(all, fmt.Errorf("region %s: %w", place.Name, err))
	}
	return nil, fmt.Errorf("copy %s: %w", key, errors.Join(all...))
}
