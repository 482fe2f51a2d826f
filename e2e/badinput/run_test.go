package badinput

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// badTargets restores to where nothing may be restored.
func badTargets(t *testing.T, f *fixture) {
	w := f.clone(t)
	restore := func(to string, more ...string) []string {
		return append([]string{"restore", "files", "--to", to, "--identity-file", w.kit}, more...)
	}
	full := w.Path("full")
	placeFile(t, filepath.Join(full, "mine"), []byte("not to be touched"))
	placeFile(t, w.Path("file"), []byte("not a directory"))
	links := map[string]string{"to empty": w.Path("empty"), "to region": w.region("a"), "dangling": w.Path("nowhere")}
	if err := os.Mkdir(w.Path("empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range links {
		if err := os.Symlink(to, w.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	before := map[string]*tree.Picture{}
	for _, dir := range []string{full, w.Path("empty"), w.region("a"), w.Path("lb-state"), w.source} {
		before[dir] = pictureIn(t, dir)
	}

	mustSay(t, w.refuses(64, "restore", "files", "--identity-file", w.kit).Hint, "--to")
	for name, c := range map[string]struct{ to, word string }{
		"not empty":                {full, "empty"},
		"the source itself":        {w.source, "empty"},
		"a file":                   {w.Path("file"), "not a directory"},
		"below a file":             {w.Path("file", "below"), ""},
		"a symlink":                {w.Path("to empty"), "symlink"},
		"a dangling symlink":       {w.Path("dangling"), "symlink"},
		"below a dangling symlink": {w.Path("dangling", "below"), "symlink"},
		"a region":                 {w.region("a"), "region"},
		"inside a region":          {filepath.Join(w.region("b"), "new"), "region"},
		"deep inside a region":     {filepath.Join(w.region("b"), "packs", "new"), "region"},
		"region through a symlink": {w.Path("to region", "new"), "region"},
		"region by a roundabout":   {w.Path("full", "..", "region-a", "new"), "region"},
		"the state directory":      {w.Path("lb-state"), ""},
		"inside the state":         {w.Path("lb-state", "new"), "state"},
		"inside the cache":         {w.Path("lb-cache", "new"), "state"},
		"the root":                 {"/", "root"},
		"a name too long":          {w.Path(strings.Repeat("long", 64)), ""},
	} {
		t.Logf("target: %s", name)
		for _, more := range [][]string{nil, {"--dry-run"}} {
			p := w.refuses(14, restore(c.to, more...)...)
			mustSay(t, p.Message, c.word)
		}
		if c.word == "region" || c.word == "state" {
			w.refuses(14, restore(c.to, "--overwrite", "always")...)
			w.refuses(14, restore(c.to, "--resume")...)
		}
	}
	// A cold start knows its regions too.
	h := w.bare()
	h.refuses(14, append([]string{"restore", "files", "--to", filepath.Join(w.region("a"), "new")}, w.cold(w.kit, "a", "b")...)...)
	// Words that choose nothing, or nonsense.
	mustSay(t, w.refuses(13, restore(w.Path("none"), "--path", "/no/such/path")...).Hint, "lifeboat find")
	w.refuses(64, restore(w.Path("none"), "--overwrite", "sometimes")...)
	w.refuses(64, restore(w.Path("none"), "--verify", "maybe")...)
	w.refuses(64, restore(w.Path("none"), "--path", "[")...)
	w.refuses(64, restore("")...)
	for dir, p := range before {
		sameAs(t, p, dir)
	}
	for _, name := range []string{"none", "nowhere"} {
		if _, err := os.Lstat(w.Path(name)); err == nil {
			t.Errorf("a refused restore has made %s", name)
		}
	}
	if e := w.works(restore(full, "--if-absent")...).Envelope(); e.Changed {
		t.Error("--if-absent changed a target that has data")
	}
	w.works(restore(w.Path("empty"))...)
	sameAs(t, w.want(), w.Path("empty"))
}

// slow makes every region take its time, so that a run can be caught.
func (w *world) slow() {
	w.t.Helper()
	for _, name := range regionNames() {
		at := w.region(name) + `"`
		w.replace(at, at+", limits: {upload: 2MiB, download: 2MiB}")
	}
}

// fast undoes it.
func (w *world) fast() {
	w.t.Helper()
	w.edit = nil
	w.configure()
}

// stored waits until a run has begun to send contents.
func (w *world) stored(p *harness.Process, phase string) {
	w.t.Helper()
	harness.WaitFor(w.t, "the run to reach "+phase, func() error {
		for line := range strings.Lines(p.Stderr()) {
			var e struct {
				Type, State, Name, Phase string
				BytesDone                int64 `json:"bytes_done"`
			}
			if json.Unmarshal([]byte(line), &e) == nil && (e.Type == "phase" && e.Name == phase && e.State == "begin" || e.Type == "progress" && e.Phase == phase) {
				return nil
			}
		}
		return errors.New("it has not")
	})
}

// badSecondRun: one run at a time works on a workload on one host.
func badSecondRun(t *testing.T, f *fixture) {
	w := f.clone(t)
	w.ownSource(12 << 20)
	w.slow()
	first := w.Start("backup", "files", "--json")
	w.stored(first, "read")
	r := w.Run("backup", "files", "--json")
	withinTime(t, 5*time.Second, r)
	p := w.failed([]int{11}, r)
	host, _ := os.Hostname()
	mustSay(t, p.Message, "files", fmt.Sprint(first.PID()), host)
	mustSay(t, p.Hint, "--lock-wait")
	mustSay(t, w.refuses(11, "backup", "files", "--lock-wait", "300ms").Message, fmt.Sprint(first.PID()))
	// Looking is not locked out.
	if got := len(w.snapshotIDs()); got != 2 {
		t.Errorf("%d snapshots during the backup, want 2", got)
	}
	// Who waits gets his turn.
	second := w.Start("backup", "files", "--json", "--lock-wait", "40s")
	for name, p := range map[string]*harness.Process{"first": first, "second": second} {
		r := p.Wait()
		if e := r.Envelope(); r.Code != 0 || e.Error != nil {
			t.Errorf("the %s: %v", name, brief(r))
		}
	}
	if got := len(w.snapshotIDs()); got != 4 {
		t.Errorf("%d snapshots, want 4", got)
	}
	// A lock whose holder was killed is no lock.
	third := w.Start("backup", "files", "--full", "--json")
	w.stored(third, "read")
	third.Kill()
	third.Wait()
	w.fast()
	w.works("backup", "files")
	w.whole()
}

// badSignals stops backup and restore in the middle: politely, twice, and for good.
func badSignals(t *testing.T, f *fixture) {
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
		code    int
	}{
		{"SIGINT", []syscall.Signal{syscall.SIGINT}, 130},
		{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, 143},
		{"SIGINT twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, 130},
		{"SIGKILL", []syscall.Signal{syscall.SIGKILL}, -1},
	} {
		t.Run("backup/"+c.name, func(t *testing.T) {
			t.Parallel()
			stoppedBackup(t, f.clone(t), c.signals, c.code)
		})
		t.Run("restore/"+c.name, func(t *testing.T) {
			t.Parallel()
			stoppedRestore(t, f.clone(t), c.signals, c.code)
		})
	}
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		w := f.clone(t)
		w.ownSource(12 << 20)
		w.slow()
		r := w.Run("backup", "files", "--timeout", "1s", "--json")
		withinTime(t, 15*time.Second, r)
		mustSay(t, w.failed([]int{124}, r).Message, "timeout")
		w.fast()
		w.whole()
	})
}

// stopRun sends signals and judges how the run ended.
func stopRun(t *testing.T, w *world, p *harness.Process, signals []syscall.Signal, code int) {
	t.Helper()
	begun := time.Now()
	for i, s := range signals {
		if i > 0 {
			harness.WaitFor(t, "the first signal to be answered", func() error {
				if !strings.Contains(p.Stderr(), "stopping") {
					return errors.New("it says nothing")
				}
				return nil
			})
		}
		p.Signal(s)
	}
	r := p.Wait()
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("took %v to stop", took.Round(time.Millisecond))
	}
	switch {
	case code < 0 || len(signals) > 1:
		if r.Code != code {
			t.Errorf("exit %d, want %d: %v", r.Code, code, brief(r))
		}
	default:
		problem := w.failed([]int{code}, r)
		mustSay(t, problem.Message, "interrupt")
		mustSay(t, problem.Hint, "again")
		mustSay(t, string(r.Stderr), "stopping")
	}
}

