package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/storetest"
)

// Packs that no index object tells of are taken at the word of their own tables
// only where all of their bytes are those of the name.
func TestCoverPacksProvesThem(t *testing.T) {
	w := newCoverWorld(t)
	first, second := w.packs[0], w.packs[1]
	idsOf := func(r *repo.Repo, n int) (in []string) {
		t.Helper()
		idx, err := r.Index(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all, err := idx.Lookup(w.chunks[n])
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			in = append(in, l.Pack.String())
		}
		return in
	}
	// Region a has, under the name of the first pack, the second one: whole, sealed to the right key.
	other := bytes.Clone(w.regions[0].Bytes(second))
	w.regions[0].Change(first, func([]byte) []byte { return other })
	var passed []string
	r := w.open(t, repo.Events{Fallback: func(region, key string, err error) {
		passed = append(passed, region+" "+key)
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("passed over %s for %v", region, err)
		}
	}})
	if err := r.CoverPacks(t.Context(), w.packs); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a " + first}; !slices.Equal(passed, want) {
		t.Errorf("passed over %v, want %v", passed, want)
	}
	for n := range w.packs {
		if in := idsOf(r, n); len(in) != 1 || !strings.Contains(w.packs[n], in[0]) {
			t.Errorf("chunk %d lies in %v, want %s", n, in, w.packs[n])
		}
	}
	// Region b has it too: nobody can tell what is in the first pack.
	w.regions[1].Change(first, func([]byte) []byte { return other })
	r = w.open(t, repo.Events{})
	if err := r.CoverPacks(t.Context(), []string{first}); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "region b") {
		t.Errorf("got %v", err)
	}
	for n := range 2 {
		if in := idsOf(r, n); len(in) != 0 {
			t.Errorf("chunk %d is said to lie in %v", n, in)
		}
	}
}

// coverWorld is a repository in two regions with some packs and no index object.
type coverWorld struct {
	made    *repo.Created
	regions []*storetest.Mem
	packs   []string       // keys
	chunks  []pack.ChunkID // the one in each
}

func newCoverWorld(t *testing.T) *coverWorld {
	t.Helper()
	ctx := t.Context()
	w := &coverWorld{regions: []*storetest.Mem{storetest.Memory(), storetest.Memory()}}
	clock := time.Unix(2e9, 0)
	now := func() time.Time { clock = clock.Add(time.Second); return clock }
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.made, err = repo.Create(ctx, repo.CreateOptions{Regions: w.places(), Classic: true, Now: now()})
	must()
	state, err := repo.SaveState(t.TempDir(), w.made.ID, w.made.Root.Public(), w.made.Writer, nil)
	must()
	r, err := repo.Open(ctx, repo.Options{Regions: w.places(), State: state})
	must()
	defer r.Close()
	s, err := r.Begin(ctx, repo.SessionOptions{Required: 2, Now: now})
	must()
	h, err := r.Hasher(pack.Data)
	must()
	for n := range 6 {
		text := fmt.Appendf(nil, "the contents of pack %d", n)
		fw := s.Writer(pack.Data)
		w.chunks = append(w.chunks, h.Sum(text))
		err = fw.Add(ctx, text, []pack.Chunk{{ID: w.chunks[n], Length: uint32(len(text))}}, pack.HintProbe)
		must()
		err = fw.Flush(ctx)
		must()
		err = s.Save(ctx) // waits until it is stored
		must()
		for _, key := range w.regions[0].Keys("packs/") {
			if !slices.Contains(w.packs, key) && strings.HasSuffix(key, ".tar") {
				w.packs = append(w.packs, key)
			}
		}
	}
	err = s.End(ctx, false)
	must()
	for _, m := range w.regions {
		for _, key := range m.Keys("index/") {
			err = m.Delete(ctx, key)
			must()
		}
	}
	return w
}

func (w *coverWorld) places() []repo.Region {
	return []repo.Region{{Name: "a", Store: w.regions[0]}, {Name: "b", Store: w.regions[1]}}
}

func (w *coverWorld) open(t *testing.T, e repo.Events) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), repo.Options{Regions: w.places(), Identities: ids(w.made), Events: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
