//go:build linux

package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDescriptorsShared: directories that several goroutines take and give back while
// nothing idle stays open are always the ones they are taken for.
func TestDescriptorsShared(t *testing.T) {
	const dirs, takers, turns = 4, 8, 3000
	c := newFDCache()
	top := newTop(t.TempDir())
	all, inodes := make([]*dir, dirs), make([]uint64, dirs)
	for i := range all {
		name := fmt.Sprint("d", i)
		path := filepath.Join(top.name, name)
		must(t, os.Mkdir(path, 0o700))
		all[i] = newDir(top, []byte(name))
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		inodes[i] = st.Ino
	}
	var wg sync.WaitGroup
	for n := range takers {
		wg.Go(func() {
			for i := range turns {
				k := (n + i/8) % dirs
				fd, err := c.acquire(all[k])
				if err != nil {
					t.Error(err)
					return
				}
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil || st.Ino != inodes[k] {
					t.Errorf("turn %d: directory %d is inode %d, want %d: %v", i, k, st.Ino, inodes[k], err)
				}
				c.release(all[k])
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
}
