package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes of the payload of an age v1 file.
const (
	fileKeySize  = 16
	payloadNonce = 16       // bytes of salt before the first block
	blockPlain   = 64 << 10 // bytes of plaintext in every block but the last
	blockTag     = chacha20poly1305.Overhead
	blockSealed  = blockPlain + blockTag
	lastBlock    = 1 // in the last byte of the nonce of the last block
	payloadInfo  = "payload"
)

// FileKey is the symmetric key of one age file. It does not print.
type FileKey [fileKeySize]byte

// String gives "[secret]".
func (FileKey) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (FileKey) Format(f fmt.State, _ rune) { conceal(f) }

// MarshalText gives "[secret]".
func (FileKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// blockNonce is the nonce of one block: a big-endian counter of 11 bytes, and
// whether it is the last.
type blockNonce [chacha20poly1305.NonceSize]byte

// set makes n the nonce of block i. 64 of the counter's 88 bits are enough for
// anything that fits in memory.
func (n *blockNonce) set(i uint64, last bool) {
	binary.BigEndian.PutUint64(n[3:11], i)
	n[11] = 0
	if last {
		n[11] = lastBlock
	}
}

// payloadCipher derives the cipher of one payload.
func payloadCipher(key FileKey, nonce []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key[:], nonce, payloadInfo, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the payload key: %w", err)
	}
	return chacha20poly1305.New(k)
}

// sealedBlocks gives the size of n bytes of plaintext as blocks: at least one,
// which may be empty.
func sealedBlocks(n int) int {
	blocks := (n + blockPlain - 1) / blockPlain
	return n + max(blocks, 1)*blockTag
}

// openedBlocks gives the plaintext size of n bytes of blocks, and whether there
// can be blocks of that size: only a single block may be empty.
func openedBlocks(n int) (int, bool) {
	if n < blockTag {
		return 0, false
	}
	rest := n % blockSealed
	if rest != 0 && (rest < blockTag || rest == blockTag && n != blockTag) {
		return 0, false
	}
	blocks := (n + blockSealed - 1) / blockSealed
	return n - blocks*blockTag, true
}

// sealBlocks appends plain as blocks to dst.
func sealBlocks(dst []byte, aead cipher.AEAD, plain []byte) []byte {
	var nonce blockNonce
	for i := uint64(0); ; i++ {
		n := min(len(plain), blockPlain)
		last := n == len(plain)
		nonce.set(i, last)
		dst = aead.Seal(dst, nonce[:], plain[:n], nil)
		if last {
			return dst
		}
		plain = plain[n:]
	}
}

// openBlocks appends the plaintext of blocks to dst, which has room for it.
func openBlocks(dst []byte, aead cipher.AEAD, blocks []byte) ([]byte, error) {
	var nonce blockNonce
	for i := uint64(0); ; i++ {
		n := min(len(blocks), blockSealed)
		last := n == len(blocks)
		nonce.set(i, last)
		out, err := aead.Open(dst, nonce[:], blocks[:n], nil)
		if err != nil {
			return nil, corrupt("block %d of the age file does not decrypt", i)
		}
		dst, blocks = out, blocks[n:]
		if last {
			return dst, nil
		}
	}
}
