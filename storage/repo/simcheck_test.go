package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"lifeboat/snapshot"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// simTruth is what one snapshot must hold.
type simTruth struct {
	host     string
	chunks   map[pack.ChunkID][]byte
	page     pack.ChunkID
	pageText []byte
	files    map[string][]byte // of a real tree; then there are no chunks
}

// simClaim is a snapshot that somebody was told is committed in a region.
type simClaim struct {
	id, region string
	gen        int
}

// simOracle knows what must be, in plain maps, and what it has already looked at.
type simOracle struct {
	w      *simWorld
	reader *repo.Repo // opens manifests and tables of contents; reads no region

	mu     sync.Mutex
	truths map[string]*simTruth // by token, which rides in the manifest
	claims []simClaim
	said   map[string]string // writer/instance/seq → hash of the one statement
	forks  string

	parsed map[string]*journal.Signed // by key
	held   map[string]map[pack.ChunkID]bool
	opened map[string]simManifest     // by snapshot
	proved map[string]map[string]bool // by region: what was shown, and complete
	shown  map[string]map[string]bool // by region: snapshots
}

func newSimOracle(w *simWorld) *simOracle {
	return &simOracle{w: w, reader: w.made.reader, truths: map[string]*simTruth{}, said: map[string]string{}, parsed: map[string]*journal.Signed{},
		held: map[string]map[pack.ChunkID]bool{}, opened: map[string]simManifest{}, proved: map[string]map[string]bool{}, shown: map[string]map[string]bool{}}
}

func (o *simOracle) learn(t *simTruth) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	token := fmt.Sprintf("sim=%d", len(o.truths))
	o.truths[token] = t
	return token
}

func (o *simOracle) truth(token string) *simTruth {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.truths[token]
}

// forget drops what was seen in a region that went back or was wiped, and the
// claims on it.
func (o *simOracle) forget(r *simRegion) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.proved, r.name)
	delete(o.shown, r.name)
	o.claims = slices.DeleteFunc(o.claims, func(c simClaim) bool { return c.region == r.name })
}

// heard notes every statement that anybody tries to put: one instance never says
// two different things under one number.
func (w *simWorld) heard(key string, sum [32]byte) {
	kind, parts, err := storage.Parse(key)
	if err != nil {
		w.fail("put of %s, which is no key of the layout: %v", key, err)
		return
	}
	if kind != storage.KindJournal && kind != storage.KindCheckpoint {
		return
	}
	o := w.oracle
	o.mu.Lock()
	defer o.mu.Unlock()
	n := fmt.Sprintf("%d %s/%s/%d", kind, parts.Writer, parts.Instance, parts.Seq)
	if was, ok := o.said[n]; ok && was != hexOf(sum) {
		o.forks = fmt.Sprintf("two statements for %s", n)
	}
	o.said[n] = hexOf(sum)
}

// gens is how often each region was wiped or went back, before something begins.
func (w *simWorld) gens() map[string]simRegion {
	out := map[string]simRegion{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.regions {
		out[r.name] = simRegion{gen: r.gen, wiped: r.wiped}
	}
	return out
}

// claim notes that snapshots were reported as committed in a region.
func (w *simWorld) claim(a *simActor, snapshots []string, region string, before map[string]simRegion) {
	now := w.gens()
	if before[region].wiped && now[region].gen == before[region].gen && len(snapshots) > 0 {
		w.fail("%s reports a commit in region %s, which is empty", a.name, region)
	}
	if now[region].gen != before[region].gen {
		return // it went back or was wiped meanwhile
	}
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	for _, id := range snapshots {
		w.oracle.claims = append(w.oracle.claims, simClaim{id: id, region: region, gen: now[region].gen})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.acked += len(snapshots)
	for _, r := range w.regions {
		r.dirty = r.dirty || r.name == region
	}
}

// soil has a region judged again.
func (w *simWorld) soil(r *simRegion) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.dirty = true
}

// soiled gives the regions that are to be judged again, once.
func (w *simWorld) soiled() (out []*simRegion) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.regions {
		if r.dirty {
			r.dirty = false
			out = append(out, r)
		}
	}
	return out
}

// check judges each region whose journal changed, from that region alone.
func (w *simWorld) check() {
	for _, r := range w.soiled() {
		w.oracle.region(r)
	}
	if w.oracle.forks != "" {
		w.fail("%s", w.oracle.forks)
	}
}

