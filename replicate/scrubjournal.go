package replicate

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"lifeboat/storage"
	"lifeboat/storage/journal"
)

// statement is what a scrub keeps of a journal statement.
type statement struct {
	key     string
	seq     uint64
	hash    [32]byte
	prev    string
	kind    journal.Type
	session string
	regions []string // incarnations that it claims
	ids     []string // snapshots
	intent  string   // of an ack
	held    uint64   // one bit for each region with good bytes
}

// names reports whether the statement claims an incarnation.
func (st *statement) names(nonce string) bool { return slices.Contains(st.regions, nonce) }

// heldBy reports whether a region has good bytes of it.
func (st *statement) heldBy(g *scan) bool { return st.held&(1<<g.number) != 0 }

// chain is what all regions together have of one instance of a writer.
type chain struct {
	writer, instance string
	covered          uint64 // statements up to here stand in a checkpoint
	all              []*statement
}

// scanJournal reads every statement of a region.
func (s *scrub) scanJournal(ctx context.Context, g *scan) {
	infos := s.list(ctx, g, storage.JournalPrefix)
	s.opt.Events.at(g.Name, storage.KindJournal.String())
	var plain []string
	newest := map[string]bool{} // instances whose newest checkpoint was taken over
	for _, info := range infos {
		kind, parts, err := storage.Parse(info.Key)
		switch {
		case err != nil:
		case kind == storage.KindJournal:
			plain = append(plain, info.Key)
		case kind == storage.KindCheckpoint: // the newest lists first
			instance := parts.Writer + "/" + parts.Instance
			newest[instance] = s.readStatement(ctx, g, info.Key, !newest[instance]) || newest[instance]
		}
	}
	many(ctx, g, plain, func(key string) { s.readStatement(ctx, g, key, true) })
}

