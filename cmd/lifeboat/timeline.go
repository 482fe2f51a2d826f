package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// catalogs opens one catalog after the other, without keeping the readers of
// those that are done with, as openTree does.
type catalogs struct {
	r       *repo.Repo
	covered map[string]bool // packs that the index is known to have
}

func newCatalogs(r *repo.Repo) *catalogs { return &catalogs{r: r, covered: map[string]bool{}} }

// openCatalog is one catalog; Close it.
type openCatalog struct {
	*catalog.Reader
	chunks *repo.Reader
}

func (c *openCatalog) close() { c.chunks.Close() }

func (c *catalogs) open(ctx context.Context, s *repo.Snapshot) (*openCatalog, error) {
	m, err := c.r.Manifest(ctx, s.Summary.ID)
	if err != nil {
		return nil, err
	}
	packs, err := c.r.Packs(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	packs = slices.DeleteFunc(packs, func(key string) bool { return c.covered[key] })
	if err := c.r.CoverPacks(ctx, packs); err != nil {
		return nil, err
	}
	for _, key := range packs {
		c.covered[key] = true
	}
	rd, err := c.r.Chunks(ctx, m.Pages)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, rd, catalog.Root{ID: m.Catalog.Root, Level: int(m.Catalog.Level), Entries: m.Catalog.Entries})
	if err != nil {
		rd.Close()
		return nil, fmt.Errorf("open catalog of snapshot %.8s: %w", s.Summary.ID, err)
	}
	return &openCatalog{cat, rd}, nil
}

// timeline is the recovery points of one workload of one host, oldest first,
// and what was found in them.
type timeline struct {
	workload, host, label string
	points                []repo.Snapshot // those that could be read, after follow
	single                bool            // one point was asked for: nothing is said of others
	unreadable            int

	tracks  map[string]*track // by path
	most    int               // versions that tracks may hold
	kept    int               // versions in tracks
	dropped int               // versions that were too many
}

// track is one path through time.
type track struct {
	versions []sighting
	on       bool // the newest version is in the newest point
	more     int  // later versions that were not kept
}

// sighting is one version of a path: from one point to another, by their places
// in the timeline.
type sighting struct {
	kind        catalog.Type
	flags       catalog.Flags
	size, mtime int64
	first, last int
	gone        int // the first point without the path; -1 if the version did not end so
}

func (l *timeline) sorted() []string {
	return slices.SortedFunc(maps.Keys(l.tracks), func(x, y string) int { return catalog.Compare([]byte(x), []byte(y)) })
}

// search follows paths through timelines.
type search struct {
	a    *app
	q    *findQuery
	cats *catalogs
}

// follow reads the oldest catalog whole and then only differences. Points that
// cannot be opened are left out, with a warning.
func (s *search) follow(ctx context.Context, l *timeline) error {
	var before *openCatalog
	defer func() {
		if before != nil {
			before.close()
		}
	}()
	all := l.points
	l.points = nil
	for i := range all {
		cat, err := s.cats.open(ctx, &all[i])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.a.progress.add(0, 1)
		if err != nil {
			l.unreadable++
			s.a.warn("recovery_point_unreadable", err.Error(), "snapshot_id", all[i].Summary.ID)
			continue
		}
		l.points = append(l.points, all[i])
		if before == nil {
			err = s.scan(ctx, l, cat)
		} else {
			err = s.step(ctx, l, before, cat)
			before.close()
		}
		before = cat
		if err != nil {
			return fmt.Errorf("search snapshot %.8s of %s: %w", all[i].Summary.ID, l.workload, err)
		}
	}
	for _, t := range l.tracks {
		if n := len(t.versions); t.on && t.more == 0 {
			t.versions[n-1].last = len(l.points) - 1
		}
	}
	return nil
}

// scan takes everything in the first catalog.
func (s *search) scan(ctx context.Context, l *timeline, cat *openCatalog) error {
	for e, err := range cat.All(ctx) {
		if err != nil {
			return err
		}
		if s.q.match(e.Path) && s.q.wants(e) {
			l.begin(e)
		}
	}
	return nil
}

// step takes what differs from the point before.
func (s *search) step(ctx context.Context, l *timeline, a, b *openCatalog) error {
	now := len(l.points) - 1
	for c, err := range catalog.Diff(ctx, a.Reader, b.Reader) {
		if err != nil {
			return err
		}
		if !s.q.match(c.Path()) || c.Old != nil && c.New != nil && sameVersion(c.Old, c.New) {
			continue
		}
		if c.Old != nil {
			l.end(c.Old.Path, now, c.New == nil)
		}
		if c.New != nil && s.q.wants(c.New) {
			l.begin(c.New)
		}
	}
	return nil
}

// begin notes that a version appears in the newest point.
func (l *timeline) begin(e *catalog.Entry) {
	t := l.tracks[string(e.Path)]
	if l.kept >= l.most {
		l.dropped++
		if t != nil {
			t.on, t.more = true, t.more+1
		}
		return
	}
	if t == nil {
		t = &track{}
		l.tracks[string(e.Path)] = t
	}
	now := len(l.points) - 1
	t.versions = append(t.versions, sighting{kind: e.Type, flags: e.Flags, size: e.Size, mtime: e.MTime, first: now, last: now, gone: -1})
	t.on = true
	l.kept++
}

// end notes that a version is not in point now any more.
func (l *timeline) end(path []byte, now int, gone bool) {
	t := l.tracks[string(path)]
	if t == nil || !t.on {
		return
	}
	t.on = false
	if t.more > 0 {
		return // of a version that was not kept
	}
	v := &t.versions[len(t.versions)-1]
	v.last = now - 1
	if gone {
		v.gone = now
	}
}

// sameVersion tells whether two entries of a path are one version: alike in
// what a restore would bring back, whatever inode they lay in. A directory stays
// itself while what is in it changes.
func sameVersion(a, b *catalog.Entry) bool {
	if a.Type != b.Type || a.Type == catalog.Dir {
		return a.Type == b.Type
	}
	return a.MTime == b.MTime && !contentDiffers(a, b)
}

// contentDiffers tells whether two entries of one type hold different bytes, as
// far as their chunks say.
func contentDiffers(a, b *catalog.Entry) bool {
	return a.Size != b.Size || a.IDPages != b.IDPages || !slices.Equal(a.Chunks, b.Chunks) || !bytes.Equal(a.Target, b.Target) ||
		(a.Flags^b.Flags)&catalog.Unreadable != 0
}
