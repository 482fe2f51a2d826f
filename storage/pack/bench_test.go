package pack

import (
	"errors"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// benchBytes is the data that benchmarks go through again and again: more than caches hold.
const benchBytes = 64 << 20

// sourceText is benchBytes of Go source, or of made-up prose without a Go tree.
func sourceText(b *testing.B) []byte {
	text := make([]byte, 0, benchBytes)
	filepath.WalkDir(filepath.Join(build.Default.GOROOT, "src"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".go") {
			if data, err := os.ReadFile(path); err == nil {
				text = append(text, data[:min(len(data), benchBytes-len(text))]...)
			}
		}
		if len(text) == benchBytes {
			return fs.SkipAll
		}
		return nil
	})
	if len(text) < benchBytes {
		return prose(1, benchBytes)
	}
	return text
}

func BenchmarkBuilder(b *testing.B) {
	for _, content := range []string{"random", "text"} {
		data := noise(1, benchBytes)
		if content == "text" {
			data = sourceText(b)
		}
		for _, v := range []Verify{VerifyFull, VerifySample, VerifyOff} {
			b.Run(content+"/"+v.String(), func(b *testing.B) { benchBuilder(b, data, v) })
		}
	}
}

func benchBuilder(b *testing.B, data []byte, v Verify) {
	const frame = 1 << 20
	k := newKeys(b, false)
	buf := make([]byte, PackTarget)
	bu := newBuilder(b, Data, Options{Verify: v}, k, PackTarget)
	chunks := chunksOf(data[:frame], frame)
	b.SetBytes(frame)
	b.ReportAllocs()
	at, stored := 0, 0
	for b.Loop() {
		plain := data[at : at+frame]
		at = (at + frame) % len(data)
		err := bu.Add(plain, chunks, HintProbe)
		if errors.Is(err, ErrFull) {
			s, finishErr := bu.Finish()
			if finishErr != nil {
				b.Fatal(finishErr)
			}
			stored += len(s.Bytes)
			bu.Reset(buf)
			err = bu.Add(plain, chunks, HintProbe)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	for _, content := range []string{"random", "text"} {
		data := noise(1, 8<<20)
		if content == "text" {
			data = sourceText(b)[:8<<20]
		}
		b.Run(content, func(b *testing.B) {
			k := newKeys(b, false)
			var plains [][]byte
			for i := 0; i < len(data); i += 1 << 20 {
				plains = append(plains, data[i:i+1<<20])
			}
			s := buildPack(b, Data, Options{}, k, plains...)
			d := newDecoder(b)
			dst := make([]byte, 0, 1<<20+decodeSlack)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				f := s.Frames[i%len(s.Frames)]
				if _, err := d.Frame(dst, s.Bytes[f.Offset:][:f.Length], k.openContent, int(f.Plain)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkFrames(b *testing.B) {
	frames := make([]Frame, 4)
	at := uint32(blockSize)
	for i := range frames {
		plain := noise(uint64(i), 1<<20)
		frames[i] = Frame{Offset: at, Length: 1 << 20, Plain: 1 << 20, Chunks: chunksOf(plain, 1<<20/4096)}
		at += 1<<20 + blockSize
	}
	enc := EncodeFrames(nil, frames)
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(enc)))
		for b.Loop() {
			enc = EncodeFrames(enc[:0], frames)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(enc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := DecodeFrames(enc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
