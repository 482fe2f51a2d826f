package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockNamesItsHolder, also when that one has taken the lock a moment ago and
// is about to write down who it is, and never names nobody.
func TestLockNamesItsHolder(t *testing.T) {
	l := newLab(t)
	l.must("backup", "files")
	f, err := os.OpenFile(l.path("state/locks/files.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("a holder that is gone left its name: %v", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l.fails(Locked, "worked on by another process", "backup", "files")
	late := time.AfterFunc(3*holderPause, func() { fmt.Fprint(f, "process 1 on db1\n") })
	defer late.Stop()
	l.run("backup", "files")
	if text := l.stderr.String(); !strings.Contains(text, "worked on by ") || strings.Contains(text, "worked on by \n") {
		t.Error(text)
	}
}
