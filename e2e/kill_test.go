package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

const (
	killRoundsDefault = 12
	killRoundsSoak    = 200
	freshBytes        = 6 << 20 // new data of each round
	largeBytes        = 32 << 20
)

// soaking tells whether tests shall take hours: LIFEBOAT_SOAK=1.
func soaking() bool { return os.Getenv("LIFEBOAT_SOAK") == "1" }

// killRounds is how often each test kills: LIFEBOAT_KILL_ROUNDS, or a default.
func killRounds(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("LIFEBOAT_KILL_ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if soaking() {
		return killRoundsSoak
	}
	return killRoundsDefault
}

// killSeed is LIFEBOAT_KILL_SEED, or one made up; it is printed, so that a
// failure can be looked for again, though never exactly.
func killSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LIFEBOAT_KILL_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("LIFEBOAT_KILL_SEED=%d", seed)
	return seed
}

// killSite is a site whose runs are killed, and what each snapshot must hold.
type killSite struct {
	*site
	cold   *site // knows the regions and the kit only
	rng    *rand.Rand
	took   time.Duration // of an undisturbed run
	want   map[string]*tree.Picture
	proved map[string]bool // region and snapshot
	early  int             // killed before anything was visible
	late   int             // ended before they were killed
	shown  int             // killed, and visible
}

// newKillSite is a host with three regions; when there is time one of them is S3.
func newKillSite(t *testing.T) *killSite {
	t.Helper()
	regions := []string{"a", "b", "c"}
	var env []string
	if soaking() {
		s3 := harness.StartS3(t)
		regions[2], env = s3.URL("c"), s3.Env()
	}
	k := &killSite{site: newSite(t, regions...), rng: rand.New(rand.NewPCG(killSeed(t), 1)), want: map[string]*tree.Picture{}, proved: map[string]bool{}}
	k.Setenv(env...)
	k.cold = k.stranger(t)
	return k
}

// killIn starts the program and kills it after a part of the time that a run takes.
func (k *killSite) killIn(t *testing.T, h *site, whole time.Duration, args ...string) *harness.Result {
	t.Helper()
	p := h.Start(args...)
	timer := time.NewTimer(time.Duration(k.rng.Float64() * float64(whole)))
	<-timer.C
	p.Kill()
	return p.Wait()
}

