package terminal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// EnrolOptions say where a terminal enrols, and as whom. URL, TrustURL, Tenant and Terminal are required, and so is Ticket
// the first time.
type EnrolOptions struct {
	URL      string            // of the registration authority: https://HOST:PORT
	TrustURL string            // where the trust list is published: http://HOST:PORT
	Tenant   keyset.TenantID   // whose terminal it is
	Terminal keyset.TerminalID // its name
	// Environment is what the terminal is for: that of another is not taken, and Production is refused for the insecure-file
	// sealer before anything is sent. Zero: whatever the authority says, which is to be heard only when the code is spent.
	Environment keyset.Environment
	// Ticket is what the slip of paper says. Enroll wipes it. The zero value goes on with an enrolment that has begun in the
	// folder and was interrupted.
	Ticket enroll.Ticket
	// Agreement is an agreement key, PKCS #8, that the maker of the device has certified, and Attestation the certificates of
	// that, DER, its own first: for key sets that ask for attested keys. The key is neither kept nor wiped. The zero value:
	// Enroll makes a key on Curve, or goes on with the one of the interrupted enrolment. A pair that does not belong together
	// is refused before the ticket is used.
	Agreement   secret.Bytes
	Attestation [][]byte
	// Curve is that of the agreement key, which the key sets of the terminal decide: P-256 for TDES and AES-128, P-384 for
	// AES-192, P-521 for AES-256. Nil: P-256, or what the interrupted enrolment has.
	Curve elliptic.Curve
	// Engine, if not nil, takes the initial keys, and keeps them; Open gets the same one. Nil: the keys are sealed with the rest, as
	// SoftwareEngine has them.
	Engine   Engine
	Keys     Keys              // where Enroll makes keys; nil: in memory, and they are sealed with the rest
	Timeout  time.Duration     // for one call to the authority; 0: that of package enroll
	Clock    func() time.Time  // what certificates are judged by; nil: time.Now
	Progress func(step string) // called before each step; nil: nothing
}

// Enroll makes a terminal in an empty folder: it gets its certificates and its initial keys from the registration
// authority. Open and SignIn follow; the sign-in confirms the keys.
//
// Nothing is believed that the ticket does not lead to: the pin in it vouches for the trust list, the list for the
// authority and for whoever sends keys, and a key is saved only when everything about its delivery has been verified.
//
// Enroll may be repeated after any error and any power cut, without the ticket if that had been taken before: it shows the
// same keys again, so that no code is spent for two. A folder takes one terminal, ever: over another one it fails with
// ErrExists. ErrTicket, ErrLocked and ErrInsecure are possible too; an answer of the authority that is none is an
// *enroll.Refusal, which says when to come again; the trust list fails with trustlist.ErrTrust and a delivery with
// remote.ErrDelivery.
func Enroll(ctx context.Context, f FS, sealer Sealer, o EnrolOptions) error {
	defer o.Ticket.Wipe()
	if err := o.check(); err != nil {
		return err
	}
	if o.Environment == keyset.Production && sealer.Name() == InsecureFile {
		return ErrInsecure
	}
	unlock, err := f.Lock()
	if err != nil {
		return err
	}
	e := &enroller{store: store{f, sealer, o.Keys}, o: o}
	err = e.run(ctx)
	if e := unlock(); err == nil && e != nil {
		err = fmt.Errorf("terminal: unlock: %w", e)
	}
	return err
}

