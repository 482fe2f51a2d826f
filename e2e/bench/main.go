// Command bench compares lifeboat with restic and borg, side by side in one run: the
// same data, the same machine, the same minutes. It makes the data, runs each
// program's own commands as a user would, compares every restored tree with its
// source, and writes tables of seconds, CPU, memory and stored bytes, with the
// peers' as multiples of lifeboat's. It tunes nothing and judges no design.
//
// A run alternates the order of the programs, so that none is always first.
// Data is in the page cache unless -drop-caches is given.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/e2e/internal/harness"
)

// The sizes that the comparison is about, and those of a quick try.
const (
	filesDefault   = 110_000
	largeDefault   = 4 << 30
	timesDefault   = 3
	latencyDefault = 30 * time.Millisecond
	quickPart      = 10
)

// options are the command line.
type options struct {
	lifeboat, restic, borg string // paths of the programs; an absent peer is left out

	files      int
	large      int64
	times      int
	latency    time.Duration
	quick      bool
	dropCaches bool
	keep       bool
	work, out  string

	sets, places, subjects string // comma-separated parts of names; all when empty
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == measureMode {
		os.Exit(measureMain(os.Args[2:]))
	}
	o := parseFlags()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() *options {
	o := &options{}
	flag.StringVar(&o.lifeboat, "binary", os.Getenv("LIFEBOAT_BINARY"), "the program (default bin/lifeboat of this repository)")
	flag.StringVar(&o.restic, "restic", orElse(os.Getenv("RESTIC"), "restic"), "the peer; also RESTIC in the environment; empty leaves it out")
	flag.StringVar(&o.borg, "borg", orElse(os.Getenv("BORG"), "borg"), "the peer; also BORG in the environment; empty leaves it out")
	flag.IntVar(&o.files, "files", filesDefault, "small files in the source tree")
	flag.Int64Var(&o.large, "large", largeDefault, "bytes of large files, a quarter for each kind")
	flag.IntVar(&o.times, "n", timesDefault, "repetitions; medians are shown")
	flag.DurationVar(&o.latency, "latency", latencyDefault, "added to every S3 request")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the data, once, to see that all works")
	flag.BoolVar(&o.dropCaches, "drop-caches", false, "empty the kernel's caches before each run (root only)")
	flag.BoolVar(&o.keep, "keep", false, "leave data and repositories in the work folder")
	flag.StringVar(&o.work, "work", "", "folder for everything (default a temporary one); needs about 15 times the large files' bytes")
	flag.StringVar(&o.out, "out", "", "write the tables to this file, too")
	flag.StringVar(&o.sets, "sets", "", "only these data sets: source, text, random, sparse, image")
	flag.StringVar(&o.places, "places", "", "only these places: local, s3")
	flag.StringVar(&o.subjects, "subjects", "", "only programs with one of these in their names")
	flag.Parse()
	if o.quick {
		o.files, o.large, o.times = o.files/quickPart, o.large/quickPart, 1
	}
	return o
}

// chosen says whether a comma-separated list has the name; an empty list has all.
func chosen(list, name string) bool {
	return list == "" || slices.ContainsFunc(strings.Split(list, ","), func(part string) bool { return strings.Contains(name, part) })
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// run is the whole benchmark.
func run(o *options) (err error) {
	if o.dropCaches && os.Geteuid() != 0 {
		return errors.New("-drop-caches needs root")
	}
	if err := findPrograms(o); err != nil {
		return err
	}
	s, err := newStand(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	defer s.catch(&err)

	b := &bench{o: o, stand: s, results: map[place]map[string]*table{}}
	if err := b.all(); err != nil {
		return err
	}
	return b.publish()
}

// findPrograms makes all paths absolute. A peer that is not installed is said
// to be missing and left out; without any there is nothing to compare with.
func findPrograms(o *options) error {
	if o.lifeboat == "" {
		root, err := harness.Root()
		if err != nil {
			return err
		}
		o.lifeboat = filepath.Join(root, "bin", "lifeboat")
	}
	var err error
	if o.lifeboat, err = filepath.Abs(o.lifeboat); err != nil {
		return err
	}
	if _, err := os.Stat(o.lifeboat); err != nil {
		return fmt.Errorf("the program to measure: %w; make build makes it", err)
	}
	for _, peer := range []*string{&o.restic, &o.borg} {
		if *peer == "" {
			continue
		}
		path, err := exec.LookPath(*peer)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is left out: %v; apt-get install %s\n", *peer, err, filepath.Base(*peer))
			*peer = ""
			continue
		}
		if *peer, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	if o.restic == "" && o.borg == "" {
		return errors.New("neither restic nor borg is there to compare with")
	}
	return nil
}

// publish writes the tables to standard output and to the file asked for.
func (b *bench) publish() error {
	var text strings.Builder
	b.report(&text)
	_, err := io.WriteString(os.Stdout, text.String())
	if b.o.out != "" {
		err = errors.Join(err, os.WriteFile(b.o.out, []byte(text.String()), 0o644))
	}
	return err
}
