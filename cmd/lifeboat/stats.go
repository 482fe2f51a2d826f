package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

func (a *app) statsCommand() *cobra.Command {
	var by string
	c := &cobra.Command{
		Use: "stats [WORKLOAD]", Short: "Show stored, new and deduplicated bytes", Args: cobra.MaximumNArgs(1),
		Long: "Show how much is protected and what it takes. No region's packs are listed: the numbers come from the\n" +
			"snapshots themselves and from the local index.\n\n" +
			"  logical  what all recovery points together would be as plain copies; latest: the newest point alone\n" +
			"  unique   plain bytes that had to be stored; dedup is the share of the logical ones that had not\n" +
			"  stored   bytes after compression and encryption, in one region; saved is the share of the unique ones\n" +
			"           that compression took away",
		Example:           "  lifeboat stats\n  lifeboat stats files --by region\n  lifeboat stats --json",
		ValidArgsFunction: a.completeWorkloads,
	}
	c.Flags().StringVar(&by, "by", "workload", "group by workload, region, kind or snapshot")
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(statsGroups(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		if !slices.Contains(statsGroups(), by) {
			hint := "give one of " + strings.Join(statsGroups(), ", ")
			if s := config.Suggest(by, statsGroups()); s != "" {
				hint = fmt.Sprintf("did you mean %q?", s)
			}
			return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("cannot group by %q", by), Hint: hint}
		}
		return a.stats(ctx, strings.Join(args, ""), by)
	})
}

func statsGroups() []string { return []string{"workload", "region", "kind", "snapshot"} }

// statsSizes is how much something is. Ratios are shares: 0.9 is nine tenths
// saved.
type statsSizes struct {
	Snapshots   int     `json:"snapshots"`
	Logical     uint64  `json:"logical_bytes"`
	Latest      uint64  `json:"latest_bytes"`
	Unique      uint64  `json:"unique_bytes"`
	Stored      uint64  `json:"stored_bytes"`
	Dedup       float64 `json:"dedup_ratio"`
	Compression float64 `json:"compression_ratio"`

	latest map[string]uint64 // by workload
}

func (s *statsSizes) add(sn *repo.Snapshot) {
	s.Snapshots++
	s.Logical += sn.Stats.Bytes
	s.Unique += sn.Stats.BytesNew
	s.Stored += sn.Stats.BytesStored
	if s.latest == nil {
		s.latest = map[string]uint64{}
	}
	s.latest[sn.Workload] = sn.Stats.Bytes // they come in order of time
}

func (s *statsSizes) finish() {
	s.Latest = 0
	for _, n := range s.latest {
		s.Latest += n
	}
	s.Dedup, s.Compression = saved(s.Unique, s.Logical), saved(s.Stored, s.Unique)
}

// saved is the share of all that is not left.
func saved(left, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return max(0, 1-float64(left)/float64(all))
}

// statsRow is one group.
type statsRow struct {
	Name       string `json:"name"`
	Workload   string `json:"workload,omitempty"`            // of a snapshot
	RecoveryAt string `json:"recovery_point_at,omitempty"`   // of a snapshot
	FetchBytes uint64 `json:"fetch_bytes,omitempty"`         // of a snapshot: what a restore downloads
	Behind     int    `json:"snapshots_not_shown,omitempty"` // of a region
	Unknown    int    `json:"packs_not_in_index,omitempty"`  // of a region: their size is not known
	Error      string `json:"error,omitempty"`               // of a region that does not take part
	statsSizes
}

// statsData is the result of stats.
type statsData struct {
	Workload string `json:"workload,omitempty"`
	statsSizes
	// Packs counts all packs of the repository in the local index; Data and Meta are
	// their sizes. Not with a workload: workloads share packs.
	Packs   int        `json:"packs,omitempty"`
	Data    uint64     `json:"data_stored_bytes,omitempty"`
	Meta    uint64     `json:"metadata_stored_bytes,omitempty"`
	Grouped string     `json:"grouped_by"`
	By      []statsRow `json:"by"`
}

func (a *app) stats(ctx context.Context, workload, by string) (any, bool, error) {
	r, _, err := a.openRepo(ctx, access{names: true, region: true})
	if err != nil {
		return nil, false, err
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, false, err
	}
	if workload != "" {
		if all, err = ofWorkload(all, workload); err != nil {
			return nil, false, err
		}
	}
	d := &statsData{Workload: workload, Grouped: by, By: []statsRow{}}
	for i := range all {
		d.add(&all[i])
	}
	if by == "region" {
		d.By, err = regionStats(ctx, r, all)
	} else {
		d.group(all, by)
	}
	if err == nil && workload == "" {
		err = d.addPacks(ctx, r)
	}
	d.finish()
	return d, false, err
}

