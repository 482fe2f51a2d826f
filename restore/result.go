package restore

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Kind classifies why an entry was not restored.
type Kind uint8

const (
	BadEntry   Kind = iota // the catalog is wrong or hostile: path, order, sizes, ranges
	Outside                // not within StripPrefix, or it would land in a refused path
	Unreadable             // its contents could not be read when the snapshot was taken
	Exists                 // something else is in the way, and it may not be replaced
	Missing                // a chunk could not be read, or does not fit the entry
	Differs                // what was read back is not what was written
	Link                   // a hard link could not be made
	Failed                 // the target's file system said no
	kinds
)

// String names the kind.
func (k Kind) String() string {
	names := [...]string{"bad entry", "outside", "unreadable at the source", "exists", "contents missing", "read back differs", "hard link", "write"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Problem is one entry that was not restored.
type Problem struct {
	Path string // relative to the target; for bad entries the path of the catalog
	What Kind
	Err  error
}

// String says it in a line.
func (p Problem) String() string { return fmt.Sprintf("%q: %v: %v", p.Path, p.What, p.Err) }

// NotSet counts what was restored, but not wholly: for want of privilege, since the
// file system cannot hold it, or because the options say so.
type NotSet struct {
	Owner, Mode, Xattr, Times, Device int64
	Names                             []string // some of them: "owner of a/b: operation not permitted"
}

// Total sums the counts.
func (n *NotSet) Total() int64 { return n.Owner + n.Mode + n.Xattr + n.Times + n.Device }

// Result says what a run did. It is filled in also when Run returns an error.
type Result struct {
	Files    int64 // regular files written
	Kept     int64 // regular files that were there already
	Dirs     int64 // directories made or found
	Links    int64 // further names of files
	Symlinks int64
	Specials int64 // fifos and devices
	Bytes    int64 // of contents written
	Skipped  int64 // entries not selected

	Failed   int64        // entries not restored
	ByKind   [kinds]int64 // the same by Kind
	Problems []Problem    // the first problemsMax of them

	NotSet  NotSet // attributes that could not be set
	Dropped NotSet // attributes and devices left out because of Untrusted

	VerifiedFiles int64 // read back, and the same
	VerifiedBytes int64
}

// Complete says that every selected entry was restored; attributes may be missing (NotSet).
func (r *Result) Complete() bool { return r.Failed == 0 }

// tally collects a Result from many goroutines.
type tally struct {
	files, kept, dirs, links, symlinks, specials, bytes, skipped atomic.Int64
	verifiedFiles, verifiedBytes                                 atomic.Int64

	events Events

	mu  sync.Mutex
	res Result
}

func (t *tally) problem(path string, what Kind, err error) {
	p := Problem{Path: path, What: what, Err: err}
	t.mu.Lock()
	t.res.Failed++
	t.res.ByKind[what]++
	if len(t.res.Problems) < problemsMax {
		t.res.Problems = append(t.res.Problems, p)
	}
	t.mu.Unlock()
	if t.events.Problem != nil {
		t.events.Problem(p)
	}
}

// What could not be set.
type aspect uint8

const (
	owner aspect = iota
	mode
	xattr
	times
	device
)

func (n *NotSet) add(a aspect, path, detail string, err error) {
	counts := [...]*int64{owner: &n.Owner, mode: &n.Mode, xattr: &n.Xattr, times: &n.Times, device: &n.Device}
	names := [...]string{owner: "owner", mode: "mode", xattr: "xattr", times: "times", device: "device"}
	*counts[a]++
	if len(n.Names) >= namesMax {
		return
	}
	if detail != "" {
		detail = " " + detail
	}
	n.Names = append(n.Names, fmt.Sprintf("%s%s of %q: %v", names[a], detail, path, err))
}

func (t *tally) notSet(a aspect, path, detail string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.NotSet.add(a, path, detail, err)
}

func (t *tally) dropped(a aspect, path, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Dropped.add(a, path, detail, errUntrusted)
}

func (t *tally) result() *Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.res
	r.Files, r.Kept, r.Dirs, r.Links = t.files.Load(), t.kept.Load(), t.dirs.Load(), t.links.Load()
	r.Symlinks, r.Specials, r.Bytes, r.Skipped = t.symlinks.Load(), t.specials.Load(), t.bytes.Load(), t.skipped.Load()
	r.VerifiedFiles, r.VerifiedBytes = t.verifiedFiles.Load(), t.verifiedBytes.Load()
	return &r
}
