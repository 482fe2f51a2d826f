// Package journal is what the writers of a repository say, and whom to believe:
// signed statements in hash-chained lists, the root-signed trust document that
// names the writers and the member regions, and the rule that decides which
// snapshots a region shows. It judges and encodes; it puts nothing into a region
// (package repo does) and it opens no sealed body.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/seal"
)

// Type says what a statement states.
type Type string

// The statements of version 1 (docs/format.md, Journal).
const (
	Open       Type = "open"       // a session begins and claims regions
	Intent     Type = "intent"     // these snapshots need these packs
	Ack        Type = "ack"        // they are complete in these regions
	End        Type = "end"        // the session is over
	Forget     Type = "forget"     // these snapshots are given up
	Drill      Type = "drill"      // a restore was proved, or failed
	Checkpoint Type = "checkpoint" // all that went before, in one statement
)

// Limits of what a reader accepts.
const (
	StatementMax    = 64 << 20 // bytes of one stored statement
	snapshotsPerMax = 4096     // snapshots one statement may name
	regionsMax      = 64       // regions one statement may name
	packsMax        = 1 << 20  // packs one statement may name
	liveMax         = 1 << 18  // snapshots one checkpoint may carry on
	sessionsMax     = 1 << 16  // open sessions one checkpoint may name
	sessionMax      = 64       // bytes of a session's id
	format          = 1
	context         = "journal"
)

// ErrUntrusted marks a statement that no trusted writer signed, or that says
// something a trusted writer cannot have said.
var ErrUntrusted = errors.New("statement is not trusted")

// Statement is the clear envelope of one journal object.
type Statement struct {
	V        int       `json:"v"`
	Type     Type      `json:"type"`
	Repo     string    `json:"repo"`     // RepoID, hexadecimal
	Writer   string    `json:"writer"`   // 16 bytes, hexadecimal
	Instance string    `json:"instance"` // 16 bytes, hexadecimal: one life of the writer's local state
	Seq      uint64    `json:"seq"`      // from 1, without gaps
	Prev     string    `json:"prev"`     // SHA-256 of the statement before; empty for the first
	Session  string    `json:"session,omitempty"`
	At       time.Time `json:"at"` // the writer's clock; never decides anything about safety

	// Regions are the incarnations (nonces) that the statement claims.
	Regions []string `json:"regions,omitempty"`
	// Snapshots are those that an intent prepares, an ack shows or a forget gives up.
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	// Packs is the closure of an intent: every pack that its snapshots reach.
	Packs *PackSet `json:"packs,omitempty"`
	// Intent is, in an ack, the SHA-256 of the intent it completes.
	Intent string `json:"intent,omitempty"`
	// Seen is, in an ack, the time at which each region held the intent, by the
	// region's own clock. Retention counts from it.
	Seen map[string]time.Time `json:"seen,omitempty"`
	// Aborted marks an end that gives up un-acked work.
	Aborted bool `json:"aborted,omitempty"`

	// Head, Open and Live belong to a checkpoint.
	Head *Ref   `json:"head,omitempty"`
	Live []Live `json:"live,omitempty"`
	// OpenSessions are sessions without an end, in a checkpoint.
	OpenSessions []string `json:"open_sessions,omitempty"`
	// Kept are other statements that still matter, such as the newest drills.
	Kept []Ref `json:"kept,omitempty"`

	// Body is an age file for the meta keys; BodyHash is SHA-256(salt || text),
	// with the salt kept inside the body, so that a body shown to an auditor can
	// be checked against the signature without any key.
	Body     []byte `json:"body,omitempty"`
	BodyHash string `json:"body_sha256,omitempty"`
}

// Snapshot names one snapshot inside a statement.
type Snapshot struct {
	ID string `json:"id"` // SHA-256 of the sealed manifest
	// Key is the manifest's object; empty when the manifest rides in Inline.
	Key    string `json:"key,omitempty"`
	Inline []byte `json:"inline,omitempty"` // the sealed manifest itself
}

// PackSet is a set of packs, whole or as a difference from an earlier intent's.
type PackSet struct {
	Base *Ref     `json:"base,omitempty"` // an intent that every region claimed here holds
	Add  []string `json:"add,omitempty"`  // pack keys
	Drop []string `json:"drop,omitempty"`
}

// Ref points at one statement of the same instance, or of another one.
type Ref struct {
	Writer   string `json:"writer,omitempty"`
	Instance string `json:"instance,omitempty"`
	Seq      uint64 `json:"seq"`
	Hash     string `json:"sha256"`
}

// Live is a snapshot that a checkpoint carries on.
type Live struct {
	Snapshot string               `json:"id"`
	Intent   Ref                  `json:"intent"`
	Session  string               `json:"session"`
	Regions  []string             `json:"regions"` // incarnations for which an ack was attempted
	Seen     map[string]time.Time `json:"seen,omitempty"`
}

// Signed is a statement as it is stored.
type Signed struct {
	Statement
	Hash [32]byte // SHA-256 of Bytes
	// Bytes is the stored object; a reader may drop it to save memory.
	Bytes []byte
}

// Key is the object's name in the repository.
func (s *Signed) Key() (string, error) {
	w, i, err := s.ids()
	if err != nil {
		return "", err
	}
	if s.Type == Checkpoint {
		return storage.CheckpointKey(w, i, s.Seq, s.Hash), nil
	}
	return storage.JournalKey(w, i, s.Seq, s.Hash), nil
}

// Ref names the statement.
func (s *Signed) Ref() Ref {
	return Ref{Writer: s.Writer, Instance: s.Instance, Seq: s.Seq, Hash: hex.EncodeToString(s.Hash[:])}
}

