//go:build linux

package volume

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// batchEntries is how many names of a large directory are looked at as one job.
	batchEntries = 256

	// aheadEntriesMax is how many entries may have been looked at and not yet
	// visited; each takes about 130 bytes.
	aheadEntriesMax = 32 << 10

	// aheadNamesMax is how many bytes of names may wait; beyond it, a directory is
	// listed only when the visits have come to it.
	aheadNamesMax = 32 << 20

	// lookPast is how many jobs a worker passes over in search of one it may take.
	lookPast = 16
)

// ahead reads directories ahead of the visits. All jobs that are not finished
// stand in one list in the order of the visits; a finished job is replaced by the
// jobs it gave rise to. So a worker always takes what is needed soonest, at the
// head of the list. When the visits come to a job that nobody has taken, they do
// it themselves: the limits on reading ahead can never block them.
type ahead struct {
	v *Volume

	mu       sync.Mutex
	work     sync.Cond // for workers: there may be something to take
	done     sync.Cond // for the visits: a job is finished
	head     job       // of the ring of jobs
	idle     int       // workers that wait
	awaited  *job      // what the visits wait for
	full     bool      // read ahead far enough
	stopped  bool
	stats    int   // entries looked at and not yet visited
	names    int64 // bytes of listings
	free     []*batch
	freeList []*listing
}

// job is a place in the list. One of branch and batch is set.
type job struct {
	prev, next *job
	taken      bool
	finished   atomic.Bool
	branch     *branch
	batch      *batch
}

// branch is the job of listing a directory.
type branch struct {
	job
	dir     *dir
	root    bool   // it is a path of Options
	dev     uint64 // of the path it is below, for OneFileSystem
	stat    Stat   // as opened
	err     error  // why it could not be opened, or listed to the end
	outcome outcome
	list    *listing // nil: nothing in it is visited
	batches []*batch
}

// outcome says how a directory was found when it was opened.
type outcome uint8

const (
	opened   outcome = iota
	gone             // vanished before it was opened
	replaced         // by something that is not this directory
	marked           // not entered: a marker file
	mounted          // not entered: a mount point
	failed           // branch.err says why nothing, or not everything, was listed
)

// batch is the job of looking at some names of a listing.
type batch struct {
	job
	dir    *dir
	list   *listing
	lo, hi int
	last   bool   // of its listing
	root   bool   // it is a path of Options
	dev    uint64 // as in branch
	stats  []Stat
	subs   []*branch // for each entry with fateEnter
}

func (v *Volume) newAhead() *ahead {
	a := &ahead{v: v}
	a.work.L, a.done.L = &a.mu, &a.mu
	a.head.prev, a.head.next = &a.head, &a.head
	return a
}

// scratch is what one goroutine needs to do jobs.
type scratch struct {
	dirents []byte
	path    []byte
	statx   unix.Statx_t
}

func newScratch() *scratch { return &scratch{dirents: make([]byte, direntsBytes)} }

// run does jobs until the walk stops.
func (a *ahead) run() {
	sc := newScratch()
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.stopped {
		j := a.next()
		if j == nil {
			a.idle++
			a.work.Wait()
			a.idle--
			continue
		}
		j.taken = true
		a.mu.Unlock()
		a.do(sc, j)
		a.mu.Lock()
	}
}

// next is the first job that nobody has taken and that the limits allow.
func (a *ahead) next() *job {
	if a.full {
		return nil
	}
	j := a.head.next
	for range lookPast {
		if j == &a.head {
			return nil
		}
		if !j.taken && (j.batch != nil || a.names < aheadNamesMax) {
			return j
		}
		j = j.next
	}
	return nil
}

// await returns when the job is finished, doing it if nobody has begun.
func (a *ahead) await(sc *scratch, j *job) {
	if j.finished.Load() {
		return
	}
	a.mu.Lock()
	if !j.taken {
		j.taken = true
		a.mu.Unlock()
		a.do(sc, j)
		return
	}
	for a.awaited = j; !j.finished.Load(); {
		a.done.Wait()
	}
	a.awaited = nil
	a.mu.Unlock()
}

// stop makes the workers return after their current job.
func (a *ahead) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.work.Broadcast()
}

