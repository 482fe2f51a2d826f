package badinput

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// badWords mistypes: commands, flags, workloads, snapshots, times, the
// configuration. Nothing of it may touch a region.
func badWords(t *testing.T, f *fixture) {
	t.Run("command line", func(t *testing.T) {
		t.Parallel()
		badCommandLine(t, f)
	})
	t.Run("references", func(t *testing.T) {
		t.Parallel()
		badReferences(t, f)
	})
	t.Run("ambiguous prefix", func(t *testing.T) {
		t.Parallel()
		ambiguousPrefix(t)
	})
	t.Run("configuration", func(t *testing.T) {
		t.Parallel()
		badConfiguration(t, f)
	})
	t.Run("source", func(t *testing.T) {
		t.Parallel()
		badSources(t, f)
	})
}

func badCommandLine(t *testing.T, f *fixture) {
	w := f.clone(t)
	for _, c := range []struct {
		args []string
		word string // of message or hint
	}{
		{[]string{"bakcup", "files"}, `"backup"`},
		{[]string{"config", "chekc"}, `"check"`},
		{[]string{"backup", "fles"}, `"files"`},
		{[]string{"backup", "nothing-like-it"}, "files"},
		{[]string{"backup", "files", "--fulll"}, "fulll"},
		{[]string{"backup", "files", "--all"}, "--all"},
		{[]string{"backup", "files", "--require-regions", "many"}, "require-regions"},
		{[]string{"backup", "files", "--require-regions", "-1"}, "require-regions"},
		{[]string{"backup", "files", "--require-regions", "9"}, "3"},
		{[]string{"backup", "files", "--tag", "novalue"}, "KEY=VALUE"},
		{[]string{"backup", "files", "--lock-wait", "soon"}, "lock-wait"},
		{[]string{"backup", "files", "--timeout", "-5s"}, "timeout"},
		{[]string{"snapshots", "--last", "-1"}, "last"},
		{[]string{"snapshots", "--since", "yesterday-ish"}, "2026-"},
		{[]string{"snapshots", "--output", "xml"}, "json"},
		{[]string{"restore", "files", "extra", "--to", w.Path("none")}, ""},
		{[]string{"restore", "files", "--to", w.Path("none"), "--workers", "-3", "--identity-file", w.kit}, "workers"},
		{[]string{"restore", "files", "--to", w.Path("empty snapshot"), "--snapshot", "", "--identity-file", w.kit}, "snapshot"},
		{[]string{"restore", "files", "--to", w.Path("empty time"), "--at", "", "--identity-file", w.kit}, "at"},
		{[]string{"restore", "files", "--to", w.Path("none"), "--at", "12:00", "--snapshot", "latest"}, "--at"},
		{[]string{"restore", "files", "--to", w.Path("none"), "--config", "x", "--repo", "file:///x"}, "--repo"},
		{[]string{"ls"}, ""},
		{[]string{"cat", "files@latest", "--identity-file", w.kit}, "which file"},
	} {
		p := w.refuses(64, c.args...)
		mustSay(t, p.Message+" "+p.Hint, c.word)
	}
	mustSay(t, w.fails([]int{64}, "cat", "files@latest:"+w.source+"/zz/added", "--identity-file", w.kit).Hint, "--out")
	mustSay(t, w.refuses(13, "restore", "fles", "--to", w.Path("none"), "--identity-file", w.kit).Hint, "files")
	mustSay(t, w.refuses(13, "snapshots", "fles").Hint, "files")
	if got := len(w.snapshotIDs()); got != 2 {
		t.Errorf("%d snapshots, want 2", got)
	}
}

