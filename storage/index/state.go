package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lifeboat/storage/durable"
	"lifeboat/storage/pack"
)

const (
	stateName     = "state"
	stateMagic    = "lifeboat index state 1\n"
	stateRun      = 8 + 8 + 4
	stateDrop     = 32 + 8
	stateBytesMax = 64 << 20
)

// state is what the state file says: which runs make the index. It is replaced
// whole, so it is the moment at which a change becomes durable.
type state struct {
	repo  [32]byte
	next  uint64 // id of the next run
	runs  []runFile
	drops map[pack.Hash]uint64 // the pack's records in runs up to this id do not count
}

func (s *state) encode() []byte {
	b := make([]byte, 0, len(stateMagic)+32+16+len(s.runs)*stateRun+len(s.drops)*stateDrop+sha256.Size)
	b = append(b, stateMagic...)
	b = append(b, s.repo[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.next)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.runs)))
	for _, r := range s.runs {
		b = binary.LittleEndian.AppendUint64(b, r.id)
		b = binary.LittleEndian.AppendUint64(b, r.nonce)
		b = binary.LittleEndian.AppendUint32(b, r.blocks)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.drops)))
	for hash, id := range s.drops {
		b = append(b, hash[:]...)
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	return appendSum(b)
}

// appendSum ends a state with its checksum.
func appendSum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeState(b []byte) (*state, error) {
	body := len(b) - sha256.Size
	if body < len(stateMagic)+32+8+4+4 || !bytes.HasPrefix(b, []byte(stateMagic)) {
		return nil, fmt.Errorf("state: %w: not a state file of this version", ErrDamaged)
	}
	if sha256.Sum256(b[:body]) != [32]byte(b[body:]) {
		return nil, fmt.Errorf("state: %w: checksum", ErrDamaged)
	}
	s := &state{drops: make(map[pack.Hash]uint64)}
	b = b[len(stateMagic):body]
	s.repo, b = [32]byte(b[:32]), b[32:]
	s.next, b = binary.LittleEndian.Uint64(b), b[8:]
	n := uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if uint64(len(b)) < n*stateRun+4 {
		return nil, fmt.Errorf("state: %w: cut short", ErrDamaged)
	}
	for ; n > 0; n-- {
		r := runFile{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])}
		if r.id >= s.next || s.next > runsMax || len(s.runs) > 0 && r.id <= s.runs[len(s.runs)-1].id {
			return nil, fmt.Errorf("state: %w: run %d", ErrDamaged, r.id)
		}
		s.runs, b = append(s.runs, r), b[stateRun:]
	}
	n = uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if uint64(len(b)) != n*stateDrop {
		return nil, fmt.Errorf("state: %w: %d bytes of dropped packs", ErrDamaged, len(b))
	}
	for ; n > 0; n-- {
		s.drops[pack.Hash(b[:32])] = binary.LittleEndian.Uint64(b[32:])
		b = b[stateDrop:]
	}
	return s, nil
}

// readState reads a directory's state; a directory without one is an empty index.
func readState(dir string, repo [32]byte) (*state, error) {
	path := filepath.Join(dir, stateName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{repo: repo, drops: make(map[pack.Hash]uint64)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if info.Size() > stateBytesMax {
		return nil, fmt.Errorf("state: %w: %d bytes, limit %d", ErrDamaged, info.Size(), stateBytesMax)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	s, err := decodeState(data)
	if err != nil {
		return nil, err
	}
	if s.repo != repo {
		return nil, fmt.Errorf("state: %w: index of repository %x", ErrDamaged, s.repo)
	}
	return s, nil
}

// writeState makes a state durable, together with the runs that it names, which
// are synced already: their names are in the same directory.
func writeState(dir string, s *state) error {
	if err := durable.WriteFile(filepath.Join(dir, stateName), s.encode(), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