// do does a job that the caller has taken, and puts what follows in its place.
func (a *ahead) do(sc *scratch, j *job) {
	if j.branch != nil {
		a.enter(sc, j.branch)
	} else {
		a.look(sc, j.batch)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	added := a.replace(j)
	j.finished.Store(true)
	if a.stats >= aheadEntriesMax {
		a.full = true
	}
	if a.awaited == j {
		a.done.Signal()
	}
	if !a.full {
		for range min(added, a.idle) {
			a.work.Signal()
		}
	}
}

// replace puts the jobs that j gave rise to where it stood, and accounts for what it read.
func (a *ahead) replace(j *job) (added int) {
	at := j.prev
	j.prev.next, j.next.prev = j.next, j.prev
	j.prev, j.next = nil, nil
	put := func(n *job) {
		n.prev, n.next = at, at.next
		at.next.prev, at.next = n, n
		at = n
		added++
	}
	looked := func(b *batch) {
		a.stats += len(b.stats)
		for _, s := range b.subs {
			if !s.finished.Load() {
				put(&s.job)
			}
		}
	}
	if j.batch != nil {
		looked(j.batch)
		return added
	}
	if j.branch.list != nil {
		a.names += j.branch.list.size()
	}
	for _, b := range j.branch.batches {
		if !b.finished.Load() {
			put(&b.job)
		} else {
			looked(b)
		}
	}
	return added
}

// append adds the first jobs; nothing runs yet.
func (a *ahead) append(j *job) {
	j.prev, j.next = a.head.prev, &a.head
	j.prev.next, a.head.prev = j, j
}

// visited takes back what a batch held; nothing of it may be used any more.
func (a *ahead) visited(b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stats -= len(b.stats)
	if b.last {
		a.names -= b.list.size()
		a.recycleLocked(b.list)
	}
	clear(b.subs)
	*b = batch{stats: b.stats[:0], subs: b.subs[:0]}
	a.free = append(a.free, b)
	if a.full && a.stats <= aheadEntriesMax*3/4 {
		a.full = false
		a.work.Broadcast()
	}
}

func (a *ahead) recycle(l *listing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recycleLocked(l)
}

func (a *ahead) recycleLocked(l *listing) {
	if l.size() <= listingRecycle {
		a.freeList = append(a.freeList, l)
	}
}

// newListing and newBatch hand out used ones when there are any.
func (a *ahead) newListing() *listing {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.freeList); n > 0 {
		l := a.freeList[n-1]
		a.freeList = a.freeList[:n-1]
		return l
	}
	return &listing{}
}

func (a *ahead) newBatch(d *dir, l *listing, lo, hi int, dev uint64) *batch {
	a.mu.Lock()
	var b *batch
	if n := len(a.free); n > 0 {
		b = a.free[n-1]
		a.free = a.free[:n-1]
	}
	a.mu.Unlock()
	if b == nil {
		b = &batch{}
	}
	b.dir, b.list, b.lo, b.hi, b.dev = d, l, lo, hi, dev
	b.last = hi == len(l.refs)
	b.job.batch = b
	return b
}

// enter lists a directory and, when it is small, looks at all that is in it.
func (a *ahead) enter(sc *scratch, br *branch) {
	fds := a.v.fds
	fd, err := fds.acquire(br.dir)
	if err != nil {
		br.outcome, br.err = openOutcome(err), err
		return
	}
	defer fds.release(br.dir)
	if err := statFD(fd, &br.stat); err != nil {
		br.outcome, br.err = failed, err
		return
	}
	fds.identify(br.dir, &br.stat)
	if a.boundary(fd, br) {
		br.outcome = mounted
		return
	}
	list := a.newListing()
	err = list.read(fd, sc.dirents)
	if br.outcome, br.err = listOutcome(err), err; br.outcome == gone {
		list.refs = list.refs[:0]
	} else if !br.root && a.v.marked(fd, list) {
		br.outcome = marked
		list.refs = list.refs[:0]
	}
	if len(list.refs) == 0 {
		a.recycle(list)
		return
	}
	br.list = list
	n := len(list.refs)
	if n <= batchEntries {
		b := a.newBatch(br.dir, list, 0, n, br.dev)
		a.lookAt(sc, fd, b)
		b.taken = true
		b.finished.Store(true)
		br.batches = []*batch{b}
		return
	}
	br.batches = make([]*batch, 0, (n+batchEntries-1)/batchEntries)
	for lo := 0; lo < n; lo += batchEntries {
		br.batches = append(br.batches, a.newBatch(br.dir, list, lo, min(lo+batchEntries, n), br.dev))
	}
}

