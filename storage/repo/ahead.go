package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"lifeboat/storage"
)

// Limits of what is asked ahead. It is a guess, so it must cost little.
const (
	aheadQuestions = 64      // of one region
	aheadEntries   = 999     // of one listing: less than a page, so that no second one is asked for
	aheadFileMax   = 1 << 20 // bytes of the file
	aheadName      = "ahead.json"
)

// question is a request that opening a repository makes: for a small object
// whose name carries no hash (others are in the cache), or for a listing.
type question struct {
	Get  string              `json:"get,omitempty"`
	List storage.ListOptions `json:"list,omitzero"`
}

func (q question) compare(o question) int {
	return cmp.Or(cmp.Compare(q.Get, o.Get), cmp.Compare(q.List.Prefix, o.List.Prefix), cmp.Compare(q.List.StartAfter, o.List.StartAfter))
}

// foresight makes one round trip of the many that opening a repository takes,
// where each answer tells what to ask next. It remembers on the local disk what the
// last opening asked each region, asks that again at once, and hands out the answers
// as they are asked for. No answer is kept: each was given after this opening began,
// is handed out once, and those nobody asked for are thrown away. What is asked is
// decided by answers only; the memory decides when. Opening promises no order
// among its reads: the rules that need one hold in a session, which looks itself.
type foresight struct {
	path    string // of the file; empty: nothing is asked ahead
	old     map[string][]question
	regions map[string]*ahead
	wg      sync.WaitGroup
}

// foresee reads what the last opening asked, if there is a cache that lasts.
func (r *Repo) foresee() *foresight {
	f := &foresight{regions: map[string]*ahead{}}
	if r.cache == nil || r.cache.temporary {
		return f
	}
	f.path = filepath.Join(r.cache.dir, aheadName)
	info, err := os.Stat(f.path)
	if err != nil || info.Size() > aheadFileMax {
		return f
	}
	if data, err := os.ReadFile(f.path); err != nil || json.Unmarshal(data, &f.old) != nil {
		f.old = nil // not there, or damaged: only time is lost
	}
	return f
}

// watch gives a region that is asked ahead until ctx ends.
func (f *foresight) watch(ctx context.Context, region Region) storage.Store {
	if f.path == "" {
		return region.Store
	}
	a := &ahead{Store: region.Store, early: map[question]*answer{}}
	f.regions[region.Name] = a
	for i, q := range f.old[region.Name] {
		if i >= aheadQuestions || a.early[q] != nil {
			continue
		}
		ans := &answer{done: make(chan struct{})}
		a.early[q] = ans
		f.wg.Go(func() {
			defer close(ans.done)
			ans.ask(ctx, storage.Guesses(a.Store), q)
		})
	}
	return a
}

// end gives the regions their own stores back, and keeps what they were asked for
// the next time. A region that is not used keeps its old questions. The context of
// watch has ended.
func (f *foresight) end(places []*Place) {
	f.wg.Wait()
	asked := map[string][]question{}
	for _, p := range places {
		a := f.regions[p.Name]
		if a == nil {
			continue
		}
		p.Store = a.Store
		slices.SortFunc(a.asked, question.compare)
		if asked[p.Name] = a.asked; !p.Usable() {
			asked[p.Name] = f.old[p.Name]
		}
	}
	if f.path != "" && !reflect.DeepEqual(asked, f.old) {
		f.save(asked)
	}
}

// save is best effort: without the file the next opening takes longer.
func (f *foresight) save(asked map[string][]question) {
	data, err := json.Marshal(asked)
	if err != nil || len(data) > aheadFileMax {
		return
	}
	replaceFile(f.path, data)
}

// answer is what a region said before it was asked.
type answer struct {
	done  chan struct{} // closed when the rest is set
	data  []byte
	info  storage.Info
	infos []storage.Info
	long  bool // the listing goes on
	err   error
}

func (a *answer) ask(ctx context.Context, s storage.Store, q question) {
	if q.Get != "" {
		a.data, a.info, a.err = storage.ReadAll(ctx, s, q.Get, formatMax)
		return
	}
	for info, err := range s.List(ctx, q.List) {
		if a.err = err; err != nil {
			return
		}
		if a.infos = append(a.infos, info); len(a.infos) > aheadEntries {
			a.long = true
			return
		}
	}
}

// ahead is a region while a repository is opened.
type ahead struct {
	storage.Store
	mu    sync.Mutex
	early map[question]*answer // not handed out yet
	asked []question
}

func (a *ahead) note(q question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) < aheadQuestions {
		a.asked = append(a.asked, q)
	}
}

// take waits for the early answer to a question. There may be none.
func (a *ahead) take(ctx context.Context, q question) (*answer, error) {
	a.mu.Lock()
	ans := a.early[q]
	delete(a.early, q)
	a.mu.Unlock()
	if ans == nil {
		return nil, nil
	}
	select {
	case <-ans.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ans.long {
		return nil, nil
	}
	return ans, nil
}

// Get implements storage.Store.
func (a *ahead) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	q := question{Get: key}
	if _, named := storage.HashOf(key); named || offset != 0 || length >= 0 {
		return a.Store.Get(ctx, key, offset, length)
	}
	a.note(q)
	ans, err := a.take(ctx, q)
	if err != nil {
		return nil, storage.Info{}, err
	}
	if ans == nil {
		return a.Store.Get(ctx, key, offset, length)
	}
	if ans.err != nil {
		return nil, ans.info, ans.err
	}
	return io.NopCloser(bytes.NewReader(ans.data)), ans.info, nil
}

// List implements storage.Store.
func (a *ahead) List(ctx context.Context, opt storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		q := question{List: opt}
		ans, err := a.take(ctx, q)
		if err != nil {
			yield(storage.Info{}, err)
			return
		}
		entries := a.Store.List(ctx, opt)
		if ans != nil {
			entries = ans.entries
		}
		n := 0
		for info, err := range entries {
			if n++; !yield(info, err) {
				break
			}
		}
		if n <= aheadEntries {
			a.note(q)
		}
	}
}

// entries is the listing as it would have been without foresight.
func (a *answer) entries(yield func(storage.Info, error) bool) {
	for _, info := range a.infos {
		if !yield(info, nil) {
			return
		}
	}
	if a.err != nil {
		yield(storage.Info{}, a.err)
	}
}
