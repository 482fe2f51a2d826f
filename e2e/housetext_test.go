package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lifeboat/e2e/internal/harness"
)

// committed lists the files that are, or are about to be, in the repository.
func committed(t *testing.T) (top string, names []string) {
	t.Helper()
	top, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	// A clone may belong to another user than the one who tests it.
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v (these rules need a clone, not a tarball)", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(top, name)); err == nil { // it may be deleted and not yet committed
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatal("no files")
	}
	return top, names
}

func TestTopLevel(t *testing.T) {
	_, names := committed(t)
	for _, name := range names {
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(topLevel(), first) {
			t.Errorf("%s: the top of the repository holds only %v", name, topLevel())
		}
	}
}

// TestNothingOfTheWorkshop: what is committed reads the same on every machine
// and for everybody. The patterns are spelt so that they do not find themselves.
func TestNothingOfTheWorkshop(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		"a path of one machine":          regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(wo` + `rk/|ro` + `ot/(\.|go/))`),
		"a folder beside the repository": regexp.MustCompile(`\.\./sha` + `red/|\bsha` + `red/(design|style|safety|engine|ux|databases|protocol)\.md`),
		"a registry":                     regexp.MustCompile(`(?i)\b(pro` + `xy\.golang|su` + `m\.golang|deb\.deb` + `ian|registry\.np` + `mjs|pypi\.o` + `rg|ghcr\.i` + `o|docker\.i` + `o)`),
		"how it was written":             regexp.MustCompile(`(?i)\b(clau` + `de|anthro` + `pic|open` + `ai|chat` + `gpt|co` + `pilot|l` + `lms?|language mo` + `dels?|a` + `i[- ](assist` + `ant|ag` + `ents?|gener` + `ated|to` + `ols?)|this (cod` + `ing )?ses` + `sion wrote)\b`),
		"who wrote it":                   regexp.MustCompile(`(?i)\bhel` + `per [A-I]\b|\bthe le` + `ad (writes|wrote|will|says)`),
	}
	top, names := committed(t)
	for _, name := range names {
		st, err := os.Lstat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		if !st.Mode().IsRegular() {
			t.Errorf("%s is no plain file", name)
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range forbidden {
			if at := pattern.FindIndex(text); at != nil {
				t.Errorf("%s:%d has %s: %q", name, 1+bytes.Count(text[:at[0]], []byte("\n")), what, text[at[0]:at[1]])
			}
		}
	}
}

// TestNoLargeFiles: a repository is cloned by everybody for ever.
func TestNoLargeFiles(t *testing.T) {
	const most = 512 << 10 // bytes
	top, names := committed(t)
	for _, name := range names {
		if st, err := os.Lstat(filepath.Join(top, name)); err == nil && st.Size() > most {
			t.Errorf("%s has %d bytes, more than %d", name, st.Size(), most)
		}
	}
}
