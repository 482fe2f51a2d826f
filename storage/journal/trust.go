package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/seal"
)

const (
	trustContext = "trust"
	// TrustMax is the size of the largest trust statement a reader accepts, in bytes.
	TrustMax = 8 << 20
	// Reader and Writer are the format levels of this code; a trust statement
	// may demand higher ones.
	Reader = 1
	Writer = 1
)

// Trust is one root-signed statement: the whole of who may do what, as of Seq.
type Trust struct {
	V         int       `json:"v"`
	Type      string    `json:"type"` // "trust"
	Repo      string    `json:"repo"`
	Seq       uint64    `json:"seq"`
	Prev      string    `json:"prev"` // SHA-256 of the trust statement before
	At        time.Time `json:"at"`
	MinReader int       `json:"min_reader"`
	MinWriter int       `json:"min_writer"`
	Features  []string  `json:"features"` // required to write

	Members     []Member       `json:"members"`
	Writers     []Enrolled     `json:"writers"`
	Maintainers []string       `json:"maintainers"` // meta recipients of those who maintain
	Data        []EpochKey     `json:"data"`        // newest last
	Domain      DomainRef      `json:"domain"`
	Operators   []OperatorName `json:"operators"`
}

// Member is a region that belongs to the repository, in its current incarnation.
type Member struct {
	Name  string `json:"name"`
	Nonce string `json:"nonce"`
}

// Enrolled is a writer whose statements count.
type Enrolled struct {
	ID   string `json:"id"`
	Sign string `json:"sign"` // verify key
	Meta string `json:"meta"` // recipient of its metadata
	// Predecessors are writers whose chunks this one may re-use: itself on an older host.
	Predecessors []string  `json:"predecessors,omitempty"`
	Disabled     bool      `json:"disabled,omitempty"`
	AddedAt      time.Time `json:"added_at"`
}

// EpochKey is the public half of a data key.
type EpochKey struct {
	Epoch     uint32 `json:"epoch"`
	KeyID     string `json:"key_id"`
	Recipient string `json:"recipient"`
}

// DomainRef names the deduplication domain: its index recipient, and a check
// value by which an unwrapped secret is recognised.
type DomainRef struct {
	ID    uint32 `json:"id"`
	KeyID string `json:"key_id"`
	Index string `json:"index"`
	Check string `json:"check"`
}

// OperatorName is somebody whose identity opens the wrapped keys.
type OperatorName struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Recipient   string    `json:"recipient"`
	AddedAt     time.Time `json:"added_at"`
}

// SignTrust encodes and signs a trust statement with the root key.
func SignTrust(t Trust, repo [32]byte, root seal.SigningKey) ([]byte, error) {
	t.V, t.Type, t.Repo = format, "trust", hex.EncodeToString(repo[:])
	t.At = t.At.UTC()
	payload, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode trust statement: %w", err)
	}
	return seal.SignDocument(trustContext, repo, payload, root), nil
}

// ErrTooNew says that the repository demands a newer lifeboat.
var ErrTooNew = errors.New("this lifeboat is too old for the repository")

// ParseTrust verifies a trust statement against the root key. With ErrTooNew it
// gives the statement all the same: an older one must not be used instead.
func ParseTrust(doc []byte, repo [32]byte, root seal.VerifyKey) (*Trust, error) {
	find := func(id [8]byte) (seal.VerifyKey, bool) { return root, id == root.KeyID() }
	payload, _, err := seal.VerifyDocument(trustContext, repo, doc, find)
	if err != nil {
		return nil, fmt.Errorf("parse trust statement: %w: %w", ErrUntrusted, err)
	}
	t := &Trust{}
	if err := json.NewDecoder(bytes.NewReader(payload)).Decode(t); err != nil {
		return nil, fmt.Errorf("parse trust statement: %w: %w", storage.ErrCorrupt, err)
	}
	if t.V != format || t.Type != "trust" || t.Repo != hex.EncodeToString(repo[:]) || t.Seq == 0 {
		return nil, fmt.Errorf("parse trust statement: %w: version %d, type %q, sequence %d", ErrUntrusted, t.V, t.Type, t.Seq)
	}
	if t.MinReader > Reader {
		return t, fmt.Errorf("%w: it demands format level %d to read, this one has %d: use a newer one", ErrTooNew, t.MinReader, Reader)
	}
	return t, nil
}

// TrustHash is the hash under which a trust statement is stored.
func TrustHash(doc []byte) [32]byte { return sha256.Sum256(doc) }

// MayWrite says whether this code understands everything that the repository
// requires of a writer.
func (t *Trust) MayWrite() error {
	if t.MinWriter > Writer {
		return fmt.Errorf("%w: it demands format level %d to write, this one has %d: use a newer one", ErrTooNew, t.MinWriter, Writer)
	}
	if len(t.Features) > 0 {
		return fmt.Errorf("%w: it requires features that this one does not have: %v; use a newer one", ErrTooNew, t.Features)
	}
	return nil
}

// Member gives the member with this incarnation.
func (t *Trust) Member(nonce string) (Member, bool) {
	for _, m := range t.Members {
		if m.Nonce == nonce {
			return m, true
		}
	}
	return Member{}, false
}

// Enrolled gives the writer with this id.
func (t *Trust) Enrolled(id string) (Enrolled, bool) {
	for _, w := range t.Writers {
		if w.ID == id {
			return w, true
		}
	}
	return Enrolled{}, false
}

// MayReuse reports whether writer self may deduplicate against chunks of other:
// only its own, and those of its predecessors.
func (t *Trust) MayReuse(self, other string) bool {
	if self == other {
		return true
	}
	w, ok := t.Enrolled(self)
	return ok && slices.Contains(w.Predecessors, other)
}

// DataKey gives the newest data key.
func (t *Trust) DataKey() (EpochKey, error) {
	if len(t.Data) == 0 {
		return EpochKey{}, fmt.Errorf("%w: the trust statement names no data key", storage.ErrCorrupt)
	}
	return t.Data[len(t.Data)-1], nil
}

func (t *Trust) verifyKey(id [8]byte) (seal.VerifyKey, bool) {
	w := t.writerOf(id)
	if w == nil {
		return seal.VerifyKey{}, false
	}
	k, err := seal.ParseVerifyKey(w.Sign)
	return k, err == nil
}

func (t *Trust) writerOf(id [8]byte) *Enrolled {
	for i := range t.Writers {
		k, err := seal.ParseVerifyKey(t.Writers[i].Sign)
		if err == nil && k.KeyID() == id {
			return &t.Writers[i]
		}
	}
	return nil
}
