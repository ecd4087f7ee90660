package provision

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// issueTimeout bounds one call of an issuer or of the key-distribution host.
const issueTimeout = 8 * time.Second

// enrolment is one call that asks for a certificate.
type enrolment struct {
	redemption
	request ca.Request
	record  audit.Record
	badCSR  error // the signing request is refused, once the caller has been recognised

	intended time.Time // when it was noted that an issuer is about to be asked; zero before
}

// Enroll certifies the public key of a signing request (DER) for whoever shows the one-time code of a terminal. source is
// the network address of the caller. The result is what a TLS peer sends, the leaf first. The code is reserved for the key
// durably before the issuer is asked, and spent in the transaction that makes the certificate the current one; the same
// key again gets the same certificate for ten minutes, another key gets none. Errors are a *Refusal.
func (e *Engine) Enroll(ctx context.Context, source, terminal string, code secret.Bytes, csr []byte) ([]*x509.Certificate, error) {
	out, err := e.enrolled(ctx, source, terminal, code, csr)
	e.count(CountedEnrolment, err)
	return out, err
}

// enrolled is Enroll, before it is counted.
func (e *Engine) enrolled(ctx context.Context, source, terminal string, code secret.Bytes, csr []byte) ([]*x509.Certificate, error) {
	now := e.now()
	if wait := e.sources.take(serve.Network(source), now); wait > 0 {
		return nil, e.tooMany(ctx, "source", source, wait)
	}
	id, err := keyset.ParseTerminal(terminal)
	typed, ok := readCode(code)
	defer typed.Wipe()
	if err != nil || !ok {
		return nil, refuse(CodeCredentialsRefused, "")
	}
	if wait := e.names.take(string(id), now); wait > 0 {
		return nil, e.tooMany(ctx, "terminal", string(id), wait)
	}
	a := &enrolment{record: audit.Record{
		Action: "enrol", Object: string(id), Source: source, Digest: sha256.Sum256(csr),
	}}
	a.terminal, a.check = id, e.checkValue(id, typed)
	a.read(csr, est.Policy{Identity: e.identityOf(id, identity.Terminal)})
	chain, err := e.enrol(ctx, a)
	if err != nil {
		return nil, e.refused(ctx, a.record, err)
	}
	return chain, nil
}

func (e *Engine) identityOf(id keyset.TerminalID, role identity.Role) identity.Identity {
	return identity.Identity{Tenant: string(e.config.Tenant), Role: role, Name: string(id)}
}

// tooMany sends somebody away who tries too often. That is logged and not audited: whoever floods the service must not
// fill the audit log.
func (e *Engine) tooMany(ctx context.Context, kind, who string, wait time.Duration) error {
	e.config.Logger.LogAttrs(context.WithoutCancel(ctx), slog.LevelWarn, "too many attempts to enrol", slog.String(kind, who))
	return &Refusal{Code: CodeTooManyAttempts, RetryAfter: max(wait, time.Second)}
}

// read takes the public key out of the signing request, or keeps why it may not be certified.
func (a *enrolment) read(csr []byte, policy est.Policy) {
	pub, err := est.CheckRequest(csr, policy)
	if err != nil {
		a.badCSR = csrRefusal(err)
		return
	}
	if a.key = hashKey(pub); a.key == (KeyHash{}) {
		a.badCSR = refuse(CodeSigningRequestRefused, "")
		return
	}
	a.request = ca.Request{PublicKey: pub, CSR: csr, Identity: policy.Identity}
}

// csrRefusal tells what est says about a signing request, which is public.
func csrRefusal(err error) *Refusal {
	if errors.Is(err, est.ErrRequest) || errors.Is(err, est.ErrFormat) {
		return refuse(CodeSigningRequestRefused, "%v", err)
	}
	return &Refusal{Code: CodeSigningRequestRefused, Cause: err}
}

func (e *Engine) enrol(ctx context.Context, a *enrolment) ([]*x509.Certificate, error) {
	if planted.On(planted.CodeReservedLate) {
		return e.enrolLate(ctx, a)
	}
	done, err := e.serve(ctx, a.terminal)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout) // begun is finished: the terminal will ask again
	defer cancel()
	chain, err := e.reserve(ctx, a)
	if err != nil || chain != nil {
		return chain, err
	}
	chain, err = e.issue(ctx, a.request)
	if err != nil {
		return nil, err
	}
	return chain, e.settle(ctx, a, chain, func(t *transaction) error { return t.spend(a, chain) })
}

// settle makes a certificate count, by f. When that fails nobody gets it, and the issuer is to revoke it.
func (e *Engine) settle(ctx context.Context, a *enrolment, chain []*x509.Certificate, f func(*transaction) error) error {
	if planted.On(planted.SettleLate) {
		time.Sleep(20 * time.Millisecond)
	}
	err := e.update(ctx, func(t *transaction) error {
		if err := t.fulfil(a); err != nil {
			return err
		}
		return f(t)
	})
	if err != nil {
		e.disown(ctx, a, identity.Serial(chain[0]))
	}
	return err
}

