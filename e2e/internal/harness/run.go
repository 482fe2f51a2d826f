package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runTimeout ends a command that hangs. It is far above what any test needs.
const runTimeout = 10 * time.Minute

// Host is a machine as the program sees it: a home, a state directory, an
// environment. Two hosts share nothing.
type Host struct {
	t       testing.TB
	Dir     string // holds all the rest
	Home    string
	Env     []string // the whole environment, nothing is inherited
	Flags   []string // put before every command line, such as --config
	binary  string
	Timeout time.Duration
}

// NewHost makes an empty one that lasts as long as the test.
func NewHost(t testing.TB) *Host {
	t.Helper()
	dir := t.TempDir()
	h := &Host{t: t, Dir: dir, Home: filepath.Join(dir, "home"), binary: Binary(t), Timeout: runTimeout}
	vars := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.Home, "LANG=C.UTF-8", "TZ=UTC"}
	for name, sub := range map[string]string{
		"XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "run", "TMPDIR": "tmp",
	} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		vars = append(vars, name+"="+path)
	}
	if err := os.MkdirAll(h.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	h.Env = vars
	return h
}

// Setenv adds variables, each NAME=value; a later one wins.
func (h *Host) Setenv(vars ...string) { h.Env = append(h.Env, vars...) }

// Path is a path in the host's directory.
func (h *Host) Path(parts ...string) string {
	return filepath.Join(append([]string{h.Dir}, parts...)...)
}

// Run runs the program to its end, whatever that is.
func (h *Host) Run(args ...string) *Result {
	h.t.Helper()
	return h.Start(args...).Wait()
}

// Must runs the program and ends the test unless it exits with 0.
func (h *Host) Must(args ...string) *Result {
	h.t.Helper()
	return h.Exits(0, args...)
}

// Exits runs the program and ends the test unless it exits with the code.
func (h *Host) Exits(code int, args ...string) *Result {
	h.t.Helper()
	r := h.Run(args...)
	if r.Code != code {
		h.t.Fatalf("exit %d, want %d: %v", r.Code, code, r)
	}
	return r
}

// Process is a run that has begun.
type Process struct {
	t       testing.TB
	cmd     *exec.Cmd
	args    []string
	begun   time.Time
	out     buffer
	errs    buffer
	timer   *time.Timer
	memory  *memory
	waiting sync.Once
	result  *Result
}

// Start begins a run. A test that ends before it kills it.
func (h *Host) Start(args ...string) *Process {
	h.t.Helper()
	args = append(append([]string(nil), h.Flags...), args...)
	p := &Process{t: h.t, args: args, cmd: exec.Command(h.binary, args...), begun: time.Now()}
	p.cmd.Env, p.cmd.Dir = h.Env, h.Dir
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	p.cmd.WaitDelay = 10 * time.Second // for a grandchild that holds the pipes
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		h.t.Fatalf("start lifeboat: %v", err)
	}
	p.memory = watchMemory(p.cmd.Process.Pid)
	p.timer = time.AfterFunc(h.Timeout, p.Kill)
	h.t.Cleanup(func() {
		p.Kill()
		p.Wait()
	})
	return p
}

// Signal sends a signal to the program alone.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill is kill -9 for the program and its children. A process that has ended is left alone.
func (p *Process) Kill() {
	if p.cmd.Process.Kill() == nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stderr is what it has written so far.
func (p *Process) Stderr() string { return p.errs.String() }

// Stdout is what it has written so far.
func (p *Process) Stdout() string { return p.out.String() }

// Wait waits for the end. It can be called again.
func (p *Process) Wait() *Result {
	p.t.Helper()
	p.waiting.Do(func() {
		err := p.cmd.Wait()
		p.timer.Stop()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Errorf("run lifeboat %s: %v", strings.Join(p.args, " "), err)
		}
		p.result = p.finish()
	})
	return p.result
}

func (p *Process) finish() *Result {
	r := &Result{
		t: p.t, Args: p.args, Took: time.Since(p.begun), Stdout: p.out.Bytes(), Stderr: p.errs.Bytes(),
		AnonPeak: p.memory.stop(), Code: -1,
	}
	if s := p.cmd.ProcessState; s != nil {
		r.Code, r.CPU = s.ExitCode(), s.UserTime()+s.SystemTime()
		if u, ok := s.SysUsage().(*syscall.Rusage); ok {
			r.MaxRSS = u.Maxrss << 10
		}
		if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			r.Killed = w.Signal()
		}
	}
	return r
}

