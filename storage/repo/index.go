package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

const (
	indexObjectMax  = 8 << 20 // bytes of one index object
	indexObjectsMax = 1 << 20 // index objects one region may list
	indexLoaders    = 8       // index objects fetched at once
	coversMax       = 4       // packs read at once for their tables of contents
)

// indexState is the local index and what was merged into it in this process.
type indexState struct {
	*index.Index
	private string // a temporary directory to remove, or empty
}

func (s *indexState) close() error {
	err := s.Index.Close()
	if s.private != "" {
		err = errors.Join(err, os.RemoveAll(s.private))
	}
	return err
}

// openIndex opens the local index. One that is damaged is thrown away; when
// another process holds it, this one takes a private one.
func (r *Repo) openIndex() (*indexState, error) {
	dir := filepath.Join(r.cache.dir, "index")
	idx, err := index.Open(dir, index.Options{Repo: r.id, Temporary: r.cache.temporary})
	if errors.Is(err, index.ErrDamaged) {
		r.opt.Events.warn("index_rebuilt", "the local index was damaged and is rebuilt: %v", err)
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove damaged index: %w", err)
		}
		idx, err = index.Open(dir, index.Options{Repo: r.id, Temporary: r.cache.temporary})
	}
	if err == nil {
		return &indexState{Index: idx}, nil
	}
	if !errors.Is(err, index.ErrLocked) {
		return nil, fmt.Errorf("open local index: %w", err)
	}
	tmp, err := os.MkdirTemp("", "lifeboat-index-")
	if err != nil {
		return nil, fmt.Errorf("make private index: %w", err)
	}
	if idx, err = index.Open(filepath.Join(tmp, "index"), index.Options{Repo: r.id, Temporary: true}); err != nil {
		return nil, errors.Join(fmt.Errorf("open private index: %w", err), os.RemoveAll(tmp))
	}
	return &indexState{Index: idx, private: tmp}, nil
}

// Index gives the local index, with all index objects that the regions list
// merged into it. Only objects signed by enrolled writers count.
func (r *Repo) Index(ctx context.Context) (*index.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil {
		return r.index.Index, nil
	}
	if r.keys.Domain == nil {
		return nil, fmt.Errorf("read the index: %w", ErrNoKey)
	}
	st, err := r.openIndex()
	if err != nil {
		return nil, err
	}
	if err := r.fillIndex(ctx, st.Index); err != nil {
		return nil, errors.Join(err, st.close())
	}
	r.index = st
	return st.Index, nil
}

