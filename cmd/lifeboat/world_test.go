package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func goType(v any) string { return fmt.Sprintf("%T", v) }

const sampleFile = `version: 1
instance: {timezone: Europe/Berlin}
regions:
  required: 1
  list:
    - {name: fra, url: "s3://acme/dr?region=eu-1&path_style=true", s3: {endpoint: "https://s3.example", access_key_id: {from_env: ID}, secret_access_key: {from_env: KEY}}, limits: {upload: 1MiB, connections: 4}}
    - {name: cellar, url: "file:///mnt/cellar", optional: true}
workloads:
  - {name: files, kind: volume, volume: {paths: [/srv/files]}}
  - {name: mail, kind: volume, volume: {paths: [/var/mail]}}
paths: {state: /from/file}
`

// configuredWorld is a run with the sample file and a body for "try".
func configuredWorld(t *testing.T, body func(a *app) (any, error)) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(path, []byte(sampleFile), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{env: map[string]string{"LIFEBOAT_CONFIG": path, "ID": "the-id", "KEY": "the-key"}}
	w.body = func(context.Context, []string) (any, bool, error) {
		data, err := body(w.app)
		return data, false, err
	}
	return w
}

func TestPrecedence(t *testing.T) {
	w := configuredWorld(t, func(a *app) (any, error) {
		file, err := a.configured()
		if err != nil {
			return nil, err
		}
		return map[string]string{"dir": a.stateDir(), "origin": a.origin(file, "paths.state")}, nil
	})
	path := w.env["LIFEBOAT_CONFIG"]
	steps := []struct {
		prepare     func()
		args        []string
		dir, origin string
	}{
		{func() {}, nil, "/from/file", path + ":11"},
		{func() { w.env["LIFEBOAT_STATE_DIR"] = "/from/env" }, nil, "/from/env", "environment LIFEBOAT_STATE_DIR"},
		{func() {}, []string{"--state-dir", "/from/flag"}, "/from/flag", "flag --state-dir"},
	}
	for _, s := range steps {
		s.prepare()
		w.run(append([]string{"try", "--json"}, s.args...)...)
		data, _ := w.document(t)["data"].(map[string]any)
		if data["dir"] != s.dir || data["origin"] != s.origin {
			t.Errorf("%v: %v, want %s from %s", s.args, data, s.dir, s.origin)
		}
	}
	w.env["LIFEBOAT_TIMEOUT"] = "soon"
	if exit := w.run("try", "--json"); exit != int(Usage) {
		t.Errorf("a bad variable: exit %d", exit)
	}
	if e := errorOf(w.document(t)); !strings.Contains(fmt.Sprint(e["message"]), "LIFEBOAT_TIMEOUT") {
		t.Errorf("%v", e)
	}
	delete(w.env, "LIFEBOAT_TIMEOUT")
	w.env["LIFEBOAT_STATE_DIR"] = ""
	w.env["LIFEBOAT_CONFIRM"] = "files"
	w.env["LIFEBOAT_YES"] = "true"
	w.run("try")
	if w.app.opt.Confirm != "" || !w.app.opt.Yes {
		t.Errorf("options from the environment: %+v", w.app.opt)
	}
}

