package e2e

import (
	"fmt"
	"testing"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// TestEveryRegionAlone takes a tree of everything that a file system can hold
// through three regions, one of them S3; changes it; and brings each state back
// from each region alone, when the other regions, the host and the source are
// gone, as a stranger with nothing but the kit.
func TestEveryRegionAlone(t *testing.T) {
	s3 := harness.StartS3(t)
	s := newSite(t, "a", "b", s3.URL("c"))
	s.Setenv(s3.Env()...)
	made, err := tree.Make(s.source(), tree.Options{Seed: 31, Privileged: harness.IsRoot(), PastPathMax: true, Deep: 100, Image: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range made.Skipped {
		t.Log("left out:", what)
	}
	s.init(t)
	first, second := twoStates(t, s, made)

	moveTo(t, s.source(), s.Path("source-gone"))
	wipeAll(t, s.Path("source-gone"), s.Path("lifeboat-state"), s.Path("lifeboat-cache"), s.Path("lifeboat.yaml"))
	for i, r := range s.Regions {
		for j, other := range s.Regions {
			switch {
			case i == j:
			case other.Dir == "":
				s3.Stop()
			default:
				moveTo(t, other.Dir, other.Dir+"-lost")
			}
		}
		t.Run(r.Name+" alone", func(t *testing.T) { bringBack(t, s, r, first, second) })
		for j, other := range s.Regions {
			switch {
			case i == j:
			case other.Dir == "":
				s3.Again()
			default:
				moveTo(t, other.Dir+"-lost", other.Dir)
			}
		}
	}
}

// twoStates backs up a tree, changes it, and backs it up twice: the last time
// nothing has changed. It gives pictures of both states.
func twoStates(t *testing.T, s *site, made tree.Made) (first, second *tree.Picture) {
	t.Helper()
	first = pictureOf(t, s.source())
	b := s.backup(t, 0)
	if b.Stats.Sockets != int64(made.Sockets) || b.Stats.Unreadable+b.Stats.Torn != 0 {
		t.Errorf("%d sockets were counted of %d, %d unreadable, %d changed", b.Stats.Sockets, made.Sockets, b.Stats.Unreadable, b.Stats.Torn)
	}
	for _, r := range s.Regions {
		if b.state(r.Name) != "committed" {
			t.Errorf("region %s: %s", r.Name, b.state(r.Name))
		}
	}
	reportAll(t, tree.Compare(first, pictureOf(t, s.source()), tree.Ignore{})) // a backup changes nothing
	if _, err := tree.Mutate(s.source(), tree.Mutation{Seed: 32, Each: 5, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	second = pictureOf(t, s.source())
	if b := s.backup(t, 0); b.Stats.New == 0 || b.Stats.Changed == 0 || b.Stats.Deleted == 0 || b.Stats.Unmodified < b.Stats.Files/2 {
		t.Errorf("the second backup saw %+v", b.Stats)
	}
	b = s.backup(t, 0)
	if b.Stats.New+b.Stats.Changed+b.Stats.Deleted+b.Stats.BytesRead != 0 || b.Stats.Unmodified != b.Stats.Files {
		t.Errorf("nothing has changed, and the third backup saw %+v", b.Stats)
	}
	return first, second
}

func bringBack(t *testing.T, s *site, r siteRegion, first, second *tree.Picture) {
	stranger := s.stranger(t)
	for i, want := range []*tree.Picture{second, second, first} {
		to := stranger.Path("restored")
		args := []string{"restore", "files", "--to", to, "--json", "--repo", r.URL, "--identity-file", s.Kit, "--snapshot", fmt.Sprintf("latest~%d", i)}
		if i == 1 {
			continue // the same state, taken twice
		}
		res := stranger.run(t, 0, args...)
		if w := warningsOf(t, res); len(w) > 0 {
			t.Errorf("a healthy region, and yet it warns of %v", w)
		}
		mustMatch(t, want, to, restorable())
		wipeAll(t, to)
	}
}
