package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lifeboat/storage/seal"
)

// plains are frames of every size class, compressible, incompressible and mixed.
func plains() [][]byte {
	mixed := append(noise(7, 300<<10), prose(7, 300<<10)...)
	return [][]byte{
		{'x'}, prose(1, 63), noise(2, 64), prose(3, 5000), noise(4, 20<<10),
		noise(5, 1<<20), prose(6, 1<<20), mixed, noise(8, FramePlainMax), prose(9, FramePlainMax),
		make([]byte, FramePlainMax), // nothing but zeros
	}
}

func TestPackReadsBack(t *testing.T) {
	for _, classic := range []bool{true, false} {
		for _, kind := range []Kind{Data, Meta} {
			t.Run(fmt.Sprintf("classic=%v/kind=%d", classic, kind), func(t *testing.T) {
				k := newKeys(t, classic)
				want := plains()
				s := buildPack(t, kind, Options{Epoch: 3}, k, want...)
				checkPack(t, k, s, kind, want)
			})
		}
	}
}

// checkPack reads a pack in every way there is and compares it with its plaintexts.
func checkPack(t *testing.T, k keys, s Sealed, kind Kind, want [][]byte) {
	t.Helper()
	if sum := sha256.Sum256(s.Bytes); sum != s.Checksum() || s.Hash != Hash(sum) {
		t.Error("hash is not the SHA-256 of the pack")
	}
	if s.Kind != kind || len(s.Frames) != len(want) {
		t.Fatalf("kind %d with %d frames, want kind %d with %d", s.Kind, len(s.Frames), kind, len(want))
	}
	d := newDecoder(t)
	src := &memory{"p": s.Bytes}
	toc, err := ReadTOC(t.Context(), src, "p", d, k.openIndex)
	if err != nil {
		t.Fatal(err)
	}
	if toc.Kind != kind || !equalFrames(toc.Frames, s.Frames) {
		t.Error("table of contents differs from what Finish gave")
	}
	i := 0
	for m, err := range Walk(s.Bytes) {
		if err != nil {
			t.Fatal(err)
		}
		if i < len(want) {
			checkFrameData(t, k, d, toc.Frames[i], m, want[i])
		}
		i++
	}
	if i != len(want)+2 {
		t.Errorf("%d members, want %d", i, len(want)+2)
	}
}

func checkFrameData(t *testing.T, k keys, d *Decoder, f Frame, m Member, want []byte) {
	t.Helper()
	if m.Offset != int64(f.Offset) || len(m.Data) != int(f.Length) {
		t.Errorf("member %s at %d, %d bytes; frame at %d, %d bytes", m.Name, m.Offset, len(m.Data), f.Offset, f.Length)
	}
	before := []byte("kept")
	got, err := d.Frame(before, m.Data, k.openContent, int(f.Plain))
	if err != nil {
		t.Fatalf("member %s: %v", m.Name, err)
	}
	if !bytes.Equal(got, append(before, want...)) {
		t.Errorf("member %s: wrong plaintext", m.Name)
	}
	if !slices.Equal(f.Chunks, chunksOf(want, 32<<10)) {
		t.Errorf("member %s: wrong chunks", m.Name)
	}
}

func TestBuilderMakesOnePackAfterTheOther(t *testing.T) {
	k := newKeys(t, true)
	first, second := [][]byte{prose(1, 1000), noise(1, 1000)}, [][]byte{noise(2, 70000)}
	b := newBuilder(t, Data, Options{}, k, 1<<20)
	var packs []Sealed
	for _, frames := range [][][]byte{first, second} {
		for _, p := range frames {
			if err := b.Add(p, chunksOf(p, 32<<10), HintProbe); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add([]byte{1}, chunksOf([]byte{1}, 1), HintProbe); !errors.Is(err, ErrFinished) {
			t.Errorf("add after finish: %v, want ErrFinished", err)
		}
		if _, err := b.Finish(); !errors.Is(err, ErrFinished) {
			t.Errorf("finish after finish: %v, want ErrFinished", err)
		}
		packs = append(packs, s)
		b.Reset(make([]byte, 1<<20))
	}
	checkPack(t, k, packs[0], Data, first)
	checkPack(t, k, packs[1], Data, second)
	if _, err := b.Finish(); !errors.Is(err, ErrEmpty) {
		t.Errorf("finish without frames: %v, want ErrEmpty", err)
	}
}

func TestBuilderStaysInItsBuffer(t *testing.T) {
	k := newKeys(t, false)
	r := rand.New(rand.NewPCG(1, 2))
	b := newBuilder(t, Meta, Options{Verify: VerifyOff}, k, 0)
	for round := range 20 {
		size := 64<<10 + r.IntN(1<<20)
		buf := make([]byte, size)
		b.Reset(buf)
		added := [][]byte{}
		for {
			p := noise(r.Uint64(), 1+r.IntN(100<<10))
			chunks := chunksOf(p, 1+r.IntN(len(p)))
			fits, before := b.Fits(len(p), len(chunks)), b.Size()
			err := b.Add(p, chunks, HintRaw)
			if errors.Is(err, ErrFull) {
				if fits {
					t.Fatal("Fits promised what Add refused")
				}
				if b.Size() != before || b.Len() != len(added) {
					t.Fatal("a refused frame changed the pack")
				}
				break
			}
			if err != nil {
				if len(added) == 0 && strings.Contains(err.Error(), "too small") {
					added = nil
					break
				}
				t.Fatal(err)
			}
			added = append(added, p)
		}
		if len(added) == 0 {
			continue
		}
		bound := b.Size()
		s, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Bytes) > bound || bound > size {
			t.Errorf("round %d: %d bytes, Size said %d, buffer has %d", round, len(s.Bytes), bound, size)
		}
		if bound-len(s.Bytes) > 4096+bound/50 {
			t.Errorf("round %d: %d bytes, but Size said %d", round, len(s.Bytes), bound)
		}
		if &s.Bytes[0] != &buf[0] {
			t.Errorf("round %d: the pack left its buffer", round)
		}
	}
}

