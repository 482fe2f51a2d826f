package pack

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"lifeboat/storage"
)

func TestArchiveIsOrdinaryTar(t *testing.T) {
	k := newKeys(t, true)
	s := buildPack(t, Data, Options{}, k, prose(1, 1000), noise(1, 1000))
	var names []string
	r := tar.NewReader(bytes.NewReader(s.Bytes))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Format != tar.FormatUSTAR || h.Typeflag != tar.TypeReg || h.Mode != 0o400 || h.Uid != 0 || h.Gid != 0 || h.Uname+h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s: %+v", h.Name, h)
		}
		data, err := io.ReadAll(r)
		if err != nil || int64(len(data)) != h.Size {
			t.Errorf("%s: %d bytes, %v", h.Name, len(data), err)
		}
		names = append(names, h.Name)
	}
	if want := []string{"000000.zst.age", "000001.zst.age", "toc.zst.age", "footer"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// archive builds packs out of hand-made members.
type archive struct{ b []byte }

func (a *archive) add(name string, data []byte) *archive {
	a.b = appendHeader(a.b, []byte(name), int64(len(data)))
	a.b = appendPadding(append(a.b, data...))
	return a
}

func (a *archive) end(toc Footer) []byte {
	a.add(footerName, appendFooter(nil, toc))
	return append(a.b, make([]byte, endSize)...)
}

func members(pack []byte) (names []string, err error) {
	for m, err := range Walk(pack) {
		if err != nil {
			return names, err
		}
		names = append(names, m.Name)
	}
	return names, nil
}

func TestWalkRefuses(t *testing.T) {
	one := func() *archive { return new(archive).add("000000.zst.age", []byte("frame")) }
	toc := Footer{Offset: 3 * blockSize, Length: 3}
	whole := func() []byte { return one().add(tocName, []byte("toc")).end(toc) }
	if names, err := members(whole()); err != nil || len(names) != 3 {
		t.Fatalf("%q, %v", names, err)
	}
	dirty := whole()
	dirty[blockSize+100] = 1
	for name, tt := range map[string]struct {
		pack []byte
		good int // members before the error
	}{
		"empty":              {nil, 0},
		"no frames":          {new(archive).add(tocName, []byte("toc")).end(Footer{Offset: blockSize, Length: 3}), 0},
		"no table":           {one().end(toc), 1},
		"no footer":          {append(one().add(tocName, []byte("toc")).b, make([]byte, 1024)...), 2},
		"frame after table":  {one().add(tocName, []byte("toc")).add("000001.zst.age", []byte("x")).end(toc), 2},
		"second table":       {one().add(tocName, []byte("toc")).add(tocName, []byte("toc")).end(toc), 2},
		"numbers with a gap": {one().add("000002.zst.age", []byte("x")).end(toc), 1},
		"number twice":       {one().add("000000.zst.age", []byte("x")).end(toc), 1},
		"empty frame":        {one().add("000001.zst.age", nil).end(toc), 1},
		"foreign name":       {one().add("../../etc/passwd", []byte("x")).end(toc), 1},
		"binary name":        {one().add("\x1b[2J", []byte("x")).end(toc), 1},
		"footer elsewhere":   {one().add(tocName, []byte("toc")).end(Footer{Offset: blockSize, Length: 3}), 2},
		"one zero block":     {whole()[:len(whole())-blockSize], 2},
		"three zero blocks":  {append(whole(), make([]byte, blockSize)...), 2},
		"bytes after it":     {append(whole(), 'x'), 2},
		"end not zero":       {append(whole()[:len(whole())-1], 'x'), 2},
		"padding not zero":   {dirty, 0},
		"cut in a frame":     {whole()[:blockSize+2], 0},
		"cut in a header":    {whole()[:2*blockSize+10], 1},
		"too long":           {append(whole(), make([]byte, PackMax)...), 0},
	} {
		names, err := members(tt.pack)
		if !errors.Is(err, storage.ErrCorrupt) || len(names) != tt.good {
			t.Errorf("%s: %d members, %v; want %d and ErrCorrupt", name, len(names), err, tt.good)
		}
	}
}

// TestWalkSeesEveryFlip flips each bit outside the age files: nothing there is free.
func TestWalkSeesEveryFlip(t *testing.T) {
	pack := new(archive).add("000000.zst.age", []byte("frame")).add(tocName, []byte("toc")).
		end(Footer{Offset: 3 * blockSize, Length: 3})
	for i := range pack {
		if i >= blockSize && i < blockSize+5 || i >= 3*blockSize && i < 3*blockSize+3 {
			continue // contents, which age authenticates
		}
		for bit := range 8 {
			pack[i] ^= 1 << bit
			if _, err := members(pack); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("byte %d, bit %d flipped: %v", i, bit, err)
			}
			// The last digit of the table's length shows only when it is opened.
			digit := len(pack) - footerSize - endSize + len(footerWords+"1536 ")
			if _, err := ParseFooter(pack, int64(len(pack))); err == nil && i >= len(pack)-tailSize && i != digit {
				t.Fatalf("byte %d, bit %d flipped: footer accepted", i, bit)
			}
			pack[i] ^= 1 << bit
		}
	}
}
