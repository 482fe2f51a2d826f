package seal

import (
	"errors"
	"strings"
)

// Texts of signing keys are Bech32 (BIP 173), like age's keys: a prefix that
// says what it is, the separator 1, 32 bytes in 5-bit letters, and a checksum
// that finds up to four wrong characters.
const (
	bech32Letters  = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	bech32Checksum = 6 // letters
	keyTextLetters = 52
	keyTextSize    = 32 // bytes in every text
)

var errBech32 = errors.New("bad checksum or character; it may be cut short or mistyped")

// encodeBech32 writes 32 bytes under a lower-case prefix, in lower case.
func encodeBech32(prefix string, data [keyTextSize]byte) string {
	values := make([]byte, 0, keyTextLetters+bech32Checksum)
	acc, bits := uint(0), 0
	for _, b := range data {
		acc, bits = acc<<8|uint(b), bits+8
		for ; bits >= 5; bits -= 5 {
			values = append(values, byte(acc>>(bits-5)&31))
		}
	}
	values = append(values, byte(acc<<(5-bits)&31))
	sum := bech32Sum(prefix, append(values, make([]byte, bech32Checksum)...)) ^ 1
	for i := range bech32Checksum {
		values = append(values, byte(sum>>(5*(bech32Checksum-1-i))&31))
	}
	var text strings.Builder
	text.WriteString(prefix)
	text.WriteByte('1')
	for _, v := range values {
		text.WriteByte(bech32Letters[v])
	}
	return text.String()
}

// decodeBech32 reads what encodeBech32 wrote, already in lower case. Only the
// one encoding of the 32 bytes passes.
func decodeBech32(prefix, text string) (data [keyTextSize]byte, err error) {
	body, ok := strings.CutPrefix(text, prefix+"1")
	if !ok || len(body) != keyTextLetters+bech32Checksum {
		return data, errBech32
	}
	values := make([]byte, len(body))
	for i := range body {
		v := strings.IndexByte(bech32Letters, body[i])
		if v < 0 {
			return data, errBech32
		}
		values[i] = byte(v)
	}
	if bech32Sum(prefix, values) != 1 {
		return data, errBech32
	}
	acc, bits, n := uint(0), 0, 0
	for _, v := range values[:keyTextLetters] {
		acc, bits = acc<<5|uint(v), bits+5
		if bits >= 8 {
			data[n] = byte(acc >> (bits - 8))
			n, bits = n+1, bits-8
		}
	}
	if acc&(1<<bits-1) != 0 {
		return data, errBech32 // bits that no encoder sets
	}
	return data, nil
}

// bech32Sum is the BCH code of BIP 173 over the expanded prefix and values.
func bech32Sum(prefix string, values []byte) uint32 {
	sum := uint32(1)
	for i := range len(prefix) {
		sum = bech32Step(sum, prefix[i]>>5)
	}
	sum = bech32Step(sum, 0)
	for i := range len(prefix) {
		sum = bech32Step(sum, prefix[i]&31)
	}
	for _, v := range values {
		sum = bech32Step(sum, v)
	}
	return sum
}

func bech32Step(sum uint32, v byte) uint32 {
	top := sum >> 25
	sum = (sum&0x1ffffff)<<5 ^ uint32(v)
	for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}
