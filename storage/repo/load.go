package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/journal"
)

const (
	statementsMax  = 4 << 20 // names one region's journal may list
	listersMax     = 16      // writers or instances listed at once, per region
	loadersMax     = 16      // statements fetched at once, per region
	manifestsMax   = 1 << 16 // manifests whose summaries are remembered
	statementSmall = 1 << 20 // bytes; larger ones are fetched one by one, so that no region can make many of them fill the memory
)

// Reload reads the journals of all usable regions again. A region whose journal
// cannot be listed is left out.
func (r *Repo) Reload(ctx context.Context) error {
	view := journal.NewView()
	if st := r.opt.State; st != nil {
		view.Prefer(func(writer string) bool { return r.trust.MayReuse(st.Writer(), writer) })
	}
	told := told{heard: map[[32]byte]bool{}, sums: map[string]*Summary{}}
	add := func(p *Place, s *journal.Signed) {
		view.Add(p.Nonce, s)
		if told.first(s.Hash) {
			told.add(r.summaries(s))
		}
	}
	known := newParsed()
	var usable []*Place
	for _, p := range r.regions {
		if p.Usable() {
			view.AddRegion(p.Nonce) // all of them before any is read: the readers share the view
			usable = append(usable, p)
		}
	}
	grace := make([]time.Duration, len(usable))
	for i, p := range usable {
		grace[i] = stragglerGrace - p.kept
		p.kept = 0
	}
	errs := together(ctx, grace, func(ctx context.Context, i int) error { return r.loadRegion(ctx, r.newLoader(usable[i], known, add)) })
	for i, err := range errs {
		if err != nil {
			usable[i].Err = fmt.Errorf("region %s: %w", usable[i].Name, err)
			r.opt.Events.region(usable[i].Name, usable[i].Err)
		}
	}
	if err := r.anyUsable(); err != nil {
		return err
	}
	r.mu.Lock()
	r.view, r.sums = view, told.agreed()
	r.mu.Unlock()
	return nil
}

// told collects what statements say of snapshots. Any writer can say
// something of any snapshot; where two say different things neither is believed,
// and the manifest is asked.
type told struct {
	mu    sync.Mutex
	heard map[[32]byte]bool   // statements, which several regions hold
	sums  map[string]*Summary // nil: not agreed
}

func (t *told) first(statement [32]byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := t.heard[statement]
	t.heard[statement] = true
	return !again
}

func (t *told) add(all []Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sum := range all {
		old, ok := t.sums[sum.ID]
		switch {
		case !ok:
			t.sums[sum.ID] = &sum
		case old != nil && !reflect.DeepEqual(*old, sum):
			t.sums[sum.ID] = nil
		}
	}
}

func (t *told) agreed() map[string]Summary {
	out := map[string]Summary{}
	for id, sum := range t.sums {
		if sum != nil {
			out[id] = *sum
		}
	}
	return out
}

