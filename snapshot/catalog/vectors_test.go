package catalog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

func TestPageVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/pages.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " |")
		want, digits, _ := strings.Cut(strings.TrimSpace(rest), " |")
		digits = strings.TrimSpace(digits)
		t.Run(name, func(t *testing.T) {
			page, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readVector(page)
			if want, good := strings.CutPrefix(want, "ok "); good {
				if err != nil || fmt.Sprint(got) != want {
					t.Errorf("%d entries, %v; want %s", got, err, want)
				}
				return
			}
			if err == nil || !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// readVector reads a page at the level that it names itself, and counts the entries.
func readVector(page []byte) (int, error) {
	level := 0
	if len(page) > 6 && page[6] < 24 {
		level = int(page[6])
	}
	p := parser{buf: page}
	items, err := p.readPageHead(level)
	if err != nil {
		return 0, damaged(pack.ChunkID{}, err)
	}
	if level == 0 {
		entries, again, err := readLeaf(page, items)
		if err == nil && !bytes.Equal(again, page) {
			err = errors.New("written otherwise")
		}
		return len(entries), err
	}
	// There is no page above: what the page says of itself is all it can be held against.
	total := uint64(0)
	for range items {
		l, err := p.readLink(level)
		if err != nil {
			break
		}
		total += l.entries
	}
	links, err := readLinks(page, &link{level: level, entries: total})
	if err != nil {
		return 0, err
	}
	again := appendPageHead(nil, level, len(links))
	for i := range links {
		again = appendLink(again, &links[i])
	}
	if !bytes.Equal(again, page) {
		return 0, errors.New("written otherwise")
	}
	return int(total), nil
}

// Where pages end is part of the format: the same paths make the same pages for ever.
func TestCutVectors(t *testing.T) {
	var sizes []string
	b := NewBuilder(0x0123456789abcdef, func(page []byte) (pack.ChunkID, error) {
		sizes = append(sizes, fmt.Sprint(len(page)))
		return pack.ChunkID{byte(len(sizes))}, nil
	})
	for i := range 8000 {
		if err := b.Add(&Entry{Path: fmt.Appendf(nil, "dir/%06d", i), Size: 100, Chunks: []pack.ChunkID{{1}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	const want = "249247 79672 68044 11076 247"
	if got := strings.Join(sizes, " "); got != want {
		t.Errorf("page sizes %s, want %s", got, want)
	}
}
