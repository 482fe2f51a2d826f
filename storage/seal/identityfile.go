package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	identityFileMax   = 1 << 20 // bytes
	identitiesMax     = 256     // in one file
	identityLineMax   = 64 << 10
	scryptWorkDefault = 18 // log2 of the work, as in age: about a second
	scryptWorkMax     = 20 // 1 GiB of memory, about 4 seconds
)

// Ask gives the passphrase of an identity file when it turns out to be needed.
type Ask func() (Secret, error)

// ReadIdentities reads an age identity file: one secret key per line, empty
// lines and # comments between them. The file may itself be encrypted with a
// passphrase (armored or not); ask is called then. A recovery kit is an identity
// file too. At most 1 MiB and 256 identities; at least one.
// ErrPassphraseNeeded if ask is nil, ErrPassphrase if the passphrase is wrong,
// storage.ErrCorrupt if the encrypted file is damaged.
func ReadIdentities(r io.Reader, ask Ask) ([]Identity, error) {
	data, err := readLimited(r, identityFileMax)
	if err != nil {
		return nil, fmt.Errorf("read identity file: %w", err)
	}
	if data, err = Unlock(data, ask); err != nil {
		return nil, err
	}
	return parseIdentities(data)
}

// Unlock gives the plain text of an identity file or recovery kit: data itself,
// or what is in it if it is an age file that a passphrase protects. Errors as
// in ReadIdentities.
func Unlock(data []byte, ask Ask) ([]byte, error) {
	if len(data) > identityFileMax {
		return nil, fmt.Errorf("identity file: longer than %d bytes", identityFileMax)
	}
	file, isAge, err := dearmor(data)
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	if !isAge {
		return data, nil
	}
	if err := checkPassphraseHeader(file); err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	if ask == nil {
		return nil, fmt.Errorf("identity file: it is protected: %w", ErrPassphraseNeeded)
	}
	passphrase, err := ask()
	if err != nil {
		return nil, fmt.Errorf("identity file: ask for its passphrase: %w", err)
	}
	plain, err := openPassphrase(file, passphrase)
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	return plain, nil
}

// Protect encrypts the plain text of an identity file with a passphrase, as an
// armored age file that ReadIdentities, Unlock and age itself open.
func Protect(plain []byte, passphrase Secret) ([]byte, error) {
	return protect(plain, passphrase, scryptWorkDefault)
}

func protect(plain []byte, passphrase Secret, work int) ([]byte, error) {
	if len(plain) > identityFileMax/2 {
		return nil, fmt.Errorf("protect an identity file: longer than %d bytes", identityFileMax/2)
	}
	recipient, err := age.NewScryptRecipient(passphrase.Reveal())
	if err != nil {
		return nil, errors.New("protect an identity file: the passphrase is empty")
	}
	recipient.SetWorkFactor(work)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, fmt.Errorf("protect an identity file: %w", err)
	}
	_, err = w.Write(plain)
	if err = errors.Join(err, w.Close(), armored.Close()); err != nil {
		return nil, fmt.Errorf("protect an identity file: %w", err)
	}
	return out.Bytes(), nil
}

// dearmor gives the binary age file in data, and whether there is one.
func dearmor(data []byte) ([]byte, bool, error) {
	if bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		return data, true, nil
	}
	text := bytes.TrimLeft(data, " \t\r\n\ufeff")
	if !bytes.HasPrefix(text, []byte(armor.Header)) {
		return nil, false, nil
	}
	file, err := io.ReadAll(armor.NewReader(bytes.NewReader(text)))
	if err != nil {
		return nil, true, corrupt("armored age file: %v", err)
	}
	return file, true, nil
}

// checkPassphraseHeader looks at the first stanza ("-> scrypt SALT WORK") before
// anybody is asked for a passphrase that could not help.
func checkPassphraseHeader(file []byte) error {
	n, err := headerLength(file)
	if err != nil {
		return err
	}
	stanza, _, _ := strings.Cut(string(file[len(intro):n]), "\n")
	words := strings.Split(stanza, " ")
	if len(words) < 2 || words[1] != "scrypt" {
		return errors.New("it is encrypted to keys, not with a passphrase; decrypt it with age first")
	}
	if len(words) != 4 {
		return corrupt("malformed scrypt stanza")
	}
	if work, err := strconv.Atoi(words[3]); err == nil && work > scryptWorkMax {
		return fmt.Errorf("its passphrase takes 2^%d steps of scrypt, more than 2^%d; decrypt it with age first", work, scryptWorkMax)
	}
	return nil
}

func openPassphrase(file []byte, passphrase Secret) ([]byte, error) {
	id, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return nil, fmt.Errorf("empty passphrase: %w", ErrPassphrase)
	}
	id.SetMaxWorkFactor(scryptWorkMax)
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, corrupt("%v", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, corrupt("%v", err)
	}
	return plain, nil
}

// parseIdentities reads the lines of a plain identity file.
func parseIdentities(data []byte) ([]Identity, error) {
	var ids []Identity
	number := 0
	for text, err := range lines(data) {
		number++
		if err != nil {
			return nil, fmt.Errorf("identity file: line %d: %w", number, err)
		}
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if len(ids) == identitiesMax {
			return nil, fmt.Errorf("identity file: more than %d identities", identitiesMax)
		}
		id, err := ParseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("identity file: line %d: %w", number, err)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("identity file: there is no secret key in it (a line AGE-SECRET-KEY-…)")
	}
	return ids, nil
}

// lines yields the trimmed lines of a text file, without a byte order mark.
func lines(data []byte) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		sc := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		sc.Buffer(nil, identityLineMax)
		for sc.Scan() {
			if !yield(strings.TrimSpace(sc.Text()), nil) {
				return
			}
		}
		if sc.Err() != nil {
			yield("", fmt.Errorf("longer than %d bytes", identityLineMax))
		}
	}
}

// readLimited reads all of r, or fails if that is more than limit bytes.
func readLimited(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("longer than %d bytes", limit)
	}
	return data, nil
}
