package terminal_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestAckOfAnotherMessage answers under the key of the message, in the name of another one.
func TestAckOfAnotherMessage(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	lab.Host.Tamper = func(a *message.AckPayload) { a.Digests[0][0] ^= 1 }
	term := open(t, imported(t, lab), &terminaltest.Wire{Host: lab.Host, Attempts: 1})
	_, err := term.Sale(t.Context(), sale(t, false))
	if u := unanswered(t, err); !errors.Is(u, terminal.ErrAck) || len(term.Pending()) != 1 {
		t.Errorf("sale: %v with %d pending, want ErrAck and 1", err, len(term.Pending()))
	}
	if _, err := term.SignIn(t.Context()); !errors.Is(err, terminal.ErrAck) {
		t.Errorf("sign-in: %v, want ErrAck", err)
	}
	if term.Status().Slots[0].Confirmed {
		t.Error("the answer to another message confirmed a key")
	}
}

func TestSignInNonces(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := open(t, imported(t, lab), wire)
	nonces := make(map[string]bool)
	for i := range 3 {
		_, err := term.SignIn(t.Context())
		check(t, err)
		m, err := message.Parse(wire.Sent[i])
		check(t, err)
		nonces[string(m.Payload.Nonce)] = true
	}
	if len(nonces) != 3 || nonces[string(make([]byte, message.NonceSize))] {
		t.Errorf("nonces of three sign-ins: %q, want three that differ and are not zero", slices.Collect(maps.Keys(nonces)))
	}
}

// behind returns a terminal with one sale that nobody has answered, whose host wants counters above 50.
func behind(t *testing.T, lab *terminaltest.Lab, withPIN bool, fault terminaltest.Fault, floor uint32) (*terminaltest.FS, *terminaltest.Wire) {
	t.Helper()
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	medium := imported(t, lab)
	term := open(t, medium, wire)
	_, err := term.Sale(t.Context(), sale(t, withPIN))
	unanswered(t, err)
	check(t, term.Close())
	wire.Fault, wire.Sent = nil, nil
	lab.Host.Enforce = true
	lab.Host.Floors = []message.SlotFloor{
		{Slot: terminaltest.DataSlot, KeyID: lab.KeyID(terminaltest.DataSlot), Floor: floor},
	}
	return medium, wire
}

// TestOldEnvelope resends under a key that the host refuses as too old: the refusal is about the envelope. The sale stays,
// and the next attempt, above the floor, settles it.
func TestOldEnvelope(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		withPIN bool
		fault   terminaltest.Fault
		second  message.Result
		kind    message.Type
		except  int
	}{
		"resend of a sale the host knows": {false, terminaltest.AnswerLost, message.Approved, message.Resend, 0},
		"resend of a sale too old itself": {false, terminaltest.RequestLost, message.KsnTooOld, message.Resend, 1},
		"reversal made just now":          {true, terminaltest.AnswerLost, message.Approved, message.Reversal, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, dukpt.AES)
			medium, wire := behind(t, lab, c.withPIN, c.fault, 50)
			term := open(t, medium, wire)
			pending := term.Pending()
			_, err := term.Resend(t.Context(), &pending[0])
			if unanswered(t, err); !errors.Is(err, terminal.ErrBehind) {
				t.Errorf("%v, want ErrBehind", err)
			}
			check(t, term.Close())
			term = open(t, medium, wire)
			if p, e := term.Pending(), term.Exceptions(); len(p) != 1 || len(e) != 0 {
				t.Fatalf("after the refusal %d pending and %d exceptions, want 1 and 0", len(p), len(e))
			}
			r, err := term.Resend(t.Context(), &pending[0])
			check(t, err)
			if r.Result != c.second || r.KSN.Ordinal() != 51 {
				t.Errorf("second attempt: %v at ordinal %d, want %v at 51", r.Result, r.KSN.Ordinal(), c.second)
			}
			m, err := message.Parse(wire.Sent[1])
			check(t, err)
			if m.Payload.Type != c.kind {
				t.Errorf("second attempt is a %v, want a %v", m.Payload.Type, c.kind)
			}
			if p, e := len(term.Pending()), len(term.Exceptions()); p != 0 || e != c.except {
				t.Errorf("at last %d pending and %d exceptions, want 0 and %d", p, e, c.except)
			}
		})
	}
}

// TestOldEnvelopeForGood is the refusal of an envelope that another attempt would not cure, and of an original itself.
func TestOldEnvelopeForGood(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium, wire := behind(t, lab, false, terminaltest.AnswerLost, 20000)
	term := open(t, medium, wire)
	pending := term.Pending()
	r, err := term.Resend(t.Context(), &pending[0])
	check(t, err)
	if e := term.Exceptions(); r.Result != message.KsnTooOld || len(e) != 1 {
		t.Errorf("a floor too far ahead: %v with %d exceptions, want KsnTooOld and 1", r.Result, len(e))
	}
	lab.Host.Floors[0].Floor = 50
	r, err = term.Sale(t.Context(), sale(t, false))
	check(t, err)
	if e := term.Exceptions(); r.Result != message.KsnTooOld || len(e) != 2 || len(term.Pending()) != 0 {
		t.Errorf("a sale below the floor: %v with %d exceptions, want KsnTooOld and 2", r.Result, len(e))
	}
}
