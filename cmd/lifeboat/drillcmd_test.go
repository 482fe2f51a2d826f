package main

import (
	"os"
	"strings"
	"testing"
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
	l.fails(ObjectiveMissed, "nothing was restored", "status", "--check")
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
