package e2e

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// listed is one object in a listing.
type listed struct {
	Path    string    `json:"path"`
	Raw     []byte    `json:"path_bytes"`
	Type    string    `json:"type"`
	Mode    string    `json:"mode"`
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Size    int64     `json:"size_bytes"`
	MTime   time.Time `json:"modified_at"`
	Target  string    `json:"target"`
	Change  string    `json:"change"`
	What    []string  `json:"what"`
	Present bool      `json:"present"`
	Absent  time.Time `json:"absent_since"`
}

// real is the path in its own bytes.
func (l listed) real() string {
	if len(l.Raw) > 0 {
		return "/" + strings.TrimPrefix(string(l.Raw), "/")
	}
	return l.Path
}

// TestLook asks a snapshot of hostile names for each of them by cat, ls and find,
// and two snapshots for what differs.
func TestLook(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	smallTorture(t, s.source(), 71)
	s.init(t)
	s.backup(t, 0)
	first := pictureOf(t, s.source())
	copyAll(t, s.source(), s.Path("saved"))
	t.Cleanup(func() { _ = tree.Remove(s.Path("saved")) })
	if _, err := tree.Mutate(s.source(), tree.Mutation{Seed: 72, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	wipeAll(t, s.source("names/*"), s.source("names/\xff"))
	s.backup(t, 0)
	second := pictureOf(t, s.source())

	t.Run("ls", func(t *testing.T) { lookLs(t, s, first) })
	t.Run("cat", func(t *testing.T) { lookCat(t, s, first) })
	t.Run("find", func(t *testing.T) { lookFind(t, s, first, second) })
	t.Run("diff", func(t *testing.T) { lookDiff(t, s, first, second) })
	t.Run("for people", func(t *testing.T) {
		for _, args := range [][]string{
			{"ls", "files@latest~1", "-l", "-R"}, {"ls", "files@latest~1:" + s.source("names")}, {"find", "*"}, {"diff", "latest~1", "latest"}, {"snapshots"},
		} {
			lookPlain(t, s.run(t, 0, args...).Stdout, args)
		}
	})
}

// lookPlain tells of bytes that would harm a terminal.
func lookPlain(t *testing.T, out []byte, args []string) {
	t.Helper()
	if !utf8.Valid(out) {
		t.Errorf("%q prints what is no UTF-8", args)
	}
	for _, r := range string(out) {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == '\u202e' || r == '\u200b' {
			t.Errorf("%q prints the character %U", args, r)
			return
		}
	}
}

func lookLs(t *testing.T, s *site, want *tree.Picture) {
	var d struct {
		Entries []listed `json:"entries"`
	}
	dataOf(t, s.run(t, 0, "ls", "files@latest~1", "-R", "--json"), &d)
	got := map[string]listed{}
	for _, e := range d.Entries {
		if _, twice := got[e.real()]; twice {
			t.Errorf("%q is listed twice", e.real())
		}
		got[e.real()] = e
	}
	types := map[string]string{"directory": "dir", "char device": "char_device", "block device": "block_device"}
	for _, o := range want.Objects {
		if o.Type() == "socket" || o.Path == "." {
			continue
		}
		e, ok := got[s.source(o.Path)]
		delete(got, s.source(o.Path))
		kind := types[o.Type()]
		if kind == "" {
			kind = o.Type()
		}
		switch {
		case !ok:
			t.Errorf("%q is not listed", o.Path)
		case e.Type != kind || e.Mode != fmt.Sprintf("%04o", o.Mode&07777) || e.UID != o.UID || e.GID != o.GID || !e.MTime.Equal(o.MTime):
			t.Errorf("%q is listed as %+v", o.Path, e)
		case kind == "file" && e.Size != o.Size, utf8.ValidString(o.Target) && e.Target != o.Target:
			t.Errorf("%q is listed as %+v", o.Path, e)
		}
	}
	delete(got, s.source())
	for path := range got {
		t.Errorf("%q is listed, and was not there", path)
	}
	// One folder, by a hostile name.
	d.Entries = nil
	dataOf(t, s.run(t, 0, "ls", "files@latest~1:"+s.source("names/dir \xff"), "--json"), &d)
	if len(d.Entries) != 1 || d.Entries[0].real() != s.source("names/dir \xff/in\nside") {
		t.Errorf("a folder of one file: %+v", d.Entries)
	}
	s.run(t, 13, "ls", "files@latest~1:"+s.source("names/no such"))
}

func lookCat(t *testing.T, s *site, want *tree.Picture) {
	n := 0
	for _, o := range want.Objects {
		dir := path.Dir(o.Path)
		if o.Type() != "file" || dir != "names" && dir != "sparse" && dir != "pages" && !strings.HasPrefix(o.Path, "names/dir") {
			continue
		}
		if o.Size > 64<<20 {
			continue
		}
		n++
		r := s.Run("cat", "files@latest~1:"+s.source(o.Path), "--identity-file", s.Kit)
		if r.Code != 0 || string(r.Stdout) != getFile(t, s.Path("saved", o.Path)) {
			t.Errorf("cat %q: exit %d, %d bytes of %d: %s", o.Path, r.Code, len(r.Stdout), o.Size, r.Stderr)
		}
	}
	if n < 60 {
		t.Errorf("only %d files were looked at", n)
	}
	s.run(t, 13, "cat", "files@latest:"+s.source("names/\xff"), "--identity-file", s.Kit) // it is gone
	if r := s.Run("cat", "files@latest:"+s.source("names"), "--identity-file", s.Kit); r.Code == 0 {
		t.Error("cat of a directory succeeds")
	}
	out := s.Path("out.bin")
	s.run(t, 0, "cat", "files@latest~1:"+s.source("names/new\nline"), "--identity-file", s.Kit, "--out", out)
	if getFile(t, out) != getFile(t, s.Path("saved/names/new\nline")) {
		t.Error("cat --out wrote something else")
	}
}

func lookFind(t *testing.T, s *site, first, second *tree.Picture) {
	find := func(args ...string) map[string]listed {
		t.Helper()
		var d struct {
			Matches []listed `json:"matches"`
		}
		dataOf(t, s.run(t, 0, append([]string{"find", "--json"}, args...)...), &d)
		got := map[string]listed{}
		for _, m := range d.Matches {
			got[m.real()] = m
		}
		return got
	}
	// Everything in the folder of names, in both states.
	want := map[string]bool{}
	for _, p := range []*tree.Picture{first, second} {
		for _, o := range p.Objects {
			if path.Dir(o.Path) == "names" && o.Type() != "socket" {
				_, there := second.Find(o.Path)
				want[s.source(o.Path)] = there
			}
		}
	}
	got := find(s.source("names") + "/*")
	for name, there := range want {
		m, ok := got[name]
		switch {
		case !ok:
			t.Errorf("%q is not found", name)
		case m.Present != there || there == !m.Absent.IsZero():
			t.Errorf("%q is there: %t; find says %t, gone since %v", name, there, m.Present, m.Absent)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%q is found and was never there", name)
	}
	for pattern, name := range map[string]string{`\*`: "*", `new?line`: "new\nline", "日本語": "日本語", `\[a-z\]`: "[a-z]", `back\\slash`: `back\slash`} {
		if _, ok := find(pattern)[s.source("names", name)]; !ok {
			t.Errorf("the pattern %q does not find %q", pattern, name)
		}
	}
	if got := find("--regex", `/names/new\nline$`); len(got) != 1 {
		t.Errorf("an expression with a line feed finds %d names", len(got))
	}
	files := find("*", "--type", "f", "--snapshot", "latest~1")
	if n := first.Count()["file"]; len(files) != n {
		t.Errorf("find --type f gives %d files of %d", len(files), n)
	}
	s.run(t, 13, "find", "no such name")
}

func lookDiff(t *testing.T, s *site, first, second *tree.Picture) {
	var d struct {
		Changes []listed `json:"changes"`
	}
	dataOf(t, s.run(t, 0, "diff", "files@latest~1", "files@latest", "--json"), &d)
	got := map[string][]string{}
	for _, c := range d.Changes {
		got[c.real()] = append(got[c.real()], c.Change)
	}
	want, links := map[string]string{}, map[string]bool{}
	for _, c := range tree.Compare(first, second, restorable()) {
		switch c.What {
		case "hard links":
			links[c.Path] = true // a file with more or fewer names may count as modified
		case "missing":
			want[c.Path] = "removed"
		case "extra":
			want[c.Path] = "added"
		default:
			want[c.Path] = "modified"
		}
	}
	for name, change := range want {
		at := s.source(name)
		says := got[at]
		delete(got, at)
		before, _ := first.Find(name)
		after, _ := second.Find(name)
		if before != nil && after != nil && before.Mode&unix.S_IFMT != after.Mode&unix.S_IFMT && len(says) > 0 {
			continue // gone and come as something else, or modified: both are right
		}
		if !slices.Equal(says, []string{change}) {
			t.Errorf("%q was %s; diff says %v", name, change, says)
		}
	}
	for name, says := range got {
		if rel := strings.TrimPrefix(name, s.source()+"/"); !links[rel] {
			t.Errorf("%q is the same; diff says %v", rel, says)
		}
	}
	d.Changes = nil
	dataOf(t, s.run(t, 0, "diff", "files@latest", "files@latest", "--json"), &d)
	if len(d.Changes) != 0 {
		t.Errorf("a snapshot differs from itself: %v", d.Changes)
	}
}
