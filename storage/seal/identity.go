package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Prefixes of the texts of age keys.
const (
	hybridRecipientPrefix  = "age1pq1"
	classicRecipientPrefix = "age1"
	hybridIdentityPrefix   = "AGE-SECRET-KEY-PQ-1"
	classicIdentityPrefix  = "AGE-SECRET-KEY-1"
	pluginIdentityPrefix   = "AGE-PLUGIN-"
)

// shownLength is how much of a recipient's text errors show: enough to find it
// in a list (a hybrid recipient has 1,959 characters).
const shownLength = 20

// Recipient is a public key to which files are sealed. The zero value is no
// recipient.
type Recipient struct {
	text string
	age  age.Recipient
}

// ParseRecipient reads age1… (X25519) or age1pq1… (hybrid post-quantum).
// Plugin and SSH recipients are refused: the former run programs that the text
// names.
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(strings.ToUpper(text), "AGE-"):
		return Recipient{}, errors.New("this is a secret key, not a recipient: give the age1… line that belongs to it")
	case strings.HasPrefix(text, hybridRecipientPrefix):
		r, err := age.ParseHybridRecipient(text)
		if err != nil {
			return Recipient{}, malformedRecipient(text)
		}
		return Recipient{r.String(), r}, nil
	case strings.HasPrefix(text, classicRecipientPrefix):
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return Recipient{}, malformedRecipient(text)
		}
		return Recipient{r.String(), r}, nil
	}
	return Recipient{}, fmt.Errorf("recipient %q: want age1… or age1pq1… (plugin and SSH keys are not supported)", shorten(text))
}

// malformedRecipient leaves out what age says, which repeats the whole text.
func malformedRecipient(text string) error {
	return fmt.Errorf("recipient %q: bad checksum or character; it may be cut short or mistyped", shorten(text))
}

func shorten(text string) string {
	if len(text) > shownLength {
		return text[:shownLength] + "…"
	}
	return text
}

// String gives the age1… text.
func (r Recipient) String() string { return r.text }

// IsZero reports whether r is no recipient.
func (r Recipient) IsZero() bool { return r.age == nil }

// Hybrid reports whether r is safe against quantum computers.
func (r Recipient) Hybrid() bool { return strings.HasPrefix(r.text, hybridRecipientPrefix) }

// Fingerprint gives the first 16 hexadecimal digits of the SHA-256 of the text:
// a name for a recipient that fits a key or a line.
func (r Recipient) Fingerprint() string {
	sum := sha256.Sum256([]byte(r.text))
	return hex.EncodeToString(sum[:8])
}

// MarshalText gives the age1… text.
func (r Recipient) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText is ParseRecipient.
func (r *Recipient) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRecipient(string(text))
	return err
}

// Identity is a private key that opens what was sealed to its Recipient. It
// does not print. The zero value opens nothing.
type Identity struct {
	age       age.Identity
	text      string
	recipient Recipient
}

// NewIdentity makes a key: hybrid post-quantum, or X25519 if classic is set.
func NewIdentity(classic bool) (Identity, error) {
	if classic {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return Identity{}, fmt.Errorf("make an X25519 identity: %w", err)
		}
		return classicIdentity(id), nil
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return Identity{}, fmt.Errorf("make a hybrid identity: %w", err)
	}
	return hybridIdentity(id), nil
}

func classicIdentity(id *age.X25519Identity) Identity {
	r := id.Recipient()
	return Identity{id, id.String(), Recipient{r.String(), r}}
}

func hybridIdentity(id *age.HybridIdentity) Identity {
	r := id.Recipient()
	return Identity{id, id.String(), Recipient{r.String(), r}}
}

// ParseIdentity reads AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…, also all in
// lower case: on the worst day somebody types it from paper. Errors never repeat
// the text.
func ParseIdentity(text string) (Identity, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "age-") && text == strings.ToLower(text) {
		text = strings.ToUpper(text)
	}
	switch {
	case strings.HasPrefix(text, hybridIdentityPrefix):
		id, err := age.ParseHybridIdentity(text)
		if err != nil {
			return Identity{}, errMalformedIdentity()
		}
		return hybridIdentity(id), nil
	case strings.HasPrefix(text, classicIdentityPrefix):
		id, err := age.ParseX25519Identity(text)
		if err != nil {
			return Identity{}, errMalformedIdentity()
		}
		return classicIdentity(id), nil
	case strings.HasPrefix(text, pluginIdentityPrefix):
		return Identity{}, errors.New("age plugin identities are not supported: they run another program")
	case strings.HasPrefix(text, classicRecipientPrefix):
		return Identity{}, errors.New("this is a public key; the secret key begins with AGE-SECRET-KEY-")
	}
	return Identity{}, errors.New("not an age identity: it begins with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1")
}

// errMalformedIdentity leaves out what the decoder says: it may quote the key.
func errMalformedIdentity() error {
	return errors.New("malformed age identity: bad checksum or character; it may be cut short or mistyped")
}

// Recipient gives the public half.
func (i Identity) Recipient() Recipient { return i.recipient }

// IsZero reports whether i is no identity.
func (i Identity) IsZero() bool { return i.age == nil }

// Reveal gives the AGE-SECRET-KEY-… text.
func (i Identity) Reveal() string { return i.text }

// String gives "[secret]".
func (Identity) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (Identity) Format(f fmt.State, _ rune) { conceal(f) }

// MarshalText gives "[secret]".
func (Identity) MarshalText() ([]byte, error) { return []byte(hidden), nil }
