package badinput

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// TestBadInput gives the program everything that can be wrong around it: keys,
// regions, disks, objects, listings, targets, words, a second run, a signal. Each
// must end with the right code, one clear error and a next step; and once it is
// mended, backup and restore must go on as if nothing had been.
func TestBadInput(t *testing.T) {
	f := newFixture(t)
	for name, story := range map[string]func(*testing.T, *fixture){
		"keys": badKeys, "regions": badRegions, "s3": badS3, "listings": badListings, "damage": badDamage, "disks": badDisks,
		"permission": badPermission, "targets": badTargets, "words": badWords, "second run": badSecondRun, "signals": badSignals,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, f)
		})
	}
}

// regionNames are those of every world, in the order of preference.
func regionNames() []string { return []string{"a", "b", "c"} }

// fixture is a repository with two snapshots that tests clone and then break.
type fixture struct {
	*world
	ids      []string      // of the snapshots, oldest first; the manifest of the first is an object
	first    *tree.Picture // what the first holds; the second holds the source as it is
	foreign  *world        // another repository, with one snapshot
	identity string        // file with the identity of the foreign kit alone
}

// world is a host with a repository in three directory regions.
type world struct {
	*harness.Host
	t        *testing.T
	source   string
	kit      string
	required int
	edit     func(config string) string // of the configuration, or nil
	held     *tree.Picture              // of a source that does not change any more
}

// want is the source as it is now.
func (w *world) want() *tree.Picture {
	w.t.Helper()
	if w.held != nil {
		return w.held
	}
	return pictureIn(w.t, w.source)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{world: newWorld(t)}
	f.source = f.Path("source")
	badSource(t, f.source)
	f.configure()
	f.Must("init", "--yes", "--kit", f.kit)
	// Tags so large that the manifest does not fit into its intent.
	backup := []string{"backup", "files"}
	for _, name := range []string{"u", "v", "w", "x"} {
		backup = append(backup, "--tag", name+"="+letters(uint64(name[0]), 120_000))
	}
	f.Must(backup...)
	f.first = pictureIn(t, f.source)
	placeFile(t, filepath.Join(f.source, "zz", "added"), []byte(letters(9, 300_000)))
	placeFile(t, filepath.Join(f.source, "zz", "added too"), []byte("small"))
	f.Must("backup", "files")
	f.held = pictureIn(t, f.source)
	f.ids = f.snapshotIDs()
	if len(f.ids) != 2 || len(f.objects("a", "manifest")) != 1 || len(f.objects("a", "meta pack")) == 0 {
		t.Fatalf("snapshots %v, %d manifest objects, %d meta packs", f.ids, len(f.objects("a", "manifest")), len(f.objects("a", "meta pack")))
	}

	f.foreign = newWorld(t)
	f.foreign.source = f.foreign.Path("source")
	placeFile(t, filepath.Join(f.foreign.source, "file"), []byte("of another repository"))
	f.foreign.configure()
	f.foreign.Must("init", "--yes", "--kit", f.foreign.kit)
	f.foreign.Must("backup", "files")
	f.identity = f.foreign.Path("identity.txt")
	placeFile(t, f.identity, []byte(identityLine(t, f.foreign.kit)+"\n"))
	return f
}

func newWorld(t *testing.T) *world {
	t.Helper()
	h := harness.NewHost(t)
	h.Timeout = time.Minute
	w := &world{Host: h, t: t, kit: h.Path("kit.txt"), required: 2}
	h.Flags = []string{"--config", h.Path("lifeboat.yaml"), "--progress", "none"}
	return w
}

// clone makes a world of its own, which shares only the source, the kit and,
// by hard links, the objects. Objects are never written in place, also not by spoil.
func (f *fixture) clone(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.source, w.kit, w.held = f.source, f.kit, f.held
	for _, name := range regionNames() {
		cloneTree(t, f.region(name), w.region(name), os.Link)
	}
	for _, name := range []string{"lb-state", "lb-cache"} {
		cloneTree(t, f.Path(name), w.Path(name), copyOne)
	}
	w.configure()
	return w
}

