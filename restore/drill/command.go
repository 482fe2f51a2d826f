package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	checkTimeoutMax = 24 * time.Hour
	checkGrace      = 5 * time.Second // between asking a command to end and ending it
	outputMax       = 2048            // bytes kept of what a command prints; the last ones
)

// command runs one check in the restored tree, with a bare environment and in a
// process group of its own: what it leaves running ends with it, so that nothing
// works on in a sandbox that is about to be removed.
func (d *run) command(ctx context.Context, c Check) Assertion {
	began := d.opt.Now()
	limit := min(max(c.Timeout, time.Second), checkTimeoutMax)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := slices.Clone(c.Run)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{{ .Target }}", d.target)
	}
	cmd := exec.CommandContext(limited, argv[0], argv[1:]...)
	cmd.Dir = d.target
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=" + d.target, "LIFEBOAT_DRILL_TARGET=" + d.target}
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := runGroup(cmd)
	a := Assertion{Name: c.Name, Type: "command", OK: err == nil, Actual: out.String(), DurationMS: d.opt.Now().Sub(began).Milliseconds()}
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrWaitDelay):
		a.Message = fmt.Sprintf("ended well, but left a process that held its output for %v more; that was ended", checkGrace)
	case ctx.Err() != nil:
		a.Message = "the drill was stopped, and the command with it"
	case limited.Err() != nil:
		a.Message = fmt.Sprintf("took longer than its timeout of %v, and was ended", limit)
	default:
		a.Message = err.Error()
	}
	return a
}

// runGroup runs a command as the leader of a process group. When its context
// ends, the group is asked to end. However the command ends, what is left of the
// group after the grace is killed: a child that holds the output open, or that
// does not listen, keeps nobody waiting for longer.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = checkGrace
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	// The number of a group that has members left is not given to another process.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // mostly nobody is left
	return err
}

// tail keeps the end of what a command prints.
type tail struct{ b bytes.Buffer }

// Write keeps the last outputMax bytes.
func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > outputMax {
		p = p[n-outputMax:]
	}
	t.b.Write(p)
	if extra := t.b.Len() - outputMax; extra > 0 {
		t.b.Next(extra)
	}
	return n, nil
}

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(t.b.String(), "?")) }