// Result is a run that has ended.
type Result struct {
	t        testing.TB
	Args     []string
	Code     int            // -1 when a signal ended it
	Killed   syscall.Signal // that signal
	Stdout   []byte
	Stderr   []byte
	Took     time.Duration
	CPU      time.Duration // user and system
	MaxRSS   int64         // bytes, mapped files included
	AnonPeak int64         // bytes of anonymous memory at the most, sampled
}

func (r *Result) String() string {
	const most = 4000
	return fmt.Sprintf("lifeboat %s: exit %d after %v\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code,
		r.Took.Round(time.Millisecond), cut(r.Stdout, most), cut(r.Stderr, most))
}

func cut(b []byte, most int) string {
	if len(b) <= most {
		return string(b)
	}
	return string(b[:most/2]) + "\n…\n" + string(b[len(b)-most/2:])
}

// Envelope is the one document on stdout of a run with --json.
type Envelope struct {
	Schema     string          `json:"schema"`
	Kind       string          `json:"kind"`
	OK         bool            `json:"ok"`
	ExitCode   int             `json:"exit_code"`
	Changed    bool            `json:"changed"`
	RunID      string          `json:"run_id"`
	DurationMS int64           `json:"duration_ms"`
	Version    string          `json:"version"`
	Data       json.RawMessage `json:"data"`
	Warnings   []Problem       `json:"warnings"`
	Error      *Problem        `json:"error"`
}

// Problem is a warning or an error in an envelope.
type Problem struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Hint    string   `json:"hint"`
	Causes  []string `json:"causes"`
}

// Envelope parses stdout, which must hold one document and nothing else, and
// checks that it agrees with the exit code.
func (r *Result) Envelope() Envelope {
	r.t.Helper()
	var e Envelope
	d := json.NewDecoder(bytes.NewReader(r.Stdout))
	if err := d.Decode(&e); err != nil {
		r.t.Fatalf("stdout is no envelope: %v: %v", err, r)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		r.t.Fatalf("stdout holds more than one document: %v", r)
	}
	switch {
	case e.Schema != "lifeboat.result/v1":
		r.t.Errorf("schema %q: %v", e.Schema, r)
	case e.ExitCode != r.Code:
		r.t.Errorf("the envelope says exit %d: %v", e.ExitCode, r)
	case e.OK != (r.Code == 0), e.OK != (e.Error == nil):
		r.t.Errorf("the envelope's ok, error and exit code disagree: %v", r)
	}
	return e
}

// Data decodes the envelope's data into v.
func (r *Result) Data(v any) {
	r.t.Helper()
	if err := json.Unmarshal(r.Envelope().Data, v); err != nil {
		r.t.Fatalf("data: %v: %v", err, r)
	}
}

// Event is one line of the event stream.
type Event struct {
	Schema string `json:"schema"`
	Seq    int64  `json:"seq"`
	Type   string `json:"type"`
	Raw    json.RawMessage
}

// Events parses stderr of a run with --json: whole lines of JSON and nothing
// else, with rising numbers, the last one of type end.
func (r *Result) Events() []Event {
	r.t.Helper()
	const lineMost = 64 << 10
	var all []Event
	for line := range bytes.Lines(r.Stderr) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			r.t.Fatalf("stderr has a line that is no event: %q: %v", line, err)
		}
		if e.Schema != "lifeboat.event/v1" || len(line) > lineMost {
			r.t.Fatalf("bad event of %d bytes: %.200s", len(line), line)
		}
		if n := len(all); n > 0 && e.Seq <= all[n-1].Seq {
			r.t.Fatalf("event %d follows %d", e.Seq, all[n-1].Seq)
		}
		e.Raw = bytes.Clone(line)
		all = append(all, e)
	}
	if n := len(all); r.Killed == 0 && (n == 0 || all[n-1].Type != "end") {
		r.t.Fatalf("the event stream does not end: %v", r)
	}
	return all
}

// buffer is a bytes.Buffer that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string { return string(b.Bytes()) }

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}
