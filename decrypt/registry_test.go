package decrypt_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// secondKey puts another key into the data slot, in some state, and returns a terminal that has it. The first one is set to
// another state.
func (l *laboratory) secondKey(first, second keyset.SlotState) *rogue.Terminal {
	l.tb.Helper()
	name := "FFFF9876543212000000"
	if l.scheme == dukpt.AES {
		name = "1234567890123458"
	}
	id := must[dukpt.KeyID](l.tb)(dukpt.ParseKeyID(name))
	l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.LastID = id })
	l.books.changeTerminal(func(t *keyset.Terminal) {
		t.Slots[1].State = first
		t.Slots = append(t.Slots, keyset.Slot{Slot: dataSlot, KeySet: "CARDS", KeyID: id, State: second})
	})
	pins, cards := l.books.sets["PINS"], l.books.sets["CARDS"]
	b := &terminal.Bundle{Tenant: "ACME", Terminal: "T-1", Environment: keyset.Test, Slots: []terminal.BundleSlot{
		l.bundleSlot(pinSlot, pins, pins.FirstID), l.bundleSlot(dataSlot, cards, id),
	}}
	t := must[*rogue.Terminal](l.tb)(rogue.New(b))
	l.tb.Cleanup(t.Close)
	return t
}

// as has another terminal speak.
func (l *laboratory) as(t *rogue.Terminal, f func()) {
	before := l.terminal
	defer func() { l.terminal = before }()
	l.terminal = t
	f()
}

// dataFloor is the key of the data slot whose floor an ack says.
func (l *laboratory) dataFloor(raw []byte, ordinal uint32) dukpt.KeyID {
	l.tb.Helper()
	a := l.ack(raw, ordinal)
	seen := map[uint8]dukpt.KeyID{}
	for _, f := range a.Floors {
		seen[f.Slot] = f.KeyID
	}
	if seen[pinSlot] != l.books.sets["PINS"].FirstID || len(a.Floors) > 2 {
		l.tb.Errorf("floors %v, want one of the PIN slot's only key", a.Floors)
	}
	return seen[dataSlot]
}

func (l *laboratory) answer(res *decrypt.TransactionResult) []byte {
	l.tb.Helper()
	return must[*decrypt.AnswerResult](l.tb)(l.service.Answer(context.Background(), l.caller, decrypt.AnswerRequest{
		Digest: res.Digest, Result: message.Approved,
	})).Ack
}

// TestSeveralKeysInASlot lets a slot hold an old key that drains and a new one: both are served, and the ack is about the one
// that spoke.
func TestSeveralKeysInASlot(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		again := l.secondKey(keyset.SlotDraining, keyset.SlotActive)
		oldID, newID := l.books.terminals["T-1"].Slots[1].KeyID, l.books.terminals["T-1"].Slots[2].KeyID

		late := l.sign(l.sale(7, 100), 7)
		res := l.accept(late)
		if res.Status != decrypt.CounterFresh || len(res.Fields) != 2 {
			t.Errorf("a sale under the key that drains: %v, %d fields", res.Status, len(res.Fields))
		}
		if got := l.dataFloor(l.answer(res), 7); got != oldID {
			t.Errorf("its ack has the floor of %v, want %v", got, oldID)
		}
		if res := l.accept(l.signIn(8)); l.dataFloor(res.Ack, 8) != oldID {
			t.Errorf("the ack of a sign-in under it has the floor of another key")
		}
		queued := l.sign(l.sale(9, 100), 9)
		l.as(again, func() {
			res := l.accept(l.sign(l.sale(1, 100), 1))
			if got := l.dataFloor(l.answer(res), 1); got != newID {
				t.Errorf("the ack under the new key has the floor of %v, want %v", got, newID)
			}
			res = l.accept(l.resend(queued, 2)) // the queue of the old key, under the new one
			if res.Status != decrypt.CounterFresh || res.Original != message.DigestOf(queued) {
				t.Errorf("a resend of the old key's sale: %v", res.Status)
			}
			if got := l.dataFloor(l.answer(res), 2); got != newID {
				t.Errorf("its ack has the floor of %v, want %v", got, newID)
			}
		})
	})
}

