package seal

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"filippo.io/age"
)

// Opener opens age files with a fixed set of identities. It is safe for
// concurrent use.
type Opener struct {
	ids []age.Identity
	// The identity and the stanza that fitted last, as id<<32 | stanza. Nearly
	// all files of a repository are sealed alike, so they are tried first: a miss
	// costs as much as a hit, a public-key operation.
	last atomic.Uint64
}

// NewOpener makes an opener for identities of any kind; zero ones are left out.
// Without any it opens nothing.
func NewOpener(ids ...Identity) *Opener {
	o := &Opener{}
	for _, id := range ids {
		if !id.IsZero() {
			o.ids = append(o.ids, id.age)
		}
	}
	return o
}

// Open appends the contents of an age file to dst, growing it at most once.
// file must not lie in the free capacity of dst. Header size (64 KiB) and number
// of recipients (64) are limited. ErrNoKey if no identity fits,
// storage.ErrCorrupt for everything else; no plaintext is given then.
func (o *Opener) Open(dst, file []byte) ([]byte, error) {
	n, err := headerLength(file)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	key, err := o.fileKey(file[:n])
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return openPayload(dst, file[n:], key)
}

// fileKey has age parse a header and check its MAC.
func (o *Opener) fileKey(header []byte) (FileKey, error) {
	key, err := age.DecryptHeader(header, unwrapper{o})
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return FileKey{}, ErrNoKey
	}
	if err != nil {
		return FileKey{}, corrupt("age header: %v", err)
	}
	if len(key) != fileKeySize {
		return FileKey{}, corrupt("age header: file key of %d bytes", len(key))
	}
	return FileKey(key), nil
}

// unwrapper shows the identities of an opener to age as one.
type unwrapper struct{ o *Opener }

// Unwrap tries the pair of identity and stanza that fitted last, then all.
func (u unwrapper) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	last := u.o.last.Load()
	id, at := int(last>>32), int(uint32(last))
	if id < len(u.o.ids) && at < len(stanzas) {
		key, err := u.o.ids[id].Unwrap(stanzas[at : at+1])
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	} else {
		id, at = -1, -1
	}
	for i := range u.o.ids {
		for j := range stanzas {
			if i == id && j == at {
				continue
			}
			key, err := u.o.ids[i].Unwrap(stanzas[j : j+1])
			if errors.Is(err, age.ErrIncorrectIdentity) {
				continue
			}
			if err == nil {
				u.o.last.Store(uint64(i)<<32 | uint64(j))
			}
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// OpenWithKey is Open for a file whose key is known from Seal: no identity is
// needed. It checks that the header was made with the key, but not that the
// recipients can unwrap it. storage.ErrCorrupt if anything does not fit.
func OpenWithKey(dst, file []byte, key FileKey) ([]byte, error) {
	n, err := headerLength(file)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := checkHeaderMAC(file[:n], key); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return openPayload(dst, file[n:], key)
}

// openPayload appends the contents of a payload to dst.
func openPayload(dst, payload []byte, key FileKey) ([]byte, error) {
	if len(payload) < payloadNonce {
		return nil, fmt.Errorf("open: %w", corrupt("age file is cut short"))
	}
	nonce, blocks := payload[:payloadNonce], payload[payloadNonce:]
	size, ok := openedBlocks(len(blocks))
	if !ok {
		return nil, fmt.Errorf("open: %w", corrupt("age file of an impossible length"))
	}
	aead, err := payloadCipher(key, nonce)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	out, err := openBlocks(slices.Grow(dst, size), aead, blocks)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return out, nil
}
