package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and prints as 15m, 1h30m, 30d or 2w.
// A day is 24 hours.
type Duration time.Duration

// Value is d as the standard library's type.
func (d Duration) Value() time.Duration { return time.Duration(d) }

// UnmarshalText parses with ParseDuration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText prints as String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// durationUnits from the largest; a unit appears at most once in a text.
func durationUnit(name string) (time.Duration, bool) {
	switch name {
	case "w":
		return 7 * 24 * time.Hour, true
	case "d":
		return 24 * time.Hour, true
	case "h":
		return time.Hour, true
	case "m":
		return time.Minute, true
	case "s":
		return time.Second, true
	case "ms":
		return time.Millisecond, true
	}
	return 0, false
}

// String prints in the largest units that are exact, such as 1d12h.
func (d Duration) String() string {
	rest := time.Duration(d)
	if rest == 0 {
		return "0"
	}
	var b strings.Builder
	if rest < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	if week := 7 * 24 * time.Hour; rest >= 2*week && rest%week == 0 {
		fmt.Fprintf(&b, "%dw", rest/week)
		return b.String()
	}
	for _, unit := range []string{"d", "h", "m", "s", "ms"} {
		size, _ := durationUnit(unit)
		if n := rest / size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit)
			rest -= n * size
		}
	}
	return b.String()
}

// ParseDuration reads 15m, 1h30m, 30d, 2w, 500ms or 0: whole numbers with
// units w, d, h, m, s and ms, from large to small. Negative durations are refused.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration such as 15m, 1h30m or 30d", shorten(text))
	if text == "0" {
		return 0, nil
	}
	if text == "" {
		return 0, bad
	}
	var total time.Duration
	last := time.Duration(math.MaxInt64)
	for rest := text; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		unitLen := len(rest[digits:]) - len(strings.TrimLeft(rest[digits:], "wdhms"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		unit, ok := durationUnit(rest[digits : digits+unitLen])
		if err != nil || !ok || unit >= last {
			return 0, bad
		}
		if n > int64(math.MaxInt64-total)/int64(unit) {
			return 0, fmt.Errorf("%q is too long a duration", shorten(text))
		}
		total += time.Duration(n) * unit
		last, rest = unit, rest[digits+unitLen:]
	}
	return total, nil
}

// Size is a number of bytes that reads as 512MiB or 80MB and prints in IEC units.
type Size int64

// UnmarshalText parses with ParseSize.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	*s = Size(v)
	return err
}

// MarshalText prints as String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String prints exactly, in the largest IEC unit that divides it.
func (s Size) String() string {
	units := [...]string{"", "KiB", "MiB", "GiB", "TiB", "PiB"}
	n, i := int64(s), 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// sizeUnit gives the bytes of a unit: IEC (KiB = 1024) and SI (kB = 1000).
func sizeUnit(name string) (float64, bool) {
	const letters = "kmgtp"
	lower := strings.ToLower(name)
	if lower == "" || lower == "b" {
		return 1, true
	}
	power := strings.IndexByte(letters, lower[0]) + 1
	if power == 0 {
		return 0, false
	}
	switch lower[1:] {
	case "ib":
		return math.Pow(1024, float64(power)), true
	case "b":
		return math.Pow(1000, float64(power)), true
	}
	return 0, false
}

// ParseSize reads a number of bytes: 0, 1048576, 512MiB, 1.5 GiB, 80MB. A bare
// letter (5G) is refused, since it does not say which unit is meant.
func ParseSize(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a size such as 512MiB or 4GB", shorten(text))
	digits := len(text) - len(strings.TrimLeft(text, "0123456789."))
	unit, ok := sizeUnit(strings.TrimSpace(text[digits:]))
	if !ok || digits == 0 || digits > 20 {
		return 0, bad
	}
	if n, err := strconv.ParseInt(text[:digits], 10, 64); err == nil && unit == 1 {
		return n, nil
	}
	f, err := strconv.ParseFloat(text[:digits], 64)
	if err != nil || f*unit >= math.MaxInt64 {
		return 0, bad
	}
	if whole := math.Trunc(f * unit); unit == 1 && whole != f {
		return 0, bad
	}
	return int64(f * unit), nil
}

// Amount says how much of the stored data to read: none, a share, bytes, or all.
type Amount struct {
	All   bool
	Ratio float64 // 0..1; 0 when not a share
	Bytes int64   // 0 when not in bytes
}

// IsZero reports that nothing is to be read.
func (a Amount) IsZero() bool { return a == Amount{} }

// String prints as it is written: none, 3%, 10GiB or all.
func (a Amount) String() string {
	switch {
	case a.All:
		return "all"
	case a.Ratio > 0:
		return strconv.FormatFloat(a.Ratio*100, 'f', -1, 64) + "%"
	case a.Bytes > 0:
		return Size(a.Bytes).String()
	}
	return "none"
}

// MarshalText prints as String.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText parses with ParseAmount.
func (a *Amount) UnmarshalText(text []byte) error {
	v, err := ParseAmount(string(text))
	*a = v
	return err
}

// ParseAmount reads none, all, a share such as 3%, or a size such as 10GiB.
func ParseAmount(text string) (Amount, error) {
	switch text {
	case "all", "100%":
		return Amount{All: true}, nil
	case "none", "0", "0%":
		return Amount{}, nil
	}
	bad := fmt.Errorf("%q is not an amount such as 3%%, 10GiB or all", shorten(text))
	if share, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(share, 64)
		switch ratio := f / 100; {
		case err != nil || !(ratio > 0 && ratio <= 1):
			return Amount{}, bad
		case ratio == 1: // however it is written
			return Amount{All: true}, nil
		default:
			return Amount{Ratio: ratio}, nil
		}
	}
	n, err := ParseSize(text)
	if err != nil || n == 0 {
		return Amount{}, bad
	}
	return Amount{Bytes: n}, nil
}

// loadZone finds an IANA zone by name; "Local" and "" are refused, since they
// mean something else on the next host.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("time zone must be named, such as Europe/Berlin or UTC")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone such as Europe/Berlin or UTC", shorten(name))
	}
	return loc, nil
}

// shorten keeps a quoted value from filling the screen.
func shorten(text string) string {
	const most = 40
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && text[cut]&0xc0 == 0x80 { // never inside a rune
		cut--
	}
	return text[:cut] + "…"
}
