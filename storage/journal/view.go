package journal

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"lifeboat/storage"
)

// closureDepthMax bounds how many intents a pack set may be built from.
const closureDepthMax = 64

// View is what the journals of the member regions say, taken together: which
// snapshots each region shows, which sessions are open, what packs a snapshot
// reaches. It is safe for concurrent use.
type View struct {
	mu      sync.RWMutex
	intents map[string]*Signed // by hash
	authors map[string]Ref     // by writer and snapshot: the writer's intent that names it
	taken   map[string]Ref     // by writer and snapshot: where in the writer's chain it was taken; zero: cannot be told
	regions map[string]*regionView
	ends    map[string]bool // by writer and session
	opens   map[string]Ref
	drills  map[string]*Signed
	heads   map[string]Ref // by writer/instance
	prefer  func(writer string) bool
}

// regionView is what one region itself holds; visibility is judged from it alone.
type regionView struct {
	intents map[string]bool
	acks    []*Signed
	live    map[string]Live // by intent and snapshot, from checkpoints
	forgot  map[string]bool // by writer and snapshot: a writer forgets only its own
}

// NewView returns a view of nothing.
func NewView() *View {
	return &View{
		intents: map[string]*Signed{}, authors: map[string]Ref{}, taken: map[string]Ref{}, regions: map[string]*regionView{}, ends: map[string]bool{},
		opens: map[string]Ref{}, drills: map[string]*Signed{}, heads: map[string]Ref{},
	}
}

// Prefer says whose intents are to be preferred where several writers' intents
// show one snapshot in one region: those whose pack sets are believed.
func (v *View) Prefer(writer func(id string) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prefer = writer
}

// AddRegion makes the view know a region that was read, even if it holds nothing.
func (v *View) AddRegion(nonce string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.region(nonce)
}

func (v *View) region(nonce string) *regionView {
	r := v.regions[nonce]
	if r == nil {
		r = &regionView{intents: map[string]bool{}, live: map[string]Live{}, forgot: map[string]bool{}}
		v.regions[nonce] = r
	}
	return r
}

// Add records that the region in incarnation nonce holds s. The same statement
// is added once for each region that holds it. Inline manifests are not kept.
func (v *View) Add(nonce string, s *Signed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.region(nonce)
	hash := hex.EncodeToString(s.Hash[:])
	v.head(s)
	switch s.Type {
	case Open:
		v.opens[s.Writer+s.Session] = s.Ref()
	case End:
		v.ends[s.Writer+s.Session] = true
	case Intent:
		v.addIntent(hash, s)
		r.intents[hash] = true
	case Ack:
		r.acks = append(r.acks, s.light())
	case Forget:
		for _, sn := range s.Snapshots {
			r.forgot[s.Writer+sn.ID] = true
		}
	case Drill:
		v.drills[hash] = s.light()
	case Checkpoint:
		v.addCheckpoint(r, nonce, s)
	}
}

// addCheckpoint takes over what a checkpoint carries on. Claims for another
// incarnation than the region's own are void there, and so are claims about
// another writer's snapshots.
func (v *View) addCheckpoint(r *regionView, nonce string, s *Signed) {
	for _, l := range s.Live {
		if l.Intent.Writer != s.Writer || l.Intent.Instance != s.Instance {
			continue
		}
		v.authors[l.Intent.Writer+l.Snapshot] = l.Intent
		v.addTaken(l.Snapshot, l.Intent, l.Regions)
		if slices.Contains(l.Regions, nonce) {
			r.live[l.key()] = l
		}
	}
	for _, o := range s.OpenSessions {
		if _, ok := v.opens[s.Writer+o]; !ok {
			v.opens[s.Writer+o] = s.Ref()
		}
	}
}

func (v *View) head(s *Signed) {
	k := s.Writer + "/" + s.Instance
	if s.Type == Checkpoint {
		if s.Head != nil && s.Head.Seq > v.heads[k].Seq {
			v.heads[k] = *s.Head
		}
		return
	}
	if s.Seq > v.heads[k].Seq {
		v.heads[k] = s.Ref()
	}
}

// light is the statement without its bytes and inline manifests, which are
// fetched again when they are wanted: a view of ten thousand snapshots stays small.
func (s *Signed) light() *Signed {
	l := *s
	l.Bytes = nil
	l.Snapshots = slices.Clone(s.Snapshots)
	for i := range l.Snapshots {
		l.Snapshots[i].Inline = nil
	}
	return &l
}

// Shown is one snapshot that at least one region shows.
type Shown struct {
	ID      string
	Writer  string // of the best of Intents
	Session string // likewise
	// Intents holds, for each region that shows the snapshot, the intent by which it
	// does; the best when there are several: see View.Prefer.
	Intents map[string]Ref
	// Seen is the earliest time at which a region held the intent, by that region's clock.
	Seen time.Time
	best Ref
}

// Best is the best of the intents by which regions show the snapshot.
func (s *Shown) Best() Ref { return s.best }

// Shows reports whether the region in this incarnation shows the snapshot.
func (s *Shown) Shows(nonce string) bool { _, ok := s.Intents[nonce]; return ok }

// Snapshots lists all snapshots that some region shows, in no particular order.
func (v *View) Snapshots() map[string]*Shown {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := map[string]*Shown{}
	for nonce, r := range v.regions {
		v.showAcks(out, nonce, r)
		v.showLive(out, nonce, r)
	}
	return out
}

