package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// change makes one difference of each kind between two points.
func change(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	for _, name := range []string{"d/content", "d/mode", "d/times", "d/touched", "d/gone", "other/x", "kind"} {
		l.write(name, "before")
	}
	if err := os.Symlink("a", filepath.Join(l.src, "link")); err != nil {
		t.Fatal(err)
	}
	l.backup()
	l.write("d/content", "after, and longer")
	l.write("d/new", "new")
	l.remove("d/gone")
	l.remove("kind")
	l.remove("link")
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Mkdir(filepath.Join(l.src, "kind"), 0o755))
	do(os.Symlink("b", filepath.Join(l.src, "link")))
	do(os.Chmod(filepath.Join(l.src, "d/mode"), 0o600))
	do(os.Chtimes(filepath.Join(l.src, "d/times"), time.Time{}, time.Unix(1e9, 0)))
	do(os.Chmod(filepath.Join(l.src, "d/touched"), 0o600))
	do(os.Chmod(filepath.Join(l.src, "d/touched"), 0o644))
	l.backup()
	return l
}

func TestDiff(t *testing.T) {
	l := change(t)
	data := l.must("diff", "files@latest~1", "latest")
	got := map[string]string{}
	for _, c := range list(data, "changes") {
		name := strings.TrimPrefix(fmt.Sprint(c["path"]), l.src+"/")
		got[name] = strings.TrimSpace(fmt.Sprint(c["change"], " ", c["what"]))
	}
	for name, want := range map[string]string{
		"d/content": "modified [content times]", "d/new": "added <nil>", "d/gone": "removed <nil>", "kind": "modified [type]",
		"link": "modified [content times]", "d/mode": "modified [mode]", "d/times": "modified [times]", "d": "modified [times]", l.src: "modified [times]",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("also listed: %v", got)
	}
	added, _ := data["added"].(map[string]any)
	removed, _ := data["removed"].(map[string]any)
	what, _ := data["modified_what"].(map[string]any)
	if added["files"] != 1.0 || added["bytes"] != 3.0 || removed["files"] != 1.0 || what["mode"] != 1.0 || data["touched"] != 1.0 || data["mass_change"] != false || data["files_before"] != 7.0 {
		t.Errorf("data = %v", data)
	}
	from, _ := data["from"].(map[string]any)
	if from["snapshot_id"] != l.ids[0] {
		t.Errorf("from = %v", from)
	}
}

func TestDiffForms(t *testing.T) {
	l := change(t)
	same := l.must("diff", l.ids[1], l.ids[1])
	if len(list(same, "changes")) != 0 || same["touched"] != 0.0 {
		t.Errorf("a snapshot differs from itself: %v", same)
	}
	for _, args := range []string{
		"diff files@latest~1 files@latest --path " + l.src + "/d/content",
		"diff files@latest~1:" + l.src + "/d/content files@latest",
		"diff " + l.ids[0][:6] + " " + l.ids[1] + " --path " + strings.Trim(l.src, "/") + "/d//content/",
	} {
		data := l.must(strings.Fields(args)...)
		if c := list(data, "changes"); len(c) != 1 || c[0]["path"] != l.src+"/d/content" || data["files_before"] != 1.0 {
			t.Errorf("%s: %v", args, data)
		}
	}
	if exit := l.run("diff", "latest~1", "latest"); exit != 0 {
		t.Fatalf("exit %d: %s", exit, l.stderr.String())
	}
	text := l.stdout.String()
	for _, want := range []string{"CHANGE\tSIZE\tWHAT\tPATH\n", "\nmodified\t17\tcontent,times\t" + l.src + "/d/content\n", "\nadded\t3\t\t" + l.src + "/d/new\n", "  added     1 files (3), 0 directories, 0 others\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	l.run("diff", "latest~1", "latest", "--stat")
	if text := l.stdout.String(); strings.Contains(text, "d/content") || !strings.Contains(text, "  modified  3 files (") {
		t.Errorf("--stat: %s", text)
	}
	l.run("diff", "latest~1", "latest", "-o", "name")
	if text := l.stdout.String(); strings.Count(text, "\n") != 9 {
		t.Errorf("names: %s", text)
	}
	l.fails(NoRecoveryPoint, "has no /nowhere", "diff", "latest~1", "latest", "--path", "/nowhere")
	l.fails(NoRecoveryPoint, "2 recovery points, 7 back", "diff", "latest~7", "latest")
	l.fails(Usage, "two paths", "diff", "latest~1:a", "latest:b")
	l.fails(Usage, "does not name a snapshot", "diff", "latest~1", ".")
	l.fails(Usage, "accepts 2 arg", "diff", "latest")
}

func TestDiffWarnsOfMassChange(t *testing.T) {
	l := newLab(t)
	for i := range 40 {
		l.write(fmt.Sprintf("f%02d", i), "plain")
	}
	l.backup()
	for i := range 12 {
		l.write(fmt.Sprintf("f%02d", i), "\x93\x01\x88")
	}
	l.backup()
	if data := l.must("diff", "latest~1", "latest", "--stat"); data["mass_change"] != false || data["rewritten_ratio"] != 0.3 {
		t.Errorf("at the limit: %v", data)
	}
	l.remove("f39")
	l.backup()
	if exit := l.run("diff", "latest~2", "latest", "--stat"); exit != 0 || !strings.Contains(l.stderr.String(), "30 % of the files were rewritten and 2 % removed") || !strings.Contains(l.stdout.String(), "possible encryption") {
		t.Errorf("exit %d: %s%s", exit, l.stdout.String(), l.stderr.String())
	}
	if data := l.must("diff", "latest~2", "latest", "--path", l.src); data["mass_change"] != true || data["files_before"] != 40.0 {
		t.Errorf("below the limit: %v", data)
	}
}
