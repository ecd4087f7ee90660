package enroll

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"net/http"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var errVisitor = errors.New("enroll: this takes a client that shows a certificate")

// CACerts returns the certificates of the terminals authority. Each of them is a root of the trust list, or verifies under
// one. A terminal does not need them; they tell that the authority is the one of the list.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	a, err := c.get(ctx, est.PathCACerts)
	if err != nil {
		return nil, err
	}
	certs, err := est.DecodeCerts(a.body)
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	if err := c.checkAuthorities(certs); err != nil {
		return nil, err
	}
	return certs, nil
}

// Attributes asks which curve keys shall be on. An authority that says nothing about it, with status 204 or 404 (RFC 7030,
// 4.5.2), gets P-256.
func (c *Client) Attributes(ctx context.Context) (elliptic.Curve, error) {
	a, err := c.get(ctx, est.PathAttributes)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Status == http.StatusNotFound {
		return elliptic.P256(), nil
	}
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusNoContent {
		return elliptic.P256(), nil
	}
	der, err := est.DecodeRequest(a.body)
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	curve, err := est.ParseAttributes(der)
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	return curve, nil
}

// Enroll gets the first certificate for the TLS key of the terminal, whose request (DER) est.NewRequest makes, in exchange
// for the one-time code. The result is what TLS sends: the certificate, then the issuing ones, without the root. The code is
// not wiped: after a failure on the way the same request may be sent again with it.
func (c *Client) Enroll(ctx context.Context, csr []byte, code secret.Bytes) ([]*x509.Certificate, error) {
	if code.IsZero() {
		return nil, errors.New("enroll: enrolling takes a code")
	}
	return c.certify(est.Policy{Identity: c.id}, csr, func(body []byte) (answer, error) {
		return c.postWithCode(ctx, est.PathEnroll, est.TypeRequest, body, code)
	})
}

// Reenroll gets the next certificate for the terminal, for the same TLS key or another. The request has the subject of the
// current certificate, as est.NewRequest gives it. The result is as with Enroll.
func (c *Client) Reenroll(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	if c.cred == nil {
		return nil, errVisitor
	}
	return c.certify(est.Policy{Identity: c.id, Current: c.cred.Leaf()}, csr, func(body []byte) (answer, error) {
		return c.post(ctx, est.PathReenroll, est.TypeRequest, body)
	})
}

// EnrollAgreement gets a certificate for the agreement key of the terminal, which is another one than its TLS key. The
// request is for the role agreement, and the certificate comes from the key-distribution authority. The result is as with
// Enroll.
func (c *Client) EnrollAgreement(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	if c.cred == nil {
		return nil, errVisitor
	}
	id := c.id
	id.Role = identity.Agreement
	return c.certify(est.Policy{Identity: id, Current: c.cred.Leaf()}, csr, func(body []byte) (answer, error) {
		return c.post(ctx, est.PathAgreementEnroll, est.TypeRequest, body)
	})
}

// certify sends a request that the authority could accept under the policy, and returns the chain from the answer, if it is
// for the same key.
func (c *Client) certify(p est.Policy, csr []byte, send func(body []byte) (answer, error)) ([]*x509.Certificate, error) {
	key, err := est.CheckRequest(csr, p)
	if err != nil {
		return nil, err
	}
	a, err := send(est.EncodeRequest(csr))
	if err != nil {
		return nil, err
	}
	certs, err := est.DecodeCerts(a.body)
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	return c.check(certs, key, p.Identity)
}
