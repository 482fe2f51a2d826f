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

	"lifeboat/storage/journal"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// hostCommand groups what is about hosts.
func (a *app) hostCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "host", Short: "Enrol this host in a repository",
		Example: "  lifeboat host enroll --kit kit.txt --root kit.txt.root",
	}
	c.AddCommand(a.hostEnrollCommand())
	return c
}

type enrollFlags struct {
	kit, root    string
	predecessors []string
	fresh        bool
	drillsHere   bool
	force        bool
	replace      bool
}

// enrollData is the result of host enroll.
type enrollData struct {
	RepoID       string              `json:"repo_id"`
	RootKey      string              `json:"root_key"`
	Writer       string              `json:"writer,omitempty"`
	TrustSeq     uint64              `json:"trust_statement,omitempty"`
	Predecessors []enrollPredecessor `json:"predecessors"`
	Regions      []repo.RegionResult `json:"regions"`
	Required     int                 `json:"regions_required"`
	State        string              `json:"state"`
	SetAside     string              `json:"set_aside,omitempty"` // where the state of an older writer went
	DrillsHere   bool                `json:"drills_here"`
	DryRun       bool                `json:"dry_run,omitempty"`
	pinned       bool                // the configuration names the repository
	done         bool
}

type enrollPredecessor struct {
	Writer   string    `json:"writer"`
	Host     string    `json:"host,omitempty"`
	NewestAt time.Time `json:"newest_recovery_point_at,omitzero"`
	Disabled bool      `json:"disabled"` // it may not write any more
}

func (a *app) hostEnrollCommand() *cobra.Command {
	var f enrollFlags
	c := &cobra.Command{
		Use: "enroll", Short: "Make this host a writer of an existing repository", Args: cobra.NoArgs,
		Long: "Make this host a writer of an existing repository: a new host, or one whose disk was lost. It gets keys\n" +
			"of its own, which the root key signs in. The kit and the root file are needed for this command only.\n\n" +
			"A rebuilt host goes on where the old one stopped: the old writer becomes its predecessor, so that nothing\n" +
			"is sent again. Without --predecessor or --new that is every writer whose snapshots name this host, or the\n" +
			"only writer there is. The old writer stays enrolled; --replace takes its right to write.",
		Example: "  lifeboat host enroll --kit kit.txt --root kit.txt.root\n" +
			"  lifeboat host enroll --kit kit.txt --root kit.txt.root --new\n" +
			"  lifeboat host enroll --kit kit.txt --root kit.txt.root --predecessor 3fa91c20 --replace --yes",
	}
	fl := c.Flags()
	fl.StringVar(&f.kit, "kit", "", "recovery kit of the repository")
	fl.StringVar(&f.root, "root", "", "file with the repository's root key")
	fl.StringArrayVar(&f.predecessors, "predecessor", nil, "id of a `WRITER` that this host was before; repeatable")
	fl.BoolVar(&f.fresh, "new", false, "this host was no writer before: share nothing with the others")
	fl.BoolVar(&f.drillsHere, "drills-here", false, "install the data identity, so that this host may restore and run drills alone")
	fl.BoolVar(&f.force, "force", false, "when this host is enrolled already, move its state aside")
	fl.BoolVar(&f.replace, "replace", false, "the predecessors may not write any more")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) { return a.enroll(ctx, f) })
}

// enrolling is one run of host enroll.
type enrolling struct {
	a    *app
	f    enrollFlags
	data *enrollData
	kit  seal.Kit
	root seal.SigningKey
	repo *repo.Repo
}

func (a *app) enroll(ctx context.Context, f enrollFlags) (any, bool, error) {
	e := &enrolling{a: a, f: f, data: &enrollData{DryRun: a.opt.DryRun, DrillsHere: f.drillsHere, Predecessors: []enrollPredecessor{}, Regions: []repo.RegionResult{}}}
	for _, step := range []func() error{e.checkFlags, e.readKeys, e.checkState, func() error { return e.open(ctx) }} {
		if err := step(); err != nil {
			return nil, false, err
		}
	}
	changed, err := e.run(ctx)
	return e.data, changed, err
}

