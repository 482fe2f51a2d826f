package seal

import (
	"crypto/rand"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

func benchSizes() []int { return []int{64 << 10, 1 << 20, 4 << 20} }

func BenchmarkSeal(b *testing.B) {
	for name, ids := range kinds(b) {
		s := newSealer(b, recipients(ids)...)
		for _, n := range benchSizes() {
			b.Run(fmt.Sprintf("%s/%dKiB", name, n>>10), func(b *testing.B) {
				plain := noise(n)
				dst := make([]byte, 0, n+s.Overhead(n))
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := s.Seal(dst, plain); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, ids := range kinds(b) {
		s := newSealer(b, recipients(ids)...)
		o := NewOpener(ids[len(ids)-1])
		for _, n := range benchSizes() {
			file, key, err := s.Seal(nil, noise(n))
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, n)
			b.Run(fmt.Sprintf("%s/%dKiB", name, n>>10), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := o.Open(dst, file); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%dKiB/file key", name, n>>10), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := OpenWithKey(dst, file, key); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCipher is the floor: ChaCha20-Poly1305 alone, in 64 KiB blocks.
func BenchmarkCipher(b *testing.B) {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		b.Fatal(err)
	}
	plain := noise(1 << 20)
	dst := make([]byte, 0, sealedBlocks(len(plain)))
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		sealBlocks(dst, aead, plain)
	}
}

func BenchmarkVerifyDocument(b *testing.B) {
	key, err := NewSigningKey()
	if err != nil {
		b.Fatal(err)
	}
	doc := SignDocument(ContextJournal, [32]byte{1}, []byte(`{"type":"ack","seq":7}`), key)
	find := func([8]byte) (VerifyKey, bool) { return key.Public(), true }
	for b.Loop() {
		if _, _, err := VerifyDocument(ContextJournal, [32]byte{1}, doc, find); err != nil {
			b.Fatal(err)
		}
	}
}