// TestKeysThatMayNotBeUsed holds what each state of a key lets through.
func TestKeysThatMayNotBeUsed(t *testing.T) {
	t.Parallel()
	t.Run("pending", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		again := l.secondKey(keyset.SlotActive, keyset.SlotPending)
		oldID, newID := l.books.terminals["T-1"].Slots[1].KeyID, l.books.terminals["T-1"].Slots[2].KeyID
		first := l.sign(l.sale(1, 100), 1)
		if got := l.dataFloor(l.answer(l.accept(first)), 1); got != oldID {
			t.Errorf("an ack under the active key has the floor of %v, want %v", got, oldID)
		}
		l.as(again, func() {
			l.refuses(l.sign(l.sale(1, 100), 1), decrypt.CodeSlotNotActive)
			l.refuses(l.resend(first, 2), decrypt.CodeSlotNotActive)
			res := l.accept(l.signIn(3))
			if res.Decided != message.SignedIn || l.dataFloor(res.Ack, 3) != newID {
				t.Errorf("a sign-in that proves it: %v", res.Decided)
			}
		})
	})
	t.Run("retired", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		sale := l.sign(l.sale(1, 100), 1)
		open := l.accept(sale)
		again := l.secondKey(keyset.SlotRetired, keyset.SlotActive)
		for name, raw := range map[string][]byte{"sale": l.sign(l.sale(2, 100), 2), "same again": sale, "sign-in": l.signIn(3)} {
			if _, err := l.send(raw); codeOf(err) != decrypt.CodeSlotNotActive {
				t.Errorf("%s under a retired key: %v", name, err)
			}
		}
		l.as(again, func() { l.refuses(l.resend(sale, 1), decrypt.CodeSlotNotActive) })
		_, err := l.service.Answer(context.Background(), l.caller, decrypt.AnswerRequest{Digest: open.Digest, Result: message.Approved})
		if codeOf(err) != decrypt.CodeSlotNotActive {
			t.Errorf("an ack under a retired key: %v", err)
		}
	})
	t.Run("pending alone", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotPending })
		if a := l.ack(l.accept(l.signIn(1)).Ack, 1); len(a.Floors) != 1 || a.Floors[0].Slot != dataSlot {
			t.Errorf("floors %v, want none of the slot that waits", a.Floors)
		}
	})
	t.Run("draining alone", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotDraining })
		if a := l.ack(l.accept(l.signIn(1)).Ack, 1); len(a.Floors) != 2 {
			t.Errorf("floors %v, want one of each slot", a.Floors)
		}
	})
	t.Run("draining and active", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		next := must[dukpt.KeyID](t)(dukpt.ParseKeyID("FFFF9876543211000000"))
		l.books.changeSet("PINS", func(s *keyset.KeySet) { s.LastID = next })
		l.books.changeTerminal(func(t *keyset.Terminal) {
			t.Slots[0].State = keyset.SlotDraining
			t.Slots = slices.Insert(t.Slots, 1, keyset.Slot{Slot: pinSlot, KeySet: "PINS", KeyID: next, State: keyset.SlotActive})
		})
		a := l.ack(l.accept(l.signIn(1)).Ack, 1)
		if _, ok := a.Floor(pinSlot, next); !ok || len(a.Floors) != 2 {
			t.Errorf("floors %v, want that of the active key of a slot that the sign-in does not use", a.Floors)
		}
	})
	t.Run("outside its set", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		l.books.changeTerminal(func(t *keyset.Terminal) { // an id that the registry made up
			t.Slots[0].KeyID = must[dukpt.KeyID](l.tb)(dukpt.ParseKeyID("FFFF9876543219E00000"))
		})
		if a := l.ack(l.accept(l.signIn(1)).Ack, 1); len(a.Floors) != 1 {
			t.Errorf("floors %v, want none of a key outside of its set", a.Floors)
		}
		if _, err := l.service.Counters(t.Context(), l.caller, "T-1"); codeOf(err) != decrypt.CodeKeySetUnknown {
			t.Errorf("counters of it: %v", err)
		}
	})
}

