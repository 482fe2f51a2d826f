package e2e

import (
	"fmt"
	"os"
	"testing"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// TestTortureRoundTrip takes a tree of everything that a file system can hold
// through three regions, one of them S3, and back: from all, and from each
// alone, as a stranger who has nothing but the kit.
func TestTortureRoundTrip(t *testing.T) {
	h := harness.NewHost(t)
	s3 := harness.StartS3(t)
	h.Setenv(s3.Env()...)
	src := h.Path("source")
	t.Cleanup(func() { _ = tree.Remove(src) })
	made, err := tree.Make(src, tree.Options{Seed: 11, Privileged: harness.IsRoot(), PastPathMax: true, Deep: 100, Image: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range made.Skipped {
		t.Log("left out:", s)
	}
	urls := []string{"file://" + h.Path("a"), "file://" + h.Path("b"), s3.URL("c")}
	kit := tortureHost(t, h, src, urls)

	h.Must("backup", "source")
	first := picture(t, src)
	if _, err := tree.Mutate(src, tree.Mutation{Seed: 12, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	h.Must("backup", "source")
	second := picture(t, src)
	if err := tree.Remove(src); err != nil {
		t.Fatal(err)
	}

	restored(t, h, "all", second, "--identity-file", kit)
	restored(t, h, "older", first, "--identity-file", kit, "--snapshot", "latest~1")
	for i, url := range urls {
		stranger := harness.NewHost(t)
		stranger.Setenv(s3.Env()...)
		restored(t, stranger, fmt.Sprintf("region %d alone", i), second, "--repo", url, "--identity-file", kit)
	}
}

// tortureHost makes a repository in the regions for one volume, and gives the kit.
func tortureHost(t *testing.T, h *harness.Host, src string, urls []string) (kit string) {
	t.Helper()
	config := "version: 1\nregions:\n  required: 2\n  list:\n"
	for i, url := range urls {
		config += fmt.Sprintf("    - {name: r%d, url: %q}\n", i, url)
	}
	config += fmt.Sprintf("paths: {state: %q, cache: %q}\nworkloads:\n  - name: source\n    kind: volume\n    volume: {paths: [%q]}\n",
		h.Path("state"), h.Path("cache"), src)
	for _, dir := range []string{"a", "b"} {
		if err := os.Mkdir(h.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(h.Path("lifeboat.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Flags = []string{"--config", h.Path("lifeboat.yaml")}
	kit = h.Path("kit.txt")
	h.Must("init", "--yes", "--kit", kit)
	return kit
}

func picture(t *testing.T, dir string) *tree.Picture {
	t.Helper()
	p, err := tree.Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// restored restores into an empty directory and compares everything but sockets,
// which nobody restores.
func restored(t *testing.T, h *harness.Host, name string, want *tree.Picture, args ...string) {
	t.Run(name, func(t *testing.T) {
		to := h.Path("restored")
		t.Cleanup(func() {
			if err := tree.Remove(to); err != nil {
				t.Error(err)
			}
		})
		r := h.Must(append([]string{"restore", "source", "--to", to, "--json"}, args...)...)
		for _, w := range r.Envelope().Warnings {
			t.Errorf("a healthy repository, and yet: %s: %s", w.Code, w.Message)
		}
		differences := tree.Compare(want, picture(t, to), tree.Ignore{Sockets: true})
		for i, d := range differences {
			if i == 20 {
				t.Fatalf("and %d more", len(differences)-i)
			}
			t.Error(d)
		}
		if t.Failed() {
			t.Log(r)
		}
	})
}
