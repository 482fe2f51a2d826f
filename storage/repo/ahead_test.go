package repo_test

import (
	"context"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// distant is a region whose every answer takes a second.
type distant struct{ storage.Store }

func (d distant) wait(ctx context.Context) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
}

func (d distant) Put(ctx context.Context, key string, data []byte, sum [32]byte) error {
	d.wait(ctx)
	return d.Store.Put(ctx, key, data, sum)
}

func (d distant) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	d.wait(ctx)
	return d.Store.Get(ctx, key, offset, length)
}

func (d distant) Stat(ctx context.Context, key string) (storage.Info, error) {
	d.wait(ctx)
	return d.Store.Stat(ctx, key)
}

func (d distant) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		d.wait(ctx)
		d.Store.List(ctx, opt)(yield)
	}
}

// lab is a new repository in some regions, and the host that made it.
type lab struct {
	regions []repo.Region
	opt     repo.Options
}

func newLab(t *testing.T, far bool, names ...string) *lab {
	t.Helper()
	l := &lab{}
	for _, name := range names {
		l.regions = append(l.regions, repo.Region{Name: name, Store: storetest.Memory()})
	}
	made, err := repo.Create(t.Context(), repo.CreateOptions{Regions: l.regions, Classic: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	state, err := repo.SaveState(t.TempDir(), made.ID, made.Root.Public(), made.Writer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if far {
		for i, r := range l.regions {
			l.regions[i].Store = distant{r.Store}
		}
	}
	l.opt = repo.Options{Regions: l.regions, ID: made.ID, Root: made.Root.Public(), State: state, CacheDir: t.TempDir()}
	return l
}

// run opens the repository and commits a snapshot of nothing. It tells how long
// the steps took.
func (l *lab) run(t *testing.T) (open, begin, commit, end time.Duration) {
	t.Helper()
	at := time.Now()
	lap := func(err error) time.Duration {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		d := time.Since(at)
		at = time.Now()
		return d
	}
	r, err := repo.Open(t.Context(), l.opt)
	open = lap(err)
	defer r.Close()
	s, err := r.Begin(t.Context(), repo.SessionOptions{Required: len(l.regions), Now: time.Now, Workloads: []string{"w"}, Once: true})
	begin = lap(err)
	id := r.ID()
	m := &repo.Manifest{Type: "manifest", Version: 1, Repo: id[:], Writer: unhex(l.opt.State.Writer()), Workload: "w", Start: time.Now().UnixNano()}
	_, err = s.Commit(t.Context(), []repo.Prepared{{Manifest: m}})
	commit = lap(err)
	end = lap(s.End(t.Context(), false))
	return open, begin, commit, end
}

// A run that finds nothing new makes one round trip to open the repository, and
// then only those that the protocol orders.
func TestRoundTripsOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, true, "a", "b", "c")
		for range 2 {
			l.run(t)
		}
		open, begin, commit, end := l.run(t)
		for _, step := range []struct {
			name      string
			took, may time.Duration
		}{
			{"open", open, 1 * time.Second},
			{"begin", begin, 3 * time.Second},   // open; read back; gc/, and the index of three regions meanwhile
			{"commit", commit, 5 * time.Second}, // intent; read back; look again; acknowledge; read back, and end
			{"end", end, 1 * time.Second},       // read back
		} {
			if step.took > step.may {
				t.Errorf("%s takes %v where each request takes 1 s, want at most %v", step.name, step.took, step.may)
			}
		}
	})
}

// What the last opening asked decides nothing: an opening sees what is there,
// whatever the memory holds.
func TestForesightDecidesNothing(t *testing.T) {
	l := newLab(t, false, "a")
	other := *l
	other.opt.CacheDir = t.TempDir()
	l.run(t)
	files, err := filepath.Glob(filepath.Join(l.opt.CacheDir, "*", "ahead.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d memories (%v), want 1", len(files), err)
	}
	kept, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	for _, memory := range []string{
		string(kept),
		`{"a":[{"get":"region/00.json"},{"get":"x"},{"list":{"Prefix":"journal/"}},{"list":{"Prefix":"../"}},{"list":{"Prefix":""}}]}`,
		`{"a":null,"b":[{}]}`, `[]`, `{`, ``,
	} {
		other.run(t) // behind the back of the host with the memory
		want++
		if err := os.WriteFile(files[0], []byte(memory), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := repo.Open(t.Context(), l.opt)
		if err != nil {
			t.Fatalf("memory %q: %v", memory, err)
		}
		all, err := r.Snapshots(t.Context())
		if err != nil || len(all) != want {
			t.Errorf("memory %q: %d snapshots (%v), want %d", memory, len(all), err, want)
		}
		if err := r.Reload(t.Context()); err != nil {
			t.Errorf("memory %q: reload: %v", memory, err)
		}
		r.Close()
	}
}
