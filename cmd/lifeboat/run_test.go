package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/storage"
)

// world is what a test gives a run, and what comes out.
type world struct {
	env    map[string]string
	stdin  string
	ctx    context.Context
	tty    bool
	body   handler // of the command "try", if any
	isList bool

	stdout, stderr bytes.Buffer
	app            *app
}

func clock() func() time.Time {
	at := time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)
	return func() time.Time { return at }
}

func (w *world) run(args ...string) int {
	w.stdout.Reset()
	w.stderr.Reset()
	if w.ctx == nil {
		w.ctx = context.Background()
	}
	getenv := func(name string) string { return w.env[name] }
	a := newApp(strings.NewReader(w.stdin), &w.stdout, &w.stderr, getenv, clock())
	a.isTTY = func(any) bool { return w.tty }
	root := a.root()
	if w.body != nil {
		c := a.handle(&cobra.Command{Use: "try", Args: cobra.ArbitraryArgs}, w.body)
		if w.isList {
			a.lists(c)
		}
		root.AddCommand(c)
	}
	w.app = a
	return a.main(w.ctx, root, args)
}

// document parses stdout as exactly one JSON document.
func (w *world) document(t *testing.T) map[string]any {
	t.Helper()
	dec := json.NewDecoder(&w.stdout)
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("stdout is not a document: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one document on stdout")
	}
	for _, key := range []string{"schema", "kind", "ok", "exit_code", "changed", "run_id", "started_at", "finished_at", "duration_ms", "version", "data", "warnings", "error"} {
		if _, ok := doc[key]; !ok {
			t.Errorf("the envelope has no %q: %v", key, doc)
		}
	}
	return doc
}

// events parses stderr as NDJSON and checks the order.
func (w *world) events(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for i, line := range strings.Split(strings.TrimSpace(w.stderr.String()), "\n") {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("stderr line %d is not JSON: %q", i+1, line)
		}
		if e["schema"] != "lifeboat.event/v1" || e["seq"] != float64(i+1) || e["type"] == nil || len(line) > eventBytesMax {
			t.Errorf("bad event: %q", line)
		}
		out = append(out, e)
	}
	if out[len(out)-1]["type"] != "end" {
		t.Errorf("the last event is %v", out[len(out)-1])
	}
	return out
}

func errorOf(doc map[string]any) map[string]any {
	e, _ := doc["error"].(map[string]any)
	return e
}

func TestEveryAnswerIsOneDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lifeboat.yaml")
	good := "version: 1\nregions: {list: [{name: a, url: 'file:///a'}, {name: b, url: 'file:///b'}]}\nworkloads: [{name: w, kind: volume, volume: {paths: [/srv]}}]\n"
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := file + ".bad"
	if err := os.WriteFile(bad, []byte("versoin: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args string
		kind string
		exit Code
	}{
		{"version", "version", OK},
		{"version --short", "version", OK},
		{"completion zsh", "completion", OK},
		{"completion tcsh", "usage", Usage},
		{"config check " + file, "config_check", OK},
		{"config check " + bad, "config_check", ConfigInvalid},
		{"config check /none", "config_check", ConfigInvalid},
		{"config show -c " + file, "config_show", OK},
		{"config show --origin -c " + file, "config_show", OK},
		{"config show -c " + bad, "config_show", ConfigInvalid},
		{"config schema", "config_schema", OK},
		{"help", "help", OK},
		{"help config check", "help", OK},
		{"help exit-codes", "help", OK},
		{"help nothing", "usage", Usage},
		{"--help", "help", OK},
		{"config -h", "help", OK},
		{"", "usage", Usage},
		{"verison", "usage", Usage},
		{"config", "usage", Usage},
		{"config chekc", "usage", Usage},
		{"version extra", "usage", Usage},
		{"version --bogus", "usage", Usage},
		{"version --timeout soon", "usage", Usage},
		{"version --color pink", "version", Usage},
		{"version --repo file:///a --config b", "version", Usage},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			w := &world{}
			exit := w.run(append(strings.Fields(tt.args), "--json")...)
			doc := w.document(t)
			if Code(exit) != tt.exit || doc["kind"] != tt.kind || doc["ok"] != (exit == 0) || doc["exit_code"] != float64(exit) {
				t.Errorf("exit %d, want %d; kind %v, want %s; ok %v", exit, tt.exit, doc["kind"], tt.kind, doc["ok"])
			}
			events := w.events(t)
			if events[len(events)-1]["exit_code"] != float64(exit) {
				t.Errorf("end event: %v", events[len(events)-1])
			}
			if exit != 0 {
				e := errorOf(doc)
				if e["message"] == "" || e["hint"] == nil || e["code"] != Code(exit).info().Name {
					t.Errorf("error = %v", e)
				}
			}
		})
	}
}

