package main

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// When to speak of a mass change.
const (
	massChangeRatio = 0.30 // of the files were rewritten or removed …
	massChangeMin   = 10   // … and at least so many
)

type diffFlags struct {
	path string
	stat bool
}

func (a *app) diffCommand() *cobra.Command {
	var f diffFlags
	c := &cobra.Command{
		Use: "diff SNAPSHOT1 SNAPSHOT2", Short: "Show what changed between two recovery points", Args: cobra.ExactArgs(2),
		Long: "Show what changed between two recovery points: what was added, removed and modified, and in which way.\n" +
			"Unchanged folders are not read. A warning tells when a large part of the files was rewritten or removed\n" +
			"at once, as an encrypting intruder does. Entries of which only the inode or its change time differ are\n" +
			"counted as touched and not listed.",
		Example: "  lifeboat diff files@latest~1 files@latest\n  lifeboat diff 4d0ce1f2 9f2c1ab4 --path /srv/files/invoices\n  lifeboat diff files@'7d ago' files@latest --stat",
	}
	c.Flags().StringVar(&f.path, "path", "", "only this file or directory and what is below it")
	c.Flags().BoolVar(&f.stat, "stat", false, "only the counts")
	return a.lists(a.handle(c, func(ctx context.Context, args []string) (any, bool, error) { return a.diff(ctx, args, f) }))
}

// diffRecord is one difference.
type diffRecord struct {
	Path    string       `json:"path"`
	RawPath []byte       `json:"path_bytes,omitempty"` // when the path is not UTF-8
	Change  string       `json:"change"`               // added, removed or modified
	Type    string       `json:"type"`                 // of the newer entry, where there is one
	What    []string     `json:"what,omitempty"`       // of what was modified
	Old     *entryRecord `json:"old,omitempty"`
	New     *entryRecord `json:"new,omitempty"`
}

// diffPoint is one of the two points.
type diffPoint struct {
	Snapshot      string    `json:"snapshot_id"`
	Workload      string    `json:"workload"`
	RecoveryPoint time.Time `json:"recovery_point_at"`
}

// diffCount counts entries; Bytes is the size of the files among them, the newer
// one where there are two.
type diffCount struct {
	Files  uint64 `json:"files"`
	Dirs   uint64 `json:"dirs"`
	Others uint64 `json:"others"`
	Bytes  uint64 `json:"bytes"`
}

func (c *diffCount) add(e *catalog.Entry) {
	switch e.Type {
	case catalog.File:
		c.Files++
		c.Bytes += uint64(e.Size)
	case catalog.Dir:
		c.Dirs++
	default:
		c.Others++
	}
}

func (c diffCount) text(p *page) string {
	return fmt.Sprintf("%d files (%s), %d directories, %d others", c.Files, p.size(int64(c.Bytes)), c.Dirs, c.Others)
}

// diffData is what goes beside the list.
type diffData struct {
	From     diffPoint         `json:"from"`
	To       diffPoint         `json:"to"`
	Path     string            `json:"path,omitempty"`
	Added    diffCount         `json:"added"`
	Removed  diffCount         `json:"removed"`
	Modified diffCount         `json:"modified"`
	What     map[string]uint64 `json:"modified_what"` // how many were modified in each way
	Touched  uint64            `json:"touched"`
	// FilesBefore is how many files the older point has. Rewritten and Removed
	// are shares of them.
	FilesBefore uint64  `json:"files_before"`
	Rewritten   float64 `json:"rewritten_ratio"`
	Gone        float64 `json:"removed_ratio"`
	MassChange  bool    `json:"mass_change"`
	rewritten   uint64
}

func (a *app) diff(ctx context.Context, args []string, f diffFlags) (any, bool, error) {
	refs, top, err := a.diffReferences(args, f.path)
	if err != nil {
		return nil, false, err
	}
	r, _, err := a.openRepo(ctx, access{names: true, region: true})
	if err != nil {
		return nil, false, err
	}
	var t [2]*tree
	workload := ""
	for i, ref := range refs {
		snap, err := a.resolve1(ctx, r, ref, workload)
		if err != nil {
			return nil, false, err
		}
		workload = snap.Workload // files@latest~1 latest: the same workload is meant
		if t[i], err = a.openTree(ctx, r, snap); err != nil {
			return nil, false, err
		}
	}
	if err := t[0].mustExist(ctx, top); err != nil {
		if t[1].mustExist(ctx, top) != nil {
			return nil, false, err
		}
	}
	d := &diffData{From: diffPointOf(t[0].snap), To: diffPointOf(t[1].snap), What: map[string]uint64{}}
	if len(top) > 0 {
		d.Path = "/" + string(top)
	}
	if err := a.diffTrees(ctx, t[0].catalog, t[1].catalog, top, f.stat, d); err != nil {
		return d, false, err
	}
	return d, false, a.massChange(ctx, t[0], top, d)
}

func diffPointOf(s repo.Snapshot) diffPoint {
	return diffPoint{Snapshot: s.Summary.ID, Workload: s.Workload, RecoveryPoint: s.Start}
}

// diffReferences reads the two snapshots, and the path from --path or behind a
// snapshot's colon.
func (a *app) diffReferences(args []string, flag string) (refs []reference, top []byte, err error) {
	where := strings.Trim(flag, "/")
	if flag != "" {
		where = strings.Trim(path.Clean("/"+flag), "/")
	}
	for _, arg := range args {
		ref, err := a.parseReference(arg)
		if err != nil {
			return nil, nil, err
		}
		if ref.Path != "" && where != "" && ref.Path != where {
			return nil, nil, &Fail{Code: Usage, Message: fmt.Sprintf("two paths: %s and %s", quotePath("/"+where), quotePath("/"+ref.Path)), Hint: "give one path, with --path"}
		}
		where = orElse(where, ref.Path)
		refs = append(refs, ref)
	}
	return refs, []byte(where), nil
}

