package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"lifeboat/storage"
)

// Limits of an age header, checked before anything parses it.
const (
	headerBytesMax = 64 << 10 // a hybrid stanza is 1.6 KB
	stanzasMax     = 64
)

// Parts of an age v1 header.
const (
	intro         = "age-encryption.org/v1\n"
	stanzaStart   = "-> "
	footerStart   = "---"
	footerLength  = 3 + 1 + 43 + 1 // "---", a space, the MAC in base64, a newline
	headerMACInfo = "header"
)

// errHeaderDone stops age.Encrypt when it has written the header.
var errHeaderDone = errors.New("header is complete")

// headerWriter takes the header that age.Encrypt writes and refuses what
// follows. age then stops before it makes its own nonce and a 64 KiB buffer for
// a payload that we encrypt ourselves.
type headerWriter struct {
	out  []byte // the header is appended here
	line int    // where the line that is being written begins
	done bool
}

// Write appends p up to the end of the header.
func (w *headerWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, errHeaderDone
	}
	for n := 0; n < len(p); {
		end := bytes.IndexByte(p[n:], '\n')
		if end < 0 {
			w.out = append(w.out, p[n:]...)
			break
		}
		w.out = append(w.out, p[n:n+end+1]...)
		n += end + 1
		if bytes.HasPrefix(w.out[w.line:], []byte(footerStart)) {
			w.done = true
			if n < len(p) {
				return n, errHeaderDone
			}
			return n, nil
		}
		w.line = len(w.out)
	}
	return len(p), nil
}

// headerLength finds where the header of an age file ends, without parsing it:
// lines up to the one that begins with "---". It holds the limits; what the
// lines say is for age to judge.
func headerLength(file []byte) (int, error) {
	if !bytes.HasPrefix(file, []byte(intro)) {
		return 0, corrupt("not an age file")
	}
	head := file[:min(len(file), headerBytesMax)]
	stanzas := 0
	for at := len(intro); ; {
		end := bytes.IndexByte(head[at:], '\n')
		if end < 0 && len(file) > headerBytesMax {
			return 0, corrupt("age header is longer than %d bytes", headerBytesMax)
		}
		if end < 0 {
			return 0, corrupt("age header is cut short")
		}
		line := head[at : at+end+1]
		at += end + 1
		if bytes.HasPrefix(line, []byte(footerStart)) {
			if len(line) != footerLength || stanzas == 0 {
				return 0, corrupt("age header is malformed")
			}
			return at, nil
		}
		if bytes.HasPrefix(line, []byte(stanzaStart)) {
			if stanzas++; stanzas > stanzasMax {
				return 0, corrupt("age header has more than %d recipients", stanzasMax)
			}
		}
	}
}

// checkHeaderMAC proves that header was written with key.
func checkHeaderMAC(header []byte, key FileKey) error {
	macKey, err := hkdf.Key(sha256.New, key[:], nil, headerMACInfo, sha256.Size)
	if err != nil {
		return fmt.Errorf("derive the header key: %w", err)
	}
	signed := header[:len(header)-footerLength+len(footerStart)]
	mac := hmac.New(sha256.New, macKey)
	mac.Write(signed)
	var sum [sha256.Size]byte
	var want [1 + 43 + 1]byte
	want[0], want[len(want)-1] = ' ', '\n'
	base64.RawStdEncoding.Encode(want[1:], mac.Sum(sum[:0]))
	if !hmac.Equal(want[:], header[len(signed):]) {
		return corrupt("age header does not match its file key")
	}
	return nil
}

// corrupt is storage.ErrCorrupt with a reason.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", storage.ErrCorrupt, fmt.Sprintf(format, args...))
}
