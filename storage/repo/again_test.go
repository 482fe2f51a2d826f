package repo_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// deaf is a region that acknowledgements do not reach.
type deaf struct{ storage.Store }

func (d deaf) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	if bytes.Contains(data, []byte(`"type":"ack"`)) {
		return storage.ErrUnreachable
	}
	return d.Store.Put(ctx, key, data, sum)
}

// A run that was killed on its way from region to region with its
// acknowledgement does not leave the next run with one region only.
func TestNextRunAcknowledgesAgain(t *testing.T) {
	a, b := storetest.Memory(), storetest.Memory()
	regions := []repo.Region{{Name: "a", Store: a}, {Name: "b", Store: b}}
	clock := time.Unix(2e9, 0)
	now := func() time.Time { clock = clock.Add(time.Second); return clock }
	made, err := repo.Create(t.Context(), repo.CreateOptions{Regions: regions, Classic: true, Now: now()})
	if err != nil {
		t.Fatal(err)
	}
	state, err := repo.SaveState(t.TempDir(), made.ID, made.Root.Public(), made.Writer, nil)
	if err != nil {
		t.Fatal(err)
	}
	run := func(regions []repo.Region) *repo.Committed {
		t.Helper()
		r, err := repo.Open(t.Context(), repo.Options{Regions: regions, State: state})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s, err := r.Begin(t.Context(), repo.SessionOptions{Required: 1, Now: now, Workloads: []string{"w"}})
		if err != nil {
			t.Fatal(err)
		}
		id := r.ID()
		c, err := s.Commit(t.Context(), []repo.Prepared{{Manifest: &repo.Manifest{Type: "manifest", Version: 1, Repo: id[:], Writer: unhex(state.Writer()), Workload: "w", Start: now().UnixNano()}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.End(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := run([]repo.Region{regions[0], {Name: "b", Store: deaf{b}}}); c.Acked != 1 {
		t.Fatalf("first run: %+v", c.Regions)
	}
	if c := run(regions); c.Acked != 2 {
		t.Errorf("second run: %+v", c.Regions)
	}
}