func TestDefaultDirs(t *testing.T) {
	w := &world{env: map[string]string{"STATE_DIRECTORY": "/var/lib/x:/other", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/u"}}
	w.run("version")
	if got := w.app.stateDir(); got != "/var/lib/x" {
		t.Errorf("state %s", got)
	}
	want := "/xdg/lifeboat"
	if os.Geteuid() == 0 {
		want = "/var/cache/lifeboat"
	}
	if got := w.app.cacheDir(); got != want {
		t.Errorf("cache %s, want %s", got, want)
	}
}

func TestRegions(t *testing.T) {
	var set regionSet
	w := configuredWorld(t, func(a *app) (_ any, err error) {
		set, err = a.regions()
		if err != nil {
			return nil, err
		}
		_, err = a.readFrom(set)
		return nil, err
	})
	if exit := w.run("try"); exit != 0 {
		t.Fatalf("exit %d: %s", exit, w.stderr.String())
	}
	fra, cellar := set.Regions[0], set.Regions[1]
	if fra.Name != "fra" || fra.URL != "s3://acme/dr" || fra.Connections != 4 || fra.Upload != 1<<20 || set.Required != 1 {
		t.Errorf("fra = %+v", fra)
	}
	if s := fra.S3; s.Bucket != "acme" || s.Prefix != "dr" || s.Region != "eu-1" || !s.PathStyle || s.Endpoint != "https://s3.example" {
		t.Errorf("fra.S3 = %+v", s)
	}
	if id, err := fra.S3.AccessKeyID(t.Context()); err != nil || id.Reveal() != "the-id" {
		t.Errorf("access key: %v, %v", id.Reveal(), err)
	}
	if cellar.Dir != "/mnt/cellar" || cellar.S3 != nil || !cellar.Optional {
		t.Errorf("cellar = %+v", cellar)
	}
	if exit := w.run("try", "--region", "cellra"); exit != int(Usage) || !strings.Contains(w.stderr.String(), `did you mean "cellar"?`) {
		t.Errorf("exit %d: %s", exit, w.stderr.String())
	}
	delete(w.env, "LIFEBOAT_CONFIG")
	exit := w.run("try", "--repo", "s3://acme/a?region=x,y", "--repo", "file:///mnt/Acme", "--repo", "file:///mnt2/acme")
	if exit != 0 || len(set.Regions) != 3 || set.Required != 2 {
		t.Fatalf("exit %d: %s, %+v", exit, w.stderr.String(), set)
	}
	for i, want := range []string{"acme", "acme-2", "acme-3"} {
		if set.Regions[i].Name != want {
			t.Errorf("name %q, want %q", set.Regions[i].Name, want)
		}
	}
	if got := set.Regions[0].S3.Region; got != "x,y" {
		t.Errorf("a comma in a URL: %q", got)
	}
	if exit := w.run("try", "--repo", "s3://id:hunter2@acme/a"); exit != int(Usage) || strings.Contains(w.stderr.String(), "hunter2") {
		t.Errorf("exit %d: %s", exit, w.stderr.String())
	}
}

func TestWorkloads(t *testing.T) {
	var names []string
	var all bool
	w := configuredWorld(t, func(a *app) (any, error) {
		list, err := a.workloads(names, all)
		var out []string
		for _, item := range list {
			out = append(out, item.Name)
		}
		return map[string]any{"names": strings.Join(out, " ")}, err
	})
	for _, tt := range []struct {
		names string
		all   bool
		want  string
		exit  Code
		text  string
	}{
		{"mail files", false, "files mail", OK, ""},
		{"", true, "files mail", OK, ""},
		{"", false, "", Usage, "which workload?"},
		{"mail", true, "", Usage, "exclude each other"},
		{"mial", false, "", Usage, `did you mean "mail"?`},
		{"qqq", false, "", Usage, "configured are: files, mail"},
	} {
		names, all = strings.Fields(tt.names), tt.all
		exit := w.run("try")
		if Code(exit) != tt.exit || !strings.Contains(w.stderr.String(), tt.text) || !strings.Contains(w.stdout.String(), tt.want) {
			t.Errorf("%q: exit %d, %s%s", tt.names, exit, w.stdout.String(), w.stderr.String())
		}
	}
	w.env["LIFEBOAT_CONFIG"] = "/none"
	if exit := w.run("try"); exit != int(ConfigInvalid) {
		t.Errorf("no file: exit %d", exit)
	}
}

func TestReference(t *testing.T) {
	w := configuredWorld(t, func(a *app) (any, error) {
		_, err := a.configured()
		return nil, err
	})
	w.run("try")
	a := w.app
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for text, want := range map[string]reference{
		"9f2c1ab4":                    {ID: "9f2c1ab4"},
		"9f2c:srv/a:b/":               {ID: "9f2c", Path: "srv/a:b"},
		"latest":                      {Latest: true},
		"latest~2:x":                  {Latest: true, Back: 2, Path: "x"},
		"files":                       {Workload: "files"},
		"files:/srv/files":            {Workload: "files", Path: "srv/files"},
		"files@latest~1":              {Workload: "files", Latest: true, Back: 1},
		"files@9f2c1a":                {Workload: "files", ID: "9f2c1a"},
		"files@2026-11-22T14:05Z":     {Workload: "files", At: at("2026-11-22T14:05:00Z")},
		"files@2026-11-22T14:05Z:a/b": {Workload: "files", At: at("2026-11-22T14:05:00Z"), Path: "a/b"},
		"files@2026-11-22 14:05:06":   {Workload: "files", At: at("2026-11-22T13:05:06Z")},
		"files@2026-11-22 14:05:06:a": {Workload: "files", At: at("2026-11-22T13:05:06Z"), Path: "a"},
		"files@90m ago":               {Workload: "files", At: clock()().Add(-90 * time.Minute)},
	} {
		got, err := a.parseReference(text)
		want.Text = text
		same := got.At.Equal(want.At)
		got.At, want.At = time.Time{}, time.Time{}
		if err != nil || !same || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "@latest", "files@", "files@soon", "Files", "latest~", "latest~x", ":x", "files@latest~-1", "a b"} {
		if got, err := a.parseReference(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}

func FuzzReference(f *testing.F) {
	f.Add("files@2026-11-22T14:05Z:a/b")
	f.Add("latest~2:x")
	f.Fuzz(func(t *testing.T, text string) {
		a := newApp(strings.NewReader(""), nil, nil, func(string) string { return "" }, clock())
		ref, err := a.parseReference(text)
		if err == nil && ref.Workload == "" && ref.ID == "" && !ref.Latest {
			t.Errorf("%q names nothing: %+v", text, ref)
		}
	})
}

func TestIdentities(t *testing.T) {
	kit := filepath.Join(t.TempDir(), "kit.txt")
	if err := os.WriteFile(kit, []byte("AGE-SECRET-KEY-1"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := configuredWorld(t, func(a *app) (any, error) {
		sources, err := a.identitySources()
		if err != nil {
			return nil, err
		}
		var out []string
		for _, s := range sources {
			secret, err := s.Read(t.Context())
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprint(s.Label, "=", len(secret.Reveal()), secret))
		}
		return map[string]any{"sources": out}, nil
	})
	w.stdin = "from stdin"
	exit := w.run("try", "--identity-file", kit, "--identity-file", "-")
	if exit != 0 || !strings.Contains(w.stdout.String(), kit+"=16 [secret]") || !strings.Contains(w.stdout.String(), "standard input=10 [secret]") {
		t.Errorf("exit %d: %s%s", exit, w.stdout.String(), w.stderr.String())
	}
	if !strings.Contains(w.stderr.String(), "chmod 600") || strings.Contains(w.stderr.String(), "AGE-SECRET") {
		t.Errorf("stderr: %s", w.stderr.String())
	}
	if exit := w.run("try", "--identity-file", "/none"); exit != int(Usage) {
		t.Errorf("a missing kit: exit %d", exit)
	}
}

func TestPrompts(t *testing.T) {
	type answer func(a *app) error
	mild := answer(func(a *app) error { return a.confirm("Replace it?") })
	severe := answer(func(a *app) error { return a.confirmName("This replaces live data", "files") })
	for _, tt := range []struct {
		name  string
		ask   answer
		args  string
		tty   bool
		stdin string
		want  Code
		text  string
	}{
		{"yes", mild, "--yes", false, "", OK, ""},
		{"typed", mild, "", true, "y\n", OK, "Replace it? [y/N] "},
		{"typed no", mild, "", true, "\n", TargetRefused, "nothing was changed"},
		{"no terminal", mild, "", false, "y\n", Usage, "--yes"},
		{"no input", mild, "--no-input", true, "y\n", Usage, "--yes"},
		{"json never asks", mild, "--json", true, "y\n", Usage, ""},
		{"end of input", mild, "", true, "", Usage, "no answer"},
		{"confirmed", severe, "--confirm files", false, "", OK, ""},
		{"another name", severe, "--confirm mail", true, "files\n", TargetRefused, "does not name the target"},
		{"yes is not enough", severe, "--yes", false, "", Usage, "--confirm files"},
		{"typed name", severe, "", true, "files\n", OK, "Type files to continue"},
		{"typed another", severe, "", true, "file\n", TargetRefused, "does not match"},
	} {
		w := &world{tty: tt.tty, stdin: tt.stdin}
		w.body = func(context.Context, []string) (any, bool, error) { return nil, false, tt.ask(w.app) }
		exit := w.run(append([]string{"try"}, strings.Fields(tt.args)...)...)
		if Code(exit) != tt.want || !strings.Contains(w.stderr.String(), tt.text) {
			t.Errorf("%s: exit %d, want %d: %s", tt.name, exit, tt.want, w.stderr.String())
		}
	}
}

func TestConfigCommands(t *testing.T) {
	w := configuredWorld(t, nil)
	path := w.env["LIFEBOAT_CONFIG"]
	if exit := w.run("config", "check"); exit != 0 || w.stdout.String() != "ok: ok "+path+": 0 errors, 0 warnings\n" {
		t.Errorf("exit %d: %q", exit, w.stdout.String())
	}
	if exit := w.run("config", "show"); exit != 0 || !strings.Contains(w.stdout.String(), "from_env: KEY\n") || strings.Contains(w.stdout.String(), "the-key") {
		t.Errorf("exit %d: %s", exit, w.stdout.String())
	}
	w.run("config", "show", "--origin", "--option", "regions.required")
	if want := "PATH\tVALUE\tORIGIN\nregions.required\t1\t" + path + ":4\n"; w.stdout.String() != want {
		t.Errorf("%q, want %q", w.stdout.String(), want)
	}
	if exit := w.run("config", "show", "--option", "nope"); exit != int(Usage) {
		t.Errorf("exit %d", exit)
	}
	warned := strings.Replace(sampleFile, "required: 1", "required: 1 ", 1)
	warned = strings.Replace(warned, `    - {name: cellar, url: "file:///mnt/cellar", optional: true}`+"\n", "", 1)
	if err := os.WriteFile(path, []byte(warned), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit := w.run("config", "check"); exit != 0 || !strings.Contains(w.stdout.String(), "warning: ") {
		t.Errorf("warnings: exit %d: %s", exit, w.stdout.String())
	}
	if exit := w.run("config", "check", "--strict"); exit != int(ConfigInvalid) {
		t.Errorf("--strict: exit %d", exit)
	}
	bad := strings.Replace(sampleFile, "required", "requird", 1)
	if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	exit := w.run("config", "check")
	if want := path + `:4:3: unknown key "requird" in regions; did you mean "required"?` + "\n"; exit != int(ConfigInvalid) || w.stdout.String() != want {
		t.Errorf("exit %d: %q, want %q", exit, w.stdout.String(), want)
	}
	w.tty = true
	if w.run("config", "check"); !strings.Contains(w.stdout.String(), "     4 |   requird: 1\n       |   ^^^^^^^\n") {
		t.Errorf("no snippet: %q", w.stdout.String())
	}
	leaky := strings.Replace(bad, "access_key_id: {from_env: ID}, secret_access_key: {from_env: KEY}", "regoin: x, secret_access_key: hunter2", 1)
	if err := os.WriteFile(path, []byte(leaky), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.run("config", "check"); !strings.Contains(w.stdout.String(), "regoin") || strings.Contains(w.stdout.String()+w.stderr.String(), "hunter2") {
		t.Errorf("a snippet shows a secret: %q", w.stdout.String())
	}
	if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	w.tty = false
	w.run("config", "check", "--json")
	data, _ := w.document(t)["data"].(map[string]any)
	problems, _ := data["problems"].([]any)
	if first, _ := problems[0].(map[string]any); first["code"] != "unknown_key" || first["line"] != 4.0 || first["suggestion"] != "required" {
		t.Errorf("problems = %v", problems)
	}
	if exit := w.run("config", "show"); exit != int(ConfigInvalid) || !strings.Contains(w.stderr.String(), ":4:3: unknown key") {
		t.Errorf("exit %d: %s", exit, w.stderr.String())
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	w := &world{}
	w.run("version")
	for _, c := range descendants(w.app.root()) {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || examplesOf(c) == "" {
			t.Errorf("%s: short %q, no examples", c.CommandPath(), c.Short)
		}
		w.run(append(strings.Fields(c.CommandPath())[1:], "-h")...)
		if text := w.stdout.String(); !strings.HasPrefix(text, "Examples:\n") || !strings.Contains(text, orElse(c.Long, c.Short)) {
			t.Errorf("%s -h: %s", c.CommandPath(), text)
		}
	}
	for _, name := range topics() {
		if exit := w.run("help", name); exit != 0 || w.stdout.Len() < 200 {
			t.Errorf("help %s: exit %d", name, exit)
		}
	}
}

func TestCompletion(t *testing.T) {
	w := configuredWorld(t, nil)
	w.run("__complete", "version", "--region", "")
	if got := w.stdout.String(); !strings.HasPrefix(got, "fra\ts3://acme/dr") || !strings.Contains(got, "cellar\t") {
		t.Errorf("%q", got)
	}
	w.env["LIFEBOAT_CONFIG"] = "/none"
	if exit := w.run("__complete", "version", "--region", ""); exit != 0 || strings.Contains(w.stdout.String(), "error") {
		t.Errorf("exit %d: %q", exit, w.stdout.String())
	}
	w.run("__complete", "version", "--output", "js")
	if got := w.stdout.String(); !strings.Contains(got, "\njson\njsonl\n") {
		t.Errorf("%q", got)
	}
}
