package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lifeboat/config"
	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// findMatchesMax bounds the versions that one search of a workload remembers:
// some 30 MB.
const findMatchesMax = 100_000

type findFlags struct {
	workload, snapshot, since string
	kind, size, newer         string
	regex                     bool
}

func (a *app) findCommand() *cobra.Command {
	var f findFlags
	c := &cobra.Command{
		Use: "find PATTERN", Short: "Find a file across recovery points", Args: cobra.ExactArgs(1),
		Long: "Find a file across recovery points, and say from when until when each of its versions was there: the\n" +
			"answer to \"when was it deleted?\". A glob without a slash matches names; one with a slash in front matches\n" +
			"whole paths; ** stands for any number of folders. Only what changed between two points is read.",
		Example: "  lifeboat find 'invoices/2026-10*.pdf' --workload files\n" +
			"  lifeboat find '*.sqlite' --size +1GiB --since '30d ago'\n" +
			"  lifeboat find --regex '(?i)/report-[0-9]+\\.docx?$' -o jsonl",
	}
	fl := c.Flags()
	fl.StringVar(&f.workload, "workload", "", "only this workload")
	fl.StringVar(&f.snapshot, "snapshot", "", "only in this recovery point")
	fl.StringVar(&f.since, "since", "", "only in recovery points at or after this time")
	fl.StringVar(&f.kind, "type", "", "only files (f), directories (d) or symbolic links (l)")
	fl.StringVar(&f.size, "size", "", "only larger (+1GiB), smaller (-10MiB) or exactly as large")
	fl.StringVar(&f.newer, "newer", "", "only what was modified after this time")
	fl.BoolVar(&f.regex, "regex", false, "PATTERN is a regular expression over the whole path, which begins with /")
	_ = c.RegisterFlagCompletionFunc("workload", a.completeWorkloads) // the flag exists
	return a.lists(a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		q, err := a.findQuery(args[0], f)
		if err != nil {
			return nil, false, err
		}
		return a.find(ctx, q, f)
	}))
}

// findQuery says what is looked for.
type findQuery struct {
	pattern string
	match   func(path []byte) bool
	accept  []func(*catalog.Entry) bool
}

func (q *findQuery) wants(e *catalog.Entry) bool {
	return !slices.ContainsFunc(q.accept, func(ok func(*catalog.Entry) bool) bool { return !ok(e) })
}

