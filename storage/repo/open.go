package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
)

const (
	trustListMax  = 100_000
	markerListMax = 10_000
	// firstContactMax is how long a region gets for its first answer: one that
	// swallows requests must cost seconds, not the run.
	firstContactMax = 15 * time.Second
)

// Options says how to open a repository.
type Options struct {
	Regions []Region
	// ID and Root pin the repository; zero values pin nothing, and then the
	// first region that answers decides (a cold start without a kit).
	ID   ID
	Root seal.VerifyKey
	// Identities are operators' identities (a recovery kit), which open the wrapped
	// keys, or data identities themselves, as installed on hosts that may restore.
	Identities []seal.Identity
	// State is this host's writer, or nil.
	State *State
	// CacheDir keeps statements, catalog packs and the index between runs; empty for a
	// private temporary one, which Close removes.
	CacheDir string
	// Prefer names the region to read from first; Only forbids all others.
	Prefer string
	Only   bool
	Events Events
}

// Events tells what goes on; every field may be nil.
type Events struct {
	Region   func(region string, err error)      // a region was left out, and why
	Fallback func(region, key string, err error) // a read went to another region
	Fetched  func(region string, bytes int64)    // bytes read from a region
	Stored   func(region string, bytes int64)    // bytes put into a region
	Warning  func(code, message string)          // something a person should know
	Request  func(region, verb string)           // one request
}

func (e Events) region(name string, err error) {
	if e.Region != nil {
		e.Region(name, err)
	}
}

func (e Events) fallback(name, key string, err error) {
	if e.Fallback != nil {
		e.Fallback(name, key, err)
	}
}

func (e Events) fetched(name string, n int64) {
	if e.Fetched != nil {
		e.Fetched(name, n)
	}
}

func (e Events) stored(name string, n int64) {
	if e.Stored != nil {
		e.Stored(name, n)
	}
}

func (e Events) warn(code, format string, args ...any) {
	if e.Warning != nil {
		e.Warning(code, fmt.Sprintf(format, args...))
	}
}

// Repo is an opened repository, for reading. It is safe for use by several
// goroutines. Close it.
type Repo struct {
	opt     Options
	id      ID
	root    seal.VerifyKey
	trust   *journal.Trust
	regions []*Place
	keys    Keys
	cache   *cache
	forked  error // trust is in doubt: reading goes on, writing does not

	large  sync.Mutex // held while a large statement is read
	doubts sync.Map   // pack.Hash of packs of which some frame could not be had from anywhere

	mu        sync.Mutex
	view      *journal.View
	sums      map[string]Summary
	manifests map[string]opened // those that were asked for what no statement says
	index     *indexState
}

// Place is one configured region as it was found.
type Place struct {
	Region
	Nonce   string        // current incarnation, when the region is a member
	Err     error         // why the region is not used, or nil
	kept    time.Duration // how long it kept the others waiting on first contact
	problem []error
}

// Usable reports whether the region takes part.
func (p *Place) Usable() bool { return p.Err == nil }

// Problems lists what is odd about the region's journal: gaps, forks, statements nobody trusted signed.
func (p *Place) Problems() []error { return p.problem }

// Open connects to all regions at once, leaves out those that do not answer or
// do not belong, finds whom to trust, and reads the journals. It fails when no
// region is left.
func Open(ctx context.Context, opt Options) (*Repo, error) {
	if len(opt.Regions) == 0 {
		return nil, errNoRegions
	}
	r := &Repo{opt: opt, id: opt.ID, root: opt.Root}
	if err := r.open(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Repo) open(ctx context.Context) error {
	if err := r.pinnedCache(); err != nil {
		return err
	}
	early := r.foresee()
	ctx, enough := context.WithCancel(ctx)
	defer func() {
		enough()
		early.end(r.regions)
	}()
	found := r.connect(ctx, early)
	if err := r.identify(found); err != nil {
		return err
	}
	if err := r.decideTrust(found); err != nil {
		return err
	}
	r.admit(found)
	if err := r.anyUsable(); err != nil {
		return err
	}
	if err := r.openKeys(ctx); err != nil {
		return err
	}
	if r.cache == nil {
		var err error
		if r.cache, err = openCache(r.opt.CacheDir, r.id); err != nil {
			return err
		}
	}
	return r.Reload(ctx)
}

// pinnedCache opens the cache of a repository whose identity is known before any
// region is asked.
func (r *Repo) pinnedCache() (err error) {
	if r.opt.ID != (ID{}) {
		r.cache, err = openCache(r.opt.CacheDir, r.opt.ID)
	}
	return err
}

// Close gives back the index and the temporary cache.
func (r *Repo) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.index != nil {
		err = r.index.close()
		r.index = nil
	}
	return errors.Join(err, r.cache.close())
}