// signInBoth is a sign-in under the data slot with a slot MAC of the PIN slot.
func (l *laboratory) signInBoth(ordinal uint32) []byte {
	l.tb.Helper()
	p := &message.Payload{
		Type: message.SignIn, BootCounter: 2, Sequence: uint64(ordinal), Nonce: bytes.Repeat([]byte{byte(ordinal)}, message.NonceSize),
	}
	p.Environment, p.Tenant, p.Terminal = keyset.Test, "ACME", "T-1"
	p.SlotMACs = []message.SlotMAC{l.slotMAC(p, pinSlot, "PINS", ordinal)}
	return l.sign(p, ordinal)
}

// slotMAC proves the first key of a set.
func (l *laboratory) slotMAC(p *message.Payload, slot uint8, id keyset.ID, ordinal uint32) message.SlotMAC {
	l.tb.Helper()
	set := l.books.sets[id]
	base := must[*dukpt.BaseKey](l.tb)(l.ring.BaseKey(set.BaseKey))
	defer base.Wipe()
	registers := must[*dukpt.Terminal](l.tb)(dukpt.NewTerminal(must[*dukpt.InitialKey](l.tb)(base.Derive(set.FirstID))))
	defer registers.Wipe()
	ksn := must[dukpt.KSN](l.tb)(set.FirstID.AtOrdinal(ordinal))
	tx := dukpt.NewTransaction()
	defer tx.End()
	forget := func(secret.Bytes) error { return nil }
	if err := errors.Join(registers.SkipTo(ksn, forget), registers.Reserve(1, forget), registers.Next(tx)); err != nil {
		l.tb.Fatal(err)
	}
	spec := set.MACSpec()
	m := message.SlotMAC{MACRef: message.MACRef{Slot: slot, KSN: ksn, Algorithm: spec.Algorithm, Padding: spec.Padding, Length: spec.Length}}
	m.MAC = must[[]byte](l.tb)(tx.MAC(nil, spec, message.SignInContent(p, m)))
	return m
}

// TestASignInConfirms holds which keys a sign-in confirms, and when.
func TestASignInConfirms(t *testing.T) {
	t.Parallel()
	pins, cards := uint8(pinSlot), uint8(dataSlot)
	for _, c := range []struct {
		name   string
		change func(*keyset.Terminal)
		signIn func(*laboratory) []byte
		want   []uint8 // slots
	}{
		{"nothing waits", func(*keyset.Terminal) {}, func(l *laboratory) []byte { return l.signIn(1) }, nil},
		{"a pending terminal", func(t *keyset.Terminal) { t.Status = keyset.StatusPending }, func(l *laboratory) []byte { return l.signIn(1) }, []uint8{cards}},
		{"a pending terminal, both slots", func(t *keyset.Terminal) { t.Status = keyset.StatusPending },
			func(l *laboratory) []byte { return l.signInBoth(1) }, []uint8{pins, cards}},
		{"both keys pending", func(t *keyset.Terminal) { t.Slots[0].State, t.Slots[1].State = keyset.SlotPending, keyset.SlotPending },
			func(l *laboratory) []byte { return l.signInBoth(1) }, []uint8{pins, cards}},
		{"one of them, and the other is proved", func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending },
			func(l *laboratory) []byte { return l.signInBoth(1) }, []uint8{cards}},
		{"one of them, and the other is not", func(t *keyset.Terminal) { t.Slots[0].State, t.Slots[1].State = keyset.SlotPending, keyset.SlotPending },
			func(l *laboratory) []byte { return l.signIn(1) }, []uint8{cards}},
		{"a blocked terminal", func(t *keyset.Terminal) { t.Status, t.Slots[1].State = keyset.StatusBlocked, keyset.SlotPending },
			func(l *laboratory) []byte { return l.signIn(1) }, []uint8{cards}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, o := registered(t, dukpt.TDES)
			l.books.changeTerminal(c.change)
			raw := c.signIn(l)
			res := l.accept(raw)
			if res.Decided != message.SignedIn || l.ack(res.Ack, 1).Result != message.SignedIn {
				t.Errorf("sign-in: %v", res.Decided)
			}
			var got []uint8
			for _, c := range o.confirmed {
				if c.Tenant != "ACME" || c.Terminal != "T-1" {
					t.Errorf("confirmed %+v", c)
				}
				for _, k := range c.Keys {
					got = append(got, k.Slot)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("confirmed the keys in slots %v, want %v", got, c.want)
			}
			l.accept(raw) // again, when the catalog knows
			if len(o.confirmed) > 1 {
				t.Errorf("confirmed %d times", len(o.confirmed))
			}
		})
	}
}

