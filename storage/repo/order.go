package repo

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"lifeboat/storage/journal"
)

// clockSkewMax is how much later than a region saw a snapshot its host may claim to
// have taken it, before the region is believed.
const clockSkewMax = 5 * time.Minute

// Dated is when the snapshot was taken at the latest: at its Start, unless a
// region held it well before by its own clock. The age of a recovery point goes by
// this, so that a clock that was ahead does not make it younger.
func (s *Snapshot) Dated() time.Time {
	if !s.Seen.IsZero() && s.Start.Sub(s.Seen) > clockSkewMax {
		return s.Seen
	}
	return s.Start
}

// placed is a snapshot on its way to its place in the order.
type placed struct {
	Snapshot
	at    time.Time // its Start, or that of one taken before it, whichever is later
	step  int       // how many were taken before it, one after the other
	after []int     // those taken next
	waits int       // for so many taken before it
}

// sortInOrder sorts snapshots, oldest first. Time decides, by the clock of whoever
// took them, but clocks are set back: of one workload a snapshot never comes
// before its parent, nor before one that is earlier in the same chain of
// statements. After a clock was far ahead, what follows counts as just as late,
// until time has caught up. taken tells where in its writer's chain a snapshot is.
func sortInOrder(all []Snapshot, taken func(writer, snapshot string) (journal.Ref, bool)) {
	row := make([]placed, len(all))
	for i, s := range all {
		row[i] = placed{Snapshot: s, at: s.Start}
	}
	linkParents(row)
	linkChains(row, taken)
	var ready []int
	for i := range row {
		if row[i].waits == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 { // links in a circle, which only a liar makes, are never ready and count no further
		one := &row[ready[len(ready)-1]]
		ready = ready[:len(ready)-1]
		for _, n := range one.after {
			next := &row[n]
			if one.at.After(next.at) {
				next.at = one.at
			}
			next.step = max(next.step, one.step+1)
			if next.waits--; next.waits == 0 {
				ready = append(ready, n)
			}
		}
	}
	slices.SortFunc(row, func(a, b placed) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.step, b.step), a.Start.Compare(b.Start), strings.Compare(a.Summary.ID, b.Summary.ID))
	})
	for i := range row {
		all[i] = row[i].Snapshot
	}
}

func link(row []placed, before, after int) {
	row[before].after = append(row[before].after, after)
	row[after].waits++
}

// linkParents goes by what snapshots were compared with when they were taken.
func linkParents(row []placed) {
	byID := make(map[string]int, len(row))
	for i := range row {
		byID[row[i].Summary.ID] = i
	}
	for i := range row {
		if p, ok := byID[row[i].Parent]; ok && row[p].Workload == row[i].Workload {
			link(row, p, i)
		}
	}
}

// linkChains goes by the numbers of the statements that committed them.
func linkChains(row []placed, taken func(writer, snapshot string) (journal.Ref, bool)) {
	type member struct {
		i   int
		seq uint64
	}
	chains := map[[3]string][]member{}
	for i := range row {
		s := &row[i]
		if ref, ok := taken(s.Origin, s.Summary.ID); ok {
			k := [3]string{ref.Writer, ref.Instance, s.Workload}
			chains[k] = append(chains[k], member{i, ref.Seq})
		}
	}
	for _, c := range chains {
		slices.SortFunc(c, func(a, b member) int {
			return cmp.Or(cmp.Compare(a.seq, b.seq), row[a.i].Start.Compare(row[b.i].Start), strings.Compare(row[a.i].Summary.ID, row[b.i].Summary.ID))
		})
		before := -1 // of those with the number before
		for k := range c {
			if k > 0 && c[k].seq > c[k-1].seq {
				before = c[k-1].i
			}
			if before >= 0 {
				link(row, before, c[k].i)
			}
		}
	}
}
