package harness

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands before an S3 server. It records requests, and makes the network
// between as slow or as broken as a test wants. It is safe for concurrent use.
type Proxy struct {
	Endpoint string // http://127.0.0.1:port

	behind   *httputil.ReverseProxy
	latency  atomic.Int64
	mu       sync.Mutex
	fault    func(Request) Fault
	requests []Request
	open     map[net.Conn]bool
	hold     chan struct{} // closed at the end, for black holes
}

// Request is one that came in.
type Request struct {
	Number int // 1 is the first since the last Reset
	Method string
	Path   string // of the object or the bucket
	Query  string
	Range  string
	Bytes  int64 // of the request's body, as announced
	Status int   // of the answer; 0 while there is none
}

// Verb is PUT, GET, HEAD, DELETE or LIST.
func (r Request) Verb() string {
	if r.Method == http.MethodGet && strings.Contains(r.Query, "list-type=2") {
		return "LIST"
	}
	return r.Method
}

// Fault is what happens to a request.
type Fault int

// The faults.
const (
	Pass      Fault = iota // it reaches the server
	SlowDown               // 503 SlowDown, without asking the server
	BlackHole              // no answer, for as long as the client waits
	Reset                  // the connection is cut before an answer
	Lost                   // it reaches the server, and the answer is cut: the outcome is unknown
	Cut                    // the answer's body breaks off in the middle
	Garbage                // 200, and a page of HTML
)

// StartProxy runs one until the end of the test.
func StartProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Endpoint: "http://" + l.Addr().String(), open: map[net.Conn]bool{}, hold: make(chan struct{})}
	p.behind = &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		// The signature covers the Host header, so the server must see what the client sent.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
		ErrorLog: nil,
	}
	server := &http.Server{Handler: http.HandlerFunc(p.serve), ConnState: p.connState}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(l)
		close(ended)
	}()
	t.Cleanup(func() {
		close(p.hold)
		_ = server.Close()
		<-ended
	})
	return p
}

// Latency delays every request by so much on its way to the server.
func (p *Proxy) Latency(d time.Duration) { p.latency.Store(int64(d)) }

// Fault decides about every request from now on; nil lets all pass. It is
// called once for each request, one at a time.
func (p *Proxy) Fault(decide func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = decide
}

// All does the same to every request.
func All(f Fault) func(Request) Fault { return func(Request) Fault { return f } }

// Every does it to each n-th request.
func Every(n int, f Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.Number%n == 0 {
			return f
		}
		return Pass
	}
}

// On does it to requests of a verb whose path has the part in it.
func On(verb, part string, f Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.Verb() == verb && strings.Contains(r.Path, part) {
			return f
		}
		return Pass
	}
}

// Cut breaks all connections that are open now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// Requests are those since the last Reset, in the order they came.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Reset forgets the requests.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

// Count tells how many requests of each verb there were.
func (p *Proxy) Count() map[string]int {
	n := map[string]int{}
	for _, r := range p.Requests() {
		n[r.Verb()]++
	}
	return n
}

func (p *Proxy) connState(c net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case http.StateNew:
		p.open[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(p.open, c)
	}
}

// note records a request and asks what happens to it.
func (p *Proxy) note(r *http.Request) (at int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := Request{
		Number: len(p.requests) + 1, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Range: r.Header.Get("Range"),
		Bytes: r.ContentLength,
	}
	p.requests = append(p.requests, seen)
	if p.fault != nil {
		f = p.fault(seen)
	}
	return len(p.requests) - 1, f
}

func (p *Proxy) answered(at, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at < len(p.requests) { // there may have been a Reset
		p.requests[at].Status = status
	}
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	at, f := p.note(r)
	if d := time.Duration(p.latency.Load()); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	watched := &watcher{ResponseWriter: w, fault: f}
	switch f {
	case SlowDown:
		_, _ = io.Copy(io.Discard, r.Body)
		watched.Header().Set("Content-Type", "application/xml")
		watched.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(watched, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
	case Garbage:
		_, _ = io.Copy(io.Discard, r.Body)
		watched.Header().Set("Content-Type", "text/html")
		watched.WriteHeader(http.StatusOK)
		fmt.Fprint(watched, "<html><body>Please log in to the network.</body></html>")
	case BlackHole:
		_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client leave
		select {
		case <-p.hold:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case Reset:
		panic(http.ErrAbortHandler)
	default:
		p.behind.ServeHTTP(watched, r)
	}
	p.answered(at, watched.status)
	if f == Lost {
		panic(http.ErrAbortHandler)
	}
}

// watcher sees the status, and does to the answer what the fault says.
type watcher struct {
	http.ResponseWriter
	fault  Fault
	status int
	sent   int
}

// cutAfter is how much of an answer's body passes before Cut breaks it off.
const cutAfter = 1000 // bytes

func (w *watcher) WriteHeader(status int) {
	w.status = status
	if w.fault != Lost {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *watcher) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.fault == Lost:
		return len(b), nil
	case w.fault == Cut && w.sent+len(b) > cutAfter:
		_, _ = w.ResponseWriter.Write(b[:max(0, cutAfter-w.sent)])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	w.sent += len(b)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets a response controller reach the connection.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }
