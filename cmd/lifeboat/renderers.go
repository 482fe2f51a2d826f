package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"lifeboat/config"
)

// renderer chooses how progress is shown.
func (a *app) renderer() renderer {
	var out renderers
	if a.events != nil {
		out = append(out, &eventRenderer{events: a.events})
	}
	mode := a.opt.Progress
	if mode == "auto" {
		switch {
		case a.opt.Quiet || a.opt.isJSON():
			mode = "none"
		case a.isTTY(a.stderr) && a.getenv("TERM") != "dumb":
			mode = "bar"
		default:
			mode = "plain"
		}
	}
	if a.opt.isJSON() { // stderr has no other text
		mode = "none"
	}
	switch mode {
	case "bar":
		out = append(out, &barRenderer{w: a.stderr, page: a.page(a.stderr), width: a.width(a.stderr)})
	case "plain":
		out = append(out, &plainRenderer{w: a.stderr, kind: a.kind, interval: a.progressInterval(), now: a.now, last: a.now()})
	}
	switch len(out) {
	case 0:
		return noneRenderer{}
	case 1:
		return out[0]
	}
	return out
}

// progressInterval is the time between lines off a terminal.
func (a *app) progressInterval() time.Duration {
	d, err := config.ParseDuration(a.getenv("LIFEBOAT_PROGRESS_INTERVAL"))
	if err != nil || d < time.Second {
		return plainInterval
	}
	return d
}

// noneRenderer shows nothing; lines beside it are still written.
type noneRenderer struct{}

func (noneRenderer) every() time.Duration           { return 0 }
func (noneRenderer) begin(view)                     {}
func (noneRenderer) tick(view)                      {}
func (noneRenderer) end(view, time.Duration)        {}
func (noneRenderer) close()                         {}
func (noneRenderer) print(w io.Writer, line string) { _, _ = io.WriteString(w, line) }

// renderers shows on several; the last one prints lines.
type renderers []renderer

