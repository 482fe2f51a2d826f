package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine are the facts that figures depend on.
func machine(dir string) []string {
	facts := []string{fmt.Sprintf("%d cores of %s, %s of memory, Linux %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory(), kernel())}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil {
		facts = append(facts, "file system "+fileSystem(st.Type))
	}
	return facts
}

// field is the value of the first line "name: value" or "name value" of a file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:"))
		}
	}
	return "unknown"
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &kib); err != nil {
		return "unknown"
	}
	return size(kib << 10)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func fileSystem(kind int64) string {
	switch kind {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	}
	return fmt.Sprintf("%#x", kind)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// versions are those of all programs, as they say themselves.
func versions(o *options) []string {
	var all []string
	for _, v := range [][]string{{o.lifeboat, "version"}, {o.restic, "version"}, {o.borg, "--version"}} {
		if v[0] == "" {
			continue
		}
		out, err := exec.Command(v[0], v[1:]...).Output()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			line = fmt.Sprintf("%s: version unknown: %v", v[0], err)
		}
		all = append(all, line)
	}
	return all
}

// knows says whether a program's help text mentions a flag.
func knows(binary, flag string, help ...string) bool {
	out, err := exec.Command(binary, help...).CombinedOutput()
	return err == nil && strings.Contains(string(out), flag)
}