// check refuses what is missing and fills in what may be.
func (o *EnrolOptions) check() error {
	if _, err := keyset.ParseTenant(string(o.Tenant)); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if _, err := keyset.ParseTerminal(string(o.Terminal)); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if o.URL == "" || o.TrustURL == "" {
		return errors.New("terminal: an enrolment needs the URL of the authority, and that of the trust list")
	}
	switch o.Environment {
	case 0, keyset.Test, keyset.Production:
	default:
		return fmt.Errorf("terminal: there is no environment %v", o.Environment)
	}
	if o.Ticket.Code.IsZero() != o.Ticket.Pin.IsZero() {
		return fmt.Errorf("%w: it has a code and a pin", ErrTicket)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o.checkAttestation()
}

// checkAttestation wants the certificates to begin with that of the agreement key: with others the code would be spent for
// nothing.
func (o *EnrolOptions) checkAttestation() error {
	if len(o.Attestation) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(o.Attestation[0])
	if err != nil {
		return fmt.Errorf("terminal: attestation: %w", err)
	}
	key, err := openKey(o.Agreement)
	if err != nil {
		return fmt.Errorf("terminal: agreement key: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("terminal: the attestation is that of another key than the agreement key")
	}
	return nil
}

// enroller is one call of Enroll.
type enroller struct {
	store      store
	o          EnrolOptions
	state      *enrolment
	assignment *remote.Assignment // nil before the authority has told
}

func (e *enroller) run(ctx context.Context) error {
	done, err := e.begin()
	if err != nil || done {
		return err
	}
	defer e.state.wipe()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"trust list", e.fetchList},
		{"certificate of the terminal", e.certify},
		{"certificate of its agreement key", e.certifyAgreement},
		{"initial keys", e.fetchKeys},
	} {
		e.o.Progress(step.name)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (e *enroller) save() error { return e.store.saveEnrolment(e.state) }

// begin takes up the enrolment of the folder, or begins one. It reports whether nothing is left to be done.
func (e *enroller) begin() (done bool, err error) {
	if err := removeTemporary(e.store.fs); err != nil {
		return false, fmt.Errorf("terminal: %w", err)
	}
	names, err := e.store.names("")
	if err != nil {
		return false, err
	}
	begun := slices.Contains(names, enrolmentName)
	if begun && slices.Contains(names, identityName) { // the terminal is made, and the power went before this was removed
		return true, removeEnrolment(e.store.fs)
	}
	if !begun {
		return false, e.create(names)
	}
	if e.state, err = e.store.loadEnrolment(); err != nil {
		return false, err
	}
	if err := e.resume(); err != nil {
		e.state.wipe()
		return false, err
	}
	return false, nil
}

// create makes the keys of a new terminal, and keeps them before anybody hears of them.
func (e *enroller) create(names []string) error {
	for _, name := range names {
		if name != deviceKeyName {
			return fmt.Errorf("%w: found %s", ErrExists, name)
		}
	}
	if e.o.Ticket.Code.IsZero() {
		return fmt.Errorf("%w: no enrolment has begun here", ErrTicket)
	}
	e.state = &enrolment{
		tenant: e.o.Tenant, terminal: e.o.Terminal,
		code: e.o.Ticket.Code.Clone(), ticket: sha256.Sum256(e.o.Ticket.Code.Expose()),
		member: membership{url: e.o.URL, trustURL: e.o.TrustURL, trust: e.o.firstTrust()},
	}
	var err error
	if e.state.tlsKey, err = e.store.makeKey(elliptic.P256(), false); err != nil {
		return err
	}
	if _, err := e.agreementKey(); err != nil {
		return err
	}
	return e.save()
}

// firstTrust is what a terminal out of the box accepts.
func (o *EnrolOptions) firstTrust() trustlist.Accepted {
	return trustlist.Accepted{Tenant: string(o.Tenant), Pins: []trustlist.Pin{o.Ticket.Pin}}
}

// resume takes over what the options say anew. The TLS key stays: the authority may know it.
func (e *enroller) resume() error {
	m := &e.state.member
	moved := m.url != e.o.URL || m.trustURL != e.o.TrustURL
	m.url, m.trustURL = e.o.URL, e.o.TrustURL
	renamed, err := e.rename()
	if err != nil {
		return err
	}
	rekeyed, err := e.agreementKey()
	if err != nil || !moved && !renamed && !rekeyed {
		return err
	}
	return e.save()
}

// rename takes over names, code and pin: they may have been mistyped, or the code is a new one. After the first certificate
// names and pin stay, and a new code has to be good before it changes anything: see certify.
func (e *enroller) rename() (changed bool, err error) {
	s, t := e.state, e.o.Ticket
	other := s.tenant != e.o.Tenant || s.terminal != e.o.Terminal
	switch {
	case other && s.chain != nil:
		return false, fmt.Errorf("%w: that of %s/%s is in the making", ErrExists, s.tenant, s.terminal)
	case other && t.Code.IsZero():
		return false, fmt.Errorf("%w: the enrolment that has begun here is of %s/%s", ErrTicket, s.tenant, s.terminal)
	case s.chain != nil || t.Code.IsZero():
		return false, nil
	}
	if s.tenant != e.o.Tenant || !slices.Contains(s.member.trust.Pins, t.Pin) {
		s.member.trust, s.member.document, s.member.list = e.o.firstTrust(), nil, nil
	} else if !other && !e.another() {
		return false, nil
	}
	s.code.Wipe()
	s.tenant, s.terminal = e.o.Tenant, e.o.Terminal
	s.code, s.ticket = t.Code.Clone(), sha256.Sum256(t.Code.Expose())
	return true, nil
}

// another reports whether there is a ticket with another code than the one of the enrolment.
func (e *enroller) another() bool {
	return !e.o.Ticket.Code.IsZero() && sha256.Sum256(e.o.Ticket.Code.Expose()) != e.state.ticket
}

// agreementKey takes or makes the agreement key that the options ask for, if it is not here.
func (e *enroller) agreementKey() (changed bool, err error) {
	m := &e.state.member
	key, attestation := e.o.Agreement.Clone(), e.o.Attestation
	if key.IsZero() {
		if key, err = e.freshAgreementKey(); err != nil || key.IsZero() {
			return false, err
		}
		attestation = nil
	} else if _, err := openKey(key); err != nil {
		return false, fmt.Errorf("terminal: agreement key: %w", err)
	}
	if key.Equal(m.agreementKey) && slices.EqualFunc(attestation, m.attestation, bytes.Equal) {
		key.Wipe()
		return false, nil
	}
	m.agreementKey.Wipe()
	m.agreementKey, m.attestation, m.agreement = key, attestation, nil
	return true, nil
}

// freshAgreementKey makes an agreement key, or none when the one that is here serves.
func (e *enroller) freshAgreementKey() (secret.Bytes, error) {
	curve := e.o.Curve
	if !e.state.member.agreementKey.IsZero() {
		old, err := e.store.openKey(e.state.member.agreementKey)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("%w: %s: %v", ErrState, enrolmentName, err)
		}
		public, ok := old.Public().(*ecdsa.PublicKey)
		if !ok {
			return secret.Bytes{}, fmt.Errorf("terminal: agreement key of type %T", old.Public())
		}
		if curve == nil || curve == public.Curve {
			return secret.Bytes{}, nil
		}
	}
	if curve == nil {
		curve = elliptic.P256()
	}
	return e.store.makeKey(curve, true)
}

// fetchList gets the trust list from where it is published, which need not be trusted, and then from the authority
// itself: that one has the latest.
func (e *enroller) fetchList(ctx context.Context) error {
	document, _, err := enroll.FetchTrustList(ctx, e.state.member.trustURL, e.state.member.trust)
	if err != nil {
		return err
	}
	if err := e.accept(document); err != nil {
		return err
	}
	c, err := enroll.NewVisitor(e.service(), e.state.member.list)
	if err != nil {
		return err
	}
	defer c.Close()
	if document, err = c.TrustList(ctx); err != nil {
		return err
	}
	return e.accept(document)
}

func (e *enroller) accept(document []byte) error {
	news, err := e.state.member.accept(document)
	if err != nil || !news {
		return err
	}
	return e.save()
}

func (e *enroller) service() enroll.Options {
	return e.state.member.service(e.state.tenant, e.state.terminal, e.o.Timeout, e.o.Clock)
}

// certify enrols the TLS key with the code. One that is certified is certified anew when there is a ticket with another
// code: then the authority begins anew with the terminal, and so do agreement key and initial keys here.
func (e *enroller) certify(ctx context.Context) error {
	code := e.state.code
	switch {
	case e.state.chain != nil && e.another():
		code = e.o.Ticket.Code
	case e.state.chain != nil:
		return e.lasts()
	}
	csr, err := e.request(e.state.tlsKey, identity.Terminal)
	if err != nil {
		return err
	}
	c, err := enroll.NewVisitor(e.service(), e.state.member.list)
	if err != nil {
		return err
	}
	defer c.Close()
	chain, err := c.Enroll(ctx, csr, code)
	if err != nil {
		return err
	}
	e.state.chain, e.state.ticket = rawOf(chain), sha256.Sum256(code.Expose())
	e.state.member.agreement, e.state.slots = nil, nil
	return e.save()
}

// lasts reports whether the certificate is good: an enrolment may have been left for long.
func (e *enroller) lasts() error {
	leaf, err := x509.ParseCertificate(e.state.chain[0])
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrState, enrolmentName, err)
	}
	if e.service().Clock().After(leaf.NotAfter) {
		return fmt.Errorf("%w: a new one, because the certificate that the first has brought is over", ErrTicket)
	}
	return nil
}

