package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/index"
	"lifeboat/storage/journal"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// Limits of small objects, as their writers keep them.
const (
	wrappedMax  = 64 << 10 // bytes of a wrapped key
	manifestMax = 64 << 20 // bytes of a sealed manifest
	gcMax       = 8 << 20  // bytes of a statement of a garbage collection
)

// Names of wrapped keys that every operator must find.
const maintainerKeyID = "meta-maintainer"

// smallObjects looks at everything but packs, region by region, and then compares.
func (s *scrub) smallObjects(ctx context.Context) error {
	s.each(func(g *scan) { s.meet(ctx, g) })
	s.refuseTwins()
	s.each(func(g *scan) {
		for _, look := range []func(context.Context, *scan){s.scanTrust, s.scanKeys, s.scanGC, s.scanJournal, s.scanIndex, s.scanManifests} {
			if g.answers() && ctx.Err() == nil {
				look(ctx, g)
			}
		}
	})
	if ctx.Err() != nil {
		return nil // what a cancelled run lacks proves nothing
	}
	s.compareTrust(ctx)
	s.compareKeys(ctx)
	s.compareRecovery(ctx)
	s.compareJournals(ctx)
	s.compareIndex(ctx)
	return nil
}

// meet finds out whether a region is what it is taken for: format.json is the
// repository's, and a marker names the current incarnation of a member.
func (s *scrub) meet(ctx context.Context, g *scan) {
	data, _, err := storage.ReadAll(ctx, g.Store, storage.FormatKey, plainObjectMax)
	s.count(g, 1, int64(len(data)))
	if isAway(ctx, err) {
		s.leave(g, err)
		return
	}
	format := ""
	switch sum := sha256.Sum256(data); {
	case errors.Is(err, storage.ErrNotFound):
		format = missing
	case err != nil:
		format = err.Error()
	case len(data) == 0:
		format = "holds nothing: zero bytes"
	case sum != s.id:
		format = fmt.Sprintf("its %d bytes hash to %x…, the repository is %.8s", len(data), sum[:4], s.id)
	}
	infos := s.list(ctx, g, storage.RegionPrefix)
	if !g.answers() {
		return
	}
	markers := s.members(g, infos)
	if g.nonce == "" && (format != "" || markers > 0) || format == missing && markers == 0 {
		g.foreign = fmt.Errorf("region %s: %w: format.json: %s; its %d markers are of no current member: it was wiped, replaced, or holds something else",
			g.Name, repo.ErrWrongRepository, orElse(format, "right"), markers)
		s.findAs(kindRegion, g, storage.RegionPrefix, "format.json: %s; its %d markers are of no current member: it was wiped, replaced, or holds something else", orElse(format, "right"), markers)
		return
	}
	if format != "" {
		s.find(g, storage.FormatKey, "%s", format)
	} else {
		s.mu.Lock()
		s.format = data
		s.mu.Unlock()
	}
	s.checkMarker(ctx, g)
	s.sentinel(ctx, g, storage.RegionPrefix, infos)
	if text := s.inspect(ctx, g, storage.RecoveryKey, plainObjectMax); text != nil && !bytes.Contains(text, []byte(s.id.String())) {
		s.find(g, storage.RecoveryKey, "it does not name this repository")
	}
}

// members counts the markers, and takes the one that the trust statement names.
func (s *scrub) members(g *scan, infos []storage.Info) (markers int) {
	for _, info := range infos {
		kind, parts, err := storage.Parse(info.Key)
		if err != nil || kind != storage.KindRegion {
			continue
		}
		markers++
		if _, ok := s.trust.Member(parts.Name); ok {
			g.nonce = parts.Name
		}
	}
	if g.nonce == "" && markers == 0 {
		for _, m := range s.trust.Members {
			if m.Name == g.Name {
				g.nonce = m.Nonce
			}
		}
	}
	return markers
}

// regionMarker is region/<nonce>.json.
type regionMarker struct {
	Repo      string    `json:"repo"`
	Nonce     string    `json:"nonce"`
	CreatedAt time.Time `json:"created_at"`
}

