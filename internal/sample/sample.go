// Package sample fills a deployment with what demonstrations and tests need: base keys and zone keys of both schemes, a key
// set for card data and one for PINs of each, and terminals that have both.
package sample

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
)

// The slots of a sample terminal. The data slot MACs its messages.
const (
	DataSlot = 1
	PINSlot  = 2
)

// The zone keys that PINs are translated to.
const (
	ZoneTDES = "alias/zone-tdes" // for format 0
	ZoneAES  = "alias/zone-aes"  // for format 4
)

// set is one sample key set with the keys it stands on.
type set struct {
	id          keyset.ID
	scheme      dukpt.Scheme
	slot        uint8
	algorithm   keys.Algorithm
	base, zone  string
	first, last string
	start       func() *keyset.KeySet
}

var sets = []set{
	{"TDES-DATA", dukpt.TDES, DataSlot, keys.TDES2, "alias/bdk-tdes-data", "", "FFFF9876543000000000", "FFFF98765430FFE00000", keyset.NewTDESData},
	{"TDES-PIN", dukpt.TDES, PINSlot, keys.TDES2, "alias/bdk-tdes-pin", ZoneTDES, "FFFF9876544000000000", "FFFF98765440FFE00000", keyset.NewTDESPIN},
	{"AES-DATA", dukpt.AES, DataSlot, keys.AES128, "alias/bdk-aes-data", "", "1234567800000001", "12345678FFFFFFFF", keyset.NewAESData},
	{"AES-PIN", dukpt.AES, PINSlot, keys.AES128, "alias/bdk-aes-pin", ZoneAES, "1234567900000001", "12345679FFFFFFFF", keyset.NewAESPIN},
}

// KeySet returns the name of the key set that a scheme uses in a slot, or "" for a slot that sample terminals lack.
func KeySet(scheme dukpt.Scheme, slot uint8) keyset.ID {
	for _, s := range sets {
		if s.scheme == scheme && s.slot == slot {
			return s.id
		}
	}
	return ""
}

// Prepare makes the keys and the signed key sets in d, whose initial keys reach terminals in this way: keyset.Code over the
// network, keyset.DeliveryNone in bundles. Zone keys that are there already stay.
func Prepare(d *deploy.Deployment, delivery keyset.Delivery) error {
	ring, err := d.Keyring()
	if err != nil {
		return err
	}
	return PrepareWith(d, delivery, ring.Generate)
}

// PrepareWith is Prepare with keys that something else makes than the keyring of d: a token. For a zone key that is there already
// generate fails with keyring.ErrExists, or returns anything.
func PrepareWith(d *deploy.Deployment, delivery keyset.Delivery,
	generate func(keyset.KeyRef, keys.Attributes, keyset.Environment) (engine.KeyInfo, error),
) error {
	env := d.Config().Environment
	for name, algorithm := range map[string]keys.Algorithm{ZoneTDES: keys.TDES2, ZoneAES: keys.AES256} {
		ref, err := keyset.ParseKeyRef(name)
		if err != nil {
			return err
		}
		a := keys.Attributes{Algorithm: algorithm, Usage: keys.UsagePIN, Mode: keys.ModeBoth, Exportability: keys.Exportable}
		if _, err := generate(ref, a, env); err != nil && !errors.Is(err, keyring.ErrExists) {
			return err
		}
	}
	for _, s := range sets {
		if err := s.make(d, delivery, generate); err != nil {
			return fmt.Errorf("sample: key set %s: %w", s.id, err)
		}
	}
	return nil
}

func (s set) make(d *deploy.Deployment, delivery keyset.Delivery,
	generate func(keyset.KeyRef, keys.Attributes, keyset.Environment) (engine.KeyInfo, error),
) (err error) {
	k := s.start()
	k.ID, k.Tenant, k.Environment, k.Delivery = s.id, d.Config().Tenant, d.Config().Environment, delivery
	if k.BaseKey, err = keyset.ParseKeyRef(s.base); err != nil {
		return err
	}
	info, err := generate(k.BaseKey, keys.Attributes{
		Algorithm: s.algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	}, k.Environment)
	if err != nil {
		return err
	}
	k.Algorithm, k.BaseKeyFingerprint = info.Attributes.Algorithm, info.Fingerprint
	if k.FirstID, err = dukpt.ParseKeyID(s.first); err != nil {
		return err
	}
	if k.LastID, err = dukpt.ParseKeyID(s.last); err != nil {
		return err
	}
	if s.zone != "" {
		ref, err := keyset.ParseKeyRef(s.zone)
		if err != nil {
			return err
		}
		k.OutgoingPINKeys = []keyset.KeyRef{ref}
	}
	return Save(d, k, info)
}

// Save signs a key set as the first operator and stores it. The first revision of one whose base key is in a token comes with that.
func Save(d *deploy.Deployment, k *keyset.KeySet, inToken ...engine.KeyInfo) error {
	payload, err := keyset.Marshal(k)
	if err != nil {
		return err
	}
	operator, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return err
	}
	doc, err := operator.Sign(keyset.KindKeySet, payload)
	if err != nil {
		return err
	}
	_, err = d.SaveKeySet(doc, inToken...)
	return err
}

// SetState moves a key set to another state by a new signed revision.
func SetState(d *deploy.Deployment, id keyset.ID, state keyset.State) error {
	current, err := d.KeySets()
	if err != nil {
		return err
	}
	for _, k := range current {
		if k.ID == id {
			next := k.NextRevision()
			next.State = state
			return Save(d, next)
		}
	}
	return fmt.Errorf("sample: no key set %s", id)
}

// Terminal registers a terminal of a scheme with a data slot and a PIN slot, and returns its bundle opened. The caller
// wipes it.
func Terminal(ctx context.Context, d *deploy.Deployment, id keyset.TerminalID, scheme dukpt.Scheme, urls ...string) (*terminal.Bundle, error) {
	operator, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return nil, err
	}
	r := deploy.Registration{
		ID: id, Passphrase: deploy.NewBundlePassphrase(), Signers: []*deploy.Person{operator},
		Slots: []deploy.SlotRequest{
			{Slot: DataSlot, KeySet: KeySet(scheme, DataSlot)}, {Slot: PINSlot, KeySet: KeySet(scheme, PINSlot)},
		},
	}
	defer r.Passphrase.Wipe()
	for _, u := range urls {
		r.Endpoints = append(r.Endpoints, terminal.Endpoint{URL: u})
	}
	made, err := d.RegisterTerminal(ctx, r)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(made.Bundle)
	return terminal.OpenBundle(r.Passphrase, made.Bundle)
}
