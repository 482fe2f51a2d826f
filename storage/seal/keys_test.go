package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestIdentityTexts(t *testing.T) {
	for _, classic := range []bool{true, false} {
		id := newIdentity(t, classic)
		again, err := ParseIdentity(" " + id.Reveal() + "\n")
		if err != nil || again.Reveal() != id.Reveal() || again.Recipient().String() != id.Recipient().String() {
			t.Errorf("classic %v: identity does not survive its text: %v", classic, err)
		}
		if again, err = ParseIdentity(strings.ToLower(id.Reveal())); err != nil || again.Reveal() != id.Reveal() {
			t.Errorf("classic %v: identity in lower case: %v", classic, err)
		}
		r, err := ParseRecipient(id.Recipient().String())
		if err != nil || r.String() != id.Recipient().String() || r.Hybrid() == classic || len(r.Fingerprint()) != 16 {
			t.Errorf("classic %v: recipient does not survive its text: %v", classic, err)
		}
		var fromJSON struct{ R Recipient }
		encoded, err := json.Marshal(struct{ R Recipient }{r})
		if err == nil {
			err = json.Unmarshal(encoded, &fromJSON)
		}
		if err != nil || fromJSON.R.String() != r.String() {
			t.Errorf("classic %v: recipient does not survive JSON: %v", classic, err)
		}
	}
}

func TestBadKeyTexts(t *testing.T) {
	id, signing := newIdentity(t, false), testSigningKey(t)
	secret := id.Reveal()
	public := id.Recipient().String()
	mistyped := func(s string) string {
		if s[40] == '2' {
			return s[:40] + "3" + s[41:]
		}
		return s[:40] + "2" + s[41:]
	}
	for _, tt := range []struct{ text, want string }{
		{"", "not an age identity"},
		{public, "this is a public key"},
		{secret[:len(secret)-1], "malformed"},
		{secret[:30] + "B" + secret[31:], "malformed"}, // not a letter of Bech32
		{mistyped(secret), "malformed"},
		{mistyped(strings.ToLower(secret)), "malformed"},
		{"AGE-PLUGIN-YUBIKEY-1QQQ", "plugin"},
		{"ssh-ed25519 AAAA", "not an age identity"},
	} {
		_, err := ParseIdentity(tt.text)
		wantError(t, err, tt.want)
		wantNoSecret(t, err.Error(), secret)
	}
	for _, tt := range []struct{ text, want string }{
		{"", "want age1"},
		{secret, "this is a secret key"},
		{strings.ToLower(secret), "this is a secret key"},
		{public[:100], "bad checksum"},
		{"age1qqqq", "bad checksum"},
		{"age1yubikey1qqqq", "bad checksum"},
		{"ssh-ed25519 AAAA", "not supported"},
	} {
		_, err := ParseRecipient(tt.text)
		wantError(t, err, tt.want)
		wantNoSecret(t, err.Error(), secret)
	}
	for _, tt := range []struct{ text, want string }{
		{"", "want LIFEBOAT-ROOT-KEY-1"},
		{signing.Public().String(), "this is a public key"},
		{mistyped(signing.Reveal()), "bad checksum"},
		{strings.Replace(signing.Reveal(), "WRITER", "ROOT", 1), "bad checksum"},
		{signing.Reveal() + "Q", "bad checksum"},
		{"l" + signing.Reveal()[1:], "bad checksum"},
	} {
		_, err := ParseSigningKey(tt.text)
		wantError(t, err, tt.want)
		wantNoSecret(t, err.Error(), signing.Reveal())
	}
	for _, tt := range []struct{ text, want string }{
		{"", "bad checksum"},
		{signing.Reveal(), "this is a secret key"},
		{mistyped(signing.Public().String()), "bad checksum"},
		{strings.ToUpper(signing.Public().String()), "bad checksum"},
		{VerifyKey{}.String(), "all zero"},
	} {
		_, err := ParseVerifyKey(tt.text)
		wantError(t, err, tt.want)
	}
}

func testSigningKey(t testing.TB) SigningKey {
	t.Helper()
	k, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want an error with %q", err, want)
	}
}

// wantNoSecret looks for any run of 12 characters of a secret, behind its prefix.
func wantNoSecret(t *testing.T, text, secret string) {
	t.Helper()
	text, secret = strings.ToUpper(text), strings.ToUpper(secret)
	_, body, _ := strings.Cut(secret, "1")
	for i := 0; i+12 <= len(body); i++ {
		if strings.Contains(text, body[i:i+12]) {
			t.Fatalf("a secret shows in %q", text)
		}
	}
}