// view reads a region's journal as a cold reader does: of each instance the
// newest checkpoint, what it points at, and the statements after it.
func (o *simOracle) view(r *simRegion) *journal.View {
	v := journal.NewView()
	v.AddRegion(r.nonce)
	if r.wiped {
		return v // no format.json: nobody believes it
	}
	head := map[string]uint64{} // by writer and instance, what the newest checkpoint covers
	var rest []*journal.Signed
	for _, key := range r.mem.Keys(storage.JournalPrefix) { // newest checkpoint first
		s := o.statement(r, key)
		if s == nil {
			continue
		}
		chain := s.Writer + s.Instance
		if s.Type != journal.Checkpoint {
			rest = append(rest, s)
			continue
		}
		if _, ok := head[chain]; !ok {
			head[chain] = s.Head.Seq
			v.Add(r.nonce, s)
		}
	}
	for _, s := range rest {
		if s.Seq > head[s.Writer+s.Instance] {
			v.Add(r.nonce, s)
		}
	}
	return v
}

// closure resolves an intent's packs from one region alone.
func (o *simOracle) closure(r *simRegion, ref journal.Ref) ([]string, error) {
	return journal.Resolve(ref, func(ref journal.Ref) (*journal.Signed, error) {
		if s := o.statement(r, journalKey(ref)); s != nil {
			return s, nil
		}
		return nil, storage.ErrNotFound
	})
}

func journalKey(ref journal.Ref) string {
	var sum [32]byte
	copy(sum[:], unhex(ref.Hash))
	return storage.JournalKey(ref.Writer, ref.Instance, ref.Seq, sum)
}

func (o *simOracle) statement(r *simRegion, key string) *journal.Signed {
	hash, ok := storage.HashOf(key)
	doc := r.mem.Bytes(key)
	if !ok || sha256.Sum256(doc) != hash {
		return nil
	}
	if s, ok := o.parsed[key]; ok {
		return s
	}
	s, err := journal.Parse(doc, o.reader.ID(), o.reader.Trust())
	if err != nil {
		o.w.fail("region %s holds %s: %v", r.name, key, err)
		return nil
	}
	o.parsed[key] = s
	return s
}

