package volume

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/bmatcuk/doublestar/v4"
)

const excludesMax = 10_000 // globs; each general one is tried on every name

// matcher is a compiled list of exclude globs.
type matcher struct {
	any  rules // for every object
	dirs rules // for directories only
}

// rules sorts globs by how cheaply they are tried.
type rules struct {
	names    map[string]struct{} // whole names without a wildcard
	ends     []string            // of names: from "*.o"
	starts   []string            // of names: from "core.*"
	bases    []string            // other globs for names
	paths    map[string]struct{} // absolute paths without a wildcard
	anchored []anchored
}

// anchored is a glob for absolute paths.
type anchored struct {
	start string // what a matching path begins with, without wildcards
	glob  string
}

// newMatcher compiles globs; the error joins all that are malformed.
func newMatcher(globs []string) (*matcher, error) {
	if len(globs) > excludesMax {
		return nil, fmt.Errorf("exclude: %d globs, more than %d", len(globs), excludesMax)
	}
	m := &matcher{any: newRules(), dirs: newRules()}
	var errs []error
	for _, glob := range globs {
		if err := m.add(glob); err != nil {
			errs = append(errs, fmt.Errorf("exclude %q: %w", glob, err))
		}
	}
	return m, errors.Join(errs...)
}

func newRules() rules {
	return rules{names: map[string]struct{}{}, paths: map[string]struct{}{}}
}

func (m *matcher) add(glob string) error {
	r := &m.any
	body := glob
	if trimmed := strings.TrimRight(glob, "/"); trimmed != glob {
		r, body = &m.dirs, trimmed
	}
	switch {
	case body == "" || body == "**" || body == "/**":
		return errors.New("matches everything, or nothing")
	case body[0] == '!':
		return errors.New(`negation is not supported; write \! for a name that begins with one`)
	case !utf8.ValidString(body): // in which one odd byte would match any other
		return errors.New("not UTF-8; write ? for a byte that is not")
	case !doublestar.ValidatePattern(body):
		return errors.New("malformed glob")
	}
	if !strings.Contains(body, "/") {
		r.addBase(body)
		return nil
	}
	if body[0] != '/' {
		body = "/**/" + body
	}
	if cut := strings.IndexAny(body, wildcards); cut < 0 {
		r.paths[body] = struct{}{}
	} else {
		r.anchored = append(r.anchored, anchored{start: strings.TrimRight(body[:cut], "/"), glob: body})
	}
	return nil
}

const wildcards = `*?[{\`

func (r *rules) addBase(glob string) {
	switch {
	case !strings.ContainsAny(glob, wildcards):
		r.names[glob] = struct{}{}
	case glob[0] == '*' && !strings.ContainsAny(glob[1:], wildcards):
		r.ends = append(r.ends, glob[1:])
	case glob[len(glob)-1] == '*' && !strings.ContainsAny(glob[:len(glob)-1], wildcards):
		r.starts = append(r.starts, glob[:len(glob)-1])
	default:
		r.bases = append(r.bases, glob)
	}
}

// needsPath tells whether any glob looks at more than the last element.
func (m *matcher) needsPath() bool { return m.any.needsPath() || m.dirs.needsPath() }

func (r *rules) needsPath() bool { return len(r.paths) > 0 || len(r.anchored) > 0 }

// match tries the globs. path is the absolute path that ends in name; it may be
// empty when needsPath says no.
func (m *matcher) match(path, name []byte, isDir bool) bool {
	// Neither string outlives the call, and nobody writes to the bytes during it.
	p, n := unsafe.String(unsafe.SliceData(path), len(path)), unsafe.String(unsafe.SliceData(name), len(name))
	return m.any.match(p, n) || isDir && m.dirs.match(p, n)
}

func (r *rules) match(path, name string) bool {
	if _, ok := r.names[name]; ok {
		return true
	}
	for _, end := range r.ends {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	for _, start := range r.starts {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	for _, glob := range r.bases {
		if doublestar.MatchUnvalidated(glob, name) {
			return true
		}
	}
	if _, ok := r.paths[path]; ok {
		return true
	}
	for i := range r.anchored {
		if a := &r.anchored[i]; strings.HasPrefix(path, a.start) && doublestar.MatchUnvalidated(a.glob, path) {
			return true
		}
	}
	return false
}
