package restore

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"lifeboat/snapshot/catalog"
)

// choice is what becomes of an entry.
type choice uint8

const (
	take choice = iota
	lead        // a directory that is made only if something selected lies in it
	skip        // not selected
	bad         // wrong or hostile: a problem
)

// selector judges entries in catalog order: are they sane, are they selected, and
// where below the target do they go. Both passes use one each, so that they agree.
type selector struct {
	strip            []byte
	include, exclude *matcher
	refused          [][]byte // paths below the target

	last    []byte // the path before, to check the order
	started bool
	leaf    []byte // the last entry that was no directory: nothing may lie under it
	hasLeaf bool
	in, out []byte // the last directory that was included or excluded, with all it holds
	inSet   bool
	outSet  bool

	why  error
	kind Kind
}

func newSelector(o *Options, refused [][]byte) (*selector, error) {
	s := &selector{strip: bytes.Trim(o.StripPrefix, "/"), refused: refused}
	if err := catalog.CheckPath(s.strip); err != nil {
		return nil, fmt.Errorf("prefix to strip: %w: %w", ErrOptions, err)
	}
	var err error
	if s.include, err = newMatcher(o.Include, s.strip); err != nil {
		return nil, fmt.Errorf("include: %w", err)
	}
	if s.exclude, err = newMatcher(o.Exclude, s.strip); err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	return s, nil
}

// next judges an entry and gives its path below the target, a part of e.Path. For
// bad ones, s.kind and s.why say why.
func (s *selector) next(e *catalog.Entry) ([]byte, choice) {
	if err := s.sane(e); err != nil {
		s.kind, s.why = BadEntry, err
		return e.Path, bad
	}
	rel, ok := s.place(e)
	if !ok {
		if e.Type == catalog.Dir && catalog.Within(e.Path, s.strip) {
			return nil, skip // leads to the prefix
		}
		s.kind, s.why = Outside, fmt.Errorf("not within %q", s.strip)
		return e.Path, bad
	}
	c := s.selected(e)
	if c == take || c == lead {
		for _, r := range s.refused {
			if catalog.Within(r, rel) {
				s.kind, s.why = Outside, errors.New("it belongs to a region or to lifeboat's own state")
				return rel, bad
			}
		}
	}
	return rel, c
}

// sane checks the path, and its place in the order.
func (s *selector) sane(e *catalog.Entry) error {
	if err := catalog.CheckPath(e.Path); err != nil {
		return err
	}
	if e.Type > catalog.BlockDevice {
		return fmt.Errorf("unknown type %d", e.Type)
	}
	if s.started && catalog.Compare(s.last, e.Path) >= 0 {
		return errors.New("twice, or out of order")
	}
	s.last, s.started = append(s.last[:0], e.Path...), true
	if s.hasLeaf && catalog.Within(s.leaf, e.Path) {
		return errors.New("it lies under what is no directory")
	}
	if s.hasLeaf = e.Type != catalog.Dir; s.hasLeaf {
		s.leaf = append(s.leaf[:0], e.Path...)
	}
	if len(e.Path) == 0 && e.Type != catalog.Dir {
		return errors.New("the top is not a directory")
	}
	return nil
}

// place gives the path below the target.
func (s *selector) place(e *catalog.Entry) ([]byte, bool) {
	switch p := e.Path; {
	case len(s.strip) == 0:
		return p, true
	case !catalog.Within(s.strip, p):
		return nil, false
	case len(p) > len(s.strip):
		return p[len(s.strip)+1:], true
	case e.Type != catalog.Dir: // the workload is a single file
		return p[bytes.LastIndexByte(p, '/')+1:], true
	}
	return nil, true
}

