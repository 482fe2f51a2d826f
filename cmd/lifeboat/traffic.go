package main

import (
	"context"
	"io"
	"iter"
	"sync"

	"lifeboat/storage"
)

// traffic is what a run cost in each region.
type traffic struct {
	mu     sync.Mutex
	counts map[string][]*storage.Counts // of each time that a region was opened
	warned map[string]bool
	in     map[string]int64
	out    map[string]int64
	seen   func(n int64) // told of every byte fetched; may be nil
}

// regionTraffic is the JSON form.
type regionTraffic struct {
	Region   string `json:"region"`
	Puts     int64  `json:"puts"`
	Gets     int64  `json:"gets"`
	Stats    int64  `json:"stats"`
	Lists    int64  `json:"lists"`
	Sent     int64  `json:"sent_bytes"`
	Received int64  `json:"received_bytes"`
}

func (t *traffic) watch(region string, c *storage.Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string][]*storage.Counts{}
	}
	t.counts[region] = append(t.counts[region], c)
}

// join adds what a part of the run has cost, when it has ended.
func (t *traffic) join(part *traffic) {
	part.mu.Lock()
	defer part.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string][]*storage.Counts{}
	}
	for region, all := range part.counts {
		if len(t.counts[region]) == 0 {
			t.counts[region] = []*storage.Counts{{}}
		}
		sum := t.counts[region][0] // one sum, however many parts a daemon runs
		for _, c := range all {
			sum.Puts.Add(c.Puts.Load())
			sum.Gets.Add(c.Gets.Load())
			sum.Stats.Add(c.Stats.Load())
			sum.Lists.Add(c.Lists.Load())
			sum.Sent.Add(c.Sent.Load())
			sum.Received.Add(c.Received.Load())
		}
	}
}

// report lists the requests of the regions in the order given.
func (t *traffic) report(regions []RegionSpec) []regionTraffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []regionTraffic
	for _, r := range regions {
		if len(t.counts[r.Name]) == 0 {
			continue
		}
		row := regionTraffic{Region: r.Name}
		for _, c := range t.counts[r.Name] {
			row.Puts += c.Puts.Load()
			row.Gets += c.Gets.Load()
			row.Stats += c.Stats.Load()
			row.Lists += c.Lists.Load()
			row.Sent += c.Sent.Load()
			row.Received += c.Received.Load()
		}
		out = append(out, row)
	}
	return out
}

func (t *traffic) fetched(region string, n int64) {
	t.mu.Lock()
	if t.in == nil {
		t.in = map[string]int64{}
	}
	t.in[region] += n
	seen := t.seen
	t.mu.Unlock()
	if seen != nil {
		seen(n)
	}
}

func (t *traffic) stored(region string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		t.out = map[string]int64{}
	}
	t.out[region] += n
}

// uploaded is the most that went to any one region: what a run stored.
func (t *traffic) uploaded() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := int64(0)
	for _, n := range t.out {
		most = max(most, n)
	}
	return most
}

// downloaded is all that came from regions, by region.
func (t *traffic) downloaded() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int64{}
	for r, n := range t.in {
		out[r] = n
	}
	return out
}

// once warns the first time that something happens with a region.
func (t *traffic) once(a *app, code, message string, attrs ...any) {
	t.mu.Lock()
	key := code
	for _, v := range attrs {
		if s, ok := v.(string); ok {
			key += "\x00" + s
		}
	}
	again := t.warned[key]
	if t.warned == nil {
		t.warned = map[string]bool{}
	}
	t.warned[key] = true
	t.mu.Unlock()
	if !again {
		a.warn(code, message, attrs...)
	}
}

// Put fails with why the region is absent, and so does everything else.
func (s absent) Put(context.Context, string, []byte, [32]byte) error { return s.err }

// Get fails.
func (s absent) Get(context.Context, string, int64, int64) (io.ReadCloser, storage.Info, error) {
	return nil, storage.Info{}, s.err
}

// Stat fails.
func (s absent) Stat(context.Context, string) (storage.Info, error) { return storage.Info{}, s.err }

// List fails.
func (s absent) List(context.Context, storage.ListOptions) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, s.err) }
}

// Delete fails.
func (s absent) Delete(context.Context, string) error { return s.err }
