package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"lifeboat/config"
	"lifeboat/storage"
	"lifeboat/storage/dir"
	"lifeboat/storage/repo"
	"lifeboat/storage/s3"
	"lifeboat/storage/seal"
)

// Limits of every region, whatever it is.
const (
	connectionsDefault = 16
	breakerFailures    = 5 // in a row, then the region leaves the run
	opTimeout          = 15 * time.Second
	perMiBTimeout      = 2 * time.Second // a put gets this much more for each MiB
	noProgressTimeout  = 30 * time.Second
)

// openRegion opens one region's store with its wrappers, outermost first:
// breaker, retry, limit, bandwidth, timeout, count, the store itself.
func (a *app) openRegion(ctx context.Context, spec RegionSpec, create bool) (repo.Region, error) {
	r := repo.Region{Name: spec.Name, URL: fullURL(spec)}
	inner, err := a.innerStore(ctx, spec, create)
	if err != nil {
		return r, err
	}
	counted, counts := storage.WithCount(inner)
	a.traffic.watch(spec.Name, counts)
	s := counted
	if spec.S3 != nil {
		s = storage.WithTimeout(s, storage.Timeouts{Op: opTimeout, PerMiB: perMiBTimeout, NoProgress: noProgressTimeout})
	}
	if spec.Upload > 0 || spec.Download > 0 {
		s = storage.WithBandwidth(s, storage.Bandwidth{Up: spec.Upload, Down: spec.Download, Now: a.now})
	}
	n := spec.Connections
	if n <= 0 {
		n = connectionsDefault
	}
	s = storage.WithLimit(s, n)
	if spec.S3 != nil {
		s = storage.WithRetry(s, storage.Backoff{Retried: func(verb, key string, attempt int, err error) {
			a.log.Debug("retry", "region", spec.Name, "verb", verb, "key", key, "attempt", attempt, "error", err)
		}})
	}
	r.Store = storage.WithBreaker(s, breakerFailures)
	return r, nil
}

func (a *app) innerStore(ctx context.Context, spec RegionSpec, create bool) (storage.Store, error) {
	if spec.S3 == nil {
		if create {
			return dir.Create(spec.Dir)
		}
		return dir.Open(spec.Dir)
	}
	f := spec.S3
	opt := s3.Options{Endpoint: f.Endpoint, Region: f.Region, Bucket: f.Bucket, Prefix: f.Prefix, PathStyle: f.PathStyle, CAFile: f.CAFile, Profile: f.Profile}
	opt.AccessKeyID, opt.SecretAccessKey = revealed(ctx, f.AccessKeyID), revealed(ctx, f.SecretAccessKey)
	return s3.Open(opt)
}

func revealed(ctx context.Context, read func(context.Context) (config.Secret, error)) func() (string, error) {
	if read == nil {
		return nil
	}
	return func() (string, error) {
		s, err := read(context.WithoutCancel(ctx))
		return strings.TrimSpace(s.Reveal()), err
	}
}

// fullURL writes a region as --repo takes it, for the recovery kit. It holds no secrets.
func fullURL(spec RegionSpec) string {
	if spec.S3 == nil {
		return spec.URL
	}
	q := url.Values{}
	for name, value := range map[string]string{"endpoint": spec.S3.Endpoint, "region": spec.S3.Region, "profile": spec.S3.Profile, "ca_file": spec.S3.CAFile} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if spec.S3.PathStyle {
		q.Set("path_style", strconv.FormatBool(true))
	}
	if len(q) == 0 {
		return spec.URL
	}
	return spec.URL + "?" + q.Encode()
}

// openRegions opens all regions of a set. A region that cannot even be opened
// (a directory that is gone, say) takes part as one that always fails, so that
// the run goes on without it and says so.
func (a *app) openRegions(ctx context.Context, set regionSet) []repo.Region {
	out := make([]repo.Region, 0, len(set.Regions))
	for _, spec := range set.Regions {
		r, err := a.openRegion(ctx, spec, false)
		if err != nil {
			r.Store = absent{err}
		}
		out = append(out, r)
	}
	return out
}

// access says what a command needs of the repository.
type access struct {
	contents  bool // open file contents: a data key is needed
	installed bool // take the installed data key if there is one, and do without otherwise
	names     bool // read snapshots and paths: a meta key is needed
	write     bool // begin a session: this host must be enrolled
	coldCache bool // no local cache, as on another host
	region    bool // --region narrows what is read
}

