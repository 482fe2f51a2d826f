package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Timing of progress.
const (
	plainInterval  = 60 * time.Second // signs of life off a terminal
	rateWindow     = 30 * time.Second // of the rate and the forecast
	etaAfter       = 5 * time.Second  // no forecast before
	stallAfter     = 15 * time.Second // without a byte, the line says so
	currentMax     = 3                // names of items at work that are shown
	rateSamplesMax = 64
)

// progress is where a command says how far it is. All methods may be called
// from any goroutine, cost little, and do nothing when nobody looks.
//
//	a.progress.plan("scan", "upload", "commit") // once, when the phases are known
//	a.progress.phase("scan")                    // begins a phase and ends the one before
//	a.progress.expect(bytes, items)             // totals, when known; 0 is unknown
//	a.progress.add(bytes, items)                // done since the last call
//	a.progress.at("srv/files/report.pdf")       // an item at work
//	a.progress.waiting("fra (retry 2 of 8)", until)
type progress struct {
	now    func() time.Time
	render renderer

	bytesDone, itemsDone   atomic.Int64
	bytesTotal, itemsTotal atomic.Int64

	mu         sync.Mutex
	phases     []string
	index      int // of the phase, from 1; 0 before the first
	name       string
	began      time.Time
	current    []string
	waitReason string
	waitUntil  time.Time
	samples    []sample
	moved      time.Time // when bytesDone or itemsDone last grew
	lastDone   int64
	took       []phaseTime
}

type sample struct {
	at    time.Time
	bytes int64
}

// phaseTime is a finished phase, for results.
type phaseTime struct {
	Name       string `json:"name"`
	DurationMS int64  `json:"duration_ms"`
	Bytes      int64  `json:"bytes,omitempty"`
}

// view is a moment of progress, for renderers.
type view struct {
	Phase             string
	Index, Phases     int
	Bytes, BytesTotal int64
	Items, ItemsTotal int64
	Rate              float64 // bytes per second over the window
	ETA               time.Duration
	Elapsed           time.Duration // of the phase
	Current           []string
	Waiting           string
	WaitUntil         time.Time
	Stalled           time.Duration // without movement; 0 below stallAfter
}

// renderer shows progress. Its methods are called with no lock held, from one
// goroutine at a time (phase changes come from the command's).
type renderer interface {
	every() time.Duration // between ticks; 0: no ticks
	begin(v view)
	tick(v view)
	end(v view, took time.Duration)
	print(w io.Writer, line string) // a line beside the progress
	close()
}

func newProgress(now func() time.Time, r renderer) *progress {
	return &progress{now: now, render: &lockedRenderer{r: r}}
}

// plan names the phases.
func (p *progress) plan(phases ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phases = phases
}

// phase ends the current phase and begins the next; counters begin at zero.
// A name that was not planned is added.
func (p *progress) phase(name string) {
	p.finishPhase()
	p.mu.Lock()
	if i := slices.Index(p.phases, name); i >= 0 {
		p.index = i + 1
	} else {
		p.phases = append(slices.Clone(p.phases[:p.index]), append([]string{name}, p.phases[p.index:]...)...)
		p.index++
	}
	p.name, p.began, p.moved = name, p.now(), p.now()
	p.current, p.samples, p.lastDone, p.waitReason = nil, nil, 0, ""
	p.bytesDone.Store(0)
	p.itemsDone.Store(0)
	p.bytesTotal.Store(0)
	p.itemsTotal.Store(0)
	p.mu.Unlock()
	p.render.begin(p.look())
}

// done ends the last phase.
func (p *progress) done() { p.finishPhase() }

func (p *progress) finishPhase() {
	v := p.look()
	p.mu.Lock()
	if p.name == "" {
		p.mu.Unlock()
		return
	}
	took := p.now().Sub(p.began)
	p.took = append(p.took, phaseTime{p.name, took.Milliseconds(), p.bytesDone.Load()})
	p.name = ""
	p.mu.Unlock()
	p.render.end(v, took)
}

// times lists the finished phases.
func (p *progress) times() []phaseTime {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.took)
}

// expect sets the totals; 0 is unknown.
func (p *progress) expect(bytes, items int64) {
	p.bytesTotal.Store(bytes)
	p.itemsTotal.Store(items)
}

// add counts what was done since the last call.
func (p *progress) add(bytes, items int64) {
	p.bytesDone.Add(bytes)
	p.itemsDone.Add(items)
}

// set says how much is done in all, for sources that count themselves.
func (p *progress) set(bytes, items int64) {
	p.bytesDone.Store(bytes)
	p.itemsDone.Store(items)
}

// at names an item at work; the newest few are shown.
func (p *progress) at(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.current) >= currentMax {
		p.current = p.current[1:]
	}
	p.current = append(p.current, name)
}

// waiting says why nothing moves, until when at most; "" ends it.
func (p *progress) waiting(reason string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waitReason, p.waitUntil = reason, until
}

// print writes a line without tearing the bars.
func (p *progress) print(w io.Writer, line string) { p.render.print(w, line) }