func badReferences(t *testing.T, f *fixture) {
	w := f.clone(t)
	var data struct {
		Snapshots []struct {
			At time.Time `json:"recovery_point_at"`
		}
	}
	w.Must("snapshots", "--json").Data(&data)
	oldest := data.Snapshots[0].At
	restore := func(flags ...string) []string {
		return append([]string{"restore", "files", "--to", w.Path("none"), "--identity-file", w.kit}, flags...)
	}
	// Before the oldest, and beyond what there is.
	p := w.refuses(13, restore("--at", oldest.Add(-time.Hour).Format(time.RFC3339))...)
	mustSay(t, p.Message, "at or before", oldest.Add(-time.Hour).Format("2006-01-02T15:04:05Z"))
	mustSay(t, p.Hint, oldest.Format("2006-01-02T15:04:05Z"), "lifeboat snapshots")
	mustSay(t, w.refuses(13, restore("--snapshot", "files@2001-02-03T04:05:06Z")...).Hint, "oldest")
	mustSay(t, w.refuses(13, restore("--snapshot", "latest~2")...).Message, "2 recovery points")
	mustSay(t, w.refuses(13, "ls", "files@latest~7").Message, "7")
	// Ids that are nobody's.
	mustSay(t, w.refuses(13, restore("--snapshot", "0000000000")...).Hint, "lifeboat snapshots")
	mustSay(t, w.refuses(13, "ls", "ffffffffffffffff").Hint, "lifeboat snapshots")
	mustSay(t, w.refuses(13, "ls", strings.Repeat("0", 64)).Hint, "lifeboat snapshots")
	mustSay(t, w.refuses(13, "ls", "nobody@latest").Hint, "files")
	for _, ref := range []string{"latest~", "latest~x", "latest~-1", "files@", "files@soon", "@latest", ":", "files@2026-13-45T00:00Z", "../../etc", "files@latest~99999999999999999999"} {
		w.refuses(64, restore("--snapshot", ref)...)
	}
	for _, at := range []string{"soon", "25:61", "2026-02-30 00:00", "90 lightyears ago"} {
		mustSay(t, w.refuses(64, restore("--at", at)...).Hint, "2026-")
	}
	// Paths that are not in it.
	p = w.refuses(13, "ls", "files@latest:/no/such/path")
	mustSay(t, p.Message, "/no/such/path")
	mustSay(t, p.Hint, "lifeboat find")
	w.refuses(13, "cat", "files@latest:/no/such/path", "--identity-file", w.kit)
	w.refuses(64, "cat", "files@latest:"+w.source, "--identity-file", w.kit)
	if _, err := os.Lstat(w.Path("none")); err == nil {
		t.Error("a refused restore has made its target")
	}
	// What is unique is enough, also in part.
	w.works(restore("--snapshot", f.ids[0][:12])...)
	sameAs(t, f.first, w.Path("none"))
}

// ambiguousPrefix takes so many snapshots that two ids begin with the same four digits.
func ambiguousPrefix(t *testing.T) {
	const workloads = 400
	w := newWorld(t)
	w.source, w.held = w.Path("source"), nil
	for i := range workloads {
		placeFile(t, filepath.Join(w.source, fmt.Sprintf("w%03d", i), "file"), []byte("x"))
	}
	w.edit = func(text string) string {
		head, tail, _ := strings.Cut(text, "workloads:\n")
		_, paths, _ := strings.Cut(tail, "paths: {state")
		var b strings.Builder
		for i := range workloads {
			fmt.Fprintf(&b, "  - {name: w%03d, kind: volume, volume: {paths: [%q]}}\n", i, filepath.Join(w.source, fmt.Sprintf("w%03d", i)))
		}
		return head + "workloads:\n" + b.String() + "paths: {state" + paths
	}
	w.configure()
	w.Must("init", "--yes", "--kit", w.kit)
	for range 5 {
		w.Must("backup", "--all")
		by := map[string][]string{}
		for _, id := range w.snapshotIDs() {
			if by[id[:4]] = append(by[id[:4]], id); len(by[id[:4]]) < 2 {
				continue
			}
			p := w.refuses(64, "ls", id[:4])
			mustSay(t, p.Message, by[id[:4]][0][:12], by[id[:4]][1][:12])
			mustSay(t, p.Hint, "more")
			w.works("ls", id)
			return
		}
	}
	t.Error("no two snapshots begin alike")
}