// listOutcome knows that a directory can be removed while it is listed.
func listOutcome(err error) outcome {
	switch {
	case err == nil:
		return opened
	case errors.Is(err, unix.ENOENT):
		return gone
	}
	return failed
}

func openOutcome(err error) outcome {
	switch {
	case errors.Is(err, unix.ENOENT):
		return gone
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, ErrReplaced):
		return replaced
	}
	return failed
}

// look opens the directory of a batch again and looks at its names.
func (a *ahead) look(sc *scratch, b *batch) {
	fd, err := a.v.fds.acquire(b.dir)
	if err != nil {
		s := Stat{errno: unix.ESTALE}
		errors.As(err, &s.errno)
		s.fail(s.errno)
		for range b.hi - b.lo {
			b.stats = append(b.stats, s)
		}
		return
	}
	defer a.v.fds.release(b.dir)
	a.lookAt(sc, fd, b)
}

// lookAt looks at the names of a batch.
func (a *ahead) lookAt(sc *scratch, fd int, b *batch) {
	if cap(b.stats) < b.hi-b.lo {
		b.stats = make([]Stat, 0, max(b.hi-b.lo, batchEntries/8))
	}
	b.stats = b.stats[:b.hi-b.lo]
	globs := a.v.exclude
	prefix := 0
	if globs.needsPath() && !b.root {
		sc.path = b.dir.appendPath(append(sc.path[:0], '/'))
		if len(sc.path) > 1 {
			sc.path = append(sc.path, '/')
		}
		prefix = len(sc.path)
	}
	for i := range b.stats {
		s := &b.stats[i]
		*s = Stat{}
		kind := b.list.refs[b.lo+i].kind
		name := b.list.nameZ(b.lo + i)
		bare := name[:len(name)-1]
		if prefix > 0 {
			sc.path = append(sc.path[:prefix], bare...)
		}
		switch {
		case b.dir.below(len(bare)) > pathBytesMax || b.dir.depth >= depthMax:
			s.fate = fateDeep
			continue
		case !b.root && globs.match(sc.path, bare, kind == unix.DT_DIR):
			s.fate = fateExcluded
			continue
		}
		lookAtOne(sc, fd, s, name)
		if kind == unix.DT_UNKNOWN && s.fate == fateEnter && !b.root && globs.match(sc.path, bare, true) {
			s.fate = fateExcluded
		}
		if s.fate == fateEnter {
			b.subs = append(b.subs, a.newBranch(b, s, bare))
		}
	}
}

// newBranch is the job of entering a directory, or, where a look tells already
// that it is not to be entered, a finished one: opening it could mount something.
func (a *ahead) newBranch(b *batch, s *Stat, name []byte) *branch {
	br := &branch{dir: newDir(b.dir, name), dev: b.dev, root: b.root}
	br.job.branch = br
	if a.v.opts.OneFileSystem && !b.root && s.Dev != b.dev {
		br.outcome = mounted
		br.finished.Store(true)
	}
	return br
}

// fail records why an entry could not be looked at.
func (s *Stat) fail(errno unix.Errno) {
	s.fate, s.errno = fateError, errno
	if errno == unix.ENOENT {
		s.fate = fateVanished
	}
}

// lookAtOne looks at one name and decides what becomes of it.
func lookAtOne(sc *scratch, fd int, s *Stat, name []byte) {
	if errno := statx(fd, name, 0, &sc.statx); errno != 0 {
		s.fail(errno)
		return
	}
	s.set(&sc.statx)
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		s.fate = fateSocket
	case unix.S_IFDIR:
		s.fate = fateEnter
	}
}

// boundary tells whether a directory that was just opened is not to be entered.
func (a *ahead) boundary(fd int, br *branch) bool {
	if br.root {
		br.dev = br.stat.Dev
	}
	if br.stat.Dev == br.dev {
		return false
	}
	return a.v.opts.OneFileSystem || pseudo(fd)
}
