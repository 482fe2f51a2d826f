package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat/storage"
	"lifeboat/storage/durable"
	"lifeboat/storage/repo"
	"lifeboat/storage/seal"
)

// initData is the result of init.
type initData struct {
	RepoID     string       `json:"repo_id"`
	RootKey    string       `json:"root_key"`
	Regions    []initRegion `json:"regions"`
	Recipients []string     `json:"recipients"`
	Kit        string       `json:"kit,omitempty"`
	Root       string       `json:"root_file,omitempty"`
	State      string       `json:"state"`
	DryRun     bool         `json:"dry_run,omitempty"`
	existed    bool
}

type initRegion struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Created bool   `json:"created"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}

type initFlags struct {
	kit        string
	recipients []string
	classic    bool
	drillsHere bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use: "init", Short: "Create the repository in every configured region", Args: cobra.NoArgs,
		Long: "Create the repository in every configured region: keys, this host as the first writer, and the\n" +
			"recovery kit, without which nobody gets anything back once this host is gone. The root key, which\n" +
			"only enrols hosts and regions, goes to a file of its own beside the kit (KIT.root).\n\n" +
			"Keep the kit and the root file in two places outside this host, then delete them here.",
		Example: "  lifeboat init --kit kit.txt\n  lifeboat init --yes --kit kit.txt --recipient age1pq1…\n  lifeboat init --dry-run",
	}
	c.Flags().StringVar(&f.kit, "kit", "", "write the recovery kit to this file, and the root key to FILE.root")
	c.Flags().StringArrayVar(&f.recipients, "recipient", nil, "age recipient of another operator who may open everything; repeatable")
	c.Flags().BoolVar(&f.classic, "classic", false, "X25519 keys instead of the hybrid post-quantum ones, for recovery with age older than 1.3")
	c.Flags().BoolVar(&f.drillsHere, "drills-here", false, "install the data identity on this host, so that it may restore and run drills alone")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) { return a.runInit(ctx, f) })
}

func (a *app) runInit(ctx context.Context, f initFlags) (any, bool, error) {
	set, err := a.regions()
	if err != nil {
		return nil, false, err
	}
	data := &initData{State: a.stateDir(), DryRun: a.opt.DryRun}
	recipients, err := parseRecipients(f.recipients)
	if err != nil {
		return nil, false, err
	}
	if _, err := repo.LoadState(a.stateDir()); err == nil {
		return a.alreadyInit(ctx, set, data)
	} else if !errors.Is(err, repo.ErrNoState) {
		return nil, false, err
	}
	if err := a.checkKitPlace(f); err != nil {
		return nil, false, err
	}
	regions, err := a.emptyRegions(ctx, set, data)
	if err != nil || a.opt.DryRun {
		return data, false, err
	}
	if len(recipients) == 0 {
		a.warn("one_recipient", "only the recovery kit opens this repository; a second operator recipient (--recipient) would still open it when the kit is lost")
	}
	if err := a.confirm(fmt.Sprintf("Create a repository in %d regions?", len(regions))); err != nil {
		return data, false, err
	}
	made, err := repo.Create(ctx, repo.CreateOptions{Regions: regions, Classic: f.classic, Recipients: recipients, Now: a.now()})
	if err != nil {
		return data, false, err
	}
	return data, true, a.keepSecrets(set, made, f, data)
}

func parseRecipients(texts []string) ([]seal.Recipient, error) {
	var out []seal.Recipient
	for _, text := range texts {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			return nil, &Fail{Code: Usage, Message: "--recipient: " + err.Error(), Hint: "give an age recipient: age1… or age1pq1…", Err: err}
		}
		out = append(out, r)
	}
	return out, nil
}

// checkKitPlace refuses to make keys that would then have no place to go.
func (a *app) checkKitPlace(f initFlags) error {
	if f.kit == "" {
		return &Fail{Code: Usage, Message: "init needs a place for the recovery kit", Hint: "give --kit FILE; the root key goes to FILE.root"}
	}
	for _, path := range []string{f.kit, f.kit + ".root"} {
		if _, err := os.Lstat(path); err == nil {
			return &Fail{Code: TargetRefused, Message: fmt.Sprintf("%s exists already; it may be the kit of another repository", path), Hint: "choose another file, or move that one away"}
		}
	}
	if a.opt.DryRun {
		return nil
	}
	probe, err := os.CreateTemp(filepath.Dir(f.kit), ".lifeboat-")
	if err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// emptyRegions opens all regions and makes sure that each answers and is empty.
func (a *app) emptyRegions(ctx context.Context, set regionSet, data *initData) ([]repo.Region, error) {
	var regions []repo.Region
	var all []error
	for _, spec := range set.Regions {
		row := initRegion{Name: spec.Name, URL: spec.URL}
		r, err := a.openRegion(ctx, spec, !a.opt.DryRun)
		if err != nil {
			err = fmt.Errorf("region %s: %w", spec.Name, err)
		} else {
			err = repo.CheckEmpty(ctx, r)
		}
		if a.opt.DryRun && errors.Is(err, storage.ErrNoBucket) && spec.S3 == nil {
			err = nil // init makes the directory
		}
		row.OK = err == nil
		if err != nil {
			row.Message = err.Error()
			all = append(all, a.explainEmpty(err))
		}
		data.Regions = append(data.Regions, row)
		regions = append(regions, r)
	}
	return regions, errors.Join(all...)
}

func (a *app) explainEmpty(err error) error {
	if errors.Is(err, repo.ErrNotEmpty) {
		return &Fail{Code: TargetRefused, Message: err.Error(), Hint: "a region must be empty; choose another prefix, or join the repository with: lifeboat host enroll", Err: err}
	}
	return err
}

func (a *app) alreadyInit(ctx context.Context, set regionSet, data *initData) (any, bool, error) {
	r, _, err := a.openRepo(ctx, access{})
	if err != nil {
		return data, false, err
	}
	data.RepoID, data.RootKey, data.existed = r.ID().String(), r.Root().String(), true
	for _, p := range r.Places() {
		row := initRegion{Name: p.Name, URL: p.URL, OK: p.Usable()}
		if p.Err != nil {
			row.Message = p.Err.Error()
		}
		data.Regions = append(data.Regions, row)
	}
	return data, false, nil
}

// keepSecrets writes the kit, the root key and this host's state. The kit comes
// first: without it the repository is worthless.
func (a *app) keepSecrets(set regionSet, made *repo.Created, f initFlags, data *initData) error {
	data.RepoID, data.RootKey = made.ID.String(), made.Root.Public().String()
	data.Kit, data.Root = f.kit, f.kit+".root"
	for i := range data.Regions {
		data.Regions[i].Created = true
	}
	data.Recipients = append(data.Recipients, made.Operator.Recipient().String())
	data.Recipients = append(data.Recipients, f.recipients...)
	if err := a.writeKit(f.kit, set, seal.Kit{RepoID: made.ID, RootPublic: made.Root.Public(), Identity: made.Operator}); err != nil {
		return err
	}
	root := "# lifeboat root key of repository " + made.ID.String() + "\n# It enrols hosts. Keep it offline, apart from the recovery kit.\n" + made.Root.Reveal() + "\n"
	if err := durable.WriteFile(data.Root, []byte(root), 0o600); err != nil {
		return fmt.Errorf("write root key: %w", err)
	}
	var install *seal.Identity
	if f.drillsHere {
		install = &made.Data
	}
	if _, err := repo.SetAside(a.stateDir(), "before-"+a.now().UTC().Format("20060102T150405Z")); err != nil {
		return err
	}
	_, err := repo.SaveState(a.stateDir(), made.ID, made.Root.Public(), made.Writer, install)
	return err
}

// writeKit fills in what every kit has and writes it for its owner's eyes only.
func (a *app) writeKit(path string, set regionSet, kit seal.Kit) error {
	kit.CreatedAt, kit.Version = a.now(), release
	for _, spec := range set.Regions {
		kit.RepoURLs = append(kit.RepoURLs, fullURL(spec))
	}
	var b bytes.Buffer
	if err := seal.WriteKit(&b, kit); err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	if err := durable.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	return nil
}

func (d *initData) text(p *page) {
	for _, r := range d.Regions {
		m, word := markOK, "ready"
		if r.Created {
			word = "created"
		}
		if !r.OK {
			m, word = markBad, r.Message
		}
		p.line("  region %-12s %s  %s", r.Name, r.URL, p.mark(m, word))
	}
	switch {
	case d.DryRun:
		p.line("Nothing was created (--dry-run).")
	case d.existed:
		p.line("This host is enrolled in repository %.8s already.", d.RepoID)
	case d.RepoID != "":
		p.line("Created repository %.8s in %d regions, readable by %d keys.", d.RepoID, len(d.Regions), len(d.Recipients))
		p.line("")
		p.line("Pin it in the configuration:")
		p.line("  repository: {id: %s, root_key: %s}", d.RepoID, d.RootKey)
		p.line("")
		p.line("%s", p.mark(markRisk, "Keep these in two places outside this host, then delete them here:"))
		p.line("  %s   opens everything: the recovery kit, also for: age -d -i", d.Kit)
		p.line("  %s   enrols hosts: keep it apart from the kit", d.Root)
	}
}
