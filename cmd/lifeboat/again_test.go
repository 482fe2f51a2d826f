package main

import (
	"os"
	"strings"
	"testing"
)

// TestBackupTwiceByOneRun: automation that tries again gets the first result.
func TestBackupTwiceByOneRun(t *testing.T) {
	l := newLab(t)
	l.write("file", "one")
	first := l.must("backup", "files", "--run-id", "change-1")
	l.write("file", "two")
	again := l.must("backup", "files", "--run-id", "change-1")
	if again["snapshot_id"] != first["snapshot_id"] || again["recovery_point_at"] != first["recovery_point_at"] || again["committed_before_by_run"] != "change-1" || first["committed_before_by_run"] != nil {
		t.Errorf("%v, then %v", first, again)
	}
	if l.run("backup", "files", "--run-id", "change-1", "--json") != 0 || l.document(t)["changed"] != false {
		t.Error("the second run says that it changed something")
	}
	if l.run("backup", "files", "--run-id", "change-1") != 0 || !strings.Contains(l.stdout.String(), "by run change-1 before; nothing was done") {
		t.Errorf("not said: %s", l.stdout.String())
	}
	if n := len(list(l.must("snapshots"), "snapshots")); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	// Another id, and none, take another snapshot; of several workloads only what is left.
	second := l.must("backup", "files", "--run-id", "change-2")
	if second["snapshot_id"] == first["snapshot_id"] {
		t.Errorf("%v", second)
	}
	l.must("backup", "files")
	if err := os.Mkdir(l.path("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.edit("paths: {state", "  - {name: other, kind: volume, volume: {paths: ["+l.path("other")+"]}}\npaths: {state")
	both := list(l.must("backup", "--all", "--run-id", "change-2"), "workloads")
	if len(both) != 2 {
		t.Fatalf("%v", both)
	}
	for _, row := range both {
		switch {
		case row["workload"] == "files" && row["snapshot_id"] == second["snapshot_id"]:
		case row["workload"] == "other" && row["snapshot_id"] != nil && row["snapshot_id"] != second["snapshot_id"] && row["committed_before_by_run"] == nil:
		default:
			t.Errorf("%v", row)
		}
	}
	if n := len(list(l.must("snapshots"), "snapshots")); n != 4 {
		t.Errorf("%d snapshots", n)
	}
	l.fails(Usage, "cannot be kept", "backup", "files", "--run-id", "with space")
}

// TestBackupTwiceByOneRunStaysHonest: what was not enough at first is not success later.
func TestBackupTwiceByOneRunStaysHonest(t *testing.T) {
	l := newLab(t)
	l.write("file", "one")
	if err := os.Rename(l.path("b"), l.path("b-away")); err != nil {
		t.Fatal(err)
	}
	first := l.exits(ReplicationDegraded, "backup", "files", "--run-id", "x")
	if err := os.Rename(l.path("b-away"), l.path("b")); err != nil {
		t.Fatal(err)
	}
	if again := l.exits(ReplicationDegraded, "backup", "files", "--run-id", "x"); again["snapshot_id"] != first["snapshot_id"] {
		t.Errorf("%v, then %v", first, again)
	}
	l.must("replicate", "sync")
	l.must("backup", "files", "--run-id", "x")
}
