package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// keyCommand groups what is about keys.
func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "key", Short: "List keys, and write or test a recovery kit",
		Example: "  lifeboat key list\n  lifeboat key recovery-kit --out kit2.txt --identity-file kit.txt\n  lifeboat key recovery-kit --test kit.txt",
	}
	c.AddCommand(a.keyListCommand(), a.keyKitCommand())
	return c
}

// keyList is the result of key list. Here says that this run can open what is
// sealed to a key.
type keyList struct {
	RepoID    string        `json:"repo_id"`
	RootKey   string        `json:"root_key"`
	TrustSeq  uint64        `json:"trust_statement"`
	TrustAt   time.Time     `json:"trust_at"`
	Regions   []keyRegion   `json:"regions"`
	Operators []keyOperator `json:"operators"`
	Data      []keyData     `json:"data_keys"`
	Index     keyData       `json:"index_key"`
	Writers   []keyWriter   `json:"writers"`
	Writer    string        `json:"this_host,omitempty"` // its writer
	Contents  bool          `json:"opens_contents"`
	Names     bool          `json:"opens_names"`
}

type keyRegion struct {
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	InUse       bool   `json:"in_use"` // it is configured and answers
}

type keyOperator struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Recipient   string    `json:"recipient"`
	AddedAt     time.Time `json:"added_at"`
	Here        bool      `json:"here"`
}

