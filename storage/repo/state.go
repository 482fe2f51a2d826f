package repo

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lifeboat/storage/durable"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
)

// State is what one host keeps to be a writer: its keys and the head of its
// journal. It lives in one directory, readable by its owner only. Losing it
// loses no backup: `host enroll` makes a new writer.
type State struct {
	dir string
	f   stateFile
}

type stateFile struct {
	Version  int    `json:"version"`
	Repo     string `json:"repo"`
	RootKey  string `json:"root_key"`
	Writer   string `json:"writer"`
	SignKey  string `json:"sign_key"`
	MetaKey  string `json:"meta_key"`
	Domain   []byte `json:"domain"`
	TrustSeq uint64 `json:"trust_seq"` // the newest trust statement seen: older ones are refused
}

// chainFile is the head of this writer's journal.
type chainFile struct {
	Instance string      `json:"instance"`
	Head     journal.Ref `json:"head"`
	// Session is set while a session is open: found on start, it means that the
	// last run died, and a new instance begins.
	Session string `json:"session,omitempty"`
	// Checkpointed is the sequence of the last statement a checkpoint covers.
	Checkpointed uint64 `json:"checkpointed,omitempty"`
	CheckpointAt int64  `json:"checkpoint_at,omitempty"` // nanoseconds
}

const (
	stateName = "writer.json"
	chainName = "chain.json"
	dataName  = "data.identity"
	// chainSeqMax is a number that no journal reaches: object numbers are made of it and 16 bits more.
	chainSeqMax = 1 << 47
)

// ErrNoState says that this host is no writer of any repository.
var ErrNoState = errors.New("this host is not enrolled")

// LoadState reads the writer's state. ErrNoState if there is none.
func LoadState(dir string) (*State, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read writer state in %s: %w", dir, ErrNoState)
	}
	if err != nil {
		return nil, fmt.Errorf("read writer state: %w", err)
	}
	s := &State{dir: dir}
	if err := json.Unmarshal(data, &s.f); err != nil || s.f.Version != 1 {
		return nil, fmt.Errorf("read writer state %s: damaged or of another version (%v): move it away and run `lifeboat host enroll`", filepath.Join(dir, stateName), err)
	}
	return s, nil
}

// SaveState writes a new writer's state, and the data identity beside it if given.
func SaveState(dir string, repo ID, root seal.VerifyKey, w NewWriter, data *seal.Identity) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	domain, err := w.Domain.Marshal()
	if err != nil {
		return nil, fmt.Errorf("save writer state: %w", err)
	}
	s := &State{dir: dir, f: stateFile{Version: 1, Repo: repo.String(), RootKey: root.String(), Writer: w.ID,
		SignKey: w.Sign.Reveal(), MetaKey: w.Meta.Reveal(), Domain: domain}}
	if data != nil {
		if err := durable.WriteFile(filepath.Join(dir, dataName), []byte(data.Reveal()+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("save data identity: %w", err)
		}
	}
	return s, s.save()
}

func (s *State) save() error {
	data, err := json.MarshalIndent(s.f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode writer state: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(s.dir, stateName), data, 0o600); err != nil {
		return fmt.Errorf("save writer state: %w", err)
	}
	return nil
}

// Dir is the state directory.
func (s *State) Dir() string { return s.dir }

// Writer is the id of this host's writer.
func (s *State) Writer() string { return s.f.Writer }

// Repo and root key pinned at enrolment.
func (s *State) Repo() (ID, error) { return ParseID(s.f.Repo) }

// Root is the root public key pinned at enrolment.
func (s *State) Root() (seal.VerifyKey, error) { return seal.ParseVerifyKey(s.f.RootKey) }

// DataIdentityPath is where an installed data identity lies, if there is one.
func (s *State) DataIdentityPath() (string, bool) {
	p := filepath.Join(s.dir, dataName)
	_, err := os.Stat(p)
	return p, err == nil
}

func (s *State) addKeys(k *Keys) error {
	meta, err := seal.ParseIdentity(s.f.MetaKey)
	if err != nil {
		return s.damaged(err)
	}
	d, err := seal.ParseDomain(s.f.Domain)
	if err != nil {
		return s.damaged(err)
	}
	k.meta, k.Domain = append(k.meta, meta), &d
	return s.addOlderKeys(k)
}

func (s *State) signKey() (seal.SigningKey, error) {
	k, err := seal.ParseSigningKey(s.f.SignKey)
	if err != nil {
		return k, s.damaged(err)
	}
	return k, nil
}

// damaged says which file is damaged, and what to do.
func (s *State) damaged(err error) error {
	return fmt.Errorf("read writer state %s: %w; move it away and run `lifeboat host enroll`", filepath.Join(s.dir, stateName), err)
}

// sawTrust remembers the newest trust statement, so that an older one shown
// later is recognised as a rollback.
func (s *State) sawTrust(seq uint64) error {
	if seq < s.f.TrustSeq {
		return fmt.Errorf("the regions show trust statement %d, this host has seen %d: these regions missed an enrolment (run `lifeboat replicate sync` when the others are back), went back in time, or somebody hides statements", seq, s.f.TrustSeq)
	}
	if seq == s.f.TrustSeq {
		return nil
	}
	s.f.TrustSeq = seq
	return s.save()
}

// chainDir is a slot: concurrent sessions of one host each have a chain of their own.
func (s *State) chainDir(slot int) string { return filepath.Join(s.dir, "chains", fmt.Sprint(slot)) }

func loadChain(dir string) (chainFile, error) {
	var c chainFile
	data, err := os.ReadFile(filepath.Join(dir, chainName))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read journal head: %w", err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return chainFile{}, nil // damaged: not valid, so a new instance begins, which is always safe
	}
	return c, nil
}

// valid says whether a chain can be gone on with. One that is damaged cannot, nor
// one of another writer.
func (c chainFile) valid(writer string) bool {
	id, err := hex.DecodeString(c.Instance)
	if err != nil || len(id) != 16 || hex.EncodeToString(id) != c.Instance {
		return false
	}
	if c.Head.Seq == 0 {
		return c.Head == journal.Ref{}
	}
	hash, err := hex.DecodeString(c.Head.Hash)
	return err == nil && len(hash) == 32 && hex.EncodeToString(hash) == c.Head.Hash && c.Head.Seq <= chainSeqMax &&
		c.Head.Writer == writer && c.Head.Instance == c.Instance
}

func saveChain(dir string, c chainFile) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode journal head: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, chainName), data, 0o600); err != nil {
		return fmt.Errorf("save journal head: %w", err)
	}
	return nil
}
