// Package storage says what a region can do: keep whole, immutable, named
// objects. It holds the Store contract, the keys of the repository layout, the
// few sentinel errors, and the wrappers (retry, limit, timeout, breaker) that
// are Stores themselves. It knows nothing of packs, snapshots or keys.
package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Store is one region: a flat map from key to immutable bytes.
//
// Keys are relative slash-separated names of [A-Za-z0-9._~-] elements, at most
// 512 bytes. A Store gives read-after-write and list-after-write for its own
// client; it promises nothing about other clients beyond atomic puts.
type Store interface {
	// Put makes key hold exactly data, or leaves what was there. When Put
	// returns nil the object is durable and visible to Get, Stat and List.
	// sum is the SHA-256 of data; a Store has the other side check it where it
	// can. Putting a key that exists replaces it whole: names carry the hash of
	// their bytes, so a replacement can only repair. After an error the outcome
	// is unknown: the put may still land later. Put does not keep data.
	Put(ctx context.Context, key string, data []byte, sum [32]byte) error

	// Get opens length bytes at offset. A negative length reads to the end; a
	// negative offset (with length < 0) reads the last -offset bytes, or the
	// whole object if it is shorter. A range that starts at or past the end
	// gives no bytes and no error. Info describes the whole object.
	// The caller closes the reader. ErrNotFound if there is no such object.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error)

	// Stat describes an object. ErrNotFound if there is none.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields objects whose key begins with opt.Prefix, in byte order of
	// keys. An error ends the sequence. A listing is a hint: never a proof that
	// something is absent (see CheckListing).
	List(ctx context.Context, opt ListOptions) iter.Seq2[Info, error]

	// Delete removes an object; deleting a missing one is no error.
	Delete(ctx context.Context, key string) error
}

// ListOptions selects what List yields.
type ListOptions struct {
	Prefix     string // only keys that begin with this
	StartAfter string // only what sorts after this: keys, and groups by their own Key
	// Delimited groups keys at the next "/" after Prefix: each group is yielded
	// once, as an Info with Dir true and a Key that ends in "/".
	Delimited bool
}

// Info describes one object.
type Info struct {
	Key     string
	Size    int64
	ModTime time.Time // by the region's clock
	Dir     bool      // a group of keys, from a delimited listing
}

// Sentinel errors. Wrapped with what was being done; compared with errors.Is.
var (
	ErrNotFound    = errors.New("object not found")
	ErrCorrupt     = errors.New("object is corrupt")       // bytes do not match their name; never retried
	ErrDenied      = errors.New("access denied")           // credentials or permissions; never retried
	ErrNoSpace     = errors.New("no space left in region") // ENOSPC, 507; never retried
	ErrUnreachable = errors.New("region unreachable")      // no answer within the limits, after retries
	ErrNoBucket    = errors.New("no such bucket or directory")
	ErrReadOnly    = errors.New("region is read-only")
)
