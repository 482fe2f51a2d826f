package pack

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"

	"lifeboat/storage"
)

// asIs opens an age file that is none: its contents in clear.
func asIs(dst, file []byte) ([]byte, error) { return append(dst, file...), nil }

func TestDecoderHoldsFramesToTheirLength(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder(t)
	stream := bytes.Clone(e.Encode(prose(1, 100000), HintProbe))
	for _, n := range []int{-1, 0, 1, 99999, 100001, FramePlainMax, FramePlainMax + 1} {
		dst := []byte("kept")
		out, err := d.Frame(dst, stream, asIs, n)
		if !errors.Is(err, storage.ErrCorrupt) || string(out) != "kept" {
			t.Errorf("plain length %d: %q, %v; want ErrCorrupt", n, out, err)
		}
	}
	if _, err := d.Frame(nil, make([]byte, FrameFileMax+1), asIs, 1); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("huge file: %v", err)
	}
	no := errors.New("no such key")
	if _, err := d.Frame(nil, stream, func(dst, _ []byte) ([]byte, error) { return nil, no }, 100000); !errors.Is(err, no) {
		t.Errorf("%v, want the opener's error", err)
	}
	if out, err := d.Frame(nil, stream, asIs, 100000); err != nil || len(out) != 100000 {
		t.Errorf("after all that: %d bytes, %v", len(out), err)
	}
}

func TestDecoderRefusesStreams(t *testing.T) {
	d := newDecoder(t)
	bomb := streamOf(t, make([]byte, 64<<20), zstd.WithSingleSegment(true))
	hidden := append(streamOf(t, prose(1, 1000)), bomb...) // the first frame is honest
	liar := append([]byte(nil), bomb...)                   // declares less than it holds
	copy(liar[5:9], []byte{0, 0, 4, 0})
	undeclared := undeclaredStream(t, prose(1, 1000))
	for name, tt := range map[string]struct {
		stream []byte
		plain  int
	}{
		"empty":              {nil, 1000},
		"not zstd":           {prose(1, 1000), 1000},
		"truncated":          {streamOf(t, noise(1, 1000))[:500], 1000},
		"bomb":               {bomb, 1000},
		"bomb behind":        {hidden, 1000},
		"lying bomb":         {liar, 4 << 16},
		"undeclared":         {undeclared, 1000},
		"skippable in front": {append(appendSkippable(nil, 16), streamOf(t, prose(1, 1000))...), 1000},
		"rubbish behind":     {append(streamOf(t, prose(1, 1000)), "rubbish"...), 1000},
		"window":             {windowStream(), 1000},
	} {
		if out, err := d.Decode(nil, tt.stream, tt.plain); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %d bytes, %v; want ErrCorrupt", name, len(out), err)
		}
		if out, err := d.Object(nil, tt.stream, asIs, 1000); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s as an object: %d bytes, %v; want ErrCorrupt", name, len(out), err)
		}
	}
}

// streamOf compresses with the library's own choices.
func streamOf(t *testing.T, plain []byte, opt ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, opt...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

// undeclaredStream is written as a pipe writes it: without its length.
func undeclaredStream(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(plain)
	w.Flush()
	w.Write(plain)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// windowStream asks for a window of 2 TiB and declares 1000 bytes.
func windowStream() []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 1 << 6, 31 << 3, 0xe8, 0x02, 0x03, 0, 0, 'x'}
}

func TestObject(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder(t)
	for _, plain := range [][]byte{{'x'}, prose(1, 100), noise(1, 9<<20), prose(1, ObjectPlainMax)} {
		out, err := d.Object([]byte("a"), e.Encode(plain, HintProbe), asIs, len(plain))
		if err != nil || !bytes.Equal(out[1:], plain) {
			t.Errorf("%d bytes: %v", len(plain), err)
		}
	}
	if _, err := d.Object(nil, e.Encode(make([]byte, ObjectPlainMax+1), HintProbe), asIs, 1<<40); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("too big an object: %v", err)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder(t)
	for name, plain := range map[string][]byte{"noise": noise(1, 1<<20), "prose": prose(1, 1<<20)} {
		stream := bytes.Clone(e.Encode(plain, HintProbe))
		dst := make([]byte, 0, len(plain)+decodeSlack)
		decode := func() {
			if _, err := d.Frame(dst, stream, asIs, len(plain)); err != nil {
				t.Fatal(err)
			}
		}
		if n := fewestAllocs(decode); n != 0 {
			t.Errorf("%s: %v allocations per frame, want 0", name, n)
		}
	}
}
