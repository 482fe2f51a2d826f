package replicate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// Kinds of findings that are no kind of object.
const (
	kindListing  = "listing"
	kindSnapshot = "snapshot"
	kindRegion   = "region"
)

// missing is the problem of what is not there.
const missing = "missing"

// finding is a damage while it is being found out about.
type finding struct {
	Damage
	g    *scan // nil: of the repository as a whole
	kind storage.Kind
	// size and sum are what was read, if the bytes did not match the name.
	size   int64
	sum    [32]byte
	hashed bool
	// snapshots are ids that are known to be affected, beside those that are
	// worked out from kind and name.
	snapshots []string
	// lost are the chunks that do not come out of a damaged pack; nil: not known, all.
	lost []pack.ChunkID
}

// find records a finding, once for each region and object.
func (s *scrub) find(g *scan, key, problem string, args ...any) *finding {
	kind, _, err := storage.Parse(key)
	f := &finding{g: g, kind: kind, Damage: Damage{Object: key, Problem: fmt.Sprintf(problem, args...), Affects: []Affected{}, HealableFrom: []string{}}}
	if err == nil {
		f.Kind = kind.String()
	}
	return s.keep(f)
}

// findAs is find for what is no object of the layout, or not wrong by itself.
func (s *scrub) findAs(kind string, g *scan, key, problem string, args ...any) *finding {
	f := &finding{g: g, Damage: Damage{Object: key, Kind: kind, Problem: fmt.Sprintf(problem, args...), Affects: []Affected{}, HealableFrom: []string{}}}
	if k, _, err := storage.Parse(key); err == nil {
		f.kind = k
	}
	return s.keep(f)
}

func (s *scrub) keep(f *finding) *finding {
	if f.g != nil {
		f.Region = f.g.Name
		if !f.g.checked {
			return f // only compared with
		}
	}
	s.mu.Lock()
	name := f.Region + "\x00" + f.Object
	if old := s.known[name]; old != nil {
		s.mu.Unlock()
		return old
	}
	s.known[name] = f
	s.findings = append(s.findings, f)
	s.mu.Unlock()
	s.opt.Events.damaged(f.Region, f.Object, f.Problem)
	return f
}

// has reports whether something is known to be wrong with an object.
func (s *scrub) has(g *scan, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[g.Name+"\x00"+key] != nil
}

// inspect reads a small object whole and compares it with the hash in its name.
// It gives nil when the object is not good, after it has reported why.
func (s *scrub) inspect(ctx context.Context, g *scan, key string, limit int64) []byte {
	want, hashed := storage.HashOf(key)
	var data []byte
	var err error
	for range 2 { // what looks wrong is read again: it may have been the way here
		data, _, err = storage.ReadAll(ctx, g.Store, key, limit)
		s.count(g, 0, int64(len(data)))
		if err == nil && (!hashed || sha256.Sum256(data) == want) && len(data) > 0 {
			s.count(g, 1, 0)
			return data
		}
		if isAway(ctx, err) {
			s.leave(g, fmt.Errorf("read %s: %w", key, err))
			return nil
		}
	}
	s.count(g, 1, 0)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		s.find(g, key, missing)
	case err != nil:
		s.find(g, key, "cannot be read: %v", err)
	case len(data) == 0:
		s.find(g, key, "holds nothing: zero bytes")
	default:
		s.mismatch(g, key, int64(len(data)), sha256.Sum256(data))
	}
	return nil
}

// mismatch reports bytes that do not hash to their name; explain tells later
// what they are.
func (s *scrub) mismatch(g *scan, key string, size int64, sum [32]byte) *finding {
	f := s.find(g, key, "its %d bytes do not hash to its name", size)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.size, f.sum, f.hashed = size, sum, true
	return f
}

// present asks a region by name for an object that its listing did not show. One
// that is there after all, and is not just new, proves that the listing cannot be
// trusted.
func (s *scrub) present(ctx context.Context, g *scan, key string) (size int64, there bool) {
	info, there := s.ask(ctx, g, key)
	if there && (info.ModTime.Before(g.newest[folder(key)]) || s.unlisted(ctx, g, key)) {
		s.findAs(kindListing, g, key, "the listing hides it: asked by name, the region has it")
	}
	return info.Size, there
}

// unlisted reports whether a listing of this one name shows nothing: an object
// that a running backup has put meanwhile, it shows.
func (s *scrub) unlisted(ctx context.Context, g *scan, key string) bool {
	for info, err := range g.Store.List(ctx, storage.ListOptions{Prefix: key}) {
		return err == nil && info.Key != key
	}
	return true
}

// ask looks for an object by its name.
func (s *scrub) ask(ctx context.Context, g *scan, key string) (info storage.Info, there bool) {
	info, err := g.Store.Stat(ctx, key)
	s.count(g, 1, 0)
	switch {
	case err == nil:
		return info, true
	case errors.Is(err, storage.ErrNotFound):
	case isAway(ctx, err):
		s.leave(g, fmt.Errorf("look at %s: %w", key, err))
	default:
		s.find(g, key, "cannot be looked at: %v", err)
	}
	return info, false
}

// folder is the first element of a key.
func folder(key string) string {
	name, _, _ := strings.Cut(key, "/")
	return name
}

// lag notes an object that a region lacks because it was away.
func (s *scrub) lag(g *scan, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.behind.Total++
	if len(g.behind.Objects) < behindMax {
		g.behind.Objects = append(g.behind.Objects, key)
	}
}

func (s *scrub) strange(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.StrangeTotal++
	if len(s.report.Strange) < behindMax {
		s.report.Strange = append(s.report.Strange, key)
	}
}

func compareFindings(a, b *finding) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.kind, b.kind), cmp.Compare(a.Object, b.Object))
}
