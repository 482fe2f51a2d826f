package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"lifeboat/restore"
)

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 4509715660: "4.2 GiB", 412 << 20: "412 MiB", 1<<20 - 1: "1.0 MiB",
		-2048: "-2.0 KiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 300 * time.Microsecond: "1 ms", 340 * time.Millisecond: "340 ms", 1200 * time.Millisecond: "1.2 s",
		31 * time.Second: "31 s", 59700 * time.Millisecond: "1m00s", 662 * time.Second: "11m02s", 5*time.Hour + 3*time.Minute: "5h03m",
		52 * time.Hour: "2d4h", 48 * time.Hour: "2d", 41 * 24 * time.Hour: "41d", -time.Minute: "-1m00s", 3599600 * time.Millisecond: "1h00m",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%s) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		12 * time.Second: "12s", 53 * time.Minute: "53m", 12 * time.Hour: "12h", 41 * 24 * time.Hour: "41d", -2 * time.Hour: "in 2h",
	} {
		if got := formatAge(d); got != want {
			t.Errorf("formatAge(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 13, 9, 12, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-22T14:05:00Z":        "2026-11-22T14:05:00Z",
		"2026-11-22T14:05Z":           "2026-11-22T14:05:00Z",
		"2026-11-22T14:05:00.5+01:00": "2026-11-22T13:05:00Z",
		"2026-11-22T14:05":            "2026-11-22T13:05:00Z",
		"2026-11-22 14:05":            "2026-11-22T13:05:00Z",
		"2026-11-22 14:05:06":         "2026-11-22T13:05:06Z",
		"2026-07-01":                  "2026-06-30T22:00:00Z",
		"14:05":                       "2026-11-22T13:05:00Z",
		"90m ago":                     "2026-11-22T11:39:12Z",
		"2d ago":                      "2026-11-20T13:09:12Z",
		"1h 30m ago":                  "2026-11-22T11:39:12Z",
		"now":                         "2026-11-22T13:09:12Z",
	} {
		got, err := parseTime(text, now, berlin)
		if err != nil || got.UTC().Format("2006-01-02T15:04:05Z") != want {
			t.Errorf("parseTime(%q) = %s, %v, want %s", text, got.UTC(), err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "25:00", "2026-13-01", "2026-03-29 02:30", "ago", "-5m ago", "14:05 ago"} {
		if got, err := parseTime(text, now, berlin); err == nil || classify(err).Code != Usage {
			t.Errorf("parseTime(%q) = %s, %v; want a usage error", text, got, err)
		}
	}
	if got := formatInstant(time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC), now, berlin); got != "2026-11-22 14:00:00 CET = 13:00:00Z, 9m12s ago" {
		t.Errorf("formatInstant = %q", got)
	}
	if got := formatInstant(now, now, time.UTC); got != "2026-11-22 13:09:12 UTC, 0 s ago" {
		t.Errorf("formatInstant = %q", got)
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-22 14:05")
	f.Add("90m ago")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseTime(text, clock()(), time.UTC); err != nil && classify(err).Code != Usage {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestRunID(t *testing.T) {
	a, b := newRunID(time.UnixMilli(1)), newRunID(time.UnixMilli(2))
	if len(a) != 26 || a >= b || strings.Trim(a, crockford) != "" {
		t.Errorf("%q, %q", a, b)
	}
	if again := newRunID(time.UnixMilli(1)); again == a {
		t.Error("two runs have one id")
	}
}

func TestTable(t *testing.T) {
	table := newTable("NAME", ">SIZE", "NOTE")
	table.row("files", "12", "a\tb and a rather long remark that does not fit")
	table.row("größe", "1234", "x")
	w := &world{env: map[string]string{"LANG": "C.UTF-8"}}
	w.run("version")
	p := w.app.page(&bytes.Buffer{})
	p.table(table)
	if want := "NAME\tSIZE\tNOTE\nfiles\t12\ta b and a rather long remark that does not fit\ngröße\t1234\tx\n"; p.b.String() != want {
		t.Errorf("pipe: %q", p.b.String())
	}
	p.b.Reset()
	p.tty, p.width = true, 30
	p.table(table)
	if want := "NAME   SIZE  NOTE\nfiles    12  a\tb and a rather …\ngröße  1234  x\n"; p.b.String() != want {
		t.Errorf("terminal: %q", p.b.String())
	}
}

func TestColourAndSigns(t *testing.T) {
	for _, tt := range []struct {
		env  string
		args string
		tty  bool
		want bool
	}{
		{"", "", true, true},
		{"", "", false, false},
		{"NO_COLOR=1", "", true, false},
		{"NO_COLOR=", "", true, true},
		{"LIFEBOAT_NO_COLOR=1", "", true, false},
		{"TERM=dumb", "", true, false},
		{"CLICOLOR=0", "", true, false},
		{"CLICOLOR_FORCE=1", "", false, true},
		{"CLICOLOR_FORCE=0", "", false, false},
		{"NO_COLOR=1 CLICOLOR_FORCE=1", "", true, false},
		{"NO_COLOR=1", "--color always", false, true},
		{"CLICOLOR_FORCE=1", "--color never", true, false},
		{"LIFEBOAT_COLOR=never", "", true, false},
	} {
		w := &world{tty: tt.tty, env: map[string]string{}}
		for _, pair := range strings.Fields(tt.env) {
			name, value, _ := strings.Cut(pair, "=")
			w.env[name] = value
		}
		w.run(append([]string{"version"}, strings.Fields(tt.args)...)...)
		if got := w.app.colored(w.app.stdout); got != tt.want {
			t.Errorf("%q %q tty %v: %v, want %v", tt.env, tt.args, tt.tty, got, tt.want)
		}
	}
	w := &world{env: map[string]string{"LANG": "C"}}
	w.run("version")
	if got := w.app.page(&bytes.Buffer{}).mark(markBad, "breached"); got != "XX breached" {
		t.Errorf("ASCII: %q", got)
	}
	w.env["LC_ALL"] = "de_DE.utf8"
	if got := w.app.page(&bytes.Buffer{}).mark(markBad, "breached"); got != "✗ breached" {
		t.Errorf("UTF-8: %q", got)
	}
}

// TestYAMLTakesEveryCharacter: file names hold anything, and YAML is pickier than JSON.
func TestYAMLTakesEveryCharacter(t *testing.T) {
	var want []string
	for r := rune(0); r <= 0x10ffff; r++ {
		if r >= 0x200 && r&0xfff < 0xfe0 && r&^0x3f != 0xfdc0 && r&^0xff != 0x2000 || !utf8.ValidRune(r) { // the odd ones
			continue
		}
		want = append(want, "a"+string(r)+"b", string(r))
	}
	text, err := marshal(want, false)
	if err != nil {
		t.Fatal(err)
	}
	out, err := toYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := yaml.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d strings, want %d", len(got), len(want))
	}
	bad := 0
	for i := range want {
		if got[i] != want[i] {
			if bad++; bad < 20 {
				t.Errorf("%q came back as %q", want[i], got[i])
			}
		}
	}
}

// TestRestoreTellsDifferences: damage that was read back is in the summary, and
// one that was stopped does not say that it has restored the workload.
func TestRestoreTellsDifferences(t *testing.T) {
	w := &world{}
	w.run("version")
	var r restore.Result
	r.ByKind[restore.Differs], r.Failed = 2, 2
	var d restoreData
	d.fill(&r)
	p := w.app.page(&bytes.Buffer{})
	if d.text(p); !strings.Contains(p.b.String(), " 2 differences\n") || !strings.HasPrefix(p.b.String(), "Restored ") {
		t.Error(p.b.String())
	}
	p.b.Reset()
	d.stopped = true
	if d.text(p); !strings.HasPrefix(p.b.String(), "Stopped ") {
		t.Error(p.b.String())
	}
}
