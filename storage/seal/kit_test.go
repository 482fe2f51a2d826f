package seal

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"rsc.io/qr"
)

// Keys of the kit in testdata; they protect nothing.
const (
	kitIdentity = "AGE-SECRET-KEY-PQ-1R76GLP3CQLQ0LJHU8MVW5K0DMARRNM35NH3KV6GRPST8DM82VU9SGJUDU5"
	kitRoot     = "LIFEBOAT-ROOT-KEY-1WJEUHU0X7QKY9SK0DERKMGUW2P90CYCA2HSQ2J3ZESTR5D2PUNVS3XM6HV"
)

func testKit(t testing.TB) Kit {
	t.Helper()
	id, err := ParseIdentity(kitIdentity)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ParseSigningKey(kitRoot)
	if err != nil {
		t.Fatal(err)
	}
	k := Kit{
		RepoURLs: []string{
			"s3://acme-dr-fra/lifeboat?endpoint=https%3A%2F%2Fs3.example.org&region=eu-central-1",
			"/mnt/vault/it's here",
		},
		RootPublic: root.Public(),
		Identity:   id,
		CreatedAt:  time.Date(2026, 3, 1, 14, 30, 5, 0, time.FixedZone("", 3600)),
		Version:    "1.0.0",
	}
	for i := range k.RepoID {
		k.RepoID[i] = byte(i * 7)
	}
	return k
}

func writeKit(t testing.TB, k Kit) string {
	t.Helper()
	var out bytes.Buffer
	if err := WriteKit(&out, k); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func wantKit(t *testing.T, text string, want Kit) {
	t.Helper()
	got, err := ReadKit(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.RepoURLs, want.RepoURLs) || got.RepoID != want.RepoID || got.RootPublic != want.RootPublic ||
		got.Identity.Reveal() != want.Identity.Reveal() || !got.CreatedAt.Equal(want.CreatedAt) || got.Version != want.Version ||
		len(got.More) != 0 || !got.HasPins() || len(got.Identities()) != 1 {
		t.Error("the kit is not what was written")
	}
}

// TestKitGolden holds the text: papers in drawers do not change.
func TestKitGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/kit.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := writeKit(t, testKit(t)); got != string(want) {
		t.Errorf("kit is now:\n%s", got)
	}
	wantKit(t, string(want), testKit(t))
}

func TestKitIsAnIdentityFile(t *testing.T) {
	k := testKit(t)
	for _, classic := range []bool{true, false} {
		k.Identity = newIdentity(t, classic)
		text := writeKit(t, k)
		wantKit(t, text, k)
		ids, err := age.ParseIdentities(strings.NewReader(text))
		if err != nil || len(ids) != 1 {
			t.Fatalf("age: %v", err)
		}
		file, err := Wrap([]byte("domain"), k.Identity.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := age.Decrypt(bytes.NewReader(file), ids...); err != nil {
			t.Errorf("age: %v", err)
		}
		ours, err := ReadIdentities(strings.NewReader(text), nil)
		if err != nil || len(ours) != 1 || ours[0].Reveal() != k.Identity.Reveal() {
			t.Errorf("as an identity file: %v", err)
		}
		for line := range strings.Lines(text) {
			if len([]rune(line)) > 240 || strings.HasPrefix(line, "#") != (line != k.Identity.Reveal()+"\n") {
				t.Errorf("line %q", line)
			}
		}
	}
}

func TestKitSaysWhatToDo(t *testing.T) {
	text := writeKit(t, testKit(t))
	for _, want := range []string{
		`lifeboat snapshots --repo 's3://acme-dr-fra/lifeboat?endpoint=https%3A%2F%2Fs3.example.org&region=eu-central-1' --repo '/mnt/vault/it'\''s here' --identity-file THISFILE`,
		`lifeboat restore NAME --to DIR --repo 's3://acme-dr-fra/lifeboat?endpoint=https%3A%2F%2Fs3.example.org&region=eu-central-1' --repo '/mnt/vault/it'\''s here' --identity-file THISFILE`,
		"RECOVERY.txt", "age (1.3 or newer)", "# created: 2026-03-01T13:30:05Z\n", "# root-key: lbr1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestKitSurvivesHandling: what paper, editors and mail do to a kit.
func TestKitSurvivesHandling(t *testing.T) {
	k := testKit(t)
	text := writeKit(t, k)
	var typed strings.Builder // without instructions and code, in other cases and spacing
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ": "); ok && strings.Count(name, " ") == 1 {
			if strings.Contains(name, "checksum") {
				value = strings.ToUpper(strings.ReplaceAll(value, " ", "  "))
			}
			typed.WriteString("#" + name[2:] + " :  " + value)
		}
	}
	typed.WriteString(strings.ToLower(k.Identity.Reveal()))
	for name, in := range map[string]string{
		"other line ends": strings.ReplaceAll(text, "\n", "\r\n"),
		"byte order mark": "\ufeff" + text,
		"notes":           "# copy 2 of 3, safe in Lyon\n" + text + "\n\n# tested in May\n",
		"typed":           typed.String(),
		"torn code":       strings.ReplaceAll(text, "█", "?"),
	} {
		t.Run(name, func(t *testing.T) { wantKit(t, in, k) })
	}
}

func TestDamagedKit(t *testing.T) {
	k := testKit(t)
	text := writeKit(t, k)
	without := func(name string) string {
		var out strings.Builder
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "# "+name+":") {
				out.WriteString(line)
			}
		}
		return out.String()
	}
	other := testKit(t)
	other.Identity = newIdentity(t, false)
	for name, in := range map[string]string{
		"wrong region in a URL": strings.Replace(text, "# repository-url: s3://acme-dr-fra", "# repository-url: s3://acme-dr-fro", 1),
		"wrong repository id":   strings.Replace(text, "# repository-id: 00070e", "# repository-id: 00070f", 1),
		"short repository id":   strings.Replace(text, "# repository-id: 00", "# repository-id: ", 1),
		"wrong date":            strings.Replace(text, "# created: 2026", "# created: 2025", 1),
		"no date":               strings.Replace(text, "# created: 2026", "# created: March", 1),
		"other root key":        strings.Replace(text, k.RootPublic.String(), testSigningKey(t).Public().String(), 1),
		"mistyped root key":     strings.Replace(text, "# root-key: lbr1", "# root-key: lbr1q", 1),
		"other identity":        strings.Replace(text, k.Identity.Reveal(), other.Identity.Reveal(), 1),
		"mistyped identity":     strings.Replace(text, k.Identity.Reveal(), k.Identity.Reveal()[:60], 1),
		"no identity":           strings.Replace(text, k.Identity.Reveal(), "", 1),
		"two identities":        text + other.Identity.Reveal(),
		"wrong checksum":        strings.Replace(text, "# checksum: ", "# checksum: 0", 1),
		"no checksum":           without(kitLineChecksum),
		"no URLs":               without(kitLineURL),
		"no root key":           without(kitLineRoot),
		"no version":            without(kitLineVersion),
		"two root keys":         text + "# root-key: x\n",
	} {
		_, err := ReadKit(strings.NewReader(in))
		if !errors.Is(err, ErrKit) || !strings.Contains(err.Error(), "damaged or mistyped kit") {
			t.Errorf("%s: %v, want ErrKit", name, err)
			continue
		}
		wantNoSecret(t, err.Error(), k.Identity.Reveal())
	}
	_, err := ReadKit(strings.NewReader(strings.Replace(text, "# lifeboat-kit: 1", "# lifeboat-kit: 2", 1)))
	wantError(t, err, "recovery kit of version 2")
}

