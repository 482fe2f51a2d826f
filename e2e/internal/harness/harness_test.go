package harness

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestS3ThroughProxy(t *testing.T) {
	s := StartS3(t)
	p := StartProxy(t, s.Endpoint)
	if err := os.WriteFile(s.Dir("object"), []byte(strings.Repeat("x", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func(key string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Endpoint+"/"+Bucket+"/"+key, nil)
		if err != nil {
			t.Fatal(err)
		}
		sign(req, time.Now())
		client := http.Client{Timeout: time.Second}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	if code, body, err := get("object"); code != 200 || len(body) != 5000 || err != nil {
		t.Fatalf("pass: %d, %d bytes, %v", code, len(body), err)
	}
	p.Fault(All(SlowDown))
	if code, body, err := get("object"); code != 503 || !strings.Contains(body, "SlowDown") || err != nil {
		t.Errorf("slow down: %d %q %v", code, body, err)
	}
	p.Fault(All(Garbage))
	if code, body, _ := get("object"); code != 200 || !strings.Contains(body, "log in") {
		t.Errorf("garbage: %d %q", code, body)
	}
	p.Fault(All(Cut))
	if _, body, err := get("object"); !errors.Is(err, io.ErrUnexpectedEOF) || len(body) != cutAfter {
		t.Errorf("cut: %d bytes, %v", len(body), err)
	}
	for name, f := range map[string]Fault{"reset": Reset, "lost": Lost} {
		p.Fault(All(f))
		if _, _, err := get("object"); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Fault(On("GET", "obj", BlackHole))
	if _, _, err := get("object"); !os.IsTimeout(err) {
		t.Errorf("black hole: %v", err)
	}
	p.Fault(nil)
	p.Reset()
	p.Latency(30 * time.Millisecond)
	begun := time.Now()
	if code, _, err := get("object"); code != 200 || time.Since(begun) < 30*time.Millisecond {
		t.Errorf("latency: %d after %v, %v", code, time.Since(begun), err)
	}
	if r := p.Requests(); len(r) != 1 || r[0].Status != 200 || r[0].Path != "/"+Bucket+"/object" || p.Count()["GET"] != 1 {
		t.Errorf("requests: %+v", r)
	}
	s.Stop()
	if code, _, _ := get("object"); code != http.StatusBadGateway {
		t.Errorf("stopped server: %d", code)
	}
	s.Again()
	if code, _, err := get("object"); code != 200 || err != nil {
		t.Errorf("server started again: %d %v", code, err)
	}
}

func TestSmallDisk(t *testing.T) {
	disk := SmallDisk(t, 16)
	filler := Fill(t, disk, 64<<10)
	err := os.WriteFile(filepath.Join(disk, "more"), make([]byte, 1<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write to a full disk: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "more"), make([]byte, 1<<20), 0o600); err != nil {
		t.Error(err)
	}
	ReadOnly(t, disk)
	if err := os.WriteFile(filepath.Join(disk, "more"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a read-only disk: %v", err)
	}
}

// TestResult uses a shell script in the program's place.
func TestResult(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	text := `#!/bin/sh
case "$1" in
hang) echo begun; exec sleep 1000;;
esac
echo '{"schema":"lifeboat.result/v1","kind":"x","ok":false,"exit_code":3,"data":{"home":"'$HOME'"},"error":{"code":"partial"}}'
echo '{"schema":"lifeboat.event/v1","seq":1,"type":"start"}' >&2
echo '{"schema":"lifeboat.event/v1","seq":2,"type":"end"}' >&2
exit 3
`
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LIFEBOAT_BINARY", script)
	h := NewHost(t)
	r := h.Exits(3, "x")
	var data struct{ Home string }
	r.Data(&data)
	if data.Home != h.Home || r.Envelope().Error.Code != "partial" || len(r.Events()) != 2 || r.MaxRSS == 0 {
		t.Errorf("%+v: %v", data, r)
	}
	p := h.Start("hang")
	WaitFor(t, "the script's first line", func() error {
		if !strings.Contains(p.Stdout(), "begun") {
			return fmt.Errorf("stdout is %q", p.Stdout())
		}
		return nil
	})
	p.Kill()
	if r := p.Wait(); r.Killed != syscall.SIGKILL || r.Code != -1 {
		t.Errorf("killed: %v", r)
	}
}