// checkMarker compares the marker with the one form it can have. It carries no
// hash: a changed digit of its date would pass, and harms nothing.
func (s *scrub) checkMarker(ctx context.Context, g *scan) {
	if g.nonce == "" {
		s.findAs(kindRegion, g, storage.RegionPrefix, "no marker, and the trust statement names no member called %s", g.Name)
		return
	}
	key := storage.RegionKey(g.nonce)
	if _, listed := g.small[key]; !listed {
		s.present(ctx, g, key)
	}
	data := s.inspect(ctx, g, key, plainObjectMax)
	if data == nil {
		return
	}
	var m regionMarker
	if err := json.Unmarshal(data, &m); err != nil {
		s.find(g, key, "it is not JSON: %v", err)
		return
	}
	again, err := json.Marshal(m)
	if err != nil || m.Repo != s.id.String() || m.Nonce != g.nonce || !bytes.Equal(bytes.TrimRight(data, "\n"), again) {
		s.find(g, key, "it does not say what the marker of this region must say")
	}
}

// refuseTwins leaves out a region that is the same place as one before it.
func (s *scrub) refuseTwins() {
	seen := map[string]string{}
	for _, g := range s.scans {
		if !g.answers() || g.nonce == "" {
			continue
		}
		if other := seen[g.nonce]; other != "" {
			g.foreign = fmt.Errorf("region %s: %w: it is the same place as region %s", g.Name, repo.ErrWrongRepository, other)
			s.findAs(kindRegion, g, storage.RegionPrefix, "the same place as region %s: two names for one copy", other)
			continue
		}
		seen[g.nonce] = g.Name
	}
}

// list collects a prefix and checks that it comes in order. A region that cannot
// be listed is given up.
func (s *scrub) list(ctx context.Context, g *scan, prefix string) []storage.Info {
	infos, err := storage.ListAll(ctx, g.Store, storage.ListOptions{Prefix: prefix}, listMax)
	if err != nil {
		s.leave(g, fmt.Errorf("list %s: %w", prefix, err))
		return nil
	}
	for i, info := range infos {
		if !strings.HasPrefix(info.Key, prefix) || i > 0 && info.Key <= infos[i-1].Key {
			s.findAs(kindListing, g, prefix, "the listing is out of order at %s", info.Key)
		}
		if _, _, err := storage.Parse(info.Key); err != nil && g.checked {
			s.strange(g.Name + ": " + info.Key)
		}
		g.small[info.Key] = info.Size
		g.saw(info)
	}
	return infos
}

// saw notes the time of the newest object that a listing showed.
func (g *scan) saw(info storage.Info) {
	if name := folder(info.Key); info.ModTime.After(g.newest[name]) {
		g.newest[name] = info.ModTime
	}
}

// sentinel makes sure that the listing of a prefix shows its end.
func (s *scrub) sentinel(ctx context.Context, g *scan, prefix string, infos []storage.Info) {
	if !g.checked || !g.answers() {
		return
	}
	key := storage.SentinelKey(prefix)
	if err := storage.CheckListing(prefix, infos); err == nil {
		if data := s.inspect(ctx, g, key, sentinelMax); data != nil && string(data) != storage.Sentinel {
			s.find(g, key, "it does not say what a sentinel says")
		}
		return
	}
	if _, there := s.ask(ctx, g, key); there {
		s.findAs(kindListing, g, prefix, "the listing is cut short: %d objects, and its end is not among them", len(infos))
		return
	}
	if g.answers() {
		s.find(g, key, missing)
	}
}

func (s *scrub) scanTrust(ctx context.Context, g *scan) {
	infos := s.list(ctx, g, storage.TrustPrefix)
	s.sentinel(ctx, g, storage.TrustPrefix, infos)
	var before *journal.Trust
	var beforeSum [32]byte
	for _, info := range infos {
		kind, parts, err := storage.Parse(info.Key)
		if err != nil || kind != storage.KindTrust {
			continue
		}
		doc := s.inspect(ctx, g, info.Key, journal.TrustMax)
		if doc == nil {
			before = nil
			continue
		}
		t, err := journal.ParseTrust(doc, s.id, s.r.Root())
		switch {
		case err != nil:
			s.find(g, info.Key, "%v", err)
			before = nil
			continue
		case t.Seq != parts.Seq:
			s.find(g, info.Key, "it says that it is number %d", t.Seq)
		case before != nil && t.Seq == before.Seq+1 && t.Prev != hex.EncodeToString(beforeSum[:]):
			s.find(g, info.Key, "it does not follow the statement before it")
		}
		if t.Seq > g.trustSeq {
			g.trustSeq, g.trust = t.Seq, t
		}
		before, beforeSum = t, parts.Sum
	}
}

