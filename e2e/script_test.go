package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lifeboat/e2e/internal/harness"
	"lifeboat/e2e/tree"
)

// TestScripts runs the stories in testdata/script: the program as text.
func TestScripts(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(bin, "lifeboat")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("LANG", "C.UTF-8")
			env.Setenv("TZ", "UTC")
			for name, dir := range map[string]string{
				"HOME": "home", "XDG_CONFIG_HOME": "home/.config", "XDG_STATE_HOME": "home/.state", "XDG_CACHE_HOME": "home/.cache", "XDG_RUNTIME_DIR": "home/.run",
			} {
				path := filepath.Join(env.WorkDir, dir)
				if err := os.MkdirAll(path, 0o700); err != nil {
					return err
				}
				env.Setenv(name, path)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "field": field, "tree": makeTree, "mutate": mutate, "same": sameTrees, "here": here,
		},
	})
}

// exits CODE COMMAND ARG… runs a command that must exit with the code. What it
// printed is then there for stdout, stderr and field.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit %d, want %d", code, want)
	}
}

// field PATH [VALUE] looks into the JSON document on stdout: the value at the
// path (data.regions.0.name) must be VALUE, or be there at all.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] field PATH [VALUE]")
	}
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	found := true
	for _, part := range strings.Split(args[0], ".") {
		switch in := at.(type) {
		case map[string]any:
			at, found = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if found = err == nil && i < len(in); found {
				at = in[i]
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	got := fmt.Sprint(at)
	if n, ok := at.(float64); ok {
		got = strconv.FormatFloat(n, 'f', -1, 64)
	}
	ok := found && (len(args) == 1 || got == args[1])
	if ok == neg {
		ts.Fatalf("%s is %s (there: %t)", args[0], got, found)
	}
}

// here FILE… puts the test's folder in the place of the word WORK.
func here(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: here FILE…")
	}
	for _, name := range args {
		text := strings.ReplaceAll(ts.ReadFile(name), "WORK/", ts.Getenv("WORK")+"/")
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// tree DIR [SEED] makes a small torture tree, as far as this user can.
func makeTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: tree DIR [SEED]")
	}
	_, err := tree.Make(ts.MkAbs(args[0]), tree.Options{
		Seed: seed(ts, args), Privileged: os.Geteuid() == 0, Files: 50, Large: 1 << 20, Wide: 100, Deep: 30,
	})
	ts.Check(err)
}

// mutate DIR [SEED] changes a tree.
func mutate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: mutate DIR [SEED]")
	}
	done, err := tree.Mutate(ts.MkAbs(args[0]), tree.Mutation{Seed: seed(ts, args), Privileged: os.Geteuid() == 0})
	ts.Check(err)
	ts.Logf("%v", done)
}

func seed(ts *testscript.TestScript, args []string) uint64 {
	if len(args) < 2 {
		return 1
	}
	n, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	return n
}

// same A B compares two trees in all that a restore brings back; sockets are
// never restored.
func sameTrees(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same A B")
	}
	all, err := tree.CompareDirs(ts.MkAbs(args[0]), ts.MkAbs(args[1]), tree.Ignore{Sockets: true})
	ts.Check(err)
	const most = 20
	for i, d := range all {
		if i == most {
			break
		}
		ts.Logf("%v", d)
	}
	if (len(all) == 0) == neg {
		ts.Fatalf("%d differences", len(all))
	}
}
