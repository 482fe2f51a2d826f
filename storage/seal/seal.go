// Package seal is the only place that encrypts, decrypts and signs. It holds
// the two kinds of keys (age identities and recipients, Ed25519 signing keys),
// the Sealer that needs only public keys and the Opener that needs private
// ones, signed documents, the secrets of a deduplication domain, identity files
// and the recovery kit.
//
// Everything sealed here is a standard age v1 file: the header is written and
// read by filippo.io/age itself, only the payload (STREAM over
// ChaCha20-Poly1305) is done here, straight between the caller's buffers.
// age proves nothing about who sealed a file: authenticity comes from
// signatures, and from the hashes that signed documents name.
//
// The package does not read or write files or stores, does not ask for the
// time, never runs age plugins, and does not decide who is trusted: callers
// bring the keys that they believe in.
package seal

import "errors"

// Sentinel errors; compared with errors.Is. Damaged input is
// storage.ErrCorrupt.
var (
	// ErrNoKey means that none of the identities opens the file. A damaged
	// header can look the same: age cannot tell the two apart.
	ErrNoKey = errors.New("no identity opens this file")
	// ErrPassphrase means that the passphrase does not open the identity file.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrPassphraseNeeded means that the identity file is protected by a
	// passphrase and nobody can be asked for it.
	ErrPassphraseNeeded = errors.New("a passphrase is needed")
	// ErrSignature means that a signature does not belong to the document, the
	// repository, the context or the key.
	ErrSignature = errors.New("signature does not verify")
	// ErrUnknownSigner means that a document is signed by a key that the caller
	// does not know.
	ErrUnknownSigner = errors.New("signed by an unknown key")
	// ErrKit means that a recovery kit does not match its own checksum.
	ErrKit = errors.New("damaged or mistyped kit")
)

// hidden is what a secret prints as.
const hidden = "[secret]"
