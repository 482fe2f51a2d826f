package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDaemonTellsServiceManager: systemd hears when the daemon is ready, what it does,
// when it has read its configuration again, good or bad, and that it stops.
func TestDaemonTellsServiceManager(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	putFile(t, s.source("file"), []byte("one"))
	s.Work[0].Lines = []string{rarely}
	s.init(t)
	for _, address := range []string{s.Path("notify"), fmt.Sprintf("@lifeboat-e2e-%d", os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// until reads messages up to one that holds the word, and gives all of them.
		until := func(word string) (all string) {
			t.Helper()
			buf := make([]byte, 4096)
			for !strings.Contains(all, word) {
				if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("waited for %s after %q: %v", word, all, err)
				}
				all += string(buf[:n]) + "\n"
			}
			return all
		}
		s.Setenv("NOTIFY_SOCKET=" + address)
		s.age(t, 100*24*time.Hour) // so that it is due
		p := s.Start("daemon")
		until("READY=1")
		until("STATUS=running: backup files")
		until("STATUS=waiting: the next job is due at 20")
		good := getFile(t, s.Path("lifeboat.yaml"))
		for _, text := range []string{good, strings.ReplaceAll(good, "workloads:", "worklaods:")} {
			var before unix.Timespec
			if err := os.WriteFile(s.Path("lifeboat.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
				t.Fatal(err)
			}
			p.Signal(syscall.SIGHUP)
			_, usec, _ := strings.Cut(until("RELOADING=1"), "MONOTONIC_USEC=")
			first, _, _ := strings.Cut(usec, "\n")
			if n, err := strconv.ParseInt(first, 10, 64); err != nil || n < before.Nano()/1000 || n > before.Nano()/1000+time.Minute.Microseconds() {
				t.Errorf("MONOTONIC_USEC=%s, asked at %d: %v", first, before.Nano()/1000, err)
			}
			until("READY=1")
		}
		if err := os.WriteFile(s.Path("lifeboat.yaml"), []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Signal(syscall.SIGTERM)
		if got := until("STOPPING=1"); strings.Contains(got, "READY=1") {
			t.Errorf("%q", got)
		}
		if r := p.Wait(); r.Code != 143 {
			t.Errorf("SIGTERM: %v", r)
		}
	}
}
