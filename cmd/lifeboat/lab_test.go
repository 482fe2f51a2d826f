package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// lab is a host with a repository in two directories and one workload.
type lab struct {
	*world
	t      *testing.T
	dir    string
	src    string
	clock  time.Time
	points []time.Time // of the backups
	ids    []string
}

const labFile = `version: 1
instance: {name: %s, timezone: UTC}
regions:
  required: 2
  list:
    - {name: a, url: "file://%s/a"}
    - {name: b, url: "file://%s/b"}
workloads:
  - {name: files, kind: volume, volume: {paths: [%s/src]}}
paths: {state: %s/state, cache: %s/cache}
`

// newLab makes the regions and the kit, with classic keys, which are quicker.
func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	// The clock stands tomorrow: files that were written just now are not fresh any more.
	tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(26 * time.Hour)
	l := &lab{world: &world{}, t: t, dir: dir, src: filepath.Join(dir, "src"), clock: tomorrow}
	if err := os.Mkdir(l.src, 0o755); err != nil {
		t.Fatal(err)
	}
	l.env = map[string]string{"LIFEBOAT_CONFIG": l.path("lifeboat.yaml"), "LANG": "C.UTF-8"}
	l.configure("db1")
	l.must("init", "--yes", "--classic", "--kit", l.kit())
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }
func (l *lab) kit() string             { return l.path("kit.txt") }

// configure writes the configuration for a host of this name.
func (l *lab) configure(host string) {
	l.t.Helper()
	text := fmt.Sprintf(labFile, host, l.dir, l.dir, l.dir, l.dir, l.dir)
	if err := os.WriteFile(l.path("lifeboat.yaml"), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// run is world.run with a clock that goes.
func (l *lab) run(args ...string) int {
	l.stdout.Reset()
	l.stderr.Reset()
	var mu sync.Mutex // progress asks for the time from a goroutine of its own
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		l.clock = l.clock.Add(time.Millisecond)
		return l.clock
	}
	a := newApp(strings.NewReader(l.stdin), &l.stdout, &l.stderr, func(name string) string { return l.env[name] }, now)
	a.isTTY = func(any) bool { return l.tty }
	root := a.root()
	for _, c := range []*cobra.Command{a.findCommand(), a.diffCommand(), a.statsCommand(), a.keyCommand(), a.hostCommand()} {
		if !slices.ContainsFunc(root.Commands(), func(have *cobra.Command) bool { return have.Name() == c.Name() }) {
			for _, sub := range append(descendants(c), c) {
				a.finishCommand(sub)
			}
			root.AddCommand(c)
		}
	}
	l.app = a
	return a.main(l.t.Context(), root, args)
}

// must runs a command that has to work, and gives the data of its document.
func (l *lab) must(args ...string) map[string]any {
	l.t.Helper()
	return l.exits(OK, args...)
}

// exits runs a command that ends with a code, and gives the data of its document.
func (l *lab) exits(want Code, args ...string) map[string]any {
	l.t.Helper()
	exit := l.run(append(slices.Clone(args), "--json")...)
	text := l.stdout.String()
	if Code(exit) != want {
		l.t.Fatalf("%s: exit %d, want %d: %s", strings.Join(args, " "), exit, want, text)
	}
	data, _ := l.document(l.t)["data"].(map[string]any)
	return data
}

// fails runs a command that has to fail with a code and a message.
func (l *lab) fails(want Code, message string, args ...string) {
	l.t.Helper()
	exit := l.run(args...)
	if text := l.stderr.String(); Code(exit) != want || !strings.Contains(text, message) || !strings.Contains(text, "\nlifeboat: hint: ") {
		l.t.Errorf("%s: exit %d, want %d with %q: %s", strings.Join(args, " "), exit, want, message, text)
	}
}

// write makes a file of the source.
func (l *lab) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.src, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) remove(name string) {
	l.t.Helper()
	if err := os.RemoveAll(filepath.Join(l.src, name)); err != nil {
		l.t.Fatal(err)
	}
}

// backup takes a snapshot, an hour after the one before.
func (l *lab) backup() map[string]any {
	l.t.Helper()
	l.clock = l.clock.Truncate(time.Hour).Add(time.Hour)
	data := l.must("backup", "files")
	l.points = append(l.points, l.clock.Truncate(time.Hour))
	l.ids = append(l.ids, fmt.Sprint(data["snapshot_id"]))
	return data
}

// rows splits a table of a pipe.
func (l *lab) rows() [][]string {
	var out [][]string
	for line := range strings.Lines(l.stdout.String()) {
		out = append(out, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return out
}

// at is the time of a backup as a pipe shows it.
func (l *lab) at(point int) string { return l.points[point].Format(time.RFC3339) }

func list(data map[string]any, name string) []map[string]any {
	var out []map[string]any
	all, _ := data[name].([]any)
	for _, one := range all {
		m, _ := one.(map[string]any)
		out = append(out, m)
	}
	return out
}
