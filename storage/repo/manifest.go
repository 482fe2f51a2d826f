package repo

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"

	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

// Limits of a manifest.
const (
	manifestPlainMax = 64 << 20  // bytes of CBOR a reader accepts
	manifestItemsMax = 1 << 20   // items of one list in it
	summariesMax     = 1 << 18   // snapshots that the body of one statement may describe
	InlineMax        = 256 << 10 // a sealed manifest up to this size rides in its intent; pages up to this size ride in their manifest
	ErrorsMax        = 1000      // items a manifest names; the rest are only counted
)

// Manifest is the record of one snapshot. Sealed to the meta keys, its SHA-256
// is the snapshot's id.
type Manifest struct {
	Type     string   `cbor:"t"` // "manifest"
	Version  uint     `cbor:"v"`
	Repo     []byte   `cbor:"repo"`
	Writer   []byte   `cbor:"writer"`
	Workload string   `cbor:"workload"`
	Kind     string   `cbor:"kind"` // "volume"
	Host     string   `cbor:"host"`
	Roots    [][]byte `cbor:"roots"` // absolute paths as captured
	Parent   []byte   `cbor:"parent"`
	Start    int64    `cbor:"start"` // nanoseconds since 1970: the recovery point
	End      int64    `cbor:"end"`
	Catalog  Catalog  `cbor:"catalog"`
	Stats    Stats    `cbor:"stats"`
	Errors   []Item   `cbor:"errors"` // unreadable, changed and vanished items, at most ErrorsMax
	Verify   string   `cbor:"verify"` // how frames were proved before upload: full, sample or off
	Tags     []string `cbor:"tags"`   // "key=value"
	// FetchBytes is what a whole restore has to download: the frames that hold the snapshot's chunks.
	FetchBytes uint64 `cbor:"fetch_bytes"`
	// Pages are catalog pages and pages of ids that no pack holds yet, plain.
	Pages [][]byte `cbor:"pages"`
}

// Catalog points at the root page of a snapshot's catalog.
type Catalog struct {
	Root    pack.ChunkID `cbor:"root"`
	Level   uint32       `cbor:"level"` // of the root page; 0: the root is the only page
	Entries uint64       `cbor:"entries"`
}

// Stats counts what a snapshot holds and what it cost. Sizes are bytes.
type Stats struct {
	Files       uint64 `cbor:"files" json:"files"`
	Dirs        uint64 `cbor:"dirs" json:"dirs"`
	Others      uint64 `cbor:"others" json:"others"` // symlinks, fifos, devices
	Bytes       uint64 `cbor:"bytes" json:"bytes"`   // logical size of all files
	New         uint64 `cbor:"new" json:"files_new"`
	Changed     uint64 `cbor:"changed" json:"files_changed"`
	Unmodified  uint64 `cbor:"unmodified" json:"files_unmodified"`
	Deleted     uint64 `cbor:"deleted" json:"files_deleted"`
	BytesRead   uint64 `cbor:"bytes_read" json:"bytes_read"`
	BytesNew    uint64 `cbor:"bytes_new" json:"bytes_new"`       // plaintext stored by this run
	BytesStored uint64 `cbor:"bytes_stored" json:"bytes_stored"` // of packs, once per region
	Sockets     uint64 `cbor:"sockets" json:"sockets"`
	Excluded    uint64 `cbor:"excluded" json:"excluded"`
	Unreadable  uint64 `cbor:"unreadable" json:"unreadable"`
	Torn        uint64 `cbor:"torn" json:"changed_while_read"`
	Vanished    uint64 `cbor:"vanished" json:"vanished"`
	Partial     uint64 `cbor:"partial" json:"partial"` // attributes not all read, or not representable
}

// Incomplete counts the items that make a snapshot partial.
func (s Stats) Incomplete() uint64 { return s.Unreadable + s.Torn + s.Partial }

// Item is one thing that went wrong.
type Item struct {
	Path    []byte `cbor:"path"`
	Problem string `cbor:"problem"`
}

// Summary is what a listing shows of a snapshot. It rides, sealed, in the
// statement that commits the snapshot, so that a listing opens no manifest.
type Summary struct {
	ID         string    `json:"id"`
	Origin     string    `json:"writer"` // id of the writer that took it
	Workload   string    `json:"workload"`
	Kind       string    `json:"kind"`
	Host       string    `json:"host"`
	Parent     string    `json:"parent,omitempty"`
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	Roots      []string  `json:"roots"`
	Tags       []string  `json:"tags,omitempty"`
	Stats      Stats     `json:"stats"`
	FetchBytes uint64    `json:"fetch_bytes"`
	Entries    uint64    `json:"entries"`
}

