package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/repo"
)

// history makes a file that changes, goes and comes back, and one that stays.
func history(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.write("inv/2026-10.pdf", "one")
	l.write("inv/stays.pdf", "stays")
	if err := os.Symlink("stays.pdf", filepath.Join(l.src, "inv/link.pdf")); err != nil {
		t.Fatal(err)
	}
	l.backup() // 0
	l.backup() // 1
	l.write("inv/2026-10.pdf", "the second")
	l.backup() // 2
	l.remove("inv/2026-10.pdf")
	l.backup() // 3
	l.write("inv/2026-10.pdf", "it is back")
	l.backup() // 4
	l.remove("inv/2026-10.pdf")
	l.backup() // 5
	l.backup() // 6
	return l
}

func TestFindTellsWhenAFileWasThere(t *testing.T) {
	l := history(t)
	data := l.must("find", "inv/2026-10*.pdf", "--workload", "files")
	if data["recovery_points"] != 7.0 || data["paths"] != 1.0 {
		t.Errorf("data = %v", data)
	}
	m := list(data, "matches")[0]
	hour := func(v any) string {
		s, _ := v.(string)
		p, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return s
		}
		return p.Truncate(time.Minute).Format(time.RFC3339)
	}
	if m["path"] != l.src+"/inv/2026-10.pdf" || m["present"] != false || hour(m["absent_since"]) != l.at(5) || m["host"] != "db1" {
		t.Errorf("match = %v", m)
	}
	if want := "lifeboat restore files --snapshot " + l.ids[4][:8] + " --path " + l.src + "/inv/2026-10.pdf --to ./restored"; m["restore"] != want {
		t.Errorf("restore = %v, want %s", m["restore"], want)
	}
	want := []struct {
		from, to int
		size     float64
		state    string
		gone     int
		oldest   bool
	}{{0, 1, 3, "replaced", -1, true}, {2, 2, 10, "absent", 3, false}, {4, 4, 10, "absent", 5, false}}
	versions := list(m, "versions")
	if len(versions) != len(want) {
		t.Fatalf("versions = %v", versions)
	}
	for i, w := range want {
		v := versions[i]
		if hour(v["from_at"]) != l.at(w.from) || hour(v["to_at"]) != l.at(w.to) || v["size_bytes"] != w.size || v["state"] != w.state ||
			v["first_snapshot_id"] != l.ids[w.from] || v["last_snapshot_id"] != l.ids[w.to] || (v["from_oldest"] == true) != w.oldest {
			t.Errorf("version %d = %v", i, v)
		}
		if w.gone >= 0 && hour(v["absent_since"]) != l.at(w.gone) {
			t.Errorf("version %d is absent since %v, want %s", i, v["absent_since"], l.at(w.gone))
		}
	}
	stays := list(l.must("find", "stays.pdf"), "matches")[0]
	if v := list(stays, "versions"); stays["present"] != true || len(v) != 1 || v[0]["state"] != "present" || v[0]["last_snapshot_id"] != l.ids[6] {
		t.Errorf("stays = %v", stays)
	}
}

func TestFindFilters(t *testing.T) {
	l := history(t)
	for _, tt := range []struct {
		args string
		want string
	}{
		{"*.pdf", "2026-10.pdf link.pdf stays.pdf"},
		{"*.pdf --type l", "link.pdf"},
		{"*.pdf --type f --size +5", "2026-10.pdf"},
		{"*.pdf --size -5B", "2026-10.pdf"},
		{"*.pdf --size 5", "stays.pdf"},
		{"inv --type d", "inv"},
		{"--regex (?i)/INV/STAYS[.]pdf$", "stays.pdf"},
		{"/src/inv/* --type f", ""},
		{"**/inv/s*", "stays.pdf"},
		{"*.pdf --snapshot files@latest", "link.pdf stays.pdf"},
		{"2026* --snapshot latest~4", "2026-10.pdf"},
		{"2026* --since " + l.at(5), ""},
		{"2026* --since " + l.at(4), "2026-10.pdf"},
		{"*.pdf --newer 2200-01-01", ""},
		{"*.pdf --newer 1999-01-01 --type f", "2026-10.pdf stays.pdf"},
	} {
		want := OK
		if tt.want == "" {
			want = NoRecoveryPoint
		}
		var names []string
		for _, m := range list(l.exits(want, append([]string{"find"}, strings.Fields(tt.args)...)...), "matches") {
			names = append(names, filepath.Base(m["path"].(string)))
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.args, got, tt.want)
		}
	}
	// A version that a filter leaves out does not count as a deletion.
	m := list(l.must("find", "2026*", "--size", "-5B"), "matches")[0]
	if v := list(m, "versions"); len(v) != 1 || v[0]["state"] != "replaced" || m["absent_since"] != nil {
		t.Errorf("match = %v", m)
	}
}

