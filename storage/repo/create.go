package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"lifeboat/storage"
	"lifeboat/storage/journal"
	"lifeboat/storage/seal"
)

// NewWriter is a freshly made writer: all its secrets.
type NewWriter struct {
	ID     string
	Sign   seal.SigningKey
	Meta   seal.Identity
	Domain *seal.Domain
}

// Created is what Create made. The secrets go to the recovery kit, the root key
// file and the host's state, and nowhere else.
type Created struct {
	ID       ID
	Root     seal.SigningKey
	Operator seal.Identity
	Data     seal.Identity
	Writer   NewWriter
	Members  []journal.Member
}

// CreateOptions says how a repository is made.
type CreateOptions struct {
	Regions []Region
	Classic bool // X25519 instead of the hybrid post-quantum keys
	// Recipients are further operators (age recipients) who can open everything.
	Recipients []seal.Recipient
	Now        time.Time
}

// CheckEmpty makes sure that a region answers and holds nothing. ErrNotEmpty,
// with the repository id in the text when it holds one.
func CheckEmpty(ctx context.Context, r Region) error {
	data, _, err := storage.ReadAll(ctx, r.Store, storage.FormatKey, formatMax)
	if err == nil {
		_, id, perr := parseFormat(data)
		if perr != nil {
			return fmt.Errorf("region %s: %w: %w", r.Name, ErrNotEmpty, perr)
		}
		return fmt.Errorf("region %s: %w: it holds repository %.8s", r.Name, ErrNotEmpty, id)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("region %s: %w", r.Name, err)
	}
	for info, err := range r.Store.List(ctx, storage.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("region %s: list: %w", r.Name, err)
		}
		return fmt.Errorf("region %s: %w: it holds %s", r.Name, ErrNotEmpty, info.Key)
	}
	return nil
}

// Create makes a repository in regions that CheckEmpty has passed: keys, first
// writer, trust. format.json is written last in each region, so that a region
// that was left half made is not taken for a repository.
func Create(ctx context.Context, opt CreateOptions) (*Created, error) {
	c, err := newSecrets(opt.Classic)
	if err != nil {
		return nil, err
	}
	format, id, err := newFormat(c.Root.Public(), opt.Now)
	if err != nil {
		return nil, err
	}
	c.ID = id
	for _, r := range opt.Regions {
		c.Members = append(c.Members, journal.Member{Name: r.Name, Nonce: newNonce()})
	}
	objects, err := c.objects(opt)
	if err != nil {
		return nil, err
	}
	for i, r := range opt.Regions {
		if err := c.fill(ctx, r, c.Members[i], objects, opt.Now); err != nil {
			return nil, fmt.Errorf("create repository in region %s: %w", r.Name, err)
		}
	}
	for _, r := range opt.Regions {
		if err := put(ctx, r.Store, storage.FormatKey, format); err != nil {
			return nil, fmt.Errorf("create repository in region %s: %w", r.Name, err)
		}
	}
	return c, nil
}

func newSecrets(classic bool) (*Created, error) {
	c := &Created{}
	var err error
	if c.Root, err = seal.NewRootKey(); err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	if c.Operator, err = seal.NewIdentity(classic); err != nil {
		return nil, fmt.Errorf("make operator identity: %w", err)
	}
	if c.Data, err = seal.NewIdentity(classic); err != nil {
		return nil, fmt.Errorf("make data key: %w", err)
	}
	domain, err := seal.NewDomain(classic)
	if err != nil {
		return nil, fmt.Errorf("make domain secret: %w", err)
	}
	c.Writer, err = newWriter(classic, &domain)
	return c, err
}

func newWriter(classic bool, domain *seal.Domain) (NewWriter, error) {
	w := NewWriter{ID: newNonce(), Domain: domain}
	var err error
	if w.Sign, err = seal.NewSigningKey(); err != nil {
		return w, fmt.Errorf("make writer key: %w", err)
	}
	if w.Meta, err = seal.NewIdentity(classic); err != nil {
		return w, fmt.Errorf("make meta key: %w", err)
	}
	return w, nil
}

// object is one thing to put.
type object struct {
	key  string
	data []byte
}

