// Package index says where chunks are: chunk id to pack, frame and offset. It
// holds the codec of the index objects that writers store in a repository, and
// the local index on disk that answers lookups in bounded memory.
//
// The local index is a row of immutable sorted files (runs), merged as their
// number grows, and a small table in memory for what is new. A filter in
// memory answers most lookups of unknown chunks, at about 1.2 bytes for a
// chunk; everything else is read in checked blocks through a bounded cache.
// A state file, replaced whole, names the runs that count, so a process killed
// at any moment leaves the last flushed index. Every byte is under a checksum:
// damage is reported as ErrDamaged, never answered from.
//
// The index is a cache of what the repository knows. It is lost without harm
// and rebuilt from index objects or tables of contents. It does not fetch
// anything, does not know whose packs may be re-used, and believes the records
// that it is given: callers verify chunks by their ids when they read them.
package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"lifeboat/storage/durable"
	"lifeboat/storage/pack"
)

// Sentinel errors.
var (
	// ErrDamaged is returned when a local file is not what was written: torn,
	// changed, missing, or of another repository. Open has then discarded the
	// whole index, and the next Open gives an empty one; after any other call,
	// Close discards it. The caller rebuilds.
	ErrDamaged = errors.New("local index is damaged")
	// ErrLocked is returned by Open for a directory that is in use; see LockedError.
	ErrLocked = errors.New("local index is in use")
	// ErrClosed is returned by every call after Close or Destroy.
	ErrClosed = errors.New("local index is closed")
	// ErrNotFound is returned for a pack that is not recorded.
	ErrNotFound = errors.New("pack is not in the local index")
)

const (
	// CacheDefault is the block cache's size in bytes if Options name none.
	CacheDefault = 64 << 20
	// MemoryDefault is how many chunks are held in memory before they are
	// written out, if Options name no other number: about 7 MB.
	MemoryDefault = 64 << 10

	memoryChunksMax = 1 << 20 // whatever Options say
	packsShare      = 4       // at most one pack in memory for so many chunks of the limit
)

// Options of an index.
type Options struct {
	Repo         [32]byte // repository that the index belongs to; another one's is discarded
	CacheBytes   int      // of the block cache; 0: CacheDefault
	MemoryChunks int      // held in memory before they are written out, at most 1 Mi; 0: MemoryDefault
	// Temporary makes an index that starts empty, survives nothing (it is never
	// synced), and is removed by Close. Its directory must not hold an index.
	Temporary bool
	Events    Events
}

// Events are told what happens; each may be nil. They are called while the
// index is being changed and must not call it back.
type Events struct {
	Spilled func(chunks int)        // the table in memory was written to a file
	Merged  func(files, chunks int) // so many files became one with so many chunks
}

// Index is an open local index. It is safe for concurrent use: lookups go on
// while records are added, written out and merged.
type Index struct {
	dir   string
	opt   Options
	lock  *os.File
	cache *cache

	change sync.Mutex // held by whatever changes the index; taken before mu
	next   uint64     // id of the next run; under change

	mu     sync.RWMutex // guards what follows: readers hold it for one lookup
	runs   []*run       // by id
	memory *memory
	drops  map[pack.Hash]uint64
	closed bool

	damage atomic.Bool // a block was found damaged
}

// Open opens the index in dir, or makes an empty one. ErrLocked (a LockedError)
// if somebody has it open; ErrDamaged if it was damaged or belonged to another
// repository, and is discarded now.
func Open(dir string, opt Options) (*Index, error) {
	if opt.CacheBytes <= 0 {
		opt.CacheBytes = CacheDefault
	}
	if opt.MemoryChunks <= 0 {
		opt.MemoryChunks = MemoryDefault
	}
	opt.MemoryChunks = min(opt.MemoryChunks, memoryChunksMax)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	x := &Index{dir: dir, opt: opt, lock: lock, memory: newMemory()}
	err = x.load()
	if err == nil {
		return x, nil
	}
	if errors.Is(err, ErrDamaged) {
		err = errors.Join(err, x.discard())
	}
	return nil, fmt.Errorf("open index %s: %w", dir, errors.Join(err, x.release()))
}

