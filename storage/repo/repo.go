// Package repo is the repository over its member regions. A Repo reads: it
// finds out which regions answer and belong, whom to trust, which snapshots each
// region shows, and fetches chunks from any region that holds good bytes. A
// Session writes: it follows the commit protocol of docs/design.md, so that what
// it acknowledges is complete in the regions it names. Repo and Session are
// different types on purpose; a Session needs no key that opens contents.
//
// The package takes no snapshot and restores nothing: it moves frames, pages and
// statements.
package repo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/seal"
)

// Region is one configured place: a name for people and a store.
type Region struct {
	Name  string
	URL   string // for people and for the recovery kit; no secrets
	Store storage.Store
}

// Sentinel errors of this package.
var (
	ErrNoRepository    = errors.New("no repository here")
	ErrWrongRepository = errors.New("this is another repository")
	ErrNotMember       = errors.New("region is not a member as it is")
	ErrNoUsable        = errors.New("no usable region")
	ErrNotEmpty        = errors.New("the region is not empty")
	ErrNoKey           = errors.New("no supplied key opens this repository")
	ErrNoSnapshot      = errors.New("no such recovery point")
	ErrNotWriter       = errors.New("this host may not write to the repository")
	ErrTooFewRegions   = errors.New("fewer regions than required")
	ErrInUse           = errors.New("another run holds the lock")
)

const (
	formatMajor = 1
	formatMax   = 64 << 10 // bytes of format.json and of a region marker
	writerBytes = 16       // of the id of a writer or of an instance
)

// ID is the SHA-256 of format.json: the identity of a repository.
type ID [32]byte

// String gives the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("repository id %q is not 64 hexadecimal digits", s)
	}
	return ID(b), nil
}

// formatFile is format.json.
type formatFile struct {
	Format    string    `json:"format"`
	Major     int       `json:"major"`
	ID        string    `json:"id"`
	RootKey   string    `json:"root_key"`
	CreatedAt time.Time `json:"created_at"`
}

// marker is region/<nonce>.json, written once when a region joins.
type marker struct {
	Repo      string    `json:"repo"`
	Nonce     string    `json:"nonce"`
	CreatedAt time.Time `json:"created_at"`
}

func newFormat(root seal.VerifyKey, now time.Time) ([]byte, ID, error) {
	data, err := json.Marshal(formatFile{Format: "lifeboat", Major: formatMajor, ID: newNonce(), RootKey: root.String(), CreatedAt: now.UTC()})
	if err != nil {
		return nil, ID{}, fmt.Errorf("encode %s: %w", storage.FormatKey, err)
	}
	data = append(data, '\n')
	return data, sha256.Sum256(data), nil
}

func parseFormat(data []byte) (formatFile, ID, error) {
	var f formatFile
	if err := json.Unmarshal(data, &f); err != nil || f.Format != "lifeboat" {
		return f, ID{}, fmt.Errorf("read %s: %w: not a lifeboat repository", storage.FormatKey, storage.ErrCorrupt)
	}
	if f.Major != formatMajor {
		return f, ID{}, fmt.Errorf("read %s: format version %d, this lifeboat knows %d: use a newer lifeboat", storage.FormatKey, f.Major, formatMajor)
	}
	return f, sha256.Sum256(data), nil
}

// newNonce makes a random 16-byte id in hexadecimal.
func newNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// put stores an object whose name carries its hash.
func put(ctx context.Context, s storage.Store, key string, data []byte) error {
	return s.Put(ctx, key, data, sha256.Sum256(data)) // its error names the key
}
