package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func commandRun(t *testing.T) *run {
	t.Helper()
	return &run{opt: Options{Now: time.Now}, target: t.TempDir()}
}

// pidIn reads the number that a command has written into the restored tree.
func pidIn(t *testing.T, d *run) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.target, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive tells whether a process runs; a zombie that nobody has collected does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func mustEnd(t *testing.T, what string, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: process %d still runs", what, pid)
		}
		<-tick.C
	}
}

// TestCommandEndsItsChildren: whatever a command has started is gone when the
// drill goes on, and the drill does not wait for it for long.
func TestCommandEndsItsChildren(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	for name, tt := range map[string]struct {
		script  string
		message string
	}{
		"a child that listens":                {`sleep 600 & echo $! > pid; wait`, "timeout of 1s"},
		"a child that does not listen":        {`trap "" TERM; sleep 600 & echo $! > pid; wait`, "timeout of 1s"},
		"a child that outlives a good parent": {`sleep 600 & echo $! > pid`, "left a process"},
		"a child without output":              {`sleep 600 >/dev/null 2>&1 & echo $! > pid`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := commandRun(t)
			begun := time.Now()
			a := d.command(t.Context(), Check{Name: "x", Run: []string{"sh", "-c", tt.script}, Timeout: time.Second})
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			mustEnd(t, name, pidIn(t, d))
			if a.OK != (tt.message == "") || !strings.Contains(a.Message, tt.message) {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestCommandStopsWithTheDrill(t *testing.T) {
	t.Parallel()
	d := commandRun(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	a := d.command(ctx, Check{Name: "x", Run: []string{"sh", "-c", `sleep 600 & echo $! > pid; wait`}, Timeout: time.Hour})
	mustEnd(t, "a stopped drill", pidIn(t, d))
	if a.OK || !strings.Contains(a.Message, "stopped") {
		t.Errorf("%+v", a)
	}
}

// TestCommandOutputIsBounded: the end of the output is kept, where the reason is.
func TestCommandOutputIsBounded(t *testing.T) {
	t.Parallel()
	d := commandRun(t)
	a := d.command(t.Context(), Check{Name: "x", Run: []string{"sh", "-c", `head -c 1000000 /dev/zero | tr '\0' x; echo the reason; exit 3`}, Timeout: time.Minute})
	if a.OK || len(a.Actual) > outputMax || !strings.HasSuffix(a.Actual, "the reason") || !strings.Contains(a.Message, "exit status 3") {
		t.Errorf("%d bytes: %+v", len(a.Actual), a.Message)
	}
}
