package pack

import (
	"errors"
	"testing"
)

func TestAbsorb(t *testing.T) {
	k := newKeys(t, true)
	var want [][]byte
	all := newBuilder(t, Data, Options{}, k, 1<<20)
	for i := range uint64(3) {
		b := newBuilder(t, Data, Options{}, k, 1<<20)
		for j := range uint64(4) {
			p := prose(10*i+j, 100_000)
			if err := b.Add(p, chunksOf(p, 32<<10), HintProbe); err != nil {
				t.Fatal(err)
			}
			want = append(want, p)
		}
		if err := all.Absorb(b); err != nil {
			t.Fatal(err)
		}
	}
	bound := all.Size()
	s, err := all.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Bytes) > bound || s.Plain != int64(len(want))*100_000 {
		t.Errorf("%d bytes, bound %d; %d bytes of plaintext", len(s.Bytes), bound, s.Plain)
	}
	checkPack(t, k, s, Data, want)
}

func TestAbsorbRefuses(t *testing.T) {
	k := newKeys(t, true)
	a, b := newBuilder(t, Data, Options{}, k, 64<<10), newBuilder(t, Data, Options{}, k, 64<<10)
	p := noise(1, 30_000)
	for _, bu := range []*Builder{a, b} {
		if err := bu.Add(p, chunksOf(p, 1000), HintRaw); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Absorb(b); !errors.Is(err, ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if err := a.Absorb(newBuilder(t, Meta, Options{}, k, 64<<10)); err == nil {
		t.Error("metadata went into a data pack")
	}
	s, err := a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Frames) != 1 {
		t.Errorf("%d frames after refusals, want 1", len(s.Frames))
	}
	if err := a.Absorb(b); !errors.Is(err, ErrFinished) {
		t.Errorf("%v, want ErrFinished", err)
	}
	if buf := b.Release(); cap(buf) != 64<<10 || b.Ready() {
		t.Errorf("released a buffer of %d bytes", cap(buf))
	}
}
