package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/e2e/tree"
)

// step is one thing that is measured.
type step string

const (
	initial  step = "initial"
	noChange step = "no change"
	changed  step = "1 % changed"
	restored step = "restore"
)

// sample is one measured run.
type sample struct {
	usage
	added    int64          // bytes stored
	requests map[string]int // to S3, by verb
}

// table holds the samples of one data set in one place.
type table struct{ samples map[step]map[string][]sample }

func (t *table) add(st step, name string, s sample) {
	if t.samples[st] == nil {
		t.samples[st] = map[string][]sample{}
	}
	t.samples[st][name] = append(t.samples[st][name], s)
}

// bench is one run of everything.
type bench struct {
	o        *options
	stand    *stand
	began    time.Time
	load     string
	results  map[place]map[string]*table
	commands []string // an example of each, for the report
	seen     map[string]bool
	changes  uint64 // made to data so far
}

func (b *bench) all() error {
	b.began, b.load, b.seen = time.Now(), loadAverage(), map[string]bool{}
	for _, s := range sets(b.o) {
		if !chosen(b.o.sets, s.name) {
			continue
		}
		src := filepath.Join(b.stand.dir, "data", s.name)
		if err := os.MkdirAll(src, 0o755); err != nil {
			return err
		}
		b.say("making %s: %s", s.name, s.about)
		if err := s.make(src); err != nil {
			return fmt.Errorf("make data set %s: %w", s.name, err)
		}
		for _, p := range []place{local, s3} {
			if chosen(b.o.places, string(p)) {
				if err := b.compare(s, p, src); err != nil {
					return fmt.Errorf("data set %s, %s: %w", s.name, p, err)
				}
			}
		}
		if !b.o.keep {
			if err := os.RemoveAll(src); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare measures all programs with one data set in one place. All of them do
// one step after the other, so that they do it under the same conditions.
func (b *bench) compare(s *set, p place, src string) error {
	if p == s3 {
		b.stand.bucket(b.o)
	}
	t := &table{samples: map[step]map[string][]sample{}}
	if b.results[p] == nil {
		b.results[p] = map[string]*table{}
	}
	b.results[p][s.name] = t
	for n := range b.o.times {
		trials, err := b.trials(s, p, src, n)
		if err != nil {
			return err
		}
		if err := b.round(t, trials, s, src, n); err != nil {
			return err
		}
		if err := b.clear(trials); err != nil {
			return err
		}
	}
	return nil
}

// trials makes an empty repository for every program that can work in the place.
func (b *bench) trials(s *set, p place, src string, n int) ([]*trial, error) {
	var all []*trial
	for _, sub := range subjects(b.o) {
		if !slices.Contains(sub.places, p) {
			continue
		}
		id := fmt.Sprintf("%s-%s-%d-%s", p, s.name, n, strings.NewReplacer(" ", "-", ",", "").Replace(sub.name))
		t := &trial{subject: sub, set: s, place: p, src: src, dir: filepath.Join(b.stand.dir, id), stand: b.stand, prefix: id}
		if err := os.MkdirAll(t.dir, 0o700); err != nil {
			return nil, err
		}
		c, err := sub.tool.create(t)
		if err != nil {
			return nil, err
		}
		b.example(t, c)
		if _, err := measure(c, filepath.Join(t.dir, "create.log")); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// round is one repetition of all steps.
func (b *bench) round(table *table, trials []*trial, s *set, src string, n int) error {
	steps := []step{initial, noChange}
	if s.change != nil {
		steps = append(steps, changed)
	}
	steps = append(steps, restored)
	var want *tree.Picture
	for i, st := range steps {
		switch st {
		case changed:
			b.changes++ // another one each time, or it would be no change
			if err := s.change(src, b.changes); err != nil {
				return fmt.Errorf("change the data: %w", err)
			}
		case restored:
			var err error
			if want, err = tree.Take(src); err != nil {
				return err
			}
		}
		order := slices.Clone(trials)
		if (n+i)%2 == 1 {
			slices.Reverse(order)
		}
		for _, t := range order {
			got, err := b.step(t, st, want)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", t.subject.name, st, err)
			}
			table.add(st, t.subject.name, got)
			b.say("%-6s %-7s %-12s %-24s %8.2f s %8.2f s CPU %5d MiB %9s stored", t.place, s.name, st, t.subject.name, got.Wall, got.CPU, got.RSS>>20, size(got.added))
		}
	}
	return nil
}

// step measures one step of one program.
func (b *bench) step(t *trial, st step, want *tree.Picture) (sample, error) {
	if t.place == s3 {
		b.stand.proxy.Reset()
	}
	var got sample
	var err error
	if st == restored {
		got, err = b.restore(t, want)
	} else {
		t.archive++
		got, err = b.backup(t)
	}
	if t.place == s3 {
		got.requests = b.stand.proxy.Count()
	}
	return got, err
}

func (b *bench) backup(t *trial) (got sample, err error) {
	before, err := stored(t.repos)
	if err != nil {
		return got, err
	}
	if err := prepare(b.o.dropCaches, t.src); err != nil {
		return got, err
	}
	c := t.subject.tool.backup(t)
	b.example(t, c)
	if got.usage, err = measure(c, filepath.Join(t.dir, fmt.Sprintf("backup-%d.log", t.archive))); err != nil {
		return got, err
	}
	after, err := stored(t.repos)
	got.added = after - before
	return got, err
}

// restore measures a restore into an empty directory and compares what came back.
func (b *bench) restore(t *trial, want *tree.Picture) (got sample, err error) {
	to := filepath.Join(t.dir, "restored")
	if err := os.Mkdir(to, 0o755); err != nil {
		return got, err
	}
	if err := prepare(b.o.dropCaches, t.repos...); err != nil {
		return got, err
	}
	c := t.subject.tool.restore(t, to)
	b.example(t, c)
	if got.usage, err = measure(c, filepath.Join(t.dir, "restore.log")); err != nil {
		return got, err
	}
	have, err := tree.Take(t.subject.tool.restored(t, to))
	if err != nil {
		return got, err
	}
	diffs := tree.Compare(want, have, tree.Ignore{Root: true, Holes: !t.subject.holes || !t.set.holes})
	if len(diffs) > 0 {
		return got, fmt.Errorf("the restored tree differs from its source in %d places, the first: %v", len(diffs), diffs[0])
	}
	return got, os.RemoveAll(to)
}

// clear deletes the repositories of a repetition.
func (b *bench) clear(trials []*trial) error {
	if b.o.keep {
		return nil
	}
	var err error
	for _, t := range trials {
		for _, dir := range append(t.repos, t.dir) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// example keeps a command line of each kind for the report.
func (b *bench) example(t *trial, c command) {
	line := strings.Join(c.args, " ")
	line = strings.NewReplacer(c.args[0], filepath.Base(c.args[0]), t.dir, "$DIR", t.src, "$DATA", t.prefix, "$PREFIX").Replace(line)
	if t.place == s3 {
		line = strings.ReplaceAll(line, t.stand.proxy.Endpoint, "$ENDPOINT")
	}
	if t.archive > 0 {
		line = strings.ReplaceAll(line, fmt.Sprintf("::%d", t.archive), "::$N")
	}
	if !b.seen[line] {
		b.seen[line] = true
		b.commands = append(b.commands, line)
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
