package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"lifeboat/storage"
)

// vectors is testdata/vectors.json: what version 1 of the format means. Other
// implementations may use it; it does not change. Its keys protect nothing.
type vectors struct {
	Files        []fileVector      `json:"files"`
	Signing      signingVector     `json:"signing"`
	Domain       domainVector      `json:"domain"`
	Fingerprints map[string]string `json:"fingerprints"` // recipient to fingerprint
}

// fileVector is an age file, and how an identity fares with it: "ok", "no key"
// or "corrupt". Those that are ok were made by age itself.
type fileVector struct {
	Name     string `json:"name"`
	Expect   string `json:"expect"`
	Identity string `json:"identity"`
	Bytes    int    `json:"bytes,omitempty"`  // of plaintext
	SHA256   string `json:"sha256,omitempty"` // of the plaintext
	File     []byte `json:"file"`
}

type signingVector struct {
	Root           string `json:"root"`
	RootPublic     string `json:"root_public"`
	Writer         string `json:"writer"`
	WriterPublic   string `json:"writer_public"`
	WriterKeyID    string `json:"writer_key_id"`
	Repo           string `json:"repo"`
	Document       string `json:"document"` // context journal, signed by the writer
	IndexPayload   string `json:"index_payload"`
	IndexSignature []byte `json:"index_signature"` // context index, by the writer
}

type domainVector struct {
	Text     string `json:"text"`
	DataKey  string `json:"data_key"`
	MetaKey  string `json:"meta_key"`
	GearSeed string `json:"gear_seed"`
	PathSeed string `json:"path_seed"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFileVectors(t *testing.T) {
	for _, f := range readVectors(t).Files {
		id, err := ParseIdentity(f.Identity)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := NewOpener(id).Open(nil, f.File)
		got := "ok"
		switch {
		case errors.Is(err, ErrNoKey):
			got = "no key"
		case errors.Is(err, storage.ErrCorrupt):
			got = "corrupt"
		case err != nil:
			got = err.Error()
		}
		if got != f.Expect {
			t.Errorf("%s: %s, want %s", f.Name, got, f.Expect)
		}
		sum := sha256.Sum256(plain)
		if f.Expect == "ok" && (len(plain) != f.Bytes || hex.EncodeToString(sum[:]) != f.SHA256) {
			t.Errorf("%s: other plaintext", f.Name)
		}
	}
}

func TestSigningVectors(t *testing.T) {
	v := readVectors(t).Signing
	root, errRoot := ParseSigningKey(v.Root)
	writer, errWriter := ParseSigningKey(v.Writer)
	repo, errRepo := hex.DecodeString(v.Repo)
	if err := errors.Join(errRoot, errWriter, errRepo); err != nil {
		t.Fatal(err)
	}
	if !root.Root() || writer.Root() || root.Public().String() != v.RootPublic || writer.Public().String() != v.WriterPublic {
		t.Error("public keys differ")
	}
	if got := fmt.Sprintf("%x", writer.Public().KeyID()); got != v.WriterKeyID {
		t.Errorf("key id %s, want %s", got, v.WriterKeyID)
	}
	payload, _, err := VerifyDocument(ContextJournal, [32]byte(repo), []byte(v.Document), only(writer.Public()))
	if err != nil {
		t.Fatal(err)
	}
	if got := SignDocument(ContextJournal, [32]byte(repo), payload, writer); string(got) != v.Document {
		t.Errorf("document is now %q", got)
	}
	if err := VerifyBytes(ContextIndex, [32]byte(repo), []byte(v.IndexPayload), v.IndexSignature, writer.Public()); err != nil {
		t.Error(err)
	}
}

func TestDomainVectors(t *testing.T) {
	v := readVectors(t)
	d, err := ParseDomain([]byte(v.Domain.Text))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := d.Marshal(); err != nil || string(text) != v.Domain.Text {
		t.Errorf("text differs, %v", err)
	}
	got := domainVector{
		Text:     v.Domain.Text,
		DataKey:  fmt.Sprintf("%x", d.ChunkKey(DataChunks)),
		MetaKey:  fmt.Sprintf("%x", d.ChunkKey(MetaChunks)),
		GearSeed: fmt.Sprintf("%x", d.GearSeed()),
		PathSeed: fmt.Sprintf("%016x", d.PathSeed()),
	}
	if got != v.Domain {
		t.Errorf("derived keys are now %+v", got)
	}
	for text, want := range v.Fingerprints {
		r, err := ParseRecipient(text)
		if err != nil || r.Fingerprint() != want {
			t.Errorf("fingerprint %s, want %s, %v", r.Fingerprint(), want, err)
		}
	}
}