// disown has the issuer revoke a certificate, unless the registry has kept it: a transaction may be kept although its answer
// was an error.
func (e *Engine) disown(ctx context.Context, a *enrolment, serial string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTimeout) // the time for the other may be over
	defer cancel()
	err := e.update(ctx, func(t *transaction) error {
		_, kept, err := t.Certificate(identity.Terminal, serial)
		if err != nil || kept {
			return err
		}
		if err := t.task(&Task{Kind: TaskRevoke, Terminal: a.terminal, Serial: serial, Reason: reasonSuperseded}); err != nil {
			return err
		}
		intent, ok, err := t.Task(intentID(a.terminal, a.key))
		if err != nil || !ok {
			return err
		}
		return t.forget(intent)
	})
	if err != nil {
		e.log(ctx, "a certificate that nobody has is not going to be revoked at once", err, slog.String("serial", serial))
	}
}

// enrolLate is the planted fault: it issues first, and only then finds out whether it may.
func (e *Engine) enrolLate(ctx context.Context, a *enrolment) ([]*x509.Certificate, error) {
	var v verdict
	err := e.view(ctx, func(tx Tx) error {
		c, _, err := tx.OneTimeCode(a.terminal)
		v = a.judge(c, e.now())
		return err
	})
	if err != nil || a.badCSR != nil {
		return nil, errors.Join(err, a.badCSR)
	}
	if v != redeem {
		return nil, v.refusal()
	}
	chain, err := e.issue(ctx, a.request)
	if err != nil {
		return nil, err
	}
	time.Sleep(20 * time.Millisecond)
	return chain, e.update(ctx, func(t *transaction) error {
		c, _, err := t.OneTimeCode(a.terminal)
		if err != nil {
			return err
		}
		c.State, c.KeyHash = StateReserved, a.key
		if err := t.PutOneTimeCode(c); err != nil {
			return err
		}
		return t.spend(a, chain)
	})
}

// reserve binds the code to the public key before anything is issued. A code that was spent on this key a moment ago gives
// the chain that it was spent on.
func (e *Engine) reserve(ctx context.Context, a *enrolment) ([]*x509.Certificate, error) {
	var refusal *Refusal
	var again *Certificate
	err := e.update(ctx, func(t *transaction) error {
		refusal, again = nil, nil
		c, known, err := t.OneTimeCode(a.terminal)
		if err != nil {
			return err
		}
		if !known {
			c = nil
		}
		v := a.judge(c, t.now)
		if v == wrong {
			refusal = v.refusal()
			r := a.record
			r.Result, r.Reason = resultRefused, string(refusal.Code)
			return errors.Join(t.fail(c), t.note(r))
		}
		row, err := t.admissible(a)
		if err != nil {
			return err
		}
		switch v {
		case repeat:
			again, err = t.repeat(a, row, c)
			return err
		case redeem:
			return t.reserve(a, row, c)
		}
		return v.refusal()
	})
	switch {
	case err != nil:
		return nil, err
	case refusal != nil:
		return nil, &audited{refusal}
	case again != nil:
		return again.parse()
	}
	return nil, nil
}

// audited is a refusal that stands in the audit log already.
type audited struct{ *Refusal }

// Unwrap makes it the refusal that it is.
func (a *audited) Unwrap() error { return a.Refusal }

// admissible returns the row of a terminal whose code was shown, and refuses when its status permits no enrolment.
func (t *transaction) admissible(a *enrolment) (*Terminal, error) {
	row, err := t.row(a.terminal)
	if err != nil {
		return nil, err
	}
	if !row.connects() {
		return nil, refuse(CodeStatusNotPermitted, "terminal %s is %v", row.ID, row.Status)
	}
	return row, nil
}

func (t *transaction) reserve(a *enrolment, row *Terminal, c *OneTimeCode) error {
	if a.badCSR != nil {
		return a.badCSR
	}
	if err := t.own(a); err != nil {
		return err
	}
	if err := t.capped(row); err != nil {
		return err
	}
	c.State, c.KeyHash, c.Reserved = StateReserved, a.key, t.now
	if err := t.PutOneTimeCode(c); err != nil {
		return err
	}
	return t.intend(a)
}

// own refuses a public key that is certified for another terminal, or for this one in its other role: whoever has it would
// be both. It is asked before an issuer is, and again in the transaction that keeps the certificate. What came of keys of
// which the certificates have ended is not looked at.
func (t *transaction) own(a *enrolment) error {
	taken := false
	err := t.CertificatesOfKey(a.key, t.now.Unix(), func(i Issuance) error {
		taken = taken || i.Terminal != a.terminal || i.Role != a.request.Identity.Role
		return nil
	})
	if err == nil && taken {
		err = refuse(CodeSigningRequestRefused, "the key is in use already: make another one")
	}
	return err
}

