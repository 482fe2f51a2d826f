package journal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"lifeboat/storage"
)

// What is signed reads back as it was, under the key that its bytes give.
func TestStatementsReadBack(t *testing.T) {
	f := newFixture(t)
	c := f.chain(t, writerOne, instance1, session1)
	for _, s := range []*Signed{c.open(regionA), c.intent([]string{"one"}, regionA), c.forget("one"), c.checkpoint(nil, nil)} {
		got, err := Parse(s.Bytes, f.repo, f.trust)
		if err != nil {
			t.Fatalf("%s: %v", s.Type, err)
		}
		if got.Hash != s.Hash || got.Ref() != s.Ref() || got.Type != s.Type || !got.At.Equal(at()) {
			t.Errorf("%s: %+v", s.Type, got)
		}
		key, err := got.Key()
		if err != nil {
			t.Fatal(err)
		}
		kind, parts, err := storage.Parse(key)
		if err != nil || parts.Seq != s.Seq || parts.Sum != s.Hash || (kind == storage.KindCheckpoint) != (s.Type == Checkpoint) {
			t.Errorf("%s lies under %s: %+v, %v", s.Type, key, parts, err)
		}
	}
}

// A writer cannot write what a reader would refuse.
func TestSignRefuses(t *testing.T) {
	f := newFixture(t)
	good := Statement{Type: Intent, Writer: writerOne, Instance: instance1, Seq: 1, Regions: []string{regionA}, Snapshots: snapshots(true, "one")}
	for name, spoil := range map[string]func(s *Statement){
		"writer":      func(s *Statement) { s.Writer = "x" },
		"sequence":    func(s *Statement) { s.Seq = 0 },
		"snapshots":   func(s *Statement) { s.Snapshots = make([]Snapshot, snapshotsPerMax+1) },
		"regions":     func(s *Statement) { s.Regions = make([]string, regionsMax+1) },
		"packs":       func(s *Statement) { s.Packs = &PackSet{Add: make([]string, packsMax), Drop: make([]string, 1)} },
		"session":     func(s *Statement) { s.Session = strings.Repeat("s", sessionMax+1) },
		"open":        func(s *Statement) { s.OpenSessions = make([]string, sessionsMax+1) },
		"kept":        func(s *Statement) { s.Kept = make([]Ref, keptMax+1) },
		"almost size": func(s *Statement) { s.Body = bytes.Repeat([]byte{1}, (StatementMax-600)/4*3) },
	} {
		s := good
		spoil(&s)
		doc, err := Sign(s, f.repo, f.keys[writerOne])
		if err == nil && len(doc.Bytes) > StatementMax {
			t.Errorf("%s: %d bytes were signed, which no reader takes", name, len(doc.Bytes))
		}
		if err == nil && name != "almost size" {
			t.Errorf("%s: was signed", name)
		}
	}
}

// A document of the largest size is read; one byte more is not, and neither is
// looked into.
func TestParseBoundsSize(t *testing.T) {
	f := newFixture(t)
	big := bytes.Repeat([]byte(" "), StatementMax+1)
	if _, err := Parse(big, f.repo, f.trust); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if _, err := Parse(big[:StatementMax], f.repo, f.trust); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v", err)
	}
}

// JSON that is deep or wide costs no more than its size.
func TestParseSurvivesHostileJSON(t *testing.T) {
	f := newFixture(t)
	good := f.sign(t, Statement{Type: Open, Writer: writerOne, Instance: instance1, Seq: 1, Regions: []string{regionA}})
	text, _, _ := strings.Cut(string(good.Bytes), "\n")
	for name, more := range map[string]string{
		"deep":       `"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"wide":       `"x":[` + strings.Repeat("0,", 100_000) + "0]",
		"live":       `"live":[` + strings.Repeat("{},", 10_000) + "{}]",
		"twice":      `"seq":7`,
		"other case": `"SEQ":0`,
	} {
		doc := signText(f, strings.TrimSuffix(text, "}")+","+more+"}")
		s, err := Parse(doc, f.repo, f.trust)
		if err == nil && s.Seq == 0 {
			t.Errorf("%s: accepted with sequence 0", name)
		}
	}
}

func TestTrust(t *testing.T) {
	f := newFixture(t)
	tr := *f.trust
	tr.Writers[1].Predecessors = []string{writerOne}
	tr.Data = []EpochKey{{Epoch: 1, KeyID: "data-0001"}, {Epoch: 2, KeyID: "data-0002"}}
	doc, err := SignTrust(tr, f.repo, f.root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseTrust(doc, f.repo, f.root.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !got.MayReuse(writerTwo, writerOne) || got.MayReuse(writerOne, writerTwo) || !got.MayReuse(writerOne, writerOne) {
		t.Error("who may re-use whose chunks")
	}
	if k, err := got.DataKey(); err != nil || k.Epoch != 2 {
		t.Errorf("newest data key: %+v, %v", k, err)
	}
	if _, err := (&Trust{}).DataKey(); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("no data key: %v", err)
	}
	if _, ok := got.Enrolled("nobody"); ok {
		t.Error("nobody is enrolled")
	}
	if m, ok := got.Member(regionB); !ok || m.Name != "b" {
		t.Errorf("member %+v, %v", m, ok)
	}
	if _, ok := got.Member(formerA); ok {
		t.Error("a former incarnation is a member")
	}
	for name, spoil := range map[string]func(*Trust){"min_writer": func(t *Trust) { t.MinWriter = 2 }, "features": func(t *Trust) { t.Features = []string{"x"} }} {
		old := *got
		spoil(&old)
		if err := old.MayWrite(); !errors.Is(err, ErrTooNew) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := got.MayWrite(); err != nil {
		t.Error(err)
	}
}

// A statement that only a newer program understands is given with the error, so
// that nobody goes by an older one instead.
func TestTooNewTrustIsGiven(t *testing.T) {
	f := newFixture(t)
	tr := *f.trust
	tr.Seq, tr.MinReader = 9, Reader+1
	doc, err := SignTrust(tr, f.repo, f.root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseTrust(doc, f.repo, f.root.Public()); !errors.Is(err, ErrTooNew) || got == nil || got.Seq != 9 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseTrust(doc, f.repo, f.other.Public()); errors.Is(err, ErrTooNew) || got != nil {
		t.Errorf("signed by somebody: %+v, %v", got, err)
	}
}

// A statement counts only under a key that the trust statement in force names.
func TestWriterMustBeTrusted(t *testing.T) {
	f := newFixture(t)
	s := f.chain(t, writerTwo, instance2, session1).open(regionA)
	without := *f.trust
	without.Writers = without.Writers[:1]
	if _, err := Parse(s.Bytes, f.repo, &without); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v", err)
	}
	disabled := *f.trust
	disabled.Writers = append(without.Writers[:1:1], f.trust.Writers[1])
	disabled.Writers[1].Disabled = true
	if _, err := Parse(s.Bytes, f.repo, &disabled); err != nil {
		t.Errorf("what a disabled writer signed keeps counting: %v", err)
	}
	broken := *f.trust
	broken.Writers = []Enrolled{{ID: writerTwo, Sign: "lbr1nonsense"}}
	if _, err := Parse(s.Bytes, f.repo, &broken); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v", err)
	}
}
