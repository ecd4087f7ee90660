package keydist

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// delivery is an order for an initial key under way.
type delivery struct {
	*order
	remote.Order
	set            *keyset.KeySet
	tls, agreement *x509.Certificate
	now            time.Time
}

// Deliver gives out the next key id of a key set to a terminal, derives the initial key under it, and wraps and signs it.
// The same order again gets another key id: who repeats it burns ids, MaxPending of a slot and then one in each
// PendingPause. It refuses with the codes of certificates, of key sets and of attestation, with CodeNoKeyID, CodeKeySetStopped and
// CodeTooManyPending, after which the same order is right a PendingPause later.
func (h *Host) Deliver(ctx context.Context, caller Caller, o remote.Order) (*remote.Delivery, error) {
	d := &delivery{order: h.order(caller, actionDeliver), Order: o, now: h.c.Clock()}
	out, err := d.run(ctx)
	if err := d.end(ctx, "DELIVERED", err); err != nil {
		return nil, err
	}
	return out, nil
}

func (d *delivery) run(ctx context.Context) (*remote.Delivery, error) {
	for _, check := range []func() error{d.admit, d.checkOrder, d.checkSet, d.checkCertificates, d.checkAttestation} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	d.action += "/" + d.set.Delivery.String()
	if planted.On(planted.KeyIDAllocatedLate) {
		return d.runLate(ctx)
	}
	var issued Issued
	err := d.host.c.Store.Update(ctx, func(tx Tx) (err error) {
		if issued, err = d.choose(tx); err != nil {
			return err
		}
		return d.take(tx, issued)
	})
	if err != nil {
		return nil, err
	}
	out, err := d.seal(ctx, issued)
	if err != nil {
		return nil, err
	}
	if err := d.host.c.Store.Update(ctx, d.delivered); err != nil {
		return nil, err
	}
	return out, nil
}

