package config

import (
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func table(t *testing.T, s Schedule, loc *time.Location) Timetable {
	t.Helper()
	out, err := s.In(loc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCronOverClockChanges(t *testing.T) {
	tests := []struct {
		name, zone, cron, after string
		want                    []string
	}{
		{"plain", "Europe/Berlin", "0 3 * * *", "2026-01-10T12:00:00+01:00",
			[]string{"2026-01-11T03:00:00+01:00", "2026-01-12T03:00:00+01:00"}},
		{"in the gap: at its end", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"several in the gap: once", "Europe/Berlin", "0,15,30 2 * * *", "2026-03-29T00:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"gap and the hour after it", "Europe/Berlin", "0 1-4 * * *", "2026-03-29T00:30:00+01:00",
			[]string{"2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"in the repeated hour: once", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"after, inside the second pass", "Europe/Berlin", "30 2 * * *", "2026-10-25T02:10:00+01:00",
			[]string{"2026-10-26T02:30:00+01:00"}},
		{"every hour runs in both passes", "Europe/Berlin", "30 * * * *", "2026-10-25T01:45:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"}},
		{"every hour over the gap", "Europe/Berlin", "30 * * * *", "2026-03-29T01:00:00+01:00",
			[]string{"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"}},
		{"quarter hours over the gap", "Europe/Berlin", "*/15 * * * *", "2026-03-29T01:45:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00"}},
		{"midnight does not exist", "America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"half an hour, gap", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00+10:30",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"half an hour, repeated", "Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00+11:00",
			[]string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"}},
		{"a day that never was", "Pacific/Apia", "0 12 30 12 *", "2011-12-28T00:00:00-10:00",
			[]string{"2011-12-31T00:00:00+14:00", "2012-12-30T12:00:00+14:00"}},
		{"weekday", "UTC", "0 5 * * 0", "2026-11-22T05:00:00Z", []string{"2026-11-29T05:00:00Z"}},
		{"leap day", "UTC", "0 0 29 2 *", "2024-02-29T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tb := table(t, Schedule{Cron: tt.cron}, zone(t, tt.zone))
			at, err := time.Parse(time.RFC3339, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				at = tb.Next(at)
				if got := at.In(zone(t, tt.zone)).Format(time.RFC3339); got != want {
					t.Fatalf("next = %s, want %s", got, want)
				}
			}
		})
	}
}

// TestCronAgainstMinutes walks whole years minute by minute as an oracle: on a
// day without a clock change exactly the matching minutes run, and on the
// others nothing runs twice or is lost.
func TestCronAgainstMinutes(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe"} {
		loc := zone(t, name)
		for _, hour := range []int{0, 1, 2, 3, 23} {
			tb := table(t, Schedule{Cron: "20 " + time.Date(2000, 1, 1, hour, 0, 0, 0, time.UTC).Format("15") + " * * *"}, loc)
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
			for day := range 365 {
				at = tb.Next(at)
				y, m, d := at.Date()
				want := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, day)
				if got := time.Date(y, m, d, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
					t.Fatalf("%s hour %d: run on %s, want one on %s", name, hour, got.Format("01-02"), want.Format("01-02"))
				}
			}
		}
		elastic := table(t, Schedule{Cron: "7 * * * *"}, loc)
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
		for last := at; at.Year() == 2026; last = at {
			at = elastic.Next(at)
			if gap := at.Sub(last); last.Minute() == 7 && (gap < 30*time.Minute || gap > 90*time.Minute) {
				t.Fatalf("%s: %s after %s", name, at, last)
			}
			if at.Minute() != 7 {
				t.Fatalf("%s: %s", name, at)
			}
		}
	}
}

func TestEvery(t *testing.T) {
	tb := table(t, Schedule{Every: Duration(30 * time.Minute)}, time.UTC)
	for after, want := range map[string]string{
		"2026-11-22T14:05:12Z": "2026-11-22T14:30:00Z",
		"2026-11-22T14:30:00Z": "2026-11-22T15:00:00Z",
		"1969-12-31T23:45:00Z": "1970-01-01T00:00:00Z",
		"1969-12-31T23:15:00Z": "1969-12-31T23:30:00Z",
		"1969-12-31T23:30:00Z": "1970-01-01T00:00:00Z",
	} {
		at, err := time.Parse(time.RFC3339, after)
		if err != nil {
			t.Fatal(err)
		}
		if got := tb.Next(at).Format(time.RFC3339); got != want {
			t.Errorf("Next(%s) = %s, want %s", after, got, want)
		}
	}
}

func TestLongestGap(t *testing.T) {
	from := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"*/15 * * * *": 15 * time.Minute,
		"0 2 * * *":    24 * time.Hour,
		"0 2 * * 1-5":  72 * time.Hour,
		"0 8-18 * * *": 14 * time.Hour,
		"0 4 1 * *":    31 * 24 * time.Hour,
		"0 0 29 2 *":   4 * 365 * 24 * time.Hour,
	} {
		got := table(t, Schedule{Cron: text}, time.UTC).LongestGap(from)
		if got < want || got > want+48*time.Hour {
			t.Errorf("LongestGap(%s) = %s, want %s", text, got, want)
		}
	}
	if got := table(t, Schedule{Every: Duration(time.Hour)}, time.UTC).LongestGap(from); got != time.Hour {
		t.Errorf("every 1h: %s", got)
	}
	if got := table(t, Schedule{Cron: "0 2 * * *"}, zone(t, "Europe/Berlin")).LongestGap(from); got != 25*time.Hour {
		t.Errorf("a daily run in Berlin leaves %s at most, want 25h", got)
	}
}

func FuzzCron(f *testing.F) {
	f.Add("*/15 * * * *", int64(1774746000))
	f.Add("30 2 29 3 *", int64(1774746000))
	f.Fuzz(func(t *testing.T, text string, at int64) {
		if at < -1e10 || at > 1e10 {
			return
		}
		loc, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Skip(err)
		}
		tb, err := Schedule{Cron: text}.In(loc)
		if err != nil {
			return
		}
		after := time.Unix(at, 0)
		if next := tb.Next(after); !next.IsZero() && !next.After(after) {
			t.Errorf("Next(%s) = %s, not later", after, next)
		}
	})
}
