package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/seal"
)

// signText signs any text as the first writer.
func signText(f *fixture, text string) []byte {
	return seal.SignDocument(context, f.repo, []byte(text), f.keys[writerOne])
}

// FuzzStatement reads what anybody may have put into a region.
func FuzzStatement(f *testing.F) {
	x := newFixture(f)
	for _, v := range readVectors(f) {
		f.Add(v.doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc, x.repo, x.trust)
		if err != nil {
			if !errors.Is(err, ErrUntrusted) && !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%v: neither untrusted nor corrupt", err)
			}
			return
		}
		view(t, x, s)
	})
}

// FuzzSignedText reads what a trusted writer gone mad may say: the text is
// signed, whatever it is.
func FuzzSignedText(f *testing.F) {
	x := newFixture(f)
	for _, v := range readVectors(f) {
		if text, _, ok := bytes.Cut(v.doc, []byte("\n")); ok && v.kind == "statement" {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) || strings.ContainsFunc(string(text), func(r rune) bool { return r < ' ' || r == '\uFFFD' }) {
			return // cannot be signed
		}
		s, err := Parse(signText(x, string(text)), x.repo, x.trust)
		if err != nil {
			if !errors.Is(err, ErrUntrusted) && !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%v: neither untrusted nor corrupt", err)
			}
			return
		}
		view(t, x, s)
	})
}

// view takes an accepted statement into a view, beside good ones, and asks for
// everything. Nothing may panic, and nothing of another writer may change.
func view(t *testing.T, x *fixture, s *Signed) {
	v := NewView()
	c := x.chain(t, writerTwo, instance2, session2)
	i := c.intent([]string{"two"}, regionA)
	k := c.ack(i, []string{"two"}, regionA)
	for _, one := range []*Signed{i, s, k} {
		v.Add(regionA, one)
	}
	v.AddIntent(s)
	if sh := v.Snapshots()[id("two")]; sh == nil || !sh.Shows(regionA) {
		t.Errorf("statement %s of writer %.8s hides another writer's snapshot", s.Type, s.Writer)
	}
	v.OpenSessions()
	v.OpenIn(writerOne, instance1)
	v.Drills()
	live, _ := v.Carry(s.Writer, s.Instance)
	v.Replaces(regionA, live)
	if _, err := s.Key(); err != nil {
		t.Errorf("accepted, but without a key: %v", err)
	}
	if own, _ := v.Carry(writerTwo, instance2); len(own) != 1 || !slices.Equal(own[0].Regions, []string{regionA}) {
		t.Errorf("the other writer's checkpoint would carry %+v", own)
	}
	CheckChain([]*Signed{s, k, i})
	if _, err := Resolve(s.Ref(), func(Ref) (*Signed, error) { return s, nil }); err != nil && !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("resolve: %v", err)
	}
}

// FuzzTrust reads trust statements, signed by whom it may be.
func FuzzTrust(f *testing.F) {
	x := newFixture(f)
	for _, v := range readVectors(f) {
		f.Add(v.doc, false)
		if text, _, ok := bytes.Cut(v.doc, []byte("\n")); ok && v.kind == "trust" {
			f.Add(text, true)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte, sign bool) {
		if sign {
			if !json.Valid(doc) || strings.ContainsFunc(string(doc), func(r rune) bool { return r < ' ' || r == '\uFFFD' }) {
				return
			}
			doc = seal.SignDocument(trustContext, x.repo, doc, x.root)
		}
		tr, err := ParseTrust(doc, x.repo, x.root.Public())
		if err != nil {
			if !errors.Is(err, ErrUntrusted) && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, ErrTooNew) {
				t.Errorf("%v: of no known kind", err)
			}
			return
		}
		_ = tr.MayWrite()
		_, _ = tr.DataKey()
		tr.MayReuse(writerOne, writerTwo)
		_, _ = Parse(x.chain(t, writerOne, instance1, session1).open(regionA).Bytes, x.repo, tr)
	})
}
