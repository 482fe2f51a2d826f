package pack

import "fmt"

// Verify says how many frames a Builder opens again, decompresses and compares
// with their plaintext before it lets them go.
type Verify uint8

const (
	VerifyFull   Verify = 0 // every frame; the default
	VerifySample Verify = 1 // one frame in 16, beginning with the first
	VerifyOff    Verify = 2 // none
)

// verifySampleEvery is the distance between two frames checked by VerifySample.
const verifySampleEvery = 16

// String gives the word used in configuration and manifests: full, sample or off.
func (v Verify) String() string {
	switch v {
	case VerifyFull:
		return "full"
	case VerifySample:
		return "sample"
	case VerifyOff:
		return "off"
	}
	return fmt.Sprintf("verify(%d)", uint8(v))
}

// ParseVerify reads what String writes.
func ParseVerify(s string) (Verify, error) {
	for _, v := range []Verify{VerifyFull, VerifySample, VerifyOff} {
		if s == v.String() {
			return v, nil
		}
	}
	return 0, fmt.Errorf("verify level %q: want full, sample or off", s)
}

// wants reports whether the n-th frame of a builder (from 0) is checked.
func (v Verify) wants(n uint64) bool {
	switch v {
	case VerifyFull:
		return true
	case VerifySample:
		return n%verifySampleEvery == 0
	}
	return false
}
