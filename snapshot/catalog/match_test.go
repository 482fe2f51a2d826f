package catalog

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		glob, path string
		want       bool
	}{
		{"*.pdf", "a/b/c.pdf", true},
		{"*.pdf", "c.pdf", true},
		{"*.pdf", "a.pdf/c", false},
		{"invoices/2026-10*.pdf", "srv/files/invoices/2026-10-03.pdf", true},
		{"invoices/2026-10*.pdf", "invoices/2026-10-03.pdf", true},
		{"invoices/2026-10*.pdf", "srv/old-invoices/2026-10-03.pdf", false},
		{"/srv/*/x", "srv/a/x", true},
		{"/srv/*/x", "srv/a/b/x", false},
		{"/srv/**/x", "srv/a/b/x", true},
		{"/srv/**", "srv/a/b", true},
		{"/x", "a/x", false},
		{"/x", "x", true},
		{"**/x", "a/x", true},
		{"{a,b}.c", "z/b.c", true},
		{"[a-c]?", "bz", true},
		{"[^a-c]?", "bz", false},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{"日?", "日本", true},
		// bytes that are not UTF-8
		{"caf\xe9", "menu/caf\xe9", true},
		{"caf\xe9", "caf\xe8", false},
		{"caf?", "caf\xe9", true},
		{"caf?", "caf\xe9\xe9", false},
		{"*\xe9*", "a\xe9b", true},
		{"[\xe0-\xef]", "\xe9", true},
		{"[\xe0-\xef]", "\xf9", false},
		{"\ufffd", "\xff", false},
		{"\ufffd", "\ufffd", true},
		{"\U0010ffff", "\xff", false},
		{"\U0010ffff", "\U0010ffff", true},
	} {
		got, err := Match(tt.glob, []byte(tt.path))
		if err != nil || got != tt.want {
			t.Errorf("Match(%q, %q) = %v, %v", tt.glob, tt.path, got, err)
		}
	}
	for _, bad := range []string{"[", "{a", "a/[x-", "[]a]"} {
		if _, err := Match(bad, []byte("a")); err == nil {
			t.Errorf("glob %q was taken", bad)
		}
	}
}

func FuzzCarry(f *testing.F) {
	f.Add("caf\xe9", "caf\xe8")
	f.Add("\U0010ffff", "\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		ca, cb := carry(a), carry(b)
		if !utf8.ValidString(ca) {
			t.Errorf("%q becomes %q", a, ca)
		}
		if (a == b) != (ca == cb) {
			t.Errorf("%q and %q become %q and %q", a, b, ca, cb)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("**/*.{a,b}", []byte("x/y.a"))
	f.Add("[\xff-", []byte("\xff"))
	f.Fuzz(func(t *testing.T, glob string, path []byte) {
		if len(glob) > 60 || len(path) > 200 || strings.Count(glob, "*") > 6 { // no contest in patience
			return
		}
		Match(glob, path)
	})
}
