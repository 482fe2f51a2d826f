package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packFiles are the data packs in a region's folder.
func (l *lab) packFiles(region string) []string {
	l.t.Helper()
	all, err := filepath.Glob(l.path(region + "/packs/*/d/*/*.tar"))
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// TestSyncNamesWhatStaysAway: a pack that is damaged in the one region that has it
// keeps its own recovery point back, and the exit code and the text say so.
func TestSyncNamesWhatStaysAway(t *testing.T) {
	l := newLab(t)
	if err := os.Mkdir(l.path("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.edit("paths: {state", "  - {name: other, kind: volume, volume: {paths: ["+l.path("other")+"]}}\npaths: {state")
	if err := os.Rename(l.path("b"), l.path("b-away")); err != nil {
		t.Fatal(err)
	}
	l.write("file", strings.Repeat("contents of files ", 1000))
	bad, _ := l.exits(ReplicationDegraded, "backup", "files")["snapshot_id"].(string)
	packs := l.packFiles("a")
	if err := os.WriteFile(l.path("other/file"), []byte(strings.Repeat("contents of other ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.exits(ReplicationDegraded, "backup", "other")
	if err := os.Rename(l.path("b-away"), l.path("b")); err != nil || len(packs) != 1 {
		t.Fatalf("%d packs, %v", len(packs), err)
	}
	data, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(packs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packs[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	l.fails(VerifyFailed, "1 recovery points could not be brought to every region", "replicate", "sync")
	if out := l.stdout.String() + l.stderr.String(); !strings.Contains(out, "held back "+bad[:8]) || !strings.Contains(out, bad[:8]) {
		t.Errorf("%s is not named: %s", bad, out)
	}
	for _, s := range list(l.must("snapshots"), "snapshots") {
		regions, _ := s["regions"].([]any)
		if (len(regions) == 2) != (s["workload"] == "other") {
			t.Errorf("%v is in %v", s["workload"], regions)
		}
	}
}

// setBack makes four recovery points in both regions, sets region b back to them after
// a fifth, and takes a sixth, which only region a has.
func (l *lab) setBack() {
	l.t.Helper()
	for _, name := range []string{"1", "2", "3", "4"} {
		l.write(name, strings.Repeat(name+" of many ", 1000))
		l.backup()
	}
	if err := os.CopyFS(l.path("b-old"), os.DirFS(l.path("b"))); err != nil {
		l.t.Fatal(err)
	}
	l.write("5", "five")
	l.backup()
	if err := errors.Join(os.RemoveAll(l.path("b")), os.Rename(l.path("b-old"), l.path("b"))); err != nil {
		l.t.Fatal(err)
	}
	l.write("6", "six")
	l.exits(ReplicationDegraded, "backup", "files")
}

// TestRegionBroughtUpToDateStandsAlone: a region went back in time and was brought
// up to date by another host. The statements of its own incarnation that it lost may
// not be copied there, and the newest recovery point, as the host that took it stated
// it, builds on one of them. The region restores it by itself all the same.
func TestRegionBroughtUpToDateStandsAlone(t *testing.T) {
	l := newLab(t)
	l.setBack()
	l.lose()
	l.configure("db2")
	l.must(l.enrol("--new")...)
	l.must("replicate", "sync")

	cold := []string{"--repo", "file://" + l.path("b"), "--identity-file", l.kit()}
	l.must(append([]string{"restore", "files", "--to", l.path("out")}, cold...)...)
	if text, err := os.ReadFile(l.path("out/6")); err != nil || string(text) != "six" {
		t.Errorf("%q, %v", text, err)
	}
	l.must(append([]string{"find", "6"}, cold...)...)
	l.must("drill", "run", "--workload", "files", "--region", "b", "--identity-file", l.kit())
}

// TestRegionBroughtUpToDateIsReused: the host was rebuilt and brought the region up to
// date itself. While the other region is away, its next backup re-uses what the region
// holds, without a warning and without listing packs.
func TestRegionBroughtUpToDateIsReused(t *testing.T) {
	l := newLab(t)
	l.setBack()
	l.lose()
	l.must(l.enrol()...)
	l.must("replicate", "sync")
	if err := errors.Join(os.Rename(l.path("a"), l.path("a-away")), os.RemoveAll(l.path("cache"))); err != nil {
		t.Fatal(err)
	}
	before := len(l.packFiles("b"))
	l.remove("2")
	l.write("2 again", strings.Repeat("2 of many ", 1000))
	if exit := l.run("backup", "files", "--require-regions", "1", "--json"); exit != 0 || strings.Contains(l.stdout.String()+l.stderr.String(), "closure_unreadable") {
		t.Errorf("exit %d: %s", exit, l.stdout.String())
	}
	if n := len(l.packFiles("b")); n != before {
		t.Errorf("%d data packs, before there were %d", n, before)
	}
}