func (s *scrub) scanKeys(ctx context.Context, g *scan) {
	infos := s.list(ctx, g, storage.KeysPrefix)
	s.sentinel(ctx, g, storage.KeysPrefix, infos)
	s.inspectAll(ctx, g, infos, storage.KindWrap, wrappedMax, nil)
}

func (s *scrub) scanGC(ctx context.Context, g *scan) {
	infos := s.list(ctx, g, storage.GCPrefix)
	s.sentinel(ctx, g, storage.GCPrefix, infos)
	s.inspectAll(ctx, g, infos, storage.KindGC, gcMax, nil)
}

func (s *scrub) scanManifests(ctx context.Context, g *scan) {
	s.inspectAll(ctx, g, s.list(ctx, g, storage.ManifestPrefix), storage.KindManifest, manifestMax, nil)
}

func (s *scrub) scanIndex(ctx context.Context, g *scan) {
	s.inspectAll(ctx, g, s.list(ctx, g, storage.IndexPrefix), storage.KindIndex, index.ObjectMax, func(key string, data []byte) {
		if _, err := s.decodeIndex(key, data); err != nil {
			s.find(g, key, "%v", err)
		}
	})
}

// inspectAll reads all objects of one kind. Regions that are only compared with
// are listed, not read.
func (s *scrub) inspectAll(ctx context.Context, g *scan, infos []storage.Info, kind storage.Kind, limit int64, then func(key string, data []byte)) {
	if !g.checked {
		return
	}
	s.opt.Events.at(g.Name, kind.String())
	many(ctx, g, infos, func(info storage.Info) {
		if k, _, err := storage.Parse(info.Key); err != nil || k != kind {
			return
		}
		if data := s.inspect(ctx, g, info.Key, limit); data != nil && then != nil {
			then(info.Key, data)
		}
	})
}

// decodeIndex verifies an index object; without the index key it gives nil.
func (s *scrub) decodeIndex(key string, data []byte) (*index.Object, error) {
	domain := s.r.Keys().Domain
	if domain == nil {
		return nil, nil
	}
	_, parts, err := storage.Parse(key)
	if err != nil {
		return nil, err
	}
	w, ok := s.trust.Enrolled(parts.Writer)
	if !ok {
		return nil, errors.New("its writer is not enrolled")
	}
	verify, err := seal.ParseVerifyKey(w.Sign)
	if err != nil {
		return nil, fmt.Errorf("key of writer %.8s: %w", w.ID, err)
	}
	dec, err := pack.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	want := index.Expect{Repo: s.id, Writer: id16(parts.Writer), Instance: id16(parts.Instance), Seq: parts.Seq}
	return index.DecodeObject(data, want, verify, dec, seal.NewOpener(domain.Index).Open)
}

// id16 reads an id that Parse has accepted.
func id16(text string) (out [16]byte) {
	if b, err := hex.DecodeString(text); err == nil {
		copy(out[:], b)
	}
	return out
}

