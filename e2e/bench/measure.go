package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// measureMode is the first argument that makes this program the small process
// which starts and measures another one. Linux counts the memory of the process
// that starts a program into that program's peak, so a large one must not.
const measureMode = "measure"

const runTimeout = 2 * time.Hour // of one command; far above what any needs

// command is one run of a program.
type command struct {
	args []string
	dir  string
	env  []string // the whole environment
	ok   []int    // exit codes beside 0 that are no failure
}

// usage is what one run cost.
type usage struct {
	Wall   float64 // seconds
	CPU    float64 // seconds, user and system
	RSS    int64   // bytes, the peak
	Settle float64 // seconds until all that was written was on the disk
	Code   int
}

// measure runs a command to its end. The program's output goes to a log file,
// whose end is in the error when it fails.
func measure(c command, log string) (usage, error) {
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	report := log + ".json"
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, append([]string{measureMode, report, log}, c.args...)...)
	cmd.Dir, cmd.Env, cmd.Stderr = c.dir, c.env, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal comes when the starting thread ends
	err = cmd.Run()
	runtime.UnlockOSThread()
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w", strings.Join(c.args, " "), err)
	}
	began := time.Now()
	unix.Sync()
	u := usage{Settle: time.Since(began).Seconds()}
	text, err := os.ReadFile(report)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(text, &u); err != nil {
		return u, err
	}
	if u.Code != 0 {
		for _, code := range c.ok {
			if u.Code == code {
				return u, nil
			}
		}
		return u, fmt.Errorf("%s: exit %d: %s", strings.Join(c.args, " "), u.Code, tail(log))
	}
	return u, nil
}

// tail is the end of a log file.
func tail(path string) string {
	const most = 4000
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// measureMain is the small process: it runs args[2:] with its output in the
// file args[1] and writes what that cost to the file args[0].
func measureMain(args []string) int {
	u, err := measured(args[1], args[2:])
	if err == nil {
		var text []byte
		if text, err = json.Marshal(struct {
			Wall, CPU float64
			RSS       int64
			Code      int
		}{u.Wall, u.CPU, u.RSS, u.Code}); err == nil {
			err = os.WriteFile(args[0], text, 0o600)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: measure:", err)
		return 1
	}
	return 0
}

func measured(log string, args []string) (u usage, err error) {
	out, err := os.Create(log)
	if err != nil {
		return u, err
	}
	defer out.Close()
	runtime.LockOSThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	err = cmd.Run()
	u.Wall = time.Since(began).Seconds()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return u, err
	}
	state := cmd.ProcessState
	u.CPU, u.Code = (state.UserTime() + state.SystemTime()).Seconds(), state.ExitCode()
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.RSS = r.Maxrss << 10
	}
	return u, nil
}

// prepare puts the machine into the same state before every run: nothing waits
// to be written, and what will be read is in the page cache, or with drop nothing is.
func prepare(drop bool, dirs ...string) error {
	unix.Sync()
	if drop {
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	buf := make([]byte, 256<<10)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			return readThrough(path, buf)
		})
		if err != nil {
			return fmt.Errorf("warm the page cache: %w", err)
		}
	}
	return nil
}

// readThrough reads a whole file for nothing but having it in memory.
func readThrough(path string, buf []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
	return err
}

// stored is the sum of the sizes of all files below some folders.
func stored(dirs []string) (sum int64, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sum += info.Size()
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}