func TestPlainFileAsKit(t *testing.T) {
	a, b := newIdentity(t, true), newIdentity(t, false)
	k, err := ReadKit(strings.NewReader("# my key: good\n" + a.Reveal() + "\n" + b.Reveal()))
	if err != nil || k.HasPins() || len(k.Identities()) != 2 || k.Identity.Reveal() != a.Reveal() || k.More[0].Reveal() != b.Reveal() {
		t.Errorf("plain identity file: %v", err)
	}
	for _, in := range []string{"", "# nothing", "hello"} {
		if _, err := ReadKit(strings.NewReader(in)); err == nil || errors.Is(err, ErrKit) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestWriteKitRefuses(t *testing.T) {
	for name, change := range map[string]func(*Kit){
		"no URLs":         func(k *Kit) { k.RepoURLs = nil },
		"empty URL":       func(k *Kit) { k.RepoURLs[0] = "" },
		"two lines":       func(k *Kit) { k.RepoURLs[0] = "s3://a\n# root-key: x" },
		"password":        func(k *Kit) { k.RepoURLs[0] = "sftp://me:swordfish@host/x" },
		"secret option":   func(k *Kit) { k.RepoURLs[0] = "s3://b/p?secret_access_key=swordfish" },
		"escaped option":  func(k *Kit) { k.RepoURLs[0] = "s3://b/p?acc%65ss_key=swordfish" },
		"endpoint":        func(k *Kit) { k.RepoURLs[0] = "s3://b/p?endpoint=https%3A%2F%2Fme%3Aswordfish%40host" },
		"broken options":  func(k *Kit) { k.RepoURLs[0] = "s3://b/p?a=%zzswordfish" },
		"no id":           func(k *Kit) { k.RepoID = [32]byte{} },
		"no root key":     func(k *Kit) { k.RootPublic = VerifyKey{} },
		"no identity":     func(k *Kit) { k.Identity = Identity{} },
		"more identities": func(k *Kit) { k.More = []Identity{k.Identity} },
		"no date":         func(k *Kit) { k.CreatedAt = time.Time{} },
		"no version":      func(k *Kit) { k.Version = "" },
		"blank version":   func(k *Kit) { k.Version = " 1" },
	} {
		k := testKit(t)
		change(&k)
		var out bytes.Buffer
		if err := WriteKit(&out, k); err == nil || out.Len() != 0 || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %v, %d bytes written", name, err, out.Len())
		}
	}
	k := testKit(t)
	k.RepoURLs = []string{"sftp://backup@host/x", "s3://b/p?profile=dr"}
	wantKit(t, writeKit(t, k), k)
}

// TestCode reads the half blocks back into modules.
func TestCode(t *testing.T) {
	text := testKit(t).Identity.Reveal()
	want, err := qr.Encode(text, qr.Q)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := qrRows(text)
	if err != nil {
		t.Fatal(err)
	}
	if want.Size > 41 || len(rows) != (want.Size+2*qrQuiet+1)/2 {
		t.Errorf("%d modules in %d rows", want.Size, len(rows))
	}
	for y, row := range rows {
		for x, r := range []rune(row) {
			upper, lower := r == '▀' || r == '█', r == '▄' || r == '█'
			mx, my := x-qrQuiet, 2*y-qrQuiet
			if upper != want.Black(mx, my) || lower != want.Black(mx, my+1) {
				t.Fatalf("module %d,%d is wrong", mx, my)
			}
		}
	}
}
