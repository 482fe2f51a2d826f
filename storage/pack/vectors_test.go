package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/seal"
)

// vector is one file testdata/*.txt: lines "word: value".
//
//	kind    pack, toc, frames, footer or stream
//	hex     the input; several lines are joined
//	base    or a file to begin with
//	cut     keep so many bytes of it (from the end, if negative: drop so many)
//	last    keep only so many bytes at its end
//	set     "<offset> <hex>": overwrite bytes
//	append  hex
//	size    for footer: the size of the pack that the input ends; for stream: the plain length
//	expect  "ok …" with what comes out, or a part of the error's text
type vector struct {
	name, kind, expect string
	input              []byte
	size               int64
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
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			word, value, _ := strings.Cut(line, ": ")
			if err := v.apply(word, value); err != nil {
				t.Fatalf("%s: %s: %v", file, line, err)
			}
		}
		all = append(all, v)
	}
	return all
}

// apply takes one line of a vector.
func (v *vector) apply(word, value string) (err error) {
	switch word {
	case "kind":
		v.kind = value
	case "expect":
		v.expect = value
	case "size":
		v.size, err = strconv.ParseInt(value, 10, 64)
	case "base":
		v.input, err = os.ReadFile(filepath.Join("testdata", value))
	case "hex", "append":
		b, err := hex.DecodeString(value)
		v.input = append(v.input, b...)
		return err
	case "cut":
		n, err := strconv.Atoi(value)
		if n < 0 {
			n += len(v.input)
		}
		v.input = v.input[:n]
		return err
	case "last":
		n, err := strconv.Atoi(value)
		v.input = v.input[len(v.input)-n:]
		return err
	case "set":
		offset, text, _ := strings.Cut(value, " ")
		b, err := hex.DecodeString(text)
		n, err2 := strconv.Atoi(offset)
		if n < 0 {
			n += len(v.input)
		}
		copy(v.input[n:], b)
		return errors.Join(err, err2)
	default:
		return errors.New("unknown word")
	}
	return err
}

// TestVectors reads inputs that were written once and never change: the format,
// as seen from outside.
func TestVectors(t *testing.T) {
	open := vectorKeys(t)
	d := newDecoder(t)
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			got, err := v.read(t, d, open)
			if strings.HasPrefix(v.expect, "ok") {
				if err != nil || got != v.expect {
					t.Errorf("%s, %v; want %s", got, err, v.expect)
				}
				return
			}
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), v.expect) {
				t.Errorf("%s, %v; want ErrCorrupt with %q", got, err, v.expect)
			}
		})
	}
}

// vectorKeys opens with the identities that the packs in testdata are sealed to.
func vectorKeys(t *testing.T) (open [2]Open) {
	t.Helper()
	for i, name := range []string{"content.key", "index.key"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		ids, err := seal.ParseIdentity(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		open[i] = seal.NewOpener(ids).Open
	}
	return open
}

// read gives "ok" and what the vector holds.
func (v *vector) read(t *testing.T, d *Decoder, open [2]Open) (string, error) {
	switch v.kind {
	case "pack":
		return v.readPack(t, d, open)
	case "toc":
		toc, err := ParseTOC(v.input, PackMax)
		return fmt.Sprintf("ok kind %d, %s", toc.Kind, describe(toc.Frames)), err
	case "frames":
		frames, rest, err := DecodeFrames(v.input)
		return fmt.Sprintf("ok %s, %d bytes left", describe(frames), len(rest)), err
	case "footer":
		f, err := ParseFooter(v.input, v.size)
		return fmt.Sprintf("ok offset %d length %d", f.Offset, f.Length), err
	case "stream":
		plain, err := d.Decode(nil, v.input, int(v.size))
		return fmt.Sprintf("ok sha256 %x", sha256.Sum256(plain)), err
	}
	return "", errors.New("unknown kind")
}

// readPack walks a pack, reads its table and opens every frame; the digest is
// that of all plaintexts, one after the other.
func (v *vector) readPack(t *testing.T, d *Decoder, open [2]Open) (string, error) {
	if _, err := members(v.input); err != nil {
		return "", err
	}
	toc, err := ReadTOC(t.Context(), &memory{"p": v.input}, "p", d, open[1])
	if err != nil {
		return "", err
	}
	var all []byte
	for _, f := range toc.Frames {
		if all, err = d.Frame(all, v.input[f.Offset:][:f.Length], open[0], int(f.Plain)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("ok kind %d, %s, sha256 %x", toc.Kind, describe(toc.Frames), sha256.Sum256(all)), nil
}

// describe sums frames up.
func describe(frames []Frame) string {
	chunks, plain := 0, 0
	for i := range frames {
		chunks += len(frames[i].Chunks)
		plain += int(frames[i].Plain)
	}
	return fmt.Sprintf("%d frames, %d chunks, %d bytes", len(frames), chunks, plain)
}

// TestVectorsAreDistinct: a copy of a vector tests nothing.
func TestVectorsAreDistinct(t *testing.T) {
	all := readVectors(t)
	for i, a := range all {
		for _, b := range all[:i] {
			if a.kind == b.kind && a.size == b.size && bytes.Equal(a.input, b.input) {
				t.Errorf("%s and %s are the same", a.name, b.name)
			}
		}
	}
}
