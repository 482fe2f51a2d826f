package storage

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Limits of keys.
const (
	KeyMax        = 512 // bytes in a whole key
	keyElementMax = 255 // bytes in one element: what every file system takes
	keyDepthMax   = 16  // elements in a key
	nameMax       = 64  // bytes in an identifier inside a key
)

// Fixed keys, and the first element of every other kind of key.
const (
	FormatKey   = "format.json"  // its SHA-256 is the RepoID
	RecoveryKey = "RECOVERY.txt" // how to recover with stock tools

	TrustPrefix    = "trust/"
	KeysPrefix     = "keys/"
	PacksPrefix    = "packs/"
	IndexPrefix    = "index/"
	ManifestPrefix = "manifests/"
	StreamPrefix   = "streams/"
	JournalPrefix  = "journal/"
	GCPrefix       = "gc/"
	RegionPrefix   = "region/"

	// SentinelName is the last element of a sentinel's key. It sorts after
	// every other name of the layout, so a listing that was cut short lacks it.
	SentinelName = "~end"
)

// Sentinel is the contents of every sentinel object.
const Sentinel = "end\n"

// The one-letter folders of packs.
const (
	PackData byte = 'd' // file contents
	PackMeta byte = 'm' // catalog pages
)

// Kind says what an object is, by its key.
type Kind uint8

// Kinds in the order in which a run commits them: what comes later names what
// came before.
const (
	KindFormat Kind = 1 + iota
	KindRecovery
	KindTrust
	KindWrap // a wrapped private key
	KindRegion
	KindSentinel
	KindPack
	KindIndex
	KindManifest
	KindStream
	KindJournal
	KindCheckpoint
	KindGC
)

