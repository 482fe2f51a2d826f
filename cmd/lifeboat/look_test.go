package main

import (
	"errors"
	"io/fs"
	"os"
	"testing"
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
