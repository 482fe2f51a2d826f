package e2e

import (
	"os"
	"strings"
	"testing"

	"lifeboat/e2e/internal/harness"
)

// onlineRow is what config check --online says of one region.
type onlineRow struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Checks []struct {
		Name    string
		OK      bool
		Message string
	} `json:"checks"`
	Skew *int64 `json:"clock_skew_ms"`
}

func (s *site) online(t *testing.T, code int) map[string]onlineRow {
	t.Helper()
	var d struct {
		Regions []onlineRow `json:"regions"`
	}
	dataOf(t, s.run(t, code, "config", "check", "--online", "--json"), &d)
	rows := map[string]onlineRow{}
	for _, r := range d.Regions {
		rows[r.Name] = r
	}
	return rows
}

// failed names the check of a region that failed; "" when none did.
func (r onlineRow) failed() string {
	for _, c := range r.Checks {
		if !c.OK {
			return c.Name
		}
	}
	return ""
}

// TestConfigCheckOnline: before the first night it is known whether every region
// answers, is the right one, and can be written.
func TestConfigCheckOnline(t *testing.T) {
	t.Parallel()
	s3 := harness.StartS3(t)
	proxy := harness.StartProxy(t, s3.Endpoint)
	s := newSite(t, "a", harness.S3URL(proxy.Endpoint, "c"))
	s.Setenv(s3.Env()...)
	s.configure(t)
	for _, row := range s.online(t, 10) {
		if row.OK || row.failed() != "repository" {
			t.Errorf("before init: %+v", row)
		}
	}
	s.init(t)
	putFile(t, s.source("file"), []byte("one"))
	s.backup(t, 0)
	for name, row := range s.online(t, 0) {
		if !row.OK || row.failed() != "" || row.Skew != nil && (*row.Skew > 5000 || *row.Skew < -5000) {
			t.Errorf("%s: %+v", name, row)
		}
	}
	s.run(t, 0, "check") // nothing strange was left

	proxy.Fault(harness.On("PUT", "", harness.Garbage))
	if rows := s.online(t, s.Run("config", "check", "--online").Code); !rows["a"].OK || rows["s1"].failed() != "writable" {
		t.Errorf("puts are not taken: %+v", rows)
	}
	proxy.Fault(harness.All(harness.Reset))
	if rows := s.online(t, 15); !rows["a"].OK || rows["s1"].failed() != "reachable" {
		t.Errorf("no answer: %+v", rows)
	}
	proxy.Fault(nil)
	s.Setenv("AWS_SECRET_ACCESS_KEY=wrong")
	if rows := s.online(t, 1); !rows["a"].OK || rows["s1"].failed() != "reachable" {
		t.Errorf("wrong credentials: %+v", rows)
	}
	if r := s.Run("config", "check", "--online"); !strings.Contains(string(r.Stderr), "credentials") {
		t.Errorf("wrong credentials are not told: %v", r)
	}
}

// TestConfigCheckOnlineReadOnly: a region that can only be read is found out.
func TestConfigCheckOnlineReadOnly(t *testing.T) {
	t.Parallel()
	harness.Needs(t, harness.IsRoot(), "root, to become another user")
	s := newSite(t, "a", "b")
	s.init(t)
	give(t, plainUser, s.Home, s.Path("regions"), s.Path("config"), s.Path("state"), s.Path("cache"), s.Path("run"), s.Path("tmp"), s.Path("lifeboat.yaml"), s.Path("lifeboat-state"))
	if err := os.Chown(s.dir("b")+"/trust", 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.dir("b")+"/trust", 0o755); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := asPlainUser(t, s, "config", "check", "--online")
	if code != 1 || !strings.Contains(stderr, "region b cannot be used") || !strings.Contains(stdout, "not writable") {
		t.Errorf("exit %d: %s %s", code, stdout, stderr)
	}
}
