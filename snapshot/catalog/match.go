package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// A Matcher tells whether paths match a glob. It does not change after it is
// made: any number of goroutines may use one.
type Matcher struct {
	glob string // as carry gives it
	base bool   // no slash in it: match the last element only
}

// NewMatcher makes a matcher of a glob: * and ? within an element, ** across
// elements, [a-z] and [^a-z] classes, {one,two} alternatives, \ before a byte that is
// meant literally. A glob with a slash in front is matched against the whole
// path; any other may begin at any element of the path, so that "*.pdf" finds
// files by name. Any bytes may stand in glob and path: one that is no UTF-8 counts
// as one character.
func NewMatcher(glob string) (*Matcher, error) {
	if !doublestar.ValidatePattern(carry(glob)) {
		return nil, fmt.Errorf("glob %q: %w", glob, doublestar.ErrBadPattern)
	}
	m := &Matcher{glob: carry(glob), base: !strings.Contains(glob, "/")}
	if rest, anchored := strings.CutPrefix(m.glob, "/"); anchored {
		m.glob = rest
	} else if !m.base {
		m.glob = "**/" + m.glob
	}
	return m, nil
}

// Match says whether a path of the catalog (no slash in front) matches.
func (m *Matcher) Match(path []byte) bool {
	if m.base {
		path = path[bytes.LastIndexByte(path, '/')+1:]
	}
	return doublestar.MatchUnvalidated(m.glob, carry(string(path)))
}

// Match says whether a path matches a glob; see NewMatcher, which is better for many paths.
func Match(glob string, path []byte) (bool, error) {
	m, err := NewMatcher(glob)
	if err != nil {
		return false, err
	}
	return m.Match(path), nil
}

// carrier begins the code points that carry single bytes: the last 256 there are,
// which are nobody's.
const carrier = 0x10ff00

// carry makes a string UTF-8 without making unlike strings alike: a byte that is
// not part of UTF-8 becomes a code point of its own, and so do the bytes of a
// code point that is used for this.
func carry(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\xf4\x8f\xbc") && !strings.Contains(s, "\xf4\x8f\xbd") &&
		!strings.Contains(s, "\xf4\x8f\xbe") && !strings.Contains(s, "\xf4\x8f\xbf") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r >= carrier {
			for _, c := range []byte(s[i : i+size]) {
				b.WriteRune(carrier + rune(c))
			}
		} else {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}
