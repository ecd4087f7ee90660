package decrypt_test

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// changeMAC gives the set of card data another MAC rule, and the terminal the changed set.
func (l *laboratory) changeMAC(rule keyset.MACRule) {
	l.tb.Helper()
	l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.MAC = rule })
	if err := l.books.sets["CARDS"].Validate(); err != nil {
		l.tb.Fatal(err)
	}
	bundle := &terminal.Bundle{Tenant: "ACME", Terminal: "T-1", Environment: keyset.Test}
	for slot, id := range map[uint8]keyset.ID{pinSlot: "PINS", dataSlot: "CARDS"} {
		bundle.Slots = append(bundle.Slots, l.bundleSlot(slot, l.books.sets[id], l.books.sets[id].FirstID))
	}
	l.terminal = must[*rogue.Terminal](l.tb)(rogue.New(bundle))
	l.tb.Cleanup(l.terminal.Close)
}

// TestEveryMACOfSets trades a sale and its answer under every MAC that a set can choose, and under what one terminal has and
// its set does not.
func TestEveryMACOfSets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme dukpt.Scheme
		rule   keyset.MACRule
	}{
		{dukpt.TDES, keyset.MACRule{Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding1, Length: 8, Evidence: 8}},
		{dukpt.TDES, keyset.MACRule{Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding3, Length: 8, Evidence: 8}},
		{dukpt.TDES, keyset.MACRule{Algorithm: dukpt.MACCBC, Padding: dukpt.MACPadding3, Length: 8, Evidence: 8}},
		{dukpt.TDES, keyset.MACRule{Algorithm: dukpt.MACCMAC, Length: 8, Evidence: 8}},
		{dukpt.AES, keyset.MACRule{Algorithm: dukpt.MACCMAC, Length: 9, Evidence: 8}},
		{dukpt.AES, keyset.MACRule{Algorithm: dukpt.MACHMACSHA256, Length: 16, Evidence: 8}},
	} {
		t.Run(fmt.Sprintf("%v %v %d", c.rule.Algorithm, c.rule.Padding, c.rule.Length), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, c.scheme)
			before := l.sign(l.sale(1, 100), 1)
			l.changeMAC(c.rule)
			l.refuses(before, decrypt.CodeMACNotPermitted)
			raw := l.sign(l.sale(2, 100), 2)
			raw[len(raw)-1] ^= 1
			l.refuses(raw, decrypt.CodeMACInvalid)
			raw[len(raw)-1] ^= 1
			res := l.accept(raw)
			if !res.Authenticated || res.Payload.MAC.Length != c.rule.Length {
				t.Errorf("authenticated %v, a MAC of %d bytes", res.Authenticated, res.Payload.MAC.Length)
			}
			if a := l.ack(l.answer(res), 2); a.Result != message.Approved {
				t.Errorf("answered %v", a.Result)
			}
		})
	}
}
