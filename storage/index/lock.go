package index

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	lockName     = "lock"
	lockTries    = 8 // a lock file may be removed by its holder while it is being locked
	lockBytesMax = 32
)

// LockedError is returned by Open when another process, or another Index of
// this one, has the directory. It is an ErrLocked.
type LockedError struct {
	Dir string
	PID string // of the holder, as it wrote it down; "" if it did not yet
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != "" {
		holder = "process " + e.PID
	}
	return fmt.Sprintf("%s is held by %s: %s", e.Dir, holder, ErrLocked)
}

// Unwrap makes a LockedError an ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// lockDir takes the directory's lock, or fails at once. The kernel frees it
// with the file, so a killed process leaves none behind.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	for range lockTries {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		err = tryLock(dir, file)
		if err == nil && !sameFile(path, file) {
			err = errGone
		}
		if err == nil {
			return file, nil
		}
		_ = file.Close()
		if !errors.Is(err, errGone) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("lock %s: its lock file keeps vanishing", dir)
}

var errGone = errors.New("lock file was removed")

// tryLock takes the lock and writes down who has it.
func tryLock(dir string, file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(file, lockBytesMax)) // only for the message
		return &LockedError{Dir: dir, PID: strings.TrimSpace(string(holder))}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	if _, err := fmt.Fprintf(file, "%d\n", os.Getpid()); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	return nil
}

func sameFile(path string, file *os.File) bool {
	named, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := file.Stat()
	return err == nil && os.SameFile(named, open)
}