// ID is the repository's identity.
func (r *Repo) ID() ID { return r.id }

// Root is the root public key.
func (r *Repo) Root() seal.VerifyKey { return r.root }

// Trust is the newest trust statement.
func (r *Repo) Trust() *journal.Trust { return r.trust }

// Places lists all configured regions, usable or not.
func (r *Repo) Places() []*Place { return r.regions }

// Keys tells what can be opened.
func (r *Repo) Keys() *Keys { return &r.keys }

// connection is what one region said on first contact.
type connection struct {
	place   *Place
	id      ID
	format  formatFile
	trust   [][]byte
	markers []marker
}

func (r *Repo) connect(ctx context.Context, early *foresight) []*connection {
	found := make([]*connection, len(r.opt.Regions))
	for i, region := range r.opt.Regions {
		region.Store = early.watch(ctx, region)
		found[i] = &connection{place: &Place{Region: region}}
		r.regions = append(r.regions, found[i].place)
	}
	grace := slices.Repeat([]time.Duration{stragglerGrace}, len(found))
	errs := together(ctx, grace, func(ctx context.Context, i int) error { return r.meet(ctx, found[i]) })
	for i, err := range errs {
		found[i].place.Err, found[i].place.kept = err, stragglerGrace-grace[i]
	}
	return found
}

// meet reads the small clear objects that say what a region is, at once. Without
// a format.json the rest says nothing, and is not waited for.
func (r *Repo) meet(ctx context.Context, c *connection) error {
	rest, enough := context.WithCancel(ctx)
	defer enough()
	var trust, markers error
	var wg sync.WaitGroup
	wg.Go(func() { c.trust, trust = r.readTrust(rest, c.place) })
	wg.Go(func() { c.markers, markers = readMarkers(rest, c.place.Store) })
	format := c.readFormat(ctx)
	if format != nil {
		enough()
	}
	wg.Wait()
	for _, err := range []error{format, trust, markers} {
		if err != nil {
			return fmt.Errorf("region %s: %w", c.place.Name, err)
		}
	}
	return nil
}

func (c *connection) readFormat(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, firstContactMax)
	defer cancel()
	data, _, err := storage.ReadAll(first, c.place.Store, storage.FormatKey, formatMax)
	if err != nil && first.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("no answer for %v: %w", firstContactMax, storage.ErrUnreachable)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return ErrNoRepository
	}
	if err != nil {
		return err
	}
	c.format, c.id, err = parseFormat(data)
	return err
}

// trustReadMax is how many trust statements are read from the newest on, so that
// a few forged ones do not hide the real ones.
const trustReadMax = 64

// readTrust fetches the newest trust statements by name. Who signed them is judged later.
func (r *Repo) readTrust(ctx context.Context, p *Place) ([][]byte, error) {
	infos, err := storage.ListAll(ctx, p.Store, storage.ListOptions{Prefix: "trust/"}, trustListMax)
	if err != nil {
		return nil, fmt.Errorf("list trust statements: %w", err)
	}
	var out [][]byte
	var last error
	for i := len(infos) - 1; i >= 0 && len(out) < trustReadMax; i-- {
		if _, ok := storage.HashOf(infos[i].Key); !ok {
			continue
		}
		doc, err := r.objectAt(ctx, p, infos[i].Key, journal.TrustMax)
		if err != nil {
			last = err
			continue
		}
		out = append(out, doc)
	}
	if len(out) == 0 {
		if last == nil {
			last = storage.ErrNotFound
		}
		return nil, fmt.Errorf("read trust statements: %w", last)
	}
	return out, nil
}