// region is the directory of one.
func (w *world) region(name string) string { return w.Path("region-" + name) }

// configure writes the configuration.
func (w *world) configure() {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nregions:\n  required: %d\n  list:\n", w.required)
	for _, name := range regionNames() {
		fmt.Fprintf(&b, "    - {name: %s, url: \"file://%s\"}\n", name, w.region(name))
	}
	fmt.Fprintf(&b, "workloads:\n  - name: files\n    kind: volume\n    volume: {paths: [\"%s\"]}\n", w.source)
	fmt.Fprintf(&b, "paths: {state: \"%s\", cache: \"%s\"}\n", w.Path("lb-state"), w.Path("lb-cache"))
	text := b.String()
	if w.edit != nil {
		text = w.edit(text)
	}
	placeFile(w.t, w.Path("lifeboat.yaml"), []byte(text))
}

// replace makes the configuration say something else from now on.
func (w *world) replace(pairs ...string) {
	w.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		before := w.edit
		w.edit = func(text string) string {
			if before != nil {
				text = before(text)
			}
			if !strings.Contains(text, pairs[i]) {
				w.t.Fatalf("the configuration has no %q:\n%s", pairs[i], text)
			}
			return strings.ReplaceAll(text, pairs[i], pairs[i+1])
		}
	}
	w.configure()
}

// on puts a region elsewhere: an S3 URL, or another directory.
func (w *world) on(region, url string) {
	w.t.Helper()
	w.replace("file://"+w.region(region)+`"`, url+`"`)
}

// cold are the flags of a restore that has nothing but regions and a kit.
func (w *world) cold(kit string, regions ...string) []string {
	flags := []string{"--identity-file", kit}
	for _, name := range regions {
		flags = append(flags, "--repo", "file://"+w.region(name))
	}
	return flags
}

// bare is a host that knows nothing, for cold starts.
func (w *world) bare() *world {
	h := newWorld(w.t)
	h.Flags = []string{"--progress", "none"}
	return h
}

// snapshotIDs lists what is there, oldest first.
func (w *world) snapshotIDs(flags ...string) []string {
	w.t.Helper()
	var data struct {
		Snapshots []struct {
			ID string `json:"id"`
		} `json:"snapshots"`
	}
	w.Must(append([]string{"snapshots", "--json"}, flags...)...).Data(&data)
	var ids []string
	for _, s := range data.Snapshots {
		ids = append(ids, s.ID)
	}
	return ids
}

// whole proves that nothing was lost: every region is brought up to date, the host
// backs up, and each alone gives the source back to a host that has only the kit.
func (w *world) whole(regions ...string) {
	w.t.Helper()
	if len(regions) == 0 {
		regions = regionNames()
	}
	w.works("replicate", "sync")
	if r := w.works("backup", "files"); strings.Count(string(r.Stdout), `"committed"`) != len(regionNames()) {
		w.t.Errorf("not every region took the backup after all was mended: %s", brief(r))
	}
	for _, name := range regions {
		w.restores(w.cold(w.kit, name)...)
	}
}

// works runs what must succeed, and tells when it does not.
func (w *world) works(args ...string) *harness.Result {
	w.t.Helper()
	r := w.Run(append(args, "--json")...)
	r.Events()
	if e := r.Envelope(); r.Code != 0 {
		w.t.Errorf("exit %d, want 0: %v", r.Code, brief(r))
	} else if e.Error != nil {
		w.t.Errorf("error in a success: %v", brief(r))
	}
	return r
}

// restores brings the newest snapshot back on a bare host, which must succeed
// and give the source.
func (w *world) restores(flags ...string) {
	w.t.Helper()
	h := w.bare()
	h.works(append([]string{"restore", "files", "--to", h.Path("out")}, flags...)...)
	sameAs(w.t, w.want(), h.Path("out"))
}

