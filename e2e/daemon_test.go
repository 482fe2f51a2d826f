package e2e

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// jobRun is what daemon --once says of one job.
type jobRun struct {
	Job   string `json:"job"`
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

// once runs what is due and gives the jobs that ran.
func (s *site) once(t *testing.T, code int, args ...string) map[string]jobRun {
	t.Helper()
	var d struct {
		Ran []jobRun `json:"ran"`
	}
	dataOf(t, s.run(t, code, append([]string{"daemon", "--once", "--json"}, args...)...), &d)
	ran := map[string]jobRun{}
	for _, r := range d.Ran {
		ran[r.Job] = r
	}
	return ran
}

// historyPath is the daemon's memory.
func (s *site) historyPath() string { return s.Path("lifeboat-state", "daemon.json") }

// history reads the daemon's memory as it is.
func (s *site) history(t *testing.T) map[string]map[string]any {
	t.Helper()
	var h struct {
		Jobs map[string]map[string]any `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(getFile(t, s.historyPath())), &h); err != nil {
		t.Fatal(err)
	}
	return h.Jobs
}

// age makes every remembered run so much older, as if the time had passed. With
// no memory yet there is nothing to do: all jobs are due.
func (s *site) age(t *testing.T, by time.Duration) {
	t.Helper()
	if isGone(s.historyPath()) {
		return
	}
	var h map[string]any
	if err := json.Unmarshal([]byte(getFile(t, s.historyPath())), &h); err != nil {
		t.Fatal(err)
	}
	jobs, ok := h["jobs"].(map[string]any)
	if !ok {
		t.Fatal("the daemon's memory holds no jobs")
	}
	for _, j := range jobs {
		older(j, by)
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.historyPath(), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// older moves all times below a value back.
func older(v any, by time.Duration) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if text, ok := x.(string); ok {
				if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
					v[k] = at.Add(-by).Format(time.RFC3339Nano)
				}
				continue
			}
			older(x, by)
		}
	case []any:
		for _, x := range v {
			older(x, by)
		}
	}
}
