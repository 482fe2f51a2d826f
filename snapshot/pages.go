package snapshot

import (
	"context"
	"slices"
	"sync"

	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
)

// inlineRaw is how many bytes of pages, before compression, ride in the manifest
// at most. Above it, the pages go into a pack of metadata frames.
const inlineRaw = 2 * repo.InlineMax

// pageSink stores catalog pages and pages of ids. As long as only a little is
// new, it keeps the pages for the manifest: that saves a pack, an index record
// and a request for each run with few changes.
type pageSink struct {
	ctx  context.Context
	r    *run
	hash *pack.Hasher

	mu      sync.Mutex
	pending [][]byte
	ids     map[pack.ChunkID]bool // of pending
	size    int
	packing bool
}

func newPageSink(ctx context.Context, r *run) (*pageSink, error) {
	h, err := r.t.repo.Hasher(pack.Meta)
	if err != nil {
		return nil, err
	}
	return &pageSink{ctx: ctx, r: r, hash: h, ids: map[pack.ChunkID]bool{}}, nil
}

// put stores one page, unless it is stored already. The page is only lent.
func (p *pageSink) put(page []byte) (pack.ChunkID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.hash.Sum(page)
	if p.ids[id] {
		return id, nil
	}
	if !p.packing {
		known, key, err := p.r.t.session.Stored(p.ctx, id)
		if err != nil || known {
			p.r.use(key)
			return id, err
		}
		p.pending, p.size = append(p.pending, slices.Clone(page)), p.size+len(page)
		p.ids[id] = true
		if p.size > inlineRaw {
			return id, p.pack()
		}
		return id, nil
	}
	return id, p.add(id, page)
}

// pack moves the pending pages into metadata frames, and all later ones too.
func (p *pageSink) pack() error {
	p.packing = true
	pending := p.pending
	p.pending, p.size = nil, 0
	clear(p.ids)
	for _, page := range pending {
		if err := p.add(p.hash.Sum(page), page); err != nil {
			return err
		}
	}
	return nil
}

func (p *pageSink) add(id pack.ChunkID, page []byte) error {
	known, _, key, err := p.r.t.session.Known(p.ctx, id)
	if err != nil || known {
		p.r.use(key)
		return err
	}
	b := p.r.t.bundle
	if b.full(len(page)) {
		if err := b.seal(p.ctx, p.r.t.meta, nil); err != nil {
			p.r.t.session.Disclaim(id)
			return err
		}
	}
	b.add(id, page)
	return nil
}

// finish seals the rest and gives the pages that ride in the manifest.
func (p *pageSink) finish() ([][]byte, error) {
	if err := p.r.t.bundle.seal(p.ctx, p.r.t.meta, nil); err != nil {
		return nil, err
	}
	return p.pending, nil
}

// bundle collects small chunks into one frame's plaintext.
type bundle struct {
	plain  []byte
	chunks []pack.Chunk
	hint   pack.Hint
}

func (b *bundle) full(next int) bool {
	return len(b.plain) > 0 && (len(b.plain)+next > pack.FramePlainMax || len(b.plain) >= bundleBytes || len(b.chunks) >= pack.FrameChunksMax)
}

func (b *bundle) add(id pack.ChunkID, data []byte) {
	b.plain = append(b.plain, data...)
	b.chunks = append(b.chunks, pack.Chunk{ID: id, Length: uint32(len(data))})
}

// drop gives up what was collected, and the claim on it.
func (b *bundle) drop(s *repo.Session) {
	for _, c := range b.chunks {
		s.Disclaim(c.ID)
	}
	b.plain, b.chunks = b.plain[:0], b.chunks[:0]
}

// seal makes a frame of what was collected. sealed is told its plain length.
func (b *bundle) seal(ctx context.Context, w *repo.FrameWriter, sealed func(plain int)) error {
	if len(b.plain) == 0 {
		return nil
	}
	if err := w.Add(ctx, b.plain, b.chunks, b.hint); err != nil {
		return err
	}
	if sealed != nil {
		sealed(len(b.plain))
	}
	b.plain, b.chunks = b.plain[:0], b.chunks[:0]
	return nil
}