// loadRegion reads one region's journal: per writer and instance the newest
// checkpoint, then the statements after it; several of them at once.
func (r *Repo) loadRegion(ctx context.Context, shared *loader) error {
	p := shared.p
	p.problem = nil
	instances := make([][]string, len(r.trust.Writers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listersMax)
	for i, w := range r.trust.Writers {
		g.Go(func() (err error) {
			if instances[i], err = listDirs(gctx, p.Store, "journal/"+w.ID+"/"); err != nil {
				return fmt.Errorf("list the journal of writer %.8s: %w", w.ID, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(listersMax)
	for i, w := range r.trust.Writers {
		for _, inst := range instances[i] {
			l := *shared
			g.Go(func() error { return l.instance(gctx, w.ID, inst) })
		}
	}
	return g.Wait()
}

func listDirs(ctx context.Context, s storage.Store, prefix string) ([]string, error) {
	var out []string
	for info, err := range s.List(ctx, storage.ListOptions{Prefix: prefix, Delimited: true}) {
		if err != nil {
			return nil, err
		}
		if info.Dir {
			out = append(out, strings.TrimSuffix(strings.TrimPrefix(info.Key, prefix), "/"))
		}
	}
	return out, nil
}

// loader reads one instance's statements in one region.
type loader struct {
	r     *Repo
	p     *Place
	known *parsed
	add   func(*Place, *journal.Signed)
	mu    *sync.Mutex   // of the region
	slots chan struct{} // of the region: taken while a statement is read
	got   []*journal.Signed
}

func (r *Repo) newLoader(p *Place, known *parsed, add func(*Place, *journal.Signed)) *loader {
	return &loader{r: r, p: p, known: known, add: add, mu: &sync.Mutex{}, slots: make(chan struct{}, loadersMax)}
}

func (l *loader) instance(ctx context.Context, writer, inst string) error {
	prefix := "journal/" + writer + "/" + inst + "/"
	after, err := l.checkpoint(ctx, prefix)
	if err != nil {
		return err
	}
	var infos []storage.Info
	for info, err := range l.p.Store.List(ctx, storage.ListOptions{Prefix: prefix, StartAfter: after, Delimited: true}) {
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if !info.Dir && strings.HasSuffix(info.Key, ".json") {
			infos = append(infos, info)
		}
		if len(infos) > statementsMax {
			return fmt.Errorf("list %s: more than %d statements", prefix, statementsMax)
		}
	}
	var g errgroup.Group
	g.SetLimit(loadersMax)
	for _, info := range infos {
		g.Go(func() error { return l.listed(ctx, info) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.mu.Lock()
	l.p.problem = append(l.p.problem, journal.CheckChain(l.got)...)
	l.mu.Unlock()
	return nil
}

// listed reads a statement of the listing, which must not be larger than listed.
func (l *loader) listed(ctx context.Context, info storage.Info) error {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	if info.Size > statementSmall {
		l.r.large.Lock()
		defer l.r.large.Unlock()
	}
	return l.statement(ctx, info.Key, info.Size, true)
}

// checkpoint takes the newest good checkpoint and says after which key to list.
func (l *loader) checkpoint(ctx context.Context, prefix string) (after string, err error) {
	const checkpointsTried = 4
	tried := 0
	for info, err := range l.p.Store.List(ctx, storage.ListOptions{Prefix: prefix + "c/"}) {
		if err != nil {
			return "", fmt.Errorf("list %sc/: %w", prefix, err)
		}
		if !strings.HasSuffix(info.Key, ".json") {
			continue
		}
		s, err := l.fetch(ctx, info.Key, info.Size)
		if err == nil && s.Type == journal.Checkpoint && s.Head != nil {
			l.add(l.p, s)
			for _, ref := range s.Kept {
				if err := l.statement(ctx, refKey(s, ref), statementSmall, false); err != nil {
					return "", err
				}
			}
			return fmt.Sprintf("%s%016x-~", prefix, s.Head.Seq), nil
		}
		if isAway(err) {
			return "", err
		}
		l.odd(err)
		if tried++; tried >= checkpointsTried {
			break
		}
	}
	return "", nil
}

func refKey(s *journal.Signed, ref journal.Ref) string {
	w, i := ref.Writer, ref.Instance
	if w == "" {
		w, i = s.Writer, s.Instance
	}
	sum, _ := hex.DecodeString(ref.Hash)
	return storage.JournalKey(w, i, ref.Seq, pad32(sum))
}

// statement reads one statement. One that is damaged, missing or not trusted is
// reported as a problem of the region and otherwise ignored: it can hide a
// snapshot in this region, but never invent one. chained ones take part in the
// check of the chain. size is how many bytes it may have.
func (l *loader) statement(ctx context.Context, key string, size int64, chained bool) error {
	s, err := l.fetch(ctx, key, size)
	if isAway(err) {
		return err
	}
	if err != nil {
		l.odd(err)
		return nil
	}
	l.add(l.p, s)
	if !chained {
		return nil
	}
	l.mu.Lock()
	l.got = append(l.got, s)
	l.mu.Unlock()
	return nil
}

func (l *loader) odd(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.p.problem = append(l.p.problem, err)
	}
}

// isAway separates a region that does not answer from an object that is bad.
func isAway(err error) bool {
	return err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, journal.ErrUntrusted)
}

func (l *loader) fetch(ctx context.Context, key string, size int64) (*journal.Signed, error) {
	doc, err := l.r.object(ctx, l.p, key, min(size, journal.StatementMax))
	if err != nil {
		return nil, err
	}
	hash, _ := storage.HashOf(key) // a key without one was not read
	s, err := l.known.get(hash, doc, func(doc []byte) (*journal.Signed, error) { return journal.Parse(doc, l.r.id, l.r.trust) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if own, err := s.Key(); err != nil || own != key {
		return nil, fmt.Errorf("%s: %w: it names itself %s", key, journal.ErrUntrusted, own)
	}
	return s, nil
}

// object reads a whole hash-named object of one region, through the cache.
func (r *Repo) object(ctx context.Context, p *Place, key string, limit int64) ([]byte, error) {
	data, err := r.objectAt(ctx, p, key, limit)
	if err != nil {
		return nil, fmt.Errorf("region %s: %w", p.Name, err)
	}
	return data, nil
}

// objectAt is object for a caller who names the region in its errors itself.
func (r *Repo) objectAt(ctx context.Context, p *Place, key string, limit int64) ([]byte, error) {
	hash, ok := storage.HashOf(key)
	if ok {
		if data, hit := r.cache.get(hash); hit {
			return data, nil
		}
	}
	data, _, err := storage.ReadVerified(ctx, p.Store, key, limit)
	if err != nil {
		return nil, err
	}
	r.opt.Events.fetched(p.Name, int64(len(data)))
	r.cache.put(hash, data)
	return data, nil
}

// anyObject reads a hash-named object from the first region that has good bytes.
func (r *Repo) anyObject(ctx context.Context, key string, limit int64) ([]byte, error) {
	var all []error
	for _, p := range r.readOrder() {
		data, err := r.object(ctx, p, key, limit)
		if err == nil {
			return data, nil
		}
		r.opt.Events.fallback(p.Name, key, err)
		all = append(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("read %s from any region: %w", key, errors.Join(all...))
}

// summaries opens what a statement's sealed body says of its snapshots.
func (r *Repo) summaries(s *journal.Signed) []Summary {
	if len(s.Body) == 0 || !r.keys.HasMeta() || s.Type != journal.Intent && s.Type != journal.Checkpoint {
		return nil
	}
	b, err := openBody(s.Body, s.BodyHash, r.metaOpener().Open)
	if err != nil {
		return nil // the manifest itself will be asked
	}
	return b.Snapshots
}

// Snapshot is a recovery point as a listing shows it.
type Snapshot struct {
	Summary
	journal.Shown
	// Regions are the names of the regions that show it, in configured order.
	Regions []string
	own     journal.Ref // intent of the writer that took it, if known
}

// View is what the journals said at the last Reload.
func (r *Repo) View() *journal.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view
}

// Snapshots lists what the usable regions show, in the order in which they were
// taken as far as that is known; the last one of a workload is its latest. It needs a meta
// key for names and times; ErrNoKey without one.
func (r *Repo) Snapshots(ctx context.Context) ([]Snapshot, error) {
	if !r.keys.HasMeta() {
		return nil, fmt.Errorf("list snapshots: %w", ErrNoKey)
	}
	var out []Snapshot
	view := r.View()
	for id, shown := range view.Snapshots() {
		sum, err := r.summary(ctx, id, shown)
		if errors.Is(err, ErrNoKey) {
			continue // another writer's, and this host may not read its names
		}
		if err != nil && (isAway(err) || ctx.Err() != nil) {
			return nil, err
		}
		if err != nil { // one that is damaged must not hide all the others
			r.opt.Events.warn("snapshot_unreadable", "snapshot %.8s is left out: %v", id, err)
			continue
		}
		s := Snapshot{Summary: sum, Shown: *shown}
		if own, ok := view.Authored(sum.Origin, id); ok {
			s.Shown.Writer, s.own = sum.Origin, own // a replicator's intent may be the only one that shows it
		}
		for _, p := range r.regions {
			if p.Usable() && shown.Shows(p.Nonce) {
				s.Regions = append(s.Regions, p.Name)
			}
		}
		out = append(out, s)
	}
	sortInOrder(out, view.Taken)
	return out, nil
}

// opened is what a manifest says, or that no key of this process opens it. Its id
// is the hash of its bytes, so that holds as long as the process has these keys.
type opened struct {
	sum   Summary
	noKey bool
}

func (r *Repo) summary(ctx context.Context, id string, shown *journal.Shown) (Summary, error) {
	r.mu.Lock()
	sum, ok := r.sums[id]
	m, known := r.manifests[id]
	r.mu.Unlock()
	if ok {
		return sum, nil
	}
	if !known {
		var err error
		if m, err = r.askManifest(ctx, id, shown); err != nil {
			return Summary{}, err
		}
	}
	if m.noKey {
		return Summary{}, fmt.Errorf("manifest of snapshot %.8s: %w", id, ErrNoKey)
	}
	return m.sum, nil
}

// askManifest reads a manifest for its summary, and remembers it.
func (r *Repo) askManifest(ctx context.Context, id string, shown *journal.Shown) (opened, error) {
	var o opened
	m, err := r.manifest(ctx, id, shown)
	switch {
	case errors.Is(err, ErrNoKey):
		o.noKey = true
	case err != nil:
		return o, err
	default:
		o.sum = m.summary(id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.manifests == nil {
		r.manifests = map[string]opened{}
	}
	if len(r.manifests) < manifestsMax {
		r.manifests[id] = o
	}
	return o, nil
}

// Manifest reads a snapshot's manifest from any region that shows it.
func (r *Repo) Manifest(ctx context.Context, id string) (*Manifest, error) {
	shown := r.View().Snapshots()[id]
	if shown == nil {
		return nil, fmt.Errorf("snapshot %.8s: %w", id, ErrNoSnapshot)
	}
	return r.manifest(ctx, id, shown)
}

func (r *Repo) manifest(ctx context.Context, id string, shown *journal.Shown) (*Manifest, error) {
	if shown == nil {
		return nil, fmt.Errorf("snapshot %.8s: %w", id, ErrNoSnapshot)
	}
	sealed, err := r.sealedManifest(ctx, id, shown)
	if err != nil {
		return nil, err
	}
	plain, err := openRecord(sealed, r.metaOpener().Open, manifestPlainMax)
	if isNoKey(err) {
		return nil, fmt.Errorf("manifest of snapshot %.8s: %w", id, ErrNoKey)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest of snapshot %.8s: %w", id, err)
	}
	return DecodeManifest(plain, r.id)
}

// sealedManifest finds the manifest's bytes: inside an intent, or as an object.
func (r *Repo) sealedManifest(ctx context.Context, id string, shown *journal.Shown) ([]byte, error) {
	var all []error
	for _, p := range r.readOrder() {
		ref, ok := shown.Intents[p.Nonce]
		if !ok {
			continue
		}
		sn, err := r.snapshotIn(ctx, p, ref, id)
		if err != nil {
			all = append(all, err)
			continue
		}
		if sn.Key == "" {
			return sn.Inline, nil
		}
		data, err := r.anyObject(ctx, sn.Key, manifestPlainMax)
		if hash, ok := storage.HashOf(sn.Key); err == nil && (!ok || hex.EncodeToString(hash[:]) != id) {
			err = fmt.Errorf("manifest %s: %w: it is not the one of snapshot %.8s", sn.Key, storage.ErrCorrupt, id)
		}
		if err == nil {
			return data, nil
		}
		all = append(all, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("manifest of snapshot %.8s: no region in use shows it: %w", id, ErrNoSnapshot)
	}
	return nil, fmt.Errorf("manifest of snapshot %.8s: %w", id, errors.Join(all...))
}

// snapshotIn reads the intent again for what the view does not keep.
func (r *Repo) snapshotIn(ctx context.Context, p *Place, ref journal.Ref, id string) (journal.Snapshot, error) {
	sum, err := hex.DecodeString(ref.Hash)
	if err != nil {
		return journal.Snapshot{}, fmt.Errorf("intent %.8s: %w", ref.Hash, storage.ErrCorrupt)
	}
	doc, err := r.object(ctx, p, storage.JournalKey(ref.Writer, ref.Instance, ref.Seq, pad32(sum)), journal.StatementMax)
	if err != nil {
		return journal.Snapshot{}, err
	}
	s, err := journal.Parse(doc, r.id, r.trust)
	if err != nil {
		return journal.Snapshot{}, err
	}
	for _, sn := range s.Snapshots {
		if sn.ID == id {
			return sn, nil
		}
	}
	return journal.Snapshot{}, fmt.Errorf("intent %.8s: %w: it does not name snapshot %.8s", ref.Hash, storage.ErrCorrupt, id)
}

// Drills gives the drill reports that the journals hold, oldest first, with the
// statement each came in.
func (r *Repo) Drills() []DrillRecord {
	var out []DrillRecord
	for _, s := range r.View().Drills() {
		b, err := openBody(s.Body, s.BodyHash, r.metaOpener().Open)
		if err != nil {
			continue // sealed to another writer's key
		}
		out = append(out, DrillRecord{Statement: s, Report: b.Report})
	}
	return out
}

// DrillRecord is one drill statement with its opened report (JSON).
type DrillRecord struct {
	Statement *journal.Signed
	Report    []byte
}
