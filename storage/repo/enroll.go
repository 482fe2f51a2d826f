package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
)

// Errors of enrolling.
var (
	// ErrWrongRoot says that a root key is not the one of this repository.
	ErrWrongRoot = errors.New("this root key does not belong to the repository")
	// ErrTrustRace says that somebody else changed the trust statement meanwhile.
	ErrTrustRace = errors.New("somebody else changed the trust statement at the same time")
	// ErrNoWriter says that no writer of this id is enrolled.
	ErrNoWriter = errors.New("no such writer is enrolled")
)

// EnrollOptions says how a host becomes a writer.
type EnrollOptions struct {
	Root seal.SigningKey // signs the new writer in
	// Predecessors are ids of writers that this host was before: their chunks are
	// re-used, and their names can be read here. Their own predecessors belong to them.
	Predecessors []string
	// Disable takes the right to write from all predecessors. What they stored stays readable.
	Disable bool
	Now     time.Time
}

// Enrollment is a new writer and the trust statement that names it, ready to be
// placed in the regions. It holds secrets, which do not print.
type Enrollment struct {
	Writer string        // id
	Trust  journal.Trust // as it will be
	// Predecessors are all writers whose chunks may be re-used, oldest first.
	Predecessors []string

	r       *Repo
	made    NewWriter
	older   []seal.Identity // the predecessors' meta keys
	doc     []byte
	wrapped []object
}

// PlanEnrollment makes a new writer's keys and its trust statement. It changes
// nothing. The repository must have been opened with an operator's identity:
// ErrNoKey without one. ErrWrongRoot, ErrNoWriter, or ErrTrustRace when a region
// shows a newer statement than the one that the repository was opened with.
func (r *Repo) PlanEnrollment(ctx context.Context, opt EnrollOptions) (*Enrollment, error) {
	if opt.Root.Public() != r.root {
		return nil, fmt.Errorf("enrol: %w: its public half is %s, the repository's is %s", ErrWrongRoot, opt.Root.Public(), r.root)
	}
	if err := r.trust.MayWrite(); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if _, ok := r.Operator(); !ok || r.keys.Domain == nil {
		return nil, fmt.Errorf("enrol: %w: an operator's identity is needed, as in the recovery kit", ErrNoKey)
	}
	e := &Enrollment{r: r}
	var err error
	if e.Predecessors, err = lineage(r.trust, opt.Predecessors); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if err := e.makeKeys(); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	prev, err := r.trustSum(ctx)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if err := e.sign(prev, opt); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	return e, nil
}