// region checks that all a region shows is complete in it, and that it shows
// all that was reported as committed in it.
func (o *simOracle) region(r *simRegion) {
	v := o.view(r)
	shown := v.Snapshots()
	if o.proved[r.name] == nil {
		o.proved[r.name] = map[string]bool{}
	}
	for id, sh := range shown {
		ref := sh.Intents[r.nonce]
		if o.proved[r.name][id+ref.Hash] {
			continue
		}
		if err := o.complete(r, id, ref); err != nil {
			o.w.fail("region %s shows snapshot %.8s, which is not complete there: %v", r.name, id, err)
			return
		}
		o.proved[r.name][id+ref.Hash] = true
	}
	if o.shown[r.name] == nil {
		o.shown[r.name] = map[string]bool{}
	}
	for id := range shown {
		o.shown[r.name][id] = true
	}
	for id := range o.shown[r.name] {
		if shown[id] == nil {
			o.w.fail("region %s showed snapshot %.8s, and does no more", r.name, id)
			return
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.claims {
		if c.region == r.name && shown[c.id] == nil {
			o.w.fail("snapshot %.8s was reported as committed in region %s, which does not show it", c.id, r.name)
			return
		}
	}
}

// complete looks at every pack of a snapshot in one region.
func (o *simOracle) complete(r *simRegion, id string, ref journal.Ref) error {
	keys, err := o.closure(r, ref)
	if err != nil {
		return err
	}
	here := map[pack.ChunkID]bool{}
	for _, key := range keys {
		chunks, err := o.pack(r, key)
		if err != nil {
			return err
		}
		maps.Copy(here, chunks)
	}
	m, err := o.manifest(r, id, ref)
	if err != nil {
		return err
	}
	t := o.truth(m.token)
	if t == nil {
		return fmt.Errorf("nobody took it: tag %q", m.token)
	}
	for c, text := range t.chunks {
		if !here[c] {
			return fmt.Errorf("no pack of its %d holds chunk %q", len(keys), text[:min(20, len(text))])
		}
	}
	if t.files == nil && !m.pages && !here[t.page] {
		return fmt.Errorf("no pack holds the page of the catalog")
	}
	return nil
}

// pack proves a pack by its name and gives the chunks it holds.
func (o *simOracle) pack(r *simRegion, key string) (map[pack.ChunkID]bool, error) {
	data := r.mem.Bytes(key)
	if data == nil {
		return nil, fmt.Errorf("%s is missing", key)
	}
	if hash, ok := storage.HashOf(key); !ok || sha256.Sum256(data) != hash {
		return nil, fmt.Errorf("%s is damaged: %d bytes", key, len(data))
	}
	if c, ok := o.held[key]; ok {
		return c, nil
	}
	dec, err := pack.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	toc, err := pack.ReadTOC(context.Background(), r.mem, key, dec, o.reader.IndexOpener())
	if err != nil {
		return nil, err
	}
	c := map[pack.ChunkID]bool{}
	for _, f := range toc.Frames {
		for _, chunk := range f.Chunks {
			c[chunk.ID] = true
		}
	}
	o.held[key] = c
	return c, nil
}

// simManifest is what matters here of a manifest.
type simManifest struct {
	token string
	pages bool // its page rides along
}

// manifest reads a snapshot's manifest from one region.
func (o *simOracle) manifest(r *simRegion, id string, ref journal.Ref) (m simManifest, err error) {
	s := o.statement(r, journalKey(ref))
	if s == nil {
		return m, fmt.Errorf("its intent is not there")
	}
	i := slices.IndexFunc(s.Snapshots, func(sn journal.Snapshot) bool { return sn.ID == id })
	if i < 0 {
		return m, fmt.Errorf("its intent does not name it")
	}
	sealed := s.Snapshots[i].Inline
	if key := s.Snapshots[i].Key; key != "" {
		sealed = r.mem.Bytes(key)
	}
	if got := sha256.Sum256(sealed); hexOf(got) != id {
		return m, fmt.Errorf("its manifest %s is missing or damaged", s.Snapshots[i].Key)
	}
	if m, ok := o.opened[id]; ok {
		return m, nil
	}
	full, err := o.reader.OpenSealedManifest(sealed)
	if err != nil {
		return m, err
	}
	if len(full.Tags) > 0 {
		m.token = full.Tags[0]
	}
	m.pages = len(full.Pages) > 0 && len(full.Pages[0]) < 1000
	o.opened[id] = m
	return m, nil
}

// cold opens each region alone, with the recovery kit only, and reads everything.
func (o *simOracle) cold(ctx context.Context) {
	for _, r := range o.w.regions {
		if r.wiped {
			continue
		}
		if err := o.coldRegion(ctx, r); err != nil {
			o.w.fail("region %s alone: %v", r.name, err)
		}
	}
}

func (o *simOracle) coldRegion(ctx context.Context, r *simRegion) error {
	made := o.w.made.made
	rp, err := repo.Open(ctx, repo.Options{Regions: []repo.Region{{Name: r.name, Store: r.mem}}, ID: made.ID, Root: made.Root.Public(), Identities: ids(made)})
	if err != nil {
		return err
	}
	defer rp.Close()
	all, err := rp.Snapshots(ctx)
	if err != nil {
		return err
	}
	if want := len(o.view(r).Snapshots()); len(all) != want {
		return fmt.Errorf("it lists %d snapshots, and shows %d", len(all), want)
	}
	o.w.count.shown += len(all)
	for _, sn := range all {
		if err := o.coldSnapshot(ctx, rp, r, sn); err != nil {
			return fmt.Errorf("snapshot %.8s (%s): %w", sn.Summary.ID, sn.Tags, err)
		}
	}
	return nil
}

func (o *simOracle) coldSnapshot(ctx context.Context, rp *repo.Repo, r *simRegion, sn repo.Snapshot) error {
	m, err := rp.Manifest(ctx, sn.Summary.ID)
	if err != nil {
		return err
	}
	keys, err := rp.Closure(ctx, sn.Intents[r.nonce])
	if err != nil {
		return err
	}
	if err := rp.CoverPacks(ctx, keys); err != nil {
		return err
	}
	rd, err := rp.Chunks(ctx, m.Pages)
	if err != nil {
		return err
	}
	defer rd.Close()
	t := o.truth(m.Tags[0])
	if t.files != nil {
		return readFiles(ctx, rd, m, t)
	}
	want, texts := []pack.ChunkID{t.page}, [][]byte{t.pageText}
	for c, text := range t.chunks {
		want, texts = append(want, c), append(texts, text)
	}
	var mu sync.Mutex
	got := 0
	err = rd.Read(ctx, want, func(i int, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		got++
		if !bytes.Equal(data, texts[i]) {
			return fmt.Errorf("chunk %d has other bytes", i)
		}
		return nil
	})
	if err == nil && got != len(want) {
		err = fmt.Errorf("%d of %d chunks came", got, len(want))
	}
	return err
}

// readFiles compares a real tree with its snapshot.
func readFiles(ctx context.Context, rd *repo.Reader, m *repo.Manifest, t *simTruth) error {
	cat, err := catalog.Open(ctx, rd, snapshot.CatalogRoot(m))
	if err != nil {
		return err
	}
	n := 0
	for e, err := range cat.All(ctx) {
		if err != nil {
			return err
		}
		if e.Type != catalog.File {
			continue
		}
		n++
		path := "/" + string(e.Path)
		name := filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
		var got []byte
		for id, err := range catalog.FileChunks(ctx, e, rd) {
			if err != nil {
				return err
			}
			if err := rd.Read(ctx, []pack.ChunkID{id}, func(_ int, data []byte) error { got = append(got, data...); return nil }); err != nil {
				return err
			}
		}
		if !bytes.Equal(got, t.files[name]) {
			return fmt.Errorf("file %s holds %q, want %q", path, got, t.files[name])
		}
	}
	if n != len(t.files) {
		return fmt.Errorf("%d files, want %d", n, len(t.files))
	}
	return nil
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
