package replicate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// packTable numbers the packs that visible snapshots reach.
type packTable struct {
	byHash  map[pack.Hash]uint32
	rows    []packRow
	writers []string
}

// packRow is one pack, whatever region it is in.
type packRow struct {
	hash    pack.Hash
	size    int64 // as the index says; 0: not known
	writer  uint16
	kind    byte // storage.PackData or PackMeta
	chosen  bool // a snapshot to check reaches it
	indexed bool // an index object names it
	deep    bool // its frames were opened, or are being opened
}

// packSeen is one pack in one region.
type packSeen struct {
	size   int64
	stored int64 // seconds since 1970, by the region's clock
	wanted bool  // a snapshot that the region shows reaches it
	there  bool
	bad    bool
	good   bool // it was read whole and hashes to its name
}

func newPackTable() packTable { return packTable{byHash: map[pack.Hash]uint32{}} }

// add gives a pack's number. Keys that are no packs' are refused.
func (t *packTable) add(key string) (uint32, error) {
	kind, parts, err := storage.Parse(key)
	if err != nil || kind != storage.KindPack {
		return 0, fmt.Errorf("%s: %w: not the name of a pack", key, storage.ErrCorrupt)
	}
	if no, ok := t.byHash[parts.Sum]; ok {
		return no, nil
	}
	w := slices.Index(t.writers, parts.Writer)
	if w < 0 {
		w, t.writers = len(t.writers), append(t.writers, parts.Writer)
	}
	no := uint32(len(t.rows))
	t.rows = append(t.rows, packRow{hash: parts.Sum, writer: uint16(w), kind: parts.PackKind})
	t.byHash[parts.Sum] = no
	return no, nil
}

// key names a pack.
func (t *packTable) key(no uint32) string {
	row := &t.rows[no]
	return storage.PackKey(t.writers[row.writer], row.kind, row.hash)
}

// packPhase looks at every pack: there, in the right size, and known to an index
// or able to tell what is in it.
func (s *scrub) packPhase(ctx context.Context) error {
	if err := s.nameSnapshots(ctx); err != nil {
		return err
	}
	s.reach()
	var err error
	if s.idx, err = s.r.Index(ctx); err != nil && !errors.Is(err, repo.ErrNoKey) {
		return err
	}
	if err := s.sizes(); err != nil {
		return err
	}
	s.opt.Events.expect(0, int64(len(s.packs.rows)*len(s.scans)))
	s.each(func(g *scan) { s.scanPacks(ctx, g) })
	if ctx.Err() != nil {
		return nil
	}
	s.compareSentinels(ctx)
	doubtful, untold := map[*scan][]uint32{}, map[*scan][]uint32{}
	for _, g := range s.scans {
		doubtful[g], untold[g] = s.sortPacks(g)
	}
	s.eachChecked(func(g *scan) {
		many(ctx, g, doubtful[g], func(no uint32) { s.doubtPack(ctx, g, no) })
		many(ctx, g, untold[g], func(no uint32) { s.readContents(ctx, g, no) })
	})
	return nil
}

// reach resolves what each visible snapshot needs, and marks it in the regions
// that show the snapshot.
func (s *scrub) reach() {
	chosen := map[string]bool{}
	for _, id := range s.chosen {
		chosen[id] = true
	}
	type use struct {
		regions uint64
		chosen  bool
		ids     []string
	}
	intents := map[string]*use{}
	for id, sh := range s.shown {
		for _, g := range s.scans {
			ref, ok := sh.Intents[g.nonce]
			if !ok || g.nonce == "" {
				continue
			}
			g.snapshots++
			u := intents[ref.Hash]
			if u == nil {
				u = &use{}
				intents[ref.Hash] = u
			}
			u.regions |= 1 << g.number
			u.chosen = u.chosen || chosen[id]
			u.ids = append(u.ids, id)
		}
	}
	wanted := map[uint32]uint64{}
	for intent, u := range intents {
		numbers, err := s.closure(intent)
		if err != nil {
			f := s.findAs(kindSnapshot, nil, s.intentKey(intent), "which packs its snapshots need cannot be told: %v", err)
			f.snapshots = append(f.snapshots, u.ids...)
			continue
		}
		for _, no := range numbers {
			wanted[no] |= u.regions
			s.packs.rows[no].chosen = s.packs.rows[no].chosen || u.chosen
		}
	}
	for _, g := range s.scans {
		g.seen = make([]packSeen, len(s.packs.rows))
		for no, regions := range wanted {
			g.seen[no].wanted = regions&(1<<g.number) != 0
		}
	}
}

