package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"lifeboat/config"
)

// referenceIDMin is the least number of hex digits that may stand for an id.
const referenceIDMin = 4

// reference is a snapshot as a user names it. At most one of ID, Latest and At
// is set; none with a Workload means its latest.
type reference struct {
	Text     string
	Workload string    // from WORKLOAD@…, or a bare name
	ID       string    // full id or prefix, lower-case hex
	Latest   bool      // latest, or latest~N
	Back     int       // N of latest~N
	At       time.Time // of WORKLOAD@TIME: the newest at or before it
	Path     string    // after the colon, without leading slash; "" is everything
}

// parseReference reads ID, ID prefix, latest, latest~2, WORKLOAD, WORKLOAD@TIME,
// WORKLOAD@latest~1 and any of them with :PATH. A bare word of hex digits that
// is also a configured workload means the workload.
func (a *app) parseReference(text string) (reference, error) {
	a.settleZone()
	if ref, err := a.parsePlain(text); err == nil {
		return ref, nil
	}
	// The longest left side that makes sense wins, since times hold colons too.
	for i := strings.LastIndexByte(text, ':'); i > 0; i = strings.LastIndexByte(text[:i], ':') {
		if ref, err := a.parsePlain(text[:i]); err == nil {
			ref.Text, ref.Path = text, strings.Trim(text[i+1:], "/")
			return ref, nil
		}
	}
	_, err := a.parsePlain(text)
	return reference{}, err
}

func (a *app) parsePlain(text string) (reference, error) {
	ref := reference{Text: text}
	name, point, hasPoint := strings.Cut(text, "@")
	if hasPoint {
		if !config.ValidName(name) {
			return ref, badReference(text)
		}
		ref.Workload = name
		if latest(point, &ref) {
			return ref, nil
		}
		if isID(point) {
			ref.ID = point
			return ref, nil
		}
		at, err := a.parseTime(point)
		ref.At = at
		return ref, err
	}
	switch {
	case latest(text, &ref):
	case a.isWorkload(text):
		ref.Workload = text
	case isID(text):
		ref.ID = text
	case config.ValidName(text):
		ref.Workload = text
	default:
		return ref, badReference(text)
	}
	return ref, nil
}

// isWorkload reports whether the configuration, if it is loaded, has the name.
func (a *app) isWorkload(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loaded != nil && a.loaded.Config.Workload(name) != nil
}

func latest(text string, ref *reference) bool {
	rest, ok := strings.CutPrefix(text, "latest")
	if !ok {
		return false
	}
	if rest != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "~"))
		if err != nil || n < 0 || rest[0] != '~' {
			return false
		}
		ref.Back = n
	}
	ref.Latest = true
	return true
}

func isID(text string) bool {
	return len(text) >= referenceIDMin && len(text) <= 64 && strings.Trim(text, "0123456789abcdef") == ""
}

func badReference(text string) error {
	return &Fail{Code: Usage, Message: fmt.Sprintf("%q does not name a snapshot", text),
		Hint: "such as 9f2c1ab4, latest, latest~2, files@2026-11-22T14:05Z or files@latest:srv/files; list them with: lifeboat snapshots"}
}
