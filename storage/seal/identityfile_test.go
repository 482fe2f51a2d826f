package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"lifeboat/storage"
)

// testWork keeps scrypt quick in tests.
const testWork = 4

func answer(passphrase string) Ask {
	return func() (Secret, error) { return NewSecret(passphrase), nil }
}

func nobody(t *testing.T) Ask {
	return func() (Secret, error) {
		t.Error("asked for a passphrase without need")
		return Secret{}, errors.New("no")
	}
}

func TestReadIdentities(t *testing.T) {
	a, b := newIdentity(t, true), newIdentity(t, false)
	text := "# created: today\n# public key: " + b.Recipient().String() + "\n\n" + a.Reveal() + "\r\n  " + b.Reveal() + "  \n\n# end"
	for name, in := range map[string]string{"plain": text, "byte order mark": "\ufeff" + text} {
		ids, err := ReadIdentities(strings.NewReader(in), nobody(t))
		if err != nil || len(ids) != 2 || ids[0].Reveal() != a.Reveal() || ids[1].Reveal() != b.Reveal() {
			t.Errorf("%s: %d identities, %v", name, len(ids), err)
		}
	}
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "no secret key"},
		{"comments", "# a\n\n", "no secret key"},
		{"mistyped", "# x\n" + a.Reveal()[:70] + "\n", "line 2: malformed"},
		{"recipient", a.Recipient().String(), "line 1: this is a public key"},
		{"plugin", "AGE-PLUGIN-YUBIKEY-1QQQ", "plugin identities are not supported"},
		{"many", strings.Repeat(a.Reveal()+"\n", identitiesMax+1), "more than 256"},
		{"long line", "# " + strings.Repeat("x", identityLineMax) + "\n" + a.Reveal(), "longer than"},
		{"long file", strings.Repeat("#\n", identityFileMax/2+1), "longer than"},
	} {
		_, err := ReadIdentities(strings.NewReader(tt.in), nobody(t))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			continue
		}
		wantNoSecret(t, err.Error(), a.Reveal())
	}
}

func TestProtectedIdentities(t *testing.T) {
	id := newIdentity(t, false)
	armored, err := protect([]byte(id.Reveal()+"\n"), NewSecret("correct horse"), testWork)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(armored)))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"armored":        armored,
		"armored, moved": []byte("\r\n \n" + strings.ReplaceAll(string(armored), "\n", "\r\n") + "\r\n"),
		"binary":         binary,
	} {
		ids, err := ReadIdentities(bytes.NewReader(file), answer("correct horse"))
		if err != nil || len(ids) != 1 || ids[0].Reveal() != id.Reveal() {
			t.Errorf("%s: %v", name, err)
		}
		for _, wrong := range []string{"battery staple", ""} {
			_, err := ReadIdentities(bytes.NewReader(file), answer(wrong))
			if !errors.Is(err, ErrPassphrase) || errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "wrong passphrase") {
				t.Errorf("%s, passphrase %q: %v", name, wrong, err)
			}
		}
		if _, err := ReadIdentities(bytes.NewReader(file), nil); !errors.Is(err, ErrPassphraseNeeded) {
			t.Errorf("%s, nobody to ask: %v", name, err)
		}
		if _, err := ReadKit(bytes.NewReader(file)); !errors.Is(err, ErrPassphraseNeeded) {
			t.Errorf("%s, as a kit: %v", name, err)
		}
		gone := errors.New("terminal is gone")
		if _, err := ReadIdentities(bytes.NewReader(file), func() (Secret, error) { return Secret{}, gone }); !errors.Is(err, gone) {
			t.Errorf("%s, no answer: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"cut":             binary[:len(binary)-3],
		"cut armor":       armored[:len(armored)-10],
		"damaged payload": append(bytes.Clone(binary[:len(binary)-1]), binary[len(binary)-1]^1),
		"cut header":      binary[:40],
	} {
		if _, err := Unlock(file, answer("correct horse")); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestUnlockNeverAsksInVain(t *testing.T) {
	toKey, err := Wrap([]byte("x"), newIdentity(t, true).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Unlock(toKey, nobody(t))
	wantError(t, err, "encrypted to keys")

	protected, err := protect([]byte("x"), NewSecret("p"), testWork)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(protected)))
	if err != nil {
		t.Fatal(err)
	}
	heavy := bytes.Replace(binary, fmt.Appendf(nil, " %d\n", testWork), fmt.Appendf(nil, " %d\n", scryptWorkMax+1), 1)
	_, err = Unlock(heavy, nobody(t))
	wantError(t, err, "2^21 steps")
}

// TestProtectedForAge opens with age what Protect makes, with the real work.
func TestProtectedForAge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	file, err := Protect([]byte("plain"), NewSecret("p"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.NewScryptIdentity("p")
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(file)), id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	wantSame(t, "age", got, err, []byte("plain"))
	if _, err := Protect([]byte("plain"), Secret{}); err == nil {
		t.Error("an empty passphrase is taken")
	}
}
