package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// tree is one snapshot, opened for looking into.
type tree struct {
	repo     *repo.Repo
	snap     repo.Snapshot
	manifest *repo.Manifest
	reader   *repo.Reader
	catalog  *catalog.Reader
}

// openTree opens a snapshot's catalog. It is closed when the command ends.
func (a *app) openTree(ctx context.Context, r *repo.Repo, snap repo.Snapshot) (*tree, error) {
	m, err := r.Manifest(ctx, snap.Summary.ID)
	if err != nil {
		return nil, err
	}
	closure, err := r.Packs(ctx, &snap, nil)
	if err != nil {
		return nil, err
	}
	if err := r.CoverPacks(ctx, closure); err != nil {
		return nil, err
	}
	rd, err := r.Chunks(ctx, m.Pages)
	if err != nil {
		return nil, err
	}
	a.onClose(func() error { rd.Close(); return nil })
	cat, err := catalog.Open(ctx, rd, catalog.Root{ID: m.Catalog.Root, Level: int(m.Catalog.Level), Entries: m.Catalog.Entries})
	if err != nil {
		return nil, fmt.Errorf("open catalog of snapshot %.8s: %w", snap.Summary.ID, err)
	}
	return &tree{repo: r, snap: snap, manifest: m, reader: rd, catalog: cat}, nil
}

// resolve finds the snapshot that a reference means. workload narrows it when
// the reference names none.
func (a *app) resolve1(ctx context.Context, r *repo.Repo, ref reference, workload string) (repo.Snapshot, error) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		return repo.Snapshot{}, err
	}
	if ref.Workload != "" {
		workload = ref.Workload
	}
	if workload != "" {
		if all, err = ofWorkload(all, workload); err != nil {
			return repo.Snapshot{}, err
		}
	}
	switch {
	case ref.ID != "":
		return byPrefix(all, ref.ID)
	case !ref.At.IsZero():
		if s := upTo(all, ref.At); s != nil {
			return *s, nil
		}
		return repo.Snapshot{}, a.noPoint(all, fmt.Sprintf("%s has no recovery point at or before %s", orElse(workload, "the repository"), ref.At.UTC().Format("2006-01-02T15:04:05Z")))
	}
	if workload == "" && severalWorkloads(all) {
		return repo.Snapshot{}, &Fail{Code: Usage, Message: "which workload? the repository holds " + strings.Join(workloadsOf(all), ", "), Hint: "name it, as in files@latest"}
	}
	if ref.Back >= len(all) {
		return repo.Snapshot{}, a.noPoint(all, fmt.Sprintf("%s has %d recovery points, %d back was asked", orElse(workload, "the repository"), len(all), ref.Back))
	}
	return all[len(all)-1-ref.Back], nil
}

// chosen finds what --snapshot names for a command that takes the workload apart
// from it: the two must not contradict each other. A workload's name that could
// also begin an id is an id beside the name of another workload.
func (a *app) chosen(ctx context.Context, r *repo.Repo, ref reference, workload string) (repo.Snapshot, error) {
	if ref.Path != "" {
		return repo.Snapshot{}, &Fail{Code: Usage, Message: "--snapshot takes no path here", Hint: "name a whole recovery point, as files@latest"}
	}
	if workload != "" && ref.Workload != "" && ref.Workload != workload {
		if !isID(ref.Text) {
			return repo.Snapshot{}, &Fail{Code: Usage, Message: fmt.Sprintf("--snapshot %s is of %s, not of %s", ref.Text, ref.Workload, workload), Hint: "name the workload once, or the same one twice"}
		}
		ref.ID, ref.Workload = ref.Text, ""
	}
	return a.resolve1(ctx, r, ref, workload)
}

// upTo finds the recovery point with the latest time up to at. Snapshots come in
// the order in which they were taken, which is that of their times only while
// nobody has set a clock.
func upTo(all []repo.Snapshot, at time.Time) (best *repo.Snapshot) {
	for i := range all {
		if s := &all[i]; !s.Start.After(at) && (best == nil || !s.Start.Before(best.Start)) {
			best = s
		}
	}
	return best
}

func (a *app) noPoint(all []repo.Snapshot, message string) error {
	hint := "take one with: lifeboat backup"
	if len(all) > 0 {
		hint = fmt.Sprintf("the oldest is %s; list them with: lifeboat snapshots", all[0].Start.UTC().Format("2006-01-02T15:04:05Z"))
	}
	return &Fail{Code: NoRecoveryPoint, Message: message, Hint: hint, Err: repo.ErrNoSnapshot}
}

func ofWorkload(all []repo.Snapshot, name string) ([]repo.Snapshot, error) {
	var out []repo.Snapshot
	for _, s := range all {
		if s.Workload == name {
			out = append(out, s)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	hint := "the repository holds no snapshots that can be read with these keys; take one with: lifeboat backup"
	if names := workloadsOf(all); len(names) > 0 {
		hint = "there are: " + strings.Join(names, ", ")
	}
	return nil, &Fail{Code: NoRecoveryPoint, Message: fmt.Sprintf("no recovery point of %q", name), Hint: hint, Err: repo.ErrNoSnapshot}
}

func workloadsOf(all []repo.Snapshot) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s.Workload] {
			seen[s.Workload] = true
			out = append(out, s.Workload)
		}
	}
	return out
}

func severalWorkloads(all []repo.Snapshot) bool { return len(workloadsOf(all)) > 1 }

func byPrefix(all []repo.Snapshot, prefix string) (repo.Snapshot, error) {
	var found []repo.Snapshot
	for _, s := range all {
		if strings.HasPrefix(s.Summary.ID, prefix) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return repo.Snapshot{}, &Fail{Code: NoRecoveryPoint, Message: fmt.Sprintf("no snapshot %s", prefix), Hint: "list them with: lifeboat snapshots", Err: repo.ErrNoSnapshot}
	}
	var names []string
	for _, s := range found {
		names = append(names, fmt.Sprintf("%.12s (%s %s)", s.Summary.ID, s.Workload, s.Start.UTC().Format("2006-01-02T15:04:05Z")))
	}
	return repo.Snapshot{}, &Fail{Code: Usage, Message: fmt.Sprintf("%s is not unique: %s", prefix, strings.Join(names, ", ")), Hint: "give more digits"}
}

// snapshotAt opens the repository and the snapshot that an argument names.
func (a *app) snapshotAt(ctx context.Context, text, workload string, need access) (*tree, reference, error) {
	ref, err := a.parseReference(text)
	if err != nil {
		return nil, ref, err
	}
	r, _, err := a.openRepo(ctx, need)
	if err != nil {
		return nil, ref, err
	}
	snap, err := a.resolve1(ctx, r, ref, workload)
	if err != nil {
		return nil, ref, err
	}
	t, err := a.openTree(ctx, r, snap)
	return t, ref, err
}