// openRepo opens the repository that the flags or the configuration name.
func (a *app) openRepo(ctx context.Context, need access) (*repo.Repo, regionSet, error) {
	set, err := a.regions()
	if err != nil {
		return nil, set, err
	}
	opt, err := a.repoOptions(ctx, &set, need)
	if err != nil {
		return nil, set, err
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return nil, set, a.explainOpen(err)
	}
	a.onClose(r.Close)
	a.warnAlone(r)
	return r, set, a.checkKeys(r, need)
}

// warnAlone tells what is odd about the journal when one region is all there is
// to ask: a gap there may hide the newest recovery points. With several regions
// check compares them.
func (a *app) warnAlone(r *repo.Repo) {
	var usable []*repo.Place
	for _, p := range r.Places() {
		if p.Usable() {
			usable = append(usable, p)
		}
	}
	if len(usable) != 1 {
		return
	}
	for _, err := range usable[0].Problems() {
		a.warn("journal_gap", fmt.Sprintf("region %s: %v; newer recovery points may be missing here", usable[0].Name, err), "region", usable[0].Name)
	}
}

func (a *app) repoOptions(ctx context.Context, set *regionSet, need access) (repo.Options, error) {
	opt := repo.Options{Events: a.repoEvents()}
	if need.region && a.opt.Region != "" {
		narrowed, err := a.readFrom(*set)
		if err != nil {
			return opt, err
		}
		*set = narrowed
	}
	if err := a.pins(&opt, *set, need); err != nil {
		return opt, err
	}
	if err := a.identities(ctx, &opt, need); err != nil {
		return opt, err
	}
	opt.Regions = a.openRegions(ctx, *set)
	return opt, nil
}

// pins fixes which repository is expected: from the configuration, from this
// host's state, or from the recovery kit.
func (a *app) pins(opt *repo.Options, set regionSet, need access) error {
	var err error
	if set.RepoID != "" {
		if opt.ID, err = repo.ParseID(set.RepoID); err != nil {
			return &Fail{Code: ConfigInvalid, Message: "repository.id: " + err.Error(), Err: err}
		}
	}
	if set.RootKey != "" {
		if opt.Root, err = seal.ParseVerifyKey(set.RootKey); err != nil {
			return &Fail{Code: ConfigInvalid, Message: "repository.root_key: " + err.Error(), Err: err}
		}
	}
	if a.coldStart() && !need.write {
		return nil // a cold start leans on nothing of this host
	}
	st, err := repo.LoadState(a.stateDir())
	if errors.Is(err, repo.ErrNoState) {
		if need.write {
			return &Fail{Code: NoMatchingKey, Message: err.Error(), Hint: "make the repository with: lifeboat init; or join it with: lifeboat host enroll --kit FILE --root FILE", Err: err}
		}
		return nil
	}
	if err != nil {
		return err
	}
	opt.State = st
	if !need.coldCache {
		opt.CacheDir = a.cacheDir()
	}
	return a.pinState(opt, st)
}

func (a *app) pinState(opt *repo.Options, st *repo.State) error {
	id, err := st.Repo()
	if err != nil {
		return err
	}
	root, err := st.Root()
	if err != nil {
		return err
	}
	if opt.ID == (repo.ID{}) {
		opt.ID, opt.Root = id, root
	}
	if opt.ID != id {
		return &Fail{Code: WrongRepository, Message: fmt.Sprintf("the configuration names repository %.8s, this host is enrolled in %.8s", opt.ID, id),
			Hint: "compare repository.id with the output of: lifeboat key list", Err: repo.ErrWrongRepository}
	}
	return nil
}

// identities reads the private keys that the user named, or that are installed.
func (a *app) identities(ctx context.Context, opt *repo.Options, need access) error {
	sources, err := a.identitySources()
	if err != nil {
		return err
	}
	for _, src := range sources {
		secret, err := src.Read(ctx)
		if err != nil {
			return err
		}
		if err := a.addIdentity(opt, src.Label, secret); err != nil {
			return err
		}
	}
	if len(sources) > 0 || !need.contents && !need.installed || opt.State == nil {
		return nil
	}
	path, ok := opt.State.DataIdentityPath()
	if !ok {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read installed data identity: %w", err)
	}
	return a.addIdentity(opt, path, config.NewSecret(data))
}