// killAtStatement starts the program and kills it within some milliseconds of a
// statement of its own in one region's journal: open, intent or ack.
func (k *killSite) killAtStatement(t *testing.T, args ...string) *harness.Result {
	t.Helper()
	statements := filepath.Join(k.Regions[k.rng.IntN(2)].Dir, "journal", "*", "*", "*.json")
	count := func() int {
		found, err := filepath.Glob(statements)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	which, late := count()+1+k.rng.IntN(3), time.Duration(k.rng.Int64N(int64(20*time.Millisecond)))
	p := k.Start(args...)
	harness.WaitFor(t, "a statement", func() error {
		if n := count(); n < which && !ended(p) {
			return fmt.Errorf("%d of %d", n, which)
		}
		return nil
	})
	timer := time.NewTimer(late)
	<-timer.C
	p.Kill()
	return p.Wait()
}

type listedSnapshot struct {
	ID string    `json:"id"`
	At time.Time `json:"recovery_point_at"`
}

// listed is what one region alone shows, oldest first.
func (k *killSite) listed(t *testing.T, r siteRegion) []listedSnapshot {
	t.Helper()
	var d struct {
		Snapshots []listedSnapshot `json:"snapshots"`
	}
	dataOf(t, k.cold.run(t, 0, "snapshots", "--json", "--repo", r.URL, "--identity-file", k.Kit), &d)
	return d.Snapshots
}

// prove restores a snapshot from one region alone and compares.
func (k *killSite) prove(t *testing.T, r siteRegion, id string) {
	t.Helper()
	if k.proved[r.Name+id] {
		return
	}
	to := k.cold.Path("proof")
	k.cold.run(t, 0, "restore", "files", "--snapshot", id, "--to", to, "--repo", r.URL, "--identity-file", k.Kit)
	failed := t.Failed()
	mustMatch(t, k.want[id], to, restorable())
	wipeAll(t, to)
	if t.Failed() && !failed {
		t.Fatalf("snapshot %s of region %s is not what was backed up", id, r.Name)
	}
	k.proved[r.Name+id] = true
}

// look makes sure that each region alone shows nothing but what is complete.
// since is when the killed run began, which saved the tree of picture now.
func (k *killSite) look(t *testing.T, since time.Time, now *tree.Picture) (visible bool) {
	t.Helper()
	for _, r := range k.Regions {
		all := k.listed(t, r)
		for _, sn := range all {
			if k.want[sn.ID] == nil && sn.At.After(since) {
				k.want[sn.ID] = now
			}
			if k.want[sn.ID] == nil {
				t.Fatalf("region %s shows snapshot %s of %v, which nobody took", r.Name, sn.ID, sn.At)
			}
			visible = visible || sn.At.After(since)
		}
		if len(all) > 0 {
			k.prove(t, r, all[len(all)-1].ID)
		}
	}
	return visible
}

// save takes a snapshot undisturbed; it must be committed in every region.
func (k *killSite) save(t *testing.T, now *tree.Picture) (uploaded int64, took time.Duration) {
	t.Helper()
	r := k.run(t, 0, "backup", "files", "--json")
	var b backupResult
	dataOf(t, r, &b)
	for _, region := range k.Regions {
		if b.state(region.Name) != "committed" {
			t.Fatalf("region %s: %s: %v", region.Name, b.state(region.Name), r)
		}
	}
	k.want[b.Snapshot] = now
	return b.Uploaded, r.Took
}

// change gives a round something to save.
func (k *killSite) change(t *testing.T, round int) *tree.Picture {
	t.Helper()
	// A hole in a file whose attributes fill a block of their own cannot be told.
	kinds := slices.DeleteFunc(tree.Kinds(), func(kind tree.Kind) bool { return kind == tree.Punch })
	if _, err := tree.Mutate(k.source(), tree.Mutation{Seed: k.rng.Uint64(), Each: 1, Kinds: kinds, Privileged: harness.IsRoot()}); err != nil {
		t.Fatal(err)
	}
	fresh := k.source("fresh", strconv.Itoa(round%4))
	wipeAll(t, fresh)
	if err := tree.LargeRandom(fresh, freshBytes, k.rng.Uint64()); err != nil {
		t.Fatal(err)
	}
	return pictureOf(t, k.source())
}

// TestKillBackup kills backups at any moment, every other one while it speaks in
// the journal, which is a short part of a run and the one that counts. What each region shows afterwards
// is complete, and the next run needs nobody's help.
func TestKillBackup(t *testing.T) {
	t.Parallel()
	k := newKillSite(t)
	smallTorture(t, k.source(), 61)
	if err := os.MkdirAll(k.source("fresh"), 0o755); err != nil {
		t.Fatal(err)
	}
	k.init(t)
	k.save(t, pictureOf(t, k.source()))
	_, k.took = k.save(t, k.change(t, 0))
	for round := range killRounds(t) {
		now := k.change(t, round)
		since := time.Now()
		var r *harness.Result
		if round%2 == 0 {
			r = k.killIn(t, k.site, k.took, "backup", "files", "--json")
		} else {
			r = k.killAtStatement(t, "backup", "files", "--json")
		}
		switch visible := k.look(t, since, now); {
		case r.Code == 0 && !visible:
			t.Fatalf("round %d: no region shows what was committed: %v", round, r)
		case r.Code == 0:
			k.late++
			k.took = (k.took + r.Took) / 2 // the machine has become faster
		case r.Code != -1:
			t.Fatalf("round %d: %v", round, r)
		case visible:
			k.shown++
		default:
			k.early++
		}
		k.save(t, now)
	}
	k.look(t, time.Now(), nil)
	t.Logf("%d killed with nothing visible, %d killed and visible, %d ended before", k.early, k.shown, k.late)
	k.check(t)
}

// check reads all that is stored, if this program can.
func (k *killSite) check(t *testing.T) {
	t.Helper()
	if !strings.Contains(string(k.cold.Run("check", "--help").Stdout), "--read-data") {
		t.Log("this program has no check")
		return
	}
	for _, r := range k.Regions {
		k.cold.run(t, 0, "check", "--read-data=all", "--repo", r.URL, "--identity-file", k.Kit)
	}
	k.run(t, 0, "check", "--read-data=all", "--identity-file", k.Kit)
}

// TestKillResume kills the first backup of a larger tree when it has sent some of
// it. The next run sends the rest only.
func TestKillResume(t *testing.T) {
	t.Parallel()
	k := newKillSite(t)
	const files = 10
	for i := range files {
		if err := os.MkdirAll(k.source(), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := tree.LargeRandom(k.source(fmt.Sprint("large", i)), largeBytes, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	k.init(t)
	now := pictureOf(t, k.source())
	p := k.Start("backup", "files", "--json")
	index := filepath.Join(k.Regions[0].Dir, "index", "*", "*", "*.age")
	harness.WaitFor(t, "an index object", func() error {
		if found, err := filepath.Glob(index); err != nil || len(found) == 0 && !ended(p) {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	p.Kill()
	if r := p.Wait(); r.Code != -1 {
		t.Fatalf("it ended before it was killed: %v", r)
	}
	k.look(t, time.Now(), nil)
	held := int64(0)
	packs, err := filepath.Glob(filepath.Join(k.Regions[0].Dir, "packs", "*", "*", "*", "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packs {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		held += info.Size()
	}
	uploaded, _ := k.save(t, now)
	t.Logf("the region held %d MiB when the first run was killed; the second run sent %d of %d MiB", held>>20, uploaded>>20, files*largeBytes>>20)
	if saved := files*largeBytes - uploaded; saved < held/3 {
		t.Errorf("the second run sent only %d bytes less than all", saved)
	}
	k.look(t, time.Now(), nil)
}

// TestKillRestore kills restores at any moment. Nothing is outside the target,
// and --resume brings the rest.
func TestKillRestore(t *testing.T) {
	t.Parallel()
	k := newKillSite(t)
	if _, err := tree.Make(k.source(), tree.Options{Seed: 62, Privileged: harness.IsRoot(), Files: 150, Large: 12 << 20, Wide: 200, Deep: 30}); err != nil {
		t.Fatal(err)
	}
	k.init(t)
	now := pictureOf(t, k.source())
	k.save(t, now)
	to := k.cold.Path("target")
	args := []string{"restore", "files", "--to", to, "--identity-file", k.Kit, "--json"}
	for _, r := range k.Regions {
		args = append(args, "--repo", r.URL)
	}
	k.took = k.cold.run(t, 0, args...).Took
	mustMatch(t, now, to, restorable())
	wipeAll(t, to)
	ignore := restorable()
	ignore.Root = true
	ignore.Paths = []string{"target", "tmp", "cache", "run"}
	around := pictureOf(t, k.cold.Path())
	begun := 0
	for round := range killRounds(t) {
		if r := k.killIn(t, k.cold, k.took, args...); r.Code > 0 {
			t.Fatalf("round %d: %v", round, r)
		}
		if !isGone(to) {
			begun++
		}
		reportAll(t, tree.Compare(around, pictureOf(t, k.cold.Path()), ignore))
		for n := k.rng.IntN(3); n > 0; n-- {
			if r := k.killIn(t, k.cold, k.took, append(args, "--resume")...); r.Code > 0 {
				t.Fatalf("round %d: %v", round, r)
			}
		}
		k.cold.run(t, 0, append(args, "--resume")...)
		mustMatch(t, now, to, restorable())
		reportAll(t, tree.Compare(around, pictureOf(t, k.cold.Path()), ignore))
		wipeAll(t, to)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d of the restores had begun to write", begun)
}
