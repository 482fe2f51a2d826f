package replicate

import (
	"encoding/hex"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"lifeboat/snapshot/catalog"
	"lifeboat/storage/pack"
)

func FuzzCoverage(f *testing.F) {
	f.Add([]byte(`{"version":1,"regions":{"a":{"cursor":"","started_at":"2026-11-22T00:00:00Z"}}}`))
	f.Add([]byte(`{"version":1,"regions":{"a":{"cursor":"zz","started_at":"2026-11-22T00:00:00Z"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parseCoverage(data)
		for nonce, r := range c.Regions {
			if b, err := hex.DecodeString(r.Cursor); r.Cursor != "" && (err != nil || len(b) != len(pack.Hash{})) {
				t.Errorf("cursor %q of %q", r.Cursor, nonce)
			}
			hash := func(no uint32) pack.Hash { return pack.Hash{byte(no)} }
			if i := c.resume(nonce, []uint32{1, 2, 3}, hash); i < 0 || i > 2 {
				t.Errorf("goes on at %d of 3", i)
			}
		}
	})
}

func FuzzUpperPage(f *testing.F) {
	good, err := cbor.Marshal(upperPage{Tag: "cat1", Level: 1, Items: []upperItem{{First: []byte("a"), Last: []byte("b"), Entries: 2}, {First: []byte("c"), Last: []byte("c"), Entries: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint64(3))
	f.Add(good[:len(good)-1], uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, entries uint64) {
		links, err := upperLinks(pageLink{level: 1, entries: entries}, text)
		if err != nil {
			return
		}
		var total uint64
		for i, l := range links {
			total += l.entries
			if l.level != 0 || i > 0 && catalog.Compare(links[i-1].last, l.first) >= 0 {
				t.Errorf("item %d: %+v", i, l)
			}
		}
		if total != entries {
			t.Errorf("%d entries, want %d", total, entries)
		}
	})
}
