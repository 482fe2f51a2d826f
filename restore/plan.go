package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"lifeboat/snapshot/catalog"
)

// Plan says what a run would do. Making one writes nothing.
type Plan struct {
	Target string // absolute
	Exists bool   // the target is a directory already
	Empty  bool   // and there is nothing in it

	Files    int64 // regular files
	Dirs     int64
	Symlinks int64
	Fifos    int64
	Devices  int64
	Skipped  int64 // entries not selected
	Bytes    int64 // sizes of the files, holes included, hard links counted once
	Space    int64 // bytes needed on the target's file system, holes left out

	Unreadable int64 // files, directories and symlinks whose contents the snapshot does not have
	Changed    int64 // files that changed while they were read: parts of several states
	Bad        int64 // entries that will be refused

	Free       int64 // bytes free for this user; -1 if unknown
	FreeInodes int64 // -1 if unknown or unlimited
	// Short is set when Free or FreeInodes is too small. It is an error for an empty
	// target, where nothing can be reused.
	Short bool

	opts    Options
	limits  limits
	refused [][]byte
}

// NewPlan looks at the target and goes through the entries once. It fails with
// ErrTarget, ErrNotEmpty, ErrNoSpace, ErrNoMatch, ErrOptions, or an error of the entries.
func NewPlan(ctx context.Context, entries func(ctx context.Context) Entries, opts Options) (*Plan, error) {
	if opts.Verify != VerifyNone && opts.NewHash == nil {
		return nil, fmt.Errorf("verify without a hash: %w", ErrOptions)
	}
	p := &Plan{opts: opts, limits: defaultLimits(), Free: -1, FreeInodes: -1}
	block, err := p.lookAtTarget()
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", p.Target, err)
	}
	sel, err := newSelector(&opts, p.refused)
	if err != nil {
		return nil, err
	}
	missing, err := newUnmet(opts.Include, sel.strip)
	if err != nil {
		return nil, fmt.Errorf("include: %w", err)
	}
	if err := p.count(ctx, entries(ctx), sel, &missing, block); err != nil {
		return nil, fmt.Errorf("plan restore: read entries: %w", err)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("restore %s: %w: no entry matches", missing, ErrNoMatch)
	}
	if p.entries() == 0 && p.Bad == 0 {
		return nil, fmt.Errorf("restore: %w: no entry is left", ErrNoMatch)
	}
	return p, p.checkSpace()
}

func (p *Plan) entries() int64 { return p.Files + p.Dirs + p.Symlinks + p.Fifos + p.Devices }

// count goes through the entries, and leaves in missing what none of them matched. block is the target's block size.
func (p *Plan) count(ctx context.Context, entries Entries, sel *selector, missing *unmet, block int64) error {
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		missing.see(e.Path)
		switch _, c := sel.next(e); c {
		case bad:
			p.Bad++
		case take:
			p.add(e, block)
		case skip:
			p.Skipped++
		}
	}
	return nil
}

func (p *Plan) add(e *catalog.Entry, block int64) {
	if e.Flags&catalog.Changed != 0 {
		p.Changed++
	}
	if e.Flags&catalog.Unreadable != 0 {
		p.Unreadable++
	}
	switch e.Type {
	case catalog.Dir:
		p.Dirs++
		p.Space = plus(p.Space, block)
	case catalog.Symlink:
		p.Symlinks++
	case catalog.Fifo:
		p.Fifos++
	case catalog.CharDevice, catalog.BlockDevice:
		p.Devices++
	case catalog.File:
		p.addFile(e, block)
	}
}

// addFile counts a file of several names in equal parts, so that all of them make one.
func (p *Plan) addFile(e *catalog.Entry, block int64) {
	p.Files++
	if e.Flags&catalog.Unreadable != 0 {
		return
	}
	lay, err := checkFile(e)
	if err != nil {
		p.Bad++
		return
	}
	names := max(int64(e.Links), 1)
	p.Bytes = plus(p.Bytes, e.Size/names)
	space := lay.dataLength()
	if space <= math.MaxInt64-block {
		space = (space + block - 1) / block * block
	}
	p.Space = plus(p.Space, space/names)
}

// plus adds without overflow: hostile sizes end at the maximum.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (p *Plan) checkSpace() error {
	bytes := p.Free >= 0 && p.Space > p.Free
	inodes := p.FreeInodes >= 0 && p.entries() > p.FreeInodes
	p.Short = bytes || inodes
	if !p.Short || p.Exists && !p.Empty {
		return nil
	}
	if bytes {
		return fmt.Errorf("restore to %s: %w: %s needed, %s free", p.Target, ErrNoSpace, size(p.Space), size(p.Free))
	}
	return fmt.Errorf("restore to %s: %w: %d inodes needed, %d free", p.Target, ErrNoSpace, p.entries(), p.FreeInodes)
}

// WriteTo prints the plan, some lines of "name  value".
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s  %s\n", name, fmt.Sprintf(format, args...))
	}
	state := "to be made"
	switch {
	case p.Exists && p.Empty:
		state = "empty"
	case p.Exists && p.opts.Resume:
		state = "resumed"
	case p.Exists:
		state = "not empty; " + [...]string{"", "what differs is replaced", "all is replaced"}[p.opts.Overwrite]
	}
	line("target", "%s (%s)", p.Target, state)
	line("entries", "%d files, %d directories, %d symlinks, %d fifos, %d devices", p.Files, p.Dirs, p.Symlinks, p.Fifos, p.Devices)
	line("size", "%s", size(p.Bytes))
	line("space", "%s", p.spaceLine())
	if p.Skipped > 0 {
		line("not selected", "%d entries", p.Skipped)
	}
	if p.Unreadable > 0 {
		line("unreadable", "! %d entries could not be read when the snapshot was taken", p.Unreadable)
	}
	if p.Changed > 0 {
		line("torn", "! %d files changed while they were read: each may be parts of several states", p.Changed)
	}
	if p.Bad > 0 {
		line("refused", "%d entries are wrong or would land outside", p.Bad)
	}
	line("read back", "%s", [...]string{"nothing", fmt.Sprintf("one file in %d", sampleOneIn), "everything"}[min(p.opts.Verify, VerifyFull)])
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (p *Plan) spaceLine() string {
	switch {
	case p.Free < 0:
		return size(p.Space) + " needed, free space unknown"
	case p.Short:
		return fmt.Sprintf("! %s needed, %s free", size(p.Space), size(p.Free))
	}
	return fmt.Sprintf("%s needed, %s free", size(p.Space), size(p.Free))
}

// size prints bytes for people.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/(1<<10), "KMGTPE"
	for value >= 1024 && len(units) > 1 {
		value, units = value/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

var errUntrusted = errors.New("left out, since the repository is not trusted")
