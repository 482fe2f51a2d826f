package main

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lifeboat/config"
)

// formatSize writes bytes in IEC units with three significant digits: 4.2 GiB.
func formatSize(n int64) string {
	if n < 0 {
		return "-" + formatSize(-n)
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n), 0
	const units = "KMGTPE"
	for f /= 1024; f >= 1023.95 && i < len(units)-1; i++ {
		f /= 1024
	}
	digits := 1
	if f >= 99.95 {
		digits = 0
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + units[i:i+1] + "iB"
}

// formatRate writes bytes per second.
func formatRate(bytesPerSecond float64) string { return formatSize(int64(bytesPerSecond)) + "/s" }

// formatDuration writes a time span in two units: 340 ms, 1.2 s, 31 s, 11m02s, 5h03m, 2d4h.
func formatDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + formatDuration(-d)
	case d == 0:
		return "0 s"
	case d < time.Second:
		return strconv.FormatInt(max(1, d.Milliseconds()), 10) + " ms"
	case d < 9950*time.Millisecond:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute-time.Second/2:
		return strconv.Itoa(int(d.Round(time.Second)/time.Second)) + " s"
	case d < time.Hour-time.Second/2:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour-time.Minute/2:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	d = d.Round(time.Hour)
	days, hours := d/(24*time.Hour), d%(24*time.Hour)/time.Hour
	if hours == 0 || days >= 7 {
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%dh", days, hours)
}

// formatAge writes one unit, for columns: 53m, 12h, 41d.
func formatAge(d time.Duration) string {
	switch {
	case d < -time.Minute:
		return "in " + formatAge(-d)
	case d < time.Minute:
		return strconv.Itoa(max(0, int(d/time.Second))) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// formatInstant echoes an instant so that nobody can misread it: local time,
// UTC and distance.
func formatInstant(t, now time.Time, zone *time.Location) string {
	local := t.In(zone).Format("2006-01-02 15:04:05 MST")
	if _, offset := t.In(zone).Zone(); offset != 0 {
		local += " = " + t.UTC().Format("15:04:05Z")
	}
	if d := now.Sub(t); d >= 0 {
		return local + ", " + formatDuration(d) + " ago"
	}
	return local + ", in " + formatDuration(t.Sub(now))
}

// timeForms are the absolute times that are understood beside RFC 3339.
// Those without a zone are local.
func timeForms() []string {
	return []string{"2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00"}
}

func localForms() []string {
	return []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"}
}

// parseTime reads RFC 3339, "2026-11-22 14:05[:06]" (local), "14:05[:06]"
// (today, local), "90m ago" and "now".
func parseTime(text string, now time.Time, zone *time.Location) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "now" {
		return now, nil
	}
	if span, ok := strings.CutSuffix(text, " ago"); ok {
		d, err := config.ParseDuration(strings.ReplaceAll(strings.TrimSpace(span), " ", ""))
		if err != nil {
			return time.Time{}, badTime(text)
		}
		return now.Add(-d), nil
	}
	for _, form := range append(timeForms(), time.RFC3339Nano) {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	for _, form := range localForms() {
		if t, err := time.ParseInLocation(form, text, zone); err == nil {
			return onClock(t, text, form)
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(form, text); err == nil {
			y, m, d := now.In(zone).Date()
			return onClock(time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, zone), text, form)
		}
	}
	return time.Time{}, badTime(text)
}

// onClock refuses local times that the clock never showed.
func onClock(t time.Time, text, form string) (time.Time, error) {
	if t.Format(form) != text {
		return time.Time{}, &Fail{Code: Usage, Message: fmt.Sprintf("%q does not exist in %s: the clock was moved over it", text, t.Location()),
			Hint: "give the time in UTC, such as " + t.UTC().Format("2006-01-02T15:04:05Z")}
	}
	return t, nil
}

func badTime(text string) error {
	return &Fail{Code: Usage, Message: fmt.Sprintf("%q is not a time", text),
		Hint: `such as 2026-11-22T14:05:00Z, "2026-11-22 14:05", 14:05 or "90m ago"; see: lifeboat help times`}
}

// crockford is the alphabet of run ids: digits and letters that cannot be confused.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newRunID gives 26 characters that sort by time: 48 bits of milliseconds and
// 80 random bits.
func newRunID(now time.Time) string {
	var raw [16]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	_, _ = rand.Read(raw[6:]) // never fails: the runtime stops the program instead
	var out [26]byte
	var bits uint32
	count, at := 2, 0 // 130 bits hold 128: two leading zero bits
	for _, b := range raw {
		bits, count = bits<<8|uint32(b), count+8
		for count >= 5 {
			count -= 5
			out[at] = crockford[bits>>count&31]
			at++
		}
	}
	return string(out[:])
}
