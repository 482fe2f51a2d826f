package replicate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
)

// Limits of naming files that lose contents.
const (
	lostChunksMax = 1 << 20 // chunks that are looked for
	filesMax      = 20      // files one damaged pack names; the rest are counted
	filesWalks    = 4       // recovery points that are gone through for them
)

// comparePhase finds out, for everything that is wrong, what it touches and which
// region has it right.
func (s *scrub) comparePhase(ctx context.Context) error {
	s.opt.Events.expect(0, int64(min(len(s.findings), healProbesMax)))
	var group errgroup.Group
	group.SetLimit(scrubRequests)
	for i, f := range s.findings {
		if i == healProbesMax || ctx.Err() != nil {
			break
		}
		group.Go(func() error { s.healable(ctx, f); s.opt.Events.done(0, 1); return nil })
	}
	_ = group.Wait() // a region that does not answer is no source
	for _, f := range s.findings {
		s.explain(f)
	}
	if err := s.affects(ctx); err != nil {
		return err
	}
	return s.nameFiles(ctx)
}

// healable asks the other regions for good bytes of an object.
func (s *scrub) healable(ctx context.Context, f *finding) {
	if f.g == nil || f.Kind == kindListing || f.Kind == kindRegion || f.kind == 0 || f.kind == storage.KindRegion {
		return
	}
	for _, g := range s.scans {
		if g != f.g && g.answers() && !s.has(g, f.Object) && s.hasGood(ctx, g, f) {
			f.HealableFrom = append(f.HealableFrom, g.Name)
		}
	}
}

// hasGood reads an object in one region and judges it.
func (s *scrub) hasGood(ctx context.Context, g *scan, f *finding) bool {
	want, hashed := storage.HashOf(f.Object)
	switch {
	case f.kind == storage.KindPack:
		if no, ok := s.packs.byHash[want]; ok && g.seen != nil && g.seen[no].good {
			return true
		}
		sum, _, err := s.hashPack(ctx, g, f.Object, nil)
		return err == nil && sum == want
	case hashed:
		_, _, err := storage.ReadVerified(ctx, g.Store, f.Object, journal.StatementMax)
		return err == nil
	}
	data, _, err := storage.ReadAll(ctx, g.Store, f.Object, plainObjectMax)
	if err != nil {
		return false
	}
	switch f.kind {
	case storage.KindFormat:
		return bytes.Equal(data, s.format)
	case storage.KindSentinel:
		return string(data) == storage.Sentinel
	}
	return bytes.Contains(data, []byte(s.id.String()))
}

// explain says what the bytes are that do not hash to their name.
func (s *scrub) explain(f *finding) {
	if !f.hashed {
		return
	}
	right := s.sizeOf(f)
	f.InPlace = f.size == right
	switch other := s.nameOf(f.sum); {
	case other != "":
		f.Problem = fmt.Sprintf("swapped: it holds the bytes of %s", other)
	case right > 0 && f.size < right:
		f.Problem = fmt.Sprintf("truncated: %d of %d bytes", f.size, right)
	case right > 0 && f.size > right:
		f.Problem = fmt.Sprintf("%d bytes, where %d are right", f.size, right)
	case right > 0:
		f.Problem = fmt.Sprintf("changed: its %d bytes do not hash to its name", f.size)
	}
}

// nameOf finds an object by the hash of its bytes.
func (s *scrub) nameOf(sum [32]byte) string {
	if no, ok := s.packs.byHash[sum]; ok {
		return s.packs.key(no)
	}
	if sum == [32]byte(s.id) {
		return storage.FormatKey
	}
	text := hex.EncodeToString(sum[:])
	for _, g := range s.scans {
		for key := range g.small {
			if strings.Contains(key, text) {
				return key
			}
		}
	}
	return ""
}

// sizeOf gives the size that an object should have; 0: not known.
func (s *scrub) sizeOf(f *finding) int64 {
	sum, _ := storage.HashOf(f.Object)
	if no, ok := s.packs.byHash[sum]; ok && s.packs.rows[no].size > 0 {
		return s.packs.rows[no].size
	}
	for _, g := range s.scans {
		if !slices.Contains(f.HealableFrom, g.Name) {
			continue
		}
		if size := g.small[f.Object]; size > 0 {
			return size
		}
		if no, ok := s.packs.byHash[sum]; ok && g.seen != nil {
			return g.seen[no].size
		}
	}
	return 0
}

// affects works out which snapshots each finding touches.
func (s *scrub) affects(ctx context.Context) error {
	byPack := map[uint32][]*finding{}
	byIntent := map[string][]*finding{}
	for _, f := range s.findings {
		sum, _ := storage.HashOf(f.Object)
		switch {
		case f.Kind == kindListing || f.Kind == kindSnapshot:
		case f.kind == storage.KindPack:
			if no, ok := s.packs.byHash[sum]; ok {
				byPack[no] = append(byPack[no], f)
			}
		case f.kind == storage.KindIndex:
			for _, no := range s.packsOf(ctx, f) {
				byPack[no] = append(byPack[no], f)
			}
		case f.kind == storage.KindJournal:
			byIntent[hex.EncodeToString(sum[:])] = append(byIntent[hex.EncodeToString(sum[:])], f)
			s.named(f, sum)
		case f.kind == storage.KindManifest:
			f.snapshots = append(f.snapshots, hex.EncodeToString(sum[:]))
		case f.g != nil && (f.kind == storage.KindFormat || f.kind == storage.KindTrust || f.kind == storage.KindWrap || f.kind == storage.KindRegion || f.Kind == kindRegion):
			f.snapshots = append(f.snapshots, s.shownBy(f.g)...)
		}
	}
	s.reached(byPack, byIntent)
	for _, f := range s.findings {
		s.fillAffects(f)
	}
	return ctx.Err()
}

