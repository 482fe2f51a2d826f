package chunk

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"lifeboat/storage/pack"
)

// reference is the definition of the cut, one byte at a time and with no memory.
func reference(c *Cutter, buf []byte, eof bool) int {
	var h uint64
	for i, b := range buf {
		h = h<<1 + c.gear[b]
		n := i + 1
		switch {
		case n == c.max:
			return n
		case n < c.min:
		case n < c.avg && h < c.strict, n >= c.avg && h < c.loose:
			return n
		}
	}
	if eof {
		return len(buf)
	}
	return 0
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8), 31: 7})
	buf := make([]byte, n)
	r.Read(buf)
	return buf
}

func seed(b byte) (s [32]byte) {
	for i := range s {
		s[i] = b + byte(i)
	}
	return s
}

func TestCutsEqualTheReference(t *testing.T) {
	random := randomBytes(1, 24<<20)
	periodic := make([]byte, 6<<20)
	for i := range periodic {
		periodic[i] = byte(i % 251)
	}
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog, again and again;\n", 60_000))
	for i := 0; i < len(text); i += 4099 {
		text[i] = byte(i)
	}
	for name, data := range map[string][]byte{
		"random": random, "zeros": make([]byte, 9<<20), "periodic": periodic, "text": text,
		"tiny": random[:10], "just min": random[:Min], "empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			for _, sizes := range [][3]int{{Min, Avg, Max}, {64, 64, 64}, {64, 1000, 100_000}, {100, 50_000, 60_000}, {1 << 10, 8 << 10, 64 << 10}} {
				c := NewCutter(seed(3), sizes[0], sizes[1], sizes[2])
				rest := data[:min(len(data), 200*sizes[2])]
				for len(rest) > 0 {
					got, want := c.Next(rest, true), reference(c, rest, true)
					if got != want {
						t.Fatalf("sizes %v, %d bytes from the end: cut %d, want %d", sizes, len(rest), got, want)
					}
					rest = rest[got:]
				}
			}
		})
	}
}

func TestScanOfAGrowingBuffer(t *testing.T) {
	c := NewCutter(seed(5), Min, Avg, Max)
	data := randomBytes(2, 20<<20)
	for name, step := range map[string]func(have int) int{
		"token": func(have int) int {
			if have == 0 {
				return 256 << 10
			}
			return 192 << 10
		},
		"odd":   func(int) int { return 100_003 },
		"large": func(int) int { return 8 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			rest := data
			for len(rest) > 0 {
				want := c.Next(rest, true)
				var s State
				have, got := 0, 0
				for got == 0 {
					have = min(have+step(have), len(rest))
					got = c.Scan(&s, rest[:have], have == len(rest))
				}
				if got != want || s != (State{}) {
					t.Fatalf("cut %d, want %d; state %+v", got, want, s)
				}
				rest = rest[got:]
			}
		})
	}
}

// A byte at a time is the hardest growth there is: each call sees one new window.
func TestScanByteByByte(t *testing.T) {
	c := NewCutter(seed(6), 64, 300, 2000)
	data := randomBytes(3, 30_000)
	for len(data) > 0 {
		want := c.Next(data, true)
		var s State
		for n := 1; ; n++ {
			got := c.Scan(&s, data[:n], n == len(data))
			if got == 0 {
				continue
			}
			if got != want || n != want {
				t.Fatalf("cut %d after %d bytes, want %d", got, n, want)
			}
			break
		}
		data = data[want:]
	}
}

func TestNextAsksForMore(t *testing.T) {
	c := NewCutter(seed(1), Min, Avg, Max)
	zeros := make([]byte, Max)
	if n := c.Next(zeros[:Max-1], false); n != 0 {
		t.Errorf("zeros below max: %d, want 0", n)
	}
	if n := c.Next(zeros, false); n != Max {
		t.Errorf("zeros up to max: %d, want %d", n, Max)
	}
	if n := c.Next(zeros[:7], true); n != 7 {
		t.Errorf("seven bytes at the end: %d", n)
	}
	if n := c.Next(nil, true); n != 0 {
		t.Errorf("an empty end: %d", n)
	}
	random := randomBytes(9, Max)
	if n := c.Next(random[:Min-1], false); n != 0 {
		t.Errorf("below min: %d, want 0", n)
	}
}

func TestCutsFindBackIntoStep(t *testing.T) {
	c := NewCutter(seed(2), 4<<10, 16<<10, 64<<10)
	data := randomBytes(4, 4<<20)
	changed := append([]byte("some bytes put in front"), data...)
	ends := func(buf []byte) map[int]bool { // distance of each cut from the end
		m := map[int]bool{}
		for len(buf) > 0 {
			buf = buf[c.Next(buf, true):]
			m[len(buf)] = true
		}
		return m
	}
	before, after := ends(data), ends(changed)
	missing := 0
	for end := range before {
		if !after[end] {
			missing++
		}
	}
	if missing > 20 {
		t.Errorf("%d of %d cuts moved after an insertion at the front", missing, len(before))
	}
}

func TestMeanLength(t *testing.T) {
	c := NewCutter(seed(7), 16<<10, 64<<10, 256<<10)
	data := randomBytes(5, 32<<20)
	count := 0
	for rest := data; len(rest) > 0; count++ {
		rest = rest[c.Next(rest, true):]
	}
	if mean := len(data) / count; mean < 56<<10 || mean > 88<<10 {
		t.Errorf("mean length %d for an average of %d", mean, 64<<10)
	}
}

