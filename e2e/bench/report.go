package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// goals are how many times faster than the faster peer lifeboat wants to be.
func goal(st step) float64 {
	switch st {
	case initial, restored:
		return 2
	case noChange:
		return 3
	}
	return 0
}

// cost is the median of the samples of one program, figure by figure.
type cost struct {
	wall, cpu, rss, added, toDisk float64
	requests                      map[string]int // of the last run
}

func costOf(all []sample) cost {
	figure := func(get func(sample) float64) float64 {
		values := make([]float64, len(all))
		for i, s := range all {
			values[i] = get(s)
		}
		return median(values)
	}
	return cost{
		wall:   figure(func(s sample) float64 { return s.Wall }),
		cpu:    figure(func(s sample) float64 { return s.CPU }),
		rss:    figure(func(s sample) float64 { return float64(s.RSS) }),
		added:  figure(func(s sample) float64 { return float64(s.added) }),
		toDisk: figure(func(s sample) float64 { return s.Wall + s.Settle }),

		requests: all[len(all)-1].requests,
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// report writes everything as Markdown.
func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "## lifeboat beside its peers\n\n")
	b.circumstances(w)
	for _, p := range []place{local, s3} {
		if len(b.results[p]) > 0 {
			b.summary(w, p)
		}
	}
	for _, p := range []place{local, s3} {
		for _, s := range sets(b.o) {
			if t := b.results[p][s.name]; t != nil {
				b.details(w, p, s, t)
			}
		}
	}
	fmt.Fprintf(w, "### Commands\n\n```\n%s\n```\n", strings.Join(b.commands, "\n"))
}

// circumstances says what was run on what.
func (b *bench) circumstances(w io.Writer) {
	fmt.Fprintf(w, "`%s`\n\n", strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " "))
	for _, fact := range machine(b.stand.dir) {
		fmt.Fprintf(w, "- %s\n", fact)
	}
	cache := "warm page cache"
	if b.o.dropCaches {
		cache = "caches dropped before each run"
	}
	fmt.Fprintf(w, "- begun %s, load average then %s; %s; medians of %d; order of the programs alternated\n", b.began.UTC().Format("2006-01-02 15:04 UTC"), b.load, cache, b.o.times)
	fmt.Fprintf(w, "- S3: versitygw on loopback, %v added to every request\n", b.o.latency)
	for _, v := range versions(b.o) {
		fmt.Fprintf(w, "- %s\n", v)
	}
	for _, s := range sets(b.o) {
		if chosen(b.o.sets, s.name) {
			fmt.Fprintf(w, "- data set %s: %s\n", s.name, s.about)
		}
	}
	fmt.Fprintf(w, "\nRatios are peer / lifeboat: above 1 lifeboat needs less. CPU is user and system time, RSS the peak, both of the process alone.\n"+
		"\"To disk\" is seconds until what was written was also flushed. Every restored tree was compared with its source.\n\n")
}

// peers are the programs that lifeboat is measured against.
func (b *bench) peers() []string {
	var names []string
	for _, s := range subjects(b.o) {
		if s.peer {
			names = append(names, s.name)
		}
	}
	return names
}

// summary has one line per data set and step: lifeboat against the better peer.
func (b *bench) summary(w io.Writer, p place) {
	fmt.Fprintf(w, "### %s: lifeboat against the faster peer\n\n", title(p))
	fmt.Fprintln(w, "| data | step | lifeboat s | faster peer | its s | time | goal | its CPU | its RSS | stored: smallest peer | met |")
	fmt.Fprintln(w, "|---|---|--:|---|--:|--:|--:|--:|--:|--:|---|")
	var total, peerTotal float64
	for _, s := range sets(b.o) {
		t := b.results[p][s.name]
		if t == nil {
			continue
		}
		for _, st := range []step{initial, noChange, changed, restored} {
			mine, peers := t.costs(st, reference), b.peerCosts(t, st)
			if mine == nil || len(peers) == 0 {
				continue
			}
			if st == initial {
				total += mine.added
				peerTotal += smallest(peers)
			}
			summaryLine(w, s, st, *mine, peers)
		}
	}
	if peerTotal > 0 {
		fmt.Fprintf(w, "| all | initial | | | | | | | | %.2f | %s |\n", peerTotal/total, mark(total <= peerTotal))
	}
	fmt.Fprintln(w)
}