func (e *enrolling) checkFlags() error {
	switch {
	case e.f.kit == "" || e.f.root == "":
		return &Fail{Code: Usage, Message: "enrolling needs the recovery kit and the root key", Hint: "give --kit FILE and --root FILE, as init wrote them"}
	case e.f.kit == "-" && e.f.root == "-":
		return &Fail{Code: Usage, Message: "kit and root key cannot both come from standard input", Hint: "put one of them into a file"}
	case e.f.fresh && (len(e.f.predecessors) > 0 || e.f.replace):
		return &Fail{Code: Usage, Message: "--new excludes --predecessor and --replace", Hint: "a new host has no predecessor"}
	}
	return nil
}

// readKeys reads kit and root key, and finds out early when they do not belong together.
func (e *enrolling) readKeys() error {
	var err error
	if e.kit, err = e.a.readKit(e.f.kit); err != nil {
		return err
	}
	if e.root, err = e.a.readRoot(e.f.root); err != nil {
		return err
	}
	if e.kit.HasPins() && e.kit.RootPublic != e.root.Public() {
		return wrongRoot(e.f.root, e.root.Public(), e.kit.RootPublic)
	}
	return nil
}

func wrongRoot(path string, got, want seal.VerifyKey) error {
	return &Fail{Code: NoMatchingKey, Message: fmt.Sprintf("%s holds the root key of another repository: its public half is %s, expected %s", path, got, want),
		Hint: "init wrote the right one beside the kit, as KIT.root", Err: repo.ErrWrongRoot}
}

