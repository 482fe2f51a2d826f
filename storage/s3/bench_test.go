package s3_test

import (
	"crypto/sha256"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/s3/s3test"
	"lifeboat/storage/storetest"
)

// One pack to a server on this host: what the client costs, and the server.
func BenchmarkPack(b *testing.B) {
	s := s3test.Start(b).Open(b, "bench")
	data := storetest.Pattern(32 << 20)
	sum := sha256.Sum256(data)
	b.Run("put", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Put(b.Context(), "packs/p.tar", data, sum); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := storage.ReadRangeInto(b.Context(), s, "packs/p.tar", 0, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
