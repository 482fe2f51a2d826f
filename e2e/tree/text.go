package tree

import (
	"math/rand/v2"
	"strconv"
)

// Text gives n bytes that look like source code: few words used often, many
// used seldom, indentation, numbers, lines that come again. It compresses about 3 : 1.
func Text(rng *rand.Rand, n int64) []byte {
	b := make([]byte, 0, n+lineMost)
	var lines [16][2]int // where some earlier lines are
	depth := 0
	for line := 0; int64(len(b)) < n; line++ {
		if line > len(lines) && rng.IntN(4) == 0 {
			old := lines[rng.IntN(len(lines))]
			b = append(b, b[old[0]:old[1]]...)
			continue
		}
		start := len(b)
		for range depth {
			b = append(b, '\t')
		}
		for range 2 + rng.IntN(8) {
			b = appendWord(rng, b)
		}
		switch rng.IntN(6) {
		case 0:
			b = append(b, " {\n"...)
			depth = min(depth+1, 6)
		case 1:
			b = append(b, "\n}\n\n"...)
			depth = max(depth-1, 0)
		default:
			b = append(b, '\n')
		}
		lines[line%len(lines)] = [2]int{start, len(b)}
	}
	return b[:n]
}

// lineMost is more than one round of Text appends.
const lineMost = 512

// appendWord appends a word: a frequent one, an identifier, or a number.
func appendWord(rng *rand.Rand, b []byte) []byte {
	switch p := rng.IntN(100); {
	case p < 50:
		b = append(b, frequent(rng.IntN(32))...)
	case p < 92:
		// The power makes low numbers, and so the same words, far more likely.
		f := rng.Float64()
		f *= f
		b = appendIdentifier(b, uint32(f*f*f*20000))
	case p < 94:
		b = strconv.AppendInt(b, rng.Int64N(1000), 10)
	default:
		b = append(b, "0x"...)
		b = strconv.AppendUint(b, uint64(rng.Uint32()), 16)
	}
	return append(b, ' ')
}

func frequent(i int) string {
	return [...]string{
		"if", "err", "!=", "nil", "return", ":=", "=", "func", "for", "range", "(", ")", "ctx", "string", "int", "the",
		"of", "a", "to", "and", "//", "is", "[]byte", "error", "==", "len", "append", "struct", "var", "case", "t", "i",
	}[i]
}

// appendIdentifier appends the n-th made-up name.
func appendIdentifier(b []byte, n uint32) []byte {
	syllables := [...]string{"ba", "ri", "ton", "le", "Mak", "so", "Pe", "den", "ul", "ver", "Ka", "nis", "o", "Set", "re", "Get"}
	for range 2 {
		b = append(b, syllables[n&15]...)
		n >>= 4
	}
	for n > 0 {
		b = append(b, syllables[n&15]...)
		n >>= 4
	}
	return b
}
