package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
	"lifeboat/storage/storetest"
)

const recordMax = 1 << 20 // bytes of plaintext that the tests accept of a record

func addVectors(f *testing.F, kind string) {
	for _, v := range readVectors(f) {
		if v.kind == kind {
			f.Add(v.data)
		}
	}
}

// wantCorrupt: what anybody may have put into a region fails in no other way.
func wantCorrupt(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%v: not marked as corrupt", err)
	}
}

// sameAgain wants a record to say the same after it was written and read again.
func sameAgain[T any](t *testing.T, was T, read func(text []byte) (T, error)) {
	t.Helper()
	first, err := json.Marshal(was)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	again, err := read(first)
	if err != nil {
		t.Fatalf("read what was written: %v\n%s", err, first)
	}
	if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s became %s, %v", first, second, err)
	}
}

func FuzzFormat(f *testing.F) {
	root, err := seal.NewRootKey()
	if err != nil {
		f.Fatal(err)
	}
	data, _, err := newFormat(root.Public(), time.Unix(2e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	addVectors(f, "format")
	f.Fuzz(func(t *testing.T, data []byte) {
		file, id, err := parseFormat(data)
		if err != nil {
			if !strings.Contains(err.Error(), "newer lifeboat") {
				wantCorrupt(t, err)
			}
			return
		}
		if id != sha256.Sum256(data) {
			t.Errorf("id %s", id)
		}
		sameAgain(t, file, func(text []byte) (formatFile, error) { again, _, err := parseFormat(text); return again, err })
	})
}

func FuzzMarker(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.kind == "marker" {
			f.Add(v.nonce, v.data)
		}
	}
	f.Fuzz(func(t *testing.T, nonce string, data []byte) {
		if storage.CheckKey(storage.RegionKey(nonce)) != nil {
			return
		}
		all, err := markersOf(t, nonce, data)
		if err != nil {
			return // too large
		}
		for _, m := range all {
			if m.Nonce != nonce {
				t.Errorf("%+v at %q", m, nonce)
			}
		}
	})
}

// vectorIdentity is the operator of the vectors.
func vectorIdentity(t testing.TB) seal.Identity {
	t.Helper()
	id, err := seal.ParseIdentity("AGE-SECRET-KEY-1Q0TMLG5UJ3VN6C994Y3AYA5M03GVD8SVTRNJC95CEGUK0LF3G7EQQ7ULKY")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// unwrapOne reads a region that holds one object under keys/.
func unwrapOne(t *testing.T, key string, data []byte, op seal.Identity) ([]unwrapped, error) {
	s := storetest.Memory()
	storetest.MustPut(t, s, key, data)
	return unwrapKeys(t.Context(), s, vectorRepo(), []seal.Identity{op})
}

// FuzzWrapped reads texts that are sealed to an operator, which everybody can do
// who knows the public key, and with raw what is no age file.
func FuzzWrapped(f *testing.F) {
	op := vectorIdentity(f)
	for _, v := range readVectors(f) {
		if v.kind == "wrapped" {
			f.Add(v.id, v.data, false)
		}
	}
	_, sealed, err := wrapKey(vectorRepo(), dataKeyID, op.Reveal(), op.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dataKeyID, sealed, true)
	f.Fuzz(func(t *testing.T, id string, data []byte, raw bool) {
		if storage.CheckKey("keys/"+id) != nil || strings.Contains(id, "/") || len(data) > wrappedMax/2 {
			return // no name that a region can hold and is looked at, or too long for a wrapped key
		}
		text := data
		if !raw {
			var err error
			if data, err = seal.Wrap(text, op.Recipient()); err != nil {
				t.Fatal(err)
			}
		}
		got, err := unwrapOne(t, storage.WrapKey(id, op.Recipient().Fingerprint(), sha256.Sum256(data)), data, op)
		want, perr := parseWrapped(text, vectorRepo(), id)
		switch {
		case !raw && perr != nil:
			wantCorrupt(t, perr)
			if err == nil || len(got) > 0 {
				t.Errorf("%v was taken, %v", got, perr)
			}
		case !raw && (err != nil || len(got) != 1 || got[0] != unwrapped{id, want}):
			t.Errorf("%v, %v; want %q", got, err, want)
		}
		if err == nil {
			key, sealed, err := wrapKey(vectorRepo(), id, got[0].secret, op.Recipient())
			if err != nil {
				return // longer than a wrapped key may be, in another spelling
			}
			if again, err := unwrapOne(t, key, sealed, op); err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("%v, %v; want %v", again, err, got)
			}
		}
	})
}

func bodyHash(text []byte) string {
	var b sealedBody
	_ = json.Unmarshal(text, &b)
	salt, _ := hex.DecodeString(b.Salt)
	return encodeID(sha256.Sum256(append(salt, text...)))
}

func FuzzBody(f *testing.F) {
	addVectors(f, "body")
	f.Fuzz(func(t *testing.T, text []byte) {
		packed := compress(t, text)
		b, err := openBody(packed, bodyHash(text), asItIs)
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if len(b.Snapshots) > len(text) {
			t.Errorf("%d snapshots of %d bytes", len(b.Snapshots), len(text))
		}
		if _, err := openBody(packed, encodeID(sha256.Sum256([]byte("other"))), asItIs); err == nil {
			t.Error("a body that was not signed passed")
		}
		sameAgain(t, b, func(text []byte) (sealedBody, error) { return openBody(compress(t, text), bodyHash(text), asItIs) })
	})
}

// FuzzRecord reads streams inside age files, which anybody can make.
func FuzzRecord(f *testing.F) {
	f.Add(compress(f, nil))
	f.Add(compress(f, []byte("some text, some text, some text")))
	f.Add(compress(f, make([]byte, 2*recordMax)))
	f.Add(append(compress(f, []byte("one")), compress(f, []byte("two"))...))
	f.Fuzz(func(t *testing.T, packed []byte) {
		plain, err := openRecord(packed, asItIs, recordMax)
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if len(plain) > recordMax {
			t.Errorf("%d bytes, at most %d are accepted", len(plain), recordMax)
		}
		if again, err := openRecord(compress(t, plain), asItIs, recordMax); err != nil || !bytes.Equal(again, plain) {
			t.Errorf("%d bytes became %d, %v", len(plain), len(again), err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	addVectors(f, "manifest")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data, vectorRepo())
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if n := len(m.Roots) + len(m.Errors) + len(m.Tags) + len(m.Pages); n > len(data) {
			t.Errorf("%d items of %d bytes", n, len(data))
		}
		again, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := DecodeManifest(again, vectorRepo()); err != nil || !reflect.DeepEqual(o, m) {
			t.Errorf("%+v became %+v, %v", m, o, err)
		}
		if _, err := DecodeManifest(data, ID{1}); err == nil {
			t.Error("a manifest of another repository passed")
		}
		m.summary("id")
	})
}

// A local file may be damaged in any way: the chain is then begun anew, or gone
// on with as it was.
func FuzzChain(f *testing.F) {
	writer, hash := strings.Repeat("12", 16), strings.Repeat("ab", 32)
	good := chainFile{Instance: strings.Repeat("34", 16), Session: "s", Checkpointed: 3, CheckpointAt: 4}
	good.Head = journal.Ref{Writer: writer, Instance: good.Instance, Seq: 5, Hash: hash}
	for _, c := range []chainFile{{}, {Instance: good.Instance}, good} {
		text, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text[:len(text)/2])
	}
	f.Add([]byte(`{"instance":"` + good.Instance + `","head":{"writer":"` + writer + `","instance":"` + good.Instance + `","seq":18446744073709551615,"sha256":"` + hash + `"}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func(text []byte) (chainFile, error) {
			if err := os.WriteFile(filepath.Join(dir, chainName), text, 0o600); err != nil {
				t.Fatal(err)
			}
			return loadChain(dir)
		}
		c, err := read(text)
		if err != nil {
			t.Fatal(err)
		}
		if !c.valid(writer) {
			return
		}
		if c.Head.Seq > 0 && (c.valid(strings.Repeat("56", 16)) || len(c.Head.Hash) != len(hash)) {
			t.Errorf("gone on with: %+v", c)
		}
		sameAgain(t, c, read)
	})
}

func FuzzState(f *testing.F) {
	dir := f.TempDir()
	root, err := seal.NewRootKey()
	if err != nil {
		f.Fatal(err)
	}
	c, err := newSecrets(true)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := SaveState(dir, vectorRepo(), root.Public(), c.Writer, nil); err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(dir, stateName)
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func(text []byte) (stateFile, error) {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := LoadState(dir)
			if err != nil {
				return stateFile{}, err
			}
			return s.f, nil
		}
		was, err := read(text)
		if err != nil {
			return
		}
		s := &State{dir: dir, f: was}
		var k Keys
		if err := s.addKeys(&k); err == nil && (!k.HasMeta() || k.Domain == nil) {
			t.Error("keys are missing")
		}
		_, _ = s.signKey()
		_, _ = s.Repo()
		_, _ = s.Root()
		sameAgain(t, was, read)
	})
}

// TestHostileSizes: a few bytes that claim to be very many cost little.
func TestHostileSizes(t *testing.T) {
	declared := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 1<<40) // a zstd frame of 1 TiB
	zeros := compress(t, make([]byte, 8*recordMax))
	undeclared := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50}, bytes.Repeat([]byte{0x02, 0x00, 0x08, 0x00}, 512)...) // blocks of 65,536 times the same byte, without end
	many := bytes.Repeat(compress(t, make([]byte, recordMax/2)), 64)
	long := listOf(manifestItemsMax + 1)
	absurd, err := hex.DecodeString("a1657061676573" + "9b7fffffffffffffff")
	if err != nil {
		t.Fatal(err)
	}
	decode := func(b []byte) error { _, err := DecodeManifest(b, vectorRepo()); return err }
	open := func(b []byte) error { _, err := openRecord(b, asItIs, recordMax); return err }
	for name, refuse := range map[string]func() error{
		"declared":            func() error { return open(declared) },
		"more than declared":  func() error { return open(zeros) },
		"undeclared":          func() error { return open(undeclared) },
		"many frames":         func() error { return open(many) },
		"an absurd count":     func() error { return decode(absurd) },
		"one list too long":   func() error { return decode(long) },
		"too many summaries":  func() error { return new(summaries).read([]byte("[{},{},{},{}]"), 3) },
		"a summary of a list": func() error { return new(summaries).read([]byte("[[]]"), 3) },
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := refuse()
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("accepted")
			}
			if cost := after.TotalAlloc - before.TotalAlloc; cost > 16*recordMax {
				t.Errorf("%d bytes were spent on it", cost)
			}
		})
	}
}

// listOf is a manifest whose only member is a list of n empty roots.
func listOf(n int) []byte {
	b := append([]byte{0xa1, 0x65}, "roots"...)
	b = binary.BigEndian.AppendUint32(append(b, 0x9a), uint32(n))
	return append(b, bytes.Repeat([]byte{0x40}, n)...)
}
