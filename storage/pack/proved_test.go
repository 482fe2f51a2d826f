package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"lifeboat/storage"
)

func TestReadProvedTOC(t *testing.T) {
	k := newKeys(t, false)
	d := newDecoder(t)
	long := prose(2, FrameChunksMax)
	b := newBuilder(t, Data, Options{}, k, 16<<20)
	noise := make([]byte, FramePlainMax)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	for _, plain := range [][]byte{noise, noise, noise, long} {
		chunks := []Chunk{{ID: ChunkID{1}, Length: uint32(len(plain))}}
		if len(plain) == len(long) {
			chunks = chunksOf(plain, 1)
		}
		if err := b.Add(plain, chunks, HintRaw); err != nil {
			t.Fatal(err)
		}
	}
	large, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	small, other := buildPack(t, Data, Options{}, k, prose(1, 1000)), buildPack(t, Data, Options{}, k, prose(2, 1000))
	for name, s := range map[string]Sealed{"one frame": small, "more than is kept": large} {
		toc, size, err := ReadProvedTOC(t.Context(), &memory{"p": s.Bytes}, "p", sha256.Sum256(s.Bytes), d, k.openIndex)
		if err != nil || size != int64(len(s.Bytes)) || !equalFrames(toc.Frames, s.Frames) {
			t.Errorf("%s: %d bytes, %v", name, size, err)
		}
	}
	flipped := bytes.Clone(small.Bytes)
	flipped[600] ^= 1
	for name, bad := range map[string][]byte{"another pack": other.Bytes, "a flipped bit in a frame": flipped, "nothing": nil, "too large": make([]byte, PackMax+blockSize)} {
		if _, _, err := ReadProvedTOC(t.Context(), &memory{"p": bad}, "p", sha256.Sum256(small.Bytes), d, k.openIndex); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(int, []byte, storage.Info) ([]byte, storage.Info){
		"more than announced": func(_ int, b []byte, i storage.Info) ([]byte, storage.Info) { return append(b, 0), i },
		"cut short":           func(_ int, b []byte, i storage.Info) ([]byte, storage.Info) { return b[:len(b)-1], i },
	} {
		_, _, err := ReadProvedTOC(t.Context(), &counting{memory: memory{"p": bytes.Clone(small.Bytes)}, spoil: spoil}, "p", sha256.Sum256(small.Bytes), d, k.openIndex)
		if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