const secondsOfDay = 24 * 60 * 60

// capped refuses a terminal that has been given as many certificates as a day allows. It is asked before an issuer is;
// what counts is certificates and not attempts, so that a terminal gets its own as soon as an issuer that was away is back.
func (t *transaction) capped(row *Terminal) error {
	day := t.now.Unix() / secondsOfDay
	if row.IssuedDay != day || row.Issued < t.engine.config.DailyCap {
		return nil
	}
	tomorrow := time.Unix((day+1)*secondsOfDay, 0)
	return &Refusal{Code: CodeIssuanceCapReached, RetryAfter: tomorrow.Sub(t.now)}
}

// count counts a certificate, in the transaction that gives it to the terminal.
func (t *transaction) count(row *Terminal) {
	if day := t.now.Unix() / secondsOfDay; row.IssuedDay != day {
		row.IssuedDay, row.Issued = day, 0
	}
	row.Issued++
}

// repeat finds the certificate that a code was spent on.
func (t *transaction) repeat(a *enrolment, row *Terminal, c *OneTimeCode) (*Certificate, error) {
	cert, ok, err := t.Certificate(identity.Terminal, c.Serial)
	if err != nil {
		return nil, err
	}
	if !ok || row.Serial != c.Serial {
		return nil, refuse(CodeOneTimeCodeSpent, "the certificate has been renewed since")
	}
	r := a.record
	r.Actor, r.Role, r.Result, r.Reason = string(row.ID), string(identity.Terminal), resultRepeated, "serial "+c.Serial
	return cert, t.note(r)
}

// issue asks the issuer of terminals.
func (e *Engine) issue(ctx context.Context, req ca.Request) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	begun := e.now()
	chain, err := e.config.Issuer.Issue(ctx, req)
	if err == nil {
		err = ca.CheckSince(req, chain, e.config.Issuer.Chain(), begun, e.now())
	}
	if err != nil {
		return nil, issuerFailure(err)
	}
	return chain, nil
}

// issuerFailure is what a terminal is told when an issuer has not certified. An issuer that says when to come again knows
// better than anyone else how long it will be away and how many are waiting.
func issuerFailure(err error) *Refusal {
	out := &Refusal{Code: CodeIssuerUnavailable, RetryAfter: retryAfter(), Cause: err}
	if waits, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok && waits.RetryAfter() > 0 {
		out.RetryAfter = waits.RetryAfter()
	}
	return out
}

// spend makes a certificate the current one of its terminal: the certificate, the row with its record in the feed, the
// code and the audit log, all or nothing.
func (t *transaction) spend(a *enrolment, chain []*x509.Certificate) error {
	c, known, err := t.OneTimeCode(a.terminal)
	if err != nil {
		return err
	}
	if !known || c.State != StateReserved || c.KeyHash != a.key || c.Check != a.check {
		return refuse(CodeOneTimeCodeVoid, "it was voided while the certificate was made")
	}
	row, err := t.admissible(a)
	if err != nil {
		return err
	}
	if err := t.own(a); err != nil {
		return err
	}
	cert := newCertificate(row.ID, identity.Terminal, chain, t.now)
	if err := t.PutCertificate(cert); err != nil {
		return err
	}
	if err := t.replace(row, cert); err != nil {
		return err
	}
	t.count(row)
	if err := t.save(row); err != nil {
		return err
	}
	c.State, c.Spent, c.Serial = StateSpent, t.now, cert.Serial
	if err := t.PutOneTimeCode(c); err != nil {
		return err
	}
	r := a.record
	r.Actor, r.Role, r.Result, r.Reason = string(row.ID), string(identity.Terminal), resultDone, "serial "+cert.Serial
	return t.note(r)
}

// replace starts a terminal anew with a certificate that it got for a code. What it had before counts no more, and neither
// does its agreement key: whoever needs a code has lost its keys, or is another device. It fetches new initial keys.
func (t *transaction) replace(row *Terminal, cert *Certificate) error {
	if row.Serial != "" && row.KeyHash != cert.KeyHash {
		row.AgreementSerial, row.AgreementNotAfter, row.AgreementHash = "", time.Time{}, KeyHash{}
		for i := range row.Slots {
			row.Slots[i].Wanted, row.Slots[i].WantedSince = true, t.now
		}
	}
	if err := t.supersede(row); err != nil {
		return err
	}
	row.PreviousSerial, row.PreviousUntil = "", time.Time{}
	row.current(cert)
	return nil
}

// current makes a certificate the current one.
func (t *Terminal) current(c *Certificate) {
	t.Serial, t.KeyHash, t.NotBefore, t.NotAfter = c.Serial, c.KeyHash, c.NotBefore, c.NotAfter
}
