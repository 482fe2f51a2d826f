package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/storage/seal"
)

func (l *lab) enrol(more ...string) []string {
	return append([]string{"host", "enroll", "--kit", l.kit(), "--root", l.kit() + ".root"}, more...)
}

// lose takes this host's state and cache away.
func (l *lab) lose() {
	l.t.Helper()
	for _, name := range []string{"state", "cache"} {
		if err := os.RemoveAll(l.path(name)); err != nil {
			l.t.Fatal(err)
		}
	}
}

func TestEnrolledHostBacksUpOnlyWhatIsNew(t *testing.T) {
	l := newLab(t)
	l.write("big", strings.Repeat("all kinds of bytes ", 50_000))
	l.write("small", "small")
	l.backup()
	old := list(l.must("key", "list"), "writers")[0]["id"]
	l.lose()
	l.fails(NoMatchingKey, "not enrolled", "backup", "files")

	plan := l.must(l.enrol("--dry-run")...)
	if plan["dry_run"] != true || plan["writer"] != nil || list(plan, "predecessors")[0]["writer"] != old || list(plan, "regions")[0]["state"] != "planned" {
		t.Errorf("plan = %v", plan)
	}
	if _, err := os.Lstat(l.path("state/writer.json")); err == nil {
		t.Error("--dry-run saved something")
	}
	data := l.must(l.enrol()...)
	before := list(data, "predecessors")
	if len(before) != 1 || before[0]["writer"] != old || before[0]["host"] != "db1" || before[0]["disabled"] != false || data["trust_statement"] != 2.0 || data["writer"] == old {
		t.Errorf("data = %v", data)
	}
	for _, r := range list(data, "regions") {
		if r["state"] != "committed" {
			t.Errorf("region = %v", r)
		}
	}
	again := l.backup()
	stats, _ := again["stats"].(map[string]any)
	if again["parent_id"] != l.ids[0] || stats["bytes_new"] != 0.0 || stats["files_unmodified"] != 2.0 {
		t.Errorf("the first backup of the new writer: %v", again)
	}
	if points := list(l.must("snapshots"), "snapshots"); len(points) != 2 {
		t.Errorf("snapshots = %v", points)
	}
	l.write("big", strings.Repeat("all kinds of bytes ", 50_000)+"and more")
	if third := l.backup(); third["parent_id"] != l.ids[1] {
		t.Errorf("the second backup: %v", third)
	}
	l.fails(TargetRefused, "enrolled already", l.enrol()...)
}

func TestEnrolChoosesThePredecessor(t *testing.T) {
	l := newLab(t)
	l.write("x", "x")
	l.backup()
	first := list(l.must("key", "list"), "writers")[0]["id"].(string)
	l.lose()
	l.configure("db2")
	fresh := l.must(l.enrol("--new")...)
	if len(list(fresh, "predecessors")) != 0 {
		t.Errorf("--new: %v", fresh)
	}
	if data := l.backup(); data["parent_id"] != nil {
		t.Errorf("it went on from another host's snapshot: %v", data)
	}
	l.lose()
	l.configure("db3")
	l.fails(Usage, "which writer was this host before", l.enrol()...)
	l.fails(Usage, "names 0 of the writers", l.enrol("--predecessor", "ffffffffffff")...)
	l.fails(Usage, "excludes", l.enrol("--new", "--replace")...)
	l.configure("db1") // by the host's name
	if data := l.must(l.enrol("--dry-run")...); list(data, "predecessors")[0]["writer"] != first {
		t.Errorf("by name: %v", data)
	}
	l.fails(Usage, "--yes", l.enrol("--predecessor", first[:8], "--replace")...)
	data := l.must(l.enrol("--predecessor", first[:8], "--replace", "--yes", "--drills-here")...)
	if b := list(data, "predecessors"); len(b) != 1 || b[0]["disabled"] != true || b[0]["host"] != "db1" {
		t.Errorf("--replace: %v", data)
	}
	keys := l.must("key", "list")
	if k := list(keys, "data_keys"); k[0]["here"] != true || keys["opens_contents"] != true {
		t.Errorf("the data key is installed, and key list says %v", keys)
	}
	for _, w := range list(keys, "writers") {
		if (w["disabled"] == true) != (w["id"] == first) {
			t.Errorf("writer = %v", w)
		}
	}
	l.must("cat", "files@latest:"+l.src+"/x", "--out", l.path("out")) // with the installed data identity
}

