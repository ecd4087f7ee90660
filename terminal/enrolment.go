package terminal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// enrolmentName is the file of an enrolment under way: what it has come to so far. Every key is in it before anybody hears
// of the key, so that whoever repeats an enrolment after a power cut shows the same keys again.
const enrolmentName = "enrolment"

// enrolment is a terminal in the making.
type enrolment struct {
	tenant   keyset.TenantID
	terminal keyset.TerminalID
	member   membership
	tlsKey   secret.Bytes // PKCS #8
	chain    [][]byte     // certificates of it, DER, its own first; nil before it has one
	code     secret.Bytes // the one-time code; empty when it is spent
	ticket   [32]byte     // SHA-256 of it, which stays: the same ticket says nothing new
	slots    []Slot       // whose registers are on the medium
}

// enrolmentRecord is an enrolment as stored, without its secrets: those are the TLS key, the agreement key and the code.
type enrolmentRecord struct {
	Version  uint             `cbor:"v"`
	Tenant   string           `cbor:"tenant"`
	Terminal string           `cbor:"terminal"`
	Member   membershipRecord `cbor:"member"`
	Ticket   []byte           `cbor:"ticket"`
	Chain    [][]byte         `cbor:"chain,omitempty"`
	Slots    []slotRecord     `cbor:"slots,omitempty"`
}

const enrolmentSecrets = 3

func (s store) saveEnrolment(e *enrolment) error {
	r := enrolmentRecord{
		Version: recordVersion, Tenant: string(e.tenant), Terminal: string(e.terminal), Member: e.member.record(),
		Ticket: e.ticket[:], Chain: e.chain, Slots: slotRecords(e.slots),
	}
	return s.saveSecrets(enrolmentName, label(enrolmentName), &r, e.tlsKey, e.member.agreementKey, e.code)
}

// loadEnrolment returns the enrolment under way, which the caller wipes.
func (s store) loadEnrolment() (*enrolment, error) {
	var r enrolmentRecord
	secrets, err := s.loadSecrets(enrolmentName, label(enrolmentName), &r)
	if err != nil {
		return nil, err
	}
	e, err := r.enrolment(secrets)
	if err != nil {
		wipeAll(secrets)
		return nil, fmt.Errorf("%w: %s: %v", ErrState, enrolmentName, err)
	}
	return e, nil
}

func (r *enrolmentRecord) enrolment(secrets []secret.Bytes) (*enrolment, error) {
	if r.Version != recordVersion || len(secrets) != enrolmentSecrets || len(r.Ticket) != sha256.Size {
		return nil, fmt.Errorf("version %d with %d secrets and a digest of %d bytes", r.Version, len(secrets), len(r.Ticket))
	}
	m, err := r.Member.membership(keyset.TenantID(r.Tenant), secrets[1])
	if err != nil {
		return nil, err
	}
	slots, err := slotsOf(r.Slots)
	if err != nil {
		return nil, err
	}
	return &enrolment{
		tenant: keyset.TenantID(r.Tenant), terminal: keyset.TerminalID(r.Terminal), member: *m, tlsKey: secrets[0],
		ticket: [32]byte(r.Ticket), chain: r.Chain, code: secrets[2], slots: slots,
	}, nil
}

func (e *enrolment) wipe() { wipeAll([]secret.Bytes{e.tlsKey, e.member.agreementKey, e.code}) }

// removeEnrolment destroys what an enrolment has left. Nobody reads it any more once there is an identity, so a power cut on
// the way does no harm.
func removeEnrolment(f FS) error { return overwrite(f, enrolmentName) }

// generateKey makes a private key, PKCS #8.
func generateKey(curve elliptic.Curve) (secret.Bytes, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: %w", err)
	}
	defer secret.Wipe(der)
	return secret.From(der), nil
}

// openKey reads a private key of ECDSA, PKCS #8: one that generateKey has made, or the maker of the device.
func openKey(der secret.Bytes) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		return nil, errors.New("private key is not PKCS #8")
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T", k)
	}
	return key, nil
}

func rawOf(chain []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}
