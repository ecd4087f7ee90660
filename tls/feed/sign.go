package feed

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Kinds of envelopes.
const (
	kindRecord = "feed-record"
	kindHead   = "feed-head"
)

// SignRecord returns the envelope of a record, and its hash, which the next record carries. cert is the DER certificate of
// key, an ECDSA P-256 key; it must be that of the record's issuer, a registration authority of the terminal's tenant.
//
// Followers believe a record while the certificate is valid: before it ends, a new epoch begins whose records are signed
// anew.
func SignRecord(r *Record, cert []byte, key crypto.Signer) (envelope []byte, hash [sha256.Size]byte, err error) {
	payload, err := r.Marshal()
	if err != nil {
		return nil, hash, err
	}
	id, err := checkSigner(cert, r.Terminal.Tenant)
	if err != nil {
		return nil, hash, err
	}
	if id.Name != r.Issuer {
		return nil, hash, fmt.Errorf("feed: %v signs no record of issuer %s", id, r.Issuer)
	}
	envelope, err = keyset.Sign(kindRecord, payload, cert, key)
	if err != nil {
		return nil, hash, err
	}
	return envelope, sha256.Sum256(envelope), nil
}

// SignHead returns the envelope of a head. cert and key are as for SignRecord.
func SignHead(h *Head, cert []byte, key crypto.Signer) ([]byte, error) {
	payload, err := h.Marshal()
	if err != nil {
		return nil, err
	}
	if _, err := checkSigner(cert, h.Tenant); err != nil {
		return nil, err
	}
	return keyset.Sign(kindHead, payload, cert, key)
}

// checkSigner keeps a publisher from signing what no follower would believe.
func checkSigner(der []byte, tenant keyset.TenantID) (identity.Identity, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return identity.Identity{}, fmt.Errorf("feed: signer's certificate: %v", err)
	}
	return signerOf(cert, tenant)
}

// signerOf returns who a certificate says its holder is, if that is a registration authority of the tenant.
func signerOf(cert *x509.Certificate, tenant keyset.TenantID) (identity.Identity, error) {
	id, err := identity.FromCertificate(cert)
	if err != nil {
		return identity.Identity{}, err
	}
	if id.Role != identity.RA || id.Tenant != string(tenant) || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return identity.Identity{}, fmt.Errorf("feed: %v signs nothing in the feed of tenant %s", id, tenant)
	}
	return id, nil
}
