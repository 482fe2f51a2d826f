package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lifeboat/storage/pack"
)

// run is one restore under way.
type run struct {
	plan    *Plan
	opts    *Options
	chunks  Chunks
	lengths Lengths // nil if chunks does not know
	tally   tally
	handles handles
	root    *node
	links   linkDir
	tag     string       // in the names of temporary files
	serial  atomic.Int64 // and another one for each
	unnamed unnamed      // what files of one chunk are while they are written

	slots      chan struct{} // one for each file being written
	hashes     sync.Pool     // of func([]byte) pack.ChunkID
	buffers    sync.Pool     // of *[]byte, to read back into
	readErrors atomic.Int64
	inherits   atomic.Bool             // what is made may have inherited an ACL, which is not in the snapshot
	stop       context.CancelCauseFunc // ends the whole run
	blocked    []string                // directories that could not be made; at most problemsMax
	euid       int
}

// Run restores what the plan says. The Result counts what was done, also when there is an
// error: that means that the run as a whole ended early, with ErrNoSpace, ErrReadOnly,
// ErrDenied, ErrTarget, ErrNotEmpty, the context's error, or one of entries or chunks. What
// is wrong with single entries is in the Result.
func (p *Plan) Run(ctx context.Context, entries func(ctx context.Context) Entries, chunks Chunks) (*Result, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := p.newRun(chunks, stop)
	err := r.all(ctx, entries)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause // the first one, not what it led to
	}
	res := r.tally.result()
	if err != nil {
		return res, fmt.Errorf("restore to %s: %w", p.Target, err)
	}
	return res, nil
}

func (p *Plan) newRun(chunks Chunks, stop context.CancelCauseFunc) *run {
	r := &run{plan: p, opts: &p.opts, chunks: chunks, stop: stop, euid: unix.Geteuid()}
	r.lengths, _ = chunks.(Lengths)
	r.tally.events = p.opts.Events
	r.handles.most = handlesMax
	r.slots = make(chan struct{}, p.opts.workers())
	r.hashes.New = func() any { return p.opts.NewHash() }
	r.buffers.New = func() any { return new([]byte) }
	var tag [8]byte
	rand.Read(tag[:]) // never fails
	r.tag = tempPrefix + hex.EncodeToString(tag[:])
	return r
}

// all is the restore, step by step.
func (r *run) all(ctx context.Context, entries func(ctx context.Context) Entries) (err error) {
	fd, _, err := r.plan.openTarget()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r.root = &node{fd: fd, flags: openDir}
	r.links = linkDir{r: r}
	r.inherits.Store(hasDefaultACL(fd))
	defer func() {
		err = errors.Join(err, r.links.remove())
		r.handles.closeAll()
	}()

	if r.opts.Resume {
		if err := r.clean(r.root); err != nil {
			return err
		}
	}
	r.unnamed = r.probeUnnamed(fd)
	if err := r.writeFiles(ctx, entries(ctx)); err != nil {
		return err
	}
	if err := r.writeRest(ctx, entries(ctx)); err != nil {
		return err
	}
	if r.opts.NoSync {
		return nil
	}
	if err := unix.Syncfs(fd); err != nil {
		return denied(fmt.Errorf("flush: %w", err))
	}
	return nil
}

// writeFiles is the first pass: directories, and regular files whole.
func (r *run) writeFiles(ctx context.Context, entries Entries) error {
	group, ctx := errgroup.WithContext(ctx)
	b := newBuilder(ctx, r, group)
	err := r.walkFiles(ctx, entries, b)
	if err != nil {
		r.stop(err) // before waiting, so that the windows end soon
	}
	b.close(err)
	if werr := group.Wait(); werr != nil {
		return werr
	}
	return err
}

// fatal decides whether an error of one file is an error of the whole target; if so,
// it ends the run.
func (r *run) fatal(path string, err error) error {
	known := classify(err)
	if known == nil && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
		known = err
	}
	if known == nil {
		return nil
	}
	known = fmt.Errorf("write %q: %w", path, known)
	r.stop(known)
	return known
}

// failed counts an entry as not restored, or ends the run.
func (r *run) failed(path string, what Kind, err error) error {
	if ferr := r.fatal(path, err); ferr != nil {
		return ferr
	}
	r.tally.problem(path, what, err)
	return nil
}

// block notes a directory that could not be made: what it holds cannot be restored either.
func (r *run) block(path string) {
	if len(r.blocked) < problemsMax {
		r.blocked = append(r.blocked, path)
	}
}

// temp makes up a name for a temporary file.
func (r *run) temp() string {
	return r.tag + "-" + strconv.FormatInt(r.serial.Add(1), 36)
}

const tempPrefix = ".lifeboat-"

// isTemp recognises names that temp, of any run, has made up.
func isTemp(name string) bool {
	const digits = 16
	if len(name) < len(tempPrefix)+digits+2 || name[:len(tempPrefix)] != tempPrefix || name[len(tempPrefix)+digits] != '-' {
		return false
	}
	_, err := hex.DecodeString(name[len(tempPrefix) : len(tempPrefix)+digits])
	return err == nil
}

// hash names what was read back.
func (r *run) hash(data []byte) pack.ChunkID {
	h := r.hashes.Get().(func([]byte) pack.ChunkID)
	defer r.hashes.Put(h)
	return h(data)
}