// certifyAgreement asks what the terminal is for, and enrols the agreement key over the new identity. With that the code has
// done its work.
func (e *enroller) certifyAgreement(ctx context.Context) error {
	if e.state.member.agreement != nil {
		return nil
	}
	csr, err := e.request(e.state.member.agreementKey, identity.Agreement)
	if err != nil {
		return err
	}
	c, _, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := e.ask(ctx, c); err != nil {
		return err
	}
	chain, err := c.EnrollAgreement(ctx, csr)
	if err != nil {
		return err
	}
	e.state.member.agreement = rawOf(chain)
	e.state.code.Wipe()
	return e.save()
}

func (e *enroller) request(der secret.Bytes, role identity.Role) ([]byte, error) {
	id := identity.Identity{Tenant: string(e.state.tenant), Role: role, Name: string(e.state.terminal)}
	return e.store.newRequest(enrolmentName, der, id)
}

// client is that of the terminal with its new certificate.
func (e *enroller) client() (*enroll.Client, *tlsconf.Credential, error) {
	cred, _, err := e.store.credential(enrolmentName, e.state.chain, e.state.tlsKey)
	if err != nil {
		return nil, nil, err
	}
	c, err := enroll.NewMember(e.service(), e.state.member.list, cred)
	return c, cred, err
}

