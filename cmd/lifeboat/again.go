package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"lifeboat/config"
	"lifeboat/storage/repo"
)

const (
	runIDTag = "run-id=" // a snapshot's tag that says by which run it was asked for
	runIDMax = 200       // bytes of an id that is kept with snapshots
)

// checkRunID refuses what cannot be kept as a tag.
func checkRunID(id string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }
	if len(id) > runIDMax || strings.ContainsFunc(id, bad) {
		return &Fail{Code: Usage, Message: fmt.Sprintf("--run-id %.40q cannot be kept with a snapshot", id), Hint: fmt.Sprintf("give up to %d printable characters without spaces", runIDMax)}
	}
	return nil
}

// snapshotTags are what is kept with the snapshots of this run.
func (f backupFlags) snapshotTags() []string {
	if f.runID == "" {
		return f.tags
	}
	return append(slices.Clone(f.tags), runIDTag+f.runID)
}

// committedBefore finds, for each workload, the snapshot that this host took when
// the same --run-id was used before. Those without one are left to be backed up.
func (b *backupRun) committedBefore(ctx context.Context, ws []*config.Workload) (left []*config.Workload, errs []error) {
	if b.flags.runID == "" {
		return ws, nil
	}
	all, err := b.r.Snapshots(ctx)
	if err != nil {
		return nil, []error{err}
	}
	st, err := repo.LoadState(b.a.stateDir())
	if err != nil {
		return nil, []error{err}
	}
	for _, w := range ws {
		i := slices.IndexFunc(all, func(s repo.Snapshot) bool {
			return s.Workload == w.Name && s.Summary.Origin == st.Writer() && slices.Contains(s.Tags, runIDTag+b.flags.runID)
		})
		if i < 0 {
			left = append(left, w)
			continue
		}
		s := all[i]
		b.data.Workloads = append(b.data.Workloads, backupOne{Workload: w.Name, Kind: s.Kind, Snapshot: s.Summary.ID, Parent: s.Summary.Parent,
			RecoveryPoint: s.Start, Stats: &s.Stats, Before: b.flags.runID})
		errs = append(errs, b.outcomeBefore(s))
	}
	return left, errs
}

// outcomeBefore is what the run that took a snapshot would say today.
func (b *backupRun) outcomeBefore(s repo.Snapshot) error {
	if n := len(s.Regions); n < b.data.Required {
		return &Fail{Code: ReplicationDegraded, Message: fmt.Sprintf("%s: snapshot %.8s of this run is in %d regions, %d are required", s.Workload, s.Summary.ID, n, b.data.Required),
			Hint: "when the region is back, run: lifeboat replicate sync", Err: repo.ErrTooFewRegions}
	}
	if n := s.Stats.Incomplete(); n > 0 {
		return &Fail{Code: Partial, Message: fmt.Sprintf("%s: %d items of snapshot %.8s could not be read as they were", s.Workload, n, s.Summary.ID), Hint: "use another --run-id to back up again"}
	}
	return nil
}