// TestAnAckIsOfTheConfirmedRecord retires another key together with the confirmation: the ack says nothing of it any more.
func TestAnAckIsOfTheConfirmedRecord(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.TDES)
	l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending })
	o.first = func() { l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotRetired }) }
	if a := l.ack(l.accept(l.signIn(1)).Ack, 1); len(a.Floors) != 1 || a.Floors[0].Slot != dataSlot {
		t.Errorf("floors %v, want that of the confirmed key", a.Floors)
	}
}

// TestASignInIsNotAckedUnconfirmed has the confirmation fail in every way: nothing is acked, the claims stand, and the same
// sign-in is answered when the registry is back.
func TestASignInIsNotAckedUnconfirmed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*laboratory, *office)
		mend  func(*laboratory, *office)
		code  decrypt.Code
	}{
		{"no answer", func(_ *laboratory, o *office) { o.fault = errors.New("connection refused by 192.0.2.1") },
			func(_ *laboratory, o *office) { o.fault = nil }, decrypt.CodeRegistryUnavailable},
		{"too late", func(_ *laboratory, o *office) { o.fault = context.DeadlineExceeded },
			func(_ *laboratory, o *office) { o.fault = nil }, decrypt.CodeRegistryUnavailable},
		{"an answer without effect", func(_ *laboratory, o *office) { o.deaf = true },
			func(_ *laboratory, o *office) { o.deaf = false }, decrypt.CodeRegistryUnavailable},
		{"stale meanwhile", func(_ *laboratory, o *office) { o.first = func() { o.stale = errors.New("5m old") } },
			func(_ *laboratory, o *office) { o.first, o.stale = nil, nil }, decrypt.CodeRegistryStale},
		{"revoked meanwhile", func(l *laboratory, o *office) {
			o.deaf, o.first = true, func() { l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusRevoked }) }
		}, func(l *laboratory, o *office) {
			o.deaf, o.first = false, nil
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusActive })
		}, decrypt.CodeTerminalRevoked},
		{"retired meanwhile", func(l *laboratory, o *office) {
			o.deaf, o.first = true, func() { l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotRetired }) }
		}, func(l *laboratory, o *office) {
			o.deaf, o.first = false, nil
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending })
		}, decrypt.CodeSlotNotActive},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, o := registered(t, dukpt.TDES)
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending })
			c.spoil(l, o)
			raw := l.signIn(1)
			l.refuses(raw, c.code)
			c.mend(l, o)
			res := l.accept(raw)
			if res.Decided != message.SignedIn || res.Status != decrypt.CounterResend {
				t.Errorf("the same sign-in again: %v, %v", res.Decided, res.Status)
			}
			if len(o.confirmed) == 0 {
				t.Error("nothing was confirmed")
			}
			l.accept(l.sign(l.sale(2, 100), 2))
		})
	}
}

// TestARefusedSignInConfirmsNothing uses up the sign-ins of one counter.
func TestARefusedSignInConfirmsNothing(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.TDES)
	l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending })
	o.deaf = true
	signIn := func(nonce byte) []byte {
		return l.sign(&message.Payload{Type: message.SignIn, BootCounter: 2, Sequence: 1, Nonce: bytes.Repeat([]byte{nonce}, message.NonceSize)}, 1)
	}
	for n := range byte(decrypt.MaxSignIns) {
		l.refuses(signIn(n), decrypt.CodeRegistryUnavailable)
	}
	before := len(o.confirmed)
	if res := l.accept(signIn(decrypt.MaxSignIns)); res.Decided != message.KsnReplayed || len(o.confirmed) != before {
		t.Errorf("one sign-in too many: %v, and %d confirmations after %d", res.Decided, len(o.confirmed), before)
	}
	spoiled := signIn(1)
	spoiled[len(spoiled)-1] ^= 1
	l.refuses(spoiled, decrypt.CodeMACInvalid)
	if len(o.confirmed) != before {
		t.Error("a MAC that does not verify confirms a key")
	}
}

