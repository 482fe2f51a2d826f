package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/storage/repo"
)

// snapshotRecord is one recovery point in a listing.
type snapshotRecord struct {
	ID            string    `json:"id"`
	Workload      string    `json:"workload"`
	Kind          string    `json:"kind"`
	Host          string    `json:"host"`
	RecoveryPoint time.Time `json:"recovery_point_at"`
	SeenAt        time.Time `json:"seen_at,omitzero"` // by a region's clock
	SizeBytes     uint64    `json:"size_bytes"`
	NewBytes      uint64    `json:"new_bytes"`
	FetchBytes    uint64    `json:"fetch_bytes"`
	Entries       uint64    `json:"entries"`
	Incomplete    uint64    `json:"incomplete,omitempty"` // items not captured as they were
	Regions       []string  `json:"regions"`
	Verified      string    `json:"verified"` // readable, or drilled
	DrilledAt     time.Time `json:"drilled_at,omitzero"`
	Roots         []string  `json:"roots"`
	Tags          []string  `json:"tags,omitempty"`
	Parent        string    `json:"parent_id,omitempty"`
}

type snapshotsFlags struct {
	since, until string
	last         int
	tags         []string
	drilled      bool
}

func (a *app) snapshotsCommand() *cobra.Command {
	var f snapshotsFlags
	c := &cobra.Command{
		Use: "snapshots [WORKLOAD…]", Short: "List recovery points",
		Example:           "  lifeboat snapshots\n  lifeboat snapshots files --last 4\n  lifeboat snapshots --repo file:///mnt/dr --identity-file kit.txt",
		ValidArgsFunction: a.completeWorkloads,
	}
	c.Flags().StringVar(&f.since, "since", "", "only points at or after this time")
	c.Flags().StringVar(&f.until, "until", "", "only points at or before this time")
	c.Flags().IntVar(&f.last, "last", 0, "only the newest N of each workload")
	c.Flags().StringArrayVar(&f.tags, "tag", nil, "only points with this KEY=VALUE; repeatable")
	c.Flags().BoolVar(&f.drilled, "verified", false, "only points that a drill has proved")
	return a.lists(a.handle(c, func(ctx context.Context, args []string) (any, bool, error) { return a.snapshots(ctx, args, f) }))
}

func (a *app) snapshots(ctx context.Context, names []string, f snapshotsFlags) (any, bool, error) {
	r, _, err := a.openRepo(ctx, access{names: true, region: true})
	if err != nil {
		return nil, false, err
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, false, err
	}
	if f.last < 0 {
		return nil, false, &Fail{Code: Usage, Message: "--last must not be negative", Hint: "such as --last 4"}
	}
	keep, err := a.snapshotFilter(names, f)
	if err != nil {
		return nil, false, err
	}
	drilled := drilledPoints(r)
	var list []snapshotRecord
	for _, s := range all {
		rec := recordOf(s, drilled)
		if keep(rec) {
			list = append(list, rec)
		}
	}
	list = lastOf(list, f.last)
	name, places := 8, 7 // at least the titles
	for _, s := range list {
		name, places = max(name, len(s.Workload)), max(places, len(strings.Join(s.Regions, " ")))
	}
	out := a.records("snapshots", column{title: "ID", width: 8}, column{title: "WORKLOAD", width: name}, column{title: "TIME", width: 19}, column{title: "AGE", width: 6},
		column{title: "SIZE", width: 9, right: true}, column{title: "NEW", width: 9, right: true}, column{title: "REGIONS", width: places}, column{title: "VERIFIED"})
	p := a.page(a.stdout)
	for _, s := range list {
		err := out.add(s, s.ID, s.ID[:8], s.Workload, p.time(s.RecoveryPoint), p.ago(s.RecoveryPoint), p.size(int64(s.SizeBytes)), p.size(int64(s.NewBytes)), strings.Join(s.Regions, " "), s.verifiedText(p))
		if err != nil {
			return nil, false, err
		}
	}
	if len(names) > 0 && len(list) == 0 {
		_, err = ofWorkload(all, names[0])
	}
	return nil, false, err
}

func (s snapshotRecord) verifiedText(p *page) string {
	text := s.Verified
	if s.Incomplete > 0 {
		text += fmt.Sprintf(", %d items incomplete", s.Incomplete)
	}
	return text
}

func recordOf(s repo.Snapshot, drilled map[string]time.Time) snapshotRecord {
	rec := snapshotRecord{ID: s.Summary.ID, Workload: s.Workload, Kind: s.Kind, Host: s.Host, RecoveryPoint: s.Start, SeenAt: s.Seen,
		SizeBytes: s.Stats.Bytes, NewBytes: s.Stats.BytesStored, FetchBytes: s.FetchBytes, Entries: s.Entries, Incomplete: s.Stats.Incomplete(),
		Regions: s.Regions, Verified: "readable", Roots: s.Roots, Tags: s.Tags, Parent: s.Summary.Parent}
	if at, ok := drilled[s.Summary.ID]; ok {
		rec.Verified, rec.DrilledAt = "drilled", at
	}
	return rec
}

func (a *app) snapshotFilter(names []string, f snapshotsFlags) (func(snapshotRecord) bool, error) {
	var since, until time.Time
	for _, b := range []struct {
		text string
		to   *time.Time
	}{{f.since, &since}, {f.until, &until}} {
		if b.text == "" {
			continue
		}
		t, err := a.parseTime(b.text)
		if err != nil {
			return nil, err
		}
		*b.to = t
	}
	return func(s snapshotRecord) bool {
		switch {
		case len(names) > 0 && !slices.Contains(names, s.Workload),
			!since.IsZero() && s.RecoveryPoint.Before(since),
			!until.IsZero() && s.RecoveryPoint.After(until),
			f.drilled && s.Verified != "drilled":
			return false
		}
		return !slices.ContainsFunc(f.tags, func(t string) bool { return !slices.Contains(s.Tags, t) })
	}, nil
}

func lastOf(list []snapshotRecord, n int) []snapshotRecord {
	if n <= 0 {
		return list
	}
	left := map[string]int{}
	var out []snapshotRecord
	for _, s := range slices.Backward(list) {
		if left[s.Workload]++; left[s.Workload] <= n {
			out = append(out, s)
		}
	}
	slices.Reverse(out)
	return out
}
