package main

import (
	"time"

	"lifeboat/restore/drill"
	"lifeboat/storage/repo"
)

// reports opens the drill reports that the journals hold, oldest first.
func reports(r *repo.Repo) []drill.Report {
	var out []drill.Report
	for _, rec := range r.Drills() {
		rep, err := drill.ParseReport(rec.Report)
		if err == nil {
			out = append(out, rep)
		}
	}
	return out
}

// drilledPoints says when each snapshot was last proved by a drill that passed.
// A drill of an incomplete snapshot proves only what is in it.
func drilledPoints(r *repo.Repo) map[string]time.Time {
	out := map[string]time.Time{}
	for _, rep := range reports(r) {
		if rep.Outcome == drill.Passed || rep.Outcome == drill.MissedObjective {
			out[rep.Snapshot] = rep.FinishedAt
		}
	}
	return out
}
