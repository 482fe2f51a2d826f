package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	kitVersion     = "1"
	kitURLsMax     = 64
	kitURLBytesMax = 2048
	kitTextMax     = 64 // bytes of the version text
	kitChecksum    = 8  // bytes: finds mistakes, proves nothing
)

// Names of the lines that ReadKit understands: "# name: value". All other
// comment lines are for people.
const (
	kitLineVersion  = "lifeboat-kit"
	kitLineURL      = "repository-url"
	kitLineRepoID   = "repository-id"
	kitLineRoot     = "root-key"
	kitLineCreated  = "created"
	kitLineProgram  = "made-by-lifeboat"
	kitLineChecksum = "checksum"
)

// Kit is what somebody needs on the worst day, with nothing left but the
// repository: where it is, how to know that it is the right one, and a key that
// opens it. It holds no storage credentials.
type Kit struct {
	RepoURLs   []string   // all regions, best first; without credentials
	RepoID     [32]byte   // SHA-256 of format.json; zero if unknown (a plain identity file)
	RootPublic VerifyKey  // zero if unknown
	Identity   Identity   // an operator's
	More       []Identity // further identities, when a plain identity file was read
	CreatedAt  time.Time  // to the second
	Version    string     // of the program that made it
}

// HasPins reports whether the kit says which repository is meant, so that
// RepoID and RootPublic can be held against what a region claims.
func (k Kit) HasPins() bool { return k.RepoID != [32]byte{} && !k.RootPublic.IsZero() }

// Identities gives Identity and More.
func (k Kit) Identities() []Identity {
	if k.Identity.IsZero() {
		return nil
	}
	return append([]Identity{k.Identity}, k.More...)
}

// String gives "[secret]".
func (Kit) String() string { return hidden }

// Format prints "[secret]" for every verb.
func (Kit) Format(f fmt.State, _ rune) { conceal(f) }

// WriteKit writes a kit as text to be printed: instructions, what ReadKit needs,
// a QR code of the identity, and the identity on a line of its own. The whole is
// a valid age identity file. It does not go stale when keys rotate. Errors: the
// kit is incomplete, a URL holds credentials or a line break, or w fails.
func WriteKit(w io.Writer, k Kit) error {
	if err := k.check(); err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	text, err := k.text()
	if err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("write recovery kit: %w", err)
	}
	return nil
}

// check demands a whole kit whose values are each one line.
func (k Kit) check() error {
	switch {
	case len(k.RepoURLs) == 0 || len(k.RepoURLs) > kitURLsMax:
		return fmt.Errorf("%d repository URLs, want 1 to %d", len(k.RepoURLs), kitURLsMax)
	case k.RepoID == [32]byte{}:
		return errors.New("no repository id")
	case k.RootPublic.IsZero():
		return errors.New("no root public key")
	case k.Identity.IsZero():
		return errors.New("no identity")
	case len(k.More) > 0:
		return errors.New("more than one identity: write a kit for each")
	case k.CreatedAt.IsZero() || k.CreatedAt.Year() > 9999 || k.CreatedAt.Year() < 1:
		return errors.New("no date")
	case k.Version == "" || len(k.Version) > kitTextMax || !oneLine(k.Version):
		return errors.New("no program version, or not one short line")
	}
	for _, u := range k.RepoURLs {
		if err := checkKitURL(u); err != nil {
			return err
		}
	}
	return nil
}

// checkKitURL keeps line breaks and credentials out of a paper that lies in a
// drawer. It does not repeat a URL that may hold a password.
func checkKitURL(u string) error {
	if u == "" || len(u) > kitURLBytesMax || !oneLine(u) {
		return fmt.Errorf("a repository URL is empty, longer than %d bytes or not one plain line", kitURLBytesMax)
	}
	rest, query, _ := strings.Cut(u, "?")
	if !strings.Contains(rest, "://") {
		return nil // a directory
	}
	if holdsPassword(rest) {
		return errors.New("a repository URL holds a password: leave credentials out of the kit")
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("a repository URL has malformed options")
	}
	for name, values := range options {
		lower := strings.ToLower(name)
		for _, word := range []string{"secret", "password", "token", "access_key", "signature", "credential"} {
			if strings.Contains(lower, word) {
				return fmt.Errorf("a repository URL has the option %q: leave credentials out of the kit", name)
			}
		}
		if slices.ContainsFunc(values, holdsPassword) {
			return fmt.Errorf("the option %q of a repository URL holds a password: leave credentials out of the kit", name)
		}
	}
	return nil
}

// holdsPassword reports whether a URL without options is like
// scheme://user:password@host.
func holdsPassword(u string) bool {
	_, rest, ok := strings.Cut(u, "://")
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	return ok && at >= 0 && strings.Contains(authority[:at], ":")
}

