package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"lifeboat/config"
)

// identityBytesMax bounds an identity file or recovery kit.
const identityBytesMax = 1 << 20

// identitySource is one place that private keys can be read from. Label names
// it in messages.
type identitySource struct {
	Label string
	Read  func(ctx context.Context) (config.Secret, error)
}

// identitySources lists where to look for private keys: --identity-file (or
// LIFEBOAT_IDENTITY_FILE), else keys.data_identity of the configuration. It may
// be empty: then this host cannot read contents.
func (a *app) identitySources() ([]identitySource, error) {
	var out []identitySource
	for _, path := range a.opt.IdentityFiles {
		out = append(out, identitySource{Label: identityLabel(path), Read: func(context.Context) (config.Secret, error) { return a.readIdentity(path) }})
	}
	if len(out) > 0 || a.coldStart() {
		return out, nil
	}
	file, err := a.configured()
	if err != nil {
		return nil, err
	}
	if ref := file.Config.Keys.DataIdentity; ref != nil {
		out = append(out, identitySource{Label: "keys.data_identity (" + ref.String() + ")",
			Read: func(ctx context.Context) (config.Secret, error) { return ref.Read(ctx, a.getenv) }})
	}
	return out, nil
}

func identityLabel(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// readIdentity reads a file that the user named. One that others can read is
// used with a warning: on the worst day the kit may lie on a borrowed stick
// whose file system knows no rights.
func (a *app) readIdentity(path string) (config.Secret, error) {
	if path == "-" {
		data, err := readLimited(a.stdin)
		return config.NewSecret(data), wrapIdentity(path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return config.Secret{}, &Fail{Code: Usage, Message: fmt.Sprintf("open identity: %v", err), Hint: "name the recovery kit with --identity-file", Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return config.Secret{}, wrapIdentity(path, err)
	}
	if info.IsDir() {
		return config.Secret{}, &Fail{Code: Usage, Message: fmt.Sprintf("identity %s is a directory", path), Hint: "name the recovery kit itself with --identity-file"}
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.warn("identity_exposed", fmt.Sprintf("%s can be read by others; run: chmod 600 %s", path, path))
	}
	data, err := readLimited(f)
	return config.NewSecret(data), wrapIdentity(path, err)
}

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, identityBytesMax+1))
	if err == nil && len(data) > identityBytesMax {
		err = &Fail{Code: NoMatchingKey, Message: "it is larger than any identity", Hint: "name the recovery kit with --identity-file"}
	}
	return data, err
}

func wrapIdentity(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read identity %s: %w", identityLabel(path), err)
}