// runLate is the planted fault: the key id becomes durable when its key is on the way already.
func (d *delivery) runLate(ctx context.Context) (*remote.Delivery, error) {
	var issued Issued
	err := d.host.c.Store.View(ctx, func(tx Tx) (err error) {
		issued, err = d.choose(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out, err := d.seal(ctx, issued)
	if err != nil {
		return nil, err
	}
	late := context.WithoutCancel(ctx)
	time.AfterFunc(20*time.Millisecond, func() {
		_ = d.host.c.Store.Update(late, func(tx Tx) error { return d.take(tx, issued) }) // as the fault has it
	})
	return out, nil
}

func (d *delivery) checkOrder() error {
	return d.read(&d.Order, d.Tenant, fmt.Sprintf("%s/%d/%s", d.Terminal, d.Slot, d.KeySet))
}

// checkSet takes what is known about the key set from its document.
func (d *delivery) checkSet() error {
	set, ok := d.host.c.KeySets(d.KeySet)
	if !ok || set.Tenant != d.Tenant {
		return refuse(CodeKeySetUnknown, string(d.KeySet))
	}
	if set.Environment != d.host.c.Environment {
		return refuse(CodeEnvironmentMismatch, set.Environment.String())
	}
	if !set.State.Permits(keyset.Deliver) {
		return refuse(CodeKeySetNotActive, set.State.String())
	}
	if set.Delivery != keyset.Attested && (set.Delivery != keyset.Code || set.Environment != keyset.Test) {
		return refuse(CodeDeliveryNotPermitted, "delivery "+set.Delivery.String()+" in "+set.Environment.String())
	}
	d.set, d.info = set, d.host.c.Describe(set.BaseKey)
	return nil
}

// checkCertificates holds both certificates to the terminal of the order, and the agreement key to the key set.
func (d *delivery) checkCertificates() (err error) {
	if d.tls, err = d.host.terminal(d.TLSChain, d.Terminal, d.now); err != nil {
		return err
	}
	chain, err := parseChain(d.AgreementChain)
	if err != nil {
		return refuse(CodeAgreementCertificateInvalid, err.Error())
	}
	id, err := verify(chain, d.host.c.Trust.KeyDist, identity.Agreement, d.now)
	if err != nil {
		return refuse(CodeAgreementCertificateInvalid, err.Error())
	}
	if id.Tenant != string(d.Tenant) || id.Name != string(d.Terminal) {
		return refuse(CodeAgreementCertificateInvalid, "it is for "+id.String())
	}
	d.agreement = chain[0]
	key, err := agreementKey(d.agreement)
	if err != nil {
		return refuse(CodeAgreementCertificateInvalid, err.Error())
	}
	if sameKey(d.agreement, d.tls) {
		return refuse(CodeAgreementCertificateInvalid, "its key is that of the TLS certificate")
	}
	suite, err := remote.SuiteFor(d.set.Algorithm)
	if err != nil {
		return refuse(CodeDeliveryNotPermitted, err.Error())
	}
	if key.Curve() != suite.Curve() {
		return refuse(CodeCurveMismatch, "want "+suite.String())
	}
	return nil
}

// terminal returns the TLS certificate of a terminal.
func (h *Host) terminal(der [][]byte, terminal keyset.TerminalID, now time.Time) (*x509.Certificate, error) {
	chain, err := parseChain(der)
	if err != nil {
		return nil, refuse(CodeTLSCertificateInvalid, err.Error())
	}
	id, err := verify(chain, h.c.Trust.Terminals, identity.Terminal, now)
	if err != nil {
		return nil, refuse(CodeTLSCertificateInvalid, err.Error())
	}
	if id.Tenant != string(h.c.Tenant) || id.Name != string(terminal) {
		return nil, refuse(CodeTLSCertificateInvalid, "it is for "+id.String())
	}
	return chain[0], nil
}

// checkAttestation wants, for a set with delivery attested, the certificate of a maker for the very agreement key. What our
// own authorities certify attests nothing.
func (d *delivery) checkAttestation() error {
	if d.set.Delivery != keyset.Attested {
		return nil
	}
	makers := d.host.c.Makers()
	if makers == nil {
		return refuse(CodeAttestationInvalid, "this host trusts no maker")
	}
	if err := makers.Distinct(d.host.c.Issuer.Chain()...); err != nil {
		return refuse(CodeAttestationInvalid, err.Error())
	}
	chain, err := parseChain(d.Attestation)
	if err != nil {
		return refuse(CodeAttestationInvalid, err.Error())
	}
	leaf := chain[0]
	if slices.ContainsFunc(chain, ours) {
		return refuse(CodeAttestationInvalid, "it is a certificate of our own authorities")
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: makers.pool(), Intermediates: intermediates(chain), CurrentTime: d.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return refuse(CodeAttestationInvalid, err.Error())
	}
	if leaf.IsCA {
		return refuse(CodeAttestationInvalid, "the certificate of the key is that of an authority")
	}
	if !sameKey(leaf, d.agreement) {
		return refuse(CodeAttestationInvalid, "the maker certified another key")
	}
	if !makers.Devices.Allows(leaf) {
		return refuse(CodeAttestationNotListed, "certificate "+identity.Serial(leaf))
	}
	return nil
}

// ours reports whether a certificate carries the policy of one of our roles, as everything does that our authorities issue.
func ours(cert *x509.Certificate) bool {
	return slices.ContainsFunc(identity.Roles(), func(r identity.Role) bool { return identity.Carries(cert, r) })
}

// choose says which key id is next. It writes nothing.
func (d *delivery) choose(tx Tx) (Issued, error) {
	pending, err := tx.Pending(d.Terminal, d.Slot)
	if err != nil {
		return Issued{}, err
	}
	newest := slices.MaxFunc(append(pending, Issued{}), func(a, b Issued) int { return a.IssuedAt.Compare(b.IssuedAt) })
	if len(pending) >= MaxPending && d.now.Before(newest.IssuedAt.Add(PendingPause)) {
		return Issued{}, refuse(CodeTooManyPending, fmt.Sprintf("slot %d", d.Slot))
	}
	if err := d.checkReplaced(tx); err != nil {
		return Issued{}, err
	}
	last, err := tx.Last(d.KeySet)
	if err != nil {
		return Issued{}, err
	}
	if err := d.checkStopped(tx, last); err != nil {
		return Issued{}, err
	}
	id, err := nextKeyID(d.set, last, d.Beyond, d.host.c.After(d.set))
	if err != nil {
		return Issued{}, err
	}
	return Issued{
		KeySet: d.KeySet, KeyID: id, Terminal: d.Terminal, Slot: d.Slot, Replaces: d.Replaces, Delivery: d.set.Delivery,
		Agreement: sha256.Sum256(d.agreement.Raw), State: keyset.SlotPending, IssuedAt: d.now,
	}, nil
}

// checkStopped refuses keys of a set all of whose ids were withdrawn: its last one was, and never given out.
func (d *delivery) checkStopped(tx Tx, last dukpt.KeyID) error {
	if last != d.set.LastID && d.Beyond != d.set.LastID {
		return nil
	}
	_, given, err := tx.Issued(d.KeySet, d.set.LastID)
	if err == nil && !given {
		err = refuse(CodeKeySetStopped, string(d.KeySet))
	}
	return err
}

// checkReplaced refuses an order that replaces a key of another terminal or slot, as far as this host gave it out.
func (d *delivery) checkReplaced(tx Tx) error {
	if d.Replaces.IsZero() {
		return nil
	}
	old, ok, err := tx.Issued(d.KeySet, d.Replaces)
	if err != nil {
		return err
	}
	if ok && (old.Terminal != d.Terminal || old.Slot != d.Slot) {
		return refuse(CodeKeyIDMismatch, d.Replaces.String())
	}
	return nil
}

// take gives the key id out, for good.
func (d *delivery) take(tx Tx, i Issued) error {
	if err := tx.SetLast(i.KeySet, i.KeyID); err != nil {
		return err
	}
	if err := tx.Issue(i); err != nil {
		return err
	}
	d.object = object(i)
	return tx.Audit(d.record("ALLOCATED", ""))
}

// object names a key id in the audit log.
func object(i Issued) string {
	return fmt.Sprintf("%s/%d/%s/%v", i.Terminal, i.Slot, i.KeySet, i.KeyID)
}

// seal has the key derived and wrapped for the terminal, and signs. From here on the audit log has the check value of the
// initial key.
func (d *delivery) seal(ctx context.Context, i Issued) (*remote.Delivery, error) {
	binding := remote.Binding{
		Tenant: d.Tenant, Terminal: d.Terminal, Slot: d.Slot, TLS: d.tls, Agreement: d.agreement, Nonce: d.Nonce, Exporter: d.Exporter,
	}
	c := d.host.c
	out, kcv, err := remote.SealBlock(ctx, c.Blocks, binding, d.set, i.KeyID, d.Replaces, d.now, c.Signer, c.Chain)
	if !kcv.IsZero() {
		d.info.KCV = kcv.String()
	}
	if err != nil {
		c.Logger.Error("key not derived or sealed", slog.String("key-set", string(i.KeySet)), slog.String("error", err.Error()))
		return nil, refuse(CodeKeysUnavailable, "")
	}
	return out, nil
}

// delivered records that the key is about to leave.
func (d *delivery) delivered(tx Tx) error {
	return tx.Audit(d.record("DELIVERED", d.host.c.Blocks.Exposure().String()))
}

func sameKey(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b.PublicKey)
}
