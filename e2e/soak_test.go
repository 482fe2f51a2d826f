//go:build soak

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

const anonymousMost = 300 << 20 // bytes of memory of its own that any command may need

// TestSoakMemory measures every command's memory over a million small files.
// SOAK_FILES gives another number.
func TestSoakMemory(t *testing.T) {
	files := 1_000_000
	if s := os.Getenv("SOAK_FILES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		files = n
	}
	h := harness.NewHost(t)
	src := h.Path("source")
	if err := tree.Small(src, files, max(1, files/1000), 1); err != nil {
		t.Fatal(err)
	}
	kit, _ := protect(t, h, src, nil)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"first backup", []string{"backup", "files"}},
		{"no-change backup", []string{"backup", "files"}},
		{"check", []string{"check"}},
		{"restore", []string{"restore", "files", "--to", h.Path("out"), "--identity-file", kit}},
	} {
		r := h.Must(c.args...)
		fmt.Printf("%-16s  %9v  cpu %9v  anonymous %3d MiB  rss %3d MiB\n", c.name, r.Took.Round(1e6), r.CPU.Round(1e6), r.AnonPeak>>20, r.MaxRSS>>20)
		if r.AnonPeak > anonymousMost {
			t.Errorf("%s took %d MiB of memory, at most %d", c.name, r.AnonPeak>>20, anonymousMost>>20)
		}
	}
	all, err := tree.CompareDirs(src, h.Path("out"), tree.Ignore{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 0 {
		t.Errorf("%d differences, such as %v", len(all), all[0])
	}
}
