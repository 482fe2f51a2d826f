package main

import (
	"testing"
	"time"

	"lifeboat/storage/repo"
)

// A point in time means the latest recovery point up to it by the times that are
// shown, in whatever order the snapshots were taken.
func TestUpTo(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC) }
	var all []repo.Snapshot
	for id, hour := range map[string]int{"a": 10, "b": 2, "c": 3, "d": 12} { // after a the clock was set back
		all = append(all, repo.Snapshot{Summary: repo.Summary{ID: id, Start: at(hour)}})
	}
	for hour, want := range map[int]string{1: "", 2: "b", 9: "c", 10: "a", 11: "a", 13: "d"} {
		got := ""
		if s := upTo(all, at(hour)); s != nil {
			got = s.Summary.ID
		}
		if got != want {
			t.Errorf("up to %d o'clock: %q, want %q", hour, got, want)
		}
	}
}
