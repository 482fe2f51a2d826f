package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trustTimes are when the trust statements of a region were last put.
func (l *lab) trustTimes(region string) (out []time.Time) {
	l.t.Helper()
	all, err := filepath.Glob(l.path(region + "/trust/*"))
	if err != nil || len(all) == 0 {
		l.t.Fatalf("%d trust statements: %v", len(all), err)
	}
	for _, name := range all {
		info, err := os.Stat(name)
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, info.ModTime())
	}
	return out
}

func TestConfigCheckOnline(t *testing.T) {
	l := newLab(t)
	l.write("x", "x")
	l.backup()
	objects := func() int {
		n := 0
		_ = filepath.WalkDir(l.path("a"), func(string, os.DirEntry, error) error { n++; return nil })
		return n
	}
	before, put := objects(), l.trustTimes("a")[0]
	l.must("config", "check", "--online", "--dry-run")
	if !l.trustTimes("a")[0].Equal(put) {
		t.Error("--dry-run writes")
	}
	rows := list(l.must("config", "check", "--online"), "regions")
	if len(rows) != 2 {
		t.Fatalf("%v", rows)
	}
	for _, row := range rows {
		var names []string
		for _, c := range list(row, "checks") {
			names = append(names, c["name"].(string))
		}
		// The lab's clock stands tomorrow, and the regions' does not.
		if skew, _ := row["clock_skew_ms"].(float64); row["ok"] != true || strings.Join(names, " ") != "reachable repository writable clock" || skew > -3600_000 {
			t.Errorf("%v", row)
		}
	}
	if objects() != before || l.trustTimes("a")[0].Equal(put) {
		t.Errorf("%d objects of %d; the trust statement was to be put again", objects(), before)
	}
	l.must("check")
	l.fails(ConfigInvalid, "warnings", "config", "check", "--online", "--strict")

	if err := os.Rename(l.path("b"), l.path("b-away")); err != nil {
		t.Fatal(err)
	}
	l.fails(RepoNotFound, "region b cannot be used", "config", "check", "--online")
	if out := l.stdout.String(); !strings.Contains(out, "region a") || !strings.Contains(out, "writable") {
		t.Errorf("the good region is not told: %s", out)
	}
	if err := os.Mkdir(l.path("b"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.fails(RepoNotFound, "region b cannot be used", "config", "check", "--online")
	l.edit(`b"}`, `b", optional: true}`)
	l.edit("required: 2", "required: 1")
	l.must("config", "check", "--online")

	other := newLab(t)
	if err := os.Rename(other.path("b"), l.path("b-other")); err != nil {
		t.Fatal(err)
	}
	l.edit("/b\", optional: true", "/b-other\"")
	l.fails(WrongRepository, "region b cannot be used", "config", "check", "--online")
}