func (rs renderers) every() time.Duration {
	least := time.Duration(0)
	for _, r := range rs {
		if d := r.every(); d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

func (rs renderers) begin(v view) {
	for _, r := range rs {
		r.begin(v)
	}
}

func (rs renderers) tick(v view) {
	for _, r := range rs {
		r.tick(v)
	}
}

func (rs renderers) end(v view, took time.Duration) {
	for _, r := range rs {
		r.end(v, took)
	}
}

func (rs renderers) close() {
	for _, r := range rs {
		r.close()
	}
}

func (rs renderers) print(w io.Writer, line string) { rs[len(rs)-1].print(w, line) }

// eventRenderer sends events: phases, and progress at most once a second.
type eventRenderer struct {
	events  *eventSink
	last    time.Time
	waiting string
}

func (r *eventRenderer) every() time.Duration { return time.Second }

func (r *eventRenderer) begin(v view) {
	r.events.send("phase", map[string]any{"state": "begin", "name": v.Phase, "phase_index": v.Index, "phases_total": v.Phases})
}

func (r *eventRenderer) tick(v view) {
	if v.Waiting != r.waiting {
		if r.waiting = v.Waiting; v.Waiting != "" {
			body := map[string]any{"reason": v.Waiting}
			if !v.WaitUntil.IsZero() {
				body["until"] = stamp(v.WaitUntil)
			}
			r.events.send("waiting", body)
		}
	}
	now := r.events.now()
	if now.Sub(r.last) < 900*time.Millisecond { // another renderer ticks faster
		return
	}
	r.last = now
	r.events.send("progress", v.event())
}

func (r *eventRenderer) end(v view, took time.Duration) {
	r.events.send("phase", map[string]any{"state": "end", "name": v.Phase, "phase_index": v.Index, "phases_total": v.Phases,
		"duration_ms": took.Milliseconds(), "bytes": v.Bytes, "items": v.Items})
}

func (r *eventRenderer) print(w io.Writer, line string) { _, _ = io.WriteString(w, line) }
func (r *eventRenderer) close()                         {}

// plainRenderer writes a line at each phase change and, in long phases, at an
// interval: a sign of life for journals and CI.
type plainRenderer struct {
	w        io.Writer
	kind     string
	interval time.Duration
	now      func() time.Time
	last     time.Time
}

func (r *plainRenderer) every() time.Duration { return time.Second }

func (r *plainRenderer) say(text string) {
	r.last = r.now()
	_, _ = fmt.Fprintf(r.w, "lifeboat: %s: %s\n", r.kind, text)
}

func (r *plainRenderer) begin(v view) { r.say(v.line(true)) }

func (r *plainRenderer) tick(v view) {
	if r.now().Sub(r.last) >= r.interval {
		r.say(v.line(false))
	}
}

func (r *plainRenderer) end(v view, took time.Duration) {
	text := fmt.Sprintf("%d/%d %s done in %s", v.Index, v.Phases, v.Phase, formatDuration(took))
	if v.Bytes > 0 {
		text += ", " + formatSize(v.Bytes)
	}
	r.say(text)
}

func (r *plainRenderer) print(w io.Writer, line string) { _, _ = io.WriteString(w, line) }
func (r *plainRenderer) close()                         {}

// Shape of the bars.
const (
	barRefresh = 100 * time.Millisecond
	barWidth   = 30 // columns of the bar itself
	nameWidth  = 12 // columns of a phase's name
)

// barRenderer draws one bar for the phase and up to three lines of items.
// Finished phases stay as one line each.
type barRenderer struct {
	w     io.Writer
	page  *page
	width int
	all   *mpb.Progress
	bar   *mpb.Bar

	mu   sync.Mutex // of seen: the bars are drawn by a goroutine of their own
	seen view
}

func (r *barRenderer) shown() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// show hands a view to the drawing goroutine.
func (r *barRenderer) show(v view) {
	r.mu.Lock()
	r.seen = v
	r.mu.Unlock()
	total, done := v.BytesTotal, v.Bytes
	if total == 0 {
		total, done = v.ItemsTotal, v.Items
	}
	r.bar.SetTotal(total, false)
	r.bar.SetCurrent(min(done, max(total-1, 0))) // a full bar would end itself
}

func (r *barRenderer) every() time.Duration { return barRefresh }

func (r *barRenderer) begin(v view) {
	width := r.width
	if width <= 0 {
		width = 80
	}
	r.all = mpb.New(mpb.WithOutput(r.w), mpb.WithWidth(width), mpb.WithRefreshRate(barRefresh), mpb.WithAutoRefresh())
	r.draw(v)
}

func (r *barRenderer) draw(v view) {
	r.bar = r.all.AddBar(0,
		mpb.BarWidth(barWidth), mpb.BarRemoveOnComplete(), mpb.BarFillerTrim(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return "  " + r.page.symbol(markActive) + " " + r.title(r.shown()) })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return r.tail(r.shown()) })),
		mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			for _, name := range r.shown().Current {
				if _, err := fmt.Fprintf(w, "      %s\n", runewidth.Truncate(name, max(10, s.AvailableWidth-8), "…")); err != nil {
					return err
				}
			}
			return nil
		}), false),
	)
	r.show(v)
}

func (r *barRenderer) title(v view) string {
	return fmt.Sprintf("%d/%d %-*s ", v.Index, v.Phases, nameWidth, v.Phase)
}

func (r *barRenderer) tail(v view) string {
	parts := []string{v.amount()}
	if v.Rate > 0 {
		parts = append(parts, formatRate(v.Rate))
	}
	if v.ETA > 0 {
		parts = append(parts, "ETA "+formatDuration(v.ETA))
	}
	if s := v.stall(); s != "" {
		parts = append(parts, s)
	}
	return " " + strings.TrimSpace(strings.Join(parts, "  "))
}

func (r *barRenderer) tick(v view) {
	if r.bar == nil {
		return
	}
	r.show(v)
}

func (r *barRenderer) end(v view, took time.Duration) {
	r.stop()
	text := fmt.Sprintf("  %s %s%8s", r.page.symbol(markOK), r.title(v), formatDuration(took))
	if v.Bytes > 0 {
		text += "  " + formatSize(v.Bytes)
	}
	_, _ = io.WriteString(r.w, strings.TrimRight(text, " ")+"\n")
}

func (r *barRenderer) stop() {
	if r.bar == nil {
		return
	}
	r.bar.Abort(true)
	r.all.Wait()
	r.bar, r.all = nil, nil
}

func (r *barRenderer) print(w io.Writer, line string) {
	if r.all != nil {
		if _, err := r.all.Write([]byte(line)); err == nil {
			return
		}
	}
	_, _ = io.WriteString(w, line)
}

func (r *barRenderer) close() { r.stop() }
