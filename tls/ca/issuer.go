package ca

import (
	"context"
	"crypto/x509"
	"errors"
)

var (
	// ErrRequest is wrapped when a request asks for something that may not be certified.
	ErrRequest = errors.New("ca: request refused")
	// ErrMismatch is wrapped when an issuer returned something else than was asked for. The certificate is not to be used.
	ErrMismatch = errors.New("ca: certificate is not as requested")
	// ErrUnknownSerial is wrapped when a serial number was never issued here.
	ErrUnknownSerial = errors.New("ca: unknown serial number")
)

// Issuer certifies the roles of one authority. Implementations are safe for concurrent use.
type Issuer interface {
	// Chain returns the certificates of the issuer: the one that signs first, the root last. The caller owns the slice
	// and not the certificates.
	Chain() []*x509.Certificate
	// Issue certifies the request and records the serial number durably before it returns. The result is what a TLS peer
	// sends: the leaf first, then the issuing certificates, without the root; it has passed Check. Errors wrap ErrRequest
	// or ErrMismatch, or say that the issuer cannot be used now.
	Issue(ctx context.Context, req Request) ([]*x509.Certificate, error)
	// Revoke puts a serial number, spelled as by identity.Serial, on the revocation list, with a reason code of RFC 5280,
	// 5.3.1. It is durable when Revoke returns. Revoking again changes nothing and is no error. Errors wrap
	// ErrUnknownSerial, or ErrRequest for a reason that cannot be recorded.
	Revoke(ctx context.Context, serial string, reason int) error
	// Issued finds what was issued under public keys, whether anybody got it or not: serial numbers, spelled as by
	// identity.Serial, with the key of each. A key is named by the SHA-256 of its SubjectPublicKeyInfo. What is known, by its
	// serial number, is left out, and need not be looked at; known must not call the issuer. It may end with the context
	// before all was looked at, and goes on there when it is called again.
	Issued(ctx context.Context, keys map[[32]byte]bool, known func(serial string) bool) (map[string][32]byte, error)
	// CRL returns a current certificate revocation list in DER, signed by the issuing certificate.
	CRL(ctx context.Context) ([]byte, error)
	// Health returns nil when the issuer could issue now.
	Health(ctx context.Context) error
}

// CheckReason reports whether reason is one that Revoke takes: a CRLReason of RFC 5280, 5.3.1, but for removal from a
// list (8), which nothing here needs. The error wraps ErrRequest.
func CheckReason(reason int) error {
	switch reason {
	case 0, 1, 2, 3, 4, 5, 6, 9, 10:
		return nil
	}
	return errorf(ErrRequest, "revocation reason %d", reason)
}
