package decrypt_test

import (
	"bytes"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// signIn is a sign-in under the data slot at an ordinal.
func (l *laboratory) signIn(ordinal uint32) []byte {
	return l.sign(&message.Payload{Type: message.SignIn, BootCounter: 2, Sequence: uint64(ordinal), Nonce: bytes.Repeat([]byte{byte(ordinal)}, message.NonceSize)}, ordinal)
}

func TestASignInSaysWhereTheCountersStand(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		l.accept(l.sign(l.sale(5000, 100), 5000))
		res := l.accept(l.signIn(5001))
		if res.Decided != message.SignedIn || len(res.Fields) != 0 || res.Payload.BootCounter != 2 {
			t.Fatalf("sign-in: %v", res.Decided)
		}
		a := l.ack(res.Ack, 5001)
		floor, ok := a.Floor(dataSlot, l.books.sets["CARDS"].FirstID)
		if a.Result != message.SignedIn || !ok || floor != 5001-keyset.DefaultWindow && floor != 5000-keyset.DefaultWindow {
			t.Errorf("ack %v, floor %d", a.Result, floor)
		}
	})
}

// TestASignInIsAlwaysAnswered covers a terminal whose state came back older than it was.
func TestASignInIsAlwaysAnswered(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	for _, ordinal := range []uint32{1, 6000} {
		l.accept(l.sign(l.sale(ordinal, 100), ordinal))
	}
	used := l.accept(l.signIn(1))
	if used.Decided != message.RolledBack {
		t.Errorf("a sign-in on a used counter: %v", used.Decided)
	}
	if a := l.ack(used.Ack, 1); a.Result != message.RolledBack {
		t.Errorf("its ack: %v", a.Result)
	}
	below := l.accept(l.signIn(700))
	if below.Decided != message.SignedIn && below.Decided != message.RolledBack {
		t.Errorf("a sign-in below the floor: %v", below.Decided)
	}
	l.ack(below.Ack, 700)
	// It claimed nothing of the sale's purposes: the sale is still the same.
	if res := l.accept(l.sign(l.sale(1, 100), 1)); res.Status != decrypt.CounterResend || len(res.Fields) != 2 {
		t.Errorf("the sale of the counter afterwards: %v", res.Status)
	}
}

// TestASignInProvesEverySlot refuses one whose second slot MAC does not verify, and counts nothing.
func TestASignInProvesEverySlot(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusPending })
	p := &message.Payload{Type: message.SignIn, BootCounter: 1, Sequence: 1, Nonce: make([]byte, message.NonceSize)}
	ksn := must[dukpt.KSN](t)(l.terminal.KSN(pinSlot, 1))
	p.SlotMACs = []message.SlotMAC{{MAC: make([]byte, 8), MACRef: message.MACRef{
		Slot: pinSlot, KSN: ksn, Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding2, Length: 8,
	}}}
	l.refuses(l.sign(p, 1), decrypt.CodeMACInvalid)
	p.SlotMACs = nil
	if res := l.accept(l.sign(p, 1)); res.Decided != message.SignedIn {
		t.Errorf("a pending terminal may sign in: %v", res.Decided)
	}
}