func stoppedBackup(t *testing.T, w *world, signals []syscall.Signal, code int) {
	w.ownSource(16 << 20)
	w.slow()
	before := w.snapshotIDs()
	p := w.Start("backup", "files", "--json")
	w.stored(p, "read")
	stopRun(t, w, p, signals, code)
	if after := w.snapshotIDs(); len(after) != len(before) {
		t.Errorf("%d snapshots before the stopped run, %d after", len(before), len(after))
	}
	w.fast()
	w.works("backup", "files")
	if after := w.snapshotIDs(); len(after) != len(before)+1 {
		t.Errorf("%d snapshots before, %d after the next run", len(before), len(after))
	}
	w.whole()
}

func stoppedRestore(t *testing.T, w *world, signals []syscall.Signal, code int) {
	w.ownSource(12 << 20)
	w.works("backup", "files")
	w.slow()
	out := w.Path("out")
	args := []string{"restore", "files", "--to", out, "--identity-file", w.kit, "--json"}
	p := w.Start(args...)
	w.stored(p, "restore")
	stopRun(t, w, p, signals, code)
	// Nothing stands under its name that is not whole.
	wrongBytes(t, w.source, out)
	w.fast()
	if left, err := os.ReadDir(out); err == nil && len(left) > 0 {
		w.fails([]int{14}, args[:len(args)-1]...)
	}
	w.works("restore", "files", "--to", out, "--identity-file", w.kit, "--resume")
	sameAs(t, w.want(), out)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".lifeboat*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
