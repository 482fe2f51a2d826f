package pack

import (
	"bytes"
	"errors"
	"testing"

	"lifeboat/storage"
)

// wantCorrupt: parsers fail in one way only.
func wantCorrupt(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}

// addVectors seeds a fuzz target with the inputs of all vectors of a kind.
func addVectors(f *testing.F, kind string) {
	f.Helper()
	for _, v := range readVectors(f) {
		if v.kind == kind {
			f.Add(v.input)
		}
	}
}

func FuzzTOC(f *testing.F) {
	addVectors(f, "toc")
	f.Fuzz(func(t *testing.T, b []byte) {
		toc, err := ParseTOC(b, PackMax)
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if again := appendTOC(nil, toc.Kind, toc.Frames); !bytes.Equal(again, b) {
			t.Errorf("%x reads as %+v, which is written %x", b, toc, again)
		}
		for i, fr := range toc.Frames {
			sum := uint64(0)
			for _, c := range fr.Chunks {
				sum += uint64(c.Length)
			}
			if sum != uint64(fr.Plain) {
				t.Errorf("frame %d: chunks make %d of %d bytes", i, sum, fr.Plain)
			}
		}
	})
}

func FuzzFrames(f *testing.F) {
	addVectors(f, "frames")
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, rest, err := DecodeFrames(b)
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if again := append(EncodeFrames(nil, frames), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x is written again as %x", b, again)
		}
		if len(frames) > 0 {
			if err := CheckFrames(frames, PackMax); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzFooter(f *testing.F) {
	addVectors(f, "footer")
	f.Fuzz(func(t *testing.T, tail []byte) {
		size := int64(len(tail)) + 10*blockSize // what the vectors have in front
		foot, err := ParseFooter(tail, size)
		if err != nil {
			wantCorrupt(t, err)
			return
		}
		if foot.Offset+foot.Length > size-tailSize || foot.Offset < 0 || foot.Length <= 0 {
			t.Errorf("%+v in a pack of %d bytes", foot, size)
		}
	})
}

func FuzzWalk(f *testing.F) {
	addVectors(f, "pack")
	f.Fuzz(func(t *testing.T, pack []byte) {
		var again archive
		var last Member
		for m, err := range Walk(pack) {
			if err != nil {
				wantCorrupt(t, err)
				return
			}
			again.add(m.Name, m.Data)
			last = m
		}
		if last.Name != footerName || !bytes.Equal(append(again.b, make([]byte, endSize)...), pack) {
			t.Error("accepted a pack that is written otherwise")
		}
	})
}

func FuzzStream(f *testing.F) {
	addVectors(f, "stream")
	d := newDecoder(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		const plain = 3000
		dst := make([]byte, 0, plain+decodeSlack+8)
		guard := dst[plain+decodeSlack : cap(dst)]
		out, err := d.Frame(dst, stream, asIs, plain)
		if !zero(guard) {
			t.Error("wrote past its room")
		}
		if err != nil {
			wantCorrupt(t, err)
		} else if len(out) != plain {
			t.Errorf("%d bytes", len(out))
		}
		if out, err := d.Object(nil, stream, asIs, plain); err != nil {
			wantCorrupt(t, err)
		} else if len(out) > plain {
			t.Errorf("object of %d bytes", len(out))
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("some text"), uint16(3), uint8(0))
	f.Add(prose(1, 5000), uint16(700), uint8(1))
	f.Add(noise(1, 20000), uint16(7000), uint8(2))
	b, err := NewBuilder(Data, Options{}, plainSealer{}, plainSealer{}, make([]byte, 1<<20))
	if err != nil {
		f.Fatal(err)
	}
	b.opt.Verify = VerifyOff // plainSealer's files do not open
	d := newDecoder(f)
	open := func(dst, file []byte) ([]byte, error) { return append(dst, file[8:]...), nil }
	buf := make([]byte, 1<<20)
	f.Fuzz(func(t *testing.T, plain []byte, cut uint16, hint uint8) {
		if len(plain) == 0 || cut == 0 || len(plain)/int(cut) > FrameChunksMax || len(plain) > 200<<10 {
			return
		}
		b.Reset(buf)
		if err := b.Add(plain, chunksOf(plain, int(cut)), Hint(hint%3)); err != nil {
			t.Fatal(err)
		}
		s, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		toc, err := ReadTOC(t.Context(), &memory{"p": s.Bytes}, "p", d, open)
		if err != nil || !equalFrames(toc.Frames, s.Frames) {
			t.Fatal(err)
		}
		fr := toc.Frames[0]
		got, err := d.Frame(nil, s.Bytes[fr.Offset:][:fr.Length], open, int(fr.Plain))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v", err)
		}
		if _, err := members(s.Bytes); err != nil {
			t.Error(err)
		}
	})
}