func (a *app) findQuery(pattern string, f findFlags) (*findQuery, error) {
	q := &findQuery{pattern: pattern}
	if f.snapshot != "" && f.since != "" {
		return nil, &Fail{Code: Usage, Message: "--snapshot and --since exclude each other", Hint: "give one of them"}
	}
	if f.regex {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, &Fail{Code: Usage, Message: fmt.Sprintf("the pattern is no regular expression: %v", err), Hint: "such as '/report-[0-9]+\\.pdf$'", Err: err}
		}
		q.match = func(path []byte) bool { return re.Match(append([]byte("/"), path...)) }
	} else {
		m, err := catalog.NewMatcher(pattern)
		if err != nil {
			return nil, &Fail{Code: Usage, Message: err.Error(), Hint: "such as '*.pdf', 'invoices/2026-10*.pdf' or '/srv/**/notes.txt'", Err: err}
		}
		q.match = m.Match
	}
	for _, add := range []func(*findQuery, findFlags) error{findType, findSize, a.findNewer} {
		if err := add(q, f); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func findType(q *findQuery, f findFlags) error {
	if f.kind == "" {
		return nil
	}
	t, ok := map[string]catalog.Type{"f": catalog.File, "d": catalog.Dir, "l": catalog.Symlink}[f.kind]
	if !ok {
		return &Fail{Code: Usage, Message: fmt.Sprintf("--type %s", f.kind), Hint: "give f (files), d (directories) or l (symbolic links)"}
	}
	q.accept = append(q.accept, func(e *catalog.Entry) bool { return e.Type == t })
	return nil
}

func findSize(q *findQuery, f findFlags) error {
	if f.size == "" {
		return nil
	}
	sign := f.size[0]
	n, err := config.ParseSize(strings.TrimLeft(f.size[:1], "+-") + f.size[1:])
	if err != nil {
		return &Fail{Code: Usage, Message: fmt.Sprintf("--size %s: %v", f.size, err), Hint: "such as +1GiB (larger), -10MiB (smaller) or 4096", Err: err}
	}
	q.accept = append(q.accept, func(e *catalog.Entry) bool {
		switch {
		case e.Type != catalog.File:
			return false
		case sign == '+':
			return e.Size > n
		case sign == '-':
			return e.Size < n
		}
		return e.Size == n
	})
	return nil
}

func (a *app) findNewer(q *findQuery, f findFlags) error {
	if f.newer == "" {
		return nil
	}
	t, err := a.parseTime(f.newer)
	if err != nil {
		return err
	}
	q.accept = append(q.accept, func(e *catalog.Entry) bool { return e.MTime > t.UnixNano() })
	return nil
}

// findRecord is one path with all its versions.
type findRecord struct {
	Workload    string        `json:"workload"`
	Host        string        `json:"host"`
	Path        string        `json:"path"`
	RawPath     []byte        `json:"path_bytes,omitempty"` // when the path is not UTF-8
	Present     bool          `json:"present"`              // in the newest point searched
	AbsentSince time.Time     `json:"absent_since,omitzero"`
	Versions    []findVersion `json:"versions"`
	More        int           `json:"versions_not_shown,omitempty"`
	Restore     string        `json:"restore"` // the command that brings the newest version back
}

// findVersion is one version: the same contents, size and time in several
// points in a row.
type findVersion struct {
	Type  string    `json:"type"`
	Size  int64     `json:"size_bytes"`
	MTime time.Time `json:"modified_at"`
	Flags []string  `json:"flags,omitempty"`
	From  time.Time `json:"from_at"`
	To    time.Time `json:"to_at"`
	First string    `json:"first_snapshot_id"`
	Last  string    `json:"last_snapshot_id"`
	// Oldest: the version is in the oldest point searched, and may be older.
	Oldest bool `json:"from_oldest,omitempty"`
	// State is present (also in the newest point), replaced or absent.
	State       string    `json:"state"`
	AbsentSince time.Time `json:"absent_since,omitzero"`
}

// findData is what goes beside the matches.
type findData struct {
	Points     int  `json:"recovery_points"`
	Paths      int  `json:"paths"`
	Unreadable int  `json:"unreadable_recovery_points,omitempty"`
	Truncated  bool `json:"truncated,omitempty"`
}

func (a *app) find(ctx context.Context, q *findQuery, f findFlags) (any, bool, error) {
	a.progress.plan("connect", "search")
	a.progress.phase("connect")
	r, _, err := a.openRepo(ctx, access{names: true, region: true})
	if err != nil {
		return nil, false, err
	}
	lines, err := a.timelines(ctx, r, f)
	if err != nil {
		return nil, false, err
	}
	data := &findData{}
	for _, l := range lines {
		data.Points += len(l.points)
	}
	a.progress.phase("search")
	a.progress.expect(0, int64(data.Points))
	out := a.findRecords()
	s := &search{a: a, q: q, cats: newCatalogs(r)}
	for _, l := range lines {
		if err := s.follow(ctx, l); err != nil {
			return data, false, err
		}
		data.Unreadable += l.unreadable
		data.Truncated = data.Truncated || l.dropped > 0
		if err := a.tell(out, l, data); err != nil {
			return data, false, err
		}
	}
	a.progress.done()
	return data, false, data.judge(q.pattern)
}

func (d *findData) judge(pattern string) error {
	switch {
	case d.Unreadable > 0:
		return &Fail{Code: Partial, Message: fmt.Sprintf("%d of %d recovery points could not be searched", d.Unreadable, d.Points), Hint: "run: lifeboat check"}
	case d.Paths == 0:
		return &Fail{Code: NoRecoveryPoint, Message: fmt.Sprintf("nothing matches %s in %d recovery points", pattern, d.Points),
			Hint: "a glob without a slash matches names, as '*.pdf'; with --regex, '(?i)' ignores case", Err: repo.ErrNoSnapshot}
	}
	return nil
}

// timelines gives the recovery points to search, oldest first, apart for each
// workload and host: two hosts may back up different things under one name.
func (a *app) timelines(ctx context.Context, r *repo.Repo, f findFlags) ([]*timeline, error) {
	all, err := a.findPoints(ctx, r, f)
	if err != nil {
		return nil, err
	}
	var out []*timeline
	byName := map[[2]string]*timeline{}
	hosts := map[string]int{}
	for _, s := range all {
		key := [2]string{s.Workload, s.Host}
		if byName[key] == nil {
			byName[key] = &timeline{workload: s.Workload, host: s.Host, tracks: map[string]*track{}, most: findMatchesMax}
			out = append(out, byName[key])
			hosts[s.Workload]++
		}
		byName[key].points = append(byName[key].points, s)
	}
	for _, l := range out {
		l.single = f.snapshot != ""
		if l.label = l.workload; hosts[l.workload] > 1 {
			l.label += " on " + l.host
		}
	}
	slices.SortStableFunc(out, func(x, y *timeline) int { return strings.Compare(x.label, y.label) })
	return out, nil
}

func (a *app) findPoints(ctx context.Context, r *repo.Repo, f findFlags) ([]repo.Snapshot, error) {
	if f.snapshot != "" {
		ref, err := a.parseReference(f.snapshot)
		if err != nil {
			return nil, err
		}
		if ref.Path != "" {
			return nil, &Fail{Code: Usage, Message: "--snapshot takes no path here", Hint: "put the path into the pattern: lifeboat find '/" + ref.Path + "/**'"}
		}
		s, err := a.chosen(ctx, r, ref, f.workload)
		return []repo.Snapshot{s}, err
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	if f.workload != "" {
		if all, err = ofWorkload(all, f.workload); err != nil {
			return nil, err
		}
	}
	if f.since != "" {
		since, err := a.parseTime(f.since)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(s repo.Snapshot) bool { return s.Start.Before(since) })
	}
	if len(all) == 0 {
		return nil, &Fail{Code: NoRecoveryPoint, Message: "there are no recovery points to search", Hint: NoRecoveryPoint.info().Hint, Err: repo.ErrNoSnapshot}
	}
	return all, nil
}

// findRecords begins the list: blocks of lines on a terminal, a table on a pipe.
func (a *app) findRecords() *records {
	if a.isTTY(a.stdout) {
		return a.records("matches", column{})
	}
	var cols []column
	for _, title := range []string{"WORKLOAD", "STATE", "FROM", "TO", "ABSENT SINCE", "SIZE", "SNAPSHOT", "PATH"} {
		cols = append(cols, column{title: title})
	}
	return a.records("matches", cols...)
}

// tell prints what a timeline found.
func (a *app) tell(out *records, l *timeline, data *findData) error {
	if l.dropped > 0 {
		a.warn("too_many_matches", fmt.Sprintf("%s: more than %d versions match; %d are not shown: narrow the pattern, or use --since", l.label, l.most, l.dropped), "workload", l.workload)
	}
	p := a.page(a.stdout)
	for _, path := range l.sorted() {
		rec := a.findRecord(l, path)
		data.Paths++
		if a.isTTY(a.stdout) || a.opt.Output != formatText && a.opt.Output != formatWide {
			if err := out.add(rec, rec.Path, findBlock(p, l, &rec)); err != nil {
				return err
			}
			continue
		}
		for _, v := range rec.Versions {
			err := out.add(rec, rec.Path, l.label, v.State, p.time(v.From), p.time(v.To), p.time(v.AbsentSince), p.size(v.Size), v.Last[:8], quotePath(rec.Path))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) findRecord(l *timeline, path string) findRecord {
	t := l.tracks[path]
	shown := entryOf(&catalog.Entry{Path: []byte(path)})
	rec := findRecord{Workload: l.workload, Host: l.host, Path: shown.Path, RawPath: shown.RawPath, More: t.more, Versions: []findVersion{}}
	newest := len(l.points) - 1
	for _, v := range t.versions {
		first, last := &l.points[v.first], &l.points[v.last]
		e := entryOf(&catalog.Entry{Type: v.kind, Size: v.size, MTime: v.mtime, Flags: v.flags})
		fv := findVersion{Type: e.Type, Size: e.Size, MTime: e.MTime, Flags: e.Flags, From: first.Start, To: last.Start,
			First: first.Summary.ID, Last: last.Summary.ID, Oldest: v.first == 0 && !l.single, State: "replaced"}
		switch {
		case v.gone >= 0:
			fv.State, fv.AbsentSince = "absent", l.points[v.gone].Start
		case v.last == newest:
			fv.State = "present"
		}
		rec.Versions = append(rec.Versions, fv)
		rec.Present, rec.AbsentSince, rec.Restore = fv.State == "present", fv.AbsentSince, a.restoreLine(l.workload, fv.Last[:8], "/"+path)
	}
	if t.more > 0 {
		rec.Present, rec.AbsentSince = t.on, time.Time{}
	}
	return rec
}

// restoreLine is the command that brings one path back.
func (a *app) restoreLine(workload, snapshot, path string) string {
	line := fmt.Sprintf("lifeboat restore %s --snapshot %s --path %s --to ./restored", workload, snapshot, shellQuote(globEscape(path)))
	for _, r := range a.opt.Repos {
		line += " --repo " + shellQuote(r)
	}
	for _, i := range a.opt.IdentityFiles {
		line += " --identity-file " + shellQuote(i)
	}
	return line
}

// globEscape makes a path mean itself where globs are taken.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "{", `\{`).Replace(path)
}

// shellQuote writes one word for a shell.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,"
	switch {
	case s != "" && strings.Trim(s, plain) == "":
		return s
	case utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(s) {
		if c < 0x20 || c >= 0x7f || c == '\'' || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String() + "'"
}

// findBlock is a match for people.
func findBlock(p *page, l *timeline, rec *findRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", p.bold(l.label+":"+quotePath(rec.Path)))
	for _, v := range rec.Versions {
		span := p.time(v.From)
		switch {
		case v.State == "present" && !l.single:
			span += " … newest"
		case v.First != v.Last:
			span += " … " + p.time(v.To)
		}
		if v.Oldest {
			span = "≤ " + span
		}
		if p.ascii {
			span = strings.NewReplacer("…", "to", "≤", "<=").Replace(span)
		}
		what := p.size(v.Size)
		if v.Type != "file" {
			what = v.Type
		}
		fmt.Fprintf(&b, "\n  present   %s   %s   last in %.8s", span, what, v.Last)
		if len(v.Flags) > 0 {
			b.WriteString("   " + p.mark(markRisk, strings.Join(v.Flags, ", ")))
		}
		if !v.AbsentSince.IsZero() {
			fmt.Fprintf(&b, "\n  absent    since %s", p.time(v.AbsentSince))
		}
	}
	if rec.More > 0 {
		fmt.Fprintf(&b, "\n  %s", p.mark(markRisk, fmt.Sprintf("and %d later versions", rec.More)))
	}
	arrow := "→"
	if p.ascii {
		arrow = "->"
	}
	fmt.Fprintf(&b, "\n  %s %s", arrow, rec.Restore)
	return b.String()
}
