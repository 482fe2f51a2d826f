package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/storage/storetest"
)

// object finds a stored object by its pattern.
func (l *lab) object(t *testing.T, region, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(l.dir, region, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s in region %s: %v", pattern, region, err)
	}
	return found[0]
}

// rewrite changes a stored object behind everybody's back.
func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func checked(t *testing.T, data map[string]any) []map[string]any {
	t.Helper()
	var out []map[string]any
	list, ok := data["damaged"].([]any)
	if !ok {
		t.Fatalf("no list of damaged objects: %v", data)
	}
	for _, x := range list {
		out = append(out, x.(map[string]any))
	}
	return out
}

func TestCheckCommand(t *testing.T) {
	l := newLab(t)
	l.write("a.txt", strings.Repeat("some contents ", 1000))
	l.backup()
	l.write("b.txt", strings.Repeat("other contents ", 1000))
	l.backup()

	data := l.must("check")
	if data["level"] != "inventory" || len(checked(t, data)) != 0 || data["snapshots_checked"] != 2.0 {
		t.Errorf("clean: %v", data)
	}
	if data = l.must("check", "--read-data"); data["level"] != "hash" {
		t.Errorf("without a data key the level is hash: %v", data)
	}
	if data = l.must("check", "--read-data=all", "--identity-file", l.kit()); data["level"] != "deep" {
		t.Errorf("with the kit the level is deep: %v", data)
	}
	l.must("check", "--read-data=1KiB", "--workload", "files", "--newest", "1", "--region", "a")
	cold := []string{"--repo", "file://" + l.path("a"), "--repo", "file://" + l.path("b"), "--identity-file", l.kit()}
	if data = l.must(append([]string{"check", "--read-data"}, cold...)...); data["level"] != "deep" {
		t.Errorf("cold: %v", data)
	}

	l.fails(Usage, "is not an amount", "check", "--read-data=some")
	l.fails(Usage, "exclude each other", "check", "--region", "a", "--all-regions")
	l.fails(Usage, "no region", "check", "--region", "x")
	l.fails(NoRecoveryPoint, "recovery point of", "check", "--workload", "nothing")
}

func TestCheckCommandFindsDamage(t *testing.T) {
	l := newLab(t)
	l.write("a.txt", strings.Repeat("some contents ", 1000))
	l.backup()
	pack := l.object(t, "b", "packs/*/d/*/*.tar")
	rewrite(t, pack, storetest.FlipBit(8*700))
	l.must("check") // the size is right
	data := l.exits(VerifyFailed, "check", "--read-data", "--identity-file", l.kit())
	found := checked(t, data)
	if len(found) != 1 || found[0]["region"] != "b" || found[0]["kind"] != "pack" || !strings.HasSuffix(pack, found[0]["object"].(string)) {
		t.Fatalf("found %v", found)
	}
	if from := found[0]["healable_from"].([]any); len(from) != 1 || from[0] != "a" {
		t.Errorf("healable from %v", from)
	}
	if files := found[0]["files"].([]any); !slices.Contains(files, any(filepath.Join(l.src, "a.txt"))) {
		t.Errorf("files %v", files)
	}
	if points := found[0]["affects"].([]any); len(points) != 1 || points[0].(map[string]any)["workload"] != "files" {
		t.Errorf("affects %v", points)
	}
	if exit := l.run("check", "--read-data"); Code(exit) != VerifyFailed || !strings.Contains(l.stdout.String(), "good copy in a") || !strings.Contains(l.stderr.String(), "hint: restores read") {
		t.Errorf("text: exit %d: %s%s", exit, l.stdout.String(), l.stderr.String())
	}
	if err := os.Remove(pack); err != nil {
		t.Fatal(err)
	}
	l.fails(VerifyFailed, "1 objects are damaged or missing in b", "check")
}

func TestCheckCommandWithoutARegion(t *testing.T) {
	l := newLab(t)
	l.write("a.txt", "some contents")
	l.backup()
	if err := os.RemoveAll(l.path("b")); err != nil {
		t.Fatal(err)
	}
	data := l.exits(ReplicationDegraded, "check")
	if len(checked(t, data)) != 0 {
		t.Errorf("found %v", data)
	}
	l.exits(RegionUnreachable, "check", "--region", "b")
	l.must("check", "--region", "a")
}
