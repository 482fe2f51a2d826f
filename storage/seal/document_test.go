package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lifeboat/storage"
)

// only gives one key, for its own id.
func only(k VerifyKey) func([8]byte) (VerifyKey, bool) {
	return func(id [8]byte) (VerifyKey, bool) { return k, id == k.KeyID() }
}

func TestDocument(t *testing.T) {
	k, repo := testSigningKey(t), [32]byte{1, 2, 3}
	for _, payload := range []string{`{"seq":1}`, `1`, `"é\n"`, `[]`, ` {"a": "b"} `} {
		doc := SignDocument(ContextJournal, repo, []byte(payload), k)
		if want := fmt.Sprintf("%s\n{\"key\":\"%x\",\"sig\":\"", payload, k.Public().KeyID()); !strings.HasPrefix(string(doc), want) {
			t.Errorf("document %q does not begin with %q", doc, want)
		}
		got, id, err := VerifyDocument(ContextJournal, repo, doc, only(k.Public()))
		if err != nil || string(got) != payload || id != k.Public().KeyID() {
			t.Errorf("%s: got %s, %x, %v", payload, got, id, err)
		}
	}
}

func TestDocumentRefused(t *testing.T) {
	k, other, repo := testSigningKey(t), testSigningKey(t), [32]byte{1}
	doc := SignDocument(ContextJournal, repo, []byte(`{"seq":1}`), k)
	text := string(doc)
	lie := func([8]byte) (VerifyKey, bool) { return other.Public(), true }
	zero := func([8]byte) (VerifyKey, bool) { return VerifyKey{}, true }
	for name, tt := range map[string]struct {
		context string
		repo    [32]byte
		doc     string
		find    func([8]byte) (VerifyKey, bool)
		want    error
	}{
		"other context":       {ContextTrust, repo, text, only(k.Public()), ErrSignature},
		"other repository":    {ContextJournal, [32]byte{2}, text, only(k.Public()), ErrSignature},
		"other payload":       {ContextJournal, repo, strings.Replace(text, "1", "2", 1), only(k.Public()), ErrSignature},
		"unknown signer":      {ContextJournal, repo, text, only(other.Public()), ErrUnknownSigner},
		"find gives another":  {ContextJournal, repo, text, lie, ErrUnknownSigner},
		"find gives no key":   {ContextJournal, repo, text, zero, ErrUnknownSigner},
		"empty":               {ContextJournal, repo, "", only(k.Public()), storage.ErrCorrupt},
		"no newline at end":   {ContextJournal, repo, text[:len(text)-1], only(k.Public()), storage.ErrCorrupt},
		"two newlines at end": {ContextJournal, repo, text + "\n", only(k.Public()), storage.ErrCorrupt},
		"carriage return":     {ContextJournal, repo, strings.Replace(text, "\n", "\r\n", 1), only(k.Public()), storage.ErrCorrupt},
		"a third line":        {ContextJournal, repo, "{}\n" + text, only(k.Public()), storage.ErrCorrupt},
		"not JSON":            {ContextJournal, repo, "{" + text, only(k.Public()), storage.ErrCorrupt},
		"not UTF-8":           {ContextJournal, repo, strings.Replace(text, "seq", "s\xff", 1), only(k.Public()), storage.ErrCorrupt},
		"space in signer":     {ContextJournal, repo, strings.Replace(text, `{"key":`, `{"key": `, 1), only(k.Public()), storage.ErrCorrupt},
		"upper-case key id":   {ContextJournal, repo, upperKeyID(text), only(k.Public()), storage.ErrCorrupt},
		"no payload":          {ContextJournal, repo, text[strings.IndexByte(text, '\n'):], only(k.Public()), storage.ErrCorrupt},
		"signer only":         {ContextJournal, repo, text[strings.IndexByte(text, '\n')+1:], only(k.Public()), storage.ErrCorrupt},
		"loose base64":        {ContextJournal, repo, looseBase64(text), only(k.Public()), storage.ErrCorrupt},
	} {
		payload, _, err := VerifyDocument(tt.context, tt.repo, []byte(tt.doc), tt.find)
		if payload != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %q, %v, want %v", name, payload, err, tt.want)
		}
	}
}

// upperKeyID writes the key id in capitals and makes sure that it has letters.
func upperKeyID(doc string) string {
	at := strings.Index(doc, signerBefore) + len(signerBefore)
	return doc[:at] + "ABCDEF" + strings.ToUpper(doc[at+6:at+16]) + doc[at+16:]
}

// looseBase64 sets the bits of the last letter that encode nothing.
func looseBase64(doc string) string {
	at := strings.Index(doc, "==\"}") - 1
	letters := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return doc[:at] + string(letters[strings.IndexByte(letters, doc[at])|1]) + doc[at+1:]
}

func TestEveryFlippedBitOfADocumentIsNoticed(t *testing.T) {
	k, repo := testSigningKey(t), [32]byte{1}
	doc := SignDocument(ContextGC, repo, []byte(`{"n":1}`), k)
	for i := range doc {
		for bit := range 8 {
			bad := bytes.Clone(doc)
			bad[i] ^= 1 << bit
			if _, _, err := VerifyDocument(ContextGC, repo, bad, only(k.Public())); err == nil {
				t.Fatalf("bit %d of byte %d: no error", bit, i)
			}
		}
	}
}

func TestSigningMistakesPanic(t *testing.T) {
	k := testSigningKey(t)
	for name, f := range map[string]func(){
		"no key":        func() { SignBytes(ContextIndex, [32]byte{}, nil, SigningKey{}) },
		"bad context":   func() { SignBytes("a/b", [32]byte{}, nil, k) },
		"empty context": func() { SignBytes("", [32]byte{}, nil, k) },
		"two lines":     func() { SignDocument(ContextGC, [32]byte{}, []byte("{\n}"), k) },
		"not JSON":      func() { SignDocument(ContextGC, [32]byte{}, []byte("x"), k) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestSignBytes(t *testing.T) {
	k, repo := testSigningKey(t), [32]byte{9}
	sig := SignBytes(ContextIndex, repo, []byte("payload"), k)
	if len(sig) != SignatureSize {
		t.Errorf("signature of %d bytes", len(sig))
	}
	if err := VerifyBytes(ContextIndex, repo, []byte("payload"), sig, k.Public()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"context":   VerifyBytes(ContextGC, repo, []byte("payload"), sig, k.Public()),
		"repo":      VerifyBytes(ContextIndex, [32]byte{}, []byte("payload"), sig, k.Public()),
		"payload":   VerifyBytes(ContextIndex, repo, []byte("payloae"), sig, k.Public()),
		"signature": VerifyBytes(ContextIndex, repo, []byte("payload"), sig[1:], k.Public()),
		"key":       VerifyBytes(ContextIndex, repo, []byte("payload"), sig, testSigningKey(t).Public()),
		"no key":    VerifyBytes(ContextIndex, repo, []byte("payload"), sig, VerifyKey{}),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("other %s: %v", name, err)
		}
	}
}