func TestSeedsCutDifferently(t *testing.T) {
	data := randomBytes(6, Max)
	a, b := NewCutter(seed(1), Min, Avg, Max), NewCutter(seed(2), Min, Avg, Max)
	if a.gear == b.gear || a.Next(data, true) == b.Next(data, true) {
		t.Error("two seeds give the same table or cut")
	}
}

func TestNewCutterRefusesNonsense(t *testing.T) {
	for _, sizes := range [][3]int{{63, 100, 200}, {100, 99, 200}, {100, 200, 199}, {100, 200, sizeMax + 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("sizes %v were taken", sizes)
				}
			}()
			NewCutter(seed(0), sizes[0], sizes[1], sizes[2])
		}()
	}
}

// vectors reads "name value…" lines; # begins a comment.
func vectors(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(line, " ")
		m[name] = value
	}
	return m
}

// stream is the input of the vectors: xorshift64 with the state 1, the low byte of each step.
func stream(n int) []byte {
	buf, x := make([]byte, n), uint64(1)
	for i := range buf {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		buf[i] = byte(x)
	}
	return buf
}

func TestVectors(t *testing.T) {
	want := vectors(t, "testdata/vectors.txt")
	c := NewCutter(seed(0), Min, Avg, Max)
	got := map[string]string{}
	var table [32]byte
	for i := range 4 {
		binary.BigEndian.PutUint64(table[8*i:], c.gear[i])
	}
	got["gear[0..3]"] = hex.EncodeToString(table[:])
	binary.BigEndian.PutUint64(table[:], c.gear[255])
	got["gear[255]"] = hex.EncodeToString(table[:8])

	data := stream(16 << 20)
	var cuts []string
	h := NewHasher(seed(64))
	var first pack.ChunkID
	for rest := data; len(rest) > 0; {
		n := c.Next(rest, true)
		if len(cuts) == 0 {
			first = h.Sum(rest[:n])
		}
		cuts = append(cuts, hex.EncodeToString(binary.BigEndian.AppendUint32(nil, uint32(n))))
		rest = rest[n:]
	}
	got["cuts"] = strings.Join(cuts, " ")
	got["id-first"] = first.String()
	got["id-empty"] = h.Sum(nil).String()
	got["id-abc"] = h.Sum([]byte("abc")).String()
	for name, value := range got {
		if want[name] != value {
			t.Errorf("%s\n got %s\nwant %s", name, value, want[name])
		}
	}
}

func TestHasherIsReusable(t *testing.T) {
	h, data := NewHasher(seed(9)), randomBytes(8, Avg)
	first := h.Sum(data)
	h.Sum(data[:100])
	if h.Sum(data) != first {
		t.Error("the second sum of the same bytes differs")
	}
	if NewHasher(seed(10)).Sum(data) == first {
		t.Error("two keys give the same id")
	}
	var id pack.ChunkID
	if n := testing.AllocsPerRun(10, func() { id = h.Sum(data) }); n != 0 {
		t.Errorf("%v allocations in a sum", n)
	}
	if n := testing.AllocsPerRun(100, func() { id = h.Sum(data[:1000]) }); n != 0 {
		t.Errorf("%v allocations in a short sum", n)
	}
	_ = id
}

func FuzzCuts(f *testing.F) {
	f.Add(uint64(1), []byte("some bytes to repeat"), uint16(3000), uint16(777))
	f.Add(uint64(2), []byte{0}, uint16(9999), uint16(1))
	f.Fuzz(func(t *testing.T, key uint64, unit []byte, size, step uint16) {
		c := NewCutter(seed(byte(key)), 64, 64+int(key>>8%500), 64+int(key>>8%500)+int(key>>32%30_000))
		data := randomBytes(key, int(size))
		for i := 0; len(unit) > 0 && i < len(data); i++ { // half random, half of the fuzzer's making
			if key>>uint(i%64)&1 == 0 {
				data[i] = unit[i%len(unit)]
			}
		}
		for len(data) > 0 {
			want := reference(c, data, true)
			var s State
			got := 0
			for have := 0; got == 0; {
				have = min(have+1+int(step), len(data))
				got = c.Scan(&s, data[:have], have == len(data))
			}
			if got != want || c.Next(data, true) != want {
				t.Fatalf("cut %d, want %d", got, want)
			}
			data = data[got:]
		}
	})
}

func BenchmarkCutterRandom(b *testing.B) {
	c, data := NewCutter(seed(1), Min, Avg, Max), randomBytes(1, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			rest = rest[c.Next(rest, true):]
		}
	}
}

// BenchmarkScanSteps scans as the reading worker does: 256 KiB, then steps of 192 KiB.
func BenchmarkScanSteps(b *testing.B) {
	c, data := NewCutter(seed(1), Min, Avg, Max), randomBytes(1, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			var s State
			n := 0
			for have := 64 << 10; n == 0; {
				have = min(have+192<<10, len(rest))
				n = c.Scan(&s, rest[:have], have == len(rest))
			}
			rest = rest[n:]
		}
	}
}

func BenchmarkHasher(b *testing.B) {
	h, data := NewHasher(seed(1)), randomBytes(1, Avg)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		h.Sum(data)
	}
}
