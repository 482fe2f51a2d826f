package drill

import (
	"testing"
	"time"

	"lifeboat/storage/repo"
)

func TestNewestPoint(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)
	point := func(workload string, ahead time.Duration) repo.Snapshot {
		return repo.Snapshot{Summary: repo.Summary{Workload: workload, Start: now.Add(ahead)}}
	}
	seen := point("w", time.Hour)
	seen.Seen = now.Add(-2 * time.Hour)
	for name, tt := range map[string]struct {
		all  []repo.Snapshot
		want time.Duration // ahead of now
	}{
		"the newest":                  {[]repo.Snapshot{point("w", -3*time.Hour), point("w", -time.Hour), point("v", -time.Minute)}, -time.Hour},
		"the clock was set back":      {[]repo.Snapshot{point("w", -time.Hour), point("w", -9*time.Hour)}, -time.Hour},
		"the clock was ahead once":    {[]repo.Snapshot{point("w", 9*time.Hour), point("w", -time.Hour)}, -time.Hour},
		"a region knows better":       {[]repo.Snapshot{seen, point("w", -3*time.Hour)}, -2 * time.Hour},
		"nothing but from the future": {[]repo.Snapshot{point("w", 9*time.Hour)}, 9 * time.Hour},
	} {
		d := &run{opt: Options{Workload: "w"}, rep: &Report{StartedAt: now}}
		if got := d.newest(tt.all); !got.Equal(now.Add(tt.want)) {
			t.Errorf("%s: %v from now, want %v", name, got.Sub(now), tt.want)
		}
	}
}
