package keydist

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// certification is an order for an agreement certificate under way.
type certification struct {
	*order
	remote.CertifyOrder
	now     time.Time
	request ca.Request
	spki    [32]byte
}

// Certify certifies the agreement key of a terminal and returns what its holder sends: the leaf, then the issuing
// certificates. The same key again gets the recorded certificate, until half of its life is over or its root is not trusted
// any more. Another key of the same terminal gets one too: whether the terminal may have a new key is decided by the
// registration authority. It refuses with CodeTLSCertificateInvalid and CodeSigningRequestRefused.
func (h *Host) Certify(ctx context.Context, caller Caller, o remote.CertifyOrder) ([]*x509.Certificate, error) {
	c := &certification{order: h.order(caller, actionCertify), CertifyOrder: o, now: h.c.Clock()}
	chain, result, err := c.run(ctx)
	if err := c.end(ctx, result, err); err != nil {
		return nil, err
	}
	return chain, nil
}

func (c *certification) run(ctx context.Context) ([]*x509.Certificate, string, error) {
	for _, check := range []func() error{c.admit, c.checkOrder, c.checkRequest} {
		if err := check(); err != nil {
			return nil, "", err
		}
	}
	var before []*x509.Certificate
	err := c.host.c.Store.Update(ctx, func(tx Tx) (err error) {
		before, err = c.recorded(tx)
		return err
	})
	if err != nil || before != nil {
		return before, "AGAIN", err
	}
	chain, err := c.issue(ctx)
	if err != nil {
		return nil, "", err
	}
	err = c.host.c.Store.Update(ctx, func(tx Tx) (err error) {
		if before, err = c.recorded(tx); err != nil || before != nil { // somebody was faster
			return err
		}
		return c.keep(tx, chain)
	})
	if err != nil || before != nil {
		return before, "AGAIN", err
	}
	return chain, "CERTIFIED", nil
}

func (c *certification) checkOrder() error {
	return c.read(&c.CertifyOrder, c.Tenant, string(c.Terminal))
}

// checkRequest takes the public key from the signing request, and nothing else.
func (c *certification) checkRequest() error {
	leaf, err := c.host.terminal(c.TLSChain, c.Terminal, c.now)
	if err != nil {
		return err
	}
	id, err := identity.New(string(c.Tenant), identity.Agreement, string(c.Terminal))
	if err != nil {
		return refuse(CodeOrderMalformed, err.Error())
	}
	key, err := est.CheckRequest(c.CSR, est.Policy{Identity: id, Current: leaf})
	if err != nil {
		return refuse(CodeSigningRequestRefused, err.Error())
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return refuse(CodeSigningRequestRefused, err.Error())
	}
	if same, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || same.Equal(key) {
		return refuse(CodeSigningRequestRefused, "the key is that of the TLS certificate; make another one for key agreement")
	}
	c.request, c.spki = ca.Request{PublicKey: key, Identity: id}, sha256.Sum256(der)
	return nil
}

// recorded returns the certificate that the key has already, and records that it is given again.
func (c *certification) recorded(tx Tx) ([]*x509.Certificate, error) {
	old, ok, err := tx.Certified(c.Terminal, c.spki)
	if err != nil || !ok {
		return nil, err
	}
	chain, err := parseChain(old.Chain)
	if err != nil {
		return nil, err
	}
	if !c.lasts(chain) {
		return nil, nil
	}
	c.object = string(c.Terminal) + "/" + old.Serial
	return chain, tx.Audit(c.record("AGAIN", ""))
}

// lasts reports whether a certificate is good for another while: it verifies under the roots of today, and less than half of
// its life is over.
func (c *certification) lasts(chain []*x509.Certificate) bool {
	if _, err := verify(chain, c.host.c.Trust.KeyDist, identity.Agreement, c.now); err != nil {
		return false
	}
	from, to := chain[0].NotBefore, chain[0].NotAfter
	return c.now.Before(from.Add(to.Sub(from) / 2))
}

func (c *certification) issue(ctx context.Context) ([]*x509.Certificate, error) {
	begun := c.host.c.Clock()
	chain, err := c.host.c.Issuer.Issue(ctx, c.request)
	if err == nil {
		err = ca.CheckSince(c.request, chain, c.host.c.Issuer.Chain(), begun, c.host.c.Clock())
	}
	if err != nil {
		c.host.c.Logger.ErrorContext(ctx, "agreement key not certified", slog.String("terminal", string(c.Terminal)), slog.String("error", err.Error()))
		return nil, refuse(CodeIssuerUnavailable, "")
	}
	return chain, nil
}

// keep records the certificate. The audit log tells a first key of a terminal from a further one.
func (c *certification) keep(tx Tx, chain []*x509.Certificate) error {
	n, err := tx.AgreementKeys(c.Terminal)
	if err != nil {
		return err
	}
	entry := Certified{Terminal: c.Terminal, SPKI: c.spki, Serial: identity.Serial(chain[0]), IssuedAt: c.now}
	for _, cert := range chain {
		entry.Chain = append(entry.Chain, cert.Raw)
	}
	if err := tx.Certify(entry); err != nil {
		return err
	}
	reason := "first key"
	if n > 0 {
		reason = "further key"
	}
	c.object = string(c.Terminal) + "/" + entry.Serial
	return tx.Audit(c.record("CERTIFIED", reason))
}