// oneLine reports whether s is printable text without surrounding blanks.
func oneLine(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// checksum is over the values, not the bytes of the file, so that new line
// ends, an added note or a torn QR code do no harm.
func (k Kit) checksum() string {
	h := sha256.New()
	field := func(name, value string) { fmt.Fprintf(h, "%s: %s\n", name, value) }
	field(kitLineVersion, kitVersion)
	for _, u := range k.RepoURLs {
		field(kitLineURL, u)
	}
	field(kitLineRepoID, hex.EncodeToString(k.RepoID[:]))
	field(kitLineRoot, k.RootPublic.String())
	field(kitLineCreated, k.created())
	field(kitLineProgram, k.Version)
	field("identity", k.Identity.Reveal())
	return hex.EncodeToString(h.Sum(nil)[:kitChecksum])
}

func (k Kit) created() string { return k.CreatedAt.UTC().Format(time.RFC3339) }

// ReadKit reads a kit and checks it against its checksum; a plain age identity
// file passes too, and gives a Kit with identities only (see HasPins). For a
// file that a passphrase protects, call Unlock first. ErrKit if the kit is
// damaged or mistyped.
func ReadKit(r io.Reader) (Kit, error) {
	data, err := readLimited(r, identityFileMax)
	if err != nil {
		return Kit{}, fmt.Errorf("read recovery kit: %w", err)
	}
	if _, sealed, _ := dearmor(data); sealed {
		return Kit{}, fmt.Errorf("read recovery kit: it is protected: %w", ErrPassphraseNeeded)
	}
	fields, err := kitFields(data)
	if err != nil {
		return Kit{}, err
	}
	ids, err := parseIdentities(data)
	if fields == nil {
		if err != nil {
			return Kit{}, err
		}
		return Kit{Identity: ids[0], More: ids[1:]}, nil
	}
	if err != nil {
		return Kit{}, kitError("%v", err)
	}
	if len(ids) != 1 {
		return Kit{}, kitError("%d secret keys in it, want one", len(ids))
	}
	k, err := fields.kit()
	if err != nil {
		return Kit{}, err
	}
	k.Identity = ids[0]
	if fields.sum != k.checksum() {
		return Kit{}, kitError("the checksum does not match: compare every line with the paper, above all the URLs, ids and the secret key")
	}
	return k, nil
}

// kitText holds the values of a kit's lines.
type kitText struct {
	single map[string]string
	urls   []string
	sum    string
}

// kitFields collects the lines that belong to a kit; nil if there is none of
// them, which makes the file a plain identity file.
func kitFields(data []byte) (*kitText, error) {
	t := &kitText{single: map[string]string{}}
	for line, err := range lines(data) {
		if err != nil {
			return nil, fmt.Errorf("recovery kit: a line is %w", err)
		}
		comment, ok := strings.CutPrefix(line, "#")
		name, value, found := strings.Cut(comment, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !found {
			continue
		}
		switch name {
		case kitLineURL:
			if t.urls = append(t.urls, value); len(t.urls) > kitURLsMax {
				return nil, kitError("more than %d repository URLs", kitURLsMax)
			}
		case kitLineVersion, kitLineRepoID, kitLineRoot, kitLineCreated, kitLineProgram, kitLineChecksum:
			if _, twice := t.single[name]; twice {
				return nil, kitError("the line %q is there twice", name)
			}
			t.single[name] = value
		}
	}
	if len(t.single) == 0 && len(t.urls) == 0 {
		return nil, nil
	}
	// Groups of digits are easier to compare on paper.
	t.sum = strings.ToLower(strings.ReplaceAll(t.single[kitLineChecksum], " ", ""))
	return t, nil
}

// kit reads the values, all but the identity.
func (t *kitText) kit() (k Kit, err error) {
	for _, name := range []string{kitLineVersion, kitLineRepoID, kitLineRoot, kitLineCreated, kitLineProgram, kitLineChecksum} {
		if t.single[name] == "" {
			return Kit{}, kitError("the line %q is missing", name)
		}
	}
	if v := t.single[kitLineVersion]; v != kitVersion {
		return Kit{}, fmt.Errorf("recovery kit of version %s, this program knows %s: use a newer one, or give only the AGE-SECRET-KEY line as identity file", shorten(v), kitVersion)
	}
	if len(t.urls) == 0 {
		return Kit{}, kitError("the line %q is missing", kitLineURL)
	}
	k.RepoURLs = t.urls
	id, err := hex.DecodeString(strings.ReplaceAll(t.single[kitLineRepoID], " ", ""))
	if err != nil || len(id) != len(k.RepoID) {
		return Kit{}, kitError("the repository id is not 64 hexadecimal digits")
	}
	k.RepoID = [32]byte(id)
	if k.RootPublic, err = ParseVerifyKey(t.single[kitLineRoot]); err != nil {
		return Kit{}, kitError("root key: %v", err)
	}
	if k.CreatedAt, err = time.Parse(time.RFC3339, t.single[kitLineCreated]); err != nil {
		return Kit{}, kitError("the date is not like 2006-01-02T15:04:05Z")
	}
	k.CreatedAt = k.CreatedAt.UTC().Truncate(time.Second)
	k.Version = t.single[kitLineProgram]
	return k, nil
}

// kitError is ErrKit with what is wrong.
func kitError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrKit, fmt.Sprintf(format, args...))
}