func TestTextErrorsEndWithANextStep(t *testing.T) {
	for _, args := range []string{"verison", "version --bogus", "config show", "config chekc", "help nothing", "version -o name"} {
		w := &world{}
		if exit := w.run(strings.Fields(args)...); exit == 0 {
			t.Errorf("%s: exit 0", args)
		}
		if text := w.stderr.String(); !strings.HasPrefix(text, "lifeboat: error: ") || !strings.Contains(text, "\nlifeboat: hint: ") || w.stdout.Len() > 0 {
			t.Errorf("%s: stderr %q, stdout %q", args, text, w.stdout.String())
		}
	}
}

func TestPanic(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	w := &world{body: func(context.Context, []string) (any, bool, error) { panic("boom") }}
	if exit := w.run("try", "--json"); exit != int(Internal) {
		t.Fatalf("exit %d", exit)
	}
	e := errorOf(w.document(t))
	hint, _ := e["hint"].(string)
	path := hint[strings.LastIndex(hint, " ")+1:]
	report, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(report, []byte("boom")) || !bytes.Contains(report, []byte("run_test.go")) {
		t.Errorf("report %s: %v", path, err)
	}
	w.events(t)
}

func TestTimeoutAndSignals(t *testing.T) {
	wait := func(ctx context.Context, _ []string) (any, bool, error) {
		<-ctx.Done()
		return map[string]any{"bytes_done": 7}, true, fmt.Errorf("copy pack: %w", ctx.Err())
	}
	w := &world{body: wait}
	if exit := w.run("try", "--json", "--timeout", "20ms"); exit != int(Timeout) {
		t.Errorf("timeout: exit %d, %s", exit, w.stdout.String())
	}
	doc := w.document(t)
	if data, _ := doc["data"].(map[string]any); data["bytes_done"] != 7.0 || doc["changed"] != true {
		t.Errorf("partial data is lost: %v", doc)
	}
	for sig, want := range map[syscall.Signal]Code{syscall.SIGINT: Interrupted, syscall.SIGTERM: Terminated} {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(interruption{sig})
		w := &world{body: wait, ctx: ctx}
		if exit := w.run("try", "--json"); exit != int(want) {
			t.Errorf("%s: exit %d", sig, exit)
		}
		if e := errorOf(w.document(t)); e["code"] != "interrupted" || e["retryable"] != true {
			t.Errorf("%s: %v", sig, e)
		}
	}
	finished := func(context.Context, []string) (any, bool, error) { return nil, false, nil }
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(interruption{syscall.SIGINT})
	w = &world{body: finished, ctx: ctx}
	if exit := w.run("try"); exit != 0 {
		t.Errorf("work that was done before the signal: exit %d", exit)
	}
}

func TestErrorsToCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{fmt.Errorf("put: %w", storage.ErrNoSpace), NoSpace},
		{fmt.Errorf("write: %w", syscall.ENOSPC), NoSpace},
		{storage.ErrUnreachable, RegionUnreachable},
		{storage.ErrCorrupt, VerifyFailed},
		{storage.ErrNoBucket, RepoNotFound},
		{errors.New("anything"), Failed},
		{&Fail{Code: Locked, Message: "busy"}, Locked},
		{fmt.Errorf("backup: %w", &Fail{Code: Locked, Message: "busy"}), Locked},
		{errors.Join(errors.New("a"), &Fail{Code: ObjectiveMissed}, &Fail{Code: VerifyFailed}), VerifyFailed},
		{errors.Join(&Fail{Code: Partial}, storage.ErrUnreachable, &Fail{Code: NoMatchingKey}), NoMatchingKey},
		{errors.Join(&Fail{Code: ReplicationDegraded}, &Fail{Code: Partial}), Partial},
		{errors.Join(errors.New("a"), &Fail{Code: TargetRefused}), Failed},
	} {
		f := classify(tt.err)
		if f.Code != tt.want || f.Error() == "" && tt.err.Error() != "" {
			t.Errorf("%v: %v %q, want %v", tt.err, f.Code, f.Error(), tt.want)
		}
		if f.Code != Failed && f.Hint == "" {
			t.Errorf("%v: no hint", tt.err)
		}
	}
	if classify(nil) != nil {
		t.Error("no error is a failure")
	}
	joined := classify(errors.Join(&Fail{Code: Partial, Message: "two files"}, fmt.Errorf("fra: %w", storage.ErrUnreachable)))
	if got := causes(joined); len(got) != 2 {
		t.Errorf("causes = %q", got)
	}
	seen := map[Code]bool{}
	for _, row := range codeTable() {
		if seen[row.Code] || row.Name == "" || row.Meaning == "" || row.Code == 2 {
			t.Errorf("row %+v", row)
		}
		seen[row.Code] = true
	}
}

