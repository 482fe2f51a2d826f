package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	domainVersion  = 1
	domainBytesMax = 4 << 10
	domainSecret   = 32 // bytes
)

// Kinds of chunks that ChunkKey knows; the values of pack.Kind.
const (
	DataChunks = 0
	MetaChunks = 1
)

// Domain holds the secrets that writers share when they deduplicate against
// each other: the identity that opens index objects, and the secret from which
// chunk ids and cut points are derived. It does not print. The zero value is no
// domain.
type Domain struct {
	Index  Identity
	secret [domainSecret]byte
}

// domainFile is the stored form of a Domain.
type domainFile struct {
	Version int    `json:"version"`
	Secret  string `json:"secret"` // base64
	Index   string `json:"index"`  // AGE-SECRET-KEY-…
}

// NewDomain makes the secrets of a domain; classic as in NewIdentity.
func NewDomain(classic bool) (Domain, error) {
	id, err := NewIdentity(classic)
	if err != nil {
		return Domain{}, fmt.Errorf("make a domain: %w", err)
	}
	d := Domain{Index: id}
	rand.Read(d.secret[:]) // never fails: it stops the program instead
	return d, nil
}

// Marshal gives the secrets in clear, as one line of JSON: to be wrapped, or
// written to a file of mode 0600.
func (d Domain) Marshal() ([]byte, error) {
	if d.IsZero() {
		return nil, errors.New("write domain secrets: there are none")
	}
	return json.Marshal(domainFile{domainVersion, base64.StdEncoding.EncodeToString(d.secret[:]), d.Index.Reveal()})
}

// ParseDomain reads what Marshal wrote. Errors never repeat the text.
func ParseDomain(data []byte) (Domain, error) {
	if len(data) > domainBytesMax {
		return Domain{}, fmt.Errorf("domain secrets: %w", corrupt("longer than %d bytes", domainBytesMax))
	}
	var f domainFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Domain{}, fmt.Errorf("domain secrets: %w", corrupt("not the expected JSON"))
	}
	if _, err := dec.Token(); err != io.EOF {
		return Domain{}, fmt.Errorf("domain secrets: %w", corrupt("something follows the JSON"))
	}
	if f.Version != domainVersion {
		return Domain{}, fmt.Errorf("domain secrets: version %d, this program knows %d", f.Version, domainVersion)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(f.Secret)
	if err != nil || len(secret) != domainSecret {
		return Domain{}, fmt.Errorf("domain secrets: %w", corrupt("malformed secret"))
	}
	index, err := ParseIdentity(f.Index)
	if err != nil {
		return Domain{}, fmt.Errorf("domain secrets: index key: %w", err)
	}
	return Domain{index, [domainSecret]byte(secret)}, nil
}

// ChunkKey gives the key of the chunk ids of one kind, DataChunks or MetaChunks
// (the values of pack.Kind). They differ, so that the two kinds never share an
// id. It panics for any other kind.
func (d Domain) ChunkKey(kind uint8) [32]byte {
	switch kind {
	case DataChunks:
		return [32]byte(d.derive("chunk id data", 32))
	case MetaChunks:
		return [32]byte(d.derive("chunk id meta", 32))
	}
	panic(fmt.Sprintf("seal: no chunk key of kind %d", kind))
}

// GearSeed gives the seed of the table that decides where contents are cut.
func (d Domain) GearSeed() [32]byte { return [32]byte(d.derive("gear", 32)) }

// PathSeed gives the seed that decides where catalogs are cut into pages.
func (d Domain) PathSeed() uint64 { return binary.BigEndian.Uint64(d.derive("path", 8)) }

// derive gives n bytes that belong to one purpose: HKDF-SHA256 without salt,
// with the purpose as info.
func (d Domain) derive(purpose string, n int) []byte {
	if d.IsZero() {
		panic("seal: deriving keys of an empty domain")
	}
	key, err := hkdf.Key(sha256.New, d.secret[:], nil, "lifeboat/domain/v1/"+purpose, n)
	if err != nil {
		panic("seal: derive " + purpose + ": " + err.Error()) // only for lengths that we never ask for
	}
	return key
}

// IsZero reports whether d is no domain.
func (d Domain) IsZero() bool { return d.secret == [domainSecret]byte{} || d.Index.IsZero() }

// String gives "[secret]".
func (Domain) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (Domain) Format(f fmt.State, _ rune) { conceal(f) }

// MarshalText gives "[secret]": Marshal is for storing.
func (Domain) MarshalText() ([]byte, error) { return []byte(hidden), nil }