// group makes rows of snapshots, in the order in which they first come.
func (d *statsData) group(all []repo.Snapshot, by string) {
	at := map[string]int{}
	for i := range all {
		s := &all[i]
		name := map[string]string{"workload": s.Workload, "kind": s.Kind, "snapshot": s.Summary.ID}[by]
		if _, ok := at[name]; !ok {
			at[name] = len(d.By)
			row := statsRow{Name: name}
			if by == "snapshot" {
				row.Workload, row.RecoveryAt, row.FetchBytes = s.Workload, stamp(s.Start), s.FetchBytes
			}
			d.By = append(d.By, row)
		}
		d.By[at[name]].add(s)
	}
	for i := range d.By {
		d.By[i].finish()
	}
}

// addPacks replaces what the snapshots say of stored bytes by what the index
// knows: packs of runs that were never acknowledged take room too.
func (d *statsData) addPacks(ctx context.Context, r *repo.Repo) error {
	idx, err := r.Index(ctx)
	if err != nil {
		return err
	}
	var before pack.Hash
	for p, err := range idx.Packs() {
		if err != nil {
			return err
		}
		if d.Packs > 0 && p.Hash == before {
			continue // the same bytes under another writer's name
		}
		before = p.Hash
		d.Packs++
		if p.Kind == pack.Meta {
			d.Meta += p.Size
		} else {
			d.Data += p.Size
		}
	}
	d.Stored = d.Data + d.Meta
	return nil
}

// regionStats says what each region shows, from the packs that its snapshots reach.
func regionStats(ctx context.Context, r *repo.Repo, all []repo.Snapshot) ([]statsRow, error) {
	idx, err := r.Index(ctx)
	if err != nil {
		return nil, err
	}
	rows := []statsRow{}
	for _, p := range r.Places() {
		row := statsRow{Name: p.Name}
		if p.Err != nil {
			row.Error = p.Err.Error()
			rows = append(rows, row)
			continue
		}
		packs, done := map[string]bool{}, map[string]bool{}
		for i := range all {
			ref, ok := all[i].Intents[p.Nonce]
			if !ok {
				row.Behind++
				continue
			}
			row.add(&all[i])
			if done[ref.Hash] {
				continue
			}
			done[ref.Hash] = true
			keys, err := r.Closure(ctx, ref)
			if err != nil {
				return rows, fmt.Errorf("region %s: %w", p.Name, err)
			}
			for _, k := range keys {
				packs[k] = true
			}
		}
		row.Stored = 0
		for key := range packs {
			if err := row.addPack(idx, key); err != nil {
				return rows, err
			}
		}
		row.finish()
		rows = append(rows, row)
	}
	return rows, nil
}

func (row *statsRow) addPack(idx *index.Index, key string) error {
	_, parts, err := storage.Parse(key)
	if err != nil {
		return err
	}
	info, ok, err := idx.HasPack(pack.Hash(parts.Sum), writerID(parts.Writer))
	if err != nil {
		return fmt.Errorf("look up %s: %w", key, err)
	}
	if !ok {
		row.Unknown++
	}
	row.Stored += info.Size
	return nil
}

func (d *statsData) text(p *page) {
	t := newTable(strings.ToUpper(d.Grouped), ">POINTS", ">LOGICAL", ">LATEST", ">UNIQUE", ">STORED", ">DEDUP", ">SAVED", "")
	size := func(n uint64) string { return p.size(int64(n)) }
	row := func(name, note string, s *statsSizes) {
		t.row(name, fmt.Sprint(s.Snapshots), size(s.Logical), size(s.Latest), size(s.Unique), size(s.Stored), savedText(s.Dedup), savedText(s.Compression), note)
	}
	for i := range d.By {
		r := &d.By[i]
		note := r.Error
		if r.Behind > 0 {
			note = fmt.Sprintf("%d points behind", r.Behind)
		}
		name := r.Name
		if d.Grouped == "snapshot" {
			name, note = fmt.Sprintf("%.8s", r.Name), r.Workload+" "+r.RecoveryAt
		}
		row(name, note, &r.statsSizes)
	}
	row("total", "", &d.statsSizes)
	p.table(t)
	if d.Packs > 0 {
		p.line("%d packs in each region: %s of contents, %s of names and structure", d.Packs, size(d.Data), size(d.Meta))
	}
}

func savedText(ratio float64) string { return fmt.Sprintf("%.1f %%", 100*ratio) }

// writerID reads a writer's id as keys carry it.
func writerID(text string) (w index.Writer) {
	if b, err := hex.DecodeString(text); err == nil {
		copy(w[:], b)
	}
	return w
}