// showAcks applies the rule of visibility: the region holds the intent and an
// ack of it, both name the region's current incarnation, and it holds no forget.
func (v *View) showAcks(out map[string]*Shown, nonce string, r *regionView) {
	for _, ack := range r.acks {
		intent := v.intents[ack.Intent]
		if intent == nil || !r.intents[ack.Intent] || !ack.Names(nonce) || !intent.Names(nonce) || intent.Session != ack.Session || intent.Writer != ack.Writer {
			continue
		}
		for _, sn := range ack.Snapshots {
			if r.forgot[intent.Writer+sn.ID] || !names(intent.Snapshots, sn.ID) {
				continue
			}
			v.show(out, nonce, Live{Snapshot: sn.ID, Intent: intent.Ref(), Session: intent.Session, Seen: ack.Seen})
		}
	}
}

func (v *View) showLive(out map[string]*Shown, nonce string, r *regionView) {
	for _, l := range r.live {
		if !r.forgot[l.Intent.Writer+l.Snapshot] {
			v.show(out, nonce, l)
		}
	}
}

// show notes that a region shows a snapshot, by the intent of l.
func (v *View) show(out map[string]*Shown, nonce string, l Live) {
	s := out[l.Snapshot]
	if s == nil {
		s = &Shown{ID: l.Snapshot, Intents: map[string]Ref{}}
		out[l.Snapshot] = s
	}
	if old, ok := s.Intents[nonce]; !ok || v.better(l.Intent, old) {
		s.Intents[nonce] = l.Intent
	}
	if s.best == (Ref{}) || v.better(l.Intent, s.best) {
		s.best, s.Writer, s.Session = l.Intent, l.Intent.Writer, l.Session
	}
	for _, t := range l.Seen {
		if s.Seen.IsZero() || t.Before(s.Seen) {
			s.Seen = t
		}
	}
}

// better chooses between two intents that show the same; which of them came first
// to this reader must not matter.
func (v *View) better(a, b Ref) bool {
	if v.prefer != nil && a.Writer != b.Writer && v.prefer(a.Writer) != v.prefer(b.Writer) {
		return v.prefer(a.Writer)
	}
	return a.Hash < b.Hash
}

func names(sns []Snapshot, id string) bool {
	return slices.ContainsFunc(sns, func(s Snapshot) bool { return s.ID == id })
}

// Intent gives an intent that was added, without inline manifests.
func (v *View) Intent(hash string) (*Signed, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s, ok := v.intents[hash]
	return s, ok
}

// Holds reports whether the region holds this intent itself.
func (v *View) Holds(nonce, intent string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	r := v.regions[nonce]
	return r != nil && r.intents[intent]
}

// Resolve turns the pack set of an intent into pack keys, sorted. intent gives
// the intents that the set is built from.
func Resolve(ref Ref, intent func(Ref) (*Signed, error)) ([]string, error) {
	var chain []*Signed
	for next := &ref; next != nil; {
		s, err := intent(*next)
		if err != nil {
			return nil, fmt.Errorf("resolve the packs of intent %.8s: %w", ref.Hash, err)
		}
		if chain = append(chain, s); len(chain) > closureDepthMax {
			return nil, fmt.Errorf("resolve the packs of intent %.8s: %w: more than %d intents deep", ref.Hash, storage.ErrCorrupt, closureDepthMax)
		}
		if next = nil; s.Packs != nil {
			next = s.Packs.Base
		}
	}
	set := map[string]bool{}
	for _, s := range slices.Backward(chain) {
		if s.Packs == nil {
			continue
		}
		for _, p := range s.Packs.Add {
			set[p] = true
		}
		for _, p := range s.Packs.Drop {
			delete(set, p)
		}
	}
	return slices.Sorted(maps.Keys(set)), nil
}

// AddIntent keeps an intent that was fetched to resolve a pack set. It shows nothing.
func (v *View) AddIntent(s *Signed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.addIntent(s.HashText(), s)
}

func (v *View) addIntent(hash string, s *Signed) {
	for _, sn := range s.Snapshots {
		v.authors[s.Writer+sn.ID] = s.Ref()
		v.addTaken(sn.ID, s.Ref(), s.Regions)
	}
	if v.intents[hash] == nil {
		v.intents[hash] = s.light()
	}
}

// Authored gives an intent of the writer itself that names the snapshot; any
// region may hold it. What a manifest says of its writer anybody can write; this
// only the writer can.
func (v *View) Authored(writer, snapshot string) (Ref, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ref, ok := v.authors[writer+snapshot]
	return ref, ok
}

// addTaken notes where a writer says something of a snapshot. In one region alone
// it may be as a replicator, long after it took the snapshot.
func (v *View) addTaken(snapshot string, intent Ref, regions []string) {
	if len(regions) < 2 {
		return
	}
	k := intent.Writer + snapshot
	old, ok := v.taken[k]
	switch {
	case !ok || old.Instance == intent.Instance && intent.Seq < old.Seq:
		v.taken[k] = intent
	case old.Instance != intent.Instance:
		v.taken[k] = Ref{}
	}
}

// Taken gives the intent by which a writer committed a snapshot that it took, so
// that its snapshots can be put in order without asking a clock. It is known of
// those that went to several regions at once.
func (v *View) Taken(writer, snapshot string) (Ref, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ref := v.taken[writer+snapshot]
	return ref, ref != Ref{}
}

// OpenSessions lists sessions without an end, each as writer and session id.
func (v *View) OpenSessions() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []string
	for s := range v.opens {
		if !v.ends[s] {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// Drills lists the drill statements, oldest first.
func (v *View) Drills() []*Signed {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.sortedDrills()
}

func (v *View) sortedDrills() []*Signed {
	out := make([]*Signed, 0, len(v.drills))
	for _, d := range v.drills {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Signed) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq), slices.Compare(a.Hash[:], b.Hash[:]))
	})
	return out
}

// Head is the newest statement known of a writer's instance.
func (v *View) Head(writer, instance string) Ref {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.heads[writer+"/"+instance]
}
