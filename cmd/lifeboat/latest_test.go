package main

import (
	"os"
	"testing"
	"time"
)

// TestLatestAfterClockWasSetBack: the latest recovery point is the one that was taken
// last, whatever the clock said, for a restore, a reference and a drill.
func TestLatestAfterClockWasSetBack(t *testing.T) {
	l := newLab(t)
	l.write("file", "one")
	l.backup()
	l.clock = l.clock.Add(-5 * time.Hour)
	l.write("file", "second")
	l.backup()
	identity := []string{"--identity-file", l.kit()}
	for i, ref := range []string{"", "latest", "latest~1"} {
		to := l.path("out" + ref)
		args := append([]string{"restore", "files", "--to", to}, identity...)
		if ref != "" {
			args = append(args, "--snapshot", ref)
		}
		l.must(args...)
		want := []string{"second", "second", "one"}[i]
		if text, err := os.ReadFile(to + "/file"); err != nil || string(text) != want {
			t.Errorf("%q: %q, want %q, %v", ref, text, want, err)
		}
	}
	if d := l.must(append([]string{"drill", "run", "--workload", "files"}, identity...)...); d["snapshot_id"] != l.ids[1] {
		t.Errorf("the drill took %v of %v", d["snapshot_id"], l.ids)
	}
}
