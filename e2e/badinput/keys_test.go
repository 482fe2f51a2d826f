package badinput

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// badKeys tries every wrong key. None may leave anything in the target, and all
// must say which key is missing or what is wrong with the one that was given.
func badKeys(t *testing.T, f *fixture) {
	w := f.clone(t)
	out := w.Path("out")
	restore := func(flags ...string) []string {
		return append([]string{"restore", "files", "--to", out}, flags...)
	}
	cold := func(kit string) []string { return restore(w.cold(kit, "a", "b", "c")...) }
	h := w.bare()

	// The host holds only what it needs to back up.
	mustSay(t, w.refuses(12, restore()...).Hint, "--identity-file")
	mustSay(t, h.refuses(12, "restore", "files", "--to", out, "--repo", "file://"+w.region("a")).Hint, "--identity-file")
	mustSay(t, h.refuses(12, "snapshots", "--repo", "file://"+w.region("a")).Hint, "--identity-file")

	// A key that fits nothing here, and the kit of another repository, which says so itself.
	for _, args := range [][]string{cold(f.identity), restore("--identity-file", f.identity)} {
		mustSay(t, w.bareIf(args).refuses(12, args...).Hint, "--identity-file")
	}
	for _, args := range [][]string{cold(f.foreign.kit), restore("--identity-file", f.foreign.kit)} {
		mustSay(t, w.bareIf(args).refuses(17, args...).Message, "repository")
	}
	// Beside one that fits, a wrong one does no harm.
	h.works(append(restore(w.cold(w.kit, "a")...), "--identity-file", f.identity)...)
	sameAs(t, w.want(), out)
	out = w.Path("out2")

	// Files that are no keys at all.
	kit, err := os.ReadFile(w.kit)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(kit, []byte(identityLine(t, w.kit))) + 40
	mistyped := bytes.Clone(kit)
	mistyped[at] = map[bool]byte{true: 'Q', false: 'P'}[kit[at] == 'P']
	for name, c := range map[string]struct {
		data []byte
		word string
	}{
		"mistyped": {mistyped, "checksum"}, "cut short": {kit[:at], ""}, "half": {kit[:len(kit)/2], ""}, "empty": {nil, ""},
		"words": {[]byte("these are not keys\n"), ""}, "binary": {bytes.Repeat([]byte{0, 255, 7}, 1000), ""}, "huge": {bytes.Repeat([]byte("# x\n"), 1<<19), ""},
	} {
		path := w.Path("kits", name)
		placeFile(t, path, c.data)
		p := h.refuses(12, cold(path)...)
		mustSay(t, p.Message+" "+p.Hint, path, c.word)
	}
	mustSay(t, h.refuses(64, cold(w.Path("no such kit"))...).Message, "no such kit")
	mustSay(t, h.refuses(64, cold(w.Path("kits"))...).Message, "directory")

	// Enrolling with what belongs elsewhere.
	enroll := func(kit, root string) []string { return []string{"host", "enroll", "--kit", kit, "--root", root} }
	fresh := f.clone(t)
	for _, dir := range []string{"lb-state", "lb-cache"} {
		if err := os.RemoveAll(fresh.Path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	mustSay(t, fresh.refuses(12, "backup", "files").Hint, "lifeboat host enroll")
	fresh.refuses(12, enroll(w.kit, f.foreign.kit+".root")...)
	fresh.refuses(17, enroll(f.foreign.kit, f.foreign.kit+".root")...)
	fresh.refuses(12, enroll(w.kit, w.kit)...)
	fresh.refuses(64, enroll(w.kit, w.Path("nowhere"))...)
	fresh.works(enroll(w.kit, w.kit+".root")...)
	fresh.works("backup", "files")
	fresh.restores(fresh.cold(w.kit, "a")...)

	if _, err := os.Lstat(out); err == nil {
		t.Error("a refused restore has made its target")
	}
	t.Run("passphrase", func(t *testing.T) { badPassphrase(t, f) })
}

// bareIf is a bare host for a cold start, and the world for all else.
func (w *world) bareIf(args []string) *world {
	if strings.Contains(strings.Join(args, " "), "--repo") {
		return w.bare()
	}
	return w
}

// badPassphrase protects the kit as age does, and then mistypes.
func badPassphrase(t *testing.T, f *fixture) {
	const right = "correct horse battery staple"
	age, err := exec.LookPath("age")
	if err != nil {
		t.Fatal("age is not installed: apt-get install age")
	}
	w := f.clone(t)
	locked := w.Path("kit.age")
	typeInto(t, right, age, "--encrypt", "--passphrase", "--output", locked, w.kit)
	file := func(text string) string {
		path := w.Path("passphrase", fmt.Sprintf("%x", text))
		placeFile(t, path, []byte(text+"\n"))
		return path
	}
	h := w.bare()
	args := func(more ...string) []string {
		return append(append([]string{"restore", "files", "--to", h.Path("out")}, w.cold(locked, "a")...), more...)
	}
	p := h.fails([]int{12}, args("--passphrase-file", file("correct horse battery stable"))...)
	mustSay(t, p.Message+p.Hint, "passphrase")
	mustSay(t, h.refuses(64, args()...).Hint, "--passphrase-file")
	h.refuses(64, args("--passphrase-file", w.Path("nowhere"))...)
	if _, err := os.Lstat(h.Path("out")); err == nil {
		t.Error("a refused restore has made its target")
	}
	h.works(args("--passphrase-file", file(right))...)
	sameAs(t, w.want(), h.Path("out"))
}

// typeInto runs a program on a terminal and types a line as often as it is asked.
func typeInto(t *testing.T, line, name string, args ...string) {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a terminal: %v", err)
	}
	defer main.Close()
	unlock := 0
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, unlock); err != nil {
		t.Fatalf("open a terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("open a terminal: %v", err)
	}
	tty, err := os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a terminal: %v", err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	said := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		buf := make([]byte, 1024)
		for {
			n, err := main.Read(buf)
			all.Write(buf[:n])
			if bytes.Contains(buf[:n], []byte(": ")) {
				_, _ = io.WriteString(main, line+"\n")
			}
			if err != nil {
				said <- all.String()
				return
			}
		}
	}()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, <-said)
	}
}
