package snapshot_test

import (
	"context"
	"errors"
	"math/rand/v2"

	"lifeboat/snapshot"
	"lifeboat/storage/repo"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// attempt is one backup that may fail.
type attempt struct {
	workers  int
	regions  []repo.Region // the world's by default
	options  func(*snapshot.Options)
	session  repo.SessionOptions
	required int
}

// try takes one snapshot of dir and gives what became of it. It always ends the session.
func (w *world) try(ctx context.Context, dir string, a attempt) (p *repo.Prepared, c *repo.Committed, err error) {
	opt := repo.Options{Regions: w.regions, State: w.state, CacheDir: w.cache}
	if a.regions != nil {
		opt.Regions = a.regions
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	a.session.Now, a.session.Required = w.now, max(a.required, 1)
	s, err := r.Begin(ctx, a.session)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.End(context.WithoutCancel(ctx), c == nil)) }()
	tk, err := snapshot.NewTaker(r, s, max(a.workers, 3))
	if err != nil {
		return nil, nil, err
	}
	o := snapshot.Options{Workload: "files", Kind: "volume", Host: "h", Paths: []string{dir}, Now: w.now}
	if parent, ok := snapshot.Parent(ctx, r, s, "files"); ok {
		o.Parent = parent
	}
	if a.options != nil {
		a.options(&o)
	}
	if p, err = tk.Take(ctx, o); err != nil {
		return nil, nil, err
	}
	if err := tk.Flush(ctx); err != nil {
		return p, nil, err
	}
	c, err = s.Commit(ctx, []repo.Prepared{*p})
	return p, c, err
}