func TestSigningKeyTexts(t *testing.T) {
	root, err := NewRootKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []SigningKey{root, testSigningKey(t)} {
		for _, text := range []string{k.Reveal(), strings.ToLower(k.Reveal()), " " + k.Reveal() + "\r\n"} {
			again, err := ParseSigningKey(text)
			if err != nil || again.Reveal() != k.Reveal() || again.Root() != k.Root() || again.Public() != k.Public() {
				t.Errorf("key does not survive its text: %v", err)
			}
		}
		public, err := ParseVerifyKey(k.Public().String())
		if err != nil || public != k.Public() || public.KeyID() != k.Public().KeyID() {
			t.Errorf("public key does not survive its text: %v", err)
		}
	}
	if !strings.HasPrefix(root.Reveal(), "LIFEBOAT-ROOT-KEY-1") || !strings.HasPrefix(root.Public().String(), "lbr1") {
		t.Errorf("unexpected prefixes: %s", root.Public())
	}
	if (SigningKey{}).Reveal() != "" || !(SigningKey{}).Public().IsZero() {
		t.Error("the zero key has a text or a public half")
	}
}

// TestBech32 uses the one valid string of BIP 173 that has 32 bytes of data.
func TestBech32(t *testing.T) {
	const text = "11" + "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
	zero := encodeBech32("1", [32]byte{})
	if !strings.HasPrefix(zero, text) {
		t.Errorf("zeros are %s", zero)
	}
	// Every single wrong character is found.
	k := testSigningKey(t).Public()
	good := k.String()
	for i := range good {
		for _, c := range bech32Letters {
			bad := good[:i] + string(c) + good[i+1:]
			if _, err := ParseVerifyKey(bad); (err == nil) != (bad == good) {
				t.Fatalf("%s with %c at %d: %v", good, c, i, err)
			}
		}
	}
}

// TestSecretsDoNotPrint prints every secret type in every way that comes to mind.
func TestSecretsDoNotPrint(t *testing.T) {
	domain, err := NewDomain(true)
	if err != nil {
		t.Fatal(err)
	}
	id, signing := newIdentity(t, false), testSigningKey(t)
	kit := Kit{RepoURLs: []string{"s3://b"}, Identity: id, CreatedAt: time.Unix(0, 0)}
	var key FileKey
	copy(key[:], "0123456789abcdef")
	needles := []string{id.Reveal(), signing.Reveal(), domain.Index.Reveal(), "x1swordfish sword", "x1" + fmt.Sprint([16]byte(key)), fmt.Sprintf("x1%x", [16]byte(key)), "x1" + fmt.Sprint(domain.secret)}
	values := []any{NewSecret("swordfish sword"), id, signing, domain, kit, key}
	for _, v := range values {
		for _, p := range []any{v, &v, []any{v}, struct{ V any }{v}, map[string]any{"k": v}, fmt.Errorf("wrapped: %v", v)} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t", "%c"} {
				for _, secret := range needles {
					wantNoSecret(t, fmt.Sprintf(verb, p), secret)
				}
			}
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range needles {
			wantNoSecret(t, string(encoded), secret)
		}
	}
}

func TestDomain(t *testing.T) {
	for _, classic := range []bool{true, false} {
		d, err := NewDomain(classic)
		if err != nil {
			t.Fatal(err)
		}
		data, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseDomain(data)
		if err != nil {
			t.Fatal(err)
		}
		if again.Index.Reveal() != d.Index.Reveal() || again.ChunkKey(DataChunks) != d.ChunkKey(DataChunks) ||
			again.ChunkKey(MetaChunks) != d.ChunkKey(MetaChunks) || again.GearSeed() != d.GearSeed() || again.PathSeed() != d.PathSeed() {
			t.Error("domain does not survive its text")
		}
		if d.ChunkKey(DataChunks) == d.ChunkKey(MetaChunks) || d.ChunkKey(DataChunks) == d.GearSeed() {
			t.Error("derived keys repeat")
		}
		for _, bad := range []string{
			"", "{}", "null", string(data) + "{}", string(data[:len(data)-1]),
			strings.Replace(string(data), `"version":1`, `"version":2`, 1),
			strings.Replace(string(data), `"version"`, `"x":1,"version"`, 1),
			strings.Replace(string(data), "AGE-SECRET", "AGE-PUBLIC", 1),
			strings.Replace(string(data), `"secret":"`, `"secret":"AAAA`, 1),
			strings.Repeat(" ", domainBytesMax+1),
		} {
			_, err := ParseDomain([]byte(bad))
			if err == nil {
				t.Errorf("no error for %.40q", bad)
				continue
			}
			wantNoSecret(t, err.Error(), d.Index.Reveal())
		}
	}
	if _, err := (Domain{}).Marshal(); err == nil {
		t.Error("an empty domain can be written")
	}
}

func TestErrorsAreDistinct(t *testing.T) {
	all := []error{ErrNoKey, ErrPassphrase, ErrPassphraseNeeded, ErrSignature, ErrUnknownSigner, ErrKit}
	for i, a := range all {
		for j, b := range all {
			if (i == j) != errors.Is(a, b) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}
