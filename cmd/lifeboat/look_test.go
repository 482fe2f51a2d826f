package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"lifeboat/snapshot/catalog"
)

// TestCatLeavesNoHalves: what cat --out could not write to its end is not there,
// so that the same command can be run again.
func TestCatLeavesNoHalves(t *testing.T) {
	l := newLab(t)
	l.write("file", "contents")
	l.must("backup", "files")
	for _, region := range []string{"a", "b"} {
		if err := os.Rename(l.path(region+"/packs"), l.path(region+"-packs")); err != nil {
			t.Fatal(err)
		}
	}
	cat := []string{"cat", "files@latest:" + l.src + "/file", "--out", l.path("out"), "--identity-file", l.kit()}
	if l.run(cat...) == 0 {
		t.Error("without packs cat should fail")
	}
	if _, err := os.Lstat(l.path("out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file is there: %v", err)
	}
	for _, region := range []string{"a", "b"} {
		if err := os.Rename(l.path(region+"-packs"), l.path(region+"/packs")); err != nil {
			t.Fatal(err)
		}
	}
	l.must(cat...)
	if got, _ := os.ReadFile(l.path("out")); string(got) != "contents" {
		t.Errorf("%q", got)
	}
}

// TestPathBytes: the bytes of a path that is not UTF-8 are those of the path, slash and all.
func TestPathBytes(t *testing.T) {
	e := entryOf(&catalog.Entry{Path: []byte("srv/\xff")})
	if e.Path != "/srv/\uFFFD" || string(e.RawPath) != "/srv/\xff" {
		t.Errorf("%q %q", e.Path, e.RawPath)
	}
}

// TestListsLineUp: on a terminal, titles stand over what they are of.
func TestListsLineUp(t *testing.T) {
	l := newLab(t)
	l.write("file", "contents")
	l.must("backup", "files")
	l.tty = true
	for title, args := range map[string][]string{"REGIONS": {"snapshots"}, "PATH": {"ls", "files", "-l"}} {
		l.run(args...)
		lines := strings.Split(l.stdout.String(), "\n")
		at := strings.Index(lines[0], title)
		if want := map[string]string{"REGIONS": "a b", "PATH": "/"}[title]; at < 0 || !strings.HasPrefix(lines[1][at:], want) {
			t.Errorf("%q:\n%s", args, l.stdout.String())
		}
	}
}