func readMarkers(ctx context.Context, s storage.Store) ([]marker, error) {
	infos, err := storage.ListAll(ctx, s, storage.ListOptions{Prefix: "region/"}, markerListMax)
	if err != nil {
		return nil, fmt.Errorf("list region markers: %w", err)
	}
	var out []marker
	for _, info := range infos {
		if !strings.HasSuffix(info.Key, ".json") {
			continue
		}
		data, _, err := storage.ReadAll(ctx, s, info.Key, formatMax)
		if err != nil {
			return nil, fmt.Errorf("read region marker: %w", err)
		}
		var m marker
		if err := json.Unmarshal(data, &m); err != nil || storage.RegionKey(m.Nonce) != info.Key {
			continue // a damaged marker marks nothing
		}
		out = append(out, m)
	}
	return out, nil
}

func putMarker(ctx context.Context, s storage.Store, id ID, nonce string, now time.Time) error {
	data, err := json.Marshal(marker{Repo: id.String(), Nonce: nonce, CreatedAt: now.UTC()})
	if err != nil {
		return fmt.Errorf("encode region marker: %w", err)
	}
	return put(ctx, s, storage.RegionKey(nonce), append(data, '\n'))
}

// identify settles which repository this is and rejects regions of another one.
func (r *Repo) identify(found []*connection) error {
	if r.id == (ID{}) {
		r.id = mostFrequent(found)
	}
	for _, c := range found {
		if c.place.Err != nil {
			continue
		}
		if c.id != r.id {
			c.place.Err = fmt.Errorf("region %s: %w: it holds %.8s, expected %.8s", c.place.Name, ErrWrongRepository, c.id, r.id)
			if r.knows(c, found) {
				c.place.Err = fmt.Errorf("region %s: %w: its %s is damaged; copy it from another region", c.place.Name, ErrNotMember, storage.FormatKey)
			}
			continue
		}
		root, err := seal.ParseVerifyKey(c.format.RootKey)
		if err != nil {
			c.place.Err = fmt.Errorf("region %s: read %s: %w", c.place.Name, storage.FormatKey, err)
			continue
		}
		if r.root == (seal.VerifyKey{}) {
			r.root = root
		}
		if root != r.root {
			c.place.Err = fmt.Errorf("region %s: %w: its root key is not the pinned one", c.place.Name, ErrWrongRepository)
		}
	}
	return nil
}

// knows tells a region of this repository whose format.json is damaged from a
// region of another one: its trust statements are signed for this repository.
func (r *Repo) knows(c *connection, found []*connection) bool {
	root := r.root
	for _, other := range found {
		if k, err := seal.ParseVerifyKey(other.format.RootKey); root.IsZero() && err == nil && other.id == r.id {
			root = k
		}
	}
	for _, doc := range c.trust {
		if _, err := journal.ParseTrust(doc, r.id, root); err == nil {
			return true
		}
	}
	return false
}

// mostFrequent is the id that most regions claim, the first of them when they
// are even: without a pin, one damaged region must not outvote the others.
func mostFrequent(found []*connection) ID {
	votes := map[ID]int{}
	var best ID
	for _, c := range found {
		if c.place.Err != nil {
			continue
		}
		if votes[c.id]++; votes[c.id] > votes[best] || best == (ID{}) {
			best = c.id
		}
	}
	return best
}

// decideTrust takes the newest trust statement that the root key signed.
func (r *Repo) decideTrust(found []*connection) error {
	var best [32]byte
	var bad, tooNew error
	newest := uint64(0) // of those that only a newer lifeboat may use
	for _, c := range found {
		for _, doc := range c.trust {
			if c.place.Err != nil {
				continue
			}
			t, err := journal.ParseTrust(doc, r.id, r.root)
			if errors.Is(err, journal.ErrTooNew) && t.Seq > newest {
				newest, tooNew = t.Seq, fmt.Errorf("region %s: trust statement %d: %w", c.place.Name, t.Seq, err)
			}
			if err != nil {
				bad = fmt.Errorf("region %s: %w", c.place.Name, err)
				continue
			}
			sum := sha256.Sum256(doc)
			if r.trust != nil && t.Seq == r.trust.Seq && sum != best {
				r.forked = fmt.Errorf("region %s: two different trust statements have number %d: two hosts were enrolled at once, or somebody holds the root key who should not; compare trust/ of the regions, and remove the wrong one", c.place.Name, t.Seq)
				r.opt.Events.warn("trust_fork", "%v", r.forked)
			}
			newer := r.trust == nil || t.Seq > r.trust.Seq
			if newer {
				r.forked = nil
			}
			// Of two with one number all readers take the same: that with the lower hash.
			if newer || t.Seq == r.trust.Seq && bytes.Compare(sum[:], best[:]) < 0 {
				r.trust, best = t, sum
			}
		}
	}
	if tooNew != nil && (r.trust == nil || newest > r.trust.Seq) {
		return tooNew // an older statement would be the wrong one to go by
	}
	if r.trust == nil {
		return r.nothing(bad)
	}
	if r.opt.State == nil {
		return nil
	}
	if err := r.opt.State.sawTrust(r.trust.Seq); err != nil {
		r.forked = err
		r.opt.Events.warn("trust_old", "%v", err)
	}
	return nil
}