// lineage gives the writers with these ids and, since a snapshot of theirs may
// reach packs of writers before them, the predecessors of each.
func lineage(t *journal.Trust, ids []string) ([]string, error) {
	set := map[string]bool{}
	var add func(id string) error
	add = func(id string) error {
		w, ok := t.Enrolled(id)
		if !ok {
			return fmt.Errorf("predecessor %q: %w", id, ErrNoWriter)
		}
		if set[id] {
			return nil
		}
		set[id] = true
		for _, p := range w.Predecessors {
			if err := add(p); err != nil {
				return err
			}
		}
		return nil
	}
	for _, id := range ids {
		if err := add(id); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, w := range t.Writers { // they are in order of enrolment
		if set[w.ID] {
			out = append(out, w.ID)
		}
	}
	return out, nil
}

// makeKeys makes the writer's own keys and wraps its meta key for every operator.
func (e *Enrollment) makeKeys() error {
	data, err := e.r.trust.DataKey()
	if err != nil {
		return err
	}
	current, err := seal.ParseRecipient(data.Recipient)
	if err != nil {
		return fmt.Errorf("read the trust statement's keys: %w", err)
	}
	if e.made, err = newWriter(!current.Hybrid(), e.r.keys.Domain); err != nil {
		return err
	}
	e.Writer = e.made.ID
	for _, o := range e.r.trust.Operators {
		to, err := seal.ParseRecipient(o.Recipient)
		if err != nil {
			return fmt.Errorf("read the key of operator %s: %w", o.Name, err)
		}
		key, sealed, err := wrapKey(e.r.id, writerKeyPrefix+e.Writer, e.made.Meta.Reveal(), to)
		if err != nil {
			return err
		}
		e.wrapped = append(e.wrapped, object{key, sealed})
	}
	for _, id := range e.Predecessors {
		w, _ := e.r.trust.Enrolled(id)
		i := slices.IndexFunc(e.r.keys.meta, func(k seal.Identity) bool { return k.Recipient().String() == w.Meta })
		if i < 0 {
			return fmt.Errorf("predecessor %.8s: %w: its names cannot be opened, so nothing of it could be re-used", id, ErrNoKey)
		}
		e.older = append(e.older, e.r.keys.meta[i])
	}
	return nil
}

// sign makes the trust statement that follows the current one.
func (e *Enrollment) sign(prev [32]byte, opt EnrollOptions) error {
	t := *e.r.trust
	t.Seq, t.Prev, t.At = t.Seq+1, hex.EncodeToString(prev[:]), opt.Now
	t.Writers = slices.Clone(t.Writers)
	for i, w := range t.Writers {
		if opt.Disable && slices.Contains(e.Predecessors, w.ID) {
			t.Writers[i].Disabled = true
		}
	}
	t.Writers = append(t.Writers, journal.Enrolled{ID: e.Writer, Sign: e.made.Sign.Public().String(), Meta: e.made.Meta.Recipient().String(),
		Predecessors: e.Predecessors, AddedAt: opt.Now.UTC()})
	var err error
	if e.doc, err = journal.SignTrust(t, e.r.id, opt.Root); err != nil {
		return err
	}
	if len(e.doc) > journal.TrustMax {
		return fmt.Errorf("the trust statement would have %d bytes, the limit is %d", len(e.doc), journal.TrustMax)
	}
	e.Trust = t
	return nil
}

// Place puts the wrapped keys and then the trust statement into every usable
// region, reads it back, and looks whether somebody else has made a statement of
// the same number. One region is enough: a sync copies it to the others. The
// results are in the configured order. ErrTrustRace if there is another
// statement; the own one is withdrawn then, and the error names the objects for
// which that failed. After an error nothing may be saved.
func (e *Enrollment) Place(ctx context.Context) ([]RegionResult, error) {
	out := make([]RegionResult, len(e.r.regions))
	for i, p := range e.r.regions {
		out[i] = RegionResult{Name: p.Name, State: "left_out", Err: p.Err}
	}
	e.eachUsable(ctx, out, e.placeIn)
	e.eachUsable(ctx, out, e.lookForRival)
	err := e.settle(out)
	if errors.Is(err, ErrTrustRace) {
		err = errors.Join(err, e.withdraw(context.WithoutCancel(ctx)))
	}
	return out, err
}

// eachUsable runs one step for all usable regions at once. A region in which a
// step failed takes the next one too: its put may have landed all the same.
func (e *Enrollment) eachUsable(ctx context.Context, out []RegionResult, step func(context.Context, *Place) error) {
	var wg sync.WaitGroup
	for i, p := range e.r.regions {
		if !p.Usable() {
			continue
		}
		wg.Go(func() {
			out[i].State = "committed"
			if err := step(ctx, p); err != nil {
				err = fmt.Errorf("region %s: %w", p.Name, err)
				out[i].Err = errors.Join(out[i].Err, err)
			}
			if out[i].Err != nil {
				out[i].State = "failed"
			}
		})
	}
	wg.Wait()
}

// settle writes the errors out. It fails when there is a rival, or when no
// region took the statement.
func (e *Enrollment) settle(out []RegionResult) error {
	var all []error
	placed := 0
	for i := range out {
		if out[i].Err != nil {
			out[i].Error = out[i].Err.Error()
			all = append(all, out[i].Err)
		}
		if out[i].State == "committed" {
			placed++
		}
	}
	err := errors.Join(all...)
	switch {
	case errors.Is(err, ErrTrustRace):
		return fmt.Errorf("enrol: %w", err)
	case placed == 0:
		return fmt.Errorf("enrol: no region took the trust statement: %w", err)
	}
	return nil
}

func (e *Enrollment) trustKey() string { return storage.TrustKey(e.Trust.Seq, sha256.Sum256(e.doc)) }

// placeIn puts the keys before the statement that makes them matter.
func (e *Enrollment) placeIn(ctx context.Context, p *Place) error {
	for _, o := range e.wrapped {
		if err := put(ctx, p.Store, o.key, o.data); err != nil {
			return err
		}
	}
	if err := put(ctx, p.Store, e.trustKey(), e.doc); err != nil {
		return err
	}
	back, _, err := storage.ReadVerified(ctx, p.Store, e.trustKey(), journal.TrustMax)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !slices.Equal(back, e.doc) {
		return fmt.Errorf("read back %s: %w", e.trustKey(), storage.ErrCorrupt)
	}
	return nil
}

// lookForRival looks for another statement that follows the same one. Two
// enrolments that meet in a region cannot both miss the other: each looks after
// both have put, or the later one does.
func (e *Enrollment) lookForRival(ctx context.Context, p *Place) error {
	found, err := e.r.trustFrom(ctx, p, e.Trust.Seq)
	if err != nil {
		return fmt.Errorf("look for other trust statements: %w", err)
	}
	own := sha256.Sum256(e.doc)
	for _, f := range found {
		if f.seq == e.Trust.Seq && f.sum != own {
			return fmt.Errorf("%w: it holds %s", ErrTrustRace, storage.TrustKey(f.seq, f.sum))
		}
	}
	return nil
}

// withdraw removes the own statement again: two statements with one number
// would stop everybody. Who has seen it already is not harmed, since the other
// one carries the same number.
func (e *Enrollment) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	var all []error
	for _, p := range e.r.regions {
		if !p.Usable() {
			continue
		}
		if err := p.Store.Delete(ctx, e.trustKey()); err != nil {
			all = append(all, fmt.Errorf("region %s: %s could not be withdrawn, delete this object by hand: %w", p.Name, e.trustKey(), err))
		}
	}
	return errors.Join(all...)
}

