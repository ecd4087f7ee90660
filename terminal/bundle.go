package terminal

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

const (
	bundleLabel = "latchkey terminal bundle"
	maxBundle   = 64 << 10
)

// Bundle is everything that a terminal needs for its first start: who it is, whom it trusts, where it calls, and an
// initial key for each slot. It holds secrets: seal it to pass it on, Wipe it after use. It is not safe for concurrent use.
type Bundle struct {
	Tenant      keyset.TenantID
	Terminal    keyset.TerminalID
	Environment keyset.Environment
	Chain       [][]byte     // certificates as TLS sends them, DER, the terminal's own first, no root
	PrivateKey  secret.Bytes // of the first certificate, PKCS #8 DER
	Roots       [][]byte     // roots of the services authority, DER: whom the terminal calls
	Endpoints   []Endpoint   // where it calls, in order of preference
	Slots       []BundleSlot
}

// Endpoint is one address of the acquirer's host.
type Endpoint struct {
	URL        string // "https://HOST:PORT"; messages go to the path /messages below it
	ServerName string // the name in the server's certificate; empty: the host of URL
}

// BundleSlot is a slot with its initial key: a version D key block of usage B1 and the key that protects it. In a bundle
// both travel together, so that the seal of the bundle is what protects the key.
type BundleSlot struct {
	Slot
	Block string       // X9.143 key block
	KBPK  secret.Bytes // AES-256 key block protection key
}

// NewBundleSlot describes slot number of a terminal under a key set and wraps its initial key under a fresh key block
// protection key. The initial key is neither kept nor wiped.
func NewBundleSlot(number uint8, set *keyset.KeySet, ik *dukpt.InitialKey) (BundleSlot, error) {
	s, err := slotOf(number, set, ik.KeyID())
	if err != nil {
		return BundleSlot{}, err
	}
	kbpk, err := keys.GenerateKey(kbpkAttributes)
	if err != nil {
		return BundleSlot{}, err
	}
	defer kbpk.Wipe()
	p, err := keyblock.NewProtector(kbpk)
	if err != nil {
		return BundleSlot{}, err
	}
	defer p.Wipe()
	k := ik.Key()
	defer k.Wipe()
	block, err := p.Wrap(k)
	if err != nil {
		return BundleSlot{}, err
	}
	return BundleSlot{Slot: s, Block: block, KBPK: kbpk.Material().Clone()}, nil
}

var kbpkAttributes = keys.Attributes{
	Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
}

// InitialKey opens the key block. The caller wipes the result. A block that does not verify, or that holds anything but
// an initial key, is an error that wraps ErrBundle.
func (s BundleSlot) InitialKey() (*dukpt.InitialKey, error) {
	kbpk, err := keys.NewKey(kbpkAttributes, s.KBPK.Expose())
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %v", ErrBundle, s.Number, err)
	}
	defer kbpk.Wipe()
	p, err := keyblock.NewProtector(kbpk)
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %v", ErrBundle, s.Number, err)
	}
	defer p.Wipe()
	content, err := p.Unwrap(s.Block)
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %v", ErrBundle, s.Number, err)
	}
	defer content.Wipe()
	k, err := content.Key()
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %v", ErrBundle, s.Number, err)
	}
	defer k.Wipe()
	ik, err := dukpt.NewInitialKey(s.KeyID, k)
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %v", ErrBundle, s.Number, err)
	}
	return ik, nil
}

// Wipe destroys the secrets of the bundle.
func (b *Bundle) Wipe() {
	b.PrivateKey.Wipe()
	for _, s := range b.Slots {
		s.KBPK.Wipe()
	}
}

// Format prints whose bundle it is, whatever the verb.
func (b *Bundle) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, b.text()) }

// LogValue logs whose bundle it is.
func (b *Bundle) LogValue() slog.Value { return slog.StringValue(b.text()) }

// MarshalJSON refuses: a bundle leaves the process sealed or not at all.
func (b *Bundle) MarshalJSON() ([]byte, error) {
	return nil, errors.New("terminal: a bundle is not written as JSON; use SealBundle")
}

func (b *Bundle) text() string {
	if b == nil {
		return "terminal.Bundle(nil)"
	}
	return fmt.Sprintf("terminal.Bundle(%s/%s, %d slots)", b.Tenant, b.Terminal, len(b.Slots))
}