// readStatement verifies one statement and takes it into the view. It reports
// whether it is good.
func (s *scrub) readStatement(ctx context.Context, g *scan, key string, view bool) bool {
	doc := s.inspect(ctx, g, key, journal.StatementMax)
	if doc == nil {
		return false
	}
	signed, err := journal.Parse(doc, s.id, s.trust)
	if err != nil {
		s.find(g, key, "%v", err)
		return false
	}
	if own, err := signed.Key(); err != nil || own != key {
		s.find(g, key, "it says that it is %s", own)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if view && g.nonce != "" {
		s.view.Add(g.nonce, signed)
	}
	s.note(g, key, signed)
	return true
}

// note remembers a statement. s.mu is held.
func (s *scrub) note(g *scan, key string, signed *journal.Signed) {
	name := signed.Writer + "/" + signed.Instance
	c := s.chains[name]
	if c == nil {
		c = &chain{writer: signed.Writer, instance: signed.Instance}
		s.chains[name] = c
	}
	if signed.Type == journal.Checkpoint {
		if signed.Head != nil {
			c.covered = max(c.covered, signed.Head.Seq)
		}
		return
	}
	st := s.statements[key]
	if st == nil {
		st = &statement{key: key, seq: signed.Seq, hash: signed.Hash, prev: signed.Prev, kind: signed.Type, session: signed.Session, regions: signed.Regions, intent: signed.Intent}
		for _, sn := range signed.Snapshots {
			st.ids = append(st.ids, sn.ID)
		}
		s.statements[key] = st
		c.all = append(c.all, st)
	}
	st.held |= 1 << g.number
}

// compareJournals looks for what is missing: in all regions, by the chains, and
// in one region, by what the others have and what its own statements prove.
func (s *scrub) compareJournals(ctx context.Context) {
	s.findHidden(ctx)
	s.findGaps(ctx)
	for _, c := range s.chains {
		s.checkLinks(c)
	}
	s.shown = s.view.Snapshots()
	s.eachChecked(func(g *scan) { s.compareJournal(ctx, g) })
	s.eachChecked(func(g *scan) { s.compareManifests(ctx, g) })
}

// compareManifests: a region holds the manifest of every snapshot that it shows.
func (s *scrub) compareManifests(ctx context.Context, g *scan) {
	var due []string
	for id, sh := range s.shown {
		st, ok := s.view.Intent(sh.Intents[g.nonce].Hash)
		if g.nonce == "" || !sh.Shows(g.nonce) || !ok {
			continue
		}
		for _, sn := range st.Snapshots {
			if sn.ID == id && sn.Key != "" {
				due = append(due, sn.Key)
			}
		}
	}
	slices.Sort(due)
	for _, key := range s.lacking(ctx, g, slices.Compact(due)) {
		s.find(g, key, missing)
	}
}

// findHidden reads statements that other regions have and that a region has too,
// though its listing does not show them.
func (s *scrub) findHidden(ctx context.Context) {
	names := s.union(storage.KindJournal)
	s.each(func(g *scan) {
		var ask []string
		for _, key := range names {
			if _, listed := g.small[key]; !listed {
				ask = append(ask, key)
			}
		}
		for _, key := range ask {
			if !g.answers() || ctx.Err() != nil {
				return
			}
			if size, there := s.present(ctx, g, key); there {
				g.small[key] = size
				s.readStatement(ctx, g, key, true)
			}
		}
	})
}

// findGaps looks for statements that a later one proves and no listing shows.
// Each statement names the one before it by its hash, so its key is known.
func (s *scrub) findGaps(ctx context.Context) {
	listed := map[string]bool{}
	for _, key := range s.union(storage.KindJournal) {
		_, p, _ := storage.Parse(key)
		listed[fmt.Sprintf("%s/%s/%d", p.Writer, p.Instance, p.Seq)] = true
	}
	for range gapsMax {
		again := false
		for _, c := range s.chains {
			slices.SortFunc(c.all, func(a, b *statement) int {
				return cmp.Or(cmp.Compare(a.seq, b.seq), slices.Compare(a.hash[:], b.hash[:]))
			})
			for _, st := range slices.Clone(c.all) {
				before := fmt.Sprintf("%s/%s/%d", c.writer, c.instance, st.seq-1)
				if st.seq <= 1 || st.seq-1 <= c.covered || listed[before] {
					continue
				}
				listed[before] = true
				again = s.lookBehind(ctx, c, st) || again
			}
		}
		if !again || ctx.Err() != nil {
			return
		}
	}
}

// lookBehind asks all regions for the statement before st. It reports whether
// one of them has it.
func (s *scrub) lookBehind(ctx context.Context, c *chain, st *statement) bool {
	sum, err := hex.DecodeString(st.prev)
	if err != nil || len(sum) != 32 {
		return false
	}
	key := storage.JournalKey(c.writer, c.instance, st.seq-1, [32]byte(sum))
	found := false
	for _, g := range s.scans {
		if !g.answers() {
			continue
		}
		if size, there := s.present(ctx, g, key); there {
			g.small[key] = size
			found = s.readStatement(ctx, g, key, true) || found
		}
	}
	if found || s.anyAway() {
		return found // a region that does not answer may have it
	}
	f := s.findAs(storage.KindJournal.String(), nil, key, "no region has it: statement %d of instance %.8s, which statement %d follows", st.seq-1, c.instance, st.seq)
	for _, ack := range c.all {
		if ack.intent == st.prev {
			f.snapshots = append(f.snapshots, ack.ids...)
		}
	}
	return false
}

func (s *scrub) anyAway() bool {
	return slices.ContainsFunc(s.scans, func(g *scan) bool { return !g.answers() })
}

// checkLinks looks for forks: two statements with one number, or one that does
// not follow the one before it.
func (s *scrub) checkLinks(c *chain) {
	for i := 1; i < len(c.all); i++ {
		a, b := c.all[i-1], c.all[i]
		switch {
		case a.seq == b.seq:
			s.findAs(storage.KindJournal.String(), nil, b.key, "a second statement with number %d: the writer's state was copied or went back", b.seq)
		case b.seq == a.seq+1 && b.prev != hex.EncodeToString(a.hash[:]):
			s.findAs(storage.KindJournal.String(), nil, b.key, "it does not follow statement %d", a.seq)
		}
	}
}

// compareJournal decides, for each statement that a region lacks, whether the
// region had it and lost it, or was away when it was said.
func (s *scrub) compareJournal(ctx context.Context, g *scan) {
	for _, key := range s.absent(g) {
		if !g.answers() {
			return
		}
		st := s.statements[key]
		if s.had(g, st) {
			f := s.find(g, key, missing)
			f.snapshots = append(f.snapshots, st.ids...)
			continue
		}
		s.lag(g, key)
	}
}

// absent lists the statements that some region has and this one does not name at
// all; those below a checkpoint may be gone.
func (s *scrub) absent(g *scan) []string {
	var out []string
	for _, c := range s.chains {
		for _, st := range c.all {
			if _, listed := g.small[st.key]; !listed && st.seq > c.covered {
				out = append(out, st.key)
			}
		}
	}
	slices.Sort(out)
	return out
}

// had reports whether a region must have held a statement. An intent or an open
// statement that claims it was there when an acknowledgement or an intent
// claimed it after; an acknowledgement was there when its session went on there.
func (s *scrub) had(g *scan, st *statement) bool {
	if g.nonce == "" || !st.names(g.nonce) {
		return false
	}
	for _, other := range s.statements {
		if other.session != st.session || other.seq <= st.seq {
			continue
		}
		switch {
		case st.kind == journal.Intent && other.kind == journal.Ack && other.intent == hex.EncodeToString(st.hash[:]) && other.names(g.nonce),
			st.kind == journal.Open && other.kind == journal.Intent && other.names(g.nonce),
			st.kind == journal.Ack && other.heldBy(g):
			return true
		}
	}
	return false
}

// ackedAfter reports whether the session that said statement seq was
// acknowledged in a region after it.
func (s *scrub) ackedAfter(g *scan, writer, instance string, seq uint64) bool {
	c := s.chains[writer+"/"+instance]
	if c == nil {
		return false
	}
	i := slices.IndexFunc(c.all, func(st *statement) bool { return st.seq == seq })
	return i >= 0 && slices.ContainsFunc(c.all[i:], func(st *statement) bool {
		return st.seq > seq && st.kind == journal.Ack && st.session == c.all[i].session && st.names(g.nonce) && st.heldBy(g)
	})
}

// compareSentinels reads the sentinels of the folders of writers. Where another
// region marks the end of a folder, a region that took part in its instance from
// the first statement on marks it too.
func (s *scrub) compareSentinels(ctx context.Context) {
	names := slices.DeleteFunc(s.union(storage.KindSentinel), func(key string) bool { return strings.Count(key, "/") < 2 })
	s.eachChecked(func(g *scan) {
		many(ctx, g, names, func(key string) {
			if _, listed := g.small[key]; !listed {
				return
			}
			if data := s.inspect(ctx, g, key, sentinelMax); data != nil && string(data) != storage.Sentinel {
				s.find(g, key, "it does not say what a sentinel says")
			}
		})
		due := sentinelsDue(g)
		for _, key := range s.lacking(ctx, g, names) {
			if due[key] {
				s.find(g, key, missing)
				continue
			}
			s.lag(g, key)
		}
	})
}

// sentinelsDue names the sentinels that a region got when it took part in the
// first session of an instance.
func sentinelsDue(g *scan) map[string]bool {
	due := map[string]bool{}
	for key := range g.small {
		kind, p, err := storage.Parse(key)
		if err != nil || kind != storage.KindJournal || p.Seq != 1 {
			continue
		}
		for _, prefix := range []string{storage.JournalPrefix, storage.IndexPrefix, storage.ManifestPrefix} {
			due[storage.SentinelKey(storage.InstancePrefix(prefix, p.Writer, p.Instance))] = true
		}
		due[storage.SentinelKey(storage.PacksPrefix+p.Writer+"/")] = true
	}
	return due
}
