package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listener is a service manager's socket.
func listener(t *testing.T, path string) (heard func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNotify(t *testing.T) {
	w := &world{}
	w.run("version")
	if err := w.app.notify("READY=1"); err != nil {
		t.Errorf("without a socket: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	for _, address := range []string{path, fmt.Sprintf("@lifeboat-test-%d", os.Getpid())} {
		heard := listener(t, address)
		w.env = map[string]string{"NOTIFY_SOCKET": address}
		w.run("version")
		if err := w.app.notify("READY=1"); err != nil {
			t.Fatal(err)
		}
		if got := heard(); got != "READY=1" {
			t.Errorf("%s: %q", address, got)
		}
	}
	w.env["NOTIFY_SOCKET"] = path + ".none"
	if err := w.app.notify("READY=1"); err == nil {
		t.Error("a missing socket gave no error")
	}
}

// TestServiceTellsInOrder: each word once, and a status only when it is another one.
func TestServiceTellsInOrder(t *testing.T) {
	w := &world{env: map[string]string{"NOTIFY_SOCKET": fmt.Sprintf("@lifeboat-order-%d", os.Getpid())}}
	w.run("version")
	heard := listener(t, w.env["NOTIFY_SOCKET"])
	svc := &service{a: w.app}
	ev := svc.listen(w.app.daemonEvents())
	is := func(want string) {
		t.Helper()
		if got := heard(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	next := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	waits := "STATUS=waiting: the next job is due at 2026-11-23T02:00:00Z"
	ev.Waiting(next)
	is("READY=1\n" + waits)
	ev.Waiting(next)
	ev.Started("sync", 0)
	is("STATUS=running: sync")
	for _, name := range []string{"a", "b", "c"} {
		ev.Started(name, 0)
	}
	is("STATUS=running: sync, a")
	is("STATUS=running: sync, a, b")
	is("STATUS=running: sync, a, b and 1 more")
	for _, name := range []string{"a", "b", "c"} {
		ev.Finished(name, 0, nil)
		heard()
	}
	ev.Finished("sync", 0, errors.New("no"))
	is(waits)
	for range 2 {
		svc.reload()
		if got := heard(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("%q", got)
		}
		ev.Reloaded(1, nil)
		is("READY=1")
	}
	ev.Started("sync", 0)
	is("STATUS=running: sync")
	svc.stop()
	is("STOPPING=1\nSTATUS=stopping: sync")
	svc.stop()
	svc.reload()
	ev.Reloaded(1, nil)
	ev.Waiting(next)
	ev.Finished("sync", 0, nil)
	is("STATUS=stopping")
}
