package repo_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/replicate"
	"lifeboat/snapshot"
	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

const (
	simPackBytes = 64 << 10
	simWorkloads = 2
	simChunks    = 24 // different contents that a host's workloads are made of
)

// simActor is one run of the program on one host.
type simActor struct {
	w      *simWorld
	number int
	name   string
	host   *simHost
	rng    *rand.Rand
	shared bool // guarded by w.mu: another run of the host was on when this one began
	sync   bool // it copies; others take snapshots
	gentle bool // no accidents of its own making
	only   int  // the one workload of its session, or -1
	writer []byte

	dead bool              // guarded by w.mu: killed; every request fails from then on
	done bool              // guarded by w.mu: its goroutine has ended
	err  error             // how
	disk map[string][]byte // what its host's disk held when it died
}

// start begins a run on some host.
func (w *simWorld) start() *simActor {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	return w.startOn(h, w.chance(0.2), false)
}

func (w *simWorld) startOn(h *simHost, replicator, gentle bool) *simActor {
	w.started++
	w.count.runs++
	a := &simActor{w: w, number: w.started, host: h, rng: rand.New(rand.NewPCG(w.seed, uint64(w.started))), sync: replicator, gentle: gentle}
	a.name = fmt.Sprintf("%s-%d", h.name, a.number)
	if a.sync {
		a.name += "-sync"
	}
	w.mu.Lock()
	for _, o := range w.actors {
		if o.host == h {
			o.shared, a.shared = true, true
		}
	}
	w.actors = append(w.actors, a)
	if w.weather.days {
		w.clock = w.clock.Add(25 * time.Hour)
	}
	w.mu.Unlock()
	w.note("%s begins", a.name)
	go func() {
		err := a.live(context.Background())
		w.mu.Lock()
		defer w.mu.Unlock()
		a.err, a.done = err, true
	}()
	return a
}

func (a *simActor) alive() bool {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return !a.dead
}

func (a *simActor) isShared() bool {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return a.shared
}

// regions gives the regions as this actor reaches them.
func (a *simActor) regions() []repo.Region {
	var out []repo.Region
	for _, r := range a.w.regions {
		var s storage.Store = &simStore{w: a.w, actor: a, region: r}
		if a.w.weather.retry {
			s = storage.WithRetry(s, storage.Backoff{Tries: 3, Budget: 8, Rand: func() float64 { return 0.5 }, Sleep: func(context.Context, time.Duration) error { return nil }})
		}
		out = append(out, repo.Region{Name: r.name, Store: s})
	}
	return out
}