// sameAs compares a restored directory with what it should be.
func sameAs(t *testing.T, want *tree.Picture, dir string) {
	t.Helper()
	if _, err := os.Lstat(dir); err != nil {
		t.Errorf("nothing was restored: %v", err)
		return
	}
	all := tree.Compare(want, pictureIn(t, dir), tree.Ignore{Sockets: true})
	for _, d := range all[:min(len(all), 3)] {
		t.Errorf("%d differences, such as %v", len(all), d)
	}
}

func pictureIn(t *testing.T, dir string) *tree.Picture {
	t.Helper()
	p, err := tree.Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// codeNames is the table of exit codes with their stable names.
func codeNames() map[int]string {
	return map[int]string{
		1: "failed", 3: "partial", 4: "verify_failed", 5: "objective_missed", 6: "replication_degraded", 10: "repo_not_found", 11: "locked",
		12: "no_matching_key", 13: "no_recovery_point", 14: "target_refused", 15: "region_unreachable", 16: "awaiting_approval",
		17: "wrong_repository", 18: "no_space", 64: "usage", 70: "internal", 75: "tempfail", 78: "config", 124: "timeout",
		130: "interrupted", 143: "interrupted",
	}
}

// refuses runs what must fail, once for machines and once for people, and gives
// the error of the first.
func (w *world) refuses(code int, args ...string) harness.Problem {
	w.t.Helper()
	first := w.Run(append(args, "--json")...)
	p := w.failed([]int{code}, first)
	if first.Code != code {
		return p // it is told already
	}
	r := w.Run(args...)
	text := string(r.Stderr)
	if r.Code != code {
		w.t.Errorf("for people exit %d, want %d: %v", r.Code, code, brief(r))
	}
	if n := strings.Count(text, "lifeboat: error: "); n != 1 {
		w.t.Errorf("%d errors for people, want 1: %v", n, brief(r))
	}
	if n := strings.Count(text, "lifeboat: hint: "); n != 1 {
		w.t.Errorf("%d hints for people, want 1: %v", n, brief(r))
	}
	if strings.Contains(string(r.Stdout), "lifeboat: ") {
		w.t.Errorf("messages on stdout: %v", brief(r))
	}
	return p
}

// fails runs once, with --json, what must fail with one of the codes.
func (w *world) fails(codes []int, args ...string) harness.Problem {
	w.t.Helper()
	return w.failed(codes, w.Run(append(args, "--json")...))
}

// failed judges the end of a run with --json that must have failed.
func (w *world) failed(codes []int, r *harness.Result) harness.Problem {
	w.t.Helper()
	if !slices.Contains(codes, r.Code) {
		w.t.Errorf("exit %d, want %v: %v", r.Code, codes, brief(r))
	}
	e := r.Envelope()
	r.Events()
	if e.Error == nil {
		return harness.Problem{}
	}
	if e.Error.Code != codeNames()[r.Code] {
		w.t.Errorf("exit %d has the name %q, want %q", r.Code, e.Error.Code, codeNames()[r.Code])
	}
	if e.Error.Hint == "" {
		w.t.Errorf("no next step: %v", brief(r))
	}
	for _, text := range []string{e.Error.Message, e.Error.Hint} {
		if what := clumsy(text); what != "" {
			w.t.Errorf("%s in a message: %s", what, brief(r))
		}
	}
	return *e.Error
}

// brief is what a failed test needs to tell of a run: paths of test folders are
// cut to their ends, and events are left out.
func brief(r *harness.Result) string {
	var e harness.Envelope
	text := fmt.Sprintf("lifeboat %s: exit %d after %v", strings.Join(r.Args, " "), r.Code, r.Took.Round(time.Millisecond))
	if json.Unmarshal(r.Stdout, &e) == nil && e.Schema != "" {
		if e.Error != nil {
			text += fmt.Sprintf("\n  error %s: %s\n  hint: %s", e.Error.Code, e.Error.Message, e.Error.Hint)
		}
		for _, w := range e.Warnings[:min(len(e.Warnings), 5)] {
			text += fmt.Sprintf("\n  warning %s: %s", w.Code, w.Message)
		}
	} else {
		text += fmt.Sprintf("\n  stdout: %.200s\n  stderr: %.1000s", r.Stdout, r.Stderr)
	}
	return shorten(text)
}

// shorten cuts paths of test folders, which say nothing.
func shorten(text string) string {
	return regexp.MustCompile(regexp.QuoteMeta(os.TempDir())+`/Test[^/]*/\d+|(long){3,}`).ReplaceAllString(text, "~")
}

// clumsy says what is wrong with the words of a message, or nothing.
func clumsy(text string) string {
	const lineMost, linesMost = 700, 8
	lines := strings.Split(text, "\n")
	for _, rule := range []struct{ what, pattern string }{
		{"words of Go", `%!|<nil>|goroutine |runtime error|panic|context canceled|context deadline|0xc0`},
		{"a secret", `(?i)(AGE-SECRET-KEY-(PQ-)?1|LIFEBOAT-(ROOT|WRITER)-KEY-1)[0-9a-z]{16}`},
		{"an empty part", `: :|: $|^\s*$`},
	} {
		if regexp.MustCompile(`(?m)` + rule.pattern).MatchString(text) {
			return rule.what
		}
	}
	seen := map[string]bool{}
	for _, line := range lines {
		parts := strings.Split(line, ": ")
		if len(slices.Compact(slices.Clone(parts))) != len(parts) {
			return "the same part twice in a row"
		}
		in := map[string]bool{}
		for _, part := range parts {
			if in[part] {
				return fmt.Sprintf("%q twice in one line", part)
			}
			in[part] = true
		}
		if seen[line] {
			return "a line twice"
		}
		seen[line] = true
		if len(line) > lineMost {
			return fmt.Sprintf("a line of %d bytes", len(line))
		}
	}
	if len(lines) > linesMost && !strings.Contains(lines[0], "lifeboat.yaml:") { // every mistake of a file has its own
		return fmt.Sprintf("%d lines", len(lines))
	}
	return ""
}

// mustSay checks that a text names what it must.
func mustSay(t *testing.T, text string, words ...string) {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		return // there was no error, which is told already
	}
	for _, word := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			t.Errorf("%q does not say %q", shorten(text), word)
		}
	}
}