func TestWarningsAndOutputs(t *testing.T) {
	type result struct {
		Name string `json:"name"`
	}
	body := func(w *world) handler {
		return func(context.Context, []string) (any, bool, error) {
			w.app.warn("region_slow", "fra is slow", "region", "fra")
			return result{"<x> & y"}, true, &Fail{Code: Partial, Message: "one file was unreadable", Hint: "look at it"}
		}
	}
	w := &world{}
	w.body = body(w)
	if exit := w.run("try", "--json"); exit != 3 {
		t.Errorf("exit %d", exit)
	}
	if !strings.Contains(w.stdout.String(), "<x> & y") {
		t.Errorf("JSON is escaped for HTML: %s", w.stdout.String())
	}
	doc := w.document(t)
	warnings, _ := doc["warnings"].([]any)
	if len(warnings) != 1 || warnings[0].(map[string]any)["region"] != "fra" || warnings[0].(map[string]any)["code"] != "region_slow" {
		t.Errorf("warnings = %v", warnings)
	}
	if w.run("try"); w.stdout.String() != "name: <x> & y\n" ||
		w.stderr.String() != "lifeboat: warning: fra is slow\nlifeboat: error: one file was unreadable\nlifeboat: hint: look at it\n" {
		t.Errorf("text: %q / %q", w.stdout.String(), w.stderr.String())
	}
	if w.run("try", "-o", "yaml"); !strings.Contains(w.stdout.String(), "kind: try\nok: false\nexit_code: 3\n") {
		t.Errorf("yaml: %s", w.stdout.String())
	}
	w.tty = true
	if w.run("try", "--json"); !strings.Contains(w.stdout.String(), "\n  \"kind\": \"try\"") {
		t.Errorf("not pretty on a terminal: %s", w.stdout.String())
	}
}

func TestRecords(t *testing.T) {
	type entry struct {
		Path      string `json:"path"`
		SizeBytes int64  `json:"size_bytes"`
	}
	w := &world{isList: true}
	w.body = func(context.Context, []string) (any, bool, error) {
		list := w.app.records("entries", column{title: "SIZE", width: 8, right: true}, column{title: "PATH"})
		for i, path := range []string{"a\tb", "c"} {
			if err := list.add(entry{path, int64(i)}, path, fmt.Sprint(i), path); err != nil {
				return nil, false, err
			}
		}
		return map[string]any{"total": 2}, false, nil
	}
	if exit := w.run("try", "--json"); exit != 0 {
		t.Fatalf("exit %d: %s", exit, w.stdout.String())
	}
	doc := w.document(t)
	data, _ := doc["data"].(map[string]any)
	if entries, _ := data["entries"].([]any); len(entries) != 2 || data["total"] != 2.0 {
		t.Errorf("data = %v", data)
	}
	w.run("try", "-o", "jsonl")
	lines := strings.Split(strings.TrimSpace(w.stdout.String()), "\n")
	if len(lines) != 3 || lines[1] != `{"path":"c","size_bytes":1}` || !strings.Contains(lines[2], `"schema":"lifeboat.result/v1"`) {
		t.Errorf("jsonl: %q", lines)
	}
	if w.run("try", "-o", "name"); w.stdout.String() != "a\tb\nc\n" {
		t.Errorf("name: %q", w.stdout.String())
	}
	if w.run("try"); w.stdout.String() != "SIZE\tPATH\n0\ta b\n1\tc\n" {
		t.Errorf("text: %q", w.stdout.String())
	}
	w.tty = true
	if w.run("try"); w.stdout.String() != "    SIZE  PATH\n       0  a\tb\n       1  c\n" {
		t.Errorf("terminal: %q", w.stdout.String())
	}
	w.tty = false
	if w.run("try", "-o", "yaml"); !strings.Contains(w.stdout.String(), "- path: c\n") {
		t.Errorf("yaml: %s", w.stdout.String())
	}
	empty := &world{isList: true}
	empty.body = func(context.Context, []string) (any, bool, error) {
		empty.app.records("entries")
		return nil, false, &Fail{Code: NoRecoveryPoint, Message: "none"}
	}
	if exit := empty.run("try", "--json"); exit != 13 {
		t.Errorf("exit %d", exit)
	}
	if doc := empty.document(t); errorOf(doc)["code"] != "no_recovery_point" {
		t.Errorf("doc = %v", doc)
	}
}

// closedPipe fails every write, as a pipe whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestClosedPipes(t *testing.T) {
	getenv := func(string) string { return "" }
	if exit := run(t.Context(), []string{"version", "--json"}, strings.NewReader(""), io.Discard, closedPipe{}, getenv, clock()); exit != 0 {
		t.Errorf("a closed stderr failed the run: %d", exit)
	}
	var stderr bytes.Buffer
	if exit := run(t.Context(), []string{"version"}, strings.NewReader(""), closedPipe{}, &stderr, getenv, clock()); exit != 1 || stderr.Len() > 0 {
		t.Errorf("a closed stdout: exit %d, %q", exit, stderr.String())
	}
	full := fullDisk{}
	if exit := run(t.Context(), []string{"version"}, strings.NewReader(""), full, &stderr, getenv, clock()); exit != 1 || !strings.Contains(stderr.String(), "write the result") {
		t.Errorf("a full disk under stdout: exit %d, %q", exit, stderr.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