// named adds the snapshots that a statement itself names, or the acknowledgement of it.
func (s *scrub) named(f *finding, sum [32]byte) {
	if st := s.statements[f.Object]; st != nil {
		f.snapshots = append(f.snapshots, st.ids...)
	}
	text := hex.EncodeToString(sum[:])
	for _, st := range s.statements {
		if st.kind == journal.Ack && st.intent == text {
			f.snapshots = append(f.snapshots, st.ids...)
		}
	}
}

// packsOf lists the packs that an index object names, as a good copy says; with
// none, those of the session cannot be told.
func (s *scrub) packsOf(ctx context.Context, f *finding) []uint32 {
	var o *index.Object
	for _, g := range s.scans {
		if !slices.Contains(f.HealableFrom, g.Name) {
			continue
		}
		data, _, err := storage.ReadVerified(ctx, g.Store, f.Object, index.ObjectMax)
		if err != nil {
			continue
		}
		if o, err = s.decodeIndex(f.Object, data); err == nil && o != nil {
			break
		}
	}
	var out []uint32
	if o != nil {
		for _, p := range o.Packs {
			if no, ok := s.packs.byHash[p.Hash]; ok {
				out = append(out, no)
			}
		}
		return out
	}
	for no, row := range s.packs.rows { // what no other object tells of, this one told of
		if !row.indexed {
			out = append(out, uint32(no))
		}
	}
	return out
}

// shownBy lists the snapshots that a region shows.
func (s *scrub) shownBy(g *scan) []string {
	var out []string
	for id, sh := range s.shown {
		if g.nonce != "" && sh.Shows(g.nonce) {
			out = append(out, id)
		}
	}
	return out
}

// reached goes through the closures of all snapshots once, and adds each
// snapshot to the findings that touch it.
func (s *scrub) reached(byPack map[uint32][]*finding, byIntent map[string][]*finding) {
	if len(byPack)+len(byIntent) == 0 {
		return
	}
	intents := map[string]map[string]uint64{} // intent → snapshot → regions
	for id, sh := range s.shown {
		for _, g := range s.scans {
			if ref, ok := sh.Intents[g.nonce]; ok && g.nonce != "" {
				if intents[ref.Hash] == nil {
					intents[ref.Hash] = map[string]uint64{}
				}
				intents[ref.Hash][id] |= 1 << g.number
			}
		}
	}
	for intent, ids := range intents {
		add := func(f *finding) {
			for id, regions := range ids {
				if f.g == nil || regions&(1<<f.g.number) != 0 {
					f.snapshots = append(f.snapshots, id)
				}
			}
		}
		if len(byPack) > 0 {
			numbers, _ := s.closure(intent) // what cannot be resolved is a finding
			for _, no := range numbers {
				for _, f := range byPack[no] {
					add(f)
				}
			}
		}
		for _, hash := range s.bases(intent) {
			for _, f := range byIntent[hash] {
				add(f)
			}
		}
	}
}

// bases lists an intent and those that its pack set is built from.
func (s *scrub) bases(intent string) []string {
	var out []string
	for hash := intent; hash != "" && !slices.Contains(out, hash); {
		out = append(out, hash)
		st, ok := s.view.Intent(hash)
		if !ok || st.Packs == nil {
			break
		}
		hash = ""
		if st.Packs.Base != nil {
			hash = st.Packs.Base.Hash
		}
	}
	return out
}

// fillAffects turns ids into what the report shows, the newest first.
func (s *scrub) fillAffects(f *finding) {
	seen := map[string]bool{}
	for _, id := range f.snapshots {
		if seen[id] {
			continue
		}
		seen[id] = true
		a, ok := s.names[id]
		if !ok {
			a = Affected{ID: id}
		}
		f.Affects = append(f.Affects, a)
	}
	f.AffectsTotal = len(f.Affects)
	slices.SortFunc(f.Affects, func(a, b Affected) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.ID, b.ID)) })
	f.Affects = f.Affects[:min(len(f.Affects), affectsMax)]
}

// nameFiles names files that lose contents with damaged data packs, in the newest
// recovery point that each of them touches.
func (s *scrub) nameFiles(ctx context.Context) error {
	if s.idx == nil || !s.r.Keys().HasMeta() {
		return nil
	}
	lost := map[string]map[pack.ChunkID][]*finding{} // by snapshot
	n := 0
	for _, f := range s.findings {
		_, parts, err := storage.Parse(f.Object)
		if err != nil || f.kind != storage.KindPack || f.Kind == kindListing || parts.PackKind != storage.PackData || len(f.Affects) == 0 {
			continue
		}
		id := f.Affects[0].ID
		if lost[id] == nil && len(lost) == filesWalks {
			continue
		}
		if lost[id] == nil {
			lost[id] = map[pack.ChunkID][]*finding{}
		}
		for _, c := range s.lostChunks(f, parts) {
			if n++; n > lostChunksMax {
				break
			}
			lost[id][c] = append(lost[id][c], f)
		}
	}
	for id, chunks := range lost {
		if err := s.walkFiles(ctx, id, chunks, filesMax); err != nil && ctx.Err() != nil {
			return err // otherwise the catalog is damaged too, which is a finding of its own
		}
	}
	return nil
}

// lostChunks are those that did not come out of a damaged pack, or all of it.
func (s *scrub) lostChunks(f *finding, parts storage.Parts) []pack.ChunkID {
	if f.lost != nil {
		return f.lost
	}
	frames, err := s.idx.PackFrames(parts.Sum, id16(parts.Writer))
	if err != nil {
		return nil
	}
	var out []pack.ChunkID
	for _, fr := range frames {
		for _, c := range fr.Chunks {
			out = append(out, c.ID)
		}
	}
	return out
}
