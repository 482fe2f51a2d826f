package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"lifeboat/config"
)

// resultSchema names the envelope's version.
const resultSchema = "lifeboat.result/v1"

// envelope is the one document on stdout. Its data comes apart, since a list
// may already have been streamed.
type envelope struct {
	Schema     string       `json:"schema"`
	Kind       string       `json:"kind"`
	OK         bool         `json:"ok"`
	ExitCode   Code         `json:"exit_code"`
	Changed    bool         `json:"changed"`
	RunID      string       `json:"run_id"`
	StartedAt  string       `json:"started_at"`
	FinishedAt string       `json:"finished_at"`
	DurationMS int64        `json:"duration_ms"`
	Host       string       `json:"host,omitempty"`
	Version    string       `json:"version"`
	Data       any          `json:"data"`
	Warnings   []any        `json:"warnings"`
	Error      *resultError `json:"error"`
}

// resultError is a failure for machines.
type resultError struct {
	Code      string   `json:"code"`
	ExitCode  Code     `json:"exit_code"`
	Message   string   `json:"message"`
	Hint      string   `json:"hint,omitempty"`
	Retryable bool     `json:"retryable"`
	Docs      string   `json:"docs"`
	Causes    []string `json:"causes,omitempty"`
}

// MarshalJSON writes the warning's own fields beside code and message.
func (w warning) MarshalJSON() ([]byte, error) {
	type plain warning
	if len(w.Attrs) == 0 {
		return json.Marshal(plain(w))
	}
	return mergeJSON(map[string]any{"code": w.Code, "message": w.Message}, w.Attrs)
}

func resultErrorOf(f *Fail) *resultError {
	if f == nil {
		return nil
	}
	info := f.Code.info()
	return &resultError{
		Code: info.Name, ExitCode: f.Code, Message: f.Error(), Hint: f.Hint, Retryable: info.Retryable,
		Docs: "lifeboat help exit-codes", Causes: causes(f),
	}
}

// finish prints the result in the chosen form and gives the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = joinAfter(err, a.closers[i]())
	}
	fail := classify(err)
	code := OK
	if fail != nil {
		code = fail.Code
	}
	werr := a.tryPrint(code, fail)
	var bug *Fail
	if errors.As(werr, &bug) && bug.Code == Internal { // the data cannot be shown: say at least that
		a.outcome.data, code, fail = nil, Internal, bug
		werr = a.tryPrint(code, fail)
	}
	if werr != nil && code == OK {
		if !errors.Is(werr, errClosedPipe) {
			fail = &Fail{Code: Failed, Message: "write the result: " + werr.Error(), Hint: "the work itself is done; see why stdout cannot be written", Err: werr}
			a.printFail(fail)
		}
		code = Failed
	}
	if a.events == nil && a.opt.isJSON() && !a.begun {
		_ = a.openEvents() // usage errors come before the stream is opened; there is nobody else to tell
	}
	if a.events != nil {
		if fail != nil {
			a.events.send("error", resultErrorOf(fail))
		}
		a.events.send("end", map[string]any{"ok": code == OK, "exit_code": code})
		a.events.close()
	}
	return int(code)
}

// tryPrint prints, and turns a panic of what prints into an error.
func (a *app) tryPrint(code Code, fail *Fail) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = a.bug(p, debug.Stack())
		}
	}()
	return a.print(code, fail)
}

// joinAfter keeps the first error and adds a later one from closing.
func joinAfter(err, later error) error {
	switch {
	case later == nil:
		return err
	case err == nil:
		return later
	}
	return errors.Join(err, later)
}

func (a *app) print(code Code, fail *Fail) error {
	switch a.opt.Output {
	case formatJSON, formatJSONL, formatYAML:
		if fail != nil && a.opt.Output == formatYAML {
			a.printFail(fail)
		}
		return a.printDocument(code, fail)
	case formatName:
		if fail != nil {
			defer a.printFail(fail)
		}
		return a.printNames()
	}
	err := a.printText()
	if fail != nil {
		a.printFail(fail)
	}
	return err
}

// printFail tells people what went wrong and what to do next.
func (a *app) printFail(f *Fail) {
	var problems config.Problems
	if errors.As(f.Err, &problems) && a.outcome.data == nil {
		a.printProblems(a.stderr, problems)
		fmt.Fprintf(a.stderr, "lifeboat: error: the configuration is not valid\n")
	} else if a.kind != "config_check" || len(problems) == 0 {
		for i, line := range strings.Split(f.Error(), "\n") {
			fmt.Fprintf(a.stderr, "lifeboat: %s%s\n", []string{"error: ", "  "}[min(i, 1)], line)
		}
	}
	if a.opt.Verbose > 0 {
		for _, cause := range causes(f) {
			fmt.Fprintf(a.stderr, "lifeboat: cause: %s\n", cause)
		}
	}
	if f.Hint != "" {
		fmt.Fprintf(a.stderr, "lifeboat: hint: %s\n", f.Hint)
	}
}

