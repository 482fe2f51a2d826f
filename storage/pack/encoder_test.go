package pack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestPaddedSize(t *testing.T) {
	for n, want := range map[int]int{
		1: 1, 63: 63, 64: 64, 127: 127, 128: 128,
		129:       138,     // the next multiple of 2 leaves no room for 8 bytes
		1000:      1000,    // steps of 8
		996:       1008,    // 4 bytes are too few, so one step more
		1 << 20:   1 << 20, // steps of 16 KiB
		1<<20 + 1: 1<<20 + 1<<14,
		5<<20 - 1: 5<<20 + 1<<16,
	} {
		if got := paddedSize(n); got != want {
			t.Errorf("paddedSize(%d) = %d, want %d", n, got, want)
		}
	}
	lengths := map[int]bool{}
	for n := 1; n < 300000; n++ {
		got := paddedSize(n)
		if pad := got - n; pad < 0 || pad > n>>padShift+15 || pad > 0 && pad < skippableHead {
			t.Fatalf("paddedSize(%d) = %d", n, got)
		}
		if n >= 1<<16 {
			lengths[got] = true
		}
	}
	if len(lengths) > 3*65 {
		t.Errorf("%d different lengths from 64 KiB to 300 kB: they tell too much", len(lengths))
	}
}

func TestEncode(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder(t)
	stock, err := zstd.NewReader(nil) // without any of our limits
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close()
	all := plains()
	for _, n := range []int{2, 255, 256, 257, 65535, 65536, 65791, 65792, rawBlockMax, rawBlockMax + 1, 2*rawBlockMax - 1} {
		all = append(all, noise(uint64(n), n), prose(uint64(n), n))
	}
	for _, plain := range all {
		for _, hint := range []Hint{HintProbe, HintRaw, HintZstd} {
			stream := e.Encode(plain, hint)
			if len(stream) > EncodedMax(len(plain)) {
				t.Errorf("%d bytes become %d, bound %d", len(plain), len(stream), EncodedMax(len(plain)))
			}
			if hint == HintRaw && len(stream) < len(plain) {
				t.Errorf("%d bytes stored raw become %d", len(plain), len(stream))
			}
			got, err := d.Decode(nil, stream, len(plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, hint %d: %v", len(plain), hint, err)
			}
			got, err = stock.DecodeAll(stream, nil)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, hint %d, stock decoder: %v", len(plain), hint, err)
			}
		}
	}
}

func TestEncodeChoosesWell(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Encode(prose(1, 1<<20), HintProbe)); n > 400<<10 {
		t.Errorf("1 MiB of prose becomes %d bytes", n)
	}
	if n := len(e.Encode(noise(1, 1<<20), HintProbe)); n != paddedSize(rawSize(1<<20)) {
		t.Errorf("1 MiB of noise becomes %d bytes, want raw blocks", n)
	}
	// Noise that lies in front of prose must not hide it.
	if n := len(e.Encode(append(noise(1, 700<<10), prose(1, 324<<10)...), HintProbe)); n > 900<<10 {
		t.Errorf("noise and prose become %d bytes", n)
	}
	// What zstd hardly shortens is stored raw: cheaper to read.
	hardly := append(noise(1, 1<<20), make([]byte, 8<<10)...)
	if n := len(e.Encode(hardly, HintZstd)); n < len(hardly) {
		t.Errorf("%d bytes become %d", len(hardly), n)
	}
}

func TestSkippableIsZeros(t *testing.T) {
	b := appendSkippable([]byte("ab"), 2+8+1500)
	if len(b) != 1510 || binary.LittleEndian.Uint32(b[2:]) != skippableMagic ||
		binary.LittleEndian.Uint32(b[6:]) != 1500 || !zero(b[10:]) {
		t.Errorf("% x", b[:20])
	}
}
