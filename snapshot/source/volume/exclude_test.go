//go:build linux

package volume

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

func TestMatcher(t *testing.T) {
	for _, tt := range []struct {
		glob, path string
		dir, want  bool
	}{
		{"core", "/a/core", false, true},
		{"core", "/a/core.1", false, false},
		{"core.*", "/a/core.1", false, true},
		{"*.o", "/a/b.o", false, true},
		{"*.o", "/a.o/b", false, false}, // the directory a.o is what matches
		{"*.[oa]", "/x/lib.a", false, true},
		{"*.{log,tmp}", "/x/y.tmp", false, true},
		{"?", "/x/\xff", false, true},
		{"*~", "/x/caf\xe9~", false, true},
		{"/var/cache", "/var/cache", true, true},
		{"/var/cache", "/srv/var/cache", true, false},
		{"/var/cache/", "/var/cache", true, true},
		{"/var/cache/", "/var/cache", false, false},
		{"/var/*/x", "/var/a/x", false, true},
		{"/var/*/x", "/var/a/b/x", false, false},
		{"/var/**/x", "/var/a/b/x", false, true},
		{"/var/**/x", "/var/x", false, true},
		{"/home/*/.cache/**", "/home/me/.cache/a/b", false, true},
		{"**/node_modules", "/a/b/node_modules", true, true},
		{"**/node_modules", "/node_modules", true, true},
		{"a/b", "/x/a/b", false, true},
		{"a/b", "/a/b", false, true},
		{"a/b", "/xa/b", false, false},
		{`\!x`, "/a/!x", false, true},
		{`\*`, "/a/*", false, true},
		{`\*`, "/a/b", false, false},
		{"new\nline", "/a/new\nline", false, true},
	} {
		m, err := newMatcher([]string{tt.glob})
		must(t, err)
		name := tt.path[strings.LastIndexByte(tt.path, '/')+1:]
		if got := m.match([]byte(tt.path), []byte(name), tt.dir); got != tt.want {
			t.Errorf("%q on %q: %v", tt.glob, tt.path, got)
		}
	}
	if _, err := newMatcher(make([]string, excludesMax+1)); err == nil {
		t.Error("no limit on globs")
	}
}

// FuzzMatcher holds the short cuts against the plain meaning.
func FuzzMatcher(f *testing.F) {
	f.Add("*.o", "/a/b.o")
	f.Add("/a/**/b", "/a/x/b")
	f.Add("a*b/c?", "/a1b/cc")
	f.Add("x*", "/x")
	f.Fuzz(func(t *testing.T, glob, path string) {
		if len(glob) > 64 || len(path) > 256 || !strings.HasPrefix(path, "/") || strings.HasSuffix(glob, "/") ||
			strings.ContainsRune(glob, utf8.RuneError) { // which doublestar takes for any odd byte
			return
		}
		m, err := newMatcher([]string{glob})
		if err != nil {
			return
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		var want bool
		switch {
		case !strings.Contains(glob, "/"):
			want, _ = doublestar.Match(glob, name)
		case glob[0] == '/':
			want, _ = doublestar.Match(glob, path)
		default:
			want, _ = doublestar.Match("/**/"+glob, path)
		}
		if got := m.match([]byte(path), []byte(name), false); got != want {
			t.Errorf("%q on %q: %v, want %v", glob, path, got, want)
		}
	})
}
