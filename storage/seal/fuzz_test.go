package seal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"lifeboat/storage"
)

// FuzzOpen opens any bytes, and must agree with age about them.
func FuzzOpen(f *testing.F) {
	var ids []Identity
	var natives []age.Identity
	seen := map[string]bool{}
	for _, v := range readVectors(f).Files {
		f.Add(v.File)
		if seen[v.Identity] {
			continue
		}
		seen[v.Identity] = true
		id, err := ParseIdentity(v.Identity)
		if err != nil {
			f.Fatal(err)
		}
		ids, natives = append(ids, id), append(natives, id.age)
	}
	opener := NewOpener(ids...)
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := opener.Open(nil, file)
		if err != nil && !errors.Is(err, ErrNoKey) && !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("unexpected error: %v", err)
		}
		want, ageErr := openWithAge(file, natives)
		if (err == nil) != (ageErr == nil) && !overLimits(file) {
			t.Errorf("Open: %v, age: %v", err, ageErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Error("Open and age give different bytes")
		}
		if _, err := OpenWithKey(nil, file, FileKey{}); err == nil {
			t.Error("opened with a key of zeros")
		}
	})
}

func openWithAge(file []byte, ids []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// overLimits reports whether Open may refuse a file that age takes.
func overLimits(file []byte) bool {
	return len(file) > headerBytesMax || bytes.Count(file, []byte(stanzaStart)) > stanzasMax
}

// FuzzSeal seals any bytes, and opens them again in all three ways.
func FuzzSeal(f *testing.F) {
	id := newIdentity(f, true)
	s := newSealer(f, id.Recipient())
	opener := NewOpener(id)
	f.Add([]byte("x"), uint32(0))
	f.Add([]byte("abc"), uint32(blockPlain))
	f.Fuzz(func(t *testing.T, piece []byte, n uint32) {
		plain := bytes.Repeat(append(piece, 0), int(n)%(3*blockPlain)/(len(piece)+1)+1)
		file, key, err := s.Seal(nil, plain)
		if err != nil || len(file) != len(plain)+s.Overhead(len(plain)) {
			t.Fatalf("%d bytes give %d: %v", len(plain), len(file), err)
		}
		a, errA := opener.Open(nil, file)
		b, errB := OpenWithKey(nil, file, key)
		c, errC := openWithAge(file, []age.Identity{id.age})
		if err := errors.Join(errA, errB, errC); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, plain) || !bytes.Equal(b, plain) || !bytes.Equal(c, plain) {
			t.Error("other bytes come out")
		}
	})
}

// FuzzDocument: a document that verifies is the very one that was signed.
func FuzzDocument(f *testing.F) {
	v := readVectors(f).Signing
	k, err := ParseSigningKey(v.Writer)
	if err != nil {
		f.Fatal(err)
	}
	repo := [32]byte{0xab, 0xcd}
	f.Add([]byte(v.Document))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		// With the key of whoever claims to have signed, so that the parser is
		// reached in all its parts.
		payload, id, err := VerifyDocument(ContextJournal, repo, doc, func([8]byte) (VerifyKey, bool) { return k.Public(), true })
		if err != nil {
			return
		}
		if again := SignDocument(ContextJournal, repo, payload, k); !bytes.Equal(again, doc) || id != k.Public().KeyID() {
			t.Errorf("another document verifies: %q", doc)
		}
	})
}

// FuzzKit: a kit that is read can be written, and is read again as the same.
func FuzzKit(f *testing.F) {
	text, err := os.ReadFile("testdata/kit.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("# lifeboat-kit: 1\n# checksum: 00\n" + kitIdentity)
	f.Add("# a comment\n" + kitIdentity)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ReadKit(strings.NewReader(text))
		if err != nil || !k.HasPins() {
			return
		}
		var out bytes.Buffer
		if err := WriteKit(&out, k); err != nil {
			return // readable, but not what we would print
		}
		wantKit(t, out.String(), k)
	})
}

// FuzzIdentityFile reads any bytes, protected or not.
func FuzzIdentityFile(f *testing.F) {
	protected, err := protect([]byte(kitIdentity), NewSecret("p"), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(protected)
	f.Add([]byte("# c\n" + kitIdentity + "\n"))
	f.Add([]byte("\ufeff\n\n" + strings.ToLower(kitIdentity)))
	asked := errors.New("asked")
	f.Fuzz(func(t *testing.T, data []byte) {
		// Nobody answers: scrypt is age's, and slow.
		ids, err := ReadIdentities(bytes.NewReader(data), func() (Secret, error) { return Secret{}, asked })
		if (err == nil) != (len(ids) > 0) {
			t.Errorf("%d identities, %v", len(ids), err)
		}
		for _, id := range ids {
			if _, err := ParseIdentity(id.Reveal()); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzKeyTexts: a text that parses is one that we would write.
func FuzzKeyTexts(f *testing.F) {
	v := readVectors(f)
	for _, text := range []string{v.Signing.Root, v.Signing.Writer, v.Signing.RootPublic, kitIdentity, v.Domain.Text} {
		f.Add(text)
	}
	for text := range v.Fingerprints {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		trimmed := strings.TrimSpace(text)
		if k, err := ParseSigningKey(text); err == nil && k.Reveal() != strings.ToUpper(trimmed) {
			t.Error("signing key has two texts")
		}
		if k, err := ParseVerifyKey(text); err == nil && k.String() != trimmed {
			t.Error("public key has two texts")
		}
		if id, err := ParseIdentity(text); err == nil && id.Reveal() != strings.ToUpper(trimmed) {
			t.Error("identity has two texts")
		}
		if r, err := ParseRecipient(text); err == nil && r.String() != trimmed {
			t.Error("recipient has two texts")
		}
		if d, err := ParseDomain([]byte(text)); err == nil {
			if _, err := d.Marshal(); err != nil && !d.IsZero() {
				t.Error(err)
			}
		}
	})
}
