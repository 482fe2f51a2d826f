package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// edit changes the configuration.
func (l *lab) edit(old, replacement string) {
	l.t.Helper()
	text, err := os.ReadFile(l.path("lifeboat.yaml"))
	if err != nil {
		l.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		l.t.Fatalf("the configuration holds no %q", old)
	}
	if err := os.WriteFile(l.path("lifeboat.yaml"), []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// TestDrillOfNothing: a restore of no files proves nothing, unless the workload
// may be empty.
func TestDrillOfNothing(t *testing.T) {
	l := newLab(t)
	l.must("backup", "files")
	drill := []string{"drill", "run", "--identity-file", l.kit()}
	if d := l.exits(VerifyFailed, drill...); d["outcome"] != "failed" || d["empty"] != true {
		t.Errorf("%v", d)
	}
	l.fails(VerifyFailed, "nothing was restored: the snapshot holds no files", drill...)
	if out := l.stdout.String(); strings.Contains(out, "PASSED") || !strings.Contains(out, "FAILED") {
		t.Errorf("shown as %s", out)
	}
	l.fails(ObjectiveMissed, "restored nothing", "status", "--check")
	l.edit("kind: volume,", "kind: volume, allow_empty: true,")
	if d := l.must(drill...); d["outcome"] != "passed" {
		t.Errorf("%v", d)
	}
	l.must("status", "--check")
	l.edit("allow_empty: true,", "")
	l.write("file", "one")
	l.must("backup", "files")
	if d := l.must(drill...); d["outcome"] != "passed" {
		t.Errorf("%v", d)
	}
}

// TestDrillInsideTheSource: when all of the host is one workload, the sandbox lies
// in it. In the state folder, or excluded, no backup sees it.
func TestDrillInsideTheSource(t *testing.T) {
	l := newLab(t)
	l.write("file", "one")
	l.must("backup", "files")
	drill := []string{"drill", "run", "--identity-file", l.kit()}
	elsewhere := append(slices.Clone(drill), "--sandbox", l.path("src/room"))
	l.fails(VerifyFailed, "unusable target", elsewhere...)
	l.edit("paths: [", `exclude: ["`+l.path("src/room")+`"], paths: [`)
	if d := l.must(elsewhere...); d["outcome"] != "passed" {
		t.Errorf("excluded: %v", d)
	}
	l.edit(l.path("state"), l.path("src/state"))
	if err := os.Rename(l.path("state"), l.path("src/state")); err != nil {
		t.Fatal(err)
	}
	if d := l.must(drill...); d["outcome"] != "passed" {
		t.Errorf("in the state folder: %v", d)
	}
}

// TestStatusDoubtsClocks: what was dated by a clock that ran ahead keeps nothing green.
func TestStatusDoubtsClocks(t *testing.T) {
	l := newLab(t)
	l.write("file", "one")
	honest := l.clock
	l.must("backup", "files")
	l.clock = honest.AddDate(1, 0, 0)
	l.must("drill", "run", "--identity-file", l.kit())
	l.clock = honest.Add(time.Hour)
	l.fails(ReplicationDegraded, "a clock is or was wrong", "status", "--check")
	l.must("drill", "run", "--identity-file", l.kit())
	l.fails(ReplicationDegraded, "a drill is dated", "status", "--check")

	fresh := newLab(t)
	fresh.write("file", "one")
	honest = fresh.clock
	fresh.clock = honest.AddDate(1, 0, 0)
	fresh.must("backup", "files")
	fresh.clock = honest.Add(time.Hour)
	fresh.fails(Failed, "their age cannot be told", "status", "--check")
}