// union lists all names of one kind that some region has.
func (s *scrub) union(kind storage.Kind) []string {
	set := map[string]bool{}
	for _, g := range s.scans {
		for key := range g.small {
			if k, _, err := storage.Parse(key); err == nil && k == kind {
				set[key] = true
			}
		}
	}
	out := make([]string, 0, len(set))
	for key := range set {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// lacking gives, for each checked region, the names that its listing lacks and
// that it does not have when asked by name either.
func (s *scrub) lacking(ctx context.Context, g *scan, names []string) []string {
	var ask []string
	for _, key := range names {
		if _, listed := g.small[key]; !listed {
			ask = append(ask, key)
		}
	}
	absent := make([]bool, len(ask))
	many(ctx, g, indices(len(ask)), func(i int) {
		_, there := s.present(ctx, g, ask[i])
		absent[i] = !there
	})
	var out []string
	for i, key := range ask {
		if absent[i] && g.answers() {
			out = append(out, key)
		}
	}
	return out
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// eachChecked runs f for the regions to check that answer, at once.
func (s *scrub) eachChecked(f func(g *scan)) {
	s.each(func(g *scan) {
		if g.checked {
			f(g)
		}
	})
}

// compareTrust: a region that has a later statement had the earlier ones.
func (s *scrub) compareTrust(ctx context.Context) {
	names := s.union(storage.KindTrust)
	s.eachChecked(func(g *scan) {
		newest := uint64(0)
		for key := range g.small {
			if kind, parts, err := storage.Parse(key); err == nil && kind == storage.KindTrust {
				newest = max(newest, parts.Seq)
			}
		}
		for _, key := range s.lacking(ctx, g, names) {
			if _, parts, _ := storage.Parse(key); newest > 0 && parts.Seq > newest {
				s.lag(g, key)
				continue
			}
			s.find(g, key, missing)
		}
	})
}

// compareKeys: a region must have the wrapped keys that its own trust statement
// speaks of; later ones it may lack until it is caught up.
func (s *scrub) compareKeys(ctx context.Context) {
	names := s.union(storage.KindWrap)
	s.eachChecked(func(g *scan) {
		trust := g.trust
		if trust == nil {
			trust = s.trust
		}
		due := wrappedKeys(trust)
		for _, key := range s.lacking(ctx, g, names) {
			_, parts, _ := storage.Parse(key)
			if due[parts.KeyID+"/"+parts.Name] {
				s.find(g, key, missing)
				continue
			}
			s.lag(g, key)
		}
	})
	have := map[string]bool{}
	for _, key := range names {
		_, parts, _ := storage.Parse(key)
		have[parts.KeyID+"/"+parts.Name] = true
	}
	for name := range wrappedKeys(s.trust) {
		if !have[name] && !strings.HasPrefix(name, "meta-") {
			s.findAs(storage.KindWrap.String(), nil, storage.KeysPrefix+name, "no region has it: that operator cannot open the repository")
		}
	}
}

// wrappedKeys names what must be wrapped, as <key id>/<operator's fingerprint>.
func wrappedKeys(t *journal.Trust) map[string]bool {
	ids := []string{t.Domain.KeyID}
	for _, d := range t.Data {
		ids = append(ids, d.KeyID)
	}
	if len(t.Maintainers) > 0 {
		ids = append(ids, maintainerKeyID)
	}
	for _, w := range t.Writers {
		ids = append(ids, "meta-"+w.ID)
	}
	out := map[string]bool{}
	for _, id := range ids {
		for _, o := range t.Operators {
			out[id+"/"+o.Fingerprint] = true
		}
	}
	return out
}

// compareRecovery: RECOVERY.txt carries no hash, but it is the same text in all
// regions; with three of them, the odd one is the damaged one.
func (s *scrub) compareRecovery(ctx context.Context) {
	texts := map[string][]*scan{}
	for _, g := range s.scans {
		if !g.answers() || s.has(g, storage.RecoveryKey) {
			continue
		}
		data, _, err := storage.ReadAll(ctx, g.Store, storage.RecoveryKey, plainObjectMax)
		if err == nil {
			texts[string(data)] = append(texts[string(data)], g)
		}
	}
	for _, some := range texts {
		for _, others := range texts {
			if len(some) == 1 && len(others) > 1 {
				s.find(some[0], storage.RecoveryKey, "it differs from the one that %d other regions have", len(others))
			}
		}
	}
}

// compareIndex: a session that was acknowledged in a region has put its index
// objects there.
func (s *scrub) compareIndex(ctx context.Context) {
	names := s.union(storage.KindIndex)
	s.eachChecked(func(g *scan) {
		for _, key := range s.lacking(ctx, g, names) {
			_, parts, _ := storage.Parse(key)
			if s.ackedAfter(g, parts.Writer, parts.Instance, parts.Seq>>indexSeqShift) {
				s.find(g, key, missing)
				continue
			}
			s.lag(g, key)
		}
	})
}

// indexSeqShift: the upper bits of an index object's number are the number of
// the journal statement before it (docs/format.md, Index).
const indexSeqShift = 16

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