// Validate reports what is wrong with the bundle, wrapping ErrBundle. It checks form and that the parts agree, not the
// certificate chain, which the first connection does.
func (b *Bundle) Validate() error {
	if err := b.validate(); err != nil {
		return fmt.Errorf("%w: %v", ErrBundle, err)
	}
	return nil
}

func (b *Bundle) validate() error {
	if _, err := keyset.ParseTenant(string(b.Tenant)); err != nil {
		return err
	}
	if _, err := keyset.ParseTerminal(string(b.Terminal)); err != nil {
		return err
	}
	if b.Environment != keyset.Production && b.Environment != keyset.Test {
		return errors.New("no environment")
	}
	if err := b.validateIdentity(); err != nil {
		return err
	}
	if len(b.Endpoints) == 0 || len(b.Endpoints) > 16 {
		return fmt.Errorf("%d endpoints, want 1 to 16", len(b.Endpoints))
	}
	for _, e := range b.Endpoints {
		if err := e.validate(); err != nil {
			return err
		}
	}
	slots := make([]Slot, len(b.Slots))
	for i, s := range b.Slots {
		slots[i] = s.Slot
		if s.Block == "" || s.KBPK.Len() == 0 {
			return fmt.Errorf("slot %d has no key", s.Number)
		}
	}
	return validateSlots(slots)
}

func (b *Bundle) validateIdentity() error {
	if len(b.Chain) == 0 || len(b.Roots) == 0 {
		return errors.New("no certificate or no root")
	}
	for _, der := range append(append([][]byte{}, b.Chain...), b.Roots...) {
		if _, err := x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	leaf, err := x509.ParseCertificate(b.Chain[0])
	if err != nil {
		return err
	}
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return err
	}
	want := identity.Identity{Tenant: string(b.Tenant), Role: identity.Terminal, Name: string(b.Terminal)}
	if id != want {
		return fmt.Errorf("the certificate is of %v, not %v", id, want)
	}
	if _, err := parsePrivateKey(b.PrivateKey, leaf); err != nil {
		return err
	}
	return nil
}

// validateSlots checks each slot and that together they make a terminal: distinct numbers and key ids, and one slot that
// encrypts card data, under which messages are MACed.
func validateSlots(slots []Slot) error {
	if len(slots) == 0 || len(slots) > keyset.MaxSlots {
		return fmt.Errorf("%d slots, want 1 to %d", len(slots), keyset.MaxSlots)
	}
	data := false
	for i, s := range slots {
		if err := s.validate(); err != nil {
			return err
		}
		for _, other := range slots[:i] {
			if other.Number == s.Number || other.KeyID == s.KeyID {
				return fmt.Errorf("slots %d and %d share a number or a key", other.Number, s.Number)
			}
		}
		data = data || s.HasData()
	}
	if !data {
		return errors.New("no slot for card data")
	}
	return nil
}

// validateNext checks the slots, those that wait, and what becomes of them when the waiting keys have taken over.
func validateNext(slots, next []Slot) error {
	if err := validateSlots(slots); err != nil {
		return err
	}
	for i, s := range next {
		for _, other := range next[:i] {
			if other.Number == s.Number || other.KeyID == s.KeyID {
				return fmt.Errorf("slots %d and %d wait for one key, or are one slot", other.Number, s.Number)
			}
		}
		for _, other := range slots {
			if other.KeyID == s.KeyID {
				return fmt.Errorf("slot %d waits for a key that slot %d has", s.Number, other.Number)
			}
		}
	}
	return validateSlots(replaced(slots, next, numberOf))
}

func (e Endpoint) validate() error {
	u, err := url.Parse(e.URL)
	if err != nil {
		return errors.New("endpoint is not a URL")
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("endpoint %q, want https://HOST:PORT", e.URL)
	}
	return nil
}

// bundleRecord is what a sealed bundle says beside its secrets: those follow it, the private key and then the key block
// protection key of each slot.
type bundleRecord struct {
	Version     uint               `cbor:"v"`
	Tenant      string             `cbor:"tenant"`
	Terminal    string             `cbor:"terminal"`
	Environment string             `cbor:"env"`
	Chain       [][]byte           `cbor:"chain"`
	Roots       [][]byte           `cbor:"roots"`
	Endpoints   []endpointRecord   `cbor:"endpoints"`
	Slots       []bundleSlotRecord `cbor:"slots"`
}

