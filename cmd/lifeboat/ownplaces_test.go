package main

import (
	"os"
	"slices"
	"testing"
)

// A region that lies in the source is left out also when it is configured by a
// symlink that leads there.
func TestRegionInsideSourceBySymlink(t *testing.T) {
	l := newLab(t)
	inside := l.path("src/region")
	if err := os.Rename(l.path("b"), inside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(inside, l.path("b")); err != nil {
		t.Fatal(err)
	}
	l.write("file", "contents")
	l.must("backup", "files")
	var paths []string
	for _, e := range list(l.must("ls", "files@latest", "-R"), "entries") {
		path, _ := e["path"].(string)
		paths = append(paths, path)
	}
	if slices.Contains(paths, inside) || !slices.Contains(paths, l.path("src/file")) {
		t.Errorf("the snapshot holds %q", paths)
	}
}