func TestEnrolAgainSetsTheStateAside(t *testing.T) {
	l := newLab(t)
	l.write("x", "x")
	l.backup()
	data := l.must(l.enrol("--force")...)
	aside, _ := data["set_aside"].(string)
	if _, err := os.Stat(filepath.Join(aside, "writer.json")); err != nil || filepath.Dir(aside) != l.path("state") {
		t.Errorf("set aside in %q: %v", aside, err)
	}
	l.backup()
	if err := os.WriteFile(l.path("state/writer.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.fails(TargetRefused, "damaged", l.enrol()...)
	l.must(l.enrol("--force")...)
	if exit := l.run("backup", "files"); exit != 0 {
		t.Errorf("exit %d: %s", exit, l.stderr.String())
	}
}

func TestEnrolWithTheKitAlone(t *testing.T) {
	l := newLab(t)
	l.lose()
	delete(l.env, "LIFEBOAT_CONFIG")
	if exit := l.run(l.enrol("--state-dir", l.path("state"))...); exit != 0 {
		t.Fatalf("exit %d: %s", exit, l.stderr.String())
	}
	if text := l.stdout.String(); !strings.Contains(text, "Enrolled this host as writer") || !strings.Contains(text, "repository: {id: ") || !strings.Contains(text, "lifeboat backup --all") {
		t.Errorf("text: %s", text)
	}
	l.env["LIFEBOAT_CONFIG"] = l.path("lifeboat.yaml")
	l.write("x", "x")
	l.backup()
}

func TestEnrolWithARegionAway(t *testing.T) {
	l := newLab(t)
	l.lose()
	if err := os.Rename(l.path("b"), l.path("b.away")); err != nil {
		t.Fatal(err)
	}
	data := l.exits(ReplicationDegraded, l.enrol()...)
	if r := list(data, "regions"); r[0]["state"] != "committed" || r[1]["state"] != "left_out" || r[1]["error"] == nil || data["writer"] == nil {
		t.Errorf("data = %v", data)
	}
	if err := os.Rename(l.path("a"), l.path("a.away")); err != nil {
		t.Fatal(err)
	}
	l.fails(RepoNotFound, "no usable region", l.enrol("--force")...)
}

func TestEnrolWithWrongKeys(t *testing.T) {
	l, other := newLab(t), newLab(t)
	l.lose()
	writer, err := seal.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"writer.key": writer.Reveal(), "empty.key": "# nothing\n", "noise.key": "LIFEBOAT-ROOT-KEY-1XYZ\n"} {
		if err := os.WriteFile(l.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		code      Code
		message   string
		kit, root string
	}{
		{Usage, "needs the recovery kit", l.kit(), ""},
		{Usage, "needs the recovery kit", "", l.kit() + ".root"},
		{Usage, "standard input", "-", "-"},
		{Usage, "open identity", "/none", l.kit() + ".root"},
		{NoMatchingKey, "root key of another repository", l.kit(), other.kit() + ".root"},
		{NoMatchingKey, "root key of another repository", plainIdentity(t, l), other.kit() + ".root"},
		{NoMatchingKey, "not a root key", l.kit(), l.path("writer.key")},
		{NoMatchingKey, "0 keys in it", l.kit(), l.path("empty.key")},
		{NoMatchingKey, "signing key", l.kit(), l.path("noise.key")},
		{NoMatchingKey, "not an age identity", l.kit() + ".root", l.kit() + ".root"},
		{WrongRepository, "another repository", other.kit(), other.kit() + ".root"},
		{NoMatchingKey, "does not open this repository", plainIdentity(t, other), l.kit() + ".root"},
	} {
		args := []string{"host", "enroll"}
		if tt.kit != "" {
			args = append(args, "--kit", tt.kit)
		}
		if tt.root != "" {
			args = append(args, "--root", tt.root)
		}
		l.fails(tt.code, tt.message, args...)
		for _, secret := range []string{writer.Reveal(), "LIFEBOAT-ROOT-KEY-1XYZ", lastLine(t, l.kit()), lastLine(t, l.kit()+".root"), lastLine(t, other.kit())} {
			if strings.Contains(l.stderr.String(), secret) {
				t.Errorf("a secret on stderr: %s", l.stderr.String())
			}
		}
	}
	if _, err := os.Lstat(l.path("state/writer.json")); err == nil {
		t.Error("something was saved")
	}
}

// lastLine is where a kit and a root file have their secret.
func lastLine(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