// look takes a view and a sample for the rate.
func (p *progress) look() view {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	v := view{
		Phase: p.name, Index: p.index, Phases: len(p.phases),
		Bytes: p.bytesDone.Load(), BytesTotal: p.bytesTotal.Load(), Items: p.itemsDone.Load(), ItemsTotal: p.itemsTotal.Load(),
		Current: slices.Clone(p.current), Waiting: p.waitReason, WaitUntil: p.waitUntil,
	}
	if p.name == "" {
		return v
	}
	v.Elapsed = now.Sub(p.began)
	if done := v.Bytes + v.Items; done != p.lastDone {
		p.lastDone, p.moved = done, now
	}
	if still := now.Sub(p.moved); still >= stallAfter {
		v.Stalled = still
	}
	p.measure(&v, now)
	return v
}

// measure computes rate and forecast over the window.
func (p *progress) measure(v *view, now time.Time) {
	if n := len(p.samples); n == 0 || now.Sub(p.samples[n-1].at) >= rateWindow/(rateSamplesMax/2) {
		p.samples = append(p.samples, sample{now, v.Bytes})
	}
	for len(p.samples) > 1 && (now.Sub(p.samples[0].at) > rateWindow || len(p.samples) > rateSamplesMax) {
		p.samples = p.samples[1:]
	}
	first := p.samples[0]
	if span := now.Sub(first.at); span >= time.Second/2 {
		v.Rate = float64(v.Bytes-first.bytes) / span.Seconds()
	}
	if left := v.BytesTotal - v.Bytes; v.Rate > 0 && left > 0 && v.Elapsed > etaAfter {
		v.ETA = time.Duration(float64(left) / v.Rate * float64(time.Second))
	}
}

// start ticks the renderer until the returned function is called.
func (p *progress) start() (stop func()) {
	every := p.render.every()
	if every == 0 {
		return func() { p.done(); p.render.close() }
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if v := p.look(); v.Phase != "" {
					p.render.tick(v)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		p.done()
		p.render.close()
	}
}

// status is one line about the moment.
func (p *progress) status() string {
	v := p.look()
	if v.Phase == "" {
		return "at work"
	}
	return v.line(false)
}

// line describes a view in one line, such as "2/5 fetch 3.1 GiB of 41 GiB (7 %), 140 MiB/s, ETA 4m20s".
func (v view) line(short bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d %s", v.Index, v.Phases, v.Phase)
	if amount := v.amount(); amount != "" && !short {
		b.WriteString(" " + amount)
	}
	if v.Rate > 0 {
		b.WriteString(", " + formatRate(v.Rate))
	}
	if v.ETA > 0 {
		b.WriteString(", ETA " + formatDuration(v.ETA))
	}
	if stall := v.stall(); stall != "" {
		b.WriteString(", " + stall)
	}
	return b.String()
}

// amount says how much is done: of a known total in percent, else as a count.
func (v view) amount() string {
	var parts []string
	switch {
	case v.BytesTotal > 0:
		parts = append(parts, fmt.Sprintf("%s of %s (%d %%)", formatSize(v.Bytes), formatSize(v.BytesTotal), percent(v.Bytes, v.BytesTotal)))
	case v.Bytes > 0:
		parts = append(parts, formatSize(v.Bytes))
	}
	switch {
	case v.ItemsTotal > 0:
		parts = append(parts, fmt.Sprintf("%d of %d items", v.Items, v.ItemsTotal))
	case v.Items > 0:
		parts = append(parts, fmt.Sprintf("%d items", v.Items))
	}
	return strings.Join(parts, ", ")
}

func (v view) stall() string {
	if v.Stalled == 0 && v.Waiting == "" {
		return ""
	}
	text := "waiting"
	if v.Stalled > 0 {
		text = "stalled " + formatDuration(v.Stalled.Round(time.Second)) + ": waiting"
	}
	if v.Waiting != "" {
		text += " for " + v.Waiting
	}
	return text
}

func percent(done, total int64) int64 {
	return min(100, int64(float64(done)/float64(total)*100))
}

// event is the view for the event stream.
func (v view) event() map[string]any {
	out := map[string]any{
		"phase": v.Phase, "phase_index": v.Index, "phases_total": v.Phases,
		"bytes_done": v.Bytes, "items_done": v.Items, "rate_bytes_per_s": int64(v.Rate),
	}
	if v.BytesTotal > 0 {
		out["bytes_total"] = v.BytesTotal
	}
	if v.ItemsTotal > 0 {
		out["items_total"] = v.ItemsTotal
	}
	if v.ETA > 0 {
		out["eta_ms"] = v.ETA.Milliseconds()
	}
	if len(v.Current) > 0 {
		out["current"] = v.Current
	}
	if v.Stalled > 0 {
		out["stalled_ms"] = v.Stalled.Milliseconds()
	}
	return out
}

// lockedRenderer lets one goroutine at a time into a renderer.
type lockedRenderer struct {
	mu sync.Mutex
	r  renderer
}

func (l *lockedRenderer) every() time.Duration { return l.r.every() }

func (l *lockedRenderer) begin(v view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.begin(v)
}

func (l *lockedRenderer) tick(v view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.tick(v)
}

func (l *lockedRenderer) end(v view, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.end(v, took)
}

func (l *lockedRenderer) print(w io.Writer, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.print(w, line)
}

func (l *lockedRenderer) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.close()
}
