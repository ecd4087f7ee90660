package feed

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// maxSigners bounds the memory of certificates that have been verified. An authority has one at a time, or a few.
const maxSigners = 16

// Verifier decides whose records and heads count: those of registration authorities of one tenant whose certificate
// comes from the services authority and is valid now. It is safe for concurrent use.
type Verifier struct {
	services *x509.CertPool
	tenant   keyset.TenantID
	now      func() time.Time

	mu      sync.Mutex
	signers map[[sha256.Size]byte]signer // by the hash of their certificate
}

// signer is an authority whose certificate has been verified.
type signer struct {
	name        string
	public      crypto.PublicKey
	from, until time.Time // validity of the whole chain
}

// NewVerifier returns a verifier for the roots of the services authority. A nil clock is time.Now.
func NewVerifier(services *x509.CertPool, tenant keyset.TenantID, clock func() time.Time) (*Verifier, error) {
	if services == nil || services.Equal(x509.NewCertPool()) {
		return nil, errors.New("feed: no roots of the services authority")
	}
	if _, err := keyset.ParseTenant(string(tenant)); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if clock == nil {
		clock = time.Now
	}
	return &Verifier{services: services, tenant: tenant, now: clock, signers: make(map[[sha256.Size]byte]signer)}, nil
}

// Record opens the envelope of a record and returns it with the hash of the envelope. chain holds the DER certificates
// that a page brings along. The error wraps ErrFormat or ErrSignature.
func (v *Verifier) Record(envelope []byte, chain [][]byte) (*Record, [sha256.Size]byte, error) {
	payload, signedBy, err := v.open(envelope, kindRecord, chain)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	r, err := ParseRecord(payload)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	if r.Issuer != signedBy || r.Terminal.Tenant != v.tenant {
		return nil, [sha256.Size]byte{}, unsigned("record of issuer %s and tenant %s, signed by %s of %s",
			r.Issuer, r.Terminal.Tenant, signedBy, v.tenant)
	}
	return r, sha256.Sum256(envelope), nil
}

// Head opens the envelope of a head. chain is as for Record. The error wraps ErrFormat or ErrSignature.
func (v *Verifier) Head(envelope []byte, chain [][]byte) (*Head, error) {
	payload, _, err := v.open(envelope, kindHead, chain)
	if err != nil {
		return nil, err
	}
	h, err := ParseHead(payload)
	if err != nil {
		return nil, err
	}
	if h.Tenant != v.tenant {
		return nil, unsigned("head of tenant %s, want %s", h.Tenant, v.tenant)
	}
	return h, nil
}

// open returns the payload of an envelope with one signature, and who made it.
func (v *Verifier) open(envelope []byte, kind string, chain [][]byte) (payload []byte, signedBy string, err error) {
	signatures := 0
	payload, _, err = keyset.Open(envelope, kind, func(der []byte) (string, crypto.PublicKey, error) {
		signatures++
		s, err := v.signer(der, chain)
		signedBy = s.name
		return s.name, s.public, err
	})
	if errors.Is(err, keyset.ErrFormat) {
		return nil, "", broken("%v", err)
	}
	if err != nil {
		return nil, "", unsigned("%v", err)
	}
	if signatures != 1 {
		return nil, "", unsigned("%d signatures, want one", signatures)
	}
	return payload, signedBy, nil
}

// signer verifies the certificate of a signer, or remembers that it has.
func (v *Verifier) signer(der []byte, chain [][]byte) (signer, error) {
	now, hash := v.now(), sha256.Sum256(der)
	v.mu.Lock()
	s, known := v.signers[hash]
	v.mu.Unlock()
	if known && !now.Before(s.from) && !now.After(s.until) {
		return s, nil
	}
	s, err := v.verify(der, chain, now)
	if err != nil {
		return signer{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.signers) >= maxSigners {
		clear(v.signers)
	}
	v.signers[hash] = s
	return s, nil
}

func (v *Verifier) verify(der []byte, chain [][]byte, now time.Time) (signer, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return signer{}, fmt.Errorf("signer's certificate: %v", err)
	}
	id, err := signerOf(cert, v.tenant)
	if err != nil {
		return signer{}, err
	}
	issuing := x509.NewCertPool()
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return signer{}, fmt.Errorf("issuing certificate: %v", err)
		}
		issuing.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: v.services, Intermediates: issuing, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return signer{}, fmt.Errorf("certificate of %v: %v", id, err)
	}
	for _, c := range chains {
		if len(c) >= 2 && identity.MayCertify(c[1:len(c)-1], id.Role) == nil {
			s := signer{name: id.Name, public: cert.PublicKey}
			s.from, s.until = validity(c)
			return s, nil
		}
	}
	return signer{}, fmt.Errorf("the issuer of %v may not certify role %s", id, id.Role)
}

// validity returns from when until when all the certificates of a chain are valid.
func validity(chain []*x509.Certificate) (from, until time.Time) {
	from, until = chain[0].NotBefore, chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return from, until
}

func unsigned(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSignature, fmt.Sprintf(format, args...))
}