// addIdentity takes a recovery kit, an identity file, or an installed data
// identity; which one it is, the repository's trust statement decides.
func (a *app) addIdentity(opt *repo.Options, label string, secret config.Secret) error {
	text, err := seal.Unlock([]byte(secret.Reveal()), func() (seal.Secret, error) {
		s, err := a.passphrase(label)
		return seal.NewSecret(s.Reveal()), err
	})
	if err != nil {
		return a.badIdentity(label, err)
	}
	kit, err := seal.ReadKit(strings.NewReader(string(text)))
	if err != nil {
		return a.badIdentity(label, err)
	}
	if kit.HasPins() {
		if opt.ID != (repo.ID{}) && opt.ID != repo.ID(kit.RepoID) {
			return &Fail{Code: WrongRepository, Message: fmt.Sprintf("the kit %s is for repository %.8s, expected %.8s", label, repo.ID(kit.RepoID), opt.ID),
				Hint: "use the kit of this repository", Err: repo.ErrWrongRepository}
		}
		opt.ID, opt.Root = kit.RepoID, kit.RootPublic
	}
	opt.Identities = append(opt.Identities, kit.Identities()...)
	return nil
}

func (a *app) badIdentity(label string, err error) error {
	var asked *Fail // the passphrase could not be had
	if errors.As(err, &asked) {
		return &Fail{Code: asked.Code, Message: fmt.Sprintf("identity %s: %v", label, asked), Hint: "give it on a terminal, or with --passphrase-file FILE", Err: err}
	}
	hint := "name a recovery kit or an age identity file with --identity-file"
	switch {
	case errors.Is(err, seal.ErrPassphrase):
		hint = "try the passphrase again"
	case errors.Is(err, seal.ErrPassphraseNeeded):
		hint = "give it on a terminal, or with --passphrase-file"
	case errors.Is(err, seal.ErrKit):
		hint = "compare the kit with its other copy; the checksum line tells when it is right"
	}
	return &Fail{Code: NoMatchingKey, Message: fmt.Sprintf("identity %s: %v", label, err), Hint: hint, Err: err}
}

// checkKeys says early, and in words, which key is missing.
func (a *app) checkKeys(r *repo.Repo, need access) error {
	if need.names && !r.Keys().HasMeta() {
		return &Fail{Code: NoMatchingKey, Message: "no key here opens the names in this repository",
			Hint: "name the recovery kit with --identity-file, or run this on an enrolled host", Err: repo.ErrNoKey}
	}
	if need.contents && !r.Keys().HasData() {
		return &Fail{Code: NoMatchingKey, Message: "no key here opens contents: this host holds only what it needs to back up",
			Hint: "name the recovery kit with --identity-file, or install the data identity on this host", Err: repo.ErrNoKey}
	}
	return nil
}

// explainOpen adds the next step to why a repository cannot be opened.
func (a *app) explainOpen(err error) error {
	switch {
	case errors.Is(err, repo.ErrWrongRepository), errors.Is(err, repo.ErrNotMember):
		return &Fail{Code: WrongRepository, Message: err.Error(), Err: err}
	case errors.Is(err, seal.ErrNoKey), errors.Is(err, repo.ErrNoKey):
		return &Fail{Code: NoMatchingKey, Message: err.Error(), Hint: "name the recovery kit of this repository with --identity-file", Err: err}
	case errors.Is(err, storage.ErrUnreachable):
		return &Fail{Code: RegionUnreachable, Message: err.Error(), Err: err}
	case errors.Is(err, storage.ErrNoBucket):
		return &Fail{Code: RepoNotFound, Message: err.Error(), Hint: "the bucket or directory must exist: check the URL, and whether the disk is mounted; a new repository is made with: lifeboat init", Err: err}
	case errors.Is(err, repo.ErrNoRepository):
		return &Fail{Code: RepoNotFound, Message: err.Error(), Err: err}
	case storage.IsSlowDown(err):
		return &Fail{Code: TempFail, Message: err.Error(), Err: err}
	}
	if f := classify(err); errors.Is(err, repo.ErrNoUsable) && (f.Code == Failed || storage.IsTemporary(err)) && !errors.Is(err, storage.ErrDenied) && !errors.Is(err, storage.ErrReadOnly) {
		return &Fail{Code: RegionUnreachable, Message: err.Error(), Hint: "no region gave a sensible answer: check the URLs, and what stands between", Err: err}
	}
	return err
}

// repoEvents turns what the repository tells into warnings and progress.
func (a *app) repoEvents() repo.Events {
	return repo.Events{
		Region: func(region string, err error) { a.warn("region_left_out", err.Error(), "region", region) },
		Fallback: func(region, key string, err error) {
			if region == "cache" {
				return
			}
			a.traffic.once(a, "region_fallback", fmt.Sprintf("%s could not be read from %s, another region is asked: %v", key, region, err), "region", region)
		},
		Warning: func(code, message string) { a.warn(code, message) },
		Fetched: func(region string, n int64) { a.traffic.fetched(region, n) },
		Stored:  func(region string, n int64) { a.traffic.stored(region, n) },
	}
}

// absent is a region whose place is not there.
type absent struct{ err error }
