package decrypt_test

import (
	"maps"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

const (
	held      = "HELD TerminalBlocked"
	heldSpent = "HELD DrainGrantSpent"
)

// grant lets some messages of the data slot's first key through for an hour.
func (l *laboratory) grant(id string, first, last, count uint32) keyset.DrainGrant {
	return keyset.DrainGrant{
		ID: id, Slot: dataSlot, KeyID: l.books.sets["CARDS"].FirstID, First: first, Last: last, Count: count,
		Until: l.clock.Now().Add(time.Hour),
	}
}

// block blocks the terminal and grants a drain.
func (l *laboratory) block(grants ...keyset.DrainGrant) {
	l.books.changeTerminal(func(t *keyset.Terminal) { t.Status, t.DrainGrants = keyset.StatusBlocked, grants })
}

// drained is how many messages the store has counted under each grant.
func (l *laboratory) drained() map[string]uint32 {
	return l.store.(*storetest.Model).Contents().Drained
}

// expect sends a message and wants an outcome.
func (l *laboratory) expect(what string, raw []byte, want string) {
	l.tb.Helper()
	if got := outcome(l.send(raw)); got != want {
		l.tb.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestADrainGrantLetsAQueueThrough drains the queue of a blocked terminal: as many messages as were granted, each as often as
// it comes.
func TestADrainGrantLetsAQueueThrough(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		before, sales := l.sign(l.sale(1, 100), 1), make(map[uint32][]byte)
		l.accept(before)
		for n := uint32(2); n <= 9; n++ {
			sales[n] = l.sign(l.sale(n, 100), n)
		}
		l.block(l.grant("G1", 1, 5, 3))
		first := l.accept(sales[2])
		if first.Status != decrypt.CounterFresh || len(first.Fields) != 2 {
			t.Errorf("a sale under the grant: %v, %d fields", first.Status, len(first.Fields))
		}
		if a := l.ack(l.answer(first), 2); a.Result != message.Approved {
			t.Errorf("its ack: %v", a.Result)
		}
		l.expect("answered, again", sales[2], "recorded APPROVED")
		l.expect("claimed before the block", before, "RESEND")
		l.expect("a resend, itself outside of the range", l.resend(sales[3], 20), "FRESH")
		l.expect("the same sale by itself", sales[3], "RESEND")
		l.expect("another resend of it", l.resend(sales[3], 21), "RESEND")
		l.expect("a resend inside the range of what is not", l.resend(sales[6], 4), held)
		l.expect("outside of the range", sales[6], held)
		l.expect("the third", sales[5], "FRESH")
		l.expect("one too many", l.resend(sales[4], 22), heldSpent)
		l.expect("a resend of the third", l.resend(sales[5], 23), "RESEND")
		if got := l.drained(); !maps.Equal(got, map[string]uint32{"G1": 3}) {
			t.Errorf("counted %v", got)
		}
		res := l.accept(sales[4])
		if a := l.ack(res.Ack, 4); a.Result != message.Held || len(res.Fields) != 0 || res.Status != decrypt.CounterNone {
			t.Errorf("one too many: ack %v, %d fields", a.Result, len(res.Fields))
		}

		l.block(l.grant("G1", 1, 5, 3), l.grant("G2", 4, 4, 1))
		l.expect("under a further grant", sales[4], "FRESH")
		l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusActive })
		l.expect("when the terminal is active again", sales[6], "FRESH")
		if got := l.drained(); !maps.Equal(got, map[string]uint32{"G1": 3, "G2": 1}) {
			t.Errorf("counted %v", got)
		}
	})
}

