package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"filippo.io/age"
)

const (
	recipientsMax = 16       // of one sealer; every file carries a stanza for each
	wrapMax       = 64 << 10 // bytes of a secret that Wrap takes
)

// Sealer makes age files for a fixed set of recipients. It holds public keys
// only. It is safe for concurrent use.
type Sealer struct {
	recipients []Recipient
	header     int       // bytes; the same for every file
	scratch    sync.Pool // of *scratch
}

// scratch is what one Seal needs besides the output.
type scratch struct {
	writer     headerWriter
	key        FileKey
	captured   bool
	recipients []age.Recipient // the sealer's, each behind a capture
}

// capture is a recipient that notes the file key while it is wrapped, so that a
// file can be opened again without any private key.
type capture struct {
	age.Recipient
	to *scratch
}

// Wrap notes the key and wraps it.
func (c capture) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := c.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels forwards the labels too: without them age would let
// post-quantum and classic recipients mix.
func (c capture) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	if len(fileKey) != fileKeySize {
		return nil, nil, fmt.Errorf("file key has %d bytes, want %d", len(fileKey), fileKeySize)
	}
	copy(c.to.key[:], fileKey)
	c.to.captured = true
	if r, ok := c.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(fileKey)
	}
	stanzas, err := c.Recipient.Wrap(fileKey)
	return stanzas, nil, err
}

// NewSealer makes a sealer for 1 to 16 recipients; one that is given twice
// counts once. Hybrid and X25519 recipients do not mix (the file would be only
// as safe as the weaker one): that is an error.
func NewSealer(to ...Recipient) (*Sealer, error) {
	s := &Sealer{}
	for _, r := range to {
		if r.IsZero() {
			return nil, errors.New("make a sealer: empty recipient")
		}
		if !slices.ContainsFunc(s.recipients, func(x Recipient) bool { return x.text == r.text }) {
			s.recipients = append(s.recipients, r)
		}
	}
	if len(s.recipients) == 0 || len(s.recipients) > recipientsMax {
		return nil, fmt.Errorf("make a sealer: %d recipients, want 1 to %d", len(s.recipients), recipientsMax)
	}
	header, _, err := s.newHeader(nil)
	if err != nil {
		return nil, fmt.Errorf("make a sealer: %w", err)
	}
	s.header = len(header)
	return s, nil
}

// Recipients gives the recipients that files are sealed to.
func (s *Sealer) Recipients() []Recipient { return slices.Clone(s.recipients) }

// Overhead gives by how many bytes a file is longer than its n bytes of
// plaintext.
func (s *Sealer) Overhead(n int) int {
	return s.header + payloadNonce + sealedBlocks(n) - n
}

// Seal appends one age file with the contents plain to dst, growing it at most
// once, and gives the file's own key besides, which only OpenWithKey can use.
// plain must not lie in the free capacity of dst. On error dst is unchanged up
// to its length.
func (s *Sealer) Seal(dst, plain []byte) (out []byte, key FileKey, err error) {
	start := len(dst)
	out = slices.Grow(dst, len(plain)+s.Overhead(len(plain)))
	out, key, err = s.newHeader(out)
	if err != nil {
		return dst, FileKey{}, fmt.Errorf("seal: %w", err)
	}
	if n := len(out) - start; n != s.header {
		return dst, FileKey{}, fmt.Errorf("seal: age header has %d bytes, want %d as before", n, s.header)
	}
	nonce := out[len(out) : len(out)+payloadNonce]
	rand.Read(nonce) // never fails: it stops the program instead
	aead, err := payloadCipher(key, nonce)
	if err != nil {
		return dst, FileKey{}, fmt.Errorf("seal: %w", err)
	}
	return sealBlocks(out[:len(out)+payloadNonce], aead, plain), key, nil
}

// newHeader appends a header with a fresh file key to dst.
func (s *Sealer) newHeader(dst []byte) ([]byte, FileKey, error) {
	sc, _ := s.scratch.Get().(*scratch)
	if sc == nil {
		sc = &scratch{}
		for _, r := range s.recipients {
			sc.recipients = append(sc.recipients, capture{r.age, sc})
		}
	}
	sc.writer = headerWriter{out: dst, line: len(dst)}
	sc.captured = false
	_, err := age.Encrypt(&sc.writer, sc.recipients...)
	out, key, done := sc.writer.out, sc.key, sc.writer.done && sc.captured
	sc.writer, sc.key = headerWriter{}, FileKey{}
	s.scratch.Put(sc)
	if !done {
		if err == nil {
			err = errors.New("header has no end")
		}
		return dst, FileKey{}, fmt.Errorf("write age header: %w", err)
	}
	return out, key, nil
}

// Wrap seals a small secret (a private key, a domain's secrets; at most 64 KiB)
// to one recipient. Any Opener with its identity, and stock age, opens it.
func Wrap(plain []byte, to Recipient) ([]byte, error) {
	if len(plain) > wrapMax {
		return nil, fmt.Errorf("wrap a secret for %s: %d bytes, more than %d", to.Fingerprint(), len(plain), wrapMax)
	}
	s, err := NewSealer(to)
	if err != nil {
		return nil, fmt.Errorf("wrap a secret: %w", err)
	}
	out, _, err := s.Seal(nil, plain)
	if err != nil {
		return nil, fmt.Errorf("wrap a secret for %s: %w", to.Fingerprint(), err)
	}
	return out, nil
}