// admit keeps the regions whose marker names an incarnation that is a member.
func (r *Repo) admit(found []*connection) {
	for _, c := range found {
		if c.place.Err != nil {
			r.opt.Events.region(c.place.Name, c.place.Err)
			continue
		}
		for _, m := range c.markers {
			if member, ok := r.trust.Member(m.Nonce); ok && m.Repo == r.id.String() {
				c.place.Nonce = member.Nonce
			}
		}
		if c.place.Nonce == "" {
			c.place.Err = fmt.Errorf("region %s: %w: it has no readable marker of a current member; it was wiped, replaced, damaged or restored from an old copy", c.place.Name, ErrNotMember)
			r.opt.Events.region(c.place.Name, c.place.Err)
		}
	}
	r.refuseTwins()
}

// refuseTwins leaves out a region that is the same place as one before it: two
// names for one place would count as two copies.
func (r *Repo) refuseTwins() {
	seen := map[string]string{}
	for _, p := range r.regions {
		if p.Err != nil {
			continue
		}
		if other := seen[p.Nonce]; other != "" {
			p.Err = fmt.Errorf("region %s: %w: it is the same place as region %s", p.Name, ErrWrongRepository, other)
			r.opt.Events.region(p.Name, p.Err)
			continue
		}
		seen[p.Nonce] = p.Name
	}
}

func (r *Repo) anyUsable() error {
	for _, p := range r.regions {
		if p.Usable() {
			return nil
		}
	}
	return r.nothing(nil)
}

// nothing explains why no region can be used: the most telling error wins.
func (r *Repo) nothing(extra error) error {
	all := []error{}
	for _, p := range r.regions {
		if p.Err != nil {
			all = append(all, p.Err)
		}
	}
	if extra != nil {
		all = append(all, extra)
	}
	return &noUsable{errors.Join(all...)}
}

// noUsable is ErrNoUsable with the reasons of all regions.
type noUsable struct{ reasons error }

func (e *noUsable) Error() string        { return ErrNoUsable.Error() + ": " + e.reasons.Error() }
func (e *noUsable) Unwrap() error        { return e.reasons }
func (e *noUsable) Is(target error) bool { return target == ErrNoUsable }

// openKeys unwraps what the given identities open and adds the host's own keys.
func (r *Repo) openKeys(ctx context.Context) error {
	if r.opt.State != nil {
		if err := r.opt.State.addKeys(&r.keys); err != nil {
			return err
		}
	}
	data, operators := splitIdentities(r.opt.Identities, r.trust)
	r.keys.data = append(r.keys.data, data...)
	if len(operators) == 0 {
		return nil
	}
	var all []error
	opened := 0
	for _, p := range r.readOrder() {
		secrets, err := unwrapKeys(ctx, p.Store, r.id, operators)
		opened += len(secrets)
		err = errors.Join(err, r.keys.addUnwrapped(secrets, r.trust))
		if r.keys.all(r.trust) {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNoKey) {
			all = append(all, fmt.Errorf("region %s: %w", p.Name, err))
		}
	}
	problems := errors.Join(all...)
	if opened == 0 || r.keys.Domain == nil {
		return errors.Join(problems, fmt.Errorf("open the repository's keys: %w", ErrNoKey))
	}
	if problems != nil {
		r.opt.Events.warn("keys", "some of the repository's keys cannot be opened: %v", problems)
	}
	return nil
}

// readOrder lists the usable regions, the preferred one first.
func (r *Repo) readOrder() []*Place {
	var out []*Place
	for _, p := range r.regions {
		if !p.Usable() || r.opt.Only && p.Name != r.opt.Prefer {
			continue
		}
		if p.Name == r.opt.Prefer {
			out = append([]*Place{p}, out...)
			continue
		}
		out = append(out, p)
	}
	return out
}
