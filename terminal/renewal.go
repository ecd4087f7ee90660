package terminal

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// renewalName is the file of the next TLS identity, until it is the one in use.
const renewalName = "identity-next"

// renewal is a TLS key on its way to a certificate and into use.
type renewal struct {
	key   secret.Bytes // PKCS #8
	chain [][]byte     // nil before it has one
}

type renewalRecord struct {
	Version uint     `cbor:"v"`
	Chain   [][]byte `cbor:"chain,omitempty"`
}

func (s store) saveRenewal(r *renewal) error {
	return s.saveSecrets(renewalName, label(renewalName), &renewalRecord{recordVersion, r.chain}, r.key)
}

// loadRenewal returns the renewal under way, whose key the caller wipes. Without one the error wraps fs.ErrNotExist.
func (s store) loadRenewal() (*renewal, error) {
	var r renewalRecord
	key, err := s.loadSecret(renewalName, label(renewalName), &r)
	if err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		key.Wipe()
		return nil, fmt.Errorf("%w: %s: version %d", ErrState, renewalName, r.Version)
	}
	return &renewal{key: key, chain: r.Chain}, nil
}

// readRenewal looks whether a renewal is under way.
func (t *Terminal) readRenewal() error {
	r, err := t.store.loadRenewal()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.key.Wipe()
	t.renewing = true
	t.renewed = len(r.chain) > 0 && bytes.Equal(r.chain[0], t.holder.chain[0])
	return nil
}

// RenewDue reports whether the TLS certificate is to be renewed: the window that the authority has set has begun, or a
// renewal was interrupted. It is false for a terminal that came from a bundle.
func (t *Terminal) RenewDue(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.closed && t.renewDue(now)
}

func (t *Terminal) renewDue(now time.Time) bool {
	m := t.holder.member
	return m != nil && (t.renewing || !now.Before(m.renewAfter))
}

// Renew gets the next TLS certificate, for a new key, and the trust list if there is a later one. The new key is durable
// before anybody hears of it; the old one stays in use until the authority has let the terminal in with the new one. From
// then on new connections show it.
//
// Sales go on in the meantime: the terminal is theirs while the authority is talked to. It may be repeated after any error and any
// power cut, and goes on where it was. An answer of the authority that is none is
// an *enroll.Refusal, which says when to come again; whoever calls it waits a random time besides. A terminal that came from
// a bundle fails with ErrNotEnrolled.
func (t *Terminal) Renew(ctx context.Context) error {
	t.upkeep.Lock()
	defer t.upkeep.Unlock()
	t.lockBehind()
	defer t.mu.Unlock()
	if err := t.member(); err != nil {
		return err
	}
	return t.renew(ctx)
}

// apart lets others have the terminal while something is done that needs nothing of it: talk to the authority. Whoever calls it holds
// upkeep, too, so that no other renewal comes between; everything else may have changed when it returns, and the terminal may be
// closed, which is an error.
func (t *Terminal) apart(talk func() error) error {
	t.mu.Unlock()
	err := talk()
	t.lockBehind()
	if err != nil {
		return err
	}
	return t.ready()
}

func (t *Terminal) renew(ctx context.Context) error {
	if err := t.refreshList(ctx); err != nil {
		return err
	}
	r, err := t.takeUpRenewal()
	if err != nil {
		return err
	}
	defer func() { r.key.Wipe() }()
	if r.chain != nil {
		err := t.useRenewal(ctx, r)
		if !rejected(err) || !t.current(ctx) {
			return err
		}
		next, err := t.beginRenewal()
		if err != nil {
			return err
		}
		abandoned := r.key
		r = next
		if abandoned.Equal(t.holder.tlsKey) {
			abandoned.Wipe() // this copy of it: the key is in use
		} else if err := t.store.dropKey(abandoned); err != nil {
			return err
		}
	}
	if err := t.certifyRenewal(ctx, r); err != nil {
		return err
	}
	return t.useRenewal(ctx, r)
}

// current reports whether the authority takes the certificate in use for the latest: then it does not know a later one,
// which is worth nothing.
func (t *Terminal) current(ctx context.Context) bool {
	c, err := t.client(t.credential)
	if err != nil {
		return false
	}
	defer c.Close()
	return t.apart(func() error {
		_, err := c.Assignment(ctx)
		return err
	}) == nil
}

// member reports whether there is an authority to ask.
func (t *Terminal) member() error {
	if err := t.ready(); err != nil {
		return err
	}
	if t.holder.member == nil {
		return ErrNotEnrolled
	}
	return nil
}

// rejected reports whether the authority has answered, and does not let the certificate in.
func rejected(err error) bool {
	if r, ok := errors.AsType[*enroll.Refusal](err); ok {
		return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden
	}
	return tlsconf.CertificateRefused(err)
}

// takeUpRenewal returns the renewal under way, or begins one.
func (t *Terminal) takeUpRenewal() (*renewal, error) {
	r, err := t.store.loadRenewal()
	if errors.Is(err, fs.ErrNotExist) {
		return t.beginRenewal()
	}
	return r, err
}

