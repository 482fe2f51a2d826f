package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"lifeboat/snapshot"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// restless changes a tree until stop is called, which waits for it.
func restless(change func(n int) error) (stop func() error) {
	done, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				failed <- nil
				return
			default:
			}
			if err := change(n); err != nil {
				failed <- err
				return
			}
			runtime.Gosched()
		}
	}()
	return sync.OnceValue(func() error { close(done); return <-failed })
}

// within fails the test when f takes longer than two minutes: something hangs.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s hangs:\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// whole checks that every file of a snapshot has as many bytes as its entry
// says, flagged ones too: what is stored must come back.
func (w *world) whole(t *testing.T, id string) (entries []*catalog.Entry) {
	t.Helper()
	ctx := t.Context()
	r := w.open(true)
	defer r.Close()
	m, err := r.Manifest(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	rd, err := r.Chunks(ctx, m.Pages)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	cat, err := catalog.Open(ctx, rd, snapshot.CatalogRoot(m))
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range cat.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e.Clone())
	}
	for _, e := range entries {
		if e.Type == catalog.File && e.Flags&catalog.Unreadable == 0 {
			want := catalog.DataLength(e.Size, e.Data)
			if e.Chunking == catalog.Fixed {
				want = 0
				for p := range catalog.Pieces(e.Size, e.Piece, e.Data) {
					want += p.Length
				}
			}
			if got := storedLength(ctx, t, rd, e); got != want {
				t.Errorf("%s: %d bytes are stored, the entry (flags %d, %d ranges) says %d", e.Path, got, e.Flags, len(e.Data), want)
			}
		}
	}
	return entries
}

func storedLength(ctx context.Context, t *testing.T, rd *repo.Reader, e *catalog.Entry) (n int64) {
	t.Helper()
	var ids []pack.ChunkID
	for id, err := range catalog.FileChunks(ctx, e, rd) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	var mu sync.Mutex
	err := rd.Read(ctx, ids, func(_ int, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		n += int64(len(data))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", e.Path, err)
	}
	return n
}

// Files that shrink, grow, come and go while they are read: the run neither
// fails nor hangs, and what it stores of them comes back.
func TestFilesThatChangeWhileTheyAreRead(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	data := make([]byte, 3<<20)
	rng := newRand(3)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var names []string
	for i := range 4 {
		names = append(names, filepath.Join(dir, fmt.Sprintf("f%d%s", i, []string{"", ".img"}[i%2])))
		if err := os.WriteFile(names[i], data[i*1000:], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, data[:100<<10], 0o644); err != nil {
		t.Fatal(err)
	}
	stop := restless(func(n int) error {
		size := int64(1<<20 + rng.IntN(2<<20))
		err := errors.Join(os.Truncate(names[n%4], size), os.Truncate(small, size%(400<<10)))
		if n%64 == 0 {
			err = errors.Join(err, os.WriteFile(names[n/64%4], data[:size], 0o644))
		}
		return err
	})
	defer stop()
	for range 4 {
		var c *repo.Committed
		within(t, "a backup of files that change", func() {
			var err error
			if _, c, err = w.try(t.Context(), dir, attempt{workers: 4}); err != nil {
				t.Error(err)
			}
		})
		w.whole(t, c.IDs[0])
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
