package repo_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// A reader that begins at a checkpoint sees what one that reads every statement
// sees, and reads far fewer of them.
func TestCheckpointStandsForWhatWentBefore(t *testing.T) {
	ctx := t.Context()
	var regions []repo.Region
	var counts []*storage.Counts
	for _, name := range []string{"a", "b"} {
		s, c := storage.WithCount(storetest.Memory())
		regions, counts = append(regions, repo.Region{Name: name, Store: s}), append(counts, c)
	}
	clock := time.Now()
	now := func() time.Time { clock = clock.Add(time.Second); return clock }
	made, err := repo.Create(ctx, repo.CreateOptions{Regions: regions, Classic: true, Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := simDir(t)
	state, err := repo.SaveState(filepath.Join(dir, "state"), made.ID, made.Root.Public(), made.Writer, nil)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 80
	cache := filepath.Join(dir, "cache")
	for i := range rounds {
		commitEmpty(t, regions, state, cache, now, fmt.Sprintf("w%d", i%3))
	}
	checkpoints := 0
	for info, err := range regions[0].Store.List(ctx, storage.ListOptions{Prefix: "journal/"}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info.Key, "/c/") && strings.HasSuffix(info.Key, ".json") {
			checkpoints++
		}
	}
	if checkpoints == 0 {
		t.Fatal("no checkpoint was written")
	}
	before := counts[1].Gets.Load()
	r, err := repo.Open(ctx, repo.Options{Regions: regions[1:], State: state})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := r.Snapshots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != rounds {
		t.Errorf("%d snapshots are shown, want %d", len(all), rounds)
	}
	for _, s := range all {
		if _, err := r.Manifest(ctx, s.Summary.ID); err != nil {
			t.Error(err)
		}
		if _, err := r.Packs(ctx, &s, nil); err != nil {
			t.Error(err)
		}
	}
	if gets := counts[1].Gets.Load() - before; gets > 2*rounds {
		t.Errorf("%d objects were read for %d snapshots", gets, rounds)
	}
}

func commitEmpty(t *testing.T, regions []repo.Region, state *repo.State, cache string, now func() time.Time, workload string) {
	t.Helper()
	ctx := t.Context()
	r, err := repo.Open(ctx, repo.Options{Regions: regions, State: state, CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: len(regions), Now: now, Workloads: []string{workload}})
	if err != nil {
		t.Fatal(err)
	}
	id := r.ID()
	m := &repo.Manifest{Type: "manifest", Version: 1, Repo: id[:], Writer: unhex(state.Writer()), Workload: workload, Start: now().UnixNano()}
	if _, err := s.Commit(ctx, []repo.Prepared{{Manifest: m}}); err != nil {
		t.Fatal(err)
	}
	if err := s.End(ctx, false); err != nil {
		t.Fatal(err)
	}
}