// readRoot reads the file with the root key.
func (a *app) readRoot(path string) (seal.SigningKey, error) {
	secret, err := a.readIdentity(path)
	if err != nil {
		return seal.SigningKey{}, err
	}
	fail := func(what string, err error) error {
		return &Fail{Code: NoMatchingKey, Message: fmt.Sprintf("root key %s: %s", identityLabel(path), what), Hint: "it is the file KIT.root that init wrote beside the kit", Err: err}
	}
	var keys []string
	for line := range strings.Lines(secret.Reveal()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	if len(keys) != 1 {
		return seal.SigningKey{}, fail(fmt.Sprintf("%d keys in it, want one", len(keys)), nil)
	}
	key, err := seal.ParseSigningKey(keys[0])
	if err != nil {
		return key, fail(err.Error(), err)
	}
	if !key.Root() {
		return key, fail("this is a writer's key, not a root key", nil)
	}
	return key, nil
}

// checkState makes sure that there is room for a new writer's state.
func (e *enrolling) checkState() error {
	dir := e.a.stateDir()
	if _, err := e.a.configured(); err == nil {
		dir = e.a.stateDir() // paths.state of the file counts
	}
	e.data.State = dir
	old, err := repo.LoadState(dir)
	switch {
	case errors.Is(err, repo.ErrNoState):
	case e.f.force:
	case err != nil:
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "--force moves it aside", Err: err}
	default:
		id, _ := old.Repo() // a damaged id shows as zeros
		return &Fail{Code: TargetRefused, Message: fmt.Sprintf("this host is enrolled already: writer %.8s of repository %.8s in %s", old.Writer(), id, dir),
			Hint: "nothing needs to be done to back up; --force moves that state aside and enrols anew"}
	}
	if err := repo.CheckIdle(dir); err != nil {
		if errors.Is(err, repo.ErrInUse) {
			return &Fail{Code: Locked, Message: err.Error(), Hint: "a backup of the old writer is running; wait for it", Err: err}
		}
		return err
	}
	if e.a.opt.DryRun {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	probe, err := os.CreateTemp(dir, ".lifeboat-")
	if err != nil {
		return fmt.Errorf("write to the state directory: %w", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// open opens the repository with the kit alone.
func (e *enrolling) open(ctx context.Context) error {
	set, err := e.a.kitRegions(e.kit)
	if err != nil {
		return err
	}
	opt, err := e.a.kitOptions(e.f.kit, e.kit, set)
	if err != nil {
		return err
	}
	opt.Regions = e.a.openRegions(ctx, set)
	if e.repo, err = repo.Open(ctx, opt); err != nil {
		return e.a.kitFail(err)
	}
	e.a.onClose(e.repo.Close)
	e.data.RepoID, e.data.RootKey, e.data.Required, e.data.pinned = e.repo.ID().String(), e.repo.Root().String(), set.Required, set.RepoID != ""
	if e.root.Public() != e.repo.Root() {
		return wrongRoot(e.f.root, e.root.Public(), e.repo.Root())
	}
	if _, ok := e.repo.Operator(); !ok {
		return &Fail{Code: NoMatchingKey, Message: e.f.kit + " holds no operator's identity of this repository", Hint: "use the recovery kit, not an installed data identity", Err: repo.ErrNoKey}
	}
	return nil
}

func (e *enrolling) run(ctx context.Context) (changed bool, err error) {
	a := e.a
	before, err := e.predecessors(ctx)
	if err != nil {
		return false, err
	}
	en, err := e.repo.PlanEnrollment(ctx, repo.EnrollOptions{Root: e.root, Predecessors: before, Disable: e.f.replace, Now: a.now()})
	if err != nil {
		return false, e.explain(err)
	}
	if err := e.describe(ctx, en); err != nil || a.opt.DryRun {
		return false, err
	}
	if e.f.replace && len(en.Predecessors) > 0 {
		if err := a.confirm(fmt.Sprintf("Take the right to write from %s?", shortIDs(en.Predecessors))); err != nil {
			return false, err
		}
	}
	if e.data.Regions, err = en.Place(ctx); err != nil {
		return false, e.explain(err)
	}
	e.data.Writer, e.data.TrustSeq = en.Writer, en.Trust.Seq
	if e.data.SetAside, err = repo.SetAside(e.data.State, "before-"+a.now().UTC().Format("20060102T150405Z")); err != nil {
		return true, e.unsaved(err)
	}
	if _, err := en.Save(e.data.State, e.f.drillsHere); err != nil {
		return true, e.unsaved(err)
	}
	e.data.done = true
	return true, e.judge()
}

// unsaved says that the repository knows a writer whose keys are lost.
func (e *enrolling) unsaved(err error) error {
	return fmt.Errorf("writer %.8s was signed in, but its keys could not be kept here; run the same command again for another one: %w", e.data.Writer, err)
}

func (e *enrolling) explain(err error) error {
	switch {
	case errors.Is(err, repo.ErrWrongRoot):
		return wrongRoot(e.f.root, e.root.Public(), e.repo.Root())
	case errors.Is(err, repo.ErrTrustRace):
		return &Fail{Code: TempFail, Message: err.Error(),
			Hint: "this host was not enrolled; run the same command again. Should an object be named that could not be withdrawn, delete it first", Err: err}
	case errors.Is(err, repo.ErrNoWriter):
		return &Fail{Code: Usage, Message: err.Error(), Hint: "list the writers with: lifeboat key list", Err: err}
	}
	return e.a.kitFail(err)
}

// predecessors finds the writers that this host was before.
func (e *enrolling) predecessors(ctx context.Context) ([]string, error) {
	writers := e.repo.Trust().Writers
	if e.f.fresh {
		return nil, nil
	}
	if len(e.f.predecessors) > 0 {
		var out []string
		for _, text := range e.f.predecessors {
			id, err := writerByPrefix(writers, text)
			if err != nil {
				return nil, err
			}
			out = append(out, id)
		}
		return out, nil
	}
	if len(writers) == 1 {
		return []string{writers[0].ID}, nil
	}
	all, err := e.repo.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	host := e.a.hostName()
	var out []string
	for _, s := range all {
		if s.Host == host && !slices.Contains(out, s.Writer) {
			out = append(out, s.Writer)
		}
	}
	if len(out) == 0 {
		return nil, &Fail{Code: Usage, Message: fmt.Sprintf("which writer was this host before? none of the %d writers has a snapshot of a host named %s", len(writers), host),
			Hint: "name it with --predecessor (lifeboat key list shows them), or give --new"}
	}
	return out, nil
}

func writerByPrefix(writers []journal.Enrolled, text string) (string, error) {
	var found []string
	for _, w := range writers {
		if len(text) >= referenceIDMin && strings.HasPrefix(w.ID, strings.ToLower(text)) {
			found = append(found, w.ID)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	ids := make([]string, len(writers))
	for i, w := range writers {
		ids[i] = w.ID
	}
	return "", &Fail{Code: Usage, Message: fmt.Sprintf("--predecessor %s names %d of the writers", text, len(found)), Hint: "there are: " + shortIDs(ids), Err: repo.ErrNoWriter}
}

func shortIDs(ids []string) string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, fmt.Sprintf("%.8s", id))
	}
	return strings.Join(out, ", ")
}

// describe fills in what is going to happen.
func (e *enrolling) describe(ctx context.Context, en *repo.Enrollment) error {
	newest, err := newestByWriter(ctx, e.repo)
	if err != nil {
		return err
	}
	for _, id := range en.Predecessors {
		w, _ := en.Trust.Enrolled(id)
		e.data.Predecessors = append(e.data.Predecessors, enrollPredecessor{Writer: id, Host: newest[id].Host, NewestAt: newest[id].Start, Disabled: w.Disabled})
	}
	for _, p := range e.repo.Places() {
		res := repo.RegionResult{Name: p.Name, State: "planned"}
		if p.Err != nil {
			res.State, res.Error = "left_out", p.Err.Error()
		}
		e.data.Regions = append(e.data.Regions, res)
	}
	return nil
}

// judge warns of regions that were not reached, and fails when they are too many.
func (e *enrolling) judge() error {
	reached := 0
	for _, r := range e.data.Regions {
		if r.State == "committed" {
			reached++
			continue
		}
		e.a.warn("region_not_told", fmt.Sprintf("region %s does not know of the new writer yet; when it is back, run: lifeboat replicate sync", r.Name), "region", r.Name)
	}
	if reached < e.data.Required {
		return &Fail{Code: ReplicationDegraded, Message: fmt.Sprintf("this host is enrolled, but only %d regions know it; %d are required", reached, e.data.Required),
			Hint: "when the others are back, run: lifeboat replicate sync"}
	}
	return nil
}

func (d *enrollData) text(p *page) {
	if d.RepoID == "" {
		return
	}
	switch {
	case d.done:
		p.line("Enrolled this host as writer %.8s of repository %.8s (trust statement %d).", d.Writer, d.RepoID, d.TrustSeq)
	case d.DryRun:
		p.line("Would enrol this host in repository %.8s; nothing was changed (--dry-run).", d.RepoID)
	}
	for _, w := range d.Predecessors {
		note := "no recovery point yet"
		if w.Host != "" {
			note = fmt.Sprintf("%s, newest point %s", w.Host, p.time(w.NewestAt))
		}
		if w.Disabled {
			note += "; may not write any more"
		}
		p.line("  goes on from writer %.8s (%s)", w.Writer, note)
	}
	if len(d.Predecessors) == 0 {
		p.line("  shares nothing with the other writers")
	}
	for _, r := range d.Regions {
		m, word := markOK, "knows the new writer"
		switch r.State {
		case "planned":
			word = "reachable"
		case "committed":
		default:
			m, word = markRisk, orElse(r.Error, r.State)
		}
		p.line("  region %-12s %s", r.Name, p.mark(m, word))
	}
	if d.SetAside != "" {
		p.line("  the old state is in %s", d.SetAside)
	}
	if !d.done {
		return
	}
	if !d.pinned {
		p.line("")
		p.line("Pin it in the configuration:")
		p.line("  repository: {id: %s, root_key: %s}", d.RepoID, d.RootKey)
	}
	p.line("")
	p.line("%s", p.mark(markRisk, "Take the kit and the root file off this host again."))
	p.line("Next: lifeboat backup --all")
}
