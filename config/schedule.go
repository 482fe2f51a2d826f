package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// EveryMin is the shortest interval of a schedule.
const EveryMin = time.Minute

// EveryMax is the longest interval of a schedule.
const EveryMax = 366 * 24 * time.Hour

// Schedule says when something runs: by cron expression or by interval.
type Schedule struct {
	Cron    string   `json:"cron,omitempty" doc:"five fields: minute hour day month weekday, in the configured time zone"`
	Every   Duration `json:"every,omitempty" doc:"interval such as 30m or 1d, on even multiples"`
	Jitter  Duration `json:"jitter,omitempty" doc:"start up to this much later, differently on each host"`
	CatchUp bool     `json:"catch_up" doc:"run once after downtime when a time was missed; default true"`
}

// String prints the schedule as in the file, without jitter.
func (s Schedule) String() string {
	if s.Cron != "" {
		return fmt.Sprintf("cron %q", s.Cron)
	}
	return "every " + s.Every.String()
}

// Timetable is a schedule in a time zone: pure arithmetic.
type Timetable struct {
	every time.Duration
	spec  *cron.SpecSchedule // for cron
	loc   *time.Location
	// elastic is set when every hour matches: such jobs follow real time and
	// run in both passes of a repeated hour. Others mean a time on the clock.
	elastic bool
}

// In places the schedule in a time zone.
func (s Schedule) In(loc *time.Location) (Timetable, error) {
	switch {
	case s.Cron != "" && s.Every != 0:
		return Timetable{}, errors.New("cron and every exclude each other")
	case s.Cron == "" && s.Every == 0:
		return Timetable{}, errors.New("needs cron or every")
	case s.Cron == "":
		if d := s.Every.Value(); d < EveryMin || d > EveryMax {
			return Timetable{}, fmt.Errorf("every must be between %s and %s", Duration(EveryMin), Duration(EveryMax))
		}
		return Timetable{every: s.Every.Value(), loc: loc}, nil
	}
	spec, err := parseCron(s.Cron)
	if err != nil {
		return Timetable{}, err
	}
	const star = 1 << 63 // how the parser marks a field that was "*"
	t := Timetable{spec: spec, loc: loc, elastic: spec.Hour&star != 0}
	if t.elastic {
		spec.Location = loc
	}
	if t.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Timetable{}, fmt.Errorf("cron %q names a day that never comes", s.Cron)
	}
	return t, nil
}

func parseCron(text string) (*cron.SpecSchedule, error) {
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return nil, errors.New("the time zone belongs in instance.timezone, not in the cron expression")
	}
	if n := len(strings.Fields(text)); n != 5 {
		return nil, fmt.Errorf("cron %q has %d fields; five are needed: minute hour day month weekday", shorten(text), n)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parsed, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cron %q: %w", shorten(text), err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("cron %q is not of five fields", shorten(text))
	}
	spec.Location = time.UTC
	return spec, nil
}

// Next is the first time strictly after the given one, or the zero time when
// there is none within five years.
//
// Intervals fall on even multiples since 1970 (UTC), so that jobs of one
// interval come due together. Cron times are those of the zone's clock: a time
// that a clock change skips comes at the end of the gap, and one that comes
// twice counts once; but where every hour matches, each hour of real time runs.
func (t Timetable) Next(after time.Time) time.Time {
	switch {
	case t.every > 0:
		return t.nextEvery(after)
	case t.spec == nil:
		return time.Time{}
	case t.elastic:
		return t.nextElastic(after)
	}
	return t.nextOnClock(after)
}

func (t Timetable) nextEvery(after time.Time) time.Time {
	every := int64(t.every / time.Millisecond)
	since := after.UnixMilli()
	steps := since / every
	if since < 0 && since%every != 0 {
		steps--
	}
	return time.UnixMilli((steps + 1) * every).In(t.loc)
}

// elasticTries bounds the steps past an ambiguous hour.
const elasticTries = 4

// nextElastic follows real time. The parser's own arithmetic may step back when
// it truncates inside a repeated hour, hence the guard.
func (t Timetable) nextElastic(after time.Time) time.Time {
	from := after
	for range elasticTries {
		next := t.spec.Next(from)
		if next.IsZero() || next.After(after) {
			return next
		}
		from = from.Add(time.Hour)
	}
	return time.Time{}
}

// clockTries bounds the wall times that one clock change can fold onto the past.
const clockTries = 2 * 24 * 60

// nextOnClock computes in wall-clock time as if it were UTC, which has no gaps,
// and maps the answer to an instant.
func (t Timetable) nextOnClock(after time.Time) time.Time {
	wall := asUTC(after.In(t.loc))
	for range clockTries {
		wall = t.spec.Next(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		if at := instantOf(wall, t.loc); at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// asUTC gives the same clock reading in UTC.
func asUTC(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instantOf finds the instant at which the clock of loc shows wall: the first
// one if it shows it twice, the end of the gap if it never does.
func instantOf(wall time.Time, loc *time.Location) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, loc)
	start, end := t.ZoneBounds()
	switch shown := asUTC(t); {
	case shown.After(wall): // pushed forward over a gap, which ends where this zone began
		return start
	case shown.Before(wall): // pulled back before a gap
		return end
	}
	if start.IsZero() {
		return t
	}
	_, offset := start.Add(-time.Second).Zone()
	earlier := time.Unix(wall.Unix()-int64(offset), 0).In(loc)
	if earlier.Before(start) && earlier.Before(t) {
		return earlier
	}
	return t
}

// gapSamples bounds how many runs LongestGap looks at.
const gapSamples = 5000

// LongestGap is the longest time between two runs, found over the year after
// from (or the next 5000 runs, if they come first).
func (t Timetable) LongestGap(from time.Time) time.Duration {
	if t.every > 0 {
		return t.every
	}
	end := from.AddDate(1, 0, 0)
	longest := time.Duration(0)
	last := t.Next(from)
	for range gapSamples {
		next := t.Next(last)
		if next.IsZero() {
			break
		}
		longest = max(longest, next.Sub(last))
		if last = next; last.After(end) {
			break
		}
	}
	return longest
}