func (m *Manifest) summary(id string) Summary {
	s := Summary{ID: id, Origin: hex.EncodeToString(m.Writer), Workload: m.Workload, Kind: m.Kind, Host: m.Host, Start: time.Unix(0, m.Start).UTC(), End: time.Unix(0, m.End).UTC(),
		Tags: m.Tags, Stats: m.Stats, FetchBytes: m.FetchBytes, Entries: m.Catalog.Entries}
	if len(m.Parent) > 0 {
		s.Parent = hex.EncodeToString(m.Parent)
	}
	for _, r := range m.Roots {
		s.Roots = append(s.Roots, string(r))
	}
	return s
}

// sealRecord encodes, compresses and seals a record.
func sealRecord(plain []byte, to *seal.Sealer) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("start compressor: %w", err)
	}
	defer enc.Close()
	sealed, _, err := to.Seal(nil, enc.EncodeAll(plain, nil))
	return sealed, err
}

// openRecord opens and decompresses what sealRecord made.
func openRecord(sealed []byte, open func(dst, file []byte) ([]byte, error), limit uint64) ([]byte, error) {
	packed, err := open(nil, sealed)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limit), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, fmt.Errorf("start decompressor: %w", err)
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w: %w", storage.ErrCorrupt, err)
	}
	return plain, nil
}

func sealManifest(m *Manifest, to *seal.Sealer) ([]byte, error) {
	plain, err := encodeManifest(m)
	if err != nil {
		return nil, err
	}
	return sealRecord(plain, to)
}

func encodeManifest(m *Manifest) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	plain, err := mode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest of %s: %w", m.Workload, err)
	}
	return plain, nil
}

// DecodeManifest reads the plain CBOR of a manifest.
func DecodeManifest(plain []byte, repo ID) (*Manifest, error) {
	mode, err := cbor.DecOptions{MaxArrayElements: manifestItemsMax, MaxMapPairs: 64, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m := &Manifest{}
	if err := mode.Unmarshal(plain, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w: %w", storage.ErrCorrupt, err)
	}
	if m.Type != "manifest" || m.Version != 1 || !bytes.Equal(m.Repo, repo[:]) {
		return nil, fmt.Errorf("decode manifest: %w: type %q, version %d, of repository %x", storage.ErrCorrupt, m.Type, m.Version, m.Repo)
	}
	if len(m.Writer) != writerBytes || len(m.Parent) != 0 && len(m.Parent) != sha256.Size {
		return nil, fmt.Errorf("decode manifest: %w: %d bytes name the writer, %d the parent", storage.ErrCorrupt, len(m.Writer), len(m.Parent))
	}
	return m, nil
}

func pad32(b []byte) (out [32]byte) {
	copy(out[:], b)
	return out
}

// sealedBody is the text of a statement's body: a salt, so that the clear hash
// of the body tells nothing, and the facts.
type sealedBody struct {
	Salt      string          `json:"salt"`
	Snapshots summaries       `json:"snapshots,omitempty"`
	Report    json.RawMessage `json:"report,omitempty"`
}

// summaries is read one by one, since a list of many that are empty takes far
// more memory than text.
type summaries []Summary

// UnmarshalJSON implements json.Unmarshaler.
func (s *summaries) UnmarshalJSON(text []byte) error { return s.read(text, summariesMax) }

func (s *summaries) read(text []byte, most int) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	open, err := dec.Token()
	if err != nil || open == nil {
		return err
	}
	if open != json.Delim('[') {
		return fmt.Errorf("snapshots are %v, no list", open)
	}
	for *s = nil; dec.More(); {
		if len(*s) == most {
			return fmt.Errorf("more than %d snapshots", most)
		}
		var one Summary
		if err := dec.Decode(&one); err != nil {
			return err
		}
		*s = append(*s, one)
	}
	return nil
}

// sealBody gives the body and its clear, salted hash.
func sealBody(b sealedBody, to *seal.Sealer) (body []byte, hash string, err error) {
	var salt [16]byte
	rand.Read(salt[:])
	b.Salt = hex.EncodeToString(salt[:])
	text, err := json.Marshal(b)
	if err != nil {
		return nil, "", fmt.Errorf("encode statement body: %w", err)
	}
	sum := sha256.Sum256(append(salt[:], text...))
	body, err = sealRecord(text, to)
	return body, hex.EncodeToString(sum[:]), err
}

func openBody(body []byte, hash string, open func(dst, file []byte) ([]byte, error)) (sealedBody, error) {
	var b sealedBody
	text, err := openRecord(body, open, manifestPlainMax)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("decode statement body: %w: %w", storage.ErrCorrupt, err)
	}
	salt, err := hex.DecodeString(b.Salt)
	if sum := sha256.Sum256(append(salt, text...)); err != nil || hex.EncodeToString(sum[:]) != hash {
		return b, fmt.Errorf("decode statement body: %w: it is not the one that was signed", storage.ErrCorrupt)
	}
	return b, nil
}
