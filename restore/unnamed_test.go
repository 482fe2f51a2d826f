package restore

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways show nothing before the name is given, and take no name that exists.
func TestUnnamed(t *testing.T) {
	for what, u := range map[string]unnamed{"by descriptor": nameByFD, "by path": nameByPath} {
		t.Run(what, func(t *testing.T) {
			if u == nameByFD && os.Geteuid() != 0 {
				u = nameByPath // may need a privilege; the probe finds out
			}
			dir := t.TempDir()
			d, err := unix.Open(dir, openDir, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(d)
			fd, err := openUnnamed(d)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := writeAll(fd, []byte("whole"), 0); err != nil {
				t.Fatal(err)
			}
			if all, _ := os.ReadDir(dir); len(all) != 0 {
				t.Errorf("%v is visible", all)
			}
			if err := u.name(fd, d, "a"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a")); string(got) != "whole" {
				t.Errorf("read %q, %v", got, err)
			}
			if err := u.name(fd, d, "a"); err != unix.EEXIST {
				t.Errorf("a second file of that name: %v", err)
			}
		})
	}
}

func TestProbeUnnamed(t *testing.T) {
	dir := t.TempDir()
	d, err := unix.Open(dir, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(d)
	r := &run{tag: tempPrefix + "0000000000000000"}
	if r.probeUnnamed(d) == cannotName {
		t.Error("not here, where temporary files are")
	}
	if all, _ := os.ReadDir(dir); len(all) != 0 {
		t.Errorf("the probe left %v", all)
	}
	proc, err := unix.Open("/proc", openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	if u := r.probeUnnamed(proc); u != cannotName {
		t.Errorf("found way %d in a file system that makes no files", u)
	}
}
