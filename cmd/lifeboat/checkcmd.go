package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
	"lifeboat/replicate"
	"lifeboat/storage"
	"lifeboat/storage/repo"
)

// checkFlags are those of check.
type checkFlags struct {
	read       config.Amount
	allRegions bool
	workload   string
	newest     int
}

// scrubData is the result of check.
type scrubData struct {
	*replicate.Report
	Required int         `json:"regions_required,omitempty"`
	DataKey  bool        `json:"data_key"` // one was here, so that a read can be deep
	Phases   []phaseTime `json:"phases,omitempty"`
	asked    config.Amount
	forced   string
}

func (a *app) checkCommand() *cobra.Command {
	var f checkFlags
	var amount string
	c := &cobra.Command{
		Use: "check", Short: "Verify that stored data is complete and undamaged", Args: cobra.NoArgs,
		Long: "Verify that stored data is complete and undamaged, in every region by itself and without the local cache:\n" +
			"every statement, key, manifest, index object and metadata pack is read and compared with its name, every\n" +
			"data pack must be there in its size, and every recovery point is followed to its last chunk.\n\n" +
			"--read-data reads the data packs too: all of them, a share, or so many bytes in each region. Parts of them go\n" +
			"round, so that daily runs of 5% read everything in 20 days. With a data key at hand what is read is also\n" +
			"decrypted, decompressed and compared chunk by chunk (level deep, otherwise hash).\n\n" +
			"Exit 4 when something is damaged or missing: each object is named, with the recovery points that need it and\n" +
			"the regions that have a good copy. Nothing is changed.",
		Example: "  lifeboat check\n  lifeboat check --read-data=5%\n  lifeboat check --read-data --region iad --identity-file kit.txt\n  lifeboat check --workload files --newest 1 --json",
	}
	c.Flags().StringVar(&amount, "read-data", "none", "`AMOUNT` of the data packs to read: all, a share such as 5%, or a size such as 10GiB")
	c.Flags().Lookup("read-data").NoOptDefVal = "all"
	c.Flags().BoolVar(&f.allRegions, "all-regions", false, "every region (the default; --region names a single one)")
	c.Flags().StringVar(&f.workload, "workload", "", "only the recovery points of this workload")
	c.Flags().IntVar(&f.newest, "newest", 0, "only the newest N recovery points of each workload")
	return a.handle(c, func(ctx context.Context, _ []string) (any, bool, error) {
		var err error
		if f.read, err = config.ParseAmount(amount); err != nil {
			return nil, false, &Fail{Code: Usage, Message: "--read-data " + err.Error(), Hint: "such as --read-data=5%, --read-data=10GiB or --read-data=all", Err: err}
		}
		if err := a.checkFlags(f); err != nil {
			return nil, false, err
		}
		d, err := a.check(ctx, f)
		if d == nil {
			return nil, false, err
		}
		return d, false, err
	})
}

func (a *app) checkFlags(f checkFlags) error {
	switch {
	case f.newest < 0:
		return &Fail{Code: Usage, Message: fmt.Sprintf("--newest %d", f.newest), Hint: "give a number from 1, or leave it out for all"}
	case f.allRegions && a.opt.Region != "":
		return &Fail{Code: Usage, Message: "--region and --all-regions exclude each other", Hint: "give one of them"}
	}
	return nil
}

// checkRound is what the daemon runs: a check of everything, reading a part.
func (a *app) checkRound(ctx context.Context, read config.Amount) error {
	_, err := a.check(ctx, checkFlags{read: read})
	return err
}

// check scrubs the repository. Its data is nil when it could not even begin.
func (a *app) check(ctx context.Context, f checkFlags) (*scrubData, error) {
	a.progress.plan("connect", replicate.PhaseStatements, replicate.PhasePacks, replicate.PhaseCatalogs, replicate.PhaseRead, replicate.PhaseCompare)
	a.progress.phase("connect")
	set, err := a.regions()
	if err != nil {
		return nil, err
	}
	if _, err := a.readFrom(set); err != nil { // --region must name one; the others are still asked for good copies
		return nil, err
	}
	opt, err := a.repoOptions(ctx, &set, access{contents: !f.read.IsZero(), coldCache: true})
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, opt)
	if err != nil {
		return nil, a.explainOpen(err)
	}
	a.onClose(r.Close)
	if f.workload != "" {
		if err := a.checkKeys(r, access{names: true}); err != nil {
			return nil, err
		}
	}
	d := &scrubData{Required: set.Required, asked: f.read, forced: a.opt.Region}
	scrub, err := a.scrubOptions(r, f)
	if err != nil {
		return nil, err
	}
	d.DataKey = scrub.Open != nil
	d.Report, err = replicate.Scrub(ctx, r, scrub)
	a.progress.done()
	d.Phases = a.progress.times()
	a.saveCoverage(r, scrub.Coverage)
	a.warnCheck(d)
	if err == nil && f.workload != "" && d.Snapshots == 0 {
		err = &Fail{Code: NoRecoveryPoint, Message: fmt.Sprintf("no region in the check shows a recovery point of %q", f.workload), Hint: "list what there is with: lifeboat snapshots", Err: repo.ErrNoSnapshot}
	}
	return d, errors.Join(err, d.verdict())
}

