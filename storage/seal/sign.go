package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Contexts of signatures: what a signature under one says cannot be passed off
// as something said under another.
const (
	ContextTrust   = "trust"
	ContextJournal = "journal"
	ContextGC      = "gc"
	ContextIndex   = "index"
)

// Prefixes of the texts of signing keys, as Bech32 wants them: in lower case.
// Secret ones are shown in upper case, as age does.
const (
	verifyPrefix = "lbr"
	rootPrefix   = "lifeboat-root-key-"
	writerPrefix = "lifeboat-writer-key-"
)

// SignatureSize is the length of a signature in bytes.
const SignatureSize = ed25519.SignatureSize

// SigningKey is a private Ed25519 key. It does not print. The zero value is no
// key, and must not sign.
type SigningKey struct {
	key  ed25519.PrivateKey
	root bool
}

// NewSigningKey makes the key of a writer.
func NewSigningKey() (SigningKey, error) { return newSigningKey(false) }

// NewRootKey makes a root key. It differs from a writer's only in its text, so
// that one file cannot be taken for the other.
func NewRootKey() (SigningKey, error) { return newSigningKey(true) }

func newSigningKey(root bool) (SigningKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	return SigningKey{key, root}, nil
}

// ParseSigningKey reads LIFEBOAT-ROOT-KEY-1… or LIFEBOAT-WRITER-KEY-1…. Errors
// never repeat the text.
func ParseSigningKey(text string) (SigningKey, error) {
	text = strings.TrimSpace(text)
	lower := strings.ToLower(text)
	if text != strings.ToUpper(text) && text != lower {
		return SigningKey{}, fmt.Errorf("signing key: %w", errBech32)
	}
	prefix, root := writerPrefix, false
	switch {
	case strings.HasPrefix(lower, rootPrefix):
		prefix, root = rootPrefix, true
	case strings.HasPrefix(lower, writerPrefix):
	case strings.HasPrefix(lower, verifyPrefix+"1"):
		return SigningKey{}, errors.New("signing key: this is a public key; the secret one begins with LIFEBOAT-")
	default:
		return SigningKey{}, errors.New("signing key: want LIFEBOAT-ROOT-KEY-1… or LIFEBOAT-WRITER-KEY-1…")
	}
	seed, err := decodeBech32(prefix, lower)
	if err != nil {
		return SigningKey{}, fmt.Errorf("signing key: %w", err)
	}
	return SigningKey{ed25519.NewKeyFromSeed(seed[:]), root}, nil
}

// Public gives the key that verifies what k signs.
func (k SigningKey) Public() VerifyKey {
	if k.IsZero() {
		return VerifyKey{}
	}
	return VerifyKey(k.key.Public().(ed25519.PublicKey))
}

// Root reports whether k was made as a root key.
func (k SigningKey) Root() bool { return k.root }

// IsZero reports whether k is no key.
func (k SigningKey) IsZero() bool { return len(k.key) != ed25519.PrivateKeySize }

// Reveal gives the LIFEBOAT-…-KEY-1… text, or "" for no key.
func (k SigningKey) Reveal() string {
	if k.IsZero() {
		return ""
	}
	prefix := writerPrefix
	if k.root {
		prefix = rootPrefix
	}
	return strings.ToUpper(encodeBech32(prefix, [32]byte(k.key.Seed())))
}

// String gives "[secret]".
func (SigningKey) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (SigningKey) Format(f fmt.State, _ rune) { conceal(f) }

// MarshalText gives "[secret]".
func (SigningKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// VerifyKey is a public Ed25519 key. It is comparable; the zero value is no key
// and verifies nothing.
type VerifyKey [ed25519.PublicKeySize]byte

// ParseVerifyKey reads lbr1….
func ParseVerifyKey(text string) (VerifyKey, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(strings.ToUpper(text), "LIFEBOAT-") {
		return VerifyKey{}, errors.New("public key: this is a secret key; the public one begins with lbr1")
	}
	data, err := decodeBech32(verifyPrefix, text)
	if err != nil {
		return VerifyKey{}, fmt.Errorf("public key %q: %w", shorten(text), err)
	}
	if VerifyKey(data).IsZero() {
		return VerifyKey{}, errors.New("public key: all zero")
	}
	return VerifyKey(data), nil
}

// String gives the lbr1… text.
func (v VerifyKey) String() string { return encodeBech32(verifyPrefix, v) }

// IsZero reports whether v is no key.
func (v VerifyKey) IsZero() bool { return v == VerifyKey{} }

// KeyID gives the first 8 bytes of the SHA-256 of the key: how documents name
// their signer.
func (v VerifyKey) KeyID() [8]byte {
	sum := sha256.Sum256(v[:])
	return [8]byte(sum[:8])
}

// MarshalText gives the lbr1… text.
func (v VerifyKey) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is ParseVerifyKey.
func (v *VerifyKey) UnmarshalText(text []byte) (err error) {
	*v, err = ParseVerifyKey(string(text))
	return err
}

// SignBytes signs payload for one context of one repository. It panics for a
// zero key or a context that is not lower-case letters: both are mistakes of the
// program.
func SignBytes(context string, repo [32]byte, payload []byte, k SigningKey) []byte {
	if k.IsZero() {
		panic("seal: signing without a key")
	}
	if !validContext(context) {
		panic("seal: signing in context " + context)
	}
	return ed25519.Sign(k.key, signedMessage(context, repo, payload))
}

// VerifyBytes checks what SignBytes made. ErrSignature if it does not verify.
func VerifyBytes(context string, repo [32]byte, payload, signature []byte, key VerifyKey) error {
	if key.IsZero() || len(signature) != SignatureSize || !validContext(context) ||
		!ed25519.Verify(key[:], signedMessage(context, repo, payload), signature) {
		return fmt.Errorf("%s: %w", context, ErrSignature)
	}
	return nil
}

// signedMessage puts context and repository before the payload, so that a
// signature is good for one use in one repository.
func signedMessage(context string, repo [32]byte, payload []byte) []byte {
	message := make([]byte, 0, len("lifeboat//v1\n")+len(context)+2*len(repo)+1+len(payload))
	message = append(message, "lifeboat/"...)
	message = append(message, context...)
	message = append(message, "/v1\n"...)
	message = hex.AppendEncode(message, repo[:])
	message = append(message, '\n')
	return append(message, payload...)
}

func validContext(context string) bool {
	for _, c := range context {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return context != ""
}
