package catalog

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestCompareOrder(t *testing.T) {
	sorted := []string{"", "a", "a/b", "a/b/c", "a/b-c", "a/c", "a\x01", "a b", "a!", "a-", "a-/x", "a-b", "a.", "a0", "aa", "aa/a", "b", "\xff", "\xff/\xff", "\xff\xff"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare([]byte(a), []byte(b)); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// lowered is the definition of the order: '/' below all else, then plain bytes.
func lowered(path []byte) []byte {
	var b []byte
	for _, c := range path {
		if c == '/' {
			b = append(b, 0, 0)
		} else {
			b = append(b, 1, c)
		}
	}
	return b
}

func FuzzCompare(f *testing.F) {
	f.Add([]byte("some/long/path/a"), []byte("some/long/path-a"))
	f.Add([]byte("12345678/"), []byte("12345678"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got, want := Compare(a, b), bytes.Compare(lowered(a), lowered(b))
		if got < 0 != (want < 0) || got > 0 != (want > 0) {
			t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func TestCompareAtEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		a := make([]byte, r.IntN(40))
		for i := range a {
			a[i] = "/ab-"[r.IntN(4)]
		}
		b := bytes.Clone(a)
		if len(b) > 0 {
			b[r.IntN(len(b))] = "/ab-"[r.IntN(4)]
		}
		b = b[:r.IntN(len(b)+1)]
		got, want := Compare(a, b), bytes.Compare(lowered(a), lowered(b))
		if got < 0 != (want < 0) || got > 0 != (want > 0) {
			t.Fatalf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		top, path string
		want      bool
	}{
		{"", "", true}, {"", "a", true}, {"a", "a", true}, {"a", "a/b", true}, {"a", "a/b/c", true},
		{"a", "ab", false}, {"a", "a-", false}, {"a/b", "a", false}, {"a", "", false}, {"b", "a/b", false},
	} {
		if got := Within([]byte(tt.top), []byte(tt.path)); got != tt.want {
			t.Errorf("Within(%q, %q) = %v", tt.top, tt.path, got)
		}
	}
}

func TestCheckPath(t *testing.T) {
	good := []string{"", "a", "a/b", "...", "..a/.b", "a..", ".. ", "\xff", "a\nb", "日本/\\", strings.Repeat("a", ElementMax), strings.Repeat("a/", DepthMax-1) + "a"}
	for _, path := range good {
		if err := CheckPath([]byte(path)); err != nil {
			t.Errorf("good path refused: %v", err)
		}
	}
	bad := []string{"/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/.", "./a", "a\x00b", "\x00",
		strings.Repeat("a", ElementMax+1), strings.Repeat("a/", DepthMax) + "a", strings.Repeat(strings.Repeat("a", 4000)+"/", 17) + "a"}
	for _, path := range bad {
		if err := CheckPath([]byte(path)); err == nil {
			t.Errorf("bad path taken: %.40q", path)
		} else if len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}
