package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/storage/durable"
	"lifeboat/storage/seal"
)

const (
	olderName    = "older.identities" // the predecessors' meta keys, an age identity file
	setAsidesMax = 100                // folders of one moment
)

// Save writes the new writer's state, after Place. Leftovers of an older writer
// in dir must have been moved with SetAside: a chain of another writer would
// be gone on with. With data, the keys that open contents are installed too.
func (e *Enrollment) Save(dir string, data bool) (*State, error) {
	if names, err := stateLeftovers(dir); err != nil || len(names) > 0 {
		return nil, errors.Join(fmt.Errorf("save writer state: %s holds %s of another writer", dir, strings.Join(names, ", ")), err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if len(e.older) > 0 {
		if err := writeIdentities(filepath.Join(dir, olderName), "opens names that this host stored as an older writer", e.older); err != nil {
			return nil, fmt.Errorf("save older keys: %w", err)
		}
	}
	if data {
		if len(e.r.keys.data) == 0 {
			return nil, fmt.Errorf("save data identity: %w", ErrNoKey)
		}
		if err := writeIdentities(filepath.Join(dir, dataName), "opens contents", e.r.keys.data); err != nil {
			return nil, fmt.Errorf("save data identity: %w", err)
		}
	}
	s, err := SaveState(dir, e.r.id, e.r.root, e.made, nil)
	if err != nil {
		return nil, err
	}
	return s, s.sawTrust(e.Trust.Seq)
}

func writeIdentities(path, what string, ids []seal.Identity) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# lifeboat: %s\n", what)
	for _, id := range ids {
		b.WriteString(id.Reveal() + "\n")
	}
	return durable.WriteFile(path, []byte(b.String()), 0o600)
}

// addOlderKeys adds the meta keys of this host's older writers.
func (s *State) addOlderKeys(k *Keys) error {
	f, err := os.Open(filepath.Join(s.dir, olderName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read older keys: %w", err)
	}
	defer f.Close()
	ids, err := seal.ReadIdentities(f, nil)
	if err != nil {
		return fmt.Errorf("read older keys %s: %w", f.Name(), err)
	}
	k.meta = append(k.meta, ids...)
	return nil
}

// stateLeftovers lists what of a writer lies in a state directory.
func stateLeftovers(dir string) ([]string, error) {
	var out []string
	for _, name := range []string{stateName, dataName, olderName, "chains"} {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			out = append(out, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return out, fmt.Errorf("look at the state directory: %w", err)
		}
	}
	return out, nil
}

// SetAside moves what a writer left in a state directory into a new folder
// below it, named after name, so that another writer can be saved. It gives the
// folder, or "" when there was nothing to move. ErrInUse while a session of the
// old writer is open.
func SetAside(dir, name string) (string, error) {
	left, err := stateLeftovers(dir)
	if err != nil || len(left) == 0 {
		return "", err
	}
	unlock, err := lockChains(dir)
	if err != nil {
		return "", fmt.Errorf("set the old state aside: %w", err)
	}
	defer unlock()
	to, err := newFolder(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("set the old state aside: %w", err)
	}
	for _, n := range left {
		if err := os.Rename(filepath.Join(dir, n), filepath.Join(to, n)); err != nil {
			return to, fmt.Errorf("set the old state aside: %w", err)
		}
	}
	return to, errors.Join(durable.SyncDir(to), durable.SyncDir(dir))
}

func newFolder(path string) (string, error) {
	try := path
	for n := 2; ; n++ {
		err := os.Mkdir(try, 0o700)
		if err == nil || !errors.Is(err, fs.ErrExist) || n > setAsidesMax {
			return try, err
		}
		try = fmt.Sprintf("%s-%d", path, n)
	}
}

// lockChains holds all chains of a state directory, as sessions do.
func lockChains(dir string) (unlock func(), err error) {
	var held []*os.File
	unlock = func() {
		for _, f := range held {
			f.Close() // closing gives the lock back
		}
	}
	slots, err := os.ReadDir(filepath.Join(dir, "chains"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, slot := range slots {
		f, err := os.OpenFile(filepath.Join(dir, "chains", slot.Name(), "lock"), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, f)
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			unlock()
			return nil, fmt.Errorf("%s: %w", f.Name(), ErrInUse)
		}
	}
	return unlock, nil
}

// CheckIdle fails with ErrInUse while a session of a writer is open whose state
// lies in dir.
func CheckIdle(dir string) error {
	unlock, err := lockChains(dir)
	if err != nil {
		return fmt.Errorf("look at the state in %s: %w", dir, err)
	}
	unlock()
	return nil
}