// TestWithoutARegistry is yesterday's behaviour: documents are what people signed.
func TestWithoutARegistry(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	l.books.changeTerminal(func(t *keyset.Terminal) { t.Status, t.Slots[1].State = keyset.StatusPending, keyset.SlotPending })
	for n := range uint32(2) {
		if res := l.accept(l.signIn(n + 1)); res.Decided != message.SignedIn {
			t.Errorf("sign-in %d: %v", n+1, res.Decided)
		}
	}
}

// TestAStaleRegistryStopsEverything is the rule that nothing is answered about terminals that might be revoked by now.
func TestAStaleRegistryStopsEverything(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.TDES)
	sale := l.sign(l.sale(1, 100), 1)
	open := l.accept(sale)
	before := l.snapshot()
	o.stale = errors.New("last heard of 5m ago")
	for name, raw := range map[string][]byte{
		"sale": l.sign(l.sale(2, 100), 2), "same again": sale, "resend": l.resend(sale, 3), "sign-in": l.signIn(4),
	} {
		if r := l.refuses(raw, decrypt.CodeRegistryStale); !r.Unavailable() {
			t.Errorf("%s: the refusal is final", name)
		}
	}
	req := decrypt.AnswerRequest{Digest: open.Digest, Result: message.Approved}
	if _, err := l.service.Answer(t.Context(), l.caller, req); codeOf(err) != decrypt.CodeRegistryStale {
		t.Errorf("an answer: %v", err)
	}
	if _, err := l.service.Counters(t.Context(), l.caller, "T-1"); codeOf(err) != decrypt.CodeRegistryStale {
		t.Errorf("counters: %v", err)
	}
	if after := l.snapshot(); after != before {
		t.Errorf("the store changed from %s to %s", before, after)
	}
	o.stale = nil
	l.answer(l.accept(sale))
}

// TestEveryUseIsNoted wants the keys of what is durable, and of nothing else.
func TestEveryUseIsNoted(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.TDES)
	pins, cards := l.books.sets["PINS"], l.books.sets["CARDS"]
	use := func(set *keyset.KeySet, slot uint8, ordinal uint32) decrypt.Use {
		return decrypt.Use{
			Tenant: "ACME", Terminal: "T-1", Key: decrypt.KeyPlace{Slot: slot, KeySet: set.ID, KeyID: set.FirstID},
			Ordinal: ordinal, Time: l.clock.Now(),
		}
	}
	noted := func(want ...decrypt.Use) {
		t.Helper()
		if !slices.Equal(o.uses, want) {
			t.Errorf("noted %v, want %v", o.uses, want)
		}
		o.uses = nil
	}
	sale := l.sign(l.sale(5, 100), 5)
	l.accept(sale)
	noted(use(cards, dataSlot, 5), use(pins, pinSlot, 5))
	l.accept(l.resend(sale, 6))
	noted(use(cards, dataSlot, 6), use(cards, dataSlot, 5), use(pins, pinSlot, 5))
	l.accept(l.signIn(7))
	noted(use(cards, dataSlot, 7))
	l.refuses(l.sign(l.sale(5, 200), 5), decrypt.CodeKSNReplayed)
	spoiled := l.sign(l.sale(8, 100), 8)
	spoiled[len(spoiled)-1] ^= 1
	l.refuses(spoiled, decrypt.CodeMACInvalid)
	noted()
	l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.MAC.Evidence = 17 }) // its MACs are too short to be evidence
	l.accept(l.signIn(9))
	noted(use(cards, dataSlot, 0))
}

