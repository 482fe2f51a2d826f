package snapshot_test

import (
	"encoding/hex"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// enrol replaces the world's host by a new one, whose disk is empty.
func (w *world) enrol(predecessors ...string) {
	w.t.Helper()
	ctx := w.t.Context()
	r, err := repo.Open(ctx, repo.Options{Regions: w.regions, Identities: w.identities()})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	e, err := r.PlanEnrollment(ctx, repo.EnrollOptions{Root: w.made.Root, Predecessors: predecessors, Now: w.now()})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := e.Place(ctx); err != nil {
		w.t.Fatal(err)
	}
	if w.state, err = e.Save(w.t.TempDir(), false); err != nil {
		w.t.Fatal(err)
	}
	w.cache = w.t.TempDir()
}

// A rebuilt host goes on where the old one stopped: the newest snapshot is its
// parent, so that it reads no file again, and what it stores is only the new.
func TestEnrolledHostGoesOn(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	want := writeTree(t, dir, 1)
	w.clock = w.clock.Add(time.Hour) // the files are not fresh any more
	_, first := w.backup(dir)

	for _, before := range []string{w.made.Writer.ID, ""} {
		if before == "" {
			before = w.state.Writer() // a second time: the line of predecessors is two long
		}
		w.enrol(before)
		p, c := w.backup(dir)
		if got := hex.EncodeToString(p.Manifest.Parent); got != first.IDs[0] {
			t.Errorf("parent %.8s, want %.8s", got, first.IDs[0])
		}
		if s := p.Manifest.Stats; s.BytesNew > 0 || s.BytesRead > 0 || s.Unmodified != s.Files {
			t.Errorf("the first backup of the new host: %+v", s)
		}
		same(t, w.contents(c.IDs[0]), want)
		first = c
	}
}

// A host that is enrolled without a predecessor shares nothing with the others.
func TestEnrolledHostWithoutPredecessor(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	want := writeTree(t, dir, 1)
	w.backup(dir)
	w.enrol()
	r := w.open(false)
	if all, err := r.Snapshots(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it reads the names of %d snapshots, %v", len(all), err)
	}
	s, err := r.Begin(t.Context(), repo.SessionOptions{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := snapshot.Parent(t.Context(), r, s, "files"); ok {
		t.Error("it takes another writer's snapshot as parent")
	}
	if err := s.End(t.Context(), true); err != nil {
		t.Error(err)
	}
	r.Close()
	p, c := w.backup(dir)
	if p.Manifest.Stats.New != 300 || p.Manifest.Stats.BytesNew == 0 {
		t.Errorf("it re-used another writer's chunks: %+v", p.Manifest.Stats)
	}
	same(t, w.contents(c.IDs[0]), want)
}

func (w *world) identities() []seal.Identity { return []seal.Identity{w.made.Operator} }