func (s *selector) selected(e *catalog.Entry) choice {
	if s.outSet && catalog.Within(s.out, e.Path) {
		return skip
	}
	if s.exclude.match(e.Path) {
		s.out, s.outSet = append(s.out[:0], e.Path...), true
		return skip
	}
	if s.include.empty() || s.inSet && catalog.Within(s.in, e.Path) {
		return take
	}
	if s.include.match(e.Path) {
		s.in, s.inSet = append(s.in[:0], e.Path...), true
		return take
	}
	if e.Type == catalog.Dir {
		return lead
	}
	return skip
}

// matcher holds patterns for paths.
type matcher struct {
	paths [][]byte // these, and all they hold
	globs []glob   // on the whole path
	bases []string // globs on the last element
}

// glob is a pattern, and the path that it is when nothing in it is special.
type glob struct{ pattern, plain string }

// newMatcher sorts patterns by what they look at. top is what relative ones are relative to.
func newMatcher(patterns []string, top []byte) (*matcher, error) {
	m := &matcher{}
	for _, p := range patterns {
		if p == "" || !doublestar.ValidatePattern(p) {
			return nil, fmt.Errorf(`pattern %q: %w: not a glob; write \[ for a bracket, \{ for a brace`, p, ErrOptions)
		}
		if !strings.Contains(p, "/") {
			m.bases = append(m.bases, p)
			continue
		}
		full := strings.TrimPrefix(path.Clean(p), "/")
		g := glob{full, full}
		if !strings.HasPrefix(p, "/") && len(top) > 0 {
			g = glob{escape(string(top)) + "/" + full, string(top) + "/" + full}
		}
		if strings.ContainsAny(p, `*?[{\`) {
			m.globs = append(m.globs, g)
		} else {
			m.paths = append(m.paths, []byte(g.plain))
		}
	}
	return m, nil
}

// unmet holds the patterns that no entry has matched yet, each by itself.
type unmet []struct {
	pattern string
	*matcher
}

func newUnmet(patterns []string, top []byte) (unmet, error) {
	out := make(unmet, len(patterns))
	for i, p := range patterns {
		m, err := newMatcher(patterns[i:i+1], top)
		if err != nil {
			return nil, err
		}
		out[i].pattern, out[i].matcher = p, m
	}
	return out, nil
}

// see drops the patterns that a path matches.
func (u *unmet) see(p []byte) {
	for i := 0; i < len(*u); {
		if (*u)[i].match(p) {
			*u = slices.Delete(*u, i, i+1)
			continue
		}
		i++
	}
}

func (u unmet) String() string {
	var names []string
	for _, one := range u {
		names = append(names, one.pattern)
	}
	return strings.Join(names, ", ")
}

// Roots gives the paths of the catalog, of files or directories, outside of which
// nothing is selected, so that no more than these need be read (and, for their
// attributes, the directories that lead to them). It is false if Include does not say so.
func (o *Options) Roots() ([][]byte, bool) {
	m, err := newMatcher(o.Include, bytes.Trim(o.StripPrefix, "/"))
	if err != nil || len(m.paths) == 0 || len(m.globs)+len(m.bases) > 0 {
		return nil, false
	}
	return m.paths, true
}

// escape makes a path a glob that matches just it.
func escape(p string) string {
	var b strings.Builder
	for i := range len(p) {
		if strings.IndexByte(`*?[]{}\`, p[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func (m *matcher) empty() bool { return len(m.paths)+len(m.globs)+len(m.bases) == 0 }

func (m *matcher) match(p []byte) bool {
	for _, top := range m.paths {
		if catalog.Within(top, p) {
			return true
		}
	}
	if len(m.globs)+len(m.bases) == 0 {
		return false
	}
	whole := string(p)
	for _, g := range m.globs {
		if g.plain == whole || doublestar.MatchUnvalidated(g.pattern, whole) {
			return true
		}
	}
	base := whole[strings.LastIndexByte(whole, '/')+1:]
	for _, g := range m.bases {
		if g == base || doublestar.MatchUnvalidated(g, base) {
			return true
		}
	}
	return false
}