func title(p place) string {
	if p == s3 {
		return "Through S3"
	}
	return "Local"
}

type peerCost struct {
	name string
	cost
}

func (t *table) costs(st step, name string) *cost {
	all := t.samples[st][name]
	if len(all) == 0 {
		return nil
	}
	c := costOf(all)
	return &c
}

// peerCosts are those of the peers that took part, the fastest first.
func (b *bench) peerCosts(t *table, st step) []peerCost {
	var all []peerCost
	for _, name := range b.peers() {
		if c := t.costs(st, name); c != nil {
			all = append(all, peerCost{name, *c})
		}
	}
	slices.SortFunc(all, func(x, y peerCost) int { return cmp.Compare(x.wall, y.wall) })
	return all
}

func smallest(peers []peerCost) float64 {
	least := math.Inf(1)
	for _, p := range peers {
		least = min(least, p.added)
	}
	return least
}

func summaryLine(w io.Writer, s *set, st step, mine cost, peers []peerCost) {
	fastest := peers[0]
	ratio, want, size := fastest.wall/mine.wall, "", "–"
	ok := fastest.rss >= mine.rss
	if g := goal(st); g > 0 {
		want, ok = fmt.Sprintf("%g", g), ok && ratio >= g
	}
	const slack, blocks = 1.10, 5 // stored: at most a tenth more; of scattered blocks a fifth
	switch least := smallest(peers); {
	case st == initial:
		size, ok = fmt.Sprintf("%.2f", least/mine.added), ok && mine.added <= slack*least
	case st == changed:
		size = fmt.Sprintf("%.2f", least/mine.added)
		if s.name == "image" {
			ok = ok && mine.added*blocks <= least
		}
	}
	fmt.Fprintf(w, "| %s | %s | %.2f | %s | %.2f | **%.2f** | %s | %.2f | %.2f | %s | %s |\n", s.name, st, mine.wall, fastest.name, fastest.wall, ratio, want,
		fastest.cpu/mine.cpu, fastest.rss/mine.rss, size, mark(ok))
}

func mark(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

// details has every figure of one data set in one place.
func (b *bench) details(w io.Writer, p place, s *set, t *table) {
	fmt.Fprintf(w, "### %s, %s\n\n", title(p), s.name)
	fmt.Fprintln(w, "| step | program | s | to disk s | CPU s | RSS MiB | stored MiB | time | CPU | RSS | stored | requests |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")
	for _, st := range []step{initial, noChange, changed, restored} {
		mine := t.costs(st, reference)
		for _, sub := range subjects(b.o) {
			c := t.costs(st, sub.name)
			switch {
			case c != nil:
				fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.2f | %.0f | %s | %s | %s |\n", st, sub.name, c.wall, c.toDisk, c.cpu, c.rss/(1<<20), mebibytes(st, c.added),
					ratios(st, sub.name, c, mine), verbs(c.requests))
			case t.samples[st] != nil && sub.peer: // it cannot work there
				fmt.Fprintf(w, "| %s | %s | n/a | | | | | | | | |\n", st, sub.name)
			}
		}
	}
	fmt.Fprintln(w)
}

func mebibytes(st step, n float64) string {
	if st == restored {
		return "–"
	}
	return fmt.Sprintf("%.2f", n/(1<<20))
}

// ratios are the last four columns of details.
func ratios(st step, name string, c, mine *cost) string {
	if mine == nil || name == reference {
		return " | | | "
	}
	size := "–"
	if st != restored && mine.added > 0 {
		size = fmt.Sprintf("%.2f", c.added/mine.added)
	}
	return fmt.Sprintf("%.2f | %.2f | %.2f | %s", c.wall/mine.wall, c.cpu/mine.cpu, c.rss/mine.rss, size)
}

// verbs are the requests of a run, by verb.
func verbs(n map[string]int) string {
	var all []string
	for _, verb := range slices.Sorted(maps.Keys(n)) {
		all = append(all, fmt.Sprintf("%s %d", verb, n[verb]))
	}
	return strings.Join(all, ", ")
}
