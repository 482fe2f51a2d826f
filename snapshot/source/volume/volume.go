//go:build linux

package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"lifeboat/snapshot/catalog"
)

const (
	workersMin = 8  // even on one core: a cold disk answers several requests at once
	workersMax = 64 // of one walk

	pathBytesMax = 64 << 10 // of a visited path
	depthMax     = 4096     // elements of a visited path
)

var (
	// ErrReplaced says that a name now stands for another object than the one that was listed.
	ErrReplaced = errors.New("replaced by another object since it was listed")

	// ErrTooDeep says that a path has more elements or bytes than a catalog takes (4,096; 64 KiB).
	ErrTooDeep = errors.New("path is too long or too deep for a catalog")

	// ErrTooMany says that a directory has more entries than a walk takes (16 Mi).
	ErrTooMany = errors.New("directory has too many entries")
)

// Options says what a volume is made of.
type Options struct {
	// Paths are the files and directories to read: absolute, clean, existing,
	// none inside another, without a symbolic link above the last element.
	Paths []string

	// Exclude holds doublestar globs (*, ?, [a-z], {a,b}, ** over directories).
	// One without '/' is matched with the last element of a path, one that begins
	// with '/' with the absolute path, and any other with the end of the path, from
	// the beginning of an element. A '/' at the end restricts it to directories.
	// What is below an excluded directory is not looked at.
	Exclude []string

	// ExcludeIfPresent are file names; a directory that holds one is not entered.
	ExcludeIfPresent []string

	// ExcludeCaches stays out of directories with a valid CACHEDIR.TAG.
	ExcludeCaches bool

	// OneFileSystem stays on the file system of each path.
	OneFileSystem bool

	// Workers is how many goroutines read directories ahead of the visits, at most
	// 64; 0 chooses by the number of processors.
	Workers int

	Events Events
}

// Events are called by Walk, one at a time, between the visits and in their order.
// A path has the form of Stat.Path and is valid during the call.
type Events struct {
	Unreadable func(path []byte, err error) // could not be listed or looked at
	Excluded   func(path []byte)            // matched a glob, or a directory that is marked
	Socket     func(path []byte)            // skipped
	Mount      func(path []byte)            // another file system, not entered
	Vanished   func(path []byte)            // listed, then gone
}

// Counts sums up a walk.
type Counts struct {
	Visited    int64 // objects given to the visitor
	Unreadable int64
	Excluded   int64
	Sockets    int64
	Mounts     int64
	Vanished   int64
}

// Volume reads the objects below some paths. Walk may run once at a time;
// everything else may be called at any time from any goroutine.
type Volume struct {
	opts    Options
	roots   []string // absolute, in catalog order
	exclude *matcher
	fds     *fdCache
	owners  *owners

	mu     sync.Mutex
	counts Counts
}

// New checks the options. It fails when a path is relative, missing, listed twice
// or inside another, when a component above its last is a symbolic link, or when a
// glob is malformed. All such problems are joined into one error.
func New(opts Options) (*Volume, error) {
	if len(opts.Paths) == 0 {
		return nil, errors.New("volume: no paths")
	}
	exclude, err := newMatcher(opts.Exclude)
	errs := []error{err}
	for _, name := range opts.ExcludeIfPresent {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			errs = append(errs, fmt.Errorf("exclude_if_present %q: not a file name", name))
		}
	}
	roots := make([]string, 0, len(opts.Paths))
	for _, path := range opts.Paths {
		root, err := checkPath(path)
		if errs = append(errs, err); err == nil {
			roots = append(roots, root)
		}
	}
	slices.SortFunc(roots, func(a, b string) int { return catalog.Compare([]byte(a), []byte(b)) })
	for i := 1; i < len(roots); i++ {
		if inside(roots[i], roots[i-1]) {
			errs = append(errs, fmt.Errorf("path %s: listed twice, or inside %s", show(roots[i]), show(roots[i-1])))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if opts.Workers <= 0 {
		opts.Workers = max(workersMin, 2*runtime.GOMAXPROCS(0))
	}
	opts.Workers = min(opts.Workers, workersMax)
	return &Volume{opts: opts, roots: roots, exclude: exclude, fds: newFDCache(), owners: newOwners()}, nil
}

// Counts tells what the last walk that has ended met.
func (v *Volume) Counts() Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts
}

// checkPath returns the path cleaned of slashes at its end.
func checkPath(path string) (string, error) {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("path %s: not absolute", show(path))
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return "", fmt.Errorf("path %s: has %q in it; name the real path", show(path), part)
		}
	}
	path = filepath.Clean(path)
	if len(path) > pathBytesMax {
		return "", fmt.Errorf("path %s…: %w", show(path[:64]), ErrTooDeep)
	}
	if _, err := os.Lstat(path); err != nil {
		return "", fmt.Errorf("path %s: %w", show(path), errors.Unwrap(err))
	}
	parent := filepath.Dir(path)
	real, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", fmt.Errorf("path %s: %w", show(path), err)
	}
	if real != parent {
		return "", fmt.Errorf("path %s: goes through a symbolic link; name the real path, %s",
			show(path), show(filepath.Join(real, filepath.Base(path))))
	}
	return path, nil
}

// inside tells whether path is outer or below it; both are clean.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "/" || rest[0] == '/')
}

// show is a path for a message: as it is, or quoted when it would garble a line.
func show(path string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if path == "" || strings.ContainsFunc(path, odd) {
		return strconv.Quote(path)
	}
	return path
}
