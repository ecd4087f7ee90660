package provision

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// maxOverlap bounds how long the certificate before a renewal stays valid.
const maxOverlap = 24 * time.Hour

// Caller is a terminal that has connected with its certificate.
type Caller struct {
	Leaf   *x509.Certificate // of a finished handshake
	Source string            // network address
}

// record begins the audit record of what a terminal asks for.
func (c Caller) record(action string, request []byte) audit.Record {
	r := audit.Record{Action: action, Source: c.Source, Digest: sha256.Sum256(request)}
	if id, err := identity.FromCertificate(c.Leaf); err == nil {
		r.Actor, r.Role, r.Object = id.Name, string(id.Role), id.Name
	}
	return r
}

// name returns which terminal the caller is.
func (e *Engine) name(c Caller) (keyset.TerminalID, error) {
	if c.Leaf == nil {
		return "", refuse(CodeCertificateRequired, "")
	}
	id, err := identity.FromCertificate(c.Leaf)
	if err != nil {
		return "", refuse(CodeCertificateRequired, "%v", err)
	}
	if id.Role != identity.Terminal || id.Tenant != string(e.config.Tenant) {
		return "", refuse(CodeCertificateRequired, "%v is no terminal of tenant %s", id, e.config.Tenant)
	}
	return keyset.TerminalID(id.Name), nil
}

// current returns the row of a terminal whose caller shows its current certificate, and has one of these statuses. With
// the certificate before, while that overlaps, it returns the row and CodeCertificateSuperseded.
func (t *transaction) current(c Caller, statuses ...keyset.Status) (*Terminal, error) {
	id, err := t.engine.name(c)
	if err != nil {
		return nil, err
	}
	row, err := t.row(id)
	if err != nil {
		return nil, err
	}
	return row, row.shown(identity.Serial(c.Leaf), t.now, statuses...)
}

// shown reports whether a serial number is the current one of a terminal in one of these statuses.
func (t *Terminal) shown(serial string, now time.Time, statuses ...keyset.Status) error {
	previous := serial == t.PreviousSerial && now.Before(t.PreviousUntil)
	if serial == "" || serial != t.Serial && !previous {
		return refuse(CodeCertificateUnknown, "serial number %s", serial)
	}
	if !slices.Contains(statuses, t.Status) {
		return refuse(CodeStatusNotPermitted, "terminal %s is %v", t.ID, t.Status)
	}
	if previous {
		return refuse(CodeCertificateSuperseded, "the current serial number is %s", t.Serial)
	}
	return nil
}

// Reenroll certifies the public key of a signing request (DER) for a terminal that has connected with its current
// certificate, which stays valid for a while; blocked and quarantined terminals renew too. Who has lost the answer repeats
// the request, with the same key, over the certificate before. Errors are a *Refusal.
func (e *Engine) Reenroll(ctx context.Context, c Caller, csr []byte) ([]*x509.Certificate, error) {
	out, err := e.reenrolled(ctx, c, csr)
	e.count(CountedRenewal, err)
	return out, err
}

// reenrolled is Reenroll, before it is counted.
func (e *Engine) reenrolled(ctx context.Context, c Caller, csr []byte) ([]*x509.Certificate, error) {
	record := c.record("renew", csr)
	id, err := e.name(c)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	a := &enrolment{record: record}
	a.terminal = id
	a.read(csr, est.Policy{Identity: e.identityOf(id, identity.Terminal), Current: c.Leaf})
	chain, err := e.renew(ctx, c, a)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	return chain, nil
}

func (e *Engine) renew(ctx context.Context, c Caller, a *enrolment) ([]*x509.Certificate, error) {
	done, err := e.serve(ctx, a.terminal)
	if err != nil {
		return nil, err
	}
	defer done()
	if a.badCSR != nil {
		return nil, a.badCSR
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	var again *Certificate
	paced := false
	err = e.update(ctx, func(t *transaction) error {
		again = nil
		row, err := t.current(c, connecting...)
		if superseded(err) && row.KeyHash == a.key {
			again, err = t.renewed(a, row)
			return err
		}
		if err != nil {
			return err
		}
		if err := t.own(a); err != nil {
			return err
		}
		if err := t.capped(row); err != nil {
			return err
		}
		if !paced { // once, however often this runs
			if err := e.pace(a.terminal); err != nil {
				return err
			}
			paced = true
		}
		return t.intend(a)
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return again.parse()
	}
	chain, err := e.issue(ctx, a.request)
	if err != nil {
		return nil, err
	}
	return chain, e.settle(ctx, a, chain, func(t *transaction) error { return t.succeed(c, a, chain) })
}

func superseded(err error) bool { return codeOf(err) == CodeCertificateSuperseded }

// renewed finds the certificate that a terminal has been given and asks for once more.
func (t *transaction) renewed(a *enrolment, row *Terminal) (*Certificate, error) {
	cert, ok, err := t.Certificate(identity.Terminal, row.Serial)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(CodeCertificateUnknown, "serial number %s", row.Serial)
	}
	r := a.record
	r.Result, r.Reason = resultRepeated, "serial "+row.Serial
	return cert, t.note(r)
}

// succeed makes a certificate the current one; the one before overlaps.
func (t *transaction) succeed(c Caller, a *enrolment, chain []*x509.Certificate) error {
	row, err := t.current(c, connecting...)
	if err != nil {
		return err
	}
	if err := t.own(a); err != nil {
		return err
	}
	cert := newCertificate(row.ID, identity.Terminal, chain, t.now)
	cert.Renewal = true
	if err := t.PutCertificate(cert); err != nil {
		return err
	}
	until := t.now.Add(t.engine.config.Overlap)
	if row.NotAfter.Before(until) {
		until = row.NotAfter
	}
	row.PreviousSerial, row.PreviousUntil = row.Serial, until
	row.current(cert)
	t.count(row)
	if err := t.save(row); err != nil {
		return err
	}
	r := a.record
	r.Result, r.Reason = resultDone, "serial "+cert.Serial
	return t.note(r)
}
