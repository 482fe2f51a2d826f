package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/repo"
)

const (
	probeMax      = 1 << 20     // bytes of the object that is put again
	probeListMax  = 10_000      // trust statements that a region may list
	onlineSkewMax = time.Minute // between this host's clock and a region's, before it is said
)

// onlineRegion is what config check --online found out about one region.
type onlineRegion struct {
	Name     string        `json:"name"`
	URL      string        `json:"url"`
	OK       bool          `json:"ok"`
	Optional bool          `json:"optional,omitempty"`
	Checks   []onlineCheck `json:"checks"`
	SkewMS   *int64        `json:"clock_skew_ms,omitempty"` // region minus host; absent: not known
	err      error
	warnings []string
}

// onlineCheck is one thing that was looked at. Those after a failed one were not tried.
type onlineCheck struct {
	Name    string `json:"name"` // reachable, repository, writable or clock
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}

func (o *onlineRegion) note(name string, err error, message string) bool {
	c := onlineCheck{Name: name, OK: err == nil, Message: message}
	if err != nil {
		c.Message, o.err = err.Error(), err
	}
	o.Checks = append(o.Checks, c)
	return c.OK
}

// checkOnline contacts every region at once, each by itself.
func (a *app) checkOnline(ctx context.Context) ([]*onlineRegion, error) {
	set, err := a.regions()
	if err != nil {
		return nil, err
	}
	a.progress.plan("contact")
	a.progress.phase("contact")
	defer a.progress.done()
	rows := make([]*onlineRegion, len(set.Regions))
	var all sync.WaitGroup
	for i, spec := range set.Regions {
		rows[i] = &onlineRegion{Name: spec.Name, URL: fullURL(spec), Optional: spec.Optional}
		one := set
		one.Regions = []RegionSpec{spec}
		opt, err := a.repoOptions(ctx, &one, access{coldCache: true})
		if err != nil {
			return nil, err
		}
		opt.Events = repo.Events{} // what it would tell is in the row
		all.Go(func() { a.contact(ctx, opt, rows[i]) })
	}
	all.Wait()
	return rows, ctx.Err()
}

// contact looks at one region, from what everything else needs to what is only
// worth knowing.
func (a *app) contact(ctx context.Context, opt repo.Options, o *onlineRegion) {
	s := opt.Regions[0].Store
	trust, err := storage.ListAll(ctx, s, storage.ListOptions{Prefix: storage.TrustPrefix}, probeListMax)
	if !o.note("reachable", err, "") {
		return
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		o.note("repository", err, "")
		return
	}
	defer r.Close()
	o.note("repository", nil, fmt.Sprintf("%.8s", r.ID()))
	if a.opt.DryRun {
		o.note("writable", nil, "not tried (--dry-run)")
		o.OK = true
		return
	}
	skew, known, err := a.putAgain(ctx, s, trust)
	if !o.note("writable", err, "") {
		return
	}
	o.OK = true
	if !known {
		return
	}
	ms := milliseconds(skew)
	o.SkewMS = &ms
	text := fmt.Sprintf("%+.1f s", skew.Seconds())
	if skew.Abs() > onlineSkewMax {
		text = fmt.Sprintf("the region's clock is %s, off by %s", map[bool]string{true: "ahead", false: "behind"}[skew > 0], formatDuration(skew.Abs()))
		o.warnings = append(o.warnings, text)
	}
	o.Checks = append(o.Checks, onlineCheck{Name: "clock", OK: skew.Abs() <= onlineSkewMax, Message: text})
}

// putAgain puts the newest trust statement once more, with the bytes that it has:
// its name carries their hash, so that this changes nothing, and shows that the
// region can be written, and what time it has.
func (a *app) putAgain(ctx context.Context, s storage.Store, trust []storage.Info) (skew time.Duration, known bool, err error) {
	key := ""
	for _, info := range trust { // oldest first
		if _, hashed := storage.HashOf(info.Key); hashed {
			key = info.Key
		}
	}
	if key == "" {
		return 0, false, fmt.Errorf("find an object to put again: no trust statement is listed: %w", storage.ErrListing)
	}
	data, before, err := storage.ReadVerified(ctx, s, key, probeMax)
	if err != nil {
		return 0, false, err
	}
	from := a.now()
	if err := s.Put(ctx, key, data, sha256.Sum256(data)); err != nil {
		return 0, false, err
	}
	to := a.now()
	after, err := s.Stat(ctx, key)
	if err != nil || after.ModTime.Equal(before.ModTime) {
		return 0, false, err
	}
	return clockSkew(after.ModTime, from, to), true, nil
}

// clockSkew is how far a region's time lies outside the span in which it was taken,
// and a second more: S3 tells whole ones.
func clockSkew(at, from, to time.Time) time.Duration {
	switch {
	case at.Before(from.Add(-time.Second)):
		return at.Sub(from)
	case at.After(to):
		return at.Sub(to)
	}
	return 0
}

// onlineVerdict is the failure of the regions that were found wanting. An optional
// one only warns.
func (a *app) onlineVerdict(rows []*onlineRegion) (warnings int, err error) {
	var all []error
	for _, o := range rows {
		for _, text := range o.warnings {
			warnings++
			a.warn("clock_skew", fmt.Sprintf("region %s: %s", o.Name, text), "region", o.Name)
		}
		switch {
		case o.err == nil:
		case o.Optional:
			warnings++
			a.warn("region_unusable", fmt.Sprintf("the optional region %s cannot be used: %v", o.Name, o.err), "region", o.Name)
		default:
			f := classify(a.explainOpen(o.err))
			f.Message = fmt.Sprintf("region %s cannot be used: %v", o.Name, o.err)
			all = append(all, f)
		}
	}
	return warnings, errors.Join(all...)
}

func (o *onlineRegion) text(p *page) {
	parts := []string{fmt.Sprintf("  region %-12s %s", o.Name, o.URL)}
	for _, c := range o.Checks {
		m, text := markOK, c.Name
		switch {
		case c.OK:
		case c.Name == "clock":
			m = markRisk
		default:
			m, text = markBad, map[string]string{"reachable": "not reachable", "repository": "no usable repository", "writable": "not writable"}[c.Name]
		}
		if c.Message != "" && c.OK {
			text += " " + c.Message
		} else if c.Message != "" {
			text += ": " + strings.ReplaceAll(c.Message, "\n", "; ")
		}
		parts = append(parts, p.mark(m, text))
	}
	p.line("%s", strings.Join(parts, "  "))
}
