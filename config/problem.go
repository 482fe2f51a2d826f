package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity of a problem.
type Severity string

// A file with errors is not used; warnings are shown.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Codes of problems; stable for machines.
const (
	CodeSyntax       = "syntax"
	CodeUnknownKey   = "unknown_key"
	CodeDuplicateKey = "duplicate_key"
	CodeWrongType    = "wrong_type"
	CodeBadValue     = "bad_value"
	CodeMissing      = "missing"
	CodeNotSupported = "not_supported"
	CodeReference    = "unknown_name"
	CodeDuplicate    = "duplicate_name"
	CodeConflict     = "conflict"
	CodeSense        = "sense"
)

// Problem is one mistake in a file.
type Problem struct {
	File       string   `json:"file"`
	Line       int      `json:"line"`   // from 1
	Column     int      `json:"column"` // from 1, in characters
	Severity   Severity `json:"severity"`
	Path       string   `json:"path,omitempty"` // such as workloads[0].objectives.rpo
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Suggestion string   `json:"suggestion,omitempty"`
	// Private says that the line may hold a secret and must not be shown.
	Private bool `json:"-"`
	// Width is how many characters of the line are meant; 0 is unknown.
	Width int `json:"-"`
}

// String is "file:line:col: message", on one line.
func (p Problem) String() string {
	severity := ""
	if p.Severity == Warning {
		severity = "warning: "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", p.File, p.Line, p.Column, severity, p.Message)
}

// Problems are the mistakes of one file, sorted by line. It is an error.
type Problems []Problem

// Error joins all problems, one per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Count tells how many are errors and how many warnings.
func (ps Problems) Count() (errors, warnings int) {
	for _, p := range ps {
		if p.Severity == Warning {
			warnings++
		} else {
			errors++
		}
	}
	return errors, warnings
}

// Err is nil when there are no errors (warnings do not count).
func (ps Problems) Err() error {
	if errors, _ := ps.Count(); errors == 0 {
		return nil
	}
	return ps
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// distanceMax is how different a word may be and still be suggested.
const distanceMax = 2

// Suggest gives the candidate nearest to word within two edits, or "".
func Suggest(word string, candidates []string) string {
	best, bestDistance := "", distanceMax+1
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance && d < max(len(c), len(word)) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and swaps of neighbours.
// Words whose lengths alone differ too much are not compared.
func distance(a, b string) int {
	if d := len(a) - len(b); d > distanceMax || d < -distanceMax || len(a) > 64 {
		return distanceMax + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
