package replicate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// Limits of walking catalogs.
const (
	leavesRead      = 16      // pages in memory at once
	leafMemoMax     = 1 << 18 // leaves whose packs are remembered, so that shared ones are walked once
	walkProblemsMax = 20      // problems one catalog names; then its walk ends
	pageLevelMax    = 48      // height of a page tree
)

// nameSnapshots finds names and times, and chooses what is to be checked.
func (s *scrub) nameSnapshots(ctx context.Context) error {
	for id := range s.shown {
		s.names[id] = Affected{ID: id}
	}
	if s.r.Keys().HasMeta() {
		s.openNames(ctx)
	} else if s.opt.Workload != "" {
		return fmt.Errorf("choose the recovery points of %s: %w", s.opt.Workload, repo.ErrNoKey)
	}
	when := func(id string) time.Time {
		if at := s.names[id].At; !at.IsZero() {
			return at
		}
		return s.shown[id].Seen
	}
	for id, sh := range s.shown {
		visible := slices.ContainsFunc(s.scans, func(g *scan) bool { return g.checked && g.nonce != "" && sh.Shows(g.nonce) })
		if visible && (s.opt.Workload == "" || s.names[id].Workload == s.opt.Workload) {
			s.chosen = append(s.chosen, id)
		}
	}
	slices.SortFunc(s.chosen, func(a, b string) int { return cmp.Or(when(b).Compare(when(a)), cmp.Compare(a, b)) })
	if s.opt.Newest > 0 {
		count := map[string]int{}
		s.chosen = slices.DeleteFunc(s.chosen, func(id string) bool {
			w := s.names[id].Workload
			count[w]++
			return count[w] > s.opt.Newest
		})
	}
	s.report.Snapshots = len(s.chosen)
	return nil
}

// openNames reads workloads and times. One that cannot be opened stays a bare
// id: why, the walk of its catalog will say.
func (s *scrub) openNames(ctx context.Context) {
	all, err := s.r.Snapshots(ctx)
	for _, sn := range all {
		s.names[sn.Summary.ID] = Affected{ID: sn.Summary.ID, Workload: sn.Workload, At: sn.Start}
	}
	if err == nil {
		return
	}
	for id := range s.shown {
		if m, err := s.r.Manifest(ctx, id); err == nil {
			s.names[id] = Affected{ID: id, Workload: m.Workload, At: time.Unix(0, m.Start).UTC()}
		}
	}
}

// catalogPhase follows every chosen snapshot from its manifest to its last
// chunk, as far as the keys here open names. Where a page comes from does not
// matter: its id proves it, and the packs of each region are checked as bytes.
func (s *scrub) catalogPhase(ctx context.Context) error {
	if s.idx == nil || !s.r.Keys().HasMeta() {
		return nil
	}
	if err := s.cover(ctx); err != nil {
		return err
	}
	s.opt.Events.expect(0, 0)
	memo := map[pack.ChunkID][]uint32{}
	for _, id := range s.chosen {
		if err := s.walkSnapshot(ctx, id, memo); err != nil {
			return err
		}
	}
	return nil
}

