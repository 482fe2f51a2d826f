package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// openLog makes the log: to a file, into the event stream, or as text on stderr.
func (a *app) openLog() error {
	level := slog.LevelWarn
	switch {
	case a.opt.Verbose >= 2:
		level = slog.LevelDebug
	case a.opt.Verbose == 1 || a.kind == "daemon":
		level = slog.LevelInfo
	case a.opt.Quiet:
		level = slog.LevelError
	}
	if a.opt.LogFile != "" {
		f, err := os.OpenFile(a.opt.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return &Fail{Code: Usage, Message: fmt.Sprintf("open log: %v", err), Hint: "name a file that can be written with --log-file", Err: err}
		}
		a.onClose(f.Close)
		a.log = slog.New(logHandler(f, a.opt.LogFormat, min(level, slog.LevelInfo)))
		return nil
	}
	if a.opt.isJSON() {
		if a.events != nil {
			a.log = slog.New(eventHandler{events: a.events, level: level})
		}
		return nil
	}
	a.log = slog.New(logHandler(progressWriter{a}, a.opt.LogFormat, level))
	return nil
}

func logHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}

// progressWriter writes log lines beside the bars.
type progressWriter struct{ a *app }

func (w progressWriter) Write(p []byte) (int, error) {
	w.a.progress.print(w.a.stderr, string(p))
	return len(p), nil
}

// eventHandler turns log records into events of type log.
type eventHandler struct {
	events *eventSink
	level  slog.Level
	attrs  []slog.Attr
	group  string
}

// Enabled reports whether records of the level are wanted.
func (h eventHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle sends one record.
func (h eventHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]any{}
	for _, attr := range h.attrs {
		attrs[attr.Key] = plainValue(attr.Value)
	}
	r.Attrs(func(attr slog.Attr) bool {
		attrs[h.group+attr.Key] = plainValue(attr.Value)
		return true
	})
	h.events.send("log", map[string]any{"level": lowerLevel(r.Level), "msg": r.Message, "attrs": attrs})
	return nil
}

// WithAttrs adds attributes to every record.
func (h eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := h
	out.attrs = append([]slog.Attr{}, h.attrs...)
	for _, attr := range attrs {
		attr.Key = h.group + attr.Key
		out.attrs = append(out.attrs, attr)
	}
	return out
}

// WithGroup puts later attributes under a name.
func (h eventHandler) WithGroup(name string) slog.Handler {
	out := h
	out.group += name + "."
	return out
}

func lowerLevel(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	}
	return "error"
}

// plainValue is a log value that JSON can hold; errors and times become text.
func plainValue(v slog.Value) any {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindDuration:
		return v.Duration().String()
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindInt64, slog.KindUint64, slog.KindBool, slog.KindFloat64:
		return v.Any()
	}
	return v.String()
}
