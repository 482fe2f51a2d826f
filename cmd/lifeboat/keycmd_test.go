package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyList(t *testing.T) {
	l := newLab(t)
	l.write("x", "x")
	l.backup()
	data := l.must("key", "list")
	operators, keys, writers, regions := list(data, "operators"), list(data, "data_keys"), list(data, "writers"), list(data, "regions")
	index, _ := data["index_key"].(map[string]any)
	if len(operators) != 1 || operators[0]["here"] != false || len(keys) != 1 || keys[0]["here"] != false || keys[0]["epoch"] != 1.0 || index["here"] != true ||
		data["opens_contents"] != false || data["opens_names"] != true || data["trust_statement"] != 1.0 {
		t.Errorf("an enrolled host: %v", data)
	}
	if w := writers[0]; len(writers) != 1 || w["this_host"] != true || w["here"] != true || w["host"] != "db1" || w["id"] != data["this_host"] || w["newest_recovery_point_at"] == nil {
		t.Errorf("writers = %v", writers)
	}
	if len(regions) != 2 || regions[0]["in_use"] != true || len(data["repo_id"].(string)) != 64 || !strings.HasPrefix(data["root_key"].(string), "lbr1") {
		t.Errorf("data = %v", data)
	}
	cold := l.must("key", "list", "--repo", "file://"+l.path("b"), "--identity-file", l.kit())
	if o := list(cold, "operators"); o[0]["here"] != true || list(cold, "data_keys")[0]["here"] != true || cold["opens_contents"] != true || list(cold, "regions")[0]["in_use"] != false || cold["this_host"] != nil {
		t.Errorf("with the kit: %v", cold)
	}
	bare := l.must("key", "list", "--repo", "file://"+l.path("b"))
	if w := list(bare, "writers"); w[0]["here"] != false || w[0]["host"] != nil || bare["opens_names"] != false {
		t.Errorf("with nothing: %v", bare)
	}
	if exit := l.run("key", "list"); exit != 0 || !strings.Contains(l.stdout.String(), "this host, db1, newest point "+l.at(0)) || strings.Contains(l.stdout.String(), "SECRET") {
		t.Errorf("exit %d: %s", exit, l.stdout.String())
	}
}

func TestKitIsWrittenAgain(t *testing.T) {
	l := newLab(t)
	kit2 := l.path("kit2.txt")
	l.fails(NoMatchingKey, "none was given", "key", "recovery-kit", "--out", kit2)
	l.must("key", "recovery-kit", "--out", kit2, "--identity-file", l.kit(), "--dry-run")
	if _, err := os.Lstat(kit2); err == nil {
		t.Fatal("--dry-run wrote the kit")
	}
	data := l.must("key", "recovery-kit", "--out", kit2, "--identity-file", l.kit())
	info, err := os.Stat(kit2)
	if err != nil || info.Mode().Perm() != 0o600 || len(list(data, "regions")) != 2 {
		t.Errorf("%v, %v, %v", info, err, data)
	}
	l.fails(TargetRefused, "exists already", "key", "recovery-kit", "--out", kit2, "--identity-file", l.kit())
	l.write("x", "x")
	l.backup()
	l.must("key", "recovery-kit", "--test", kit2)
	l.must("snapshots", "--repo", "file://"+l.path("a"), "--identity-file", kit2)
	l.fails(Usage, "one of --out and --test", "key", "recovery-kit")
	l.fails(Usage, "one of --out and --test", "key", "recovery-kit", "--out", "a", "--test", "b")
	l.fails(Usage, "needs a command", "key")
}

func TestKitIsProved(t *testing.T) {
	l := newLab(t)
	keysOnly := l.must("key", "recovery-kit", "--test", l.kit())
	if r := list(keysOnly, "regions"); len(r) != 2 || r[0]["ok"] != true || r[0]["snapshot_id"] != nil {
		t.Errorf("an empty repository: %v", keysOnly)
	}
	l.write("sub/file", strings.Repeat("contents ", 100))
	l.backup()
	data := l.must("key", "recovery-kit", "--test", l.kit())
	for _, r := range list(data, "regions") {
		if r["ok"] != true || r["snapshot_id"] != l.ids[0] || r["path"] != l.src+"/sub/file" || r["chunk_bytes"] != 900.0 {
			t.Errorf("region = %v", r)
		}
	}
	delete(l.env, "LIFEBOAT_CONFIG") // the kit alone says where the regions are
	if alone := l.must("key", "recovery-kit", "--test", l.kit()); len(list(alone, "regions")) != 2 {
		t.Errorf("without a configuration: %v", alone)
	}
	l.env["LIFEBOAT_CONFIG"] = l.path("lifeboat.yaml")

	packs, err := filepath.Glob(l.path("b/packs/*/d/*/*.tar"))
	if err != nil || len(packs) == 0 {
		t.Fatal(err, packs)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	damaged := l.exits(VerifyFailed, "key", "recovery-kit", "--test", l.kit())
	if r := list(damaged, "regions"); r[0]["ok"] != true || r[1]["ok"] != false || !strings.Contains(r[1]["error"].(string), "region b") {
		t.Errorf("a region without contents: %v", damaged)
	}
	if err := os.RemoveAll(l.path("b")); err != nil {
		t.Fatal(err)
	}
	l.fails(RepoNotFound, "region b", "key", "recovery-kit", "--test", l.kit())
}

func TestKitThatDoesNotOpen(t *testing.T) {
	l, other := newLab(t), newLab(t)
	l.fails(NoMatchingKey, "does not open this repository", "key", "recovery-kit", "--test", plainIdentity(t, other))
	l.fails(WrongRepository, "another repository", "key", "recovery-kit", "--test", other.kit())
	text, err := os.ReadFile(l.kit())
	if err != nil {
		t.Fatal(err)
	}
	bad := l.path("bad.txt")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "# repository-url: file://", "# repository-url: file:///x", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.fails(NoMatchingKey, "checksum", "key", "recovery-kit", "--test", bad)
	l.fails(Usage, "open identity", "key", "recovery-kit", "--test", "/none")
	if exit := l.run("key", "recovery-kit", "--test", plainIdentity(t, l)); exit != 0 || !strings.Contains(l.stderr.String(), "identity without a kit") {
		t.Errorf("a plain identity: exit %d: %s", exit, l.stderr.String())
	}
}

// plainIdentity writes the secret line of a lab's kit alone.
func plainIdentity(t *testing.T, l *lab) string {
	t.Helper()
	text, err := os.ReadFile(l.kit())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.txt")
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	t.Fatal("the kit has no secret line")
	return ""
}