// cover makes the index know the packs that no index object names.
func (s *scrub) cover(ctx context.Context) error {
	var keys []string
	for no, row := range s.packs.rows {
		if row.chosen && !row.indexed {
			keys = append(keys, s.packs.key(uint32(no)))
		}
	}
	s.report.Unindexed = int64(len(keys))
	if len(keys) == 0 || s.r.CoverPacks(ctx, keys) == nil {
		return nil
	}
	for _, key := range keys { // those that no region can tell of are findings already
		if err := s.r.CoverPacks(ctx, []string{key}); err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *scrub) walkSnapshot(ctx context.Context, id string, memo map[pack.ChunkID][]uint32) error {
	s.opt.Events.at("", "snapshot "+id[:min(8, len(id))])
	m, err := s.r.Manifest(ctx, id)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, repo.ErrNoKey), errors.Is(err, repo.ErrNoSnapshot):
		return nil // another writer's; or only a region shows it that the repository does not use
	case err != nil:
		s.ofSnapshot(id, "its manifest cannot be opened: %v", err)
		return nil
	}
	rd, err := s.r.Chunks(ctx, m.Pages)
	if err != nil {
		return err
	}
	defer rd.Close()
	w := &walker{s: s, rd: rd, id: id, memo: memo, allowed: make([]bool, len(s.packs.rows)), stamps: make([]uint32, len(s.packs.rows)), overlay: map[pack.ChunkID]bool{}}
	hasher, err := s.r.Hasher(pack.Meta)
	if err != nil {
		return err
	}
	for _, page := range m.Pages {
		w.overlay[hasher.Sum(page)] = true
	}
	for _, ref := range s.shown[id].Intents {
		numbers, err := s.closure(ref.Hash)
		if err != nil {
			return nil // found already
		}
		for _, no := range numbers {
			w.allowed[no] = true
		}
		break // what one region needs of it, all do
	}
	s.report.Catalogs++
	return w.tree(ctx, pageLink{id: m.Catalog.Root, level: int(m.Catalog.Level), entries: m.Catalog.Entries})
}