func (a *app) scrubOptions(r *repo.Repo, f checkFlags) (replicate.ScrubOptions, error) {
	opt := replicate.ScrubOptions{
		Workload: f.workload, Newest: f.newest, Now: a.now(), Events: a.scrubEvents(r),
		Read: replicate.ReadAmount{All: f.read.All, Ratio: f.read.Ratio, Bytes: f.read.Bytes},
	}
	if a.opt.Region != "" {
		opt.Regions = []string{a.opt.Region}
	}
	if f.read.IsZero() {
		return opt, a.loadCoverage(r, &opt)
	}
	if r.Keys().HasData() {
		opt.Open = r.Keys().DataOpener().Open
	}
	return opt, a.loadCoverage(r, &opt)
}

// coveragePath is where rounds of reading are remembered. A cold start
// remembers nothing, as it leans on nothing of this host.
func (a *app) coveragePath(r *repo.Repo) (path, dir string) {
	dir = filepath.Join(a.cacheDir(), r.ID().String()[:16])
	return filepath.Join(dir, "coverage.json"), dir
}

func (a *app) loadCoverage(r *repo.Repo, opt *replicate.ScrubOptions) error {
	if a.coldStart() {
		return nil
	}
	path, _ := a.coveragePath(r)
	var err error
	opt.Coverage, err = replicate.LoadCoverage(path)
	return err
}

// saveCoverage keeps what was read. Losing it makes the rounds begin again, so
// it only warns.
func (a *app) saveCoverage(r *repo.Repo, c *replicate.Coverage) {
	if c == nil || a.opt.DryRun {
		return
	}
	path, dir := a.coveragePath(r)
	if err := c.Save(path, dir); err != nil {
		a.warn("coverage_not_saved", err.Error())
	}
}

func (a *app) scrubEvents(r *repo.Repo) replicate.ScrubEvents {
	usable := map[string]bool{}
	for _, p := range r.Places() {
		usable[p.Name] = p.Usable() // why another one is not, has been said already
	}
	return replicate.ScrubEvents{
		Phase:  a.progress.phase,
		Expect: a.progress.expect,
		Done:   a.progress.add,
		At:     func(region, object string) { a.progress.at(strings.TrimSpace(region + " " + object)) },
		Damaged: func(region, object, problem string) {
			a.log.Warn("damaged", "region", region, "object", object, "problem", problem)
		},
		Left: func(region string, err error) {
			if usable[region] {
				a.warn("region_unreachable", fmt.Sprintf("region %s: the check could not go on there: %v", region, err), "region", region)
			}
		},
	}
}

// warnCheck says what is no damage and still worth knowing.
func (a *app) warnCheck(d *scrubData) {
	for _, b := range d.Behind {
		a.warn("region_behind", fmt.Sprintf("region %s lacks %d objects that were written while it was away; run: lifeboat replicate sync", b.Region, b.Total), "region", b.Region)
	}
	if d.Unindexed > 0 {
		a.warn("not_indexed", fmt.Sprintf("%d packs are in no index object; their own tables of contents were read", d.Unindexed))
	}
	if d.StrangeTotal > 0 {
		a.warn("strange_objects", fmt.Sprintf("%d objects are no part of a repository, such as %s", d.StrangeTotal, quotePath(d.Strange[0])))
	}
	if !d.asked.IsZero() && !d.DataKey {
		a.warn("hash_level", "no data key is here: what was read was compared with its name, not decrypted")
	}
}

// verdict turns findings into the exit code.
func (d *scrubData) verdict() error {
	var all []error
	good := 0
	for _, r := range d.Regions {
		switch r.State {
		case replicate.RegionUnreachable:
			if d.forced != "" {
				all = append(all, &Fail{Code: RegionUnreachable, Message: fmt.Sprintf("region %s cannot be checked: %v", r.Name, r.Err), Err: r.Err})
			}
		case replicate.RegionForeign:
			all = append(all, &Fail{Code: WrongRepository, Message: r.Error, Err: r.Err})
		default:
			good++
		}
	}
	if d.DamagedTotal > 0 {
		all = append(all, d.damage())
	}
	if d.forced == "" && good < d.Required {
		all = append(all, &Fail{Code: ReplicationDegraded, Message: fmt.Sprintf("%d regions could be checked, %d are required", good, d.Required), Hint: "run: lifeboat replicate status"})
	}
	return errors.Join(all...)
}

