package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// locked is a buffer that several goroutines write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// work is a run of two phases over 150 fake seconds.
func work(p *progress) {
	stop := p.start()
	p.plan("scan", "upload")
	p.phase("scan")
	p.add(0, 42)
	time.Sleep(2500 * time.Millisecond) // never at the moment of a tick
	p.phase("upload")
	p.expect(1<<30, 0)
	for range 100 {
		time.Sleep(time.Second)
		p.add(10<<20, 0)
	}
	p.waiting("fra (retry 2 of 8)", time.Time{})
	time.Sleep(48 * time.Second)
	p.waiting("", time.Time{})
	p.add(24<<20, 0)
	stop()
}

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		p := newProgress(time.Now, &plainRenderer{w: &out, kind: "backup", interval: time.Minute, now: time.Now, last: time.Now()})
		work(p)
		want := `lifeboat: backup: 1/2 scan
lifeboat: backup: 1/2 scan done in 2.5 s
lifeboat: backup: 2/2 upload
lifeboat: backup: 2/2 upload 600 MiB of 1.0 GiB (58 %), 10.0 MiB/s, ETA 42 s
lifeboat: backup: 2/2 upload 1000 MiB of 1.0 GiB (97 %), 3.3 MiB/s, ETA 7.2 s, stalled 20 s: waiting for fra (retry 2 of 8)
lifeboat: backup: 2/2 upload done in 2m28s, 1.0 GiB
`
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		times := p.times()
		if len(times) != 2 || times[0].DurationMS != 2500 || times[1].Bytes != 1<<30 {
			t.Errorf("times = %+v", times)
		}
	})
}

func TestProgressEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		sink := newEventSink(&out, nil, time.Now, "RUN")
		work(newProgress(time.Now, &eventRenderer{events: sink}))
		sink.close()
		counts := map[string]int{}
		for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			var e map[string]any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			counts[e["type"].(string)]++
		}
		if counts["phase"] != 4 || counts["waiting"] != 1 || counts["progress"] < 100 || counts["progress"] > 151 {
			t.Errorf("counts = %v", counts)
		}
	})
}

func TestBarProgress(t *testing.T) {
	var out locked
	w := &world{env: map[string]string{"LANG": "C.UTF-8"}}
	w.run("version")
	bars := &barRenderer{w: &out, page: w.app.page(&out), width: 100}
	p := newProgress(time.Now, bars)
	stop := p.start()
	p.plan("fetch", "verify")
	p.phase("fetch")
	p.expect(100, 2)
	p.add(40, 1)
	p.at("srv/files/report.pdf")
	deadline := time.Now().Add(5 * time.Second)
	for !strings.Contains(out.String(), "report.pdf") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	p.print(&out, "lifeboat: warning: fra is slow\n")
	p.phase("verify")
	stop()
	got := out.String()
	for _, want := range []string{"1/2 fetch", "40 B of 100 B (40 %)", "srv/files/report.pdf", "warning: fra is slow", "✓ 1/2 fetch", "✓ 2/2 verify"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// stuck is a reader that never reads.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

func TestEventsNeverHoldUpWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{make(chan struct{})}
		sink := newEventSink(s, nil, time.Now, "RUN")
		began := time.Now()
		for i := range 10 * eventQueueMax {
			sink.send("progress", map[string]any{"bytes_done": i})
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("progress held up the work for %s", waited)
		}
		for range 100 {
			sink.send("item", map[string]any{"path": "x"})
		}
		if waited := time.Since(began); waited > eventPatience {
			t.Errorf("events held up the work for %s", waited)
		}
		sink.close()
		if waited := time.Since(began); waited > eventPatience+eventFlushTime {
			t.Errorf("the end took %s", waited)
		}
		close(s.release)
	})
}

func TestEventBounds(t *testing.T) {
	var out locked
	sink := newEventSink(&out, nil, clock(), "RUN")
	sink.send("item", map[string]any{"path": strings.Repeat("x", 2*eventBytesMax)})
	sink.send("item", func() {}) // cannot be JSON
	sink.send("end", nil)
	sink.close()
	sink.send("late", nil)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if len(line) > eventBytesMax || !json.Valid([]byte(line)) {
			t.Errorf("%d bytes: %.200q", len(line), line)
		}
	}
	if !strings.Contains(lines[0], `"truncated":true`) || !strings.Contains(lines[1], "cannot be written") {
		t.Errorf("%q", lines)
	}
	broken := newEventSink(closedPipe{}, nil, clock(), "RUN")
	for range 10 * eventQueueMax {
		broken.send("item", nil)
	}
	broken.close()
}

func TestProgressModes(t *testing.T) {
	for _, tt := range []struct {
		args string
		tty  bool
		want string
	}{
		{"", false, "*main.plainRenderer"},
		{"", true, "*main.barRenderer"},
		{"-q", true, "main.noneRenderer"},
		{"--progress none", true, "main.noneRenderer"},
		{"--progress bar", false, "*main.barRenderer"},
		{"--json", true, "*main.eventRenderer"},
		{"--json --progress bar", true, "*main.eventRenderer"},
		{"--json --events none", true, "main.noneRenderer"},
		{"--events " + t.TempDir() + "/events", false, "main.renderers"},
	} {
		w := &world{tty: tt.tty}
		w.run(append([]string{"version"}, strings.Fields(tt.args)...)...)
		if got := goType(w.app.renderer()); got != tt.want {
			t.Errorf("%q tty %v: %s, want %s", tt.args, tt.tty, got, tt.want)
		}
	}
	w := &world{env: map[string]string{"LIFEBOAT_PROGRESS_INTERVAL": "5s"}}
	w.run("version")
	if got := w.app.progressInterval(); got != 5*time.Second {
		t.Errorf("interval %s", got)
	}
}

func TestStatusLine(t *testing.T) {
	p := newProgress(time.Now, noneRenderer{})
	if got := p.status(); got != "at work" {
		t.Errorf("%q", got)
	}
	p.phase("fetch")
	p.add(1<<20, 3)
	if got := p.status(); got != "1/1 fetch 1.0 MiB, 3 items" {
		t.Errorf("%q", got)
	}
	p.print(io.Discard, "")
}
