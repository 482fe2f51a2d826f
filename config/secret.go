package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrSecretExposed marks a secret file that group or others can read.
var ErrSecretExposed = errors.New("secret file is readable by others")

// secretCommandTime is how long a from_command may run.
const secretCommandTime = 30 * time.Second

const redacted = "[secret]"

// Secret is text that does not print. Reveal is the only way to its value.
type Secret struct{ value []byte }

// NewSecret wraps a value; it keeps the slice.
func NewSecret(value []byte) Secret { return Secret{value: value} }

// String is always "[secret]".
func (Secret) String() string { return redacted }

// GoString is always "[secret]".
func (Secret) GoString() string { return redacted }

// Format prints "[secret]" whatever the verb, so that %x leaks nothing.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText is always "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal is the value itself.
func (s Secret) Reveal() string { return string(s.value) }

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return len(s.value) == 0 }

// SecretRef says where a secret is kept. Exactly one field is set.
type SecretRef struct {
	FromFile       string   `json:"from_file,omitempty" form:"abspath" doc:"file that only its owner can read"`
	FromCredential string   `json:"from_credential,omitempty" form:"basename" doc:"systemd credential of this name"`
	FromEnv        string   `json:"from_env,omitempty" form:"env" doc:"environment variable of this name; never for private keys"`
	FromCommand    []string `json:"from_command,omitempty" doc:"command that prints the secret; no shell"`
}

// String tells the place, never the secret.
func (r SecretRef) String() string {
	switch {
	case r.FromFile != "":
		return "file " + r.FromFile
	case r.FromCredential != "":
		return "credential " + r.FromCredential
	case r.FromEnv != "":
		return "environment variable " + r.FromEnv
	case len(r.FromCommand) > 0:
		return "command " + r.FromCommand[0]
	}
	return "no reference"
}

// IsZero reports whether nothing is referred to.
func (r SecretRef) IsZero() bool { return r.places() == 0 }

// places counts how many fields are set.
func (r SecretRef) places() int {
	n := 0
	for _, set := range []bool{r.FromFile != "", r.FromCredential != "", r.FromEnv != "", len(r.FromCommand) > 0} {
		if set {
			n++
		}
	}
	return n
}

// Read fetches the secret, without a trailing line break. getenv answers
// from_env and names the folder of from_credential (CREDENTIALS_DIRECTORY).
func (r SecretRef) Read(ctx context.Context, getenv func(string) string) (Secret, error) {
	value, err := r.read(ctx, getenv)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret from %s: %w", r, err)
	}
	value = bytes.TrimRight(value, "\r\n")
	if len(value) == 0 {
		return Secret{}, fmt.Errorf("read secret from %s: it is empty", r)
	}
	return Secret{value: value}, nil
}

func (r SecretRef) read(ctx context.Context, getenv func(string) string) ([]byte, error) {
	switch {
	case r.places() != 1:
		return nil, errors.New("exactly one of from_file, from_credential, from_env and from_command is needed")
	case r.FromFile != "":
		return ReadSecretFile(r.FromFile, getenv)
	case r.FromCredential != "":
		dir := getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, errors.New("CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit, or use from_file")
		}
		return ReadSecretFile(filepath.Join(dir, r.FromCredential), getenv)
	case r.FromEnv != "":
		return []byte(getenv(r.FromEnv)), nil
	}
	return runSecretCommand(ctx, r.FromCommand)
}

// ReadSecretFile reads a secret file of at most 256 KiB. A file that group or
// others may read gives ErrSecretExposed, unless it lies in the credentials
// folder or under /run/secrets, where the system keeps it.
func ReadSecretFile(path string, getenv func(string) string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is a directory")}
	}
	if info.Mode().Perm()&0o077 != 0 && !keptBySystem(path, getenv("CREDENTIALS_DIRECTORY")) {
		return nil, fmt.Errorf("%w: chmod 600 %s", ErrSecretExposed, path)
	}
	return readSecret(f)
}

func keptBySystem(path, credentials string) bool {
	for _, dir := range []string{credentials, "/run/secrets"} {
		rel, err := filepath.Rel(dir, path)
		if dir != "" && err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func readSecret(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, secretBytesMax+1))
	if err == nil && len(data) > secretBytesMax {
		err = fmt.Errorf("it is larger than %d KiB", secretBytesMax>>10)
	}
	return data, err
}

// runSecretCommand keeps stderr out of errors: a helper may print what it holds.
func runSecretCommand(ctx context.Context, argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, secretCommandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out := limitedBuffer{most: secretBytesMax}
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("it did not finish: %w", ctx.Err())
		}
		return nil, err
	}
	return out.data, nil
}

// limitedBuffer refuses to grow past most bytes.
type limitedBuffer struct {
	data []byte
	most int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > b.most {
		return 0, errors.New("too much output")
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// DrillKey is the key a drill restores with: the identity installed on this
// host, or a recovery kit, which then proves that the kit works.
type DrillKey struct {
	Installed bool `json:"-"`
	Kit       SecretRef
}

// keyInstalled is the word in the file for the installed identity.
const keyInstalled = "installed"

// UnmarshalText reads the word "installed".
func (k *DrillKey) UnmarshalText(text []byte) error {
	if string(text) != keyInstalled {
		return errors.New(`must be "installed" or a reference such as {from_file: /root/kit.txt}`)
	}
	*k = DrillKey{Installed: true}
	return nil
}

// MarshalJSON writes the word or the reference.
func (k DrillKey) MarshalJSON() ([]byte, error) {
	if k.Installed {
		return json.Marshal(keyInstalled)
	}
	return json.Marshal(k.Kit)
}

// MayHoldSecret reports whether a line of a file names something whose value
// must not be shown, even when the mistake is elsewhere on the line.
func MayHoldSecret(line string) bool { return looksSecret(line) }

// looksSecret reports whether a key's name suggests that its value must not be shown.
func looksSecret(key string) bool {
	lower := strings.ToLower(key)
	for _, word := range []string{"secret", "passw", "passphrase", "token", "key", "identity", "credential", "dsn", "url"} {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}
