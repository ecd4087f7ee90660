package terminal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// proofs is how often Rekey signs in with a new key before it believes that the host does not take it: the host hears of
// it from the authority, and may be the slower of the two.
const proofs = 4

// Rekey fetches the initial keys that the authority wants the terminal to have, and signs in with them. Each waits beside
// the key in use until the host has answered that sign-in, and takes its slot then; what it replaces is destroyed. Messages
// without an answer stay as they are, byte for byte, and are resent under the new key.
//
// A power cut at any moment leaves the old key or the new one in use, and Rekey may be repeated: a key that waits already is
// tried before another is fetched. A delivery that does not verify fails with remote.ErrDelivery and changes nothing; an
// answer of the authority that is none is an *enroll.Refusal; a new key that the host does not take is ErrUnconfirmed, and
// the old one goes on. A terminal that came from a bundle fails with ErrNotEnrolled.
func (t *Terminal) Rekey(ctx context.Context) error {
	t.upkeep.Lock()
	defer t.upkeep.Unlock()
	t.lock()
	defer t.mu.Unlock()
	if err := t.member(); err != nil {
		return err
	}
	if t.renewing { // the authority may take another certificate for the current one by now
		if err := t.renew(ctx); err != nil {
			return err
		}
	}
	if err := t.proveFirst(ctx); err != nil {
		return err
	}
	refused := t.proveNext(ctx)
	if refused != nil && !errors.Is(refused, ErrUnconfirmed) {
		return refused
	}
	fetched, err := t.fetchWanted(ctx)
	if err != nil {
		return err
	}
	if fetched == 0 {
		return refused
	}
	return t.proveNext(ctx)
}

// proveFirst signs in when the host has not confirmed a key in use yet: the authority would have the wrong one replaced.
func (t *Terminal) proveFirst(ctx context.Context) error {
	if !slices.ContainsFunc(t.slots, func(s place) bool { return !t.counters.confirmed(s.KeyID) }) {
		return nil
	}
	r, err := t.signIn(ctx, t.slots)
	if r == nil {
		return err
	}
	if turnedDown(r, nil) {
		return fmt.Errorf("%w: it answers %v to the keys in use", ErrUnconfirmed, r.Result)
	}
	return nil
}

// proveNext signs in with the keys that wait, if any do.
func (t *Terminal) proveNext(ctx context.Context) error {
	if len(t.next) == 0 {
		return nil
	}
	o := t.network()
	for try := 1; ; try++ {
		r, err := t.signIn(ctx, replaced(t.slots, t.next, numberOfPlace))
		switch {
		case r != nil && r.Result == message.SignedIn:
			return nil // a floor that was not followed is for Status to show
		case r != nil:
			err = fmt.Errorf("%w: it answers %v", ErrUnconfirmed, r.Result)
		case turnedDown(r, err):
			err = fmt.Errorf("%w: %w", ErrUnconfirmed, err)
		default:
			return err
		}
		if try == proofs {
			return err
		}
		if e := o.Sleep(ctx, o.Jitter(o.Backoff<<try)); e != nil {
			return err
		}
	}
}

// fetchWanted fetches the keys that the authority wants the terminal to have, has them wait, and returns how many came.
func (t *Terminal) fetchWanted(ctx context.Context) (int, error) {
	c, err := t.client(t.credential)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	a, err := c.Assignment(ctx)
	if err != nil {
		return 0, err
	}
	if a.Environment != t.holder.environment {
		return 0, fmt.Errorf("%w: it is for %v, the terminal for %v", ErrAssignment, a.Environment, t.holder.environment)
	}
	if err := t.adopt(a); err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(a.Slots, func(s remote.AssignedSlot) bool { return s.Wanted }) {
		return 0, nil
	}
	if err := t.renewAgreement(ctx, c); err != nil {
		return 0, err
	}
	k := courier{
		client: c, store: t.store, member: t.holder.member, tls: t.credential.Leaf(), assignment: a, now: t.service().Clock(),
	}
	fetched := 0
	for _, s := range a.Slots {
		if !s.Wanted {
			continue
		}
		if err := t.fetchNext(ctx, k, s); err != nil {
			return fetched, err
		}
		fetched++
	}
	return fetched, nil
}

// renewAgreement has the agreement key certified again when half the life of its certificate is over. As long as the answer
// is not here the authority may go by a certificate that the terminal does not have, so it asks until then.
func (t *Terminal) renewAgreement(ctx context.Context, c *enroll.Client) error {
	leaf, err := x509.ParseCertificate(t.holder.member.agreement[0])
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrState, identityName, err)
	}
	if t.service().Clock().Before(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)) {
		return nil
	}
	csr, err := t.store.newRequest(identityName, t.holder.member.agreementKey, t.holder.identity(identity.Agreement))
	if err != nil {
		return err
	}
	chain, err := c.EnrollAgreement(ctx, csr)
	if err != nil {
		return err
	}
	h := t.holder.copy()
	h.member.agreement = rawOf(chain)
	return t.hold(h)
}

// fetchNext fetches one key and has it wait. A key in use that the engine could not put into its slot lies where the new one
// would go: that is settled first. An authority that takes another key for the one in use has not heard yet that this one
// was confirmed: it would have the wrong one replaced.
func (t *Terminal) fetchNext(ctx context.Context, k courier, s remote.AssignedSlot) error {
	if err := t.settleSlots(); err != nil {
		return err
	}
	var installed Slot
	for _, have := range t.holder.slots {
		if have.Number == s.Slot {
			installed = have
		}
	}
	if s.KeyID != installed.KeyID {
		return fmt.Errorf("%w: in slot %d the authority takes %v for the key in use, which is %v: it may not have heard yet",
			ErrAssignment, s.Slot, s.KeyID, installed.KeyID)
	}
	slot, ik, err := k.fetch(ctx, s, installed)
	if err != nil {
		return err
	}
	return t.stage(slot, ik)
}

// stage has a key wait, in the place of one that waited for the same slot. The identity names it only as long as the engine
// has it: the one before is forgotten first, the new one is named last.
func (t *Terminal) stage(slot Slot, ik *dukpt.InitialKey) error {
	defer ik.Wipe()
	others := slices.DeleteFunc(slices.Clone(t.holder.next), func(s Slot) bool { return s.Number == slot.Number })
	next := append(slices.Clone(others), slot)
	if err := validateNext(t.holder.slots, next); err != nil {
		return fmt.Errorf("%w: %v", ErrAssignment, err)
	}
	if len(others) < len(t.holder.next) {
		if err := t.wait(others); err != nil {
			return err
		}
	}
	if err := t.engine.Stage(slot.Number, ik, slot.MaxJump); err != nil {
		return err
	}
	return t.wait(next)
}

// wait names the keys that wait.
func (t *Terminal) wait(next []Slot) error {
	h := t.holder.copy()
	h.next = next
	if err := t.hold(h); err != nil {
		return err
	}
	return t.arrange()
}
