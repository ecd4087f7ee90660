package terminal

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/message"
)

// SignInResult is the host's answer to a sign-in. It holds no secret.
type SignInResult struct {
	Result   message.Result // SignedIn; RolledBack when the host has seen a later state of this terminal
	HostTime time.Time      // by the host's clock
	Body     []byte         // what the acquirer says; opaque here
}

// SignIn tells the host that the terminal is there: it proves the key of every slot that no earlier sign-in has
// confirmed, and moves each slot beyond the floor that the host reports. Call it after Open, and when keys are new.
//
// A floor that is too far ahead to be followed gives ErrJump or ErrJumpBudget beside the result.
func (t *Terminal) SignIn(ctx context.Context) (*SignInResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	ksn, err := t.engine.Begin(t.macSlot.Number)
	if err != nil {
		return nil, err
	}
	defer t.engine.End(t.macSlot.Number)
	p := &message.Payload{Type: message.SignIn, Nonce: make([]byte, message.NonceSize)}
	_, _ = rand.Read(p.Nonce) // cannot fail
	confirmed := []Slot{t.macSlot}
	for _, s := range t.unconfirmed() {
		m, err := t.prove(p, s)
		if err != nil {
			return nil, err
		}
		p.SlotMACs = append(p.SlotMACs, m)
		confirmed = append(confirmed, s)
	}
	raw, err := t.compose(p, ksn)
	if err != nil {
		return nil, err
	}
	ack, err := t.deliver(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("terminal: sign-in: %w", err)
	}
	t.engine.End(t.macSlot.Number)
	if ack.Result == message.SignedIn || ack.Result == message.RolledBack {
		if err := t.confirm(confirmed); err != nil {
			return nil, err
		}
	}
	result := &SignInResult{Result: ack.Result, HostTime: time.Unix(ack.HostTime, 0).UTC(), Body: ack.Body}
	return result, t.follow(ack)
}

// unconfirmed returns the slots that need a MAC of their own, in the order of their numbers.
func (t *Terminal) unconfirmed() []Slot {
	slots := slices.DeleteFunc(slices.Clone(t.holder.slots), func(s Slot) bool {
		return s.Number == t.macSlot.Number || t.counters.confirmed(s.KeyID)
	})
	slices.SortFunc(slots, func(a, b Slot) int { return int(a.Number) - int(b.Number) })
	return slots
}

// prove MACs the content of the sign-in under the next key of a slot.
func (t *Terminal) prove(p *message.Payload, s Slot) (message.SlotMAC, error) {
	ksn, err := t.engine.Begin(s.Number)
	if err != nil {
		return message.SlotMAC{}, err
	}
	defer t.engine.End(s.Number)
	m := message.SlotMAC{MACRef: s.macRef(ksn)}
	p.Environment, p.Tenant, p.Terminal = t.holder.environment, t.holder.tenant, t.holder.terminal
	p.BootCounter = t.counters.Boot
	m.MAC, err = t.engine.MAC(s.Number, nil, s.MAC, message.SignInContent(p, m))
	if err != nil {
		return message.SlotMAC{}, err
	}
	return m, nil
}

// confirm remembers that the host knows the keys of these slots.
func (t *Terminal) confirm(slots []Slot) error {
	fresh := slices.DeleteFunc(slots, func(s Slot) bool { return t.counters.confirmed(s.KeyID) })
	if len(fresh) == 0 {
		return nil
	}
	return t.count(func(c *counters) {
		for _, s := range fresh {
			c.Confirmed = append(c.Confirmed, s.KeyID.String())
		}
	})
}