// ofSnapshot reports what is wrong with a snapshot in every region.
func (s *scrub) ofSnapshot(id, problem string, args ...any) {
	object := "snapshot " + id
	for _, ref := range s.shown[id].Intents {
		object = s.intentKey(ref.Hash)
		if st, ok := s.view.Intent(ref.Hash); ok {
			for _, sn := range st.Snapshots {
				if sn.ID == id && sn.Key != "" {
					object = sn.Key
				}
			}
		}
	}
	f := s.findAs(kindSnapshot, nil, object+"#"+id, problem, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Object, f.snapshots = object, []string{id}
}

// walker follows one catalog.
type walker struct {
	s        *scrub
	rd       *repo.Reader
	id       string
	overlay  map[pack.ChunkID]bool // pages that ride in the manifest
	allowed  []bool                // packs of the closure
	memo     map[pack.ChunkID][]uint32
	problems []string
	stamps   []uint32 // by pack: the number of the leaf that named it last
	stamp    uint32
}

// pageLink leads to a page; first and last are nil for the root.
type pageLink struct {
	id          pack.ChunkID
	level       int
	entries     uint64
	first, last []byte
}

// upperPage is the CBOR of a page above the leaves.
type upperPage struct {
	_     struct{} `cbor:",toarray"`
	Tag   string
	Level uint64
	Items []upperItem
}

type upperItem struct {
	_           struct{} `cbor:",toarray"`
	First, Last []byte
	ID          [32]byte
	Entries     uint64
}

// tree walks the catalog and reports what was wrong.
func (w *walker) tree(ctx context.Context, root pageLink) error {
	err := w.pages(ctx, []pageLink{root})
	if len(w.problems) > 0 {
		more := ""
		if len(w.problems) >= walkProblemsMax {
			more = " (and perhaps more)"
		}
		w.s.ofSnapshot(w.id, "its catalog is not whole: %d problems%s, the first: %s", len(w.problems), more, w.problems[0])
	}
	return err
}

func (w *walker) problem(format string, args ...any) {
	if len(w.problems) < walkProblemsMax {
		w.problems = append(w.problems, fmt.Sprintf(format, args...))
	}
}

// full reports that enough is wrong to stop looking.
func (w *walker) full() bool { return len(w.problems) >= walkProblemsMax }

// pages walks sibling pages in order, some at once in memory.
func (w *walker) pages(ctx context.Context, links []pageLink) error {
	var wanted []pageLink
	for _, l := range links {
		if ok, err := w.located(l.id); err != nil {
			return err
		} else if !ok {
			w.problem("catalog page %.8s is in no pack that the recovery point names", l.id)
			continue
		}
		if l.level > 0 || !w.remembered(l.id) {
			wanted = append(wanted, l)
		}
	}
	for batch := range slices.Chunk(wanted, leavesRead) {
		if w.full() {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		texts, err := w.read(ctx, batch)
		if err != nil {
			return err
		}
		for i, l := range batch {
			if texts[i] == nil {
				continue
			}
			if err := w.page(ctx, l, texts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// read fetches pages. Those that no region can give are problems, and nil.
func (w *walker) read(ctx context.Context, links []pageLink) ([][]byte, error) {
	ids := make([]pack.ChunkID, len(links))
	for i, l := range links {
		ids[i] = l.id
	}
	texts := make([][]byte, len(links))
	err := w.rd.Read(ctx, ids, func(i int, data []byte) error {
		texts[i] = bytes.Clone(data)
		w.s.bytes.Add(int64(len(data)))
		return nil
	})
	var failed *repo.ReadError
	if err != nil && (!errors.As(err, &failed) || ctx.Err() != nil) {
		return nil, err
	}
	if failed != nil {
		for i, err := range failed.Failed {
			w.problem("catalog page %.8s cannot be read: %v", links[i].id, err)
		}
	}
	return texts, nil
}

func (w *walker) page(ctx context.Context, l pageLink, text []byte) error {
	if l.level == 0 {
		return w.leaf(ctx, l, text)
	}
	links, err := upperLinks(l, text)
	if err != nil {
		w.problem("catalog page %.8s: %v", l.id, err)
		return nil
	}
	return w.pages(ctx, links)
}

// upperLinks takes a page above the leaves apart, and checks that it is sorted
// and holds as many entries as it was said to.
func upperLinks(l pageLink, text []byte) ([]pageLink, error) {
	var p upperPage
	if err := cbor.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	if p.Tag != "cat1" || p.Level != uint64(l.level) || l.level > pageLevelMax || len(p.Items) == 0 {
		return nil, fmt.Errorf("tag %q, level %d, %d items, where level %d is due", p.Tag, p.Level, len(p.Items), l.level)
	}
	links := make([]pageLink, len(p.Items))
	var total uint64
	for i, it := range p.Items {
		if catalog.Compare(it.First, it.Last) > 0 || i > 0 && catalog.Compare(p.Items[i-1].Last, it.First) >= 0 {
			return nil, fmt.Errorf("item %d is out of order", i)
		}
		total += it.Entries
		links[i] = pageLink{id: it.ID, level: l.level - 1, entries: it.Entries, first: it.First, last: it.Last}
	}
	if total != l.entries || l.first != nil && (!bytes.Equal(links[0].first, l.first) || !bytes.Equal(links[len(links)-1].last, l.last)) {
		return nil, errors.New("it does not span what the page above says")
	}
	return links, nil
}

// onePage is the Chunks of a catalog that is a single page.
type onePage []byte

// Read implements catalog.Chunks.
func (p onePage) Read(_ context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error {
	for i := range want {
		if err := emit(i, p); err != nil {
			return err
		}
	}
	return nil
}

// leaf goes through the entries of a page, and looks every chunk up.
func (w *walker) leaf(ctx context.Context, l pageLink, text []byte) error {
	before := len(w.problems)
	one, err := catalog.Open(ctx, onePage(text), catalog.Root{ID: l.id, Entries: l.entries})
	if err != nil {
		w.problem("%v", err)
		return nil
	}
	w.stamp++
	var used []uint32
	var n uint64
	var last []byte
	for e, err := range one.All(ctx) {
		if err != nil {
			w.problem("%v", err)
			break
		}
		if n++; n == 1 && l.first != nil && !bytes.Equal(e.Path, l.first) {
			w.problem("catalog page %.8s begins with %q, the page above says %q", l.id, e.Path, l.first)
		}
		last = append(last[:0], e.Path...)
		if used, err = w.entry(ctx, e, used); err != nil {
			return err
		}
	}
	if l.last != nil && len(w.problems) == before && !bytes.Equal(last, l.last) {
		w.problem("catalog page %.8s ends with %q, the page above says %q", l.id, last, l.last)
	}
	w.s.report.Entries += int64(n)
	w.s.opt.Events.done(int64(len(text)), int64(n))
	if len(w.problems) == before && len(w.memo) < leafMemoMax {
		w.memo[l.id] = used
	}
	return nil
}

// entry looks up the chunks of one file and adds the packs that hold them to used.
func (w *walker) entry(ctx context.Context, e *catalog.Entry, used []uint32) ([]uint32, error) {
	if e.IDPages {
		for _, id := range e.Chunks {
			if ok, err := w.located(id); err != nil {
				return used, err
			} else if !ok {
				w.problem("the chunk list of %q, page %.8s, is in no pack that the recovery point names", "/"+string(e.Path), id)
				return used, nil
			}
		}
		// Pages of ids may ride in the manifest: another snapshot must look for itself.
		used = append(used, noMemo)
	}
	for id, err := range catalog.FileChunks(ctx, e, w.rd) {
		if err != nil {
			if ctx.Err() != nil {
				return used, context.Cause(ctx)
			}
			w.problem("%v", err)
			return used, nil
		}
		no, ok, err := w.find(id)
		if err != nil {
			return used, err
		}
		if !ok {
			w.problem("%q needs chunk %.8s, %s", "/"+string(e.Path), id, w.whyNot(id))
			return used, nil
		}
		if w.stamps[no] != w.stamp {
			w.stamps[no], used = w.stamp, append(used, no)
		}
	}
	return used, nil
}

// noMemo in a list of packs says that a leaf must be walked again.
const noMemo = ^uint32(0)

// remembered reports whether a leaf was walked before and all it needs is in
// packs of this snapshot too.
func (w *walker) remembered(id pack.ChunkID) bool {
	used, ok := w.memo[id]
	return ok && !slices.ContainsFunc(used, func(no uint32) bool { return no == noMemo || !w.allowed[no] })
}

// located reports whether a page is in the manifest or in a pack of the closure.
func (w *walker) located(id pack.ChunkID) (bool, error) {
	if w.overlay[id] {
		return true, nil
	}
	_, ok, err := w.find(id)
	return ok, err
}

// find gives a pack of the closure that holds a chunk.
func (w *walker) find(id pack.ChunkID) (no uint32, ok bool, err error) {
	_, ok, err = w.s.idx.Find(id, func(l index.Location) bool {
		n, known := w.s.packs.byHash[l.Pack]
		if known && w.allowed[n] {
			no = n
			return true
		}
		return false
	})
	if err != nil {
		return 0, false, fmt.Errorf("look up chunk %.8s: %w", id, err)
	}
	return no, ok, nil
}

func (w *walker) whyNot(id pack.ChunkID) string {
	loc, ok, err := w.s.idx.Has(id)
	switch {
	case err != nil:
		return err.Error()
	case !ok:
		return "which no index names"
	}
	return fmt.Sprintf("which is only in a pack that the recovery point does not name: %s", loc.Pack)
}

// walkFiles names files of a snapshot that need one of the lost chunks.
func (s *scrub) walkFiles(ctx context.Context, id string, lost map[pack.ChunkID][]*finding, most int) error {
	m, err := s.r.Manifest(ctx, id)
	if err != nil {
		return err
	}
	rd, err := s.r.Chunks(ctx, m.Pages)
	if err != nil {
		return err
	}
	defer rd.Close()
	cat, err := catalog.Open(ctx, rd, catalog.Root{ID: m.Catalog.Root, Level: int(m.Catalog.Level), Entries: m.Catalog.Entries})
	if err != nil {
		return err
	}
	for e, err := range cat.All(ctx) {
		if err != nil {
			return err
		}
		if e.Type != catalog.File || len(e.Chunks) == 0 {
			continue
		}
		if err := nameFile(ctx, e, rd, lost, most); err != nil {
			return err
		}
	}
	return nil
}

func nameFile(ctx context.Context, e *catalog.Entry, rd *repo.Reader, lost map[pack.ChunkID][]*finding, most int) error {
	hit := map[*finding]bool{}
	for id, err := range catalog.FileChunks(ctx, e, rd) {
		if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNotFound) {
			return nil // its list of chunks is lost itself, and reported
		}
		if err != nil {
			return err
		}
		for _, f := range lost[id] {
			hit[f] = true
		}
	}
	for f := range hit {
		f.FilesTotal++
		if path := "/" + string(e.Path); len(f.Files) < most && !slices.Contains(f.Files, path) {
			f.Files = append(f.Files, path)
		}
	}
	return nil
}
