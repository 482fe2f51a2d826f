package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"lifeboat/config"
)

// app is one run of the command line: the world it runs in, the resolved
// global flags, and what it has to say at the end.
//
// A command lives in a file of its own and looks like this:
//
//	func (a *app) statsCommand() *cobra.Command {
//		var by string
//		c := &cobra.Command{
//			Use:     "stats [WORKLOAD]",
//			Short:   "Show stored, new and deduplicated bytes",
//			Example: "  lifeboat stats\n  lifeboat stats files --by region\n  lifeboat stats --json",
//			Args:    cobra.MaximumNArgs(1),
//		}
//		c.Flags().StringVar(&by, "by", "workload", "group by workload, region or kind")
//		return a.handle(c, func(ctx context.Context, args []string) (data any, changed bool, err error) {
//			w, err := a.workload(args[0])      // did-you-mean, exit 64
//			regions, err := a.regions()        // from --repo or the configuration
//			a.progress.plan("locate", "fetch") // phases, once
//			a.progress.phase("locate")
//			a.warn("region_slow", "fra answered slowly", "region", "fra")
//			return statsData{…}, false, nil
//		})
//	}
//
// and is added to the list in commands.go. The framework prints: data is
// marshalled for -o json and yaml, and its text(*page) method (see texter)
// writes the text form. A command never writes to stdout or stderr itself,
// except through a.records (long lists, constant memory) and a.rawOutput (cat).
// Data may come back together with an error: partial results are printed too.
// Errors are *Fail, or sentinel errors that classify knows; anything else
// exits 1. List commands are wrapped with a.lists, which allows -o name and jsonl.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	now    func() time.Time
	isTTY  func(stream any) bool

	opt      options      // resolved global flags
	viper    *viper.Viper // flag, environment, file, default: in this order
	origins  map[string]string
	log      *slog.Logger
	events   *eventSink // nil without an event stream
	progress *progress  // never nil
	started  time.Time
	runID    string
	kind     string // of the result: the command's path, joined by _
	fullHelp bool   // --help, not -h
	begun    bool   // flags are resolved, streams are open

	mu       sync.Mutex
	warnings []warning
	said     map[string]int // warnings by code
	loaded   *config.File
	stream   *records // list being streamed to stdout, or nil
	outcome  outcome
	closers  []func() error
	traffic  traffic // requests and bytes per region
}

// outcome is what a command returned.
type outcome struct {
	data    any
	changed bool
	ran     bool // a command ran; otherwise it was usage or help
}

// handler is the body of a command.
type handler func(ctx context.Context, args []string) (data any, changed bool, err error)

// warning is something that did not stop the run and must be said.
type warning struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Attrs   map[string]any `json:"-"`
}

// run is the whole program with its world as arguments. It returns the exit
// code. It never exits the process and never lets a panic through.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer,
	getenv func(string) string, now func() time.Time) int {
	a := newApp(stdin, stdout, stderr, getenv, now)
	return a.main(ctx, a.root(), args)
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string, now func() time.Time) *app {
	a := &app{
		stdin: stdin, stdout: stdout, stderr: &safeWriter{w: stderr}, getenv: getenv, now: now, isTTY: isTerminal,
		viper: viper.New(), origins: map[string]string{}, said: map[string]int{}, log: slog.New(slog.DiscardHandler),
	}
	a.progress = newProgress(now, noneRenderer{})
	return a
}

// main parses, runs the command and prints the result.
func (a *app) main(ctx context.Context, root *cobra.Command, args []string) int {
	a.started = a.now()
	a.runID = newRunID(a.started)
	a.opt = guessOptions(args, a.getenv) // for errors that come before flags are parsed
	a.kind = "usage"
	a.fullHelp = slices.Contains(args, "--help") || slices.Contains(args, "help")
	root.SetArgs(args)
	err := a.execute(ctx, root)
	return a.finish(ctx, err)
}

// execute runs the command tree and turns a panic into an error.
func (a *app) execute(ctx context.Context, root *cobra.Command) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = a.bug(p, debug.Stack())
		}
	}()
	if err := root.ExecuteContext(ctx); err != nil {
		var fail *Fail
		if !a.outcome.ran && !errors.As(err, &fail) {
			return usageError(err)
		}
		return err
	}
	return nil
}

