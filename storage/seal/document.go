package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

const documentMax = 64 << 20 // bytes; the largest are intents with a whole pack set

// The second line of a document: {"key":"<16 hex>","sig":"<base64>"} and a
// newline.
const (
	signerBefore    = `{"key":"`
	signerBetween   = `","sig":"`
	signerAfter     = "\"}\n"
	signerKeyLength = 16
	signerSigLength = (SignatureSize + 2) / 3 * 4
	signerLength    = len(signerBefore) + signerKeyLength + len(signerBetween) + signerSigLength + len(signerAfter)
)

// SignDocument makes a signed text document: payload, which is one line of JSON
// without control characters, and a line with the signer and the signature. It
// panics when payload is not that, is longer than 16 MiB, or SignBytes would:
// these are mistakes of the program.
func SignDocument(context string, repo [32]byte, payload []byte, k SigningKey) []byte {
	if err := checkPayload(payload); err != nil {
		panic("seal: signing a document: " + err.Error())
	}
	signature := SignBytes(context, repo, payload, k)
	doc := make([]byte, 0, len(payload)+1+signerLength)
	doc = append(doc, payload...)
	doc = append(doc, '\n')
	return appendSigner(doc, k.Public().KeyID(), signature)
}

func appendSigner(doc []byte, id [8]byte, signature []byte) []byte {
	doc = append(doc, signerBefore...)
	doc = hex.AppendEncode(doc, id[:])
	doc = append(doc, signerBetween...)
	doc = base64.StdEncoding.AppendEncode(doc, signature)
	return append(doc, signerAfter...)
}

// VerifyDocument takes a document apart and checks its signature with the key
// that find gives for the signer's id. Only the exact form that SignDocument
// writes passes. storage.ErrCorrupt if the form is wrong, ErrUnknownSigner if
// find does not know the signer, ErrSignature if the signature is wrong; id is
// set for the last two. payload is part of doc, not a copy.
func VerifyDocument(context string, repo [32]byte, doc []byte, find func(id [8]byte) (VerifyKey, bool)) (payload []byte, id [8]byte, err error) {
	payload, id, signature, err := splitDocument(doc)
	if err != nil {
		return nil, id, fmt.Errorf("%s document: %w", context, err)
	}
	key, ok := find(id)
	if !ok || key.KeyID() != id {
		return nil, id, fmt.Errorf("%s document: key %x: %w", context, id, ErrUnknownSigner)
	}
	if err := VerifyBytes(context, repo, payload, signature, key); err != nil {
		return nil, id, fmt.Errorf("%s document: key %x: %w", context, id, ErrSignature)
	}
	return payload, id, nil
}

// splitDocument takes the exact form apart.
func splitDocument(doc []byte) (payload []byte, id [8]byte, signature []byte, err error) {
	if len(doc) > documentMax+1+signerLength {
		return nil, id, nil, corrupt("longer than %d bytes", documentMax)
	}
	split := len(doc) - signerLength
	if split < 1 || doc[split-1] != '\n' {
		return nil, id, nil, corrupt("not two lines, the second one a signature")
	}
	payload, signer := doc[:split-1], doc[split:]
	keyAt := len(signerBefore)
	sigAt := keyAt + signerKeyLength + len(signerBetween)
	if _, err := hex.Decode(id[:], signer[keyAt:keyAt+signerKeyLength]); err != nil {
		return nil, [8]byte{}, nil, corrupt("malformed key id")
	}
	signature = make([]byte, base64.StdEncoding.DecodedLen(signerSigLength))
	n, err := base64.StdEncoding.Decode(signature, signer[sigAt:sigAt+signerSigLength])
	if err != nil || n != SignatureSize {
		return nil, [8]byte{}, nil, corrupt("malformed signature")
	}
	signature = signature[:n]
	// Writing it again must give the same bytes: one document, one form, one hash.
	if !bytes.Equal(appendSigner(make([]byte, 0, signerLength), id, signature), signer) {
		return nil, [8]byte{}, nil, corrupt("malformed signature line")
	}
	if err := checkPayload(payload); err != nil {
		return nil, [8]byte{}, nil, corrupt("%v", err)
	}
	return payload, id, signature, nil
}

// checkPayload holds what both sides demand of a payload.
func checkPayload(payload []byte) error {
	if len(payload) > documentMax {
		return fmt.Errorf("payload of %d bytes, more than %d", len(payload), documentMax)
	}
	for _, c := range payload {
		if c < ' ' {
			return fmt.Errorf("payload has a control character (0x%02x)", c)
		}
	}
	if !utf8.Valid(payload) || !json.Valid(payload) {
		return fmt.Errorf("payload is not JSON")
	}
	return nil
}