// withinTime checks that a run did not hang.
func withinTime(t *testing.T, most time.Duration, r *harness.Result) {
	t.Helper()
	if r.Took > most {
		t.Errorf("took %v, at most %v: %v", r.Took.Round(time.Millisecond), most, brief(r))
	}
}

// badSource is a small torture tree, with so many bytes in names and targets
// that the catalog does not fit into a manifest.
func badSource(t *testing.T, dir string) {
	t.Helper()
	if _, err := tree.Make(dir, tree.Options{Seed: 5, Privileged: harness.IsRoot(), Files: 20, Large: 1 << 20, Wide: 20, Deep: 10}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"many links", "zz"} { // the second is for changes far from the first page
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(400) {
		if err := os.Symlink(letters(i, 1800), filepath.Join(dir, "many links", fmt.Sprintf("%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// letters are so many letters that do not compress to nothing.
func letters(seed uint64, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(b)
}

// identityLine is the private key of a kit without anything around it.
func identityLine(t *testing.T, kit string) string {
	t.Helper()
	text, err := os.ReadFile(kit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("%s holds no identity", kit)
	return ""
}

// placeFile makes a file anew, in a folder that it makes too.
func placeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cloneTree copies directories and, by the given way, files.
func cloneTree(t *testing.T, from, to string, file func(from, to string) error) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return file(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyOne(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
