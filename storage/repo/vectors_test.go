package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"lifeboat/storage"
	"lifeboat/storage/storetest"
)

// vectorRepo is the repository that the vectors belong to.
func vectorRepo() ID { return sha256.Sum256([]byte("the repository of the vectors")) }

// vector is one file testdata/*.txt: lines "word: value".
//
//	kind    format, marker, wrapped, body or manifest
//	text    the record, where it is JSON
//	hex     the record, where it is CBOR
//	nonce   of a marker's name
//	id      of a wrapped key's name
//	hash    body_sha256 of the statement around a body
//	expect  "ok …" with what it says, "none" of a marker that marks nothing, or how it fails (corrupt, new) and a part of the error's text
type vector struct {
	name, kind, nonce, id, hash, expect string
	data                                []byte
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var all []vector
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
		fields := map[string]*string{"kind": &v.kind, "nonce": &v.nonce, "id": &v.id, "hash": &v.hash, "expect": &v.expect}
		for line := range strings.Lines(string(text)) {
			word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch to := fields[word]; {
			case to != nil:
				*to = value
			case word == "text":
				v.data = []byte(value)
			case word == "hex":
				if v.data, err = hex.DecodeString(value); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
			default:
				t.Fatalf("%s: unknown word %q", file, word)
			}
		}
		all = append(all, v)
	}
	return all
}

// read gives what a reader makes of the record.
func (v vector) read(t testing.TB) (string, error) {
	switch v.kind {
	case "format":
		_, id, err := parseFormat(append(v.data, '\n'))
		return fmt.Sprintf("ok %s", id), err
	case "marker":
		all, err := markersOf(t, v.nonce, append(v.data, '\n'))
		if err != nil || len(all) == 0 {
			return "none", err
		}
		return fmt.Sprintf("ok of %s", all[0].Repo), nil
	case "wrapped":
		secret, err := parseWrapped(v.data, vectorRepo(), v.id)
		return "ok " + secret, err
	case "body":
		b, err := openBody(compress(t, v.data), v.hash, asItIs)
		return sayBody(b), err
	case "manifest":
		m, err := DecodeManifest(v.data, vectorRepo())
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("ok %s of %s, %d entries, start %d, parent %d bytes, %d errors, %d pages",
			m.Workload, m.Host, m.Catalog.Entries, m.Start, len(m.Parent), len(m.Errors), len(m.Pages)), nil
	}
	t.Fatalf("%s: unknown kind %q", v.name, v.kind)
	return "", nil
}

func sayBody(b sealedBody) string {
	s := fmt.Sprintf("ok %d snapshots", len(b.Snapshots))
	for _, sn := range b.Snapshots {
		s += fmt.Sprintf(", %s %.8s", sn.Workload, sn.ID)
	}
	if b.Report == nil {
		return s + ", no report"
	}
	return s + ", report " + string(b.Report)
}

// markersOf reads the markers of a region that holds one object under region/.
func markersOf(t testing.TB, nonce string, data []byte) ([]marker, error) {
	s := storetest.Memory()
	storetest.MustPut(t, s, storage.RegionKey(nonce), data)
	return readMarkers(t.Context(), s)
}

// asItIs opens an age file that is none.
func asItIs(dst, file []byte) ([]byte, error) { return append(dst, file...), nil }

func compress(t testing.TB, plain []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<17), zstd.WithLowerEncoderMem(true))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(plain, nil)
}

// TestVectors reads records that were written once and never change: the format,
// as seen from outside.
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			got, err := v.read(t)
			kind, part, _ := strings.Cut(v.expect, " ")
			if kind == "ok" || kind == "none" {
				if err != nil || got != v.expect {
					t.Errorf("%s, %v; want %s", got, err, v.expect)
				}
				return
			}
			if err == nil || errors.Is(err, storage.ErrCorrupt) != (kind == "corrupt") || !strings.Contains(err.Error(), part) {
				t.Errorf("%s, %v; want %s with %q", got, err, kind, part)
			}
		})
	}
}
