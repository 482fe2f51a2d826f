package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// The names are part of the format: these vectors must never change.
func TestKeys(t *testing.T) {
	sum := sha256.Sum256([]byte("object"))
	h := hex.EncodeToString(sum[:])
	if h != "2958d416d08aa5a472d7b509036cb7eafd542add84527e66a145ea64cb4cdc75" {
		t.Fatalf("sum %s", h)
	}
	const w, i = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	tests := []struct {
		key, want string
		kind      Kind
		parts     Parts
	}{
		{FormatKey, "format.json", KindFormat, Parts{}},
		{RecoveryKey, "RECOVERY.txt", KindRecovery, Parts{}},
		{TrustKey(1, sum), "trust/0000000000000001-" + h + ".json", KindTrust, Parts{Seq: 1, Sum: sum, HasSum: true}},
		{
			WrapKey("data-1", "0123456789abcdef", sum), "keys/data-1/0123456789abcdef-" + h + ".age", KindWrap,
			Parts{KeyID: "data-1", Name: "0123456789abcdef", Sum: sum, HasSum: true},
		},
		{
			PackKey(w, PackData, sum), "packs/" + w + "/d/29/" + h + ".tar", KindPack,
			Parts{Writer: w, PackKind: 'd', Sum: sum, HasSum: true},
		},
		{
			PackKey(w, PackMeta, sum), "packs/" + w + "/m/29/" + h + ".tar", KindPack,
			Parts{Writer: w, PackKind: 'm', Sum: sum, HasSum: true},
		},
		{
			IndexKey(w, i, 0xabc, sum), "index/" + w + "/" + i + "/0000000000000abc-" + h + ".age", KindIndex,
			Parts{Writer: w, Instance: i, Seq: 0xabc, Sum: sum, HasSum: true},
		},
		{
			ManifestKey(w, i, 2, sum), "manifests/" + w + "/" + i + "/0000000000000002-" + h + ".age", KindManifest,
			Parts{Writer: w, Instance: i, Seq: 2, Sum: sum, HasSum: true},
		},
		{
			StreamKey(w, i, 3, sum), "streams/" + w + "/" + i + "/0000000000000003-" + h + ".tar", KindStream,
			Parts{Writer: w, Instance: i, Seq: 3, Sum: sum, HasSum: true},
		},
		{
			JournalKey(w, i, 4, sum), "journal/" + w + "/" + i + "/0000000000000004-" + h + ".json", KindJournal,
			Parts{Writer: w, Instance: i, Seq: 4, Sum: sum, HasSum: true},
		},
		{
			CheckpointKey(w, i, 5, sum), "journal/" + w + "/" + i + "/c/fffffffffffffffa-" + h + ".json", KindCheckpoint,
			Parts{Writer: w, Instance: i, Seq: 5, Sum: sum, HasSum: true},
		},
		{
			GCKey(w, i, 6, "condemn", sum), "gc/" + w + "/" + i + "/0000000000000006-condemn-" + h + ".json", KindGC,
			Parts{Writer: w, Instance: i, Seq: 6, Name: "condemn", Sum: sum, HasSum: true},
		},
		{RegionKey("0011"), "region/0011.json", KindRegion, Parts{Name: "0011"}},
		{SentinelKey(TrustPrefix), "trust/~end", KindSentinel, Parts{}},
		{SentinelKey(CheckpointPrefix(w, i)), "journal/" + w + "/" + i + "/c/~end", KindSentinel, Parts{}},
	}
	for _, tt := range tests {
		if tt.key != tt.want {
			t.Errorf("key %s, want %s", tt.key, tt.want)
		}
		kind, parts, err := Parse(tt.key)
		if err != nil || kind != tt.kind || parts != tt.parts {
			t.Errorf("parse %s: %v %+v, %v", tt.key, kind, parts, err)
		}
		if got, ok := HashOf(tt.key); ok != tt.parts.HasSum || got != tt.parts.Sum {
			t.Errorf("hash of %s: %x, %v", tt.key, got, ok)
		}
		if strings.HasPrefix(kind.String(), "kind ") {
			t.Errorf("kind %d has no name", kind)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := strings.Repeat("ab", 32)
	for _, key := range []string{
		"", "x", "~end", "trust", "trust/", "trust/x", "trust/1-" + h + ".json", "trust/0000000000000001-" + h,
		"trust/0000000000000001-" + strings.ToUpper(h) + ".json", "trust/000000000000000A-" + h + ".json",
		"trust/0000000000000001-" + h + ".json/x", "trust/0000000000000001-" + h[2:] + ".json",
		"packs/ab/d/ac/" + h + ".tar", "packs/ab/x/ab/" + h + ".tar", "packs/AB/d/ab/" + h + ".tar", "packs/ab/d/" + h + ".tar",
		"packs/ab/d/ab/" + h, "index/ab/0000000000000001-" + h + ".age", "index/ab/cd/0000000000000001-" + h + ".json",
		"journal/ab/cd/d/0000000000000001-" + h + ".json", "journal/zz/cd/0000000000000001-" + h + ".json",
		"gc/ab/cd/0000000000000001-" + h + ".json", "gc/ab/cd/0000000000000001-Dead-" + h + ".json",
		"gc/ab/cd/0000000000000001--" + h + ".json", "keys/data/0123-" + h + ".age", "keys/DATA/0123456789abcdef-" + h + ".age",
		"region/.json", "region/a_b.json", "region/a/b.json", "../format.json", "format.json/",
		"packs/" + strings.Repeat("ab", 40) + "/d/ab/" + h + ".tar",
	} {
		if kind, parts, err := Parse(key); err == nil {
			t.Errorf("%q is %v %+v", key, kind, parts)
		}
		if _, ok := HashOf(key); ok {
			t.Errorf("%q has a hash", key)
		}
	}
}

// The sentinel sorts after whatever a prefix may hold, and newer checkpoints
// before older ones.
func TestKeyOrder(t *testing.T) {
	var sum, most [32]byte
	for i := range most {
		most[i] = 0xff
	}
	last := SentinelKey(InstancePrefix(JournalPrefix, "ab", "cd"))
	for _, key := range []string{
		JournalKey("ab", "cd", ^uint64(0), most), CheckpointKey("ab", "cd", 0, most), SentinelKey(CheckpointPrefix("ab", "cd")),
	} {
		if key >= last {
			t.Errorf("%s sorts after the sentinel", key)
		}
	}
	order := []string{
		CheckpointKey("ab", "cd", 300, sum), CheckpointKey("ab", "cd", 3, sum), CheckpointKey("ab", "cd", 0, sum),
	}
	if !slices.IsSorted(order) {
		t.Errorf("not newest first: %v", order)
	}
}

func FuzzParse(f *testing.F) {
	sum := sha256.Sum256(nil)
	for _, key := range []string{
		FormatKey, TrustKey(9, sum), WrapKey("k", "0123456789abcdef", sum), PackKey("ab", PackMeta, sum),
		IndexKey("ab", "cd", 1, sum), CheckpointKey("ab", "cd", 1, sum), GCKey("ab", "cd", 1, "dead", sum), RegionKey("n"),
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		kind, p, err := Parse(key)
		if err != nil {
			return
		}
		if CheckKey(key) != nil {
			t.Fatalf("%q parses but is no key", key)
		}
		if again := rebuild(kind, p, key); again != key {
			t.Errorf("%q is spelt %q", key, again)
		}
	})
}

func rebuild(kind Kind, p Parts, key string) string {
	switch kind {
	case KindTrust:
		return TrustKey(p.Seq, p.Sum)
	case KindWrap:
		return WrapKey(p.KeyID, p.Name, p.Sum)
	case KindPack:
		return PackKey(p.Writer, p.PackKind, p.Sum)
	case KindIndex:
		return IndexKey(p.Writer, p.Instance, p.Seq, p.Sum)
	case KindManifest:
		return ManifestKey(p.Writer, p.Instance, p.Seq, p.Sum)
	case KindStream:
		return StreamKey(p.Writer, p.Instance, p.Seq, p.Sum)
	case KindJournal:
		return JournalKey(p.Writer, p.Instance, p.Seq, p.Sum)
	case KindCheckpoint:
		return CheckpointKey(p.Writer, p.Instance, p.Seq, p.Sum)
	case KindGC:
		return GCKey(p.Writer, p.Instance, p.Seq, p.Name, p.Sum)
	case KindRegion:
		return RegionKey(p.Name)
	}
	return key // fixed names
}

func FuzzCheckKey(f *testing.F) {
	f.Add("a/b/c")
	f.Add("a/../b")
	f.Fuzz(func(t *testing.T, key string) {
		if CheckKey(key) != nil {
			return
		}
		if key == "" || key[0] == '/' || strings.HasSuffix(key, "/") || len(key) > KeyMax {
			t.Errorf("%q is a key", key)
		}
		for e := range strings.SplitSeq(key, "/") {
			if e == "" || e[0] == '.' || strings.ContainsAny(e, "\x00\\ ") {
				t.Errorf("%q is a key", key)
			}
		}
		if CheckPrefix(key) != nil {
			t.Errorf("%q is a key but no prefix", key)
		}
	})
}
