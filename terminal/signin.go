package terminal

import (
	"context"
	"crypto/rand"
	"errors"
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
// Keys that Rekey has fetched are proved in the place of those in use, the message's own MAC among them, and take over
// when the host has answered SIGNED-IN: durably, before SignIn returns. A host that refuses them hears a second sign-in
// under the keys in use, whose result is the one returned.
//
// A floor that is too far ahead to be followed gives ErrJump or ErrJumpBudget beside the result.
func (t *Terminal) SignIn(ctx context.Context) (*SignInResult, error) {
	t.lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	if len(t.next) > 0 {
		if r, err := t.signIn(ctx, replaced(t.slots, t.next, numberOfPlace)); !turnedDown(r, err) {
			return r, err
		}
	}
	return t.signIn(ctx, t.slots)
}

// turnedDown reports whether the host has answered, and that it does not take the keys.
func turnedDown(r *SignInResult, err error) bool {
	if r != nil {
		return r.Result != message.SignedIn && r.Result != message.RolledBack
	}
	h, ok := errors.AsType[*HostError](err)
	return ok && h.final()
}

// signIn proves those of the keys that no sign-in has confirmed.
func (t *Terminal) signIn(ctx context.Context, keys []place) (*SignInResult, error) {
	by := firstWithData(keys)
	ksn, err := t.engine.Begin(by.at)
	if err != nil {
		return nil, err
	}
	defer t.engine.End(by.at)
	p := &message.Payload{Type: message.SignIn, Nonce: make([]byte, message.NonceSize)}
	_, _ = rand.Read(p.Nonce) // cannot fail
	proved := []Slot{by.Slot}
	for _, s := range t.unconfirmed(keys, by) {
		m, err := t.prove(p, s)
		if err != nil {
			return nil, err
		}
		p.SlotMACs = append(p.SlotMACs, m)
		proved = append(proved, s.Slot)
	}
	raw, err := t.compose(p, by, ksn)
	if err != nil {
		return nil, err
	}
	ack, err := t.deliver(ctx, raw, by)
	if err != nil {
		return nil, fmt.Errorf("terminal: sign-in: %w", err)
	}
	t.engine.End(by.at)
	if err := t.believe(ack.Result, proved); err != nil {
		return nil, err
	}
	result := &SignInResult{Result: ack.Result, HostTime: time.Unix(ack.HostTime, 0).UTC(), Body: ack.Body}
	return result, t.follow(ack)
}

// unconfirmed returns the keys that need a MAC of their own, in the order of their slots.
func (t *Terminal) unconfirmed(keys []place, by place) []place {
	out := slices.DeleteFunc(slices.Clone(keys), func(s place) bool {
		return s.Number == by.Number || t.counters.confirmed(s.KeyID)
	})
	slices.SortFunc(out, func(a, b place) int { return int(a.Number) - int(b.Number) })
	return out
}

// prove MACs the content of the sign-in under the next key of a place.
func (t *Terminal) prove(p *message.Payload, s place) (message.SlotMAC, error) {
	ksn, err := t.engine.Begin(s.at)
	if err != nil {
		return message.SlotMAC{}, err
	}
	defer t.engine.End(s.at)
	m := message.SlotMAC{MACRef: s.macRef(ksn)}
	p.Environment, p.Tenant, p.Terminal = t.holder.environment, t.holder.tenant, t.holder.terminal
	p.BootCounter = t.counters.Boot
	m.MAC, err = t.engine.MAC(s.at, nil, s.MAC, message.SignInContent(p, m))
	if err != nil {
		return message.SlotMAC{}, err
	}
	return m, nil
}

// believe does what the host's answer to a sign-in says of the keys that it has proved: those that were waiting take over.
func (t *Terminal) believe(r message.Result, proved []Slot) error {
	if r != message.SignedIn && r != message.RolledBack {
		return nil
	}
	waited := slices.ContainsFunc(proved, func(s Slot) bool { return !t.holds(s.KeyID) })
	if waited && r == message.SignedIn {
		if err := t.takeOver(); err != nil {
			return err
		}
	}
	return t.confirm(proved)
}

// confirm remembers that the host knows the keys of these slots, and forgets keys that are no longer in use.
func (t *Terminal) confirm(proved []Slot) error {
	proved = slices.DeleteFunc(proved, func(s Slot) bool { return t.counters.confirmed(s.KeyID) || !t.holds(s.KeyID) })
	if len(proved) == 0 {
		return nil
	}
	return t.count(func(c *counters) {
		c.Confirmed = slices.DeleteFunc(c.Confirmed, func(id string) bool {
			return !slices.ContainsFunc(t.holder.slots, func(s Slot) bool { return s.KeyID.String() == id })
		})
		for _, s := range proved {
			c.Confirmed = append(c.Confirmed, s.KeyID.String())
		}
	})
}

// takeOver puts the waiting keys into their slots. From the moment that the identity says so they are in use, wherever the
// engine has them; after a power cut Open goes on from there.
func (t *Terminal) takeOver() error {
	h := t.holder.copy()
	h.slots, h.next = replaced(h.slots, h.next, numberOf), nil
	if err := t.hold(h); err != nil {
		return err
	}
	if err := t.arrange(); err != nil {
		return err
	}
	return t.settleSlots()
}

// settleSlots has the engine put keys in use where they belong, and destroy those before them.
func (t *Terminal) settleSlots() error {
	for _, s := range t.slots {
		if s.at == s.Number {
			continue
		}
		err := t.engine.Switch(s.Number)
		if e := t.arrange(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}