// diffTrees streams the differences, and counts them.
func (a *app) diffTrees(ctx context.Context, x, y *catalog.Reader, top []byte, stat bool, d *diffData) error {
	var out *records
	p := a.page(a.stdout)
	if !stat {
		out = a.records("changes", column{title: "CHANGE", width: 8}, column{title: "SIZE", width: 10, right: true}, column{title: "WHAT", width: 16}, column{title: "PATH"})
	}
	for c, err := range catalog.Diff(ctx, x, y) {
		if err != nil {
			return fmt.Errorf("compare snapshots %.8s and %.8s: %w", d.From.Snapshot, d.To.Snapshot, err)
		}
		if !catalog.Within(top, c.Path()) {
			if catalog.Compare(c.Path(), top) > 0 {
				break // all that follows lies behind
			}
			continue
		}
		change, what := d.count(c)
		if change == "" || stat {
			continue
		}
		rec := diffRecordOf(c, change, what)
		side := rec.New
		if side == nil {
			side = rec.Old
		}
		if err := out.add(rec, rec.Path, change, p.size(side.Size), strings.Join(what, ","), quotePath(rec.Path)); err != nil {
			return err
		}
	}
	return nil
}

func diffRecordOf(c catalog.Change, change string, what []string) diffRecord {
	rec := diffRecord{Change: change, What: what}
	for _, s := range []struct {
		e  *catalog.Entry
		to **entryRecord
	}{{c.Old, &rec.Old}, {c.New, &rec.New}} {
		if s.e != nil {
			e := entryOf(s.e)
			*s.to = &e
			rec.Path, rec.RawPath, rec.Type = e.Path, e.RawPath, e.Type
		}
	}
	return rec
}

// count takes a change into the counts; "" for one that is not worth listing.
func (d *diffData) count(c catalog.Change) (change string, what []string) {
	switch {
	case c.Old == nil:
		d.Added.add(c.New)
		return "added", nil
	case c.New == nil:
		d.Removed.add(c.Old)
		return "removed", nil
	}
	if what = differences(c.Old, c.New); len(what) == 0 {
		d.Touched++
		return "", nil
	}
	d.Modified.add(c.New)
	for _, w := range what {
		d.What[w]++
	}
	if c.Old.Type == catalog.File && (slices.Contains(what, "content") || slices.Contains(what, "type")) {
		d.rewritten++
	}
	return "modified", what
}

// differences names in which ways two entries of one path differ.
func differences(a, b *catalog.Entry) []string {
	if a.Type != b.Type {
		return []string{"type"}
	}
	var out []string
	for _, d := range []struct {
		name    string
		differs bool
	}{
		{"content", contentDiffers(a, b)},
		{"holes", !contentDiffers(a, b) && !slices.Equal(a.Data, b.Data)},
		{"mode", a.Mode != b.Mode},
		{"owner", a.UID != b.UID || a.GID != b.GID || a.User != b.User || a.Group != b.Group},
		{"times", a.MTime != b.MTime},
		{"xattrs", !slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y catalog.Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })},
		{"links", a.Links != b.Links},
		{"device", a.Rdev != b.Rdev},
		{"capture", a.Flags != b.Flags}, // changed while read, unreadable, attributes partly read
	} {
		if d.differs {
			out = append(out, d.name)
		}
	}
	return out
}

// massChange warns when a large part of the files was rewritten or removed.
func (a *app) massChange(ctx context.Context, older *tree, top []byte, d *diffData) error {
	d.FilesBefore = older.manifest.Stats.Files
	changed := d.rewritten + d.Removed.Files
	if len(top) > 0 {
		d.FilesBefore = 0
		for e, err := range older.catalog.Under(ctx, top) {
			if err != nil {
				return err
			}
			if e.Type == catalog.File {
				d.FilesBefore++
			}
		}
	}
	if d.FilesBefore > 0 {
		d.Rewritten = min(1, float64(d.rewritten)/float64(d.FilesBefore))
		d.Gone = min(1, float64(d.Removed.Files)/float64(d.FilesBefore))
	}
	d.MassChange = changed >= massChangeMin && d.Rewritten+d.Gone > massChangeRatio
	if d.MassChange {
		a.warn("mass_change", fmt.Sprintf("%.0f %% of the files were rewritten and %.0f %% removed: this is what encryption by an intruder looks like", 100*d.Rewritten, 100*d.Gone),
			"rewritten_ratio", d.Rewritten, "removed_ratio", d.Gone)
	}
	return nil
}

func (d *diffData) text(p *page) {
	if p.app.opt.Output != formatText && p.app.opt.Output != formatWide {
		return
	}
	p.line("%s %.8s %s to %.8s %s", d.To.Workload, d.From.Snapshot, p.time(d.From.RecoveryPoint), d.To.Snapshot, p.time(d.To.RecoveryPoint))
	p.line("  added     %s", d.Added.text(p))
	p.line("  removed   %s", d.Removed.text(p))
	ways := ""
	for _, w := range slices.Sorted(maps.Keys(d.What)) {
		ways += fmt.Sprintf(" %s %d", w, d.What[w])
	}
	if ways != "" {
		ways = ":" + ways
	}
	p.line("  modified  %s%s", d.Modified.text(p), ways)
	if d.MassChange {
		p.line("  %s", p.mark(markRisk, fmt.Sprintf("%.0f %% of files rewritten, %.0f %% removed: possible encryption", 100*d.Rewritten, 100*d.Gone)))
	}
}