func TestFindOutputs(t *testing.T) {
	l := history(t)
	if exit := l.run("find", "2026*"); exit != 0 {
		t.Fatalf("exit %d: %s", exit, l.stderr.String())
	}
	rows := l.rows()
	if len(rows) != 4 || rows[0][7] != "PATH" || rows[1][1] != "replaced" || rows[3][1] != "absent" || rows[3][4] != l.at(5) || rows[1][5] != "3" {
		t.Errorf("rows = %q", rows)
	}
	l.run("find", "*.pdf", "-o", "name")
	if want := l.src + "/inv/2026-10.pdf\n" + l.src + "/inv/link.pdf\n" + l.src + "/inv/stays.pdf\n"; l.stdout.String() != want {
		t.Errorf("names: %q", l.stdout.String())
	}
	l.run("find", "*.pdf", "-o", "jsonl")
	if lines := strings.Split(strings.TrimSpace(l.stdout.String()), "\n"); len(lines) != 4 || !strings.Contains(lines[3], "lifeboat.result/v1") {
		t.Errorf("jsonl: %q", lines)
	}
	l.tty = true
	l.run("find", "2026*", "--progress", "none", "--color", "never")
	at := func(i int) string { return l.points[i].Format("2006-01-02 15:04:05") }
	want := "files:" + l.src + "/inv/2026-10.pdf\n" +
		"  present   ≤ " + at(0) + " … " + at(1) + "   3 B   last in " + l.ids[1][:8] + "\n" +
		"  present   " + at(2) + "   10 B   last in " + l.ids[2][:8] + "\n" +
		"  absent    since " + at(3) + "\n" +
		"  present   " + at(4) + "   10 B   last in " + l.ids[4][:8] + "\n" +
		"  absent    since " + at(5) + "\n" +
		"  → lifeboat restore files --snapshot " + l.ids[4][:8] + " --path " + l.src + "/inv/2026-10.pdf --to ./restored\n"
	if l.stdout.String() != want {
		t.Errorf("terminal:\n%s\nwant\n%s", l.stdout.String(), want)
	}
	l.tty = false
	l.run("find", "2026*", "--repo", "file://"+l.path("a"), "--identity-file", l.kit(), "--json")
	if text := l.stdout.String(); !strings.Contains(text, " --repo file://"+l.path("a")+" --identity-file "+l.kit()) {
		t.Errorf("cold start: %s", text)
	}
}

func TestFindRefuses(t *testing.T) {
	l := newLab(t)
	l.fails(NoRecoveryPoint, "no recovery points", "find", "x")
	l.write("x", "x")
	l.backup()
	for _, tt := range []struct {
		code    Code
		message string
		args    string
	}{
		{Usage, "regular expression", "find --regex ("},
		{Usage, "glob", "find [a"},
		{Usage, "--type x", "find a --type x"},
		{Usage, "--size +", "find a --size +"},
		{Usage, "not a time", "find a --newer soon"},
		{Usage, "exclude", "find a --since now --snapshot latest"},
		{Usage, "takes no path", "find a --snapshot latest:x"},
		{Usage, "accepts 1 arg", "find"},
		{NoRecoveryPoint, `no recovery point of "mail"`, "find a --workload mail"},
		{NoRecoveryPoint, "no snapshot ffff", "find a --snapshot ffff"},
		{NoRecoveryPoint, "nothing matches a in 1 recovery points", "find a"},
	} {
		l.fails(tt.code, tt.message, strings.Fields(tt.args)...)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/srv/a-b_c.pdf": "/srv/a-b_c.pdf", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "ü": "'ü'", "a\nb": `$'a\x0ab'`, "\xff'": `$'\xff\x27'`, `a\b`: `'a\b'`, "$x": "'$x'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got := globEscape(`/a*b?[c]{d}\`); got != `/a\*b\?\[c]\{d}\\` {
		t.Errorf("glob: %s", got)
	}
}

// What does not fit any more is counted, and nothing false is said of the rest.
func TestFindForgetsAloud(t *testing.T) {
	l := &timeline{workload: "files", tracks: map[string]*track{}, most: 2}
	point := func() int {
		l.points = append(l.points, repo.Snapshot{Summary: repo.Summary{ID: strings.Repeat(fmt.Sprint(len(l.points)), 64)}})
		return len(l.points) - 1
	}
	entry := func(name string, size int64) *catalog.Entry { return &catalog.Entry{Path: []byte(name), Size: size} }
	point()
	l.begin(entry("a", 1))
	l.begin(entry("b", 1))
	l.begin(entry("c", 1))
	now := point()
	l.end([]byte("a"), now, false)
	l.begin(entry("a", 2))
	l.end([]byte("b"), now, true)
	now = point()
	l.end([]byte("c"), now, true)
	if len(l.tracks) != 2 || l.dropped != 2 || l.kept != 2 {
		t.Fatalf("%d paths, %d versions, %d dropped", len(l.tracks), l.kept, l.dropped)
	}
	w := &lab{world: &world{}}
	w.world.run("version")
	a, b := w.app.findRecord(l, "a"), w.app.findRecord(l, "b")
	if !a.Present || a.More != 1 || len(a.Versions) != 1 || a.Versions[0].State != "replaced" || !a.AbsentSince.IsZero() {
		t.Errorf("a = %+v", a)
	}
	if b.Present || b.Versions[0].State != "absent" || b.More != 0 {
		t.Errorf("b = %+v", b)
	}
	l.end([]byte("a"), now, true)
	if a = w.app.findRecord(l, "a"); a.Present {
		t.Errorf("a after its end = %+v", a)
	}
}
