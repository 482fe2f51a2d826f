package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"lifeboat/storage"
)

// memory is a store that only gets.
type memory map[string][]byte

func (m *memory) Get(_ context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	data, ok := (*m)[key]
	if !ok {
		return nil, storage.Info{}, storage.ErrNotFound
	}
	info := storage.Info{Key: key, Size: int64(len(data))}
	if offset < 0 {
		offset = max(0, int64(len(data))+offset)
	}
	data = data[offset:]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), info, nil
}

// counting counts the requests of a memory and can spoil them.
type counting struct {
	memory
	gets  int
	spoil func(n int, body []byte, info storage.Info) ([]byte, storage.Info)
}

func (c *counting) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	c.gets++
	body, info, err := c.memory.Get(ctx, key, offset, length)
	if err != nil || c.spoil == nil {
		return body, info, err
	}
	data, err := io.ReadAll(body)
	data, info = c.spoil(c.gets, data, info)
	return io.NopCloser(bytes.NewReader(data)), info, err
}

func TestReadTOCRequests(t *testing.T) {
	k := newKeys(t, false)
	d := newDecoder(t)
	small := buildPack(t, Data, Options{}, k, prose(1, 1000))
	long := prose(2, FrameChunksMax)
	b := newBuilder(t, Data, Options{}, k, 8<<20)
	if err := b.Add(long, chunksOf(long, 1), HintProbe); err != nil {
		t.Fatal(err)
	}
	large, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		s    Sealed
		gets int
	}{
		{"one frame", small, 1},
		{"a long table", large, 2},
		{"many frames", buildPack(t, Data, Options{}, k, plains()...), 1},
	} {
		src := &counting{memory: memory{"p": tt.s.Bytes}}
		toc, err := ReadTOC(t.Context(), src, "p", d, k.openIndex)
		if err != nil || !equalFrames(toc.Frames, tt.s.Frames) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if src.gets != tt.gets {
			t.Errorf("%s: %d requests, want %d", tt.name, src.gets, tt.gets)
		}
	}
	if _, err := ReadTOC(t.Context(), &memory{}, "p", d, k.openIndex); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("missing pack: %v", err)
	}
	if _, err := ReadTOC(t.Context(), &memory{"p": small.Bytes}, "p", d, k.openContent); err == nil || errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("wrong key: %v, want an error that is not ErrCorrupt", err)
	}
	for name, spoil := range map[string]func(n int, body []byte, info storage.Info) ([]byte, storage.Info){
		"short tail": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			return body[:len(body)-1], info
		},
		"long tail": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			return append(body, 0), info
		},
		"second answer short": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			return body[:len(body)-n/2], info
		},
		"size changes": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			info.Size += int64(n/2) * blockSize
			return body, info
		},
		"size absurd": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			info.Size = math.MaxInt64
			return body, info
		},
		"empty": func(n int, body []byte, info storage.Info) ([]byte, storage.Info) {
			return nil, storage.Info{}
		},
	} {
		src := &counting{memory: memory{"p": large.Bytes}, spoil: spoil}
		if _, err := ReadTOC(t.Context(), src, "p", d, k.openIndex); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

// TestFramesAreOrdinaryCBOR reads what EncodeFrames writes with another codec,
// in its strict mode, and gets the same bytes back from it.
func TestFramesAreOrdinaryCBOR(t *testing.T) {
	type record struct {
		_                            struct{} `cbor:",toarray"`
		Offset, Length, Plain, Epoch uint32
		Chunks                       []byte
	}
	var frames []Frame
	at := uint32(blockSize)
	for i, p := range plains() {
		frames = append(frames, Frame{Offset: at, Length: uint32(len(p)), Plain: uint32(len(p)), Epoch: uint32(i) << (3 * i), Chunks: chunksOf(p, 32<<10)})
		at = uint32(roundUp(int64(at)+int64(len(p)))) + blockSize
	}
	enc := EncodeFrames(nil, frames)
	var records []record
	if err := cbor.Unmarshal(enc, &records); err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		f := frames[i]
		if r.Offset != f.Offset || r.Length != f.Length || r.Plain != f.Plain || r.Epoch != f.Epoch || len(r.Chunks) != len(f.Chunks)*chunkRecord {
			t.Errorf("frame %d: %+v", i, r)
		}
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := mode.Marshal(records)
	if err != nil || !bytes.Equal(again, enc) {
		t.Errorf("another deterministic encoder writes other bytes: %v", err)
	}
	got, rest, err := DecodeFrames(append(enc, "rest"...))
	if err != nil || string(rest) != "rest" || !equalFrames(got, frames) {
		t.Errorf("does not read back: %v, rest %q", err, rest)
	}
	sizes := headSize(uint64(len(frames)))
	for i := range frames {
		sizes += frameSize(&frames[i], len(frames[i].Chunks))
	}
	if sizes != len(enc) {
		t.Errorf("frameSize adds up to %d, encoded are %d", sizes, len(enc))
	}
}

func TestCheckFrames(t *testing.T) {
	ok := []Frame{{Offset: 512, Length: 512, Plain: 1}, {Offset: 1536, Length: 1, Plain: 1}}
	if err := CheckFrames(ok, 1537); err != nil {
		t.Error(err)
	}
	for name, frames := range map[string][]Frame{
		"none":              {},
		"past the end":      {{Offset: 1536, Length: 2, Plain: 1}},
		"over a header":     {{Offset: 0, Length: 1, Plain: 1}},
		"backwards":         {ok[1], ok[0]},
		"same place":        {ok[0], ok[0]},
		"no header between": {ok[0], {Offset: 1024, Length: 1, Plain: 1}},
	} {
		if err := CheckFrames(frames, 1537); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}
