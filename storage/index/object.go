package index

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"lifeboat/storage"
	"lifeboat/storage/pack"
	"lifeboat/storage/seal"
)

const (
	// ObjectMax is the size of an index object in the repository, in bytes.
	ObjectMax = 8 << 20
	// objectPlainMax leaves room for age and for zstd's raw blocks.
	objectPlainMax = ObjectMax - 256<<10
	// objectHead bounds everything in an object's CBOR but its packs.
	objectHead = 512
	// packHead bounds everything in a pack's record but its frames.
	packHead = 64
	// frameHead bounds everything in a frame's record but its chunks.
	frameHead = 32

	objectTag = "idx1"
	levelsMax = 6 // how deep the CBOR nests: map, packs, pack, frames, frame
)

// A pack of any size fits into an object of its own.
const _ = uint(ObjectRoom - packHead - frameHead*pack.FramesMax - chunkBytes*PackChunksMax)

// ErrTooLarge is returned by EncodeObject for more records than fit into
// ObjectMax bytes; see Room.
var ErrTooLarge = errors.New("index object is too large")

// Object is one stored index object: packs that a writer's session has put, in
// the order in which it put them.
type Object struct {
	Repo     [32]byte
	Writer   Writer
	Instance [16]byte
	Seq      uint64
	Domain   uint64 // deduplication domain of the chunk ids
	Packs    []PackRecord
}

// Expect is what a reader knows of an object before it opens it: the parts of
// its name. An object that says otherwise is refused, so that a good object
// under a wrong name cannot stand in for another.
type Expect struct {
	Repo     [32]byte
	Writer   Writer
	Instance [16]byte
	Seq      uint64
}

// envelope is the outer CBOR array.
type envelope struct {
	_         struct{} `cbor:",toarray"`
	Tag       string
	Payload   []byte
	Signature []byte
}

// payload is the inner CBOR map, and packItem one of its packs.
type payload struct {
	Repo     [32]byte   `cbor:"repo"`
	Writer   [16]byte   `cbor:"writer"`
	Instance [16]byte   `cbor:"instance"`
	Seq      uint64     `cbor:"seq"`
	Domain   uint64     `cbor:"domain"`
	Packs    []packItem `cbor:"packs"`
}

type packItem struct {
	_      struct{} `cbor:",toarray"`
	Hash   [32]byte
	Kind   uint8
	Size   uint64
	Frames cbor.RawMessage
}

// Room counts how much of an object's space a record takes: records go into one
// object as long as the sum of their Room is at most ObjectRoom.
func (r *PackRecord) Room() int { return packHead + frameHead*len(r.Frames) + chunkBytes*r.chunks() }

// ObjectRoom is the space for records in one object; see PackRecord.Room.
const ObjectRoom = objectPlainMax - objectHead

// EncodeObject makes the stored form of an index object: CBOR, signed by the
// writer, compressed by enc, sealed to the index key. ErrTooLarge if the
// records do not fit; storage.ErrCorrupt if one is not what a pack can be.
func EncodeObject(o *Object, key seal.SigningKey, enc *pack.Encoder, to *seal.Sealer) ([]byte, error) {
	plain, err := signObject(o, key)
	if err != nil {
		return nil, fmt.Errorf("encode index object %d: %w", o.Seq, err)
	}
	file, _, err := to.Seal(nil, enc.Encode(plain, pack.HintProbe))
	if err != nil {
		return nil, fmt.Errorf("seal index object %d: %w", o.Seq, err)
	}
	if len(file) > ObjectMax {
		return nil, fmt.Errorf("seal index object %d: %w: %d bytes", o.Seq, ErrTooLarge, len(file))
	}
	return file, nil
}

// DecodeObject opens what EncodeObject made. The signature is checked with the
// writer's key before the records are looked at. seal.ErrNoKey if open has no
// key for it, seal.ErrSignature if the writer did not sign it, storage.ErrCorrupt
// if it is malformed, breaks a limit, or is not the object that is expected.
func DecodeObject(file []byte, want Expect, key seal.VerifyKey, dec *pack.Decoder, open pack.Open) (*Object, error) {
	if len(file) > ObjectMax {
		return nil, fmt.Errorf("index object %d: %w: %d bytes, limit %d", want.Seq, storage.ErrCorrupt, len(file), ObjectMax)
	}
	plain, err := dec.Object(nil, file, open, objectPlainMax)
	if err != nil {
		return nil, fmt.Errorf("index object %d: %w", want.Seq, err)
	}
	o, err := verifyObject(plain, want, key)
	if err != nil {
		return nil, fmt.Errorf("index object %d: %w", want.Seq, err)
	}
	return o, nil
}