// objects builds the wrapped keys and the first trust statement. The
// maintainer's identity is made here and kept only wrapped.
func (c *Created) objects(opt CreateOptions) ([]object, error) {
	maintainer, err := seal.NewIdentity(opt.Classic)
	if err != nil {
		return nil, fmt.Errorf("make maintainer key: %w", err)
	}
	domain, err := c.Writer.Domain.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode domain secret: %w", err)
	}
	secrets := map[string]string{
		dataKeyID: c.Data.Reveal(), domainKeyID: string(domain), maintainerKeyID: maintainer.Reveal(),
		writerKeyPrefix + c.Writer.ID: c.Writer.Meta.Reveal(),
	}
	operators := append([]seal.Recipient{c.Operator.Recipient()}, opt.Recipients...)
	var out []object
	for id, secret := range secrets {
		for _, to := range operators {
			key, data, err := wrapKey(c.ID, id, secret, to)
			if err != nil {
				return nil, err
			}
			out = append(out, object{key, data})
		}
	}
	trust, err := journal.SignTrust(c.trust(maintainer.Recipient(), operators, opt.Now), c.ID, c.Root)
	if err != nil {
		return nil, err
	}
	out = append(out, object{storage.TrustKey(1, sha256.Sum256(trust)), trust})
	return append(out, object{storage.RecoveryKey, []byte(recoveryText(c.ID))}), nil
}

func (c *Created) trust(maintainer seal.Recipient, operators []seal.Recipient, now time.Time) journal.Trust {
	t := journal.Trust{
		Seq: 1, At: now, MinReader: 1, MinWriter: 1, Features: []string{}, Members: c.Members,
		Writers:     []journal.Enrolled{{ID: c.Writer.ID, Sign: c.Writer.Sign.Public().String(), Meta: c.Writer.Meta.Recipient().String(), AddedAt: now.UTC()}},
		Maintainers: []string{maintainer.String()},
		Data:        []journal.EpochKey{{Epoch: firstEpoch, KeyID: dataKeyID, Recipient: c.Data.Recipient().String()}},
		Domain:      journal.DomainRef{ID: 1, KeyID: domainKeyID, Index: c.Writer.Domain.Index.Recipient().String(), Check: domainCheck(c.Writer.Domain)},
	}
	for i, o := range operators {
		name := "operator"
		if i > 0 {
			name = fmt.Sprintf("operator-%d", i+1)
		}
		t.Operators = append(t.Operators, journal.OperatorName{Name: name, Fingerprint: o.Fingerprint(), Recipient: o.String(), AddedAt: now.UTC()})
	}
	return t
}

var errNoRegions = errors.New("no regions are configured")

// sentinelPrefixes are those that every region lists from its first day.
func sentinelPrefixes() []string { return []string{"trust/", "keys/", "region/", "gc/"} }

func (c *Created) fill(ctx context.Context, r Region, m journal.Member, objects []object, now time.Time) error {
	for _, o := range objects {
		if err := put(ctx, r.Store, o.key, o.data); err != nil {
			return err
		}
	}
	if err := putMarker(ctx, r.Store, c.ID, m.Nonce, now); err != nil {
		return err
	}
	for _, p := range sentinelPrefixes() {
		if err := put(ctx, r.Store, storage.SentinelKey(p), []byte(storage.Sentinel)); err != nil {
			return err
		}
	}
	return nil
}

// recoveryText is stored beside the data, in clear: how to get everything back
// with stock tools, for somebody who has nothing but the bucket and the kit.
func recoveryText(id ID) string {
	return strings.ReplaceAll(recoveryTemplate, "REPOID", id.String())
}

const recoveryTemplate = `This is a lifeboat repository, format version 1, id
REPOID

With lifeboat and the recovery kit (kit.txt):

    lifeboat snapshots --repo URL --identity-file kit.txt
    lifeboat restore NAME --to DIR --repo URL --identity-file kit.txt

Without lifeboat you need tar, zstd, age 1.3 or newer (older ones do not know
the post-quantum keys; repositories made with --classic open with any age 1.x),
python3, and the identity (the AGE-SECRET-KEY line) of the kit:

 1. keys/<key id>/<...>.age hold the repository's keys, wrapped for each
    operator: age -d -i kit.txt keys/data-0001/<...>.age prints JSON whose
    "secret" is the identity that opens contents. meta-* open names and
    manifests, domain-0001 holds the identity that opens the index.
 2. journal/ holds signed statements, one line of JSON each. An "ack" names the
    snapshots that count, and the "intent" that says where the manifest is.
 3. Manifests, catalogs and index records are CBOR inside zstd inside age.
 4. packs/**/*.tar are tar archives: tar xf P.tar, then
    age -d -i data.key 000000.zst.age | zstd -d gives the chunks of a frame.

The file docs/format.md of the lifeboat source has every field, and prints a
reader in Python that does all of this.
`
