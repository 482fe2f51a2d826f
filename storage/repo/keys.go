package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
)

// Names of wrapped keys under keys/.
const (
	dataKeyID       = "data-0001"
	domainKeyID     = "domain-0001"
	maintainerKeyID = "meta-maintainer"
	writerKeyPrefix = "meta-"
	firstEpoch      = 1
	wrappedMax      = 64 << 10
	wrappedKeysMax  = 10_000
	unwrappersMax   = 16 // wrapped keys fetched at once
)

// Keys is what this process can open. Every part may be missing.
type Keys struct {
	data   []seal.Identity
	meta   []seal.Identity
	Domain *seal.Domain
}

// HasData reports whether contents can be opened.
func (k *Keys) HasData() bool { return len(k.data) > 0 }

// HasMeta reports whether names and sizes can be opened.
func (k *Keys) HasMeta() bool { return len(k.meta) > 0 }

// DataOpener opens frames of contents with the data keys that are at hand, be they
// given, installed or unwrapped: those that the trust statement names. Without any
// it opens nothing.
func (k *Keys) DataOpener() *seal.Opener { return seal.NewOpener(k.data...) }

// wrapped is the text inside an object under keys/.
type wrapped struct {
	Type   string `json:"t"` // "key"
	Repo   string `json:"repo"`
	ID     string `json:"id"`
	Secret string `json:"secret"` // an age identity, or the JSON of a domain
}

// wrapKey seals one secret to one operator and gives the object's key.
func wrapKey(repo ID, id, secret string, to seal.Recipient) (key string, data []byte, err error) {
	text, err := json.Marshal(wrapped{Type: "key", Repo: repo.String(), ID: id, Secret: secret})
	if err != nil {
		return "", nil, fmt.Errorf("wrap key %s: %w", id, err)
	}
	if data, err = seal.Wrap(text, to); err != nil {
		return "", nil, fmt.Errorf("wrap key %s: %w", id, err)
	}
	return storage.WrapKey(id, to.Fingerprint(), sha256.Sum256(data)), data, nil
}

// unwrapped is a secret that a region holds under a key's name. Anybody who can
// write to the region and knows an operator's public key could have put it there.
type unwrapped struct{ id, secret string }

