package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ErrDelivery says that a key set does not let its keys be handed out in a bundle. Sets whose keys the key-distribution
// host delivers are refused: two that give out key ids of one set could give out one twice. So is production.
var ErrDelivery = errors.New("deploy: keys of this set are not handed out in a bundle")

// Registration says what a new terminal gets. Every field is required.
type Registration struct {
	ID         keyset.TerminalID
	Slots      []SlotRequest       // ascending by slot, each key set once, at least one with card data
	Endpoints  []terminal.Endpoint // where the terminal calls
	Passphrase secret.Bytes        // seals the bundle: see NewBundlePassphrase. The caller keeps and wipes it
	Signers    []*Person           // who approves the record: one in test, two in production
}

// SlotRequest asks for the next key of a set in a slot.
type SlotRequest struct {
	Slot   uint8 // 1 to keyset.MaxSlots
	KeySet keyset.ID
}

// Registered is a terminal that was registered.
type Registered struct {
	Bundle   []byte           // sealed: what the terminal imports. It is not kept anywhere
	Terminal *keyset.Terminal // its record
	Serial   string           // of its certificate
}

// RegisterTerminal gives a new terminal the next key id of each set it asks for, an initial key for each, and a
// certificate, and stores its signed record. Key ids are given out durably before their keys are derived; a registration
// that fails half way leaves unused ids behind and nothing else. A terminal that exists wraps fs.ErrExist.
func (d *Deployment) RegisterTerminal(ctx context.Context, r Registration) (*Registered, error) {
	if r.Passphrase.Len() < seal.MinPassphrase {
		return nil, fmt.Errorf("deploy: bundle passphrase has %d bytes, want %d or more", r.Passphrase.Len(), seal.MinPassphrase)
	}
	if len(r.Signers) == 0 || len(r.Slots) == 0 || len(r.Endpoints) == 0 {
		return nil, errors.New("deploy: a registration needs a signer, a slot and an endpoint")
	}
	var out *Registered
	err := underLock(d.dir, func() error {
		catalog, err := d.fresh()
		if err != nil {
			return err
		}
		if _, exists := catalog.Terminal(d.config.Tenant, r.ID); exists {
			return fmt.Errorf("deploy: terminal %s: %w", r.ID, fs.ErrExist)
		}
		out, err = d.register(ctx, catalog, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (d *Deployment) register(ctx context.Context, catalog *Catalog, r Registration) (*Registered, error) {
	record := &keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: d.config.Tenant, ID: r.ID, Status: keyset.StatusActive, Generation: 1,
	}
	bundle := &terminal.Bundle{
		Tenant: d.config.Tenant, Terminal: r.ID, Environment: d.config.Environment, Endpoints: r.Endpoints,
	}
	defer bundle.Wipe()
	if err := d.checkRequest(catalog, record, r); err != nil {
		return nil, err
	}
	for _, s := range r.Slots {
		if err := d.addSlot(catalog, bundle, record, s); err != nil {
			return nil, err
		}
	}
	issuer, err := d.Issuer(identity.TerminalCA)
	if err != nil {
		return nil, err
	}
	if err := d.addIdentity(ctx, issuer, bundle, record); err != nil {
		return nil, err
	}
	out, err := d.conclude(catalog, bundle, record, r)
	if err != nil {
		// A certificate that no record names is good for nothing; nothing depends on its being revoked.
		return nil, errors.Join(err, issuer.Revoke(ctx, record.Serial, reasonCessation))
	}
	return out, nil
}

// reasonCessation is cessationOfOperation of RFC 5280, 5.3.1.
const reasonCessation = 5

// checkRequest refuses, before a key id or a certificate is used up, what the record or the bundle would refuse in the end.
// The folder is locked, so the key ids that it looks at are those that will be given out.
func (d *Deployment) checkRequest(catalog *Catalog, record *keyset.Terminal, r Registration) error {
	trial, data := *record, false
	for i, s := range r.Slots {
		if slices.ContainsFunc(r.Slots[:i], func(o SlotRequest) bool { return o.KeySet == s.KeySet }) {
			return fmt.Errorf("deploy: two slots ask for key set %s, want one slot for each set", s.KeySet)
		}
		set, ok := catalog.KeySet(s.KeySet)
		if !ok {
			return fmt.Errorf("%w: slot %d names key set %s, which does not exist", ErrDocument, s.Slot, s.KeySet)
		}
		if set.Delivery != keyset.DeliveryNone || !set.State.Permits(keyset.Deliver) || set.Environment != keyset.Test {
			return fmt.Errorf("%w: %s is %v with delivery %v in %v", ErrDelivery, set.ID, set.State, set.Delivery, set.Environment)
		}
		id, err := d.nextKeyID(set, catalog)
		if err != nil {
			return err
		}
		data = data || set.Has(keyset.UsageData)
		trial.Slots = append(trial.Slots, keyset.Slot{Slot: s.Slot, KeySet: s.KeySet, KeyID: id, State: keyset.SlotActive})
	}
	if err := trial.Validate(); err != nil {
		return err
	}
	if !data {
		return errors.New("deploy: no slot is for card data")
	}
	return nil
}

// addSlot gives out a key id, derives its initial key and puts it into the bundle.
func (d *Deployment) addSlot(catalog *Catalog, bundle *terminal.Bundle, record *keyset.Terminal, s SlotRequest) error {
	set, ok := catalog.KeySet(s.KeySet)
	if !ok {
		return fmt.Errorf("%w: no key set %s", ErrDocument, s.KeySet)
	}
	id, err := d.allocate(set, catalog)
	if err != nil {
		return err
	}
	ring, err := d.Keyring()
	if err != nil {
		return err
	}
	base, err := ring.BaseKey(set.BaseKey)
	if err != nil {
		return err
	}
	defer base.Wipe()
	ik, err := base.Derive(id)
	if err != nil {
		return err
	}
	defer ik.Wipe()
	slot, err := terminal.NewBundleSlot(s.Slot, set, ik)
	if err != nil {
		return err
	}
	bundle.Slots = append(bundle.Slots, slot)
	record.Slots = append(record.Slots, keyset.Slot{Slot: s.Slot, KeySet: s.KeySet, KeyID: id, State: keyset.SlotActive})
	return nil
}

// addIdentity makes the terminal's key pair and certificate.
func (d *Deployment) addIdentity(ctx context.Context, issuer ca.Issuer, bundle *terminal.Bundle, record *keyset.Terminal) error {
	key, der, err := generateKey()
	if err != nil {
		return err
	}
	bundle.PrivateKey = der // wiped with the bundle
	id, err := identity.New(string(record.Tenant), identity.Terminal, string(record.ID))
	if err != nil {
		return err
	}
	roots, err := readCertificates(TrustPath(d.dir, identity.ServicesCA))
	if err != nil {
		return err
	}
	for _, root := range roots {
		bundle.Roots = append(bundle.Roots, root.Raw)
	}
	chain, err := issuer.Issue(ctx, ca.Request{PublicKey: key.Public(), Identity: id})
	if err != nil {
		return err
	}
	for _, c := range chain {
		bundle.Chain = append(bundle.Chain, c.Raw)
	}
	record.Serial = identity.Serial(chain[0])
	return nil
}

// conclude seals the bundle and, when nothing can go wrong any more, stores the record.
func (d *Deployment) conclude(catalog *Catalog, bundle *terminal.Bundle, record *keyset.Terminal, r Registration) (*Registered, error) {
	if err := bundle.Validate(); err != nil {
		return nil, err
	}
	sealed, err := terminal.SealBundle(r.Passphrase, bundle)
	if err != nil {
		return nil, err
	}
	payload, err := keyset.MarshalTerminal(record)
	if err != nil {
		return nil, err
	}
	doc, err := Sign(r.Signers, keyset.KindTerminal, payload)
	if err != nil {
		return nil, err
	}
	if record, err = d.checkTerminal(catalog, doc); err != nil {
		return nil, err
	}
	if err := d.writeTerminal(record, doc); err != nil {
		return nil, err
	}
	return &Registered{Bundle: sealed, Terminal: record, Serial: record.Serial}, nil
}

// NewBundlePassphrase makes a passphrase of 26 characters, 130 bits, to be shown once and typed in at the terminal. The
// caller wipes it.
func NewBundlePassphrase() secret.Bytes {
	var random [17]byte
	_, _ = rand.Read(random[:]) // cannot fail
	defer secret.Wipe(random[:])
	p := secret.New(26)
	crockford.Append(p.Expose()[:0], random[:], 26)
	return p
}