// load reads the state and opens its runs.
func (x *Index) load() error {
	s, err := readState(x.dir, x.opt.Repo)
	if err != nil {
		return err
	}
	if x.opt.Temporary && s.next > 0 {
		return fmt.Errorf("temporary index: %w", fs.ErrExist)
	}
	x.next, x.drops = s.next, s.drops
	for _, rf := range s.runs {
		r, err := openRun(x.path(rf.id), rf)
		if err != nil {
			return err
		}
		x.runs = append(x.runs, r)
	}
	if err := x.sweep(); err != nil {
		return err
	}
	x.cache, err = newCache(x.opt.CacheBytes)
	return err
}

func (x *Index) path(id uint64) string { return filepath.Join(x.dir, runName(id)) }

// sweep removes files that a crash left: runs that the state does not name.
func (x *Index) sweep() error {
	if _, err := durable.Sweep(x.dir); err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, r := range x.runs {
		known[runName(r.id)] = true
	}
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "run-") || known[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(x.dir, e.Name())); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	return nil
}

// discard removes the index's files, the state first: without it the rest is
// nothing.
func (x *Index) discard() error {
	err := os.Remove(filepath.Join(x.dir, stateName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard index: %w", err)
	}
	if err := durable.SyncDir(x.dir); err != nil {
		return fmt.Errorf("discard index: %w", err)
	}
	kept := x.runs
	x.runs = nil
	err = x.sweep()
	x.runs = kept // still to be closed
	return err
}

// release closes everything that Open opened.
func (x *Index) release() error {
	var errs []error
	for _, r := range x.runs {
		errs = append(errs, r.close())
	}
	if x.cache != nil {
		errs = append(errs, x.cache.close())
	}
	x.runs, x.memory, x.drops = nil, nil, nil
	return errors.Join(append(errs, x.lock.Close())...)
}

// Close writes out what is in memory, if the index is whole, and lets the
// directory go. A temporary or damaged index is removed.
func (x *Index) Close() error {
	if x.opt.Temporary {
		return x.Destroy()
	}
	x.change.Lock()
	defer x.change.Unlock()
	if x.isClosed() {
		return nil
	}
	var err error
	if x.damage.Load() {
		err = x.discard()
	} else {
		err = x.spill()
	}
	return x.finish("close", err)
}

// Destroy removes the index and its directory, unless something else is in it.
func (x *Index) Destroy() error {
	x.change.Lock()
	defer x.change.Unlock()
	if x.isClosed() {
		return nil
	}
	err := x.discard()
	if err == nil {
		err = os.Remove(filepath.Join(x.dir, lockName))
	}
	err = x.finish("destroy", err)
	if err == nil {
		_ = os.Remove(x.dir) // a directory with other files in it stays
	}
	return err
}

func (x *Index) finish(what string, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	if err := errors.Join(err, x.release()); err != nil {
		return fmt.Errorf("%s index %s: %w", what, x.dir, err)
	}
	return nil
}

func (x *Index) isClosed() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.closed
}

// usable says why the index cannot be changed, if so. The caller holds change.
func (x *Index) usable() error {
	if x.closed { // set under change too
		return ErrClosed
	}
	if x.damage.Load() {
		return ErrDamaged
	}
	return nil
}

// note remembers that damage was found and passes the error on.
func (x *Index) note(err error) error {
	if err != nil && errors.Is(err, ErrDamaged) {
		x.damage.Store(true)
	}
	return err
}

// Stats describe an index.
type Stats struct {
	Chunks      int   // places of chunks, dropped packs' included
	Files       int   // runs
	FileBytes   int64 // of all runs
	FilterBytes int64 // in memory
	Pending     int   // chunks in memory, not written out yet
	Dropped     int   // packs dropped and not yet merged away
}

// Stats gives the index's sizes.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Stats{Files: len(x.runs), Dropped: len(x.drops)}
	for _, r := range x.runs {
		s.Chunks += r.chunks
		s.FileBytes += int64(r.blocks) * blockSize
		s.FilterBytes += int64(len(r.memory))
	}
	if x.memory != nil {
		s.Pending = len(x.memory.chunks)
		s.Chunks += s.Pending
	}
	return s
}
