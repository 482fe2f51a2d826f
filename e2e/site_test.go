package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// differencesShown is how many differences a test prints before it gives up.
const differencesShown = 20

// site is a host with a configuration for a repository in several regions. The
// fields are what goes into the file; configure writes it again after a change.
type site struct {
	*harness.Host
	Regions  []siteRegion
	Required int
	Work     []siteWork
	More     string // further top-level lines of YAML
	Kit      string
}

type siteRegion struct {
	Name, URL string
	Dir       string // of a directory region
}

type siteWork struct {
	Name  string
	Paths []string
	Lines []string // further lines of the workload
	Rules []string // further lines of its volume
}

// newSite is a host whose one workload is called files and lies in the folder
// source. Regions are names of folders, or URLs of S3 regions.
func newSite(t *testing.T, regions ...string) *site {
	t.Helper()
	s := &site{Host: harness.NewHost(t), Required: min(2, len(regions))}
	s.Kit = s.Path("kit.txt")
	for i, r := range regions {
		if strings.HasPrefix(r, "s3://") {
			s.Regions = append(s.Regions, siteRegion{Name: fmt.Sprintf("s%d", i), URL: r})
			continue
		}
		dir := s.Path("regions", r)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.Regions = append(s.Regions, siteRegion{Name: r, URL: "file://" + dir, Dir: dir})
	}
	s.Work = []siteWork{{Name: "files", Paths: []string{s.Path("source")}}}
	t.Cleanup(func() { _ = tree.Remove(s.Path("source")) })
	return s
}

// source is the folder that the workload files protects.
func (s *site) source(parts ...string) string {
	return filepath.Join(append([]string{s.Path("source")}, parts...)...)
}

func (s *site) dir(region string) string {
	for _, r := range s.Regions {
		if r.Name == region {
			return r.Dir
		}
	}
	return ""
}

