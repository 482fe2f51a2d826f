package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the event stream.
const (
	eventBytesMax  = 64 << 10        // one line
	eventQueueMax  = 1024            // lines waiting for a slow reader
	eventPatience  = 2 * time.Second // how long an event that matters waits for room
	eventFlushTime = 2 * time.Second // how long the end waits for a slow reader
)

// eventSink writes NDJSON events without ever holding up the work for long: a
// reader that stalls loses progress first, and a closed pipe ends the stream.
type eventSink struct {
	now     func() time.Time
	runID   string
	queue   chan []byte
	done    chan struct{}
	closer  io.Closer // nil for stderr
	mu      sync.Mutex
	seq     int64
	broken  atomic.Bool // the reader is gone
	stalled atomic.Bool // the reader did not take an event in time
	dropped atomic.Int64
	closed  bool
}

func newEventSink(w io.Writer, closer io.Closer, now func() time.Time, runID string) *eventSink {
	s := &eventSink{now: now, runID: runID, queue: make(chan []byte, eventQueueMax), done: make(chan struct{}), closer: closer}
	go s.pump(w)
	return s
}

// pump is the only writer. It ends when the queue is closed.
func (s *eventSink) pump(w io.Writer) {
	defer close(s.done)
	for line := range s.queue {
		if s.broken.Load() {
			continue
		}
		if _, err := w.Write(line); err != nil {
			s.broken.Store(true)
		}
		s.stalled.Store(false)
	}
}

// send queues one event. Fields of body are merged into the line.
func (s *eventSink) send(kind string, body any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.broken.Load() {
		return
	}
	line := s.line(kind, body)
	select {
	case s.queue <- line:
		return
	default:
	}
	if droppable(kind, body) || s.stalled.Load() {
		s.dropped.Add(1)
		return
	}
	timer := time.NewTimer(eventPatience)
	defer timer.Stop()
	select {
	case s.queue <- line:
	case <-timer.C:
		s.stalled.Store(true) // wait only once; the next events are counted, not waited for
		s.dropped.Add(1)
	}
}

// droppable events are worth less than the time of waiting for a slow reader.
func droppable(kind string, body any) bool {
	if kind == "progress" {
		return true
	}
	fields, ok := body.(map[string]any)
	return ok && kind == "log" && fields["level"] == "debug"
}

func (s *eventSink) line(kind string, body any) []byte {
	s.seq++
	head := eventHead{
		Schema: "lifeboat.event/v1", Seq: s.seq, Time: stamp(s.now()), RunID: s.runID, Type: kind, Dropped: s.dropped.Load(),
	}
	out, err := mergeJSON(head, body)
	if err != nil {
		head.Message = "event cannot be written: " + err.Error()
		out, _ = json.Marshal(head) // plain values do not fail
	}
	if len(out) >= eventBytesMax {
		head.Truncated = true
		head.Message = fmt.Sprintf("event of %d bytes left out", len(out))
		out, _ = json.Marshal(head)
	}
	return append(out, '\n')
}

// eventHead is what every event begins with.
type eventHead struct {
	Schema    string `json:"schema"`
	Seq       int64  `json:"seq"`
	Time      string `json:"time"`
	RunID     string `json:"run_id"`
	Type      string `json:"type"`
	Dropped   int64  `json:"dropped,omitempty"` // events lost so far to a slow reader
	Truncated bool   `json:"truncated,omitempty"`
	Message   string `json:"message,omitempty"` // instead of a body that could not be written
}

// mergeJSON writes head's fields, then body's, as one object.
func mergeJSON(head, body any) ([]byte, error) {
	first, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if len(rest) > 2 && rest[0] == '{' {
		return append(append(first[:len(first)-1], ','), rest[1:]...), nil
	}
	return first, nil
}

// close waits for the queue to empty, but not for ever: a reader that never
// reads must not keep the program from ending.
func (s *eventSink) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.mu.Unlock()
	close(s.queue)
	timer := time.NewTimer(eventFlushTime)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		return
	}
	if s.closer != nil {
		_ = s.closer.Close()
	}
}

// openEvents opens the event stream that --events asks for.
func (a *app) openEvents() error {
	dest := a.opt.Events
	if dest == "" && a.opt.isJSON() {
		dest = "stderr"
	}
	var w io.Writer
	var closer io.Closer
	switch number, isFD := strings.CutPrefix(dest, "fd:"); {
	case dest == "" || dest == "none":
		return nil
	case dest == "stderr":
		w = a.stderr
	case isFD:
		fd, err := strconv.ParseUint(number, 10, 16)
		if err != nil || fd < 1 {
			return &Fail{Code: Usage, Message: fmt.Sprintf("--events fd:%s: not a file descriptor", number), Hint: "such as: --events fd:3 3>events.ndjson"}
		}
		f := os.NewFile(uintptr(fd), "fd:"+number)
		if f == nil {
			return &Fail{Code: Usage, Message: fmt.Sprintf("--events fd:%s is not open", number), Hint: "such as: --events fd:3 3>events.ndjson"}
		}
		if _, err := f.Stat(); err != nil {
			return &Fail{Code: Usage, Message: fmt.Sprintf("--events fd:%s is not open", number), Hint: "such as: --events fd:3 3>events.ndjson"}
		}
		w, closer = f, f
	default:
		f, err := os.OpenFile(dest, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return &Fail{Code: Usage, Message: fmt.Sprintf("open event stream: %v", err), Hint: "name a file that can be written", Err: err}
		}
		w, closer = f, f
	}
	a.events = newEventSink(w, closer, a.now, a.runID)
	return nil
}

// stamp writes an instant as RFC 3339 in UTC with milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
