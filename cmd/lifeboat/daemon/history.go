package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"lifeboat/storage/durable"
)

// historyVersion is the version of the file.
const historyVersion = 1

// Limits of the file.
const (
	recentMax       = 20 // outcomes kept per job
	historyBytesMax = 64 << 20
)

// Results of a run.
const (
	ResultOK      = "ok"
	ResultFailed  = "failed"
	ResultStopped = "stopped" // by a stop of the daemon; it runs again at the next start
)

// History is what is remembered of all jobs. Jobs that are no longer
// configured stay, so that a job that comes back is not taken for a new one.
type History struct {
	Version int               `json:"version"`
	Jobs    map[string]Record `json:"jobs"`
}

// Record is what is remembered of one job.
type Record struct {
	Seen      time.Time `json:"seen_at"`               // when the job first appeared
	Last      time.Time `json:"last_at,omitzero"`      // begin of the last run that counts
	Started   time.Time `json:"started_at,omitzero"`   // begin of the newest run, ended or not
	Finished  time.Time `json:"finished_at,omitzero"`  // end of the newest run
	Succeeded time.Time `json:"succeeded_at,omitzero"` // begin of the last successful run
	Failures  int       `json:"failures,omitempty"`    // in a row
	Attempts  int       `json:"attempts,omitempty"`    // begun without an end, in a row
	Recent    []Outcome `json:"recent,omitempty"`      // oldest first
}

// Outcome is one run.
type Outcome struct {
	Started    time.Time `json:"started_at"`
	DurationMS int64     `json:"duration_ms"`
	Result     string    `json:"result"`
	Error      string    `json:"error,omitempty"`
	Late       bool      `json:"late,omitempty"` // caught up after a missed time
}

// ReadHistory reads the file; one that does not exist gives an empty History.
func ReadHistory(path string) (History, error) {
	empty := History{Version: historyVersion, Jobs: map[string]Record{}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("read history: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, historyBytesMax+1))
	if err != nil {
		return empty, fmt.Errorf("read history: %w", err)
	}
	h, err := parseHistory(data)
	if err != nil {
		return empty, fmt.Errorf("read history %s: %w", path, err)
	}
	return h, nil
}

func parseHistory(data []byte) (History, error) {
	var h History
	if len(data) > historyBytesMax {
		return h, errors.New("it is too large")
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, err
	}
	if h.Version != historyVersion {
		return h, fmt.Errorf("version %d is not known", h.Version)
	}
	if h.Jobs == nil {
		h.Jobs = map[string]Record{}
	}
	return h, nil
}

// load reads the file. A damaged one is reported and begun anew: at worst, jobs
// run once too often.
func (r *runner) load() {
	r.history = History{Version: historyVersion, Jobs: map[string]Record{}}
	if r.opt.History == "" {
		return
	}
	h, err := ReadHistory(r.opt.History)
	if err != nil && r.opt.Events.History != nil {
		r.opt.Events.History(err)
	}
	r.history = h
}

// save writes the file; called with the lock held. A failure is reported, and
// does not stop the jobs: protecting matters more than remembering.
func (r *runner) save() {
	if r.opt.History == "" {
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	err := enc.Encode(r.history)
	if err == nil {
		err = durable.WriteFile(r.opt.History, b.Bytes(), 0o600)
	}
	if err != nil && r.opt.Events.History != nil {
		r.opt.Events.History(fmt.Errorf("write history: %w", err))
	}
}

// NextRun tells when a job will run next by its record, jitter left out. The
// zero time is never.
func NextRun(job Job, rec Record, now time.Time) time.Time {
	base := rec.Last
	if base.IsZero() {
		if job.CatchUp {
			return now
		}
		base = now
	}
	next := job.Next(base)
	if !next.IsZero() && next.Before(now) {
		if job.CatchUp {
			return now
		}
		return job.Next(now)
	}
	return next
}