// String names the kind as messages do.
func (k Kind) String() string {
	switch k {
	case KindFormat:
		return "format"
	case KindRecovery:
		return "recovery text"
	case KindTrust:
		return "trust statement"
	case KindWrap:
		return "wrapped key"
	case KindRegion:
		return "region marker"
	case KindSentinel:
		return "sentinel"
	case KindPack:
		return "pack"
	case KindIndex:
		return "index"
	case KindManifest:
		return "manifest"
	case KindStream:
		return "stream piece"
	case KindJournal:
		return "journal statement"
	case KindCheckpoint:
		return "journal checkpoint"
	case KindGC:
		return "gc statement"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Parts are the pieces of a parsed key; which are set depends on the kind.
type Parts struct {
	Writer   string   // writer id, hexadecimal
	Instance string   // instance, stream or gc run id, hexadecimal
	Seq      uint64   // sequence number; a checkpoint's is the real one, not the inverted
	PackKind byte     // PackData or PackMeta
	KeyID    string   // of a wrapped key
	Name     string   // recipient fingerprint, region nonce, or kind of a gc statement
	Sum      [32]byte // SHA-256 of the object; see HasSum
	HasSum   bool     // the key carries a SHA-256
}

// TrustKey is the key of a root-signed trust statement.
func TrustKey(seq uint64, sum [32]byte) string {
	return TrustPrefix + numbered(seq, sum, ".json")
}

// WrapKey is the key of a private key wrapped to one recipient. recipientFP is
// 16 hexadecimal digits.
func WrapKey(keyID, recipientFP string, sum [32]byte) string {
	return WrapPrefix(keyID) + recipientFP + "-" + hex.EncodeToString(sum[:]) + ".age"
}

// WrapPrefix holds every wrapped copy of one key.
func WrapPrefix(keyID string) string { return KeysPrefix + keyID + "/" }

// PackKey is the key of a pack; kind is PackData or PackMeta.
func PackKey(writer string, kind byte, sum [32]byte) string {
	name := hex.EncodeToString(sum[:])
	return PackPrefix(writer, kind) + name[:2] + "/" + name + ".tar"
}

// PackPrefix holds all packs of one writer and kind.
func PackPrefix(writer string, kind byte) string {
	return PacksPrefix + writer + "/" + string(rune(kind)) + "/"
}

// IndexKey is the key of an index object.
func IndexKey(writer, instance string, seq uint64, sum [32]byte) string {
	return InstancePrefix(IndexPrefix, writer, instance) + numbered(seq, sum, ".age")
}

// ManifestKey is the key of a snapshot's manifest.
func ManifestKey(writer, instance string, seq uint64, sum [32]byte) string {
	return InstancePrefix(ManifestPrefix, writer, instance) + numbered(seq, sum, ".age")
}

// StreamKey is the key of one piece of a database log stream.
func StreamKey(writer, stream string, seq uint64, sum [32]byte) string {
	return InstancePrefix(StreamPrefix, writer, stream) + numbered(seq, sum, ".tar")
}

// JournalKey is the key of a journal statement.
func JournalKey(writer, instance string, seq uint64, sum [32]byte) string {
	return InstancePrefix(JournalPrefix, writer, instance) + numbered(seq, sum, ".json")
}

// CheckpointKey is the key of a journal checkpoint. The sequence number is
// stored inverted, so that the newest checkpoint lists first.
func CheckpointKey(writer, instance string, seq uint64, sum [32]byte) string {
	return CheckpointPrefix(writer, instance) + numbered(^seq, sum, ".json")
}

// CheckpointPrefix holds the checkpoints of one journal, newest first.
func CheckpointPrefix(writer, instance string) string {
	return InstancePrefix(JournalPrefix, writer, instance) + "c/"
}

// GCKey is the key of a statement of a garbage collection; kind is lower-case
// letters (condemn, revoke, rescind, dead, verdict, checkpoint).
func GCKey(writer, run string, seq uint64, kind string, sum [32]byte) string {
	return InstancePrefix(GCPrefix, writer, run) + seq16(seq) + "-" + kind + "-" + hex.EncodeToString(sum[:]) + ".json"
}

// RegionKey is the key of the marker of one incarnation of a region.
func RegionKey(nonce string) string { return RegionPrefix + nonce + ".json" }

// SentinelKey is the key of the sentinel of a listed prefix, which ends in "/".
func SentinelKey(prefix string) string { return prefix + SentinelName }

// InstancePrefix is what one instance of a writer keeps under a kind's prefix
// (IndexPrefix, ManifestPrefix, JournalPrefix …).
func InstancePrefix(kind, writer, instance string) string {
	return kind + writer + "/" + instance + "/"
}

func seq16(seq uint64) string {
	s := strconv.FormatUint(seq, 16)
	return "0000000000000000"[len(s):] + s
}

func numbered(seq uint64, sum [32]byte, ext string) string {
	return seq16(seq) + "-" + hex.EncodeToString(sum[:]) + ext
}

// HashOf gives the SHA-256 that a key carries; false if the key is of no known
// kind or carries none.
func HashOf(key string) (sum [32]byte, ok bool) {
	_, p, err := Parse(key)
	return p.Sum, err == nil && p.HasSum
}

// Parse takes a key of the repository layout apart. It is strict: a key that
// it accepts is the one spelling of what it says.
func Parse(key string) (Kind, Parts, error) {
	kind, p, ok := parse(key)
	if !ok {
		return 0, Parts{}, fmt.Errorf("key %.600q is not part of the repository layout", key)
	}
	return kind, p, nil
}

func parse(key string) (Kind, Parts, bool) {
	if CheckKey(key) != nil {
		return 0, Parts{}, false
	}
	if key == FormatKey {
		return KindFormat, Parts{}, true
	}
	if key == RecoveryKey {
		return KindRecovery, Parts{}, true
	}
	e := strings.Split(key, "/")
	if e[len(e)-1] == SentinelName && len(e) > 1 {
		return KindSentinel, Parts{}, true
	}
	switch e[0] + "/" {
	case TrustPrefix:
		return parseTrust(e)
	case KeysPrefix:
		return parseWrap(e)
	case RegionPrefix:
		return parseRegion(e)
	case PacksPrefix:
		return parsePack(e)
	case IndexPrefix:
		return parseNumbered(KindIndex, e, ".age")
	case ManifestPrefix:
		return parseNumbered(KindManifest, e, ".age")
	case StreamPrefix:
		return parseNumbered(KindStream, e, ".tar")
	case JournalPrefix:
		return parseJournal(e)
	case GCPrefix:
		return parseGC(e)
	}
	return 0, Parts{}, false
}

func parseTrust(e []string) (Kind, Parts, bool) {
	if len(e) != 2 {
		return 0, Parts{}, false
	}
	p, ok := cutNumbered(e[1], ".json")
	return KindTrust, p, ok
}

func parseWrap(e []string) (Kind, Parts, bool) {
	if len(e) != 3 || !isName(e[1]) {
		return 0, Parts{}, false
	}
	name, found := strings.CutSuffix(e[2], ".age")
	fp, sum, cut := strings.Cut(name, "-")
	p := Parts{KeyID: e[1], Name: fp}
	p.HasSum = setSum(&p.Sum, sum)
	return KindWrap, p, found && cut && len(fp) == 16 && isHex(fp) && p.HasSum
}

func parseRegion(e []string) (Kind, Parts, bool) {
	if len(e) != 2 {
		return 0, Parts{}, false
	}
	nonce, found := strings.CutSuffix(e[1], ".json")
	return KindRegion, Parts{Name: nonce}, found && isName(nonce)
}

func parsePack(e []string) (Kind, Parts, bool) {
	if len(e) != 5 || !isID(e[1]) || (e[2] != "d" && e[2] != "m") {
		return 0, Parts{}, false
	}
	name, found := strings.CutSuffix(e[4], ".tar")
	p := Parts{Writer: e[1], PackKind: e[2][0]}
	p.HasSum = setSum(&p.Sum, name)
	return KindPack, p, found && p.HasSum && e[3] == name[:2]
}

func parseNumbered(kind Kind, e []string, ext string) (Kind, Parts, bool) {
	if len(e) != 4 || !isID(e[1]) || !isID(e[2]) {
		return 0, Parts{}, false
	}
	p, ok := cutNumbered(e[3], ext)
	p.Writer, p.Instance = e[1], e[2]
	return kind, p, ok
}

func parseJournal(e []string) (Kind, Parts, bool) {
	if len(e) != 5 || e[3] != "c" {
		return parseNumbered(KindJournal, e, ".json")
	}
	_, p, ok := parseNumbered(KindCheckpoint, []string{e[0], e[1], e[2], e[4]}, ".json")
	p.Seq = ^p.Seq
	return KindCheckpoint, p, ok
}

func parseGC(e []string) (Kind, Parts, bool) {
	if len(e) != 4 || !isID(e[1]) || !isID(e[2]) {
		return 0, Parts{}, false
	}
	name, found := strings.CutSuffix(e[3], ".json")
	f := strings.Split(name, "-")
	if !found || len(f) != 3 || !isLetters(f[1]) {
		return 0, Parts{}, false
	}
	p := Parts{Writer: e[1], Instance: e[2], Name: f[1]}
	seqOK := setSeq(&p.Seq, f[0])
	p.HasSum = setSum(&p.Sum, f[2])
	return KindGC, p, seqOK && p.HasSum
}

// cutNumbered takes "<seq16>-<sha256><ext>" apart.
func cutNumbered(name, ext string) (p Parts, ok bool) {
	name, found := strings.CutSuffix(name, ext)
	seq, sum, cut := strings.Cut(name, "-")
	if !found || !cut || !setSeq(&p.Seq, seq) {
		return p, false
	}
	p.HasSum = setSum(&p.Sum, sum)
	return p, p.HasSum
}

func setSeq(seq *uint64, s string) bool {
	if len(s) != 16 || !isHex(s) {
		return false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	*seq = n
	return err == nil
}

func setSum(sum *[32]byte, s string) bool {
	if len(s) != 64 || !isHex(s) {
		return false
	}
	_, err := hex.Decode(sum[:], []byte(s))
	return err == nil
}

// isHex is true of lower-case hexadecimal only: one spelling per name.
func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

func isID(s string) bool { return len(s) <= nameMax && isHex(s) }

func isLetters(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return s != "" && len(s) <= nameMax
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= nameMax
}

// CheckKey refuses what is not a key: a relative slash-separated name of
// [A-Za-z0-9._~-] elements, none of which begins with a dot (so no "..", and
// room for a store's own files), within the limits of length and depth. Every
// Store checks its keys with it.
func CheckKey(key string) error {
	if len(key) > KeyMax {
		return fmt.Errorf("key of %d bytes is longer than %d", len(key), KeyMax)
	}
	start, depth := 0, 1
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !isKeyByte(key[i]) {
				return fmt.Errorf("key %q has a forbidden character", key)
			}
			continue
		}
		if i == start || key[start] == '.' || i-start > keyElementMax {
			return fmt.Errorf("key %q has an element that is empty, too long or begins with a dot", key)
		}
		if i < len(key) {
			start, depth = i+1, depth+1
		}
	}
	if depth > keyDepthMax {
		return fmt.Errorf("key %q has more than %d elements", key, keyDepthMax)
	}
	return nil
}

// CheckPrefix refuses what no key can begin with. "" is a prefix of all keys.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if strings.HasSuffix(prefix, "/") {
		return CheckKey(prefix[:len(prefix)-1])
	}
	return CheckKey(prefix)
}

func isKeyByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '~' || c == '-'
}