// bug writes a report file, since the user cannot copy a stack from a log.
func (a *app) bug(p any, stack []byte) error {
	report := fmt.Sprintf("lifeboat %s, %s, run %s\n\npanic: %v\n\n%s", release, a.kind, a.runID, p, stack)
	fail := &Fail{Code: Internal, Message: fmt.Sprintf("this is a bug in lifeboat: %v", p)}
	f, err := os.CreateTemp("", "lifeboat-bug-*.txt")
	if err == nil {
		_, err = f.WriteString(report)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fail.Hint = "please report it with this: " + firstLines(string(stack), 12)
		return fail
	}
	fail.Hint = "please report it with the file " + f.Name()
	return fail
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " | ")
}

// handle makes fn the body of c: global flags are resolved before it, the
// result is printed after it.
func (a *app) handle(c *cobra.Command, fn handler) *cobra.Command {
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx := c.Context()
		a.kind = strings.NewReplacer(" ", "_", "-", "_").Replace(strings.TrimPrefix(c.CommandPath(), "lifeboat "))
		if err := a.begin(c); err != nil {
			return err
		}
		a.outcome.ran = true
		if a.opt.Timeout > 0 {
			limited, cancel := context.WithTimeoutCause(ctx, a.opt.Timeout, errTimeout)
			defer cancel()
			ctx = limited
		}
		defer a.watch(ctx)()
		a.sendStart(c, args)
		stopProgress := a.progress.start()
		defer stopProgress()
		data, changed, err := fn(ctx, args)
		a.outcome.data, a.outcome.changed = data, changed
		return a.withCause(ctx, err)
	}
	return c
}

// withCause says why a run was cut short, when it was.
func (a *app) withCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var signalled interruption
	switch {
	case errors.Is(cause, errTimeout):
		return &Fail{Code: Timeout, Message: fmt.Sprintf("gave up after --timeout %s", config.Duration(a.opt.Timeout)), Err: err,
			Hint: "what was stored is kept; run the same command again to go on"}
	case errors.As(cause, &signalled):
		return &Fail{Code: signalled.code(), Message: "interrupted", Err: err,
			Hint: "what was stored is kept; run the same command again to go on"}
	}
	return err
}

// begin resolves the global flags and opens log, events and progress.
func (a *app) begin(c *cobra.Command) error {
	if err := a.resolve(c); err != nil {
		return err
	}
	a.begun = true
	if err := a.openEvents(); err != nil {
		return err
	}
	if err := a.openLog(); err != nil {
		return err
	}
	a.progress = newProgress(a.now, a.renderer())
	return nil
}

// warn records something that must be said without stopping the run. attrs are
// pairs of names and values that go beside the message in JSON.
func (a *app) warn(code, message string, attrs ...any) {
	w := warning{Code: code, Message: message, Attrs: map[string]any{}}
	for i := 0; i+1 < len(attrs); i += 2 {
		w.Attrs[fmt.Sprint(attrs[i])] = attrs[i+1]
	}
	a.mu.Lock()
	if len(a.warnings) < warningsMax {
		a.warnings = append(a.warnings, w)
	}
	a.said[code]++
	said := a.said[code]
	a.mu.Unlock()
	if a.events != nil {
		a.events.send("warning", w)
	}
	switch {
	case a.opt.isJSON() || said > saidMax:
	case said == saidMax:
		a.note("warning: %s; more like this are counted, and named with --json", message)
	default:
		a.note("warning: %s", message)
	}
}

// saidMax is how many warnings of one kind are printed for people.
const saidMax = 40

// warningsMax bounds what a result carries; events and text have all of them.
const warningsMax = 1000

// note prints one line on stderr for people; under --json it is a log event.
func (a *app) note(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if a.opt.isJSON() {
		if a.events != nil {
			a.events.send("log", map[string]any{"level": "info", "msg": message})
		}
		return
	}
	a.progress.print(a.stderr, "lifeboat: "+message+"\n")
}

// onClose runs fn when the command has ended, last first.
func (a *app) onClose(fn func() error) { a.closers = append(a.closers, fn) }

// safeWriter serialises writers of stderr and forgets the rest after an error:
// a closed pipe there must not fail a run.
type safeWriter struct {
	mu     sync.Mutex
	w      io.Writer
	broken bool
}

func (s *safeWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.broken {
		if _, err := s.w.Write(p); err != nil {
			s.broken = true
		}
	}
	return len(p), nil
}
