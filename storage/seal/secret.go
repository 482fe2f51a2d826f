package seal

import (
	"fmt"
	"io"
)

// Secret is a text that does not print: every verb of fmt, JSON and text
// encoding give "[secret]". Reveal is the one way out, and easy to search for.
type Secret struct{ value string }

// NewSecret hides value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal gives the text itself.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.value == "" }

// String gives "[secret]".
func (Secret) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { conceal(f) }

// MarshalText gives "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// conceal is the Format of every secret type.
func conceal(f fmt.State) { _, _ = io.WriteString(f, hidden) }