// configure writes the configuration file and uses it from now on.
func (s *site) configure(t *testing.T) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nregions:\n  required: %d\n  list:\n", s.Required)
	for _, r := range s.Regions {
		fmt.Fprintf(&b, "    - {name: %s, url: %q}\n", r.Name, r.URL)
	}
	fmt.Fprintf(&b, "paths: {state: %q, cache: %q}\nworkloads:\n", s.Path("lifeboat-state"), s.Path("lifeboat-cache"))
	for _, w := range s.Work {
		fmt.Fprintf(&b, "  - name: %s\n    kind: volume\n", w.Name)
		for _, l := range w.Lines {
			fmt.Fprintf(&b, "    %s\n", l)
		}
		b.WriteString("    volume:\n      paths:\n")
		for _, p := range w.Paths {
			fmt.Fprintf(&b, "        - %q\n", p)
		}
		for _, l := range w.Rules {
			fmt.Fprintf(&b, "      %s\n", l)
		}
	}
	b.WriteString(s.More)
	if err := os.WriteFile(s.Path("lifeboat.yaml"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Flags = []string{"--config", s.Path("lifeboat.yaml")}
}

// init writes the configuration and makes the repository.
func (s *site) init(t *testing.T, flags ...string) {
	t.Helper()
	s.configure(t)
	s.run(t, 0, append([]string{"init", "--yes", "--kit", s.Kit}, flags...)...)
}

// run runs the program and ends the test unless it exits with the code.
func (s *site) run(t *testing.T, code int, args ...string) *harness.Result {
	t.Helper()
	r := s.Run(args...)
	if r.Code != code {
		t.Fatalf("exit %d, want %d: %v", r.Code, code, r)
	}
	return r
}

// stranger is another host that has nothing of this one but what S3 needs.
func (s *site) stranger(t *testing.T) *site {
	t.Helper()
	other := &site{Host: harness.NewHost(t)}
	for _, v := range s.Env {
		if strings.HasPrefix(v, "AWS_") {
			other.Setenv(v)
		}
	}
	return other
}

// backupResult is the data of backup.
type backupResult struct {
	Workload  string         `json:"workload"`
	Snapshot  string         `json:"snapshot_id"`
	Parent    string         `json:"parent_id"`
	At        time.Time      `json:"recovery_point_at"`
	Stats     backupStats    `json:"stats"`
	Errors    []resultItem   `json:"errors"`
	Workloads []backupResult `json:"workloads"`
	Regions   []struct {
		Name, State, Error string
	} `json:"regions"`
	Uploaded int64 `json:"bytes_uploaded"`
	Requests []struct {
		Region                   string
		Puts, Gets, Stats, Lists int64
	} `json:"requests"`
}

type backupStats struct {
	Files      int64 `json:"files"`
	New        int64 `json:"files_new"`
	Changed    int64 `json:"files_changed"`
	Unmodified int64 `json:"files_unmodified"`
	Deleted    int64 `json:"files_deleted"`
	BytesRead  int64 `json:"bytes_read"`
	BytesNew   int64 `json:"bytes_new"`
	Stored     int64 `json:"bytes_stored"`
	Sockets    int64 `json:"sockets"`
	Excluded   int64 `json:"excluded"`
	Unreadable int64 `json:"unreadable"`
	Torn       int64 `json:"changed_while_read"`
	Vanished   int64 `json:"vanished"`
}

type resultItem struct{ Item, Message string }

// state is what a backup says of one region.
func (b backupResult) state(region string) string {
	for _, r := range b.Regions {
		if r.Name == region {
			return r.State
		}
	}
	return "not named"
}

// names tells whether an item's path ends so.
func (b backupResult) names(suffix string) bool {
	for _, e := range b.Errors {
		if strings.HasSuffix(e.Item, suffix) {
			return true
		}
	}
	return false
}

// backup takes a snapshot of files, or runs backup with the arguments given.
func (s *site) backup(t *testing.T, code int, args ...string) backupResult {
	t.Helper()
	if len(args) == 0 {
		args = []string{"files"}
	}
	r := s.run(t, code, append([]string{"backup", "--json"}, args...)...)
	var b backupResult
	dataOf(t, r, &b)
	return b
}

// restoreResult is the data of restore.
type restoreResult struct {
	Snapshot string    `json:"snapshot_id"`
	At       time.Time `json:"achieved_at"`
	Regions  []string  `json:"regions"`
	Files    struct {
		Restored, Kept, Skipped, Failed, Dirs, Others int64
	} `json:"files"`
	Bytes    int64            `json:"bytes_restored"`
	Fetched  map[string]int64 `json:"bytes_fetched"`
	NotSet   *restoreNotSet   `json:"not_set"`
	Dropped  *restoreNotSet   `json:"dropped"`
	Problems []resultItem     `json:"problems"`
	Plan     struct {
		Files, Dirs, Bytes int64
	} `json:"plan"`
}

type restoreNotSet struct {
	Owner, Mode, Xattr, Times, Device int64
	Names                             []string
}

// restore restores files with the kit, or without it when the repository is
// named by other flags.
func (s *site) restore(t *testing.T, code int, to string, args ...string) restoreResult {
	t.Helper()
	t.Cleanup(func() { _ = tree.Remove(to) })
	args = append([]string{"restore", "files", "--to", to, "--json"}, args...)
	if s.Kit != "" {
		args = append(args, "--identity-file", s.Kit)
	}
	r := s.run(t, code, args...)
	var d restoreResult
	dataOf(t, r, &d)
	return d
}

// dataOf decodes the data of a result.
func dataOf(t *testing.T, r *harness.Result, v any) {
	t.Helper()
	var e harness.Envelope
	if err := json.Unmarshal(r.Stdout, &e); err != nil {
		t.Fatalf("stdout is no envelope: %v: %v", err, r)
	}
	if len(e.Data) == 0 || string(e.Data) == "null" {
		return
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		t.Fatalf("data: %v: %v", err, r)
	}
}

// warningsOf are the codes of a result's warnings.
func warningsOf(t *testing.T, r *harness.Result) []string {
	t.Helper()
	var e harness.Envelope
	if err := json.Unmarshal(r.Stdout, &e); err != nil {
		t.Fatalf("stdout is no envelope: %v: %v", err, r)
	}
	var codes []string
	for _, w := range e.Warnings {
		codes = append(codes, w.Code)
	}
	return codes
}

// pictureOf takes a picture of a tree.
func pictureOf(t *testing.T, dir string) *tree.Picture {
	t.Helper()
	p, err := tree.Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustMatch compares a tree with a picture.
func mustMatch(t *testing.T, want *tree.Picture, dir string, ignore tree.Ignore) {
	t.Helper()
	reportAll(t, tree.Compare(want, pictureOf(t, dir), ignore))
}

func reportAll(t *testing.T, all []tree.Difference) {
	t.Helper()
	for i, d := range all {
		if i == differencesShown {
			t.Errorf("and %d more", len(all)-i)
			break
		}
		t.Error(d)
	}
}

// restorable leaves out what nobody restores.
func restorable() tree.Ignore { return tree.Ignore{Sockets: true} }

// putFile writes a file under the site, with its folders.
func putFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// racyWindow is how young a change must be for a backup to distrust it: a file that
// changed so shortly before the start of a backup is read again by the next one.
const racyWindow = 20 * time.Millisecond

// settled waits until a backup that starts now finds the file older than that.
func settled(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, path+" to be no longer fresh", func() error {
		if age := time.Since(time.Unix(st.Ctim.Unix())); age <= racyWindow {
			return fmt.Errorf("it changed %v ago", age)
		}
		return nil
	})
}

// getFile reads a file.
func getFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// moveTo renames, which for a directory region is to lose it or to get it back.
func moveTo(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// wipeAll deletes folders and what they hold.
func wipeAll(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := tree.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// isGone tells whether nothing is at a path.
func isGone(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}
