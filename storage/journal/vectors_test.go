package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/storage"
)

// vector is one file testdata/*.txt: lines "word: value".
//
//	kind    statement or trust
//	line    a line of the document
//	end     what follows the last newline
//	expect  "ok …" with what it says, or how it fails (untrusted, corrupt, new) and a part of the error's text
type vector struct {
	name, kind, expect string
	doc                []byte
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 2 {
		t.Fatalf("no vectors: %v", err)
	}
	var all []vector
	for _, file := range files {
		if filepath.Base(file) == "keys.txt" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		for line := range strings.Lines(string(text)) {
			word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch word {
			case "kind":
				v.kind = value
			case "line":
				v.doc = append(v.doc, value+"\n"...)
			case "end":
				v.doc = append(v.doc, value...)
			case "expect":
				v.expect = value
			}
		}
		all = append(all, v)
	}
	return all
}

// read gives what a reader makes of the document.
func (v vector) read(f *fixture) (string, error) {
	if v.kind == "trust" {
		t, err := ParseTrust(v.doc, f.repo, f.root.Public())
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("ok %d with %d writers", t.Seq, len(t.Writers)), nil
	}
	s, err := Parse(v.doc, f.repo, f.trust)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %s %d %x", s.Type, s.Seq, s.Hash[:4]), nil
}

// TestVectors reads documents that were written once and never change: the format,
// as seen from outside.
func TestVectors(t *testing.T) {
	f := newFixture(t)
	kinds := map[string]error{"untrusted": ErrUntrusted, "corrupt": storage.ErrCorrupt, "new": ErrTooNew}
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			got, err := v.read(f)
			if strings.HasPrefix(v.expect, "ok") {
				if err != nil || got != v.expect {
					t.Errorf("%s, %v; want %s", got, err, v.expect)
				}
				return
			}
			kind, part, _ := strings.Cut(v.expect, " ")
			if err == nil || !errors.Is(err, kinds[kind]) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s, %v; want %s with %q", got, err, kind, part)
			}
		})
	}
}
