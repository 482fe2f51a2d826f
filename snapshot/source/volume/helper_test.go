//go:build linux

package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t testing.TB, path, contents string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told collects events as lines.
type told struct{ lines []string }

func (e *told) events(base string) Events {
	rel := func(p []byte) string {
		r, err := filepath.Rel(base, "/"+string(p))
		if err != nil {
			r = string(p)
		}
		return r
	}
	note := func(kind string) func([]byte) {
		return func(p []byte) { e.lines = append(e.lines, kind+" "+rel(p)) }
	}
	return Events{
		Unreadable: func(p []byte, err error) { e.lines = append(e.lines, fmt.Sprintf("unreadable %s: %v", rel(p), err)) },
		Excluded:   note("excluded"), Socket: note("socket"), Mount: note("mount"), Vanished: note("vanished"),
	}
}

// paths walks and gives the paths relative to base.
func paths(t testing.TB, v *Volume, base string) []string {
	t.Helper()
	var got []string
	err := v.Walk(t.Context(), func(s *Stat) error {
		rel, err := filepath.Rel(base, "/"+string(s.Path))
		got = append(got, rel)
		return err
	})
	must(t, err)
	return got
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func open(t testing.TB, opts Options) *Volume {
	t.Helper()
	v, err := New(opts)
	must(t, err)
	return v
}
