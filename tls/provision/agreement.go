package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// EnrollAgreement has the key-distribution host certify the agreement key of a terminal that has connected with its
// current certificate. A code permits one agreement key, for 15 minutes from its redemption; the same key gets the same
// certificate again, and later a new one. Errors are a *Refusal.
func (e *Engine) EnrollAgreement(ctx context.Context, c Caller, csr []byte) ([]*x509.Certificate, error) {
	out, err := e.agreementEnrolled(ctx, c, csr)
	e.count(CountedAgreement, err)
	return out, err
}

// agreementEnrolled is EnrollAgreement, before it is counted.
func (e *Engine) agreementEnrolled(ctx context.Context, c Caller, csr []byte) ([]*x509.Certificate, error) {
	record := c.record("enrol-agreement", csr)
	id, err := e.name(c)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	a := &enrolment{record: record}
	a.terminal = id
	a.read(csr, est.Policy{Identity: e.identityOf(id, identity.Agreement), Current: c.Leaf})
	chain, err := e.enrolAgreement(ctx, c, a, csr)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	return chain, nil
}

func (e *Engine) enrolAgreement(ctx context.Context, c Caller, a *enrolment, csr []byte) ([]*x509.Certificate, error) {
	done, err := e.serve(ctx, a.terminal)
	if err != nil {
		return nil, err
	}
	defer done()
	if a.badCSR != nil {
		return nil, a.badCSR
	}
	if a.key == hashKey(c.Leaf.PublicKey) {
		return nil, refuse(CodeSigningRequestRefused, "the agreement key is the key of the TLS certificate")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	order := remote.CertifyOrder{Tenant: e.config.Tenant, Terminal: a.terminal, CSR: csr}
	var again *Certificate
	err = e.update(ctx, func(t *transaction) error {
		var err error
		again, err = t.permitAgreement(c, a, &order)
		return err
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return again.parse()
	}
	if err := e.pace(a.terminal); err != nil {
		return nil, err
	}
	calling, stop := context.WithTimeout(ctx, issueTimeout)
	defer stop()
	chain, err := e.config.Distributor.Certify(calling, order)
	if err != nil {
		return nil, distributorFailure(err)
	}
	if err := e.checkAgreement(a, chain); err != nil {
		return nil, err
	}
	return chain, e.update(ctx, func(t *transaction) error { return t.agree(c, a, chain) })
}

// permitAgreement binds the code to the agreement key before anything is certified, or finds that the terminal has that
// key already. A certificate that is young enough is given again.
func (t *transaction) permitAgreement(c Caller, a *enrolment, order *remote.CertifyOrder) (*Certificate, error) {
	row, err := t.current(c, connecting...)
	if err != nil {
		return nil, err
	}
	if err := t.own(a); err != nil {
		return nil, err
	}
	if row.AgreementHash == a.key {
		again, err := t.agreed(a, row)
		if err != nil || again != nil {
			return again, err
		}
	} else if err := t.bindAgreement(a, row); err != nil {
		return nil, err
	}
	cert, ok, err := t.Certificate(identity.Terminal, row.Serial)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(CodeCertificateUnknown, "serial number %s", row.Serial)
	}
	order.TLSChain = cert.Chain
	return nil, t.capped(row)
}

// agreed returns the certificate that the terminal has for its agreement key, if it was asked for a moment ago.
func (t *transaction) agreed(a *enrolment, row *Terminal) (*Certificate, error) {
	cert, ok, err := t.Certificate(identity.Agreement, row.AgreementSerial)
	if err != nil || !ok || !t.now.Before(cert.Issued.Add(agreementTime)) {
		return nil, err
	}
	r := a.record
	r.Result, r.Reason = resultRepeated, "serial "+cert.Serial
	return cert, t.note(r)
}

// bindAgreement uses the permission of the code for one agreement key.
func (t *transaction) bindAgreement(a *enrolment, row *Terminal) error {
	code, ok, err := t.OneTimeCode(row.ID)
	if err != nil {
		return err
	}
	switch {
	case !ok || code.State != StateSpent:
		return refuse(CodeAgreementNotPermitted, "")
	case !t.now.Before(code.Spent.Add(agreementTime)):
		return refuse(CodeAgreementNotPermitted, "the enrolment was too long ago")
	case code.Agreement != (KeyHash{}) && code.Agreement != a.key:
		return refuse(CodeAgreementNotPermitted, "the code was used for another agreement key")
	}
	code.Agreement = a.key
	return t.PutOneTimeCode(code)
}

// checkAgreement holds what the key-distribution host certified against what was asked for. Terminals verify the chain.
func (e *Engine) checkAgreement(a *enrolment, chain []*x509.Certificate) error {
	now := e.now()
	if len(chain) == 0 || len(chain) > maxChain || chain[0] == nil {
		return &Refusal{Code: CodeDistributorUnavailable, Cause: errors.New("an answer without certificates")}
	}
	id, err := identity.FromCertificate(chain[0])
	if err != nil {
		return &Refusal{Code: CodeDistributorUnavailable, Cause: err}
	}
	if id != a.request.Identity || hashKey(chain[0].PublicKey) != a.key {
		return &Refusal{Code: CodeDistributorUnavailable, Cause: errors.New("the certificate is not for the agreement key of the terminal")}
	}
	if leaf := chain[0]; now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return &Refusal{Code: CodeDistributorUnavailable, Cause: fmt.Errorf("the certificate is valid from %s to %s", stamp(leaf.NotBefore), stamp(leaf.NotAfter))}
	}
	return nil
}

// agree makes a certificate that of the agreement key.
func (t *transaction) agree(c Caller, a *enrolment, chain []*x509.Certificate) error {
	row, err := t.current(c, connecting...)
	if err != nil {
		return err
	}
	if err := t.own(a); err != nil {
		return err
	}
	cert := newCertificate(row.ID, identity.Agreement, chain, t.now)
	cert.Renewal = row.AgreementHash == cert.KeyHash
	if err := t.PutCertificate(cert); err != nil {
		return err
	}
	row.AgreementSerial, row.AgreementHash, row.AgreementNotAfter = cert.Serial, cert.KeyHash, cert.NotAfter
	t.count(row)
	if err := t.save(row); err != nil {
		return err
	}
	r := a.record
	r.Result, r.Reason = resultDone, "serial "+cert.Serial
	return t.note(r)
}

// distributorFailure tells what the key-distribution host refuses, which is public, from its being away. A host that says
// when to come again says why, too.
func distributorFailure(err error) *Refusal {
	if refusal, ok := errors.AsType[interface {
		error
		Unavailable() bool
	}](err); ok && !refusal.Unavailable() {
		return &Refusal{Code: CodeDistributorRefused, Detail: refusal.Error()}
	}
	out := &Refusal{Code: CodeDistributorUnavailable, RetryAfter: retryAfter(), Cause: err}
	if refusal, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok && refusal.RetryAfter() > 0 {
		out.RetryAfter, out.Detail = refusal.RetryAfter(), refusal.Error()
	}
	return out
}