// closure resolves the packs of an intent into numbers.
func (s *scrub) closure(intent string) ([]uint32, error) {
	keys, err := journal.Resolve(journal.Ref{Hash: intent}, func(ref journal.Ref) (*journal.Signed, error) {
		if st, ok := s.view.Intent(ref.Hash); ok {
			return st, nil
		}
		return nil, fmt.Errorf("intent %.8s: %w", ref.Hash, storage.ErrNotFound)
	})
	if err != nil {
		return nil, err
	}
	out := make([]uint32, 0, len(keys))
	for _, key := range keys {
		no, err := s.packs.add(key)
		if err != nil {
			return nil, err
		}
		out = append(out, no)
	}
	return out, nil
}

func (s *scrub) intentKey(hash string) string {
	if st, ok := s.view.Intent(hash); ok {
		if key, err := st.Key(); err == nil {
			return key
		}
	}
	return "intent " + hash
}

// sizes asks the index about every pack.
func (s *scrub) sizes() error {
	if s.idx == nil {
		return nil
	}
	for no := range s.packs.rows {
		row := &s.packs.rows[no]
		info, ok, err := s.idx.HasPack(row.hash, id16(s.packs.writers[row.writer]))
		if err != nil {
			return err
		}
		if ok {
			row.indexed, row.size = true, int64(info.Size)
		}
	}
	return nil
}

// scanPacks goes through the packs that a region lists, without keeping them.
func (s *scrub) scanPacks(ctx context.Context, g *scan) {
	s.opt.Events.at(g.Name, storage.KindPack.String())
	before := ""
	for info, err := range g.Store.List(ctx, storage.ListOptions{Prefix: storage.PacksPrefix}) {
		if err != nil {
			s.leave(g, fmt.Errorf("list %s: %w", storage.PacksPrefix, err))
			return
		}
		if info.Key <= before {
			s.findAs(kindListing, g, storage.PacksPrefix, "the listing is out of order at %s", info.Key)
		}
		before = info.Key
		g.saw(info)
		kind, parts, err := storage.Parse(info.Key)
		switch {
		case err != nil && g.checked:
			s.strange(g.Name + ": " + info.Key)
		case kind == storage.KindSentinel:
			g.small[info.Key] = info.Size
		}
		if kind != storage.KindPack {
			continue
		}
		g.packs++
		s.count(g, 1, 0)
		s.listedPack(g, info, parts)
	}
}

// listedPack notes one listed pack. One that no visible snapshot reaches is an
// orphan, which only must not be half there: a later backup may re-use it.
func (s *scrub) listedPack(g *scan, info storage.Info, parts storage.Parts) {
	no, ok := s.packs.byHash[parts.Sum]
	if ok && s.packs.key(no) == info.Key {
		seen := &g.seen[no]
		seen.there, seen.size, seen.stored = true, info.Size, info.ModTime.Unix()
		return
	}
	if !g.checked {
		return
	}
	g.orphans++
	g.orphanSize += info.Size
	if info.Size == 0 {
		s.find(g, info.Key, "holds nothing: zero bytes")
		return
	}
	if s.idx == nil {
		return
	}
	known, ok, err := s.idx.HasPack(parts.Sum, id16(parts.Writer))
	if err == nil && ok && int64(known.Size) != info.Size {
		s.find(g, info.Key, "%d bytes, where the index says %d", info.Size, known.Size)
	}
}

// sortPacks picks, of the packs that a region must have, those that are missing
// or look wrong, and those that no index object names.
func (s *scrub) sortPacks(g *scan) (doubtful, untold []uint32) {
	for no := range g.seen {
		seen, row := &g.seen[no], &s.packs.rows[no]
		switch {
		case !seen.wanted:
		case !seen.there || seen.size == 0 || row.size > 0 && seen.size != row.size || row.size == 0 && s.sizesDiffer(no):
			doubtful = append(doubtful, uint32(no))
		case !row.indexed && s.r.Keys().Domain != nil:
			untold = append(untold, uint32(no))
		}
	}
	return doubtful, untold
}