// fillIndex lists index objects in every usable region and merges the new ones.
func (r *Repo) fillIndex(ctx context.Context, idx *index.Index) error {
	var g errgroup.Group
	g.SetLimit(indexLoaders)
	var mu sync.Mutex
	for name := range r.listIndex(ctx) {
		known, err := idx.Loaded(name)
		if err != nil {
			return errors.Join(fmt.Errorf("look into the local index: %w", err), g.Wait())
		}
		if !known {
			g.Go(func() error { return r.loadIndexObject(ctx, idx, name, &mu) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := idx.Flush(); err != nil {
		return fmt.Errorf("write local index: %w", err)
	}
	return nil
}

// listIndex gives the names of all index objects that some usable region lists, of
// enrolled writers. A listing that fails is warned of: what it has shown counts.
func (r *Repo) listIndex(ctx context.Context) map[string]bool {
	names := map[string]bool{}
	var mu sync.Mutex
	found := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		names[name] = true
	}
	var g errgroup.Group
	g.SetLimit(listersMax)
	for _, p := range r.readOrder() {
		for _, w := range r.trust.Writers {
			g.Go(func() error {
				prefix := "index/" + w.ID + "/"
				if err := listIndexIn(ctx, p, prefix, found); err != nil {
					r.opt.Events.warn("index_list", "region %s: list %s: %v", p.Name, prefix, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // nothing fails
	return names
}

func listIndexIn(ctx context.Context, p *Place, prefix string, found func(name string)) error {
	n := 0
	for info, err := range p.Store.List(ctx, storage.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		if n++; n > indexObjectsMax {
			return fmt.Errorf("more than %d objects", indexObjectsMax)
		}
		if strings.HasSuffix(info.Key, ".age") {
			found(info.Key)
		}
	}
	return nil
}

// loadIndexObject merges one object. A damaged or untrusted one is only warned
// of: what it would have told stands in the tables of contents of the packs too.
func (r *Repo) loadIndexObject(ctx context.Context, idx *index.Index, name string, mu *sync.Mutex) error {
	o, err := r.readIndexObject(ctx, name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.opt.Events.warn("index_object", "%v", err)
		return nil
	}
	mu.Lock()
	defer mu.Unlock()
	if err := idx.AddObject(name, o); err != nil {
		return fmt.Errorf("merge %s: %w", name, err)
	}
	return nil
}

func (r *Repo) readIndexObject(ctx context.Context, name string) (*index.Object, error) {
	_, parts, err := storage.Parse(name)
	if err != nil {
		return nil, err
	}
	w, ok := r.trust.Enrolled(parts.Writer)
	if !ok {
		return nil, fmt.Errorf("%s: writer is not enrolled", name)
	}
	key, err := seal.ParseVerifyKey(w.Sign)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	data, err := r.anyObject(ctx, name, indexObjectMax)
	if err != nil {
		return nil, err
	}
	dec, err := pack.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	opener := seal.NewOpener(r.keys.Domain.Index)
	o, err := index.DecodeObject(data, index.Expect{Repo: r.id, Writer: hex16(parts.Writer), Instance: hex16(parts.Instance), Seq: parts.Seq}, key, dec, opener.Open)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return o, nil
}

func hex16(s string) (out [16]byte) {
	b, err := hex.DecodeString(s)
	if err == nil {
		copy(out[:], b)
	}
	return out
}

// CoverPacks makes sure that the index knows every one of these packs, reading
// those that no index object told of for their tables of contents.
func (r *Repo) CoverPacks(ctx context.Context, keys []string) error {
	idx, err := r.Index(ctx)
	if err != nil {
		return err
	}
	var missing []string
	for _, key := range keys {
		kind, parts, err := storage.Parse(key)
		if err != nil || kind != storage.KindPack {
			return fmt.Errorf("%s: %w: not the name of a pack", key, storage.ErrCorrupt)
		}
		_, known, err := idx.HasPack(parts.Sum, hex16(parts.Writer))
		if err != nil {
			return fmt.Errorf("look up %s: %w", key, err)
		}
		if !known {
			missing = append(missing, key)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(coversMax)
	for _, key := range missing {
		g.Go(func() error { return r.coverPack(ctx, idx, key) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(missing) > 0 {
		r.opt.Events.warn("index_rebuilt", "%d packs were in no index object; their own tables of contents were read", len(missing))
	}
	return nil
}

// coverPack takes over the table of contents of a pack whose bytes hash to its
// name. The table alone would prove nothing: anybody can seal one, and what the
// index says is what later runs do not store again.
func (r *Repo) coverPack(ctx context.Context, idx *index.Index, key string) error {
	_, parts, err := storage.Parse(key)
	if err != nil {
		return err
	}
	dec, err := pack.NewDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	open := seal.NewOpener(r.keys.Domain.Index).Open
	var all []error
	for _, p := range r.readOrder() {
		toc, size, err := pack.ReadProvedTOC(ctx, p.Store, key, parts.Sum, dec, open)
		if err == nil {
			r.opt.Events.fetched(p.Name, size)
			if kind := packKind(toc.Kind); kind != parts.PackKind {
				return fmt.Errorf("%s: %w: its table of contents says kind %c", key, storage.ErrCorrupt, kind)
			}
			return idx.Add(index.PackRecord{Hash: parts.Sum, Kind: toc.Kind, Size: uint64(size), Frames: toc.Frames}, hex16(parts.Writer))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.opt.Events.fallback(p.Name, key, err)
		all = append(all, fmt.Errorf("region %s: %w", p.Name, err))
	}
	return fmt.Errorf("read the table of contents of %s: %w", key, errors.Join(all...))
}

func hexID(w index.Writer) string { return hex.EncodeToString(w[:]) }