func TestBuilderNotFullTakesAnyFrame(t *testing.T) {
	k := newKeys(t, true)
	b := newBuilder(t, Data, Options{Verify: VerifyOff}, k, 16<<20)
	p := noise(1, FramePlainMax)
	chunks := chunksOf(p, FramePlainMax/FrameChunksMax)
	for !b.Full() {
		if err := b.Add(p, chunks, HintProbe); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() != 3 {
		t.Errorf("%d frames of 4 MiB in a buffer of 16 MiB, want 3", b.Len())
	}
	b = newBuilder(t, Data, Options{Verify: VerifyOff}, k, PackTarget)
	small := prose(1, FrameChunksMax)
	for !b.Full() { // now the table of contents fills up first
		if err := b.Add(small, chunksOf(small, 1), HintProbe); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTOC(t.Context(), &memory{"p": s.Bytes}, "p", newDecoder(t), k.openIndex); err != nil {
		t.Error(err)
	}
}

func TestBuilderTarget(t *testing.T) {
	k := newKeys(t, true)
	b := newBuilder(t, Data, Options{Target: 100 << 10}, k, 1<<20)
	p := noise(1, 30<<10)
	var err error
	for err == nil {
		err = b.Add(p, chunksOf(p, len(p)), HintProbe)
	}
	if !errors.Is(err, ErrFull) || b.Len() != 3 || b.Size() > 100<<10 {
		t.Errorf("%d frames, %d bytes: %v", b.Len(), b.Size(), err)
	}
}

func TestBuilderRefuses(t *testing.T) {
	k := newKeys(t, true)
	b := newBuilder(t, Data, Options{}, k, 8<<20)
	big := make([]byte, FramePlainMax+1)
	for _, tt := range []struct {
		name   string
		plain  []byte
		chunks []Chunk
		want   string
	}{
		{"nothing", nil, nil, "plain length 0"},
		{"too much", big, chunksOf(big, 1<<20), "plain length 4194305"},
		{"no chunks", []byte{1}, nil, "0 chunks"},
		{"too many chunks", big[:FrameChunksMax+1], chunksOf(big[:FrameChunksMax+1], 1), "16385 chunks"},
		{"empty chunk", []byte{1}, []Chunk{{Length: 1}, {}}, "empty chunk"},
		{"chunks too short", []byte{1, 2}, []Chunk{{Length: 1}}, "chunks make 1 bytes, frame has 2"},
		{"chunks wrap around", []byte{1, 2}, []Chunk{{Length: 3}, {Length: 1<<32 - 1}}, "chunks make 4294967298"},
	} {
		if err := b.Add(tt.plain, tt.chunks, HintProbe); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if b.Len() != 0 {
		t.Error("a refused frame was added")
	}
	if _, err := NewBuilder(2, Options{}, k.content, k.index, nil); err == nil {
		t.Error("kind 2 accepted")
	}
	if _, err := NewBuilder(Data, Options{Verify: 3}, k.content, k.index, nil); err == nil {
		t.Error("verify level 3 accepted")
	}
}

// badSealer spoils what the real one makes.
type badSealer struct {
	Sealer
	spoil func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error)
}

func (b *badSealer) Seal(dst, plain []byte) ([]byte, seal.FileKey, error) {
	if b.spoil == nil {
		return b.Sealer.Seal(dst, plain)
	}
	return b.spoil(dst, plain, b.Sealer)
}

func TestBuilderFindsBadFrames(t *testing.T) {
	flip := func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		out, key, err := s.Seal(dst, plain)
		out[len(out)-20] ^= 4
		return out, key, err
	}
	other := func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		plain = bytes.Clone(plain)
		plain[20] ^= 4 // in a raw block: it decodes, to something else
		return s.Seal(dst, plain)
	}
	broken := func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		return s.Seal(dst, bytes.Repeat([]byte{0x55}, len(plain)))
	}
	for name, spoil := range map[string]func([]byte, []byte, Sealer) ([]byte, seal.FileKey, error){
		"bit flipped after sealing": flip, "bit flipped before sealing": other, "encoder broken": broken,
	} {
		k := newKeys(t, true)
		bad := &badSealer{Sealer: k.content}
		b, err := NewBuilder(Data, Options{}, bad, k.index, make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		want := [][]byte{noise(1, 1000), noise(2, 1000)}
		for _, p := range want {
			bad.spoil = spoil
			if err := b.Add(p, chunksOf(p, 500), HintProbe); !errors.Is(err, ErrVerify) {
				t.Errorf("%s: %v, want ErrVerify", name, err)
			}
			bad.spoil = nil
			if err := b.Add(p, chunksOf(p, 32<<10), HintProbe); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		checkPack(t, k, s, Data, want) // the failures left no trace
	}
}

func TestBuilderFindsBadTable(t *testing.T) {
	k := newKeys(t, true)
	bad := &badSealer{Sealer: k.index}
	b, err := NewBuilder(Data, Options{}, k.content, bad, make([]byte, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	p := prose(1, 1000)
	if err := b.Add(p, chunksOf(p, 32<<10), HintProbe); err != nil {
		t.Fatal(err)
	}
	bad.spoil = func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		return s.Seal(dst, make([]byte, len(plain)))
	}
	if _, err := b.Finish(); !errors.Is(err, ErrVerify) {
		t.Errorf("%v, want ErrVerify", err)
	}
	bad.spoil = func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		return s.Seal(dst, plain[1:])
	}
	if _, err := b.Finish(); err == nil || !strings.Contains(err.Error(), "promised") {
		t.Errorf("short seal: %v", err)
	}
	bad.spoil = nil
	s, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	checkPack(t, k, s, Data, [][]byte{p})
}

func TestVerifySampleChecksSome(t *testing.T) {
	k := newKeys(t, true)
	bad := &badSealer{Sealer: k.content, spoil: func(dst, plain []byte, s Sealer) ([]byte, seal.FileKey, error) {
		out, _, err := s.Seal(dst, plain)
		return out, seal.FileKey{}, err // fails wherever it is checked
	}}
	for v, want := range map[Verify]int{VerifyOff: 40, VerifyFull: 0, VerifySample: 0} {
		b, err := NewBuilder(Data, Options{Verify: v}, bad, k.index, make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			if err := b.Add([]byte("x"), []Chunk{{Length: 1}}, HintRaw); err != nil && !errors.Is(err, ErrVerify) {
				t.Fatal(err)
			}
		}
		if b.Len() != want {
			t.Errorf("%v let %d of 40 bad frames pass, want %d", v, b.Len(), want)
		}
	}
	checked := 0
	for n := range uint64(64) {
		if VerifySample.wants(n) {
			checked++
		}
	}
	if checked != 4 {
		t.Errorf("sample checks %d of 64 frames, want 4", checked)
	}
}

func TestVerifyNames(t *testing.T) {
	for _, v := range []Verify{VerifyFull, VerifySample, VerifyOff} {
		if got, err := ParseVerify(v.String()); err != nil || got != v {
			t.Errorf("%v parses as %v, %v", v, got, err)
		}
	}
	if _, err := ParseVerify("Full"); err == nil {
		t.Error("Full accepted")
	}
}

// plainSealer costs nothing, so that what remains is this package's.
type plainSealer struct{}

func (plainSealer) Overhead(int) int { return 8 }
func (plainSealer) Seal(dst, plain []byte) ([]byte, seal.FileKey, error) {
	return append(append(dst, "sealed: "...), plain...), seal.FileKey{}, nil
}

func TestAddDoesNotAllocate(t *testing.T) {
	for name, p := range map[string][]byte{"noise": noise(1, 200<<10), "prose": prose(1, 200<<10)} {
		b, err := NewBuilder(Data, Options{Verify: VerifyOff}, plainSealer{}, plainSealer{}, make([]byte, PackTarget))
		if err != nil {
			t.Fatal(err)
		}
		chunks := chunksOf(p, 64<<10)
		add := func() {
			if err := b.Add(p, chunks, HintProbe); err != nil {
				t.Fatal(err)
			}
		}
		if n := fewestAllocs(add); n != 0 {
			t.Errorf("%s: %v allocations per frame, want 0", name, n)
		}
	}
}
