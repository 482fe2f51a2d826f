package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFull(t *testing.T) {
	f, problems, err := Load("testdata/full.yaml")
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems:\n%v\nerr: %v", problems, err)
	}
	c := f.Config
	if len(c.Regions.List) != 3 || c.Regions.List[0].S3.AccessKeyID.FromCredential != "s3-fra-id" {
		t.Errorf("regions = %+v", c.Regions.List)
	}
	if got := int64(c.Regions.List[0].Limits.Upload); got != 80<<20 {
		t.Errorf("upload = %d", got)
	}
	mail := c.Workload("mail")
	if mail == nil || mail.Schedule == nil || mail.Schedule.Every.Value() != time.Hour {
		t.Fatalf("mail did not inherit its schedule: %+v", mail)
	}
	if mail.Volume.ExcludeCaches {
		t.Error("exclude_caches: false was not taken")
	}
	if !c.Workload("files").Volume.ExcludeCaches {
		t.Error("exclude_caches does not default to true")
	}
	if mail.Objectives.RPO.Value() != 2*time.Hour || c.Workload("files").Objectives.RPO.Value() != time.Hour {
		t.Errorf("rpo = %v, %v", mail.Objectives.RPO, c.Workload("files").Objectives.RPO)
	}
	if c.Drills[0].Verify[1].Timeout.Value() != CheckTimeoutDefault || !c.Drills[0].Key.Installed {
		t.Errorf("drill defaults: %+v", c.Drills[0])
	}
	if c.Drills[1].Key.Installed || c.Drills[1].Key.Kit.FromFile != "/root/kit.txt" {
		t.Errorf("drill key: %+v", c.Drills[1].Key)
	}
	if got := c.Maintenance.Check.ReadData.Ratio; got != 0.03 {
		t.Errorf("read_data = %v", got)
	}
}

func TestOrigin(t *testing.T) {
	f, _, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"regions.required":                   "testdata/full.yaml:9",
		"workloads[1].schedule":              "testdata/full.yaml:35 (defaults.schedule)",
		"workloads[1].schedule.every":        "testdata/full.yaml:35 (defaults.schedule)",
		"workloads[1].objectives.rpo":        "testdata/full.yaml:36 (defaults.objectives.rpo)",
		"workloads[0].objectives.rpo":        "testdata/full.yaml:44",
		"workloads[0].volume.exclude_caches": "default",
	} {
		if got := f.Origin(path); got != want {
			t.Errorf("Origin(%s) = %s, want %s", path, got, want)
		}
	}
}

// wants reads the "# want: line:col text" lines at the head of a bad file;
// lines count from the end of these.
func wants(data string) (out []string, body string) {
	for strings.HasPrefix(data, "# want: ") {
		line, rest, _ := strings.Cut(data, "\n")
		out, data = append(out, strings.TrimPrefix(line, "# want: ")), rest
	}
	return out, data
}

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 80 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want, body := wants(string(data))
			_, all := Parse("f", []byte(body))
			var got []string
			for _, p := range all {
				if p.Severity == Error {
					got = append(got, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Message))
				}
			}
			if len(got) != len(want) {
				t.Fatalf("got %d errors, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], want[i])
				}
			}
		})
	}
}

func TestTwentyMistakes(t *testing.T) {
	_, problems, err := Load("testdata/twenty.yaml")
	if err != nil {
		t.Fatal(err)
	}
	errors, _ := problems.Count()
	if errors < 20 {
		t.Errorf("%d errors, want at least 20:\n%v", errors, problems)
	}
	line := 0
	for _, p := range problems {
		if p.Line < line {
			t.Errorf("not sorted by line: %v", p)
		}
		line = p.Line
		if strings.Contains(p.Message, "hunter2") {
			t.Errorf("a secret is printed: %v", p)
		}
		if p.Path == "regions.list[0].s3.secret_access_key" && !p.Private {
			t.Errorf("the line of a secret may be shown: %v", p)
		}
	}
	shape := regexp.MustCompile(`^testdata/twenty.yaml:\d+:\d+: .`)
	for _, text := range strings.Split(problems.Error(), "\n") {
		if !shape.MatchString(text) {
			t.Errorf("not file:line:col: message: %q", text)
		}
	}
}

