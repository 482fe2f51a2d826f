package restore

import (
	"context"
	"errors"
	"iter"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

// Entries is a snapshot's entries in catalog order. An entry is valid until the
// next one. An error ends the sequence.
type Entries = iter.Seq2[*catalog.Entry, error]

// Chunks gives the contents of chunks.
type Chunks interface {
	// Read gets chunks by their ids, of data or of metadata, and calls emit once for
	// each index of want, possibly at the same time and in any order. data is verified
	// against its id and valid only during the call. An error of emit ends the read
	// and is returned. After an error the chunks not emitted are missing; the others count.
	Read(ctx context.Context, want []pack.ChunkID, emit func(i int, data []byte) error) error
}

// Lengths is implemented by a Chunks that knows how long chunks are without reading
// them. Without it a chunk that arrives before its predecessors in a file that was
// cut by content is read again.
type Lengths interface {
	// Lengths sets lengths[i] to the bytes of want[i], and leaves it alone if unknown.
	Lengths(ctx context.Context, want []pack.ChunkID, lengths []uint32) error
}

// Overwrite says what happens to files that are in the way.
type Overwrite uint8

const (
	Never     Overwrite = iota // they stay, and the entry counts as not restored
	IfChanged                  // they are replaced unless size and time are the same (and contents, with VerifyFull)
	Always                     // they are replaced
)

// Verify says how much of what was written is read back and compared with the chunk ids.
type Verify uint8

const (
	VerifyNone   Verify = iota
	VerifySample        // one file in sampleOneIn
	VerifyFull          // every file
)

// Options says what to restore, and how.
type Options struct {
	Target    string // directory; absent or empty, unless Resume or Overwrite is set; never a symlink
	Overwrite Overwrite
	Resume    bool // into what an interrupted run left: complete files stay, its temporary files go

	// Include and Exclude select entries: a path that begins with "/" is one as it was
	// on the source, one with another "/" in it is relative to StripPrefix, one
	// without is a base name anywhere. Each may be a glob ("**" too). A directory stands
	// for all it holds. Directories that lead to an included entry are restored too.
	Include, Exclude []string

	// StripPrefix is the path of a workload of one path: what it holds goes directly
	// into Target, and its attributes onto Target. Empty: by absolute path below Target.
	StripPrefix []byte

	Untrusted bool // no devices, no setuid and setgid bits, no security.* and trusted.* xattrs
	NoOwner   bool // everything belongs to whoever runs this
	NoSync    bool // do not flush at the end: for sandboxes that are thrown away
	AllowRoot bool // Target may be "/"

	// Owner maps the owner of an entry to the one to set here. Nil: the recorded
	// numbers. Called from one goroutine.
	Owner func(uid, gid uint32, user, group string) (uint32, uint32)

	Verify Verify
	// NewHash makes a function that names data chunks; each belongs to one goroutine
	// at a time. Needed unless Verify is VerifyNone.
	NewHash func() func(data []byte) pack.ChunkID

	Workers int // files written at once; 0: a default; at most workersMax
	Events  Events

	// Refuse lists directories that the target may not be, lie in, or reach into:
	// regions, the state directory. What would land in them is not restored.
	Refuse []string
}

// Events are optional callbacks. They are called from several goroutines, and soon return.
type Events struct {
	Wrote   func(bytes int64) // contents written to a file
	Done    func(path string) // a file, link or special file is complete; path is relative to the target
	Problem func(Problem)     // an entry was not restored
}

// Limits.
const (
	workersDefault = 8
	workersMax     = 64

	handlesMax      = 256      // descriptors of directories and unfinished files kept open
	windowsInFlight = 4        // windows being fetched at once
	windowChunksMax = 4096     // chunks in a window
	windowFilesMax  = 4096     // files in a window
	windowBytesMax  = 1 << 30  // bytes of contents in a window: files that were stored at the same time lie between each other
	windowMetaMax   = 8 << 20  // bytes of names and attributes in a window
	chunkMax        = 4 << 20  // bytes of a chunk
	idPagesAtOnce   = 16       // pages of chunk ids read at once, 64 KiB each
	readRoundsMax   = 3        // reads of one window without an error before what is missing is given up
	readErrorsMax   = 1 << 16  // failed reads, narrowing down to bad chunks, before the run ends
	sampleOneIn     = 16       // files, with VerifySample
	problemsMax     = 1000     // problems kept by name; all are counted
	namesMax        = 1000     // names kept of what could not be set
	dirAttrBytesMax = 64 << 20 // bytes of attributes kept for the directories that are being left
)

// Errors of a plan or a run, wrapped with what was being done.
var (
	ErrNotEmpty = errors.New("target is not empty")
	ErrTarget   = errors.New("unusable target")             // a symlink, not a directory, inside a refused path
	ErrNoMatch  = errors.New("nothing to restore")          // no entry is selected
	ErrNoSpace  = errors.New("no space left on the target") // also out of inodes or quota
	ErrReadOnly = errors.New("target is read-only")
	ErrDenied   = errors.New("no permission to write the target")
	ErrOptions  = errors.New("bad restore options")
)

func (o *Options) workers() int {
	if o.Workers <= 0 {
		return workersDefault
	}
	return min(o.Workers, workersMax)
}

// merges says that the target may hold files already.
func (o *Options) merges() bool { return o.Resume || o.Overwrite != Never }

func (e Events) wrote(n int64) {
	if e.Wrote != nil {
		e.Wrote(n)
	}
}

func (e Events) done(path string) {
	if e.Done != nil {
		e.Done(path)
	}
}