// withdrawTimeout bounds how long an interrupted enrolment still cleans up.
const withdrawTimeout = 60 * time.Second

// trustFound is a trust statement that the root key signed.
type trustFound struct {
	seq uint64
	sum [32]byte
}

// trustFrom lists the good trust statements of a region from a number on.
// Damaged ones, and those that the root key did not sign, are nothing.
func (r *Repo) trustFrom(ctx context.Context, p *Place, from uint64) ([]trustFound, error) {
	infos, err := storage.ListAll(ctx, p.Store, storage.ListOptions{Prefix: storage.TrustPrefix}, trustListMax)
	if err != nil {
		return nil, fmt.Errorf("list trust statements: %w", err)
	}
	if err := storage.CheckListing(storage.TrustPrefix, infos); err != nil {
		return nil, err
	}
	var out []trustFound
	for _, info := range infos {
		_, parts, err := storage.Parse(info.Key)
		if err != nil || !parts.HasSum || parts.Seq < from {
			continue
		}
		doc, _, err := storage.ReadVerified(ctx, p.Store, info.Key, journal.TrustMax)
		if isAway(err) {
			return nil, err
		}
		if err != nil {
			continue
		}
		t, err := journal.ParseTrust(doc, r.id, r.root)
		if isAway(err) {
			return nil, err // the root key's, and this lifeboat cannot read it
		}
		if err == nil {
			out = append(out, trustFound{t.Seq, sha256.Sum256(doc)})
		}
	}
	return out, nil
}

// trustSum gives the hash of the statement that the repository was opened with.
func (r *Repo) trustSum(ctx context.Context) ([32]byte, error) {
	var sum [32]byte
	var found bool
	var all []error
	for _, p := range r.regions {
		if !p.Usable() {
			continue
		}
		list, err := r.trustFrom(ctx, p, r.trust.Seq)
		if err != nil {
			all = append(all, fmt.Errorf("region %s: %w", p.Name, err))
			continue
		}
		for _, f := range list {
			if f.seq > r.trust.Seq || found && f.sum != sum {
				return sum, fmt.Errorf("region %s: %w: it holds statement %d as %s", p.Name, ErrTrustRace, f.seq, storage.TrustKey(f.seq, f.sum))
			}
			sum, found = f.sum, true
		}
	}
	if !found {
		return sum, fmt.Errorf("trust statement %d is in no region any more: %w", r.trust.Seq, errors.Join(append(all, storage.ErrNotFound)...))
	}
	return sum, nil
}

// Opens reports whether a private key for this recipient is at hand: given as an
// identity, unwrapped with one, or kept in this host's state.
func (r *Repo) Opens(recipient string) bool {
	is := func(id seal.Identity) bool { return id.Recipient().String() == recipient }
	if d := r.keys.Domain; d != nil && is(d.Index) {
		return true
	}
	return slices.ContainsFunc(r.opt.Identities, is) || slices.ContainsFunc(r.keys.data, is) || slices.ContainsFunc(r.keys.meta, is)
}

// Operator gives the operator's identity with which the repository was opened;
// false if it was opened without one.
func (r *Repo) Operator() (seal.Identity, bool) {
	for _, id := range r.opt.Identities {
		text := id.Recipient().String()
		if slices.ContainsFunc(r.trust.Operators, func(o journal.OperatorName) bool { return o.Recipient == text }) {
			return id, true
		}
	}
	return seal.Identity{}, false
}