type keyData struct {
	KeyID       string `json:"key_id"`
	Epoch       uint32 `json:"epoch,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Recipient   string `json:"recipient"`
	Here        bool   `json:"here"`
}

type keyWriter struct {
	ID           string    `json:"id"`
	Host         string    `json:"host,omitempty"` // of its newest snapshot
	NewestAt     time.Time `json:"newest_recovery_point_at,omitzero"`
	AddedAt      time.Time `json:"added_at"`
	SignKey      string    `json:"sign_key"`
	Predecessors []string  `json:"predecessors,omitempty"`
	Disabled     bool      `json:"disabled,omitempty"`
	ThisHost     bool      `json:"this_host,omitempty"`
	Here         bool      `json:"here"` // its names can be opened
}

func (a *app) keyListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the repository's keys, and which of them can be opened here", Args: cobra.NoArgs,
		Example: "  lifeboat key list\n  lifeboat key list --identity-file kit.txt\n  lifeboat key list --repo file:///mnt/dr --json",
	}
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) {
		r, _, err := a.openRepo(ctx, access{region: true, installed: true})
		if err != nil {
			return nil, false, err
		}
		d, err := a.keyList(ctx, r)
		return d, false, err
	})
}

func (a *app) keyList(ctx context.Context, r *repo.Repo) (*keyList, error) {
	t := r.Trust()
	d := &keyList{RepoID: r.ID().String(), RootKey: r.Root().String(), TrustSeq: t.Seq, TrustAt: t.At, Contents: r.Keys().HasData(), Names: r.Keys().HasMeta()}
	for _, m := range t.Members {
		used := slices.ContainsFunc(r.Places(), func(p *repo.Place) bool { return p.Nonce == m.Nonce && p.Usable() })
		d.Regions = append(d.Regions, keyRegion{Name: m.Name, Incarnation: m.Nonce, InUse: used})
	}
	for _, o := range t.Operators {
		d.Operators = append(d.Operators, keyOperator{Name: o.Name, Fingerprint: o.Fingerprint, Recipient: o.Recipient, AddedAt: o.AddedAt, Here: r.Opens(o.Recipient)})
	}
	for _, k := range t.Data {
		d.Data = append(d.Data, keyData{KeyID: k.KeyID, Epoch: k.Epoch, Fingerprint: fingerprint(k.Recipient), Recipient: k.Recipient, Here: r.Opens(k.Recipient)})
	}
	d.Index = keyData{KeyID: t.Domain.KeyID, Fingerprint: fingerprint(t.Domain.Index), Recipient: t.Domain.Index, Here: r.Opens(t.Domain.Index)}
	if st, err := repo.LoadState(a.stateDir()); err == nil && !a.coldStart() {
		d.Writer = st.Writer()
	}
	newest, err := newestByWriter(ctx, r)
	if err != nil {
		return d, err
	}
	for _, w := range t.Writers {
		n := newest[w.ID]
		d.Writers = append(d.Writers, keyWriter{ID: w.ID, Host: n.Host, NewestAt: n.Start, AddedAt: w.AddedAt, SignKey: w.Sign, Predecessors: w.Predecessors,
			Disabled: w.Disabled, ThisHost: w.ID == d.Writer, Here: r.Opens(w.Meta)})
	}
	return d, nil
}

func fingerprint(recipient string) string {
	r, err := seal.ParseRecipient(recipient)
	if err != nil {
		return "unreadable"
	}
	return r.Fingerprint()
}

// newestByWriter gives the newest snapshot of each writer, of those whose names
// can be read here; none without a key for names.
func newestByWriter(ctx context.Context, r *repo.Repo) (map[string]repo.Snapshot, error) {
	out := map[string]repo.Snapshot{}
	if !r.Keys().HasMeta() {
		return out, nil
	}
	all, err := r.Snapshots(ctx)
	for _, s := range all { // oldest first
		out[s.Writer] = s
	}
	return out, err
}

func (d *keyList) text(p *page) {
	p.line("repository  %s", d.RepoID)
	p.line("root key    %s", d.RootKey)
	p.line("trust       statement %d of %s", d.TrustSeq, p.time(d.TrustAt))
	here := func(yes bool) string {
		if yes {
			return p.mark(markOK, "opens here")
		}
		return p.mark(markWaiting, "not here")
	}
	t := newTable("KEY", "NAME", "FINGERPRINT", "SINCE", "HERE", "")
	for _, o := range d.Operators {
		t.row("operator", o.Name, o.Fingerprint, p.time(o.AddedAt), here(o.Here), "")
	}
	for _, k := range d.Data {
		t.row("contents", k.KeyID, k.Fingerprint, p.none(), here(k.Here), fmt.Sprintf("epoch %d", k.Epoch))
	}
	t.row("index", d.Index.KeyID, d.Index.Fingerprint, p.none(), here(d.Index.Here), "")
	for _, w := range d.Writers {
		t.row("writer", w.ID, p.none(), p.time(w.AddedAt), here(w.Here), w.note(p))
	}
	p.line("")
	p.table(t)
	p.line("")
	for _, r := range d.Regions {
		m, word := markOK, "in use"
		if !r.InUse {
			m, word = markRisk, "not reached or not configured"
		}
		p.line("region %-12s incarnation %.8s  %s", r.Name, r.Incarnation, p.mark(m, word))
	}
}

func (w *keyWriter) note(p *page) string {
	var out []string
	if w.ThisHost {
		out = append(out, "this host")
	}
	if w.Disabled {
		out = append(out, "disabled")
	}
	if w.Host != "" {
		out = append(out, fmt.Sprintf("%s, newest point %s", w.Host, p.time(w.NewestAt)))
	}
	if len(w.Predecessors) > 0 {
		ids := make([]string, len(w.Predecessors))
		for i, id := range w.Predecessors {
			ids[i] = fmt.Sprintf("%.8s", id)
		}
		out = append(out, "after "+strings.Join(ids, " "))
	}
	return strings.Join(out, ", ")
}

// kitData is the result of key recovery-kit.
type kitData struct {
	Kit       string     `json:"kit"`
	RepoID    string     `json:"repo_id,omitempty"`
	Operator  string     `json:"operator,omitempty"` // fingerprint
	CreatedAt time.Time  `json:"kit_created_at,omitzero"`
	Tested    bool       `json:"tested"`
	Regions   []kitProof `json:"regions"`
	DryRun    bool       `json:"dry_run,omitempty"`
}

// kitProof is what a kit opened in one region.
type kitProof struct {
	Name          string    `json:"name"`
	URL           string    `json:"url"`
	OK            bool      `json:"ok"`
	Snapshot      string    `json:"snapshot_id,omitempty"` // the newest, whose manifest was opened
	Workload      string    `json:"workload,omitempty"`
	RecoveryPoint time.Time `json:"recovery_point_at,omitzero"`
	Path          string    `json:"path,omitempty"` // of the file of which a chunk was read
	ChunkBytes    int       `json:"chunk_bytes,omitempty"`
	Error         string    `json:"error,omitempty"`
}

func (a *app) keyKitCommand() *cobra.Command {
	var out, test string
	c := &cobra.Command{
		Use: "recovery-kit", Short: "Write a recovery kit again, or prove that one works", Args: cobra.NoArgs,
		Long: "Write a recovery kit again (--out), or prove that one works (--test).\n\n" +
			"--out makes a kit of the operator's identity that --identity-file names, with the regions as they are\n" +
			"configured now. It makes no new key, and never overwrites a file.\n" +
			"--test uses nothing of this host: in every region it opens the wrapped keys, the newest snapshot and one\n" +
			"piece of a file with the kit alone.",
		Example: "  lifeboat key recovery-kit --test kit.txt\n  lifeboat key recovery-kit --out kit2.txt --identity-file kit.txt",
	}
	c.Flags().StringVar(&out, "out", "", "write a kit to this new file")
	c.Flags().StringVar(&test, "test", "", "prove that this kit opens the repository in every region")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) {
		switch {
		case (out == "") == (test == ""):
			return nil, false, &Fail{Code: Usage, Message: "give one of --out and --test", Hint: "to see whether a kit works: lifeboat key recovery-kit --test FILE"}
		case test != "":
			return a.testKit(ctx, test)
		}
		return a.rewriteKit(ctx, out)
	})
}

// rewriteKit makes a kit of the identity that was given, for the regions of today.
func (a *app) rewriteKit(ctx context.Context, path string) (any, bool, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, false, &Fail{Code: TargetRefused, Message: fmt.Sprintf("%s exists already; it may be the only copy of another kit", path), Hint: "choose another file, or move that one away"}
	}
	r, set, err := a.openRepo(ctx, access{})
	if err != nil {
		return nil, false, err
	}
	id, ok := r.Operator()
	if !ok {
		return nil, false, &Fail{Code: NoMatchingKey, Message: "a kit is made of an operator's identity, and none was given",
			Hint: "name an older kit, or the operator's age identity, with --identity-file", Err: repo.ErrNoKey}
	}
	for _, m := range r.Trust().Members {
		if !slices.ContainsFunc(r.Places(), func(p *repo.Place) bool { return p.Nonce == m.Nonce }) {
			a.warn("region_unknown", fmt.Sprintf("region %s belongs to the repository, but is not configured or does not answer as it", m.Name), "region", m.Name)
		}
	}
	d := &kitData{Kit: path, RepoID: r.ID().String(), Operator: id.Recipient().Fingerprint(), CreatedAt: a.now().UTC(), DryRun: a.opt.DryRun}
	for _, spec := range set.Regions {
		d.Regions = append(d.Regions, kitProof{Name: spec.Name, URL: fullURL(spec), OK: true})
	}
	if a.opt.DryRun {
		return d, false, nil
	}
	return d, true, a.writeKit(path, set, seal.Kit{RepoID: r.ID(), RootPublic: r.Root(), Identity: id})
}

// readKit reads a kit, or a plain identity file.
func (a *app) readKit(path string) (seal.Kit, error) {
	secret, err := a.readIdentity(path)
	if err != nil {
		return seal.Kit{}, err
	}
	text, err := seal.Unlock([]byte(secret.Reveal()), func() (seal.Secret, error) {
		s, err := a.passphrase(identityLabel(path))
		return seal.NewSecret(s.Reveal()), err
	})
	if err != nil {
		return seal.Kit{}, a.badIdentity(identityLabel(path), err)
	}
	kit, err := seal.ReadKit(strings.NewReader(string(text)))
	if err != nil {
		return kit, a.badIdentity(identityLabel(path), err)
	}
	return kit, nil
}

// kitRegions gives the regions of --repo or the configuration; without either,
// those that the kit names.
func (a *app) kitRegions(kit seal.Kit) (regionSet, error) {
	if _, err := a.configPath(); err != nil && !a.coldStart() && a.opt.Config == "" && len(kit.RepoURLs) > 0 {
		a.opt.Repos = kit.RepoURLs
	}
	return a.regions()
}

// kitOptions pins what the kit and the configuration say, and adds the kit's identities.
func (a *app) kitOptions(path string, kit seal.Kit, set regionSet) (repo.Options, error) {
	opt := repo.Options{Events: a.repoEvents(), Identities: kit.Identities()}
	if kit.HasPins() {
		opt.ID, opt.Root = kit.RepoID, kit.RootPublic
	}
	if set.RepoID != "" {
		id, err := repo.ParseID(set.RepoID)
		if err != nil {
			return opt, &Fail{Code: ConfigInvalid, Message: "repository.id: " + err.Error(), Err: err}
		}
		if kit.HasPins() && id != opt.ID {
			return opt, &Fail{Code: WrongRepository, Message: fmt.Sprintf("the kit %s is for repository %.8s, the configuration names %.8s", path, opt.ID, id),
				Hint: "use the kit of this repository", Err: repo.ErrWrongRepository}
		}
		opt.ID = id
	}
	if set.RootKey != "" {
		root, err := seal.ParseVerifyKey(set.RootKey)
		if err != nil {
			return opt, &Fail{Code: ConfigInvalid, Message: "repository.root_key: " + err.Error(), Err: err}
		}
		if kit.HasPins() && root != opt.Root {
			return opt, &Fail{Code: WrongRepository, Message: fmt.Sprintf("the kit %s names another root key than the configuration", path),
				Hint: "compare repository.root_key with the line root-key of the kit", Err: repo.ErrWrongRepository}
		}
		opt.Root = root
	}
	return opt, nil
}

// testKit proves a kit in every region apart. Nothing of this host is used.
func (a *app) testKit(ctx context.Context, path string) (any, bool, error) {
	kit, err := a.readKit(path)
	if err != nil {
		return nil, false, err
	}
	set, err := a.kitRegions(kit)
	if err != nil {
		return nil, false, err
	}
	opt, err := a.kitOptions(path, kit, set)
	if err != nil {
		return nil, false, err
	}
	d := &kitData{Kit: path, CreatedAt: kit.CreatedAt, Operator: kit.Identity.Recipient().Fingerprint(), Tested: true}
	if opt.ID != (repo.ID{}) {
		d.RepoID = opt.ID.String()
	}
	if !kit.HasPins() {
		a.warn("plain_identity", path+" is an identity without a kit: it does not say where the repository is, nor how to know it")
	}
	a.progress.plan("prove")
	a.progress.phase("prove")
	a.progress.expect(0, int64(len(set.Regions)))
	var all []error
	for i, region := range a.openRegions(ctx, set) {
		proof := kitProof{Name: region.Name, URL: region.URL}
		one := opt
		one.Regions = []repo.Region{region}
		err := a.proveKit(ctx, one, &proof)
		if proof.OK = err == nil; err != nil {
			proof.Error = err.Error()
			all = append(all, err)
		}
		if kit.HasPins() && !slices.Contains(kit.RepoURLs, fullURL(set.Regions[i])) {
			a.warn("kit_outdated", fmt.Sprintf("the kit does not name region %s; write it again with: lifeboat key recovery-kit --out FILE --identity-file %s", region.Name, path), "region", region.Name)
		}
		d.Regions = append(d.Regions, proof)
		a.progress.add(0, 1)
	}
	a.progress.done()
	return d, false, errors.Join(all...)
}

// proveKit opens one region with the kit alone.
func (a *app) proveKit(ctx context.Context, opt repo.Options, proof *kitProof) error {
	var left error
	opt.Events.Region = func(_ string, err error) { left = err } // comes back as the error of Open
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return a.kitFail(errors.Join(err, left))
	}
	defer r.Close()
	if _, ok := r.Operator(); !ok || !r.Keys().HasMeta() || !r.Keys().HasData() {
		return &Fail{Code: NoMatchingKey, Message: fmt.Sprintf("region %s: the kit opens no wrapped keys there", proof.Name), Hint: "use the kit of this repository", Err: repo.ErrNoKey}
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return fmt.Errorf("region %s: %w", proof.Name, err)
	}
	if len(all) == 0 {
		a.warn("no_recovery_point", fmt.Sprintf("region %s shows no recovery point yet: only its keys were proved", proof.Name), "region", proof.Name)
		return nil
	}
	newest := &all[len(all)-1]
	proof.Snapshot, proof.Workload, proof.RecoveryPoint = newest.Summary.ID, newest.Workload, newest.Start
	cat, err := newCatalogs(r).open(ctx, newest)
	if err != nil {
		return fmt.Errorf("region %s: %w", proof.Name, err)
	}
	defer cat.close()
	if err := readOneChunk(ctx, cat, proof); err != nil {
		return fmt.Errorf("region %s: snapshot %.8s: %w", proof.Name, newest.Summary.ID, err)
	}
	return nil
}

// kitFail explains why a repository does not open with a kit.
func (a *app) kitFail(err error) error {
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, repo.ErrNoKey) {
		return &Fail{Code: NoMatchingKey, Message: "the kit does not open this repository: " + err.Error(), Hint: "use the kit of this repository; if its operator was removed, another one's", Err: err}
	}
	return a.explainOpen(err)
}

// kitSearchMax bounds how many entries are looked at for a file with contents.
const kitSearchMax = 100_000

// readOneChunk reads the first piece of the first file that has contents.
func readOneChunk(ctx context.Context, cat *openCatalog, proof *kitProof) error {
	seen := 0
	for e, err := range cat.All(ctx) {
		if err != nil {
			return err
		}
		if seen++; seen > kitSearchMax {
			return nil
		}
		if e.Type != catalog.File || len(e.Chunks) == 0 {
			continue
		}
		for id, err := range catalog.FileChunks(ctx, e, cat.chunks) {
			if err != nil {
				return err
			}
			proof.Path = entryOf(e).Path
			return cat.chunks.Read(ctx, []pack.ChunkID{id}, func(_ int, data []byte) error {
				proof.ChunkBytes = len(data)
				return nil
			})
		}
	}
	return nil
}

func (d *kitData) text(p *page) {
	for _, r := range d.Regions {
		switch {
		case !d.Tested:
			p.line("  region %-12s %s", r.Name, r.URL)
		case !r.OK:
			p.line("  region %-12s %s", r.Name, p.mark(markBad, r.Error))
		case r.Snapshot == "":
			p.line("  region %-12s %s", r.Name, p.mark(markRisk, "the keys open; there is no recovery point yet"))
		default:
			what := "its names"
			if r.ChunkBytes > 0 {
				what = fmt.Sprintf("%s of %s", formatSize(int64(r.ChunkBytes)), quotePath(r.Path))
			}
			p.line("  region %-12s %s", r.Name, p.mark(markOK, fmt.Sprintf("keys, snapshot %.8s of %s (%s) and %s open", r.Snapshot, r.Workload, p.time(r.RecoveryPoint), what)))
		}
	}
	switch {
	case d.Tested:
	case d.DryRun:
		p.line("Nothing was written (--dry-run).")
	default:
		p.line("Wrote the recovery kit %s for repository %.8s, operator %s.", d.Kit, d.RepoID, d.Operator)
		p.line("Prove it with: lifeboat key recovery-kit --test %s", shellQuote(d.Kit))
	}
}