type endpointRecord struct {
	URL        string `cbor:"url"`
	ServerName string `cbor:"name,omitempty"`
}

type bundleSlotRecord struct {
	Slot  slotRecord `cbor:"slot"`
	Block string     `cbor:"block"`
}

// encodeBundle returns the plain form, which the caller seals and wipes.
func encodeBundle(b *Bundle) (secret.Bytes, error) {
	if err := b.Validate(); err != nil {
		return secret.Bytes{}, err
	}
	r := bundleRecord{
		Version: recordVersion, Tenant: string(b.Tenant), Terminal: string(b.Terminal), Environment: b.Environment.String(),
		Chain: b.Chain, Roots: b.Roots, Endpoints: endpointRecords(b.Endpoints),
	}
	secrets := []secret.Bytes{b.PrivateKey}
	for _, s := range b.Slots {
		r.Slots = append(r.Slots, bundleSlotRecord{Slot: s.record(), Block: s.Block})
		secrets = append(secrets, s.KBPK)
	}
	return joinSecrets(&r, secrets...)
}

func endpointRecords(in []Endpoint) (out []endpointRecord) {
	for _, e := range in {
		out = append(out, endpointRecord(e))
	}
	return out
}

func endpointsOf(in []endpointRecord) (out []Endpoint) {
	for _, e := range in {
		out = append(out, Endpoint(e))
	}
	return out
}

// decodeBundle reads the plain form. Errors wrap ErrBundle; what was read before an error is wiped.
func decodeBundle(plain []byte) (*Bundle, error) {
	if len(plain) > maxBundle {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrBundle, len(plain), maxBundle)
	}
	var r bundleRecord
	secrets, err := splitSecrets(plain, &r)
	if err == nil && len(secrets) != 1+len(r.Slots) {
		wipeAll(secrets)
		err = fmt.Errorf("%d secrets with %d slots", len(secrets), len(r.Slots))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	b := &Bundle{
		Tenant: keyset.TenantID(r.Tenant), Terminal: keyset.TerminalID(r.Terminal),
		Chain: r.Chain, PrivateKey: secrets[0], Roots: r.Roots, Endpoints: endpointsOf(r.Endpoints),
	}
	for i, s := range r.Slots {
		slot, e := s.Slot.slot()
		if err == nil {
			err = e
		}
		b.Slots = append(b.Slots, BundleSlot{Slot: slot, Block: s.Block, KBPK: secrets[1+i]})
	}
	if err == nil && r.Version != recordVersion {
		err = fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	if err == nil {
		b.Environment, err = keyset.ParseEnvironment(r.Environment)
	}
	if err == nil {
		err = b.validate()
	}
	if err != nil {
		b.Wipe()
		return nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	return b, nil
}

// SealBundle encrypts a bundle under a passphrase, to be handed to whoever starts the terminal; the passphrase goes
// another way. The bundle is neither kept nor wiped.
func SealBundle(passphrase secret.Bytes, b *Bundle) ([]byte, error) {
	return sealBundle(seal.DefaultParams, passphrase, b)
}

func sealBundle(cost seal.Params, passphrase secret.Bytes, b *Bundle) ([]byte, error) {
	plain, err := encodeBundle(b)
	if err != nil {
		return nil, err
	}
	defer plain.Wipe()
	return seal.SealWith(cost, passphrase, bundleLabel, plain.Expose())
}

// OpenBundle decrypts what SealBundle made and checks it. The caller wipes the result. A wrong passphrase is the error
// seal.ErrPassphrase of the envelope; a content that is no bundle wraps ErrBundle.
func OpenBundle(passphrase secret.Bytes, sealed []byte) (*Bundle, error) {
	plain, err := seal.Open(passphrase, bundleLabel, sealed)
	if err != nil {
		return nil, err
	}
	defer plain.Wipe()
	return decodeBundle(plain.Expose())
}

// Link makes the link that the bundle prescribes: its certificate, its roots, and its endpoints where o names none. The
// bundle may be wiped afterwards.
func (b *Bundle) Link(o LinkOptions) (*Link, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	h := holderOf(b)
	c, err := h.credential(store{})
	if err != nil {
		return nil, err
	}
	return h.link(o, c)
}