func (t *Terminal) beginRenewal() (*renewal, error) {
	key, err := t.store.makeKey(elliptic.P256(), false)
	if err != nil {
		return nil, err
	}
	r := &renewal{key: key}
	if err := t.store.saveRenewal(r); err != nil {
		key.Wipe()
		return nil, err
	}
	t.renewing = true
	return r, nil
}

// certifyRenewal gets the certificate, by the one in use.
func (t *Terminal) certifyRenewal(ctx context.Context, r *renewal) error {
	csr, err := t.store.newRequest(renewalName, r.key, t.holder.identity(identity.Terminal))
	if err != nil {
		return err
	}
	c, err := t.client(t.credential)
	if err != nil {
		return err
	}
	defer c.Close()
	var chain []*x509.Certificate
	if err := t.apart(func() (err error) {
		chain, err = c.Reenroll(ctx, csr)
		return err
	}); err != nil {
		return err
	}
	r.chain = rawOf(chain)
	return t.store.saveRenewal(r)
}

// useRenewal connects to the authority with the new certificate, and when that works puts it into use.
func (t *Terminal) useRenewal(ctx context.Context, r *renewal) error {
	cred, cert, err := t.store.credential(renewalName, r.chain, r.key)
	if err != nil {
		return err
	}
	c, err := t.client(cred)
	if err != nil {
		return err
	}
	defer c.Close()
	var a *remote.Assignment
	if err := t.apart(func() (err error) {
		a, err = c.Assignment(ctx)
		return err
	}); err != nil {
		return err
	}
	h := t.holder.follow(a)
	h.chain, h.tlsKey = r.chain, r.key.Clone()
	old := t.holder.tlsKey
	if err := t.hold(h); err != nil {
		h.tlsKey.Wipe()
		return err
	}
	again := old.Equal(h.tlsKey) // it was in use before, and the renewal had not come to its end
	err = t.showRenewal(cert)
	if again {
		old.Wipe()
		return err
	}
	if e := t.store.dropKey(old); err == nil {
		err = e
	}
	return err
}

// showRenewal has connections show the new certificate, and ends the renewal.
func (t *Terminal) showRenewal(cert tls.Certificate) error {
	if err := t.credential.Set(cert); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := t.relink(); err != nil {
		return err
	}
	return t.endRenewal()
}

// endRenewal destroys what a renewal has left: by another name, because Open would take it for damaged half way.
func (t *Terminal) endRenewal() error {
	gone := renewalName + temporarySuffix
	err := t.store.fs.Rename(renewalName, gone)
	if err == nil {
		err = t.store.fs.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := overwrite(t.store.fs, gone); err != nil {
		return err
	}
	t.renewing, t.renewed = false, false
	return nil
}

// follow returns the holder with what an assignment says about when to renew and whom to call.
func (h *holder) follow(a *remote.Assignment) *holder {
	next := h.copy()
	next.member.renewAfter, next.member.renewBefore = a.RenewAfter, a.RenewBefore
	if urls := endpointsAt(a.Endpoints); len(urls) > 0 {
		next.endpoints = urls
	}
	return next
}

// adopt saves what an assignment says, if it is news.
func (t *Terminal) adopt(a *remote.Assignment) error {
	h := t.holder.follow(a)
	if slices.Equal(h.endpoints, t.holder.endpoints) && h.member.renewAfter.Equal(t.holder.member.renewAfter) &&
		h.member.renewBefore.Equal(t.holder.member.renewBefore) {
		return nil
	}
	if err := t.hold(h); err != nil {
		return err
	}
	return t.relink()
}

// refreshList gets the trust list from the authority or, when that cannot be reached under the list that is here, from
// where lists are published: a later one may say why.
func (t *Terminal) refreshList(ctx context.Context) error {
	m := *t.holder.member
	c, err := enroll.NewVisitor(t.service(), m.list)
	if err != nil {
		return err
	}
	defer c.Close()
	var document []byte
	if err := t.apart(func() (err error) {
		if document, err = c.TrustList(ctx); err == nil {
			return nil
		}
		published, _, e := enroll.FetchTrustList(ctx, m.trustURL, m.trust)
		if e != nil {
			return err
		}
		document = published
		return nil
	}); err != nil {
		return err
	}
	h := t.holder.copy()
	news, err := h.member.accept(document)
	if err != nil || !news {
		return err
	}
	h.roots = h.member.roots()
	if err := t.hold(h); err != nil {
		return err
	}
	return t.relink()
}

// client is that of the terminal with a certificate.
func (t *Terminal) client(cred *tlsconf.Credential) (*enroll.Client, error) {
	return enroll.NewMember(t.service(), t.holder.member.list, cred)
}

func (t *Terminal) service() enroll.Options {
	return t.holder.member.service(t.holder.tenant, t.holder.terminal, 0, t.o.Network.Clock)
}