func (a *app) envelope(code Code, fail *Fail) envelope {
	finished := a.now()
	host, _ := os.Hostname() // for people; empty is as good as an error
	e := envelope{
		Schema: resultSchema, Kind: a.kind, OK: code == OK, ExitCode: code, Changed: a.outcome.changed, RunID: a.runID,
		StartedAt: stamp(a.started), FinishedAt: stamp(finished), DurationMS: finished.Sub(a.started).Milliseconds(),
		Host: host, Version: release, Data: a.outcome.data, Warnings: []any{}, Error: resultErrorOf(fail),
	}
	if e.Data == nil {
		e.Data = struct{}{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.warnings {
		e.Warnings = append(e.Warnings, w)
	}
	return e
}

func (a *app) printDocument(code Code, fail *Fail) error {
	e := a.envelope(code, fail)
	if a.stream != nil && a.opt.Output != formatYAML {
		return a.stream.end(e)
	}
	if a.stream != nil { // YAML keeps the records; it is for small things
		e.Data = a.stream.collected(e.Data)
	}
	out, err := marshal(e, a.opt.Output == formatJSON && a.isTTY(a.stdout))
	if err != nil {
		return err
	}
	if a.opt.Output == formatYAML {
		if out, err = toYAML(out); err != nil {
			return err
		}
	}
	return writeOut(a.stdout, out)
}

// marshal writes JSON with a line break, without escaping <, > and &.
func marshal(v any, pretty bool) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if pretty {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// toYAML rewrites JSON as block-style YAML in the same order.
func toYAML(data []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(escapeForYAML(data), &node); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	plainStyle(&node)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// escapeForYAML escapes in JSON what may stand in its strings and not in YAML's:
// DEL, C1 controls (of which NEL would become a blank), noncharacters.
func escapeForYAML(data []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(data) {
		switch {
		case r >= 0x7f && r <= 0x9f, r >= 0xfdd0 && r <= 0xfdef, r == 0xfeff, r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

func plainStyle(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		plainStyle(c)
	}
}

// namer is data that can list its names, for -o name.
type namer interface{ names() []string }

func (a *app) printNames() error {
	if a.stream != nil {
		return a.stream.flush()
	}
	if n, ok := a.outcome.data.(namer); ok {
		var b bytes.Buffer
		for _, name := range n.names() {
			b.WriteString(name + "\n")
		}
		return writeOut(a.stdout, b.Bytes())
	}
	return nil
}

// texter is data that has a form for people.
type texter interface{ text(p *page) }

func (a *app) printText() error {
	if a.stream != nil {
		if err := a.stream.flush(); err != nil {
			return err
		}
	}
	p := a.page(a.stdout)
	switch data := a.outcome.data.(type) {
	case nil:
		return nil
	case texter:
		data.text(p)
	default:
		if a.stream != nil {
			return nil // the rows have said it
		}
		out, err := marshal(data, false)
		if err == nil {
			out, err = toYAML(out)
		}
		if err != nil {
			return err
		}
		p.b.Write(out)
	}
	return writeOut(a.stdout, p.b.Bytes())
}

// errClosedPipe means that whoever read stdout has gone, as head does.
var errClosedPipe = errors.New("stdout was closed")

func writeOut(w io.Writer, data []byte) error {
	_, err := w.Write(data)
	if isClosedPipe(err) {
		return errClosedPipe
	}
	return err
}

// rawOutput is stdout itself, for bytes that are the result (cat). Under
// --json it is refused, since stdout then carries one document.
func (a *app) rawOutput() (io.Writer, error) {
	if a.opt.Output != formatText && a.opt.Output != formatWide {
		return nil, &Fail{Code: Usage, Message: "raw bytes cannot go to stdout with --output " + a.opt.Output, Hint: "use --out FILE"}
	}
	return a.stdout, nil
}

// sendStart announces the run in the event stream.
func (a *app) sendStart(c *cobra.Command, args []string) {
	if a.events == nil {
		return
	}
	body := map[string]any{"command": c.CommandPath(), "version": release}
	if len(args) > 0 {
		body["args"] = args
	}
	if a.opt.DryRun {
		body["dry_run"] = true
	}
	a.events.send("start", body)
}

// milliseconds of a duration, as results carry them.
func milliseconds(d time.Duration) int64 { return d.Milliseconds() }
