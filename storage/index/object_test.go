package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

// sealing is what a writer and a reader of index objects have.
type sealing struct {
	key    seal.SigningKey
	sealer *seal.Sealer
	open   pack.Open
	enc    *pack.Encoder
	dec    *pack.Decoder
}

func newSealing(t testing.TB) sealing {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var s sealing
	id, err := seal.NewIdentity(false)
	must(err)
	s.key, err = seal.NewSigningKey()
	must(err)
	s.sealer, err = seal.NewSealer(id.Recipient())
	must(err)
	s.enc, err = pack.NewEncoder()
	must(err)
	s.dec, err = pack.NewDecoder()
	must(err)
	t.Cleanup(s.dec.Close)
	s.open = seal.NewOpener(id).Open
	return s
}

func someObject() *Object {
	return &Object{Repo: [32]byte{1}, Writer: self, Instance: [16]byte{3}, Seq: 300, Domain: 1,
		Packs: []PackRecord{record(1, 10, 4), record(100, 1, 1)}}
}

func expect(o *Object) Expect {
	return Expect{Repo: o.Repo, Writer: o.Writer, Instance: o.Instance, Seq: o.Seq}
}

func TestObjectRoundTrip(t *testing.T) {
	s := newSealing(t)
	for _, o := range []*Object{someObject(), {Packs: []PackRecord{}}} {
		file, err := EncodeObject(o, s.key, s.enc, s.sealer)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeObject(file, expect(o), s.key.Public(), s.dec, s.open)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, o) {
			t.Errorf("got %+v, want %+v", got, o)
		}
	}
}

func TestObjectRefused(t *testing.T) {
	s := newSealing(t)
	o := someObject()
	file, err := EncodeObject(o, s.key, s.enc, s.sealer)
	if err != nil {
		t.Fatal(err)
	}
	other := newSealing(t)
	if _, err := DecodeObject(file, expect(o), s.key.Public(), s.dec, other.open); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("wrong identity: %v", err)
	}
	if _, err := DecodeObject(file, expect(o), other.key.Public(), s.dec, s.open); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("wrong signer: %v", err)
	}
	for name, spoil := range map[string]func(*Expect){
		"writer":   func(e *Expect) { e.Writer[0]++ },
		"instance": func(e *Expect) { e.Instance[0]++ },
		"seq":      func(e *Expect) { e.Seq++ },
	} {
		want := expect(o)
		spoil(&want)
		if _, err := DecodeObject(file, want, s.key.Public(), s.dec, s.open); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	elsewhere := expect(o)
	elsewhere.Repo[0]++
	if _, err := DecodeObject(file, elsewhere, s.key.Public(), s.dec, s.open); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("other repository: %v", err)
	}
	for i := 0; i < len(file); i += 61 {
		bad := bytes.Clone(file)
		bad[i] ^= 4
		if _, err := DecodeObject(bad, expect(o), s.key.Public(), s.dec, s.open); err == nil {
			t.Errorf("flipped bit in byte %d of %d went unseen", i, len(file))
		}
	}
	if _, err := DecodeObject(file[:len(file)/2], expect(o), s.key.Public(), s.dec, s.open); err == nil {
		t.Error("half an object was taken")
	}
	if _, err := DecodeObject(make([]byte, ObjectMax+1), expect(o), s.key.Public(), s.dec, s.open); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("too long: %v", err)
	}
}

// Objects are filled up to ObjectRoom and not beyond, and then do fit.
func TestObjectRoom(t *testing.T) {
	s := newSealing(t)
	o := &Object{}
	room := 0
	for i := uint64(0); ; i++ {
		r := record(i*100_000, 2000, 1+int(i%50))
		if room+r.Room() > ObjectRoom {
			break
		}
		room += r.Room()
		o.Packs = append(o.Packs, r)
	}
	file, err := EncodeObject(o, s.key, s.enc, s.sealer)
	if err != nil || len(file) > ObjectMax {
		t.Fatalf("%d bytes, %v", len(file), err)
	}
	if _, err := DecodeObject(file, expect(o), s.key.Public(), s.dec, s.open); err != nil {
		t.Fatal(err)
	}
	o.Packs = append(o.Packs, record(1<<40, 5000, 100))
	if _, err := EncodeObject(o, s.key, s.enc, s.sealer); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much: %v", err)
	}
	o.Packs = []PackRecord{{}}
	if _, err := EncodeObject(o, s.key, s.enc, s.sealer); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("bad record: %v", err)
	}
}

// Vectors: each file of testdata/objects is the hexadecimal of a payload (the
// CBOR that is signed), and its name says how it must read: ok-…, corrupt-….
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/objects/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		o, err := decodePayload(readHex(t, file))
		switch {
		case strings.HasPrefix(name, "ok-"):
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			again, err := encodePayload(o)
			if err != nil || !bytes.Equal(again, readHex(t, file)) {
				t.Errorf("%s: encodes to %x, %v", name, again, err)
			}
		case !errors.Is(err, storage.ErrCorrupt):
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	o, err := decodePayload(readHex(t, "testdata/objects/ok-two-packs.hex"))
	if err != nil || !reflect.DeepEqual(o, vectorObject()) {
		t.Errorf("ok-two-packs: %+v, %v", o, err)
	}
}

func readHex(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return data
}

// vectorObject is what ok-two-packs.hex says, in simple numbers.
func vectorObject() *Object {
	id := func(b byte) (id pack.ChunkID) {
		for i := range id {
			id[i] = b
		}
		return id
	}
	return &Object{
		Repo: id(0x11), Writer: Writer(bytes.Repeat([]byte{0x22}, 16)), Instance: [16]byte(bytes.Repeat([]byte{0x33}, 16)),
		Seq: 7, Domain: 1,
		Packs: []PackRecord{
			{Hash: pack.Hash(id(0x44)), Kind: pack.Data, Size: 1 << 20, Frames: []pack.Frame{
				{Offset: 512, Length: 70000, Plain: 100000, Epoch: 1, Chunks: []pack.Chunk{{ID: id(0xa1), Length: 60000}, {ID: id(0xa2), Length: 40000}}},
				{Offset: 71168, Length: 300, Plain: 5, Epoch: 2, Chunks: []pack.Chunk{{ID: id(0xa3), Length: 5}}},
			}},
			{Hash: pack.Hash(id(0x55)), Kind: pack.Meta, Size: 4096, Frames: []pack.Frame{
				{Offset: 512, Length: 1000, Plain: 2000, Epoch: 1, Chunks: []pack.Chunk{{ID: id(0xb1), Length: 2000}}},
			}},
		},
	}
}

func FuzzPayload(f *testing.F) {
	files, _ := filepath.Glob("testdata/objects/*.hex")
	for _, file := range files {
		f.Add(readHex(f, file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodePayload(data)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		again, err := encodePayload(o)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("two forms of one object: %x and %x, %v", data, again, err)
		}
	})
}

func FuzzObject(f *testing.F) {
	key, err := seal.NewSigningKey()
	if err != nil {
		f.Fatal(err)
	}
	o := someObject()
	plain, err := signObject(o, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(plain[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := verifyObject(data, expect(o), key.Public())
		if err == nil && !bytes.Equal(data, plain) {
			t.Fatal("an object that was not signed passed")
		}
	})
}