func (s *Statement) ids() (string, string, error) {
	for _, id := range []string{s.Writer, s.Instance} {
		if !isHex(id, 16) {
			return "", "", fmt.Errorf("statement %d: %w: id %q is not 16 bytes", s.Seq, ErrUntrusted, id)
		}
	}
	return s.Writer, s.Instance, nil
}

// Sign encodes and signs a statement.
func Sign(s Statement, repo [32]byte, key seal.SigningKey) (*Signed, error) {
	s.V, s.Repo = format, hex.EncodeToString(repo[:])
	s.At = s.At.UTC()
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("sign %s statement: %w", s.Type, err)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode %s statement: %w", s.Type, err)
	}
	if len(payload) > StatementMax {
		return nil, fmt.Errorf("encode %s statement: %d bytes, the limit is %d", s.Type, len(payload), StatementMax)
	}
	doc := seal.SignDocument(context, repo, payload, key)
	if len(doc) > StatementMax {
		return nil, fmt.Errorf("encode %s statement: %d bytes, the limit is %d", s.Type, len(doc), StatementMax)
	}
	return &Signed{Statement: s, Hash: sha256.Sum256(doc), Bytes: doc}, nil
}

// Parse verifies the signature against the trusted writers and decodes.
// find gives the signing key and the id of the writer that holds it.
func Parse(doc []byte, repo [32]byte, trust *Trust) (*Signed, error) {
	if len(doc) > StatementMax {
		return nil, fmt.Errorf("parse statement: %w: %d bytes, the limit is %d", storage.ErrCorrupt, len(doc), StatementMax)
	}
	payload, id, err := seal.VerifyDocument(context, repo, doc, trust.verifyKey)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w: %w", ErrUntrusted, err)
	}
	s := &Signed{Hash: sha256.Sum256(doc), Bytes: doc}
	dec := json.NewDecoder(bytes.NewReader(payload))
	if err := dec.Decode(&s.Statement); err != nil {
		return nil, fmt.Errorf("parse statement: %w: %w", storage.ErrCorrupt, err)
	}
	if s.V != format || s.Repo != hex.EncodeToString(repo[:]) {
		return nil, fmt.Errorf("parse statement: %w: version %d of repository %.8s", ErrUntrusted, s.V, s.Repo)
	}
	if w := trust.writerOf(id); w == nil || w.ID != s.Writer {
		return nil, fmt.Errorf("parse statement: %w: signed by another writer than %.8s", ErrUntrusted, s.Writer)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	return s, nil
}

// check holds for what is written and for what is read.
func (s *Statement) check() error {
	if _, _, err := s.ids(); err != nil {
		return err
	}
	if s.Seq == 0 || (s.Seq == 1) != (s.Prev == "") && s.Type != Checkpoint {
		return fmt.Errorf("%w: sequence %d after %q", ErrUntrusted, s.Seq, s.Prev)
	}
	if len(s.Snapshots) > snapshotsPerMax || len(s.Regions) > regionsMax {
		return fmt.Errorf("%w: %d snapshots in %d regions", ErrUntrusted, len(s.Snapshots), len(s.Regions))
	}
	if s.Packs != nil && len(s.Packs.Add)+len(s.Packs.Drop) > packsMax {
		return fmt.Errorf("%w: %d packs", ErrUntrusted, len(s.Packs.Add)+len(s.Packs.Drop))
	}
	if len(s.Session) > sessionMax || len(s.Seen) > regionsMax {
		return fmt.Errorf("%w: session of %d bytes, %d times", ErrUntrusted, len(s.Session), len(s.Seen))
	}
	for _, sn := range s.Snapshots {
		if err := sn.check(s.Type); err != nil {
			return err
		}
	}
	return s.checkCarried()
}

// checkCarried holds for what a checkpoint carries on.
func (s *Statement) checkCarried() error {
	if len(s.Live) > liveMax || len(s.OpenSessions) > sessionsMax || len(s.Kept) > keptMax {
		return fmt.Errorf("%w: a checkpoint of %d snapshots, %d sessions, %d others", ErrUntrusted, len(s.Live), len(s.OpenSessions), len(s.Kept))
	}
	if s.Type == Checkpoint && (s.Head == nil || s.Head.Seq != s.Seq) {
		return fmt.Errorf("%w: a checkpoint with number %d of something else", ErrUntrusted, s.Seq)
	}
	for _, l := range s.Live {
		if !isHex(l.Snapshot, sha256.Size) || !isHex(l.Intent.Hash, sha256.Size) || len(l.Regions) > regionsMax || len(l.Seen) > regionsMax {
			return fmt.Errorf("%w: it carries on snapshot %q of intent %q in %d regions", ErrUntrusted, l.Snapshot, l.Intent.Hash, len(l.Regions))
		}
	}
	return nil
}

// isHex is true of n bytes in lower-case hexadecimal: one spelling per id.
func isHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n && hex.EncodeToString(b) == s
}

func (sn Snapshot) check(t Type) error {
	if !isHex(sn.ID, sha256.Size) {
		return fmt.Errorf("%w: snapshot id %q", ErrUntrusted, sn.ID)
	}
	if t != Intent {
		return nil
	}
	if (sn.Key == "") == (len(sn.Inline) == 0) {
		return fmt.Errorf("%w: snapshot %.8s has both or neither of key and inline manifest", ErrUntrusted, sn.ID)
	}
	if sum := sha256.Sum256(sn.Inline); sn.Key == "" && hex.EncodeToString(sum[:]) != sn.ID {
		return fmt.Errorf("%w: snapshot %.8s is not the hash of its inline manifest", storage.ErrCorrupt, sn.ID)
	}
	return nil
}

// Names reports whether the statement names incarnation n.
func (s *Statement) Names(n string) bool {
	for _, r := range s.Regions {
		if r == n {
			return true
		}
	}
	return false
}