func TestWarnings(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"single region": {"version: 1\nregions: {list: [{name: a, url: 'file:///a'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv]}}]\n",
			"regions.list has a single region"},
		"no workloads": {"version: 1\nregions: {list: [{name: a, url: 'file:///a'}, {name: b, url: 'file:///b'}]}\n", "nothing is protected"},
		"shared bucket": {"version: 1\nregions: {list: [{name: a, url: 's3://b/x'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv]}}]\n",
			"share a bucket"},
		"rto without drill": {"version: 1\nregions: {list: [{name: a, url: 's3://a/x'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, objectives: {rto: 1h}, volume: {paths: [/srv]}}]\n",
			"no drill restores workloads[0] (w)"},
		"backs itself up": {"version: 1\nregions: {list: [{name: a, url: 'file:///srv/a'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv]}}]\n",
			"contains region \"a\""},
		"no room": {"version: 1\nregions: {list: [{name: a, url: 's3://a/x'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, schedule: {every: 1h}, objectives: {rpo: 1h}, volume: {paths: [/srv]}}]\n",
			"no time left for the run itself"},
		"sandbox inside": {"version: 1\nregions: {list: [{name: a, url: 's3://a/x'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv]}}]\ndrills: [{name: d, workloads: [w], sandbox: {path: /srv/d}}]\n",
			"lies in what workload \"w\" protects"},
	} {
		_, problems := Parse("f", []byte(tt.file))
		if problems.Err() != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, tt.want) {
			t.Errorf("%s: got %v", name, problems)
		}
	}
	excluded := "version: 1\nregions: {list: [{name: a, url: 'file:///srv/a'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv], exclude: [/srv/a]}}]\n"
	if _, problems := Parse("f", []byte(excluded)); len(problems) > 0 {
		t.Errorf("excluded region: %v", problems)
	}
	for _, sandbox := range []string{"/srv/d", "/var/lib/lifeboat/drills"} {
		allowed := "version: 1\nregions: {list: [{name: a, url: 's3://a/x'}, {name: b, url: 's3://b/y'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/], exclude: [/srv/d]}}]\ndrills: [{name: d, workloads: [w], sandbox: {path: " + sandbox + "}}]\n"
		if _, problems := Parse("f", []byte(allowed)); len(problems) > 0 {
			t.Errorf("sandbox %s: %v", sandbox, problems)
		}
	}
}

func TestLimits(t *testing.T) {
	if _, p := Parse("f", []byte(strings.Repeat("#", fileBytesMax+1))); !strings.Contains(p.Error(), "larger than") {
		t.Errorf("huge file: %v", p)
	}
	if _, p := Parse("f", []byte("version: \xff\n")); !strings.Contains(p.Error(), "UTF-8") {
		t.Errorf("not UTF-8: %v", p)
	}
	var b strings.Builder
	for i := range problemsMax * 2 {
		b.WriteString("zzzzzzz" + strconv.Itoa(i) + ": 1\n")
	}
	if _, p := Parse("f", []byte(b.String())); len(p) != problemsMax || !strings.Contains(p.Error(), "not shown") {
		t.Errorf("%d problems", len(p))
	}
	deep := "version: 1\nregions: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if _, p := Parse("f", []byte(deep)); p.Err() == nil {
		t.Error("deep nesting was accepted")
	}
	if _, _, err := Load("testdata/missing.yaml"); err == nil {
		t.Error("a missing file gave no error")
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"schedule", "volume", "objectives"}
	for word, want := range map[string]string{
		"schedul": "schedule", "shcedule": "schedule", "volumes": "volume", "xyz": "", "": "", "objectiv": "objectives",
	} {
		if got := Suggest(word, words); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Suggest("x", []string{"y"}); got != "" {
		t.Errorf("a different letter was suggested: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/full.yaml", "testdata/twenty.yaml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, problems := Parse("f", data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("bad problem: %+v", p)
			}
		}
	})
}