// sizesDiffer is asked for packs of which no index tells the size.
func (s *scrub) sizesDiffer(no int) bool {
	size := int64(-1)
	for _, g := range s.scans {
		if seen := &g.seen[no]; seen.there && g.answers() {
			if size >= 0 && seen.size != size {
				return true
			}
			size = seen.size
		}
	}
	return false
}

// doubtPack asks for a pack by name, and believes only its bytes.
func (s *scrub) doubtPack(ctx context.Context, g *scan, no uint32) {
	seen, key := &g.seen[no], s.packs.key(no)
	if !seen.there {
		size, there := s.present(ctx, g, key)
		if !there {
			if g.answers() {
				seen.bad = true
				s.find(g, key, missing)
			}
			return
		}
		seen.there, seen.size = true, size
	}
	s.readPack(ctx, g, no, nil)
}

// readContents reads the table of contents of a pack that no index object names.
func (s *scrub) readContents(ctx context.Context, g *scan, no uint32) {
	key := s.packs.key(no)
	dec, err := pack.NewDecoder()
	if err != nil {
		s.find(g, key, "its table of contents cannot be read: %v", err)
		return
	}
	defer dec.Close()
	_, err = pack.ReadTOC(ctx, g.Store, key, dec, seal.NewOpener(s.r.Keys().Domain.Index).Open)
	s.count(g, 1, 0)
	switch {
	case isAway(ctx, err):
		s.leave(g, err)
	case err != nil:
		g.seen[no].bad = true
		s.find(g, key, "no index names it, and its own table of contents cannot be read: %v", err)
	}
}

// readPack reads a pack whole and compares its SHA-256 with its name; frames, if
// given, sees its bytes on the way. What looks wrong is read again.
func (s *scrub) readPack(ctx context.Context, g *scan, no uint32, frames *frameCheck) {
	key, seen := s.packs.key(no), &g.seen[no]
	s.opt.Events.at(g.Name, key)
	var sum [32]byte
	var n int64
	var err error
	for try := range 2 {
		through := frames
		if try > 0 && through != nil {
			through.reset()
		}
		sum, n, err = s.hashPack(ctx, g, key, through)
		if err == nil && sum == s.packs.rows[no].hash {
			seen.good = true
			s.count(g, 1, 0)
			return
		}
		if isAway(ctx, err) {
			s.leave(g, fmt.Errorf("read %s: %w", key, err))
			return
		}
		if errors.Is(err, storage.ErrNotFound) {
			break
		}
	}
	s.count(g, 1, 0)
	seen.bad = true
	switch {
	case errors.Is(err, storage.ErrNotFound):
		s.find(g, key, missing)
	case err != nil:
		s.find(g, key, "cannot be read: %v", err)
	case n == 0:
		s.find(g, key, "holds nothing: zero bytes")
	default:
		s.mismatch(g, key, n, sum)
	}
}

// hashPack streams a pack through SHA-256, and through the frame check if there is one.
func (s *scrub) hashPack(ctx context.Context, g *scan, key string, frames *frameCheck) (sum [32]byte, n int64, err error) {
	body, info, err := g.Store.Get(ctx, key, 0, -1)
	if err != nil {
		return sum, 0, err
	}
	h := sha256.New()
	counted := &countingReader{r: io.TeeReader(io.LimitReader(body, pack.PackMax+1), h), s: s, g: g}
	if frames != nil {
		err = frames.read(counted)
	}
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{io.Discard}, counted, make([]byte, 256<<10))
	}
	if err == nil && counted.n < info.Size && info.Size <= pack.PackMax {
		err = fmt.Errorf("it breaks off at %d of %d bytes: %w", counted.n, info.Size, io.ErrUnexpectedEOF)
	}
	return [32]byte(h.Sum(nil)), counted.n, errors.Join(err, body.Close())
}

// onlyWriter hides other methods, so that a copy uses the buffer it is given.
type onlyWriter struct{ io.Writer }

// countingReader reports the bytes of a body as they come.
type countingReader struct {
	r io.Reader
	s *scrub
	g *scan
	n int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.s.count(c.g, 0, int64(n))
	return n, err
}