// signObject makes the plaintext: payload and signature.
func signObject(o *Object, key seal.SigningKey) ([]byte, error) {
	room := 0
	for i := range o.Packs {
		if err := o.Packs[i].check(); err != nil {
			return nil, err
		}
		room += o.Packs[i].Room()
	}
	if room > ObjectRoom {
		return nil, fmt.Errorf("%w: %d packs take %d bytes, limit %d", ErrTooLarge, len(o.Packs), room, ObjectRoom)
	}
	body, err := encodePayload(o)
	if err != nil {
		return nil, err
	}
	return marshal(envelope{Tag: objectTag, Payload: body, Signature: seal.SignBytes(seal.ContextIndex, o.Repo, body, key)})
}

// verifyObject takes the plaintext apart.
func verifyObject(plain []byte, want Expect, key seal.VerifyKey) (*Object, error) {
	var e envelope
	if err := unmarshal(plain, &e); err != nil {
		return nil, err
	}
	if e.Tag != objectTag {
		return nil, fmt.Errorf("%w: tag %q, want %q", storage.ErrCorrupt, e.Tag, objectTag)
	}
	if err := seal.VerifyBytes(seal.ContextIndex, want.Repo, e.Payload, e.Signature, key); err != nil {
		return nil, err
	}
	o, err := decodePayload(e.Payload)
	if err != nil {
		return nil, err
	}
	if o.Repo != want.Repo || o.Writer != want.Writer || o.Instance != want.Instance || o.Seq != want.Seq {
		return nil, fmt.Errorf("%w: says it is object %d of writer %x, instance %x", storage.ErrCorrupt, o.Seq, o.Writer, o.Instance)
	}
	return o, nil
}

func encodePayload(o *Object) ([]byte, error) {
	p := payload{Repo: o.Repo, Writer: o.Writer, Instance: o.Instance, Seq: o.Seq, Domain: o.Domain}
	p.Packs = make([]packItem, len(o.Packs))
	for i := range o.Packs {
		r := &o.Packs[i]
		p.Packs[i] = packItem{Hash: r.Hash, Kind: uint8(r.Kind), Size: r.Size, Frames: pack.EncodeFrames(nil, r.Frames)}
	}
	return marshal(p)
}

// decodePayload reads a payload and checks every limit. Errors wrap storage.ErrCorrupt.
func decodePayload(body []byte) (*Object, error) {
	var p payload
	if err := unmarshal(body, &p); err != nil {
		return nil, err
	}
	o := &Object{Repo: p.Repo, Writer: p.Writer, Instance: p.Instance, Seq: p.Seq, Domain: p.Domain}
	o.Packs = make([]PackRecord, len(p.Packs))
	for i := range p.Packs {
		item, r := &p.Packs[i], &o.Packs[i]
		frames, rest, err := pack.DecodeFrames(item.Frames)
		if err != nil {
			return nil, fmt.Errorf("pack %d: %w", i, err)
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("pack %d: %w: %d bytes after its frames", i, storage.ErrCorrupt, len(rest))
		}
		*r = PackRecord{Hash: item.Hash, Kind: pack.Kind(item.Kind), Size: item.Size, Frames: frames}
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// marshal writes deterministic CBOR (RFC 8949, section 4.2.1).
func marshal(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("set up CBOR: %w", err)
	}
	out, err := mode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode CBOR: %w", err)
	}
	return out, nil
}

// unmarshal reads CBOR and takes only the form that marshal writes: writing it
// again must give the same bytes, so no field is missing, added, short or in
// another order. Errors wrap storage.ErrCorrupt.
func unmarshal[T any](data []byte, v *T) error {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   levelsMax,
		MaxArrayElements:  objectPlainMax / packHead,
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		return fmt.Errorf("set up CBOR: %w", err)
	}
	if err := mode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	again, err := marshal(*v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: CBOR is not in its deterministic form", storage.ErrCorrupt)
	}
	return nil
}
