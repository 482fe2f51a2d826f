package repo_test

import (
	"path/filepath"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// A host whose clock is set back, or was far ahead once, goes on from what it
// stored last, and its latest snapshot is the one that it took last: also after
// a run was killed, and for somebody who reads checkpoints.
func TestLatestWhenClocksAreSet(t *testing.T) {
	ctx := t.Context()
	regions := []repo.Region{{Name: "a", Store: storetest.Memory()}, {Name: "b", Store: storetest.Memory()}}
	clock := time.Unix(2e9, 0)
	now := func() time.Time { clock = clock.Add(time.Second); return clock }
	made, err := repo.Create(ctx, repo.CreateOptions{Regions: regions, Classic: true, Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := simDir(t)
	t.Setenv("TMPDIR", dir)
	state, err := repo.SaveState(filepath.Join(dir, "state"), made.ID, made.Root.Public(), made.Writer, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(o repo.Options) *repo.Repo {
		t.Helper()
		o.Regions = regions
		r, err := repo.Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	cache, last := filepath.Join(dir, "cache"), ""
	for i := range 40 {
		switch i {
		case 10:
			clock = clock.AddDate(-5, 0, 0)
		case 20:
			clock = clock.AddDate(50, 0, 0)
		case 30:
			clock = time.Unix(2e9, 0)
		}
		anew := i%4 == 3 // every fourth stores everything again, and has no parent
		r := open(repo.Options{State: state, CacheDir: cache})
		s, err := r.Begin(ctx, repo.SessionOptions{Required: 2, Now: now, Fresh: anew})
		if err != nil {
			t.Fatal(err)
		}
		id := r.ID()
		m := &repo.Manifest{Type: "manifest", Version: 1, Repo: id[:], Writer: unhex(state.Writer()), Workload: "w", Start: now().UnixNano()}
		p, ok := snapshot.Parent(ctx, r, s, "w")
		if ok != (i > 0) || ok && p.Summary.ID != last {
			t.Fatalf("snapshot %d builds on %v, want %.8s", i, p, last)
		}
		if ok && !anew {
			m.Parent = unhex(p.Summary.ID)
		}
		c, err := s.Commit(ctx, []repo.Prepared{{Manifest: m}})
		if err != nil {
			t.Fatal(err)
		}
		last = c.IDs[0]
		if i%7 == 5 {
			err = s.Abandon() // the next run begins a chain of its own
		} else {
			err = s.End(ctx, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if i%5 != 4 {
			continue
		}
		r = open(repo.Options{Identities: ids(made)}) // somebody who knows nothing yet
		all, err := r.Snapshots(ctx)
		if err != nil || len(all) != i+1 || all[i].Summary.ID != last || all[i].Start.UnixNano() != m.Start {
			t.Fatalf("the latest of %d is %.8s, want %.8s, %v", len(all), all[len(all)-1].Summary.ID, last, err)
		}
		r.Close()
	}
}