// damage is the failure for what was found, with the next step.
func (d *scrubData) damage() *Fail {
	var regions []string
	healable, byHand := 0, 0
	for _, x := range d.Damaged {
		if x.Region != "" && !slices.Contains(regions, x.Region) {
			regions = append(regions, x.Region)
		}
		switch {
		case len(x.HealableFrom) == 0:
			continue
		case x.Object == storage.FormatKey || x.Object == storage.RecoveryKey:
			byHand++
		}
		healable++
	}
	where := ""
	if len(regions) > 0 {
		where = " in " + strings.Join(regions, ", ")
	}
	fail := &Fail{Code: VerifyFailed, Message: fmt.Sprintf("%d objects are damaged or missing%s", d.DamagedTotal, where), Err: storage.ErrCorrupt}
	if healable == 0 {
		fail.Hint = "no region has a good copy of them: take a new backup now, and keep what is left"
		return fail
	}
	fail.Hint = "restores read them from another region meanwhile; copy them again with: lifeboat replicate sync --verify"
	if byHand > 0 {
		fail.Hint += "; format.json and RECOVERY.txt are the same in all regions: copy them by hand"
	}
	return fail
}

func (d *scrubData) text(p *page) {
	t := newTable("REGION", "STATE", ">POINTS", ">PACKS", ">OBJECTS")
	for _, r := range d.Regions {
		m := map[string]mark{replicate.RegionOK: markOK, replicate.RegionDamaged: markBad, replicate.RegionForeign: markBad}[r.State]
		if r.State == replicate.RegionUnreachable {
			m = markUnknown
		}
		t.row(r.Name, p.mark(m, r.State), fmt.Sprint(r.Snapshots), fmt.Sprint(r.Packs), fmt.Sprint(r.Objects))
	}
	p.table(t)
	p.line("checked   %d recovery points, %d objects, %s read", d.Snapshots, d.ObjectsChecked, p.size(d.BytesRead))
	p.line("level     %s", d.levelText())
	if d.Catalogs < d.Snapshots {
		p.line("catalogs  %d of %d could be followed with the keys at hand", d.Catalogs, d.Snapshots)
	}
	p.line("coverage  %.0f %% of the data packs were read since they were stored", 100*d.Coverage.BytesRatio)
	if d.Orphans > 0 {
		p.line("orphans   %d packs, %s: no recovery point needs them", d.Orphans, p.size(d.OrphanBytes))
	}
	for _, x := range d.Damaged {
		d.damageText(p, x)
	}
	if more := d.DamagedTotal - len(d.Damaged); more > 0 {
		p.line("and %d more", more)
	}
}

func (d *scrubData) levelText() string {
	switch d.Level {
	case replicate.LevelDeep:
		return "deep: data was read, decrypted and compared chunk by chunk"
	case replicate.LevelHash:
		return "hash: data was read and compared with its name"
	}
	return "inventory: data packs are there in the right size; read them with --read-data"
}

// Lines of one damaged object in text.
const (
	checkPointsShown = 3
	checkFilesShown  = 5
)

func (d *scrubData) damageText(p *page, x replicate.Damage) {
	where := orElse(x.Region, "every region")
	p.line("%s", p.mark(markBad, fmt.Sprintf("%s: %s %s: %s", where, x.Kind, x.Object, strings.ReplaceAll(x.Problem, "\n", "; "))))
	if x.AffectsTotal > 0 {
		var points []string
		for _, s := range x.Affects[:min(len(x.Affects), checkPointsShown)] {
			point := fmt.Sprintf("%.8s", s.ID)
			if s.Workload != "" {
				point += fmt.Sprintf(" (%s, %s)", s.Workload, p.time(s.At))
			}
			points = append(points, point)
		}
		p.line("    needed by %s", andMore(points, x.AffectsTotal))
	}
	if len(x.Files) > 0 {
		var files []string
		for _, f := range x.Files[:min(len(x.Files), checkFilesShown)] {
			files = append(files, quotePath(f))
		}
		p.line("    files: %s", andMore(files, int(x.FilesTotal)))
	}
	if len(x.HealableFrom) > 0 {
		p.line("    good copy in %s", strings.Join(x.HealableFrom, ", "))
	} else {
		p.line("    no good copy was found")
	}
}

// andMore lists what is shown and counts the rest.
func andMore(shown []string, total int) string {
	text := strings.Join(shown, ", ")
	if more := total - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