// unwrapKeys opens all wrapped keys of one region that one of the identities can
// open. One that is damaged does not keep the others back: it is in the error,
// beside the others.
func unwrapKeys(ctx context.Context, s storage.Store, repo ID, ids []seal.Identity) (out []unwrapped, err error) {
	infos, err := storage.ListAll(ctx, s, storage.ListOptions{Prefix: "keys/"}, wrappedKeysMax)
	if err != nil {
		return nil, fmt.Errorf("list wrapped keys: %w", err)
	}
	opener := seal.NewOpener(ids...)
	found, errs := make([]unwrapped, len(infos)), make([]error, len(infos))
	var g errgroup.Group
	g.SetLimit(unwrappersMax)
	for i, info := range infos {
		id, fp, ok := wrapParts(info.Key)
		if !ok || !hasFingerprint(ids, fp) {
			continue
		}
		g.Go(func() error {
			found[i].id = id
			found[i].secret, errs[i] = unwrapKey(ctx, s, info.Key, repo, id, opener)
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	for i, u := range found {
		switch {
		case isAway(errs[i]):
			return out, errs[i]
		case errs[i] != nil:
			err = errs[i]
		case u.id != "":
			out = append(out, u)
		}
	}
	if len(out) == 0 && err == nil {
		err = ErrNoKey
	}
	return out, err
}

func unwrapKey(ctx context.Context, s storage.Store, key string, repo ID, id string, opener *seal.Opener) (secret string, err error) {
	data, _, err := storage.ReadVerified(ctx, s, key, wrappedMax)
	if err != nil {
		return "", fmt.Errorf("read wrapped key: %w", err)
	}
	text, err := opener.Open(nil, data)
	if err == nil {
		secret, err = parseWrapped(text, repo, id)
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", key, err)
	}
	return secret, nil
}

// parseWrapped gives the secret inside the wrapped key of that id.
func parseWrapped(text []byte, repo ID, id string) (secret string, err error) {
	var w wrapped
	if err := json.Unmarshal(text, &w); err != nil {
		return "", fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	if w.Type != "key" || w.Repo != repo.String() || w.ID != id {
		return "", fmt.Errorf("%w: it wraps key %q of repository %.8s", storage.ErrCorrupt, w.ID, w.Repo)
	}
	return w.Secret, nil
}

// wrapParts splits keys/<id>/<fingerprint>-<sha256>.age.
func wrapParts(key string) (id, fp string, ok bool) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 || parts[0] != "keys" {
		return "", "", false
	}
	fp, _, ok = strings.Cut(parts[2], "-")
	return parts[1], fp, ok
}

func hasFingerprint(ids []seal.Identity, fp string) bool {
	for _, id := range ids {
		if id.Recipient().Fingerprint() == fp {
			return true
		}
	}
	return false
}

// addUnwrapped takes over the secrets that are what the trust statement names.
func (k *Keys) addUnwrapped(secrets []unwrapped, t *journal.Trust) (err error) {
	for _, u := range secrets {
		if uerr := k.addOne(u, t); uerr != nil {
			err = fmt.Errorf("open key %s: %w", u.id, uerr)
		}
	}
	return err
}

func (k *Keys) addOne(u unwrapped, t *journal.Trust) error {
	if u.id == domainKeyID {
		d, err := seal.ParseDomain([]byte(u.secret))
		if err != nil {
			return err
		}
		if domainCheck(&d) != t.Domain.Check {
			return errNotNamed
		}
		k.Domain = &d
		return nil
	}
	id, err := seal.ParseIdentity(u.secret)
	if err != nil {
		return err
	}
	to := id.Recipient().String()
	switch {
	case slices.ContainsFunc(t.Data, func(d journal.EpochKey) bool { return d.KeyID == u.id && d.Recipient == to }):
		k.data = addIdentity(k.data, id)
	case u.id == maintainerKeyID && slices.Contains(t.Maintainers, to),
		slices.ContainsFunc(t.Writers, func(w journal.Enrolled) bool { return u.id == writerKeyPrefix+w.ID && w.Meta == to }):
		k.meta = addIdentity(k.meta, id)
	default:
		return errNotNamed
	}
	return nil
}

var errNotNamed = fmt.Errorf("%w: it is not the one that the trust statement names", storage.ErrCorrupt)

func addIdentity(all []seal.Identity, id seal.Identity) []seal.Identity {
	if has(all, id.Recipient().String()) {
		return all
	}
	return append(all, id)
}

func has(all []seal.Identity, recipient string) bool {
	return slices.ContainsFunc(all, func(id seal.Identity) bool { return id.Recipient().String() == recipient })
}

// all reports whether nothing of what an operator can open is missing.
func (k *Keys) all(t *journal.Trust) bool {
	lacks := func(id string) bool { return !has(k.meta, id) }
	return k.Domain != nil && !slices.ContainsFunc(t.Data, func(d journal.EpochKey) bool { return !has(k.data, d.Recipient) }) &&
		!slices.ContainsFunc(t.Maintainers, lacks) && !slices.ContainsFunc(t.Writers, func(w journal.Enrolled) bool { return lacks(w.Meta) })
}

// splitIdentities separates data identities of this repository from operators' ones.
func splitIdentities(ids []seal.Identity, t *journal.Trust) (data, operators []seal.Identity) {
	for _, id := range ids {
		isData := slices.ContainsFunc(t.Data, func(d journal.EpochKey) bool { return d.Recipient == id.Recipient().String() })
		if isData {
			data = append(data, id)
			continue
		}
		operators = append(operators, id)
	}
	return data, operators
}

// domainCheck recognises a domain secret without telling it.
func domainCheck(d *seal.Domain) string {
	seed := d.GearSeed()
	sum := sha256.Sum256(append([]byte("lifeboat domain check v1"), seed[:]...))
	return hex.EncodeToString(sum[:16])
}

// isNoKey reports whether err says that no identity fits.
func isNoKey(err error) bool { return errors.Is(err, seal.ErrNoKey) || errors.Is(err, ErrNoKey) }

func (r *Repo) metaOpener() *seal.Opener { return seal.NewOpener(r.keys.meta...) }