// mistakes is a configuration with twenty of them, each with words that its
// message must hold.
func mistakes() (text string, want []string) {
	for _, line := range []struct{ text, want string }{
		{"version: 2", "version"},
		{"insatnce: {name: x}", `"instance"`},
		{"regions:", ""},
		{"  required: 9", "required"},
		{"  list:", ""},
		{"    - {name: a, url: \"ftp://host/path\"}", "url"},
		{"    - {name: a, url: \"file:///srv/b\"}", "a"},
		{"    - {name: \"Not A Name\", url: \"file:///srv/c\"}", "Not A Name"},
		{"    - {name: d, ulr: \"file:///srv/d\"}", `"url"`},
		{"    - {name: e, url: \"s3://bucket/p\", s3: {secret_access_key: AKIAVERYSECRET}}", "secret_access_key"},
		{"    - {name: f, url: \"file:///srv/f\", limits: {upload: fast}}", "upload"},
		{"repository: {id: 12345}", "id"},
		{"workloads:", ""},
		{"  - {name: files, kind: volume, volume: {paths: [relative/path]}}", "relative/path"},
		{"  - {name: files, kind: volume, volume: {paths: [/srv/x]}}", "files"},
		{"  - {name: db, kind: postgres}", "postgres"},
		{"  - {name: odd, kind: volum, volume: {paths: [/srv/x]}}", `"volume"`},
		{"  - {name: empty, kind: volume, volume: {paths: []}}", "paths"},
		{"  - {name: glob, kind: volume, volume: {paths: [/srv/x], exclude: [\"[\"]}}", "exclude"},
		{"  - {name: late, kind: volume, schedule: {cron: \"61 * * * *\"}, volume: {paths: [/srv/x]}}", "cron"},
		{"  - {name: goal, kind: volume, objectives: {rpo: soonish}, volume: {paths: [/srv/x]}}", "rpo"},
		{"verify_writes: perhaps", "full"},
		{"paths: {state: relative, cache: /var/cache}", "state"},
		{"retention: {keep: 7}", "retention"},
	} {
		text += line.text + "\n"
		want = append(want, line.want)
	}
	return text, want
}

