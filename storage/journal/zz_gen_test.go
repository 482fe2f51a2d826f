package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"lifeboat/storage/seal"
)

func TestGen(t *testing.T) {
	if _, err := os.Stat("testdata/keys.txt"); err != nil {
		var b strings.Builder
		b.WriteString("# Keys of the vectors; they protect nothing else.\n")
		for _, n := range []string{"root", writerOne, writerTwo, "other"} {
			k, _ := seal.NewSigningKey()
			if n == "root" {
				k, _ = seal.NewRootKey()
			}
			fmt.Fprintf(&b, "%s %s\n", n, k.Reveal())
		}
		os.WriteFile("testdata/keys.txt", []byte(b.String()), 0o644)
	}
	f := newFixture(t)
	repo := hex.EncodeToString(f.repo[:])
	write := func(name, about, kind, expect string, doc []byte) {
		var b strings.Builder
		fmt.Fprintf(&b, "# %s\nkind: %s\n", about, kind)
		lines := strings.Split(string(doc), "\n")
		for i, l := range lines {
			if i == len(lines)-1 {
				if l != "" {
					fmt.Fprintf(&b, "end: %s\n", l)
				}
				break
			}
			fmt.Fprintf(&b, "line: %s\n", l)
		}
		fmt.Fprintf(&b, "expect: %s\n", expect)
		os.WriteFile("testdata/"+name+".txt", []byte(b.String()), 0o644)
	}
	ok := func(name, about string, s *Signed) {
		write(name, about, "statement", fmt.Sprintf("ok %s %d %x", s.Type, s.Seq, s.Hash[:4]), s.Bytes)
	}
	c := f.chain(t, writerOne, instance1, session1)
	ok("open", "the first statement of an instance", c.open(regionA, regionB))
	i := c.intent([]string{"one", "two"}, regionA, regionB)
	ok("intent-inline", "two manifests ride along", i)
	ok("ack", "complete in both regions", c.ack(i, []string{"one", "two"}, regionA, regionB))
	base := i.Ref()
	key := "manifests/" + writerOne + "/" + instance1 + "/0000000000030001-" + id("three") + ".age"
	ok("intent-key-base", "the manifest is an object; the packs are a difference", c.say(Statement{Type: Intent, Regions: []string{regionA},
		Snapshots: []Snapshot{{ID: id("three"), Key: key}}, Packs: &PackSet{Base: &base, Add: []string{pack("three")}, Drop: []string{pack("one")}}}))
	ok("forget", "one snapshot is given up", c.forget("one"))
	ok("drill", "with a sealed body, which this reader does not open", c.say(Statement{Type: Drill, Body: []byte("sealed"), BodyHash: id("salt and text")}))
	ok("end", "aborted", c.say(Statement{Type: End, Aborted: true}))
	ok("checkpoint", "stands for all of the above", c.checkpoint([]Live{{Snapshot: id("two"), Intent: base, Session: session1, Regions: []string{regionA, regionB}}}, []Ref{base}))
	ok("type-unknown", "a kind of statement that this reader does not know counts for nothing, and breaks nothing", c.say(Statement{Type: "later"}))

	// statements that are signed as they should be and say what cannot be
	say := func(name, about, expect string, change func(m map[string]any)) {
		st := Statement{V: 1, Type: Intent, Repo: repo, Writer: writerOne, Instance: instance1, Seq: 2, Prev: id("before"), Session: session1, At: at(),
			Regions: []string{regionA}, Snapshots: snapshots(true, "one"), Packs: &PackSet{Add: []string{pack("one")}}}
		text, _ := json.Marshal(st)
		var m map[string]any
		json.Unmarshal(text, &m)
		change(m)
		text, _ = json.Marshal(m)
		write(name, about, "statement", expect, seal.SignDocument(context, f.repo, text, f.keys[writerOne]))
	}
	say("member-unknown", "unknown members are ignored", "", func(m map[string]any) { m["later"] = []int{1} })
	say("version-2", "", "untrusted version 2", func(m map[string]any) { m["v"] = 2 })
	say("version-none", "", "untrusted version 0", func(m map[string]any) { delete(m, "v") })
	say("repo-other", "the text names another repository than the signature", "untrusted version 1 of repository", func(m map[string]any) { m["repo"] = id("x") })
	say("writer-other", "signed by one writer in the name of another", "untrusted signed by another writer", func(m map[string]any) { m["writer"] = writerTwo })
	say("writer-short", "", "untrusted signed by another writer", func(m map[string]any) { m["writer"] = writerOne[2:] })
	say("instance-short", "", "untrusted is not 16 bytes", func(m map[string]any) { m["instance"] = instance1[2:] })
	say("instance-upper-case", "one id, one spelling", "untrusted is not 16 bytes", func(m map[string]any) { m["instance"] = strings.Repeat("AB", 16) })
	say("seq-0", "", "untrusted sequence 0", func(m map[string]any) { m["seq"] = 0 })
	say("seq-1-with-prev", "", "untrusted sequence 1 after", func(m map[string]any) { m["seq"] = 1 })
	say("seq-2-without-prev", "", "untrusted sequence 2 after", func(m map[string]any) { m["prev"] = "" })
	say("seq-negative", "", "corrupt cannot unmarshal number -1", func(m map[string]any) { m["seq"] = -1 })
	say("at-no-time", "", "corrupt parsing time", func(m map[string]any) { m["at"] = "yesterday" })
	sn := func(v any) func(m map[string]any) { return func(m map[string]any) { m["snapshots"] = []any{v} } }
	say("snapshot-id-short", "", "untrusted snapshot id", sn(map[string]any{"id": id("one")[2:], "inline": "b25l"}))
	say("snapshot-id-upper-case", "", "untrusted snapshot id", sn(map[string]any{"id": strings.ToUpper(id("one")), "inline": "b25l"}))
	say("snapshot-inline-and-key", "", "untrusted both or neither", sn(map[string]any{"id": id("one"), "inline": "b25l", "key": key}))
	say("snapshot-neither", "", "untrusted both or neither", sn(map[string]any{"id": id("one")}))
	say("snapshot-not-its-hash", "the inline manifest is another one", "corrupt is not the hash of its inline manifest", sn(map[string]any{"id": id("one"), "inline": "dHdv"}))
	say("regions-65", "", "untrusted in 65 regions", func(m map[string]any) { m["regions"] = strings.Split(strings.Repeat(","+regionA, 65)[1:], ",") })
	cp := func(change func(m map[string]any)) func(m map[string]any) {
		return func(m map[string]any) {
			delete(m, "snapshots")
			delete(m, "packs")
			m["type"] = "checkpoint"
			m["head"] = map[string]any{"writer": writerOne, "instance": instance1, "seq": 2, "sha256": id("before")}
			change(m)
		}
	}
	say("checkpoint-no-head", "", "untrusted a checkpoint with number 2", cp(func(m map[string]any) { delete(m, "head") }))
	say("checkpoint-other-number", "", "untrusted a checkpoint with number 3", cp(func(m map[string]any) { m["seq"] = 3 }))
	say("checkpoint-live-no-hash", "", "untrusted it carries on", cp(func(m map[string]any) {
		m["live"] = []any{map[string]any{"id": id("one"), "intent": map[string]any{"seq": 1, "sha256": "00"}}}
	}))
	say("checkpoint-kept-129", "", "untrusted 129 others", cp(func(m map[string]any) {
		var k []any
		for n := range 129 {
			k = append(k, map[string]any{"seq": n, "sha256": ""})
		}
		m["kept"] = k
	}))

	// documents that are not signed as they should be
	good := f.sign(t, Statement{Type: Open, Writer: writerOne, Instance: instance1, Seq: 1, Session: session1, Regions: []string{regionA}})
	payload, _, _ := strings.Cut(string(good.Bytes), "\n")
	signer := strings.SplitAfter(string(good.Bytes), "\n")[1]
	write("signed-by-nobody", "by a key that the trust statement does not name", "statement", "untrusted unknown", seal.SignDocument(context, f.repo, []byte(payload), f.other))
	write("signed-by-the-root-key", "the root key signs trust, and nothing else", "statement", "untrusted unknown", seal.SignDocument(context, f.repo, []byte(payload), f.root))
	write("signed-as-trust", "a signature is good for one context", "statement", "untrusted signature", seal.SignDocument(trustContext, f.repo, []byte(payload), f.keys[writerOne]))
	write("signed-for-another-repository", "", "statement", "untrusted signature", seal.SignDocument(context, sha256.Sum256([]byte("x")), []byte(payload), f.keys[writerOne]))
	write("bit-flipped", "in the text", "statement", "untrusted signature", []byte(strings.Replace(payload, `"seq":1`, `"seq":3`, 1)+"\n"+signer))
	write("signature-of-zeros", "", "statement", "untrusted signature", []byte(payload+"\n"+signer[:32]+strings.Repeat("A", 86)+`=="}`+"\n"))
	write("signer-with-spaces", "the second line has one form", "statement", "untrusted malformed", []byte(payload+"\n"+strings.Replace(signer, `","sig":"`, `", "sig":"`, 1)))
	write("one-line", "", "statement", "untrusted not two lines", []byte(payload+"\n"))
	write("three-lines", "", "statement", "untrusted malformed", append([]byte(nil), append(good.Bytes, "x\n"...)...))
	write("no-last-newline", "", "statement", "untrusted not two lines", good.Bytes[:len(good.Bytes)-1])
	write("empty", "", "statement", "untrusted not two lines", nil)
	write("payload-no-json", "", "statement", "untrusted not JSON", []byte("hello\n"+signer))

	trust := func(name, about, expect string, key seal.SigningKey, change func(tr *Trust)) {
		tr := *f.statement(1)
		tr.V, tr.Type, tr.Repo = 1, "trust", repo
		change(&tr)
		text, _ := json.Marshal(tr)
		write(name, about, "trust", expect, seal.SignDocument(trustContext, f.repo, text, key))
	}
	trust("trust", "two writers, two regions", "ok 1 with 2 writers", f.root, func(*Trust) {})
	trust("trust-signed-by-a-writer", "only the root key says who is trusted", "untrusted unknown", f.keys[writerOne], func(*Trust) {})
	trust("trust-seq-0", "", "untrusted sequence 0", f.root, func(tr *Trust) { tr.Seq = 0 })
	trust("trust-version-2", "", "untrusted version 2", f.root, func(tr *Trust) { tr.V = 2 })
	trust("trust-other-type", "", "untrusted type \"journal\"", f.root, func(tr *Trust) { tr.Type = "journal" })
	trust("trust-other-repo", "", "untrusted version 1", f.root, func(tr *Trust) { tr.Repo = id("x") })
	trust("trust-min-reader-2", "an older statement must not be used instead", "new level 2 to read", f.root, func(tr *Trust) { tr.Seq, tr.MinReader = 2, 2 })
	st := f.sign(t, Statement{Type: Open, Writer: writerOne, Instance: instance1, Seq: 1, Regions: []string{regionA}})
	write("trust-is-a-statement", "", "trust", "untrusted unknown", st.Bytes)
}
