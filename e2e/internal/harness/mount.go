package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Needs ends a test that lacks something. On a developer's machine it is
// skipped; in CI, where everything was installed for it, it fails.
func Needs(t testing.TB, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("CI") == "true":
		t.Fatalf("needs %s, and tests are not skipped in CI", what)
	default:
		t.Skipf("needs %s", what)
	}
}

// IsRoot tells whether the test may do what only root can.
func IsRoot() bool { return os.Geteuid() == 0 }

// SmallDisk mounts an ext4 file system of so many MiB and gives its directory.
// It is unmounted at the end of the test. It needs root.
func SmallDisk(t testing.TB, mib int) string {
	t.Helper()
	Needs(t, IsRoot(), "root, to mount a small disk")
	dir := t.TempDir()
	image, at := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	// No journal and no reserve: what is free is free for the test.
	command(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal", image)
	if out, err := run("mount", "-o", "loop", image, at); err != nil {
		Needs(t, false, fmt.Sprintf("loop devices (%v: %s)", err, out))
	}
	t.Cleanup(func() { unmount(t, at) })
	return at
}

// ReadOnly remounts a small disk so that nothing can be written to it.
func ReadOnly(t testing.TB, disk string) {
	t.Helper()
	command(t, "mount", "-o", "remount,ro", disk)
}

// Free is how many bytes a disk has left.
func Free(t testing.TB, disk string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// Fill leaves about so many bytes free on a disk, by a file that Fill returns:
// to delete it is to make room again.
func Fill(t testing.TB, disk string, leave int64) string {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := Free(t, disk) - leave; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatalf("fill %s with %d bytes: %v", disk, n, err)
		}
	}
	return path
}

// unmount takes a disk away. A process of the test that still uses it is a
// fault of the test; the disk is then detached, so that no other test suffers.
func unmount(t testing.TB, at string) {
	if out, err := run("umount", at); err != nil {
		t.Errorf("unmount %s: %v: %s", at, err, out)
		_, _ = run("umount", "-l", at)
	}
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := run(name, args...); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// run runs a system tool, also where only root's path leads.
func run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		cmd = exec.Command(path, args...)
	}
	return cmd.CombinedOutput()
}
