package drill

import (
	"errors"
	"fmt"
	"strings"

	"lifeboat/storage/repo"
)

const (
	lacksNamed   = 20  // incomplete items a report names; all are counted
	lacksNameMax = 512 // bytes of one of them
)

// Lacks says what a snapshot does not hold of its source. It was so when the
// snapshot was taken: no restore can do better.
type Lacks struct {
	Unreadable uint64   `json:"unreadable"`         // could not be read at all
	Torn       uint64   `json:"changed_while_read"` // contents of no single moment
	Partial    uint64   `json:"partial"`            // some attributes could not be recorded
	Items      []string `json:"items,omitempty"`    // the first of them, each with its problem
}

// lacksOf gives nil for a complete snapshot.
func lacksOf(m *repo.Manifest) *Lacks {
	if m.Stats.Incomplete() == 0 {
		return nil
	}
	l := &Lacks{Unreadable: m.Stats.Unreadable, Torn: m.Stats.Torn, Partial: m.Stats.Partial}
	for _, e := range m.Errors[:min(len(m.Errors), lacksNamed)] {
		text := fmt.Sprintf("%q: %s", "/"+string(e.Path), e.Problem)
		l.Items = append(l.Items, text[:min(len(text), lacksNameMax)])
	}
	return l
}

// Total counts the incomplete items.
func (l *Lacks) Total() uint64 { return l.Unreadable + l.Torn + l.Partial }

// String counts them by what is wrong.
func (l *Lacks) String() string {
	var parts []string
	for _, p := range []struct {
		n    uint64
		what string
	}{{l.Unreadable, "unreadable"}, {l.Torn, "changed while they were read"}, {l.Partial, "without some attributes"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// nothing tells why a drill proves nothing although all that it looked at was
// right: there was nothing to look at. The counts are the catalog's.
func nothing(d *differences, l *Lacks, allowEmpty bool) error {
	lost := l != nil && l.Unreadable > 0
	switch {
	case d.files > 0 || d.total > 0: // differences have reasons of their own
		return nil
	case d.unread > 0:
		return fmt.Errorf("nothing was restored: none of the %d files in the snapshot could be read when it was taken", d.unread)
	case lost:
		return fmt.Errorf("nothing was restored: the snapshot holds no files, and %d items could not be read when it was taken", l.Unreadable)
	case allowEmpty:
		return nil
	}
	return errors.New("nothing was restored: the snapshot holds no files")
}

// lacking takes the shine off a drill of a snapshot that is not complete. What
// was stored came back; that it was not all, an auditor must not overlook.
func (d *run) lacking() {
	if d.man == nil {
		return
	}
	if d.rep.Lacks = lacksOf(d.man); d.rep.Lacks != nil {
		d.fail(Incomplete, fmt.Errorf("the snapshot does not hold all of its source: %s", d.rep.Lacks))
	}
}
