package repo

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"lifeboat/storage/journal"
)

// takenCase is one snapshot for the test: its id, its hour by the clock of its host,
// its parent, and where it is in a chain ("x3", or nothing known).
type takenCase struct {
	id     string
	hour   int
	parent string
	at     string
}

func TestOrderOfSnapshots(t *testing.T) {
	const years = 100_000                          // hours
	for name, all := range map[string][]takenCase{ // as they were really taken
		"by time":                              {{"a", 1, "", ""}, {"b", 2, "", ""}, {"c", 3, "", ""}},
		"set back, with parents":               {{"a", 10, "", ""}, {"b", 2, "a", ""}, {"c", 3, "b", ""}, {"d", 11, "c", ""}},
		"set back, in one chain":               {{"a", 10, "", "x1"}, {"b", 2, "", "x4"}, {"c", 3, "", "x7"}, {"d", 11, "", "x9"}},
		"far ahead once":                       {{"a", 1, "", "x1"}, {"b", years, "a", "x2"}, {"c", 3, "b", "x3"}, {"d", 4, "c", "x4"}, {"e", 5, "d", "x5"}},
		"far ahead once, then killed":          {{"a", 1, "", "x1"}, {"b", years, "a", "x2"}, {"c", 3, "b", "y1"}, {"d", 4, "c", "y2"}},
		"far ahead, then everything anew":      {{"a", years, "", "x1"}, {"b", 3, "a", "x2"}, {"c", 4, "", "x3"}, {"d", 5, "c", "x4"}},
		"far ahead, then nothing by its chain": {{"a", years, "", "x1"}, {"b", 3, "", "x2"}, {"c", 4, "", "x3"}},
		"two hosts, one of them set back":      {{"a", 10, "", "x1"}, {"b", 2, "a", "x2"}, {"c", 11, "", "y1"}, {"d", 12, "b", "x3"}},
		"a parent that is gone":                {{"b", 2, "a", ""}, {"c", 3, "b", ""}},
		"the same hour":                        {{"b", 1, "", "x1"}, {"a", 1, "b", "x2"}},
		"several in one statement":             {{"a", 9, "", "x1"}, {"b", 1, "", "x2"}, {"c", 2, "", "x2"}, {"d", 0, "", "x3"}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, c := range all {
				want = append(want, c.id)
			}
			for seed := range uint64(20) {
				if got := orderOf(all, seed); got != strings.Join(want, " ") {
					t.Fatalf("got %s, want %s", got, strings.Join(want, " "))
				}
			}
		})
	}
}

// Links in a circle, which no honest writer can make, hide nothing, and what they
// do not touch keeps its order.
func TestOrderWithCircle(t *testing.T) {
	all := []takenCase{{"a", 1, "", ""}, {"b", 2, "c", ""}, {"c", 3, "b", ""}, {"d", 4, "d", ""}, {"e", 5, "", ""}}
	for seed := range uint64(20) {
		if got := orderOf(all, seed); got != "a b c d e" {
			t.Errorf("got %s", got)
		}
	}
}

func TestOrderOfAnotherWorkload(t *testing.T) {
	all := []Snapshot{{Summary: Summary{ID: "b", Parent: "a", Workload: "w", Start: time.Unix(1, 0)}}, {Summary: Summary{ID: "a", Workload: "v", Start: time.Unix(2, 0)}}}
	sortInOrder(all, func(string, string) (journal.Ref, bool) { return journal.Ref{}, false })
	if all[0].Summary.ID != "b" {
		t.Error("a snapshot waited for one of another workload")
	}
}

func TestDated(t *testing.T) {
	start := time.Unix(2e9, 0)
	for _, tt := range []struct{ seen, want time.Time }{
		{time.Time{}, start},
		{start.Add(time.Minute), start},
		{start.Add(-time.Minute), start}, // clocks differ a little
		{start.Add(-time.Hour), start.Add(-time.Hour)},
	} {
		s := Snapshot{Summary: Summary{Start: start}, Shown: journal.Shown{Seen: tt.seen}}
		if got := s.Dated(); !got.Equal(tt.want) {
			t.Errorf("seen at %v: dated %v, want %v", tt.seen, got, tt.want)
		}
	}
}

// orderOf shuffles, sorts, and names what comes out.
func orderOf(cases []takenCase, seed uint64) string {
	var all []Snapshot
	at := map[string]string{}
	for _, c := range cases {
		at[c.id] = c.at
		all = append(all, Snapshot{Summary: Summary{ID: c.id, Workload: "w", Parent: c.parent, Origin: "w1", Start: time.Unix(int64(c.hour)*3600, 0)}})
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	sortInOrder(all, func(writer, id string) (ref journal.Ref, ok bool) {
		if at[id] == "" {
			return ref, false
		}
		ref.Writer, ref.Instance = writer, at[id][:1]
		_, err := fmt.Sscan(at[id][1:], &ref.Seq)
		return ref, err == nil
	})
	var got []string
	for _, s := range all {
		got = append(got, s.Summary.ID)
	}
	return strings.Join(got, " ")
}
