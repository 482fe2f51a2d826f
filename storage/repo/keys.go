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

// unwrapKeys opens all wrapped keys that one of the identities can open.
func unwrapKeys(ctx context.Context, s storage.Store, repo ID, ids []seal.Identity) (map[string]string, error) {
	infos, err := storage.ListAll(ctx, s, storage.ListOptions{Prefix: "keys/"}, wrappedKeysMax)
	if err != nil {
		return nil, fmt.Errorf("list wrapped keys: %w", err)
	}
	opener := seal.NewOpener(ids...)
	out := map[string]string{}
	for _, info := range infos {
		id, fp, ok := wrapParts(info.Key)
		if !ok || !hasFingerprint(ids, fp) {
			continue
		}
		w, err := unwrapKey(ctx, s, info.Key, opener)
		if err != nil {
			return nil, err
		}
		if w.Type != "key" || w.Repo != repo.String() || w.ID != id {
			return nil, fmt.Errorf("open %s: %w: it wraps key %q of repository %.8s", info.Key, storage.ErrCorrupt, w.ID, w.Repo)
		}
		out[id] = w.Secret
	}
	if len(out) == 0 {
		return nil, ErrNoKey
	}
	return out, nil
}

func unwrapKey(ctx context.Context, s storage.Store, key string, opener *seal.Opener) (wrapped, error) {
	var w wrapped
	data, _, err := storage.ReadVerified(ctx, s, key, wrappedMax)
	if err != nil {
		return w, fmt.Errorf("read wrapped key: %w", err)
	}
	text, err := opener.Open(nil, data)
	if err != nil {
		return w, fmt.Errorf("open %s: %w", key, err)
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return w, fmt.Errorf("open %s: %w: %w", key, storage.ErrCorrupt, err)
	}
	return w, nil
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

// addUnwrapped takes the unwrapped secrets over, each checked against the trust statement.
func (k *Keys) addUnwrapped(secrets map[string]string, t *journal.Trust) error {
	for id, secret := range secrets {
		switch {
		case id == domainKeyID:
			d, err := seal.ParseDomain([]byte(secret))
			if err != nil {
				return fmt.Errorf("open key %s: %w", id, err)
			}
			if domainCheck(&d) != t.Domain.Check {
				return fmt.Errorf("open key %s: %w: it is not the one the trust statement names", id, storage.ErrCorrupt)
			}
			k.Domain = &d
		case strings.HasPrefix(id, "data-"):
			i, err := seal.ParseIdentity(secret)
			if err != nil {
				return fmt.Errorf("open key %s: %w", id, err)
			}
			k.data = append(k.data, i)
		case strings.HasPrefix(id, writerKeyPrefix):
			i, err := seal.ParseIdentity(secret)
			if err != nil {
				return fmt.Errorf("open key %s: %w", id, err)
			}
			k.meta = append(k.meta, i)
		}
	}
	return nil
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