func badConfiguration(t *testing.T, f *fixture) {
	w := f.clone(t)
	good, err := os.ReadFile(w.Path("lifeboat.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text, want := mistakes()
	placeFile(t, w.Path("lifeboat.yaml"), []byte(text))
	for _, args := range [][]string{{"config", "check"}, {"backup", "files"}, {"snapshots"}, {"status"}} {
		r := w.Run(append(args, "--json")...)
		if r.Code != 78 {
			t.Errorf("exit %d, want 78: %v", r.Code, brief(r))
		}
		e := r.Envelope()
		if e.Error == nil || e.Error.Code != "config" || e.Error.Hint == "" {
			t.Errorf("error %+v: %v", e.Error, brief(r))
			continue
		}
		plain := w.Run(args...)
		if plain.Code != 78 {
			t.Errorf("exit %d, want 78: %v", plain.Code, plain)
		}
		for _, all := range []string{string(plain.Stdout) + string(plain.Stderr), string(r.Stdout)} {
			var missing []string
			for i, word := range want {
				if word != "" && !saysAt(all, i+1, word) {
					missing = append(missing, fmt.Sprintf("line %d: %s", i+1, word))
				}
			}
			if len(missing) > 0 {
				t.Errorf("%v does not tell of %q in:\n%s", args, missing, all)
			}
			if strings.Contains(all, "AKIAVERYSECRET") {
				t.Errorf("%v prints a secret: %s", args, all)
			}
		}
	}

	// No file, and files that are no configuration.
	for name, c := range map[string]struct {
		data []byte
		word string
	}{
		"empty": {nil, "regions"}, "binary": {[]byte{0, 1, 2, 0xff}, ""}, "list": {[]byte("- a\n- b\n"), ""}, "not YAML": {[]byte("regions: [\n"), ""},
		"JSON": {[]byte(`{"version": 1}`), "regions"}, "tabs": {[]byte("version: 1\nregions:\n\trequired: 2\n"), ""}, "two": {append(append(append([]byte{}, good...), []byte("---\n")...), good...), ""},
		"twice": {append(append([]byte{}, good...), []byte("version: 1\n")...), "version"}, "bomb": {[]byte(bomb()), ""},
		"large": {[]byte("version: 1\n# " + strings.Repeat("x", 5<<20)), ""},
	} {
		placeFile(t, w.Path("lifeboat.yaml"), c.data)
		if p := w.fails([]int{78}, "backup", "files"); c.word != "" && !strings.Contains(p.Message, c.word) {
			t.Errorf("%s: %q does not say %q", name, p.Message, c.word)
		}
	}
	if err := os.Remove(w.Path("lifeboat.yaml")); err != nil {
		t.Fatal(err)
	}
	mustSay(t, w.refuses(78, "backup", "files").Message, w.Path("lifeboat.yaml"))
	mustSay(t, w.refuses(78, "config", "check").Hint, "config check")
	flags := w.Flags
	w.Flags = nil
	p := w.refuses(78, "backup", "files")
	mustSay(t, p.Message, "no configuration")
	mustSay(t, p.Hint, "--config", "--repo")
	w.Flags = flags
	if err := os.Mkdir(w.Path("lifeboat.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.refuses(78, "backup", "files")
	if err := os.Remove(w.Path("lifeboat.yaml")); err != nil {
		t.Fatal(err)
	}
	placeFile(t, w.Path("lifeboat.yaml"), good)
	w.works("backup", "files")
}

// saysAt looks for a word in what is told of a line: a line of text with its
// number, or an object of JSON with it.
func saysAt(all string, line int, word string) bool {
	var doc struct {
		Data struct {
			Problems []map[string]any `json:"problems"`
		} `json:"data"`
		Error struct {
			Message string   `json:"message"`
			Causes  []string `json:"causes"`
		} `json:"error"`
	}
	if json.Unmarshal([]byte(all), &doc) != nil {
		doc.Error.Message = all
	}
	for _, p := range doc.Data.Problems {
		text, _ := json.Marshal(p)
		plain := strings.ReplaceAll(string(text), `\"`, `"`)
		if at, ok := p["line"].(float64); ok && int(at) == line && strings.Contains(plain, word) {
			return true
		}
	}
	for text := range strings.Lines(doc.Error.Message + "\n" + strings.Join(doc.Error.Causes, "\n")) {
		if strings.Contains(text, fmt.Sprintf("%d:", line)) && strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// bomb is a small document that is large once its aliases are followed.
func bomb() string {
	text := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9), i)
	}
	return text
}

// badSources: what is to be protected is not there, or is something odd.
func badSources(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.source, w.held = w.Path("source"), nil
	w.configure()
	for _, args := range [][]string{{"backup", "files"}, {"backup", "files", "--dry-run"}} {
		p := w.refuses(1, args...)
		mustSay(t, p.Message, w.source)
	}
	if got := len(w.snapshotIDs()); got != 2 {
		t.Errorf("%d snapshots, want 2: a source that is gone is no empty snapshot", got)
	}
	// One of two is gone: the other is kept, and it is said.
	placeFile(t, filepath.Join(w.source, "file"), []byte("x"))
	w.replace(`volume: {paths: ["`+w.source+`"]}`, `volume: {paths: ["`+w.source+`", "`+w.Path("gone")+`"]}`)
	p := w.fails([]int{1, 3}, "backup", "files")
	mustSay(t, p.Message, w.Path("gone"))
	w.edit = nil
	w.configure()
	// The regions lie in the source: they are not backed up into themselves.
	w.source, w.held = w.Dir, nil
	w.configure()
	r := w.Run("backup", "files", "--json")
	if r.Code == 0 {
		if strings.Contains(string(w.works("ls", "files@latest", "-R").Stdout), "format.json") {
			t.Error("a region was backed up into itself")
		}
	} else {
		w.failed([]int{1, 64, 78}, r)
	}
}