// TestEvidenceIsToldOf wants the alarm for second contents under MACs that are evidence, and for nothing else.
func TestEvidenceIsToldOf(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.TDES)
	counter := func(id keyset.ID) decrypt.CounterKey {
		set := l.books.sets[id]
		return decrypt.CounterKey{BaseKey: set.BaseKeyFingerprint, KeyID: set.FirstID}
	}
	told := func(what string, want ...decrypt.CounterKey) {
		t.Helper()
		if !slices.Equal(o.suspects, want) {
			t.Errorf("%s: told of %v, want %v", what, o.suspects, want)
		}
		o.suspects = nil
	}
	sale := l.sign(l.sale(1, 100), 1)
	l.accept(sale)
	l.accept(sale)
	spoiled := slices.Clone(sale)
	spoiled[len(spoiled)-1] ^= 1
	l.refuses(spoiled, decrypt.CodeMACInvalid)
	told("the same, and a MAC that does not verify")

	other := l.sign(l.sale(1, 200), 1)
	l.refuses(other, decrypt.CodeKSNReplayed)
	told("another amount", counter("CARDS"))
	l.refuses(other, decrypt.CodeKSNReplayed)
	l.refuses(l.resend(other, 3), decrypt.CodeKSNReplayed)
	told("the same once more")
	taken := l.sale(2, 300)
	taken.Fields[1] = l.sale(1, 100).Fields[1]
	l.refuses(l.sign(taken, 2), decrypt.CodeKSNReplayed)
	told("a PIN block of another sale", counter("PINS"))
	if n := strings.Count(l.log.String(), "evidence of a clone"); n != 2 {
		t.Errorf("%d lines in the log, want 2", n)
	}

	if res := l.accept(l.signIn(1)); res.Decided != message.RolledBack {
		t.Errorf("a sign-in on a used counter: %v", res.Decided)
	}
	if !strings.Contains(l.log.String(), "a terminal was rolled back") {
		t.Error("the log does not say that a terminal was rolled back")
	}
	told("a sign-in on a used counter")
	for n := range byte(decrypt.MaxSignIns) {
		l.accept(l.sign(&message.Payload{Type: message.SignIn, BootCounter: 2, Nonce: bytes.Repeat([]byte{n + 2}, message.NonceSize)}, 1))
	}
	told("one sign-in too many", counter("CARDS"))

	l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.MAC.Evidence = 17 }) // its MACs are too short to be evidence
	l.refuses(l.sign(l.sale(1, 400), 1), decrypt.CodeKSNReplayed)
	told("a short MAC")
}

// turncoat has a terminal active until it has been looked at once.
type turncoat struct {
	*books
	mu    sync.Mutex
	asked bool
	turn  func(*keyset.Terminal)
}

func (c *turncoat) Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.books.Terminal(tenant, id)
	if ok && c.asked {
		other := *t
		c.turn(&other)
		t = &other
	}
	c.asked = true
	return t, ok
}

// TestARevocationOvertakesAMessage revokes a terminal while its message is being worked on.
func TestARevocationOvertakesAMessage(t *testing.T) {
	t.Parallel()
	for _, status := range []keyset.Status{keyset.StatusCompromised, keyset.StatusRevoked, keyset.StatusRetired} {
		for _, kind := range []message.Type{message.Sale, message.SignIn} {
			l := newLaboratory(t, dukpt.TDES)
			raw := l.signIn(1)
			if kind == message.Sale {
				raw = l.sign(l.sale(1, 100), 1)
			}
			before := l.snapshot()
			c := &turncoat{books: l.books, turn: func(t *keyset.Terminal) { t.Status = status }}
			service := l.over(c)
			res, err := service.Transaction(t.Context(), l.caller, decrypt.TransactionRequest{Message: raw, OutgoingPINKey: l.zone()})
			if res != nil || codeOf(err) != decrypt.CodeTerminalRevoked || l.recorded(decrypt.CodeTerminalRevoked) != 1 {
				t.Errorf("%v %v: answered %v, %v", status, kind, res != nil, err)
			}
			if after := l.snapshot(); after != before {
				t.Errorf("%v %v: the store changed from %s to %s", status, kind, before, after)
			}
		}
	}
}