func (a *simActor) live(ctx context.Context) (err error) {
	st, err := repo.LoadState(a.host.state())
	if err != nil {
		a.w.fail("%s: %v", a.name, err)
		return err
	}
	a.writer = unhex(st.Writer())
	opt := repo.Options{Regions: a.regions(), ID: a.w.made.made.ID, Root: a.w.made.made.Root.Public(), State: st, CacheDir: a.host.cache()}
	if a.rng.IntN(4) == 0 {
		opt.CacheDir = "" // it was cleared
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if a.sync {
		return a.replicate(ctx, r)
	}
	return a.backup(ctx, r)
}

// replicate brings one region or all up to date.
func (a *simActor) replicate(ctx context.Context, r *repo.Repo) error {
	var to []string
	if !a.gentle && a.rng.IntN(2) == 0 {
		to = []string{a.w.regions[a.rng.IntN(len(a.w.regions))].name}
	}
	plan, err := replicate.NewPlan(ctx, r, to)
	if err != nil {
		return err
	}
	gens := a.w.gens()
	res, err := plan.Run(ctx, replicate.Options{Now: a.w.now})
	for _, one := range res {
		if one.Err != nil {
			continue
		}
		for _, g := range plan.Gaps {
			if g.Region == one.Region && a.alive() {
				a.w.mu.Lock()
				a.w.count.syncs += len(g.Snapshots)
				a.w.mu.Unlock()
				a.w.claim(a, g.Snapshots, g.Region, gens)
			}
		}
	}
	return err
}

// backup takes some snapshots in one session.
func (a *simActor) backup(ctx context.Context, r *repo.Repo) (err error) {
	opt := repo.SessionOptions{Required: 2, Now: a.w.now, Buffers: 3, Verify: pack.VerifyOff}
	opt.Once = a.number%3 == 0 && !a.w.weather.long
	if a.rng.IntN(2) == 0 {
		a.only = a.rng.IntN(simWorkloads)
		opt.Workloads = []string{fmt.Sprint("w", a.only)}
	} else {
		a.only = -1
	}
	s, err := r.Begin(ctx, opt)
	if err != nil {
		return err
	}
	s.ShrinkBuffers(simPackBytes)
	end := a.rng.IntN(10)
	defer func() {
		if !a.alive() || end == 0 && !a.gentle {
			err = errors.Join(err, s.Abandon())
			return
		}
		err = errors.Join(err, s.End(ctx, err != nil))
	}()
	commits := 1
	if !a.gentle && a.rng.IntN(2) == 0 {
		commits += a.rng.IntN(3)
	}
	if a.w.weather.long && !a.gentle {
		commits += a.rng.IntN(8)
	}
	if opt.Once {
		commits = 1
	}
	for range commits {
		if err := a.commit(ctx, r, s); err != nil && !errors.Is(err, repo.ErrTooFewRegions) {
			return err
		}
		if a.rng.IntN(8) == 0 && !a.gentle && !opt.Once {
			if _, err := s.Report(ctx, journal.Drill, json.RawMessage(`{"ok":true}`)); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit prepares one snapshot or two and commits them.
func (a *simActor) commit(ctx context.Context, r *repo.Repo, s *repo.Session) error {
	var all []repo.Prepared
	if !a.gentle && a.only < 0 && a.rng.IntN(15) == 0 {
		p, err := a.real(ctx, r, s)
		if err != nil {
			return err
		}
		all = append(all, *p)
	} else {
		m, err := a.newMaker(ctx, r, s)
		if err != nil {
			return err
		}
		for n := 1 + a.rng.IntN(5)/4; n > 0; n-- {
			p, err := m.take(ctx)
			if err != nil {
				return err
			}
			all = append(all, *p)
		}
		if err := m.flush(ctx); err != nil {
			return err
		}
	}
	if a.rng.IntN(6) == 0 && !a.gentle {
		if err := s.Save(ctx); err != nil {
			return err
		}
	}
	gens := a.w.gens()
	c, err := s.Commit(ctx, all)
	if c == nil {
		return err
	}
	a.w.mu.Lock()
	a.w.count.commits++
	if err != nil {
		a.w.count.tooFew++
	}
	a.w.mu.Unlock()
	for _, res := range c.Regions {
		if res.State == "committed" && a.alive() {
			a.w.claim(a, c.IDs, res.Name, gens)
		}
	}
	return err
}

// simMaker makes snapshots of numbers: the way of package snapshot, without files.
type simMaker struct {
	a      *simActor
	r      *repo.Repo
	s      *repo.Session
	hash   [2]*pack.Hasher
	data   []*repo.FrameWriter
	meta   *repo.FrameWriter
	plain  []byte
	chunks []pack.Chunk
}

func (a *simActor) newMaker(ctx context.Context, r *repo.Repo, s *repo.Session) (*simMaker, error) {
	m := &simMaker{a: a, r: r, s: s, meta: s.Writer(pack.Meta)}
	for kind := range m.hash {
		h, err := r.Hasher(pack.Kind(kind))
		if err != nil {
			return nil, err
		}
		m.hash[kind] = h
	}
	for range 1 + a.rng.IntN(2) {
		m.data = append(m.data, s.Writer(pack.Data))
	}
	return m, nil
}

// chunkText is the content of the chunk with this number.
func chunkText(host string, n int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("chunk %d of %s\n", n, host), 3+n%7))
}

// take prepares the next snapshot of one of the host's workloads.
func (m *simMaker) take(ctx context.Context) (*repo.Prepared, error) {
	a := m.a
	load := a.rng.IntN(simWorkloads)
	if a.only >= 0 {
		load = a.only
	}
	content := a.nextContent(load)
	truth := &simTruth{host: a.host.name, chunks: map[pack.ChunkID][]byte{}}
	used := map[string]bool{}
	parent, carried, err := m.parent(ctx, fmt.Sprint("w", load), truth, used)
	if err != nil {
		return nil, err
	}
	w := m.data[a.rng.IntN(len(m.data))]
	for _, n := range content {
		text := chunkText(a.host.name, n)
		id := m.hash[pack.Data].Sum(text)
		truth.chunks[id] = text
		if carried[id] {
			continue
		}
		if err := m.put(ctx, w, id, text, used); err != nil {
			return nil, err
		}
	}
	if err := m.frame(ctx, w); err != nil {
		return nil, err
	}
	return m.manifest(ctx, load, content, truth, parent, used)
}

// nextContent changes a few of the chunks of a workload.
func (a *simActor) nextContent(load int) []int {
	w := a.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(a.host.content) <= load {
		a.host.content = append(a.host.content, []int{1, 2, 3})
	}
	c := slices.Clone(a.host.content[load])
	if !a.gentle {
		for range a.rng.IntN(4) {
			n := a.rng.IntN(simChunks)
			if len(c) > 6 {
				c = c[1:]
			}
			c = append(c, n)
		}
	}
	a.host.content[load] = c
	return slices.Clone(c)
}

// parent chooses a snapshot to build on, as package snapshot does. What it holds
// is taken over together with its packs, without another question.
func (m *simMaker) parent(ctx context.Context, load string, truth *simTruth, used map[string]bool) (id []byte, carried map[pack.ChunkID]bool, err error) {
	if m.a.rng.IntN(4) == 0 {
		return nil, nil, nil
	}
	p, ok := snapshot.Parent(ctx, m.r, m.s, load)
	if !ok || len(p.Tags) == 0 {
		return nil, nil, nil
	}
	keys, _, _, err := m.s.ClosureOf(ctx, p.Summary.ID)
	if err != nil {
		return nil, nil, nil // as package snapshot: it reads everything again
	}
	id, err = hex.DecodeString(p.Summary.ID)
	old := m.a.w.oracle.truth(p.Tags[0])
	if err != nil || old == nil {
		return id, nil, err
	}
	carried = map[pack.ChunkID]bool{}
	for c := range old.chunks {
		carried[c] = true
	}
	for _, k := range keys {
		used[k] = true
	}
	return id, carried, nil
}

// put stores one chunk unless it is known.
func (m *simMaker) put(ctx context.Context, w *repo.FrameWriter, id pack.ChunkID, text []byte, used map[string]bool) error {
	known, _, key, err := m.s.Known(ctx, id)
	if err != nil {
		return err
	}
	if known {
		if key != "" {
			used[key] = true
		}
		return nil
	}
	m.plain = append(m.plain, text...)
	m.chunks = append(m.chunks, pack.Chunk{ID: id, Length: uint32(len(text))})
	if m.a.rng.IntN(3) > 0 {
		return nil
	}
	if err := m.frame(ctx, w); err != nil || m.a.rng.IntN(2) > 0 {
		return err
	}
	return w.Flush(ctx)
}

func (m *simMaker) frame(ctx context.Context, w *repo.FrameWriter) error {
	if len(m.plain) == 0 {
		return nil
	}
	err := w.Add(ctx, m.plain, m.chunks, pack.HintProbe)
	m.plain, m.chunks = nil, nil
	return err
}

// manifest stores the one page of the catalog and makes the record.
func (m *simMaker) manifest(ctx context.Context, load int, content []int, truth *simTruth, parent []byte, used map[string]bool) (*repo.Prepared, error) {
	a := m.a
	page := fmt.Appendf(nil, "page of %s: %v", a.host.name, content)
	id := m.hash[pack.Meta].Sum(page)
	truth.page, truth.pageText = id, page
	rp := m.r.ID()
	man := &repo.Manifest{Type: "manifest", Version: 1, Repo: rp[:], Writer: a.writer, Workload: fmt.Sprint("w", load), Kind: "volume", Host: a.host.name,
		Parent: parent, Start: a.w.now().UnixNano(), Catalog: repo.Catalog{Root: id, Entries: uint64(len(content))}}
	if a.rng.IntN(3) == 0 {
		man.Pages = [][]byte{page} // it rides along
	} else if err := m.put(ctx, m.meta, id, page, used); err != nil {
		return nil, err
	} else if err := m.frame(ctx, m.meta); err != nil {
		return nil, err
	}
	if a.rng.IntN(40) == 0 { // too large for the intent
		big := make([]byte, repo.InlineMax+1000)
		fill := rand.NewChaCha8([32]byte{byte(a.number)})
		fill.Read(big)
		man.Pages = append(man.Pages, big)
	}
	token := a.w.oracle.learn(truth)
	man.Tags = []string{token}
	return &repo.Prepared{Manifest: man, Packs: used}, nil
}

func (m *simMaker) flush(ctx context.Context) error {
	first := m.data[0]
	for _, o := range m.data[1:] {
		if err := first.Absorb(ctx, o); err != nil {
			return err
		}
	}
	return errors.Join(first.Flush(ctx), m.meta.Flush(ctx))
}

// real takes a snapshot of a real, tiny tree.
func (a *simActor) real(ctx context.Context, r *repo.Repo, s *repo.Session) (*repo.Prepared, error) {
	dir := filepath.Join(a.host.dir, "tree")
	files := map[string][]byte{}
	for i := range 3 + a.rng.IntN(5) {
		files[fmt.Sprintf("d%d/f%d", i%2, i)] = fmt.Appendf(nil, "file %d version %d", i, a.rng.IntN(3))
	}
	if a.isShared() {
		dir += a.name // another run must not see it change
	}
	if err := writeFiles(dir, files); err != nil {
		return nil, err
	}
	tk, err := snapshot.NewTaker(r, s, 2)
	if err != nil {
		return nil, err
	}
	truth := &simTruth{host: a.host.name, files: map[string][]byte{}}
	for name, data := range files {
		truth.files[name] = data
	}
	opt := snapshot.Options{Workload: "tree", Kind: "volume", Host: a.host.name, Paths: []string{dir}, Tags: []string{a.w.oracle.learn(truth)}, Now: a.w.now}
	if p, ok := snapshot.Parent(ctx, r, s, "tree"); ok && slices.Equal(p.Roots, []string{dir}) {
		opt.Parent = p
	}
	p, err := tk.Take(ctx, opt)
	if err != nil {
		return nil, err
	}
	return p, tk.Flush(ctx)
}

func writeFiles(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			return err
		}
	}
	return nil
}

func ids(c *repo.Created) []seal.Identity { return []seal.Identity{c.Operator} }