// TestWhatADrainGrantCovers has one thing wrong about a grant or a message at a time.
func TestWhatADrainGrantCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*laboratory, *keyset.DrainGrant)
		want   string
	}{
		{"nothing wrong", func(*laboratory, *keyset.DrainGrant) {}, "FRESH"},
		{"the ordinal alone", func(_ *laboratory, g *keyset.DrainGrant) { g.First, g.Last = 5, 5 }, "FRESH"},
		{"from above it", func(_ *laboratory, g *keyset.DrainGrant) { g.First = 6 }, held},
		{"up to below it", func(_ *laboratory, g *keyset.DrainGrant) { g.Last = 4 }, held},
		{"another slot", func(_ *laboratory, g *keyset.DrainGrant) { g.Slot = pinSlot }, held},
		{"another key", func(l *laboratory, g *keyset.DrainGrant) { g.KeyID = l.books.sets["PINS"].FirstID }, held},
		{"no key", func(_ *laboratory, g *keyset.DrainGrant) { g.KeyID = dukpt.KeyID{} }, held},
		{"the last moment", func(l *laboratory, g *keyset.DrainGrant) { g.Until = l.clock.Now().Add(time.Nanosecond) }, "FRESH"},
		{"its end", func(l *laboratory, g *keyset.DrainGrant) { g.Until = l.clock.Now() }, held},
		{"no end", func(_ *laboratory, g *keyset.DrainGrant) { g.Until = time.Time{} }, held},
		{"a blocked key set of the MAC", func(l *laboratory, _ *keyset.DrainGrant) {
			l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.State = keyset.Blocked })
		}, "HELD KeySetBlocked"},
		{"a blocked key set of the PIN", func(l *laboratory, _ *keyset.DrainGrant) {
			l.books.changeSet("PINS", func(s *keyset.KeySet) { s.State = keyset.Blocked })
		}, "HELD KeySetBlocked"},
		{"a counter below the floor", func(l *laboratory, _ *keyset.DrainGrant) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusActive })
			l.accept(l.sign(l.sale(5000, 100), 5000))
			l.block()
		}, "KsnTooOld KsnTooOld"},
		{"another message under the counter", func(l *laboratory, _ *keyset.DrainGrant) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusActive })
			l.accept(l.sign(l.sale(5, 1), 5))
			l.block()
		}, "KsnReplayed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, dukpt.TDES)
			l.block()
			g := l.grant("G1", 1, 10, 2)
			c.change(l, &g)
			l.block(g)
			l.expect("a sale", l.sign(l.sale(5, 100), 5), c.want)
			if counted := l.drained()["G1"]; counted != map[bool]uint32{true: 1, false: 0}[c.want == "FRESH"] {
				t.Errorf("%d messages counted", counted)
			}
			bad := spoiled(l.sign(l.sale(6, 100), 6))
			l.expect("a MAC that does not verify", bad, "MacInvalid")
			l.expect("a sign-in", l.signIn(7), "SIGNED-IN SIGNED-IN")
			if counted := l.drained()["G1"]; counted > 1 {
				t.Errorf("%d messages counted afterwards", counted)
			}
		})
	}
}

// TestADrainGrantIsForBlockedTerminals goes through the statuses: a grant lets nothing through that was not HELD.
func TestADrainGrantIsForBlockedTerminals(t *testing.T) {
	t.Parallel()
	for status, want := range map[keyset.Status]string{
		keyset.StatusPending: "TerminalNotActive", keyset.StatusActive: "FRESH", keyset.StatusBlocked: "FRESH", keyset.StatusQuarantined: "FRESH",
		keyset.StatusCompromised: "TerminalRevoked", keyset.StatusRevoked: "TerminalRevoked", keyset.StatusRetired: "TerminalRevoked",
	} {
		l := newLaboratory(t, dukpt.TDES)
		l.books.changeTerminal(func(t *keyset.Terminal) {
			t.Status, t.DrainGrants = status, []keyset.DrainGrant{l.grant("G1", 1, 10, 1)}
		})
		l.expect(status.String(), l.sign(l.sale(5, 100), 5), want)
		counted := status == keyset.StatusBlocked || status == keyset.StatusQuarantined
		if got := l.drained()["G1"] == 1; got != counted {
			t.Errorf("%v: counted %v, want %v", status, got, counted)
		}
	}
}

// TestADrainIsInTheAuditLog wants the grant beside the message that it let through.
func TestADrainIsInTheAuditLog(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	l.block(l.grant("G1", 1, 10, 1))
	l.accept(l.sign(l.sale(5, 100), 5))
	l.accept(l.sign(l.sale(6, 100), 6))
	leaves := l.store.(*storetest.Model).Contents().Leaves
	if len(leaves) != 2 {
		t.Fatalf("%d records", len(leaves))
	}
	if r := leaves[0]; r.Result != "FRESH" || r.Reason != "drain-grant G1" {
		t.Errorf("the first: %+v", r)
	}
	if r := leaves[1]; r.Result != "REFUSED" || r.Reason != string(decrypt.CodeDrainGrantSpent) {
		t.Errorf("the second: %+v", r)
	}
}