// ask learns once what is set up for the terminal, and goes no further when it is for another environment: who asks has spent
// the code already.
func (e *enroller) ask(ctx context.Context, c *enroll.Client) error {
	if e.assignment != nil {
		return nil
	}
	a, err := c.Assignment(ctx)
	if err != nil {
		return err
	}
	if a.Environment == keyset.Production && e.store.sealer.Name() == InsecureFile {
		return fmt.Errorf("%w, and the code is spent", ErrInsecure)
	}
	if e.o.Environment != 0 && a.Environment != e.o.Environment {
		return fmt.Errorf("%w: it is for %v, and not for %v", ErrAssignment, a.Environment, e.o.Environment)
	}
	e.assignment = a
	return nil
}

// fetchKeys gets the key of every slot that is set up for the terminal and not here yet. Then the terminal is made.
func (e *enroller) fetchKeys(ctx context.Context) error {
	c, cred, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := e.ask(ctx, c); err != nil {
		return err
	}
	a := e.assignment
	e.state.slots = slices.DeleteFunc(e.state.slots, func(s Slot) bool { return !assigned(a, s) })
	k := courier{
		client: c, store: e.store, member: &e.state.member, tls: cred.Leaf(), assignment: a, now: e.service().Clock(),
	}
	for _, s := range a.Slots {
		if slices.ContainsFunc(e.state.slots, func(have Slot) bool { return have.Number == s.Slot }) {
			continue
		}
		if !s.Wanted {
			return fmt.Errorf("%w: slot %d of key set %s is not to be fetched", ErrAssignment, s.Slot, s.KeySet)
		}
		if err := e.fetchKey(ctx, k, s); err != nil {
			return err
		}
	}
	return e.finish(a)
}

func assigned(a *remote.Assignment, s Slot) bool {
	return slices.ContainsFunc(a.Slots, func(as remote.AssignedSlot) bool {
		return as.Slot == s.Number && as.KeySet == s.KeySet
	})
}

// fetchKey gets one key and turns it into registers. That it is there is noted afterwards: after a power cut between the
// two another key is fetched, and the first was never used.
func (e *enroller) fetchKey(ctx context.Context, k courier, s remote.AssignedSlot) error {
	slot, ik, err := k.fetch(ctx, s, Slot{})
	if err != nil {
		return err
	}
	if err := e.load(slot, ik); err != nil {
		return err
	}
	e.state.slots = append(e.state.slots, slot)
	return e.save()
}

// load puts a key where it is to be used. In an engine it waits for its slot, and Open gives it that; when its enrolment is not saved any
// more, the next key for the slot takes its place.
func (e *enroller) load(slot Slot, ik *dukpt.InitialKey) error {
	if e.o.Engine != nil {
		return e.o.Engine.Stage(slot.Number, ik, slot.MaxJump)
	}
	return e.store.loadInitialKey(slot, ik)
}

// finish makes a terminal of what has come, in the order of an import: from the moment that there is an identity it exists.
func (e *enroller) finish(a *remote.Assignment) error {
	if err := validateSlots(e.state.slots); err != nil {
		return fmt.Errorf("%w: %v", ErrAssignment, err)
	}
	if len(a.Endpoints) == 0 {
		return fmt.Errorf("%w: it names no endpoint", ErrAssignment)
	}
	h := &holder{
		tenant: e.state.tenant, terminal: e.state.terminal, environment: a.Environment, chain: e.state.chain,
		tlsKey: e.state.tlsKey, slots: e.state.slots, member: &e.state.member,
	}
	h = h.follow(a)
	slices.SortFunc(h.slots, func(x, y Slot) int { return int(x.Number) - int(y.Number) })
	if err := e.tidy(); err != nil {
		return err
	}
	if err := e.store.saveCounters(&counters{Version: recordVersion, Sequence: 1, Confirmed: []string{}}); err != nil {
		return err
	}
	if err := e.store.saveHolder(h); err != nil {
		return err
	}
	return removeEnrolment(e.store.fs)
}

// tidy destroys registers that came for what is not assigned any more.
func (e *enroller) tidy() error {
	names, err := e.store.names(slotPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.ContainsFunc(e.state.slots, func(s Slot) bool { return slotName(s.Number) == name }) {
			continue
		}
		if err := overwrite(e.store.fs, name); err != nil {
			return err
		}
	}
	return nil
}

func endpointsAt(urls []string) []Endpoint {
	var out []Endpoint
	for _, u := range urls {
		out = append(out, Endpoint{URL: u})
	}
	return out
}
