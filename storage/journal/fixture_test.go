package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"lifeboat/storage/seal"
)

// Two writers, as the trust statement of the vectors names them.
const (
	writerOne = "00112233445566778899aabbccddeeff"
	writerTwo = "102132435465768798a9bacbdcedfe0f"
	instance1 = "11111111111111111111111111111111"
	instance2 = "22222222222222222222222222222222"
	session1  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	session2  = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	regionA   = "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"
	regionB   = "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"
	formerA   = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1" // an incarnation of A before it was wiped
)

func at() time.Time { return time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC) }

// fixture is a repository's keys and its trust.
type fixture struct {
	repo  [32]byte
	root  seal.SigningKey
	keys  map[string]seal.SigningKey // by writer
	other seal.SigningKey            // of nobody
	trust *Trust
}

// newFixture reads the keys of the vectors: they protect nothing else.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{repo: sha256.Sum256([]byte("the repository of the vectors")), keys: map[string]seal.SigningKey{}}
	for line := range strings.Lines(string(text)) {
		name, secret, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name == "#" {
			continue
		}
		k, err := seal.ParseSigningKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "root":
			f.root = k
		case "other":
			f.other = k
		default:
			f.keys[name] = k
		}
	}
	f.trust = f.statement(1)
	return f
}

// statement is a trust statement with a number.
func (f *fixture) statement(seq uint64) *Trust {
	t := &Trust{Seq: seq, At: at(), MinReader: 1, MinWriter: 1, Features: []string{}, Members: []Member{{"a", regionA}, {"b", regionB}}}
	for _, id := range []string{writerOne, writerTwo} {
		t.Writers = append(t.Writers, Enrolled{ID: id, Sign: f.keys[id].Public().String(), AddedAt: at()})
	}
	return t
}

// sign makes a statement as it would be stored.
func (f *fixture) sign(t testing.TB, s Statement) *Signed {
	t.Helper()
	s.At = at()
	out, err := Sign(s, f.repo, f.keys[s.Writer])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// chain says things as one instance of one writer.
type chain struct {
	t       testing.TB
	f       *fixture
	log     Log
	session string
}

func (f *fixture) chain(t testing.TB, writer, instance, session string) *chain {
	return &chain{t: t, f: f, log: Log{Writer: writer, Instance: instance}, session: session}
}

func (c *chain) say(s Statement) *Signed {
	if s.Session == "" {
		s.Session = c.session
	}
	out := c.f.sign(c.t, c.log.Next(s))
	c.log.Follow(out)
	return out
}

// id is the id of the snapshot with this name; its manifest is the name.
func id(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func pack(name string) string {
	h := id(name)
	return "packs/" + writerOne + "/d/" + h[:2] + "/" + h + ".tar"
}

func snapshots(inline bool, names ...string) (out []Snapshot) {
	for _, n := range names {
		sn := Snapshot{ID: id(n)}
		if inline {
			sn.Inline = []byte(n)
		}
		out = append(out, sn)
	}
	return out
}

func (c *chain) open(regions ...string) *Signed {
	return c.say(Statement{Type: Open, Regions: regions})
}

func (c *chain) intent(names []string, regions ...string) *Signed {
	return c.say(Statement{Type: Intent, Snapshots: snapshots(true, names...), Regions: regions, Packs: &PackSet{Add: []string{pack(names[0])}}})
}

func (c *chain) ack(intent *Signed, names []string, regions ...string) *Signed {
	seen := map[string]time.Time{}
	for i, r := range regions {
		seen[r] = at().Add(time.Duration(i) * time.Second)
	}
	return c.say(Statement{Type: Ack, Intent: intent.HashText(), Snapshots: snapshots(false, names...), Regions: regions, Seen: seen})
}

func (c *chain) forget(names ...string) *Signed {
	return c.say(Statement{Type: Forget, Snapshots: snapshots(false, names...)})
}

// checkpoint stands for the chain so far.
func (c *chain) checkpoint(live []Live, kept []Ref) *Signed {
	head := c.log.Head
	return c.f.sign(c.t, Statement{Type: Checkpoint, Writer: c.log.Writer, Instance: c.log.Instance, Seq: head.Seq, Prev: head.Hash, Head: &head, Live: live, Kept: kept})
}
