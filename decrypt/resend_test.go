package decrypt_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// TestARowOlderThanItsHorizonIsSpent lets a sale grow as old as its key sets allow, and older.
func TestARowOlderThanItsHorizonIsSpent(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		for _, id := range []keyset.ID{"PINS", "CARDS"} {
			l.books.changeSet(id, func(s *keyset.KeySet) { s.R = time.Hour })
		}
		sale, signIn := l.sign(l.sale(1, 100), 1), l.signIn(2)
		l.accept(sale)
		l.accept(signIn)
		l.clock.Add(time.Hour)
		if res := l.accept(sale); res.Status != decrypt.CounterResend || len(res.Fields) != 2 {
			t.Errorf("at the horizon: %v, %d fields", res.Status, len(res.Fields))
		}
		l.clock.Add(time.Millisecond)
		for name, raw := range map[string][]byte{
			"the same": sale, "inside a resend": l.resend(sale, 3), "another under its KSN": l.sign(l.sale(1, 200), 1),
		} {
			if res := l.accept(raw); res.Decided != message.KsnSpent || res.Code != decrypt.CodeKSNSpent || len(res.Fields) != 0 {
				t.Errorf("past the horizon, %s: decided %v, %d fields", name, res.Decided, len(res.Fields))
			}
		}
		if a := l.ack(l.accept(sale).Ack, 1); a.Result != message.KsnSpent {
			t.Errorf("ack %v", a.Result)
		}
		if res := l.accept(signIn); res.Decided != message.SignedIn {
			t.Errorf("the sign-in again: %v", res.Decided)
		}
		if res := l.accept(l.sign(l.sale(4, 100), 4)); res.Status != decrypt.CounterFresh || len(res.Fields) != 2 {
			t.Errorf("another sale: %v, %d fields", res.Status, len(res.Fields))
		}
	})
}

// TestTheShorterHorizonCounts: each row has the horizon of its own key set, and one that is spent holds back the message.
func TestTheShorterHorizonCounts(t *testing.T) {
	t.Parallel()
	for _, id := range []keyset.ID{"PINS", "CARDS"} {
		l := newLaboratory(t, dukpt.TDES)
		l.books.changeSet(id, func(s *keyset.KeySet) { s.R = time.Second })
		sale := l.sign(l.sale(1, 100), 1)
		l.accept(sale)
		l.clock.Add(time.Minute)
		if res := l.accept(sale); res.Decided != message.KsnSpent || len(res.Fields) != 0 {
			t.Errorf("%s past its horizon: decided %v, %d fields", id, res.Decided, len(res.Fields))
		}
	}
}

// A record that gives one key id to two slots passes no check, but were there one, a reversal under it could mean either
// base key, and closing the wrong row would let the sale come late.
func TestAReversalOfAnAmbiguousKSN(t *testing.T) {
	t.Parallel()
	for _, slot := range []uint8{1, 3} {
		l := newLaboratory(t, dukpt.TDES)
		sale := l.sign(l.sale(1, 100), 1)
		m := must[*message.Message](t)(message.Parse(sale))
		reversal := l.sign(&message.Payload{Type: message.Reversal, BootCounter: 1, Sequence: 2, Original: &message.Original{
			Sequence: 1, KSN: m.Payload.MAC.KSN, Digest: m.Digest(),
		}}, 2)
		l.books.changeTerminal(func(r *keyset.Terminal) {
			twin := keyset.Slot{Slot: slot, KeySet: "PINS", KeyID: m.Payload.MAC.KSN.KeyID(), State: keyset.SlotActive}
			if slot == pinSlot {
				r.Slots[0] = twin
			} else {
				r.Slots = append(r.Slots, twin)
			}
		})
		l.refuses(reversal, decrypt.CodeKeyIDMismatch)
	}
}

// TestAReversalClosesItsSale sends the reversal in both orders.
func TestAReversalClosesItsSale(t *testing.T) {
	t.Parallel()
	reversal := func(l *laboratory, sale []byte, ordinal uint32) []byte {
		m := must[*message.Message](l.tb)(message.Parse(sale))
		return l.sign(&message.Payload{Type: message.Reversal, BootCounter: 1, Sequence: uint64(ordinal), Original: &message.Original{
			Sequence: m.Payload.Sequence, KSN: m.Payload.MAC.KSN, Digest: m.Digest(),
		}}, ordinal)
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		sale := l.sign(l.sale(1, 100), 1)
		if res := l.accept(reversal(l, sale, 2)); res.Status != decrypt.CounterFresh || res.Payload.Type != message.Reversal {
			t.Fatalf("reversal: %v", res.Status)
		}
		for _, late := range [][]byte{sale, l.resend(sale, 3)} {
			res := l.accept(late)
			if res.Decided != message.Reversed || len(res.Fields) != 0 {
				t.Fatalf("the late sale: decided %v with %d fields", res.Decided, len(res.Fields))
			}
		}
		if a := l.ack(l.accept(sale).Ack, 1); a.Result != message.Reversed {
			t.Errorf("ack %v", a.Result)
		}
	})
	t.Run("after", func(t *testing.T) {
		t.Parallel()
		l := newLaboratory(t, dukpt.TDES)
		sale := l.sign(l.sale(1, 100), 1)
		l.accept(sale)
		void := reversal(l, sale, 2)
		l.accept(void)
		if res := l.accept(void); res.Status != decrypt.CounterResend {
			t.Errorf("the reversal again: %v", res.Status)
		}
		if res := l.accept(sale); res.Decided != message.Reversed || len(res.Fields) != 0 {
			t.Errorf("the sale again: decided %v with %d fields", res.Decided, len(res.Fields))
		}
	})
}

// TestAnswersOfAResend acknowledges one decision under two KSNs.
func TestAnswersOfAResend(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.AES)
	sale := l.sign(l.sale(1, 100), 1)
	first := l.accept(sale)
	outer := l.resend(sale, 2)
	resent := l.accept(outer)
	answer := func(digest message.Digest, result message.Result) (*decrypt.AnswerResult, error) {
		return l.service.Answer(context.Background(), l.caller, decrypt.AnswerRequest{Digest: digest, Result: result, Body: []byte("slip")})
	}
	a := must[*decrypt.AnswerResult](t)(answer(resent.Digest, message.Approved))
	got := l.ack(a.Ack, 2)
	if got.Result != message.Approved || !got.Answers(resent.Digest) || !got.Answers(first.Digest) || !bytes.Equal(got.Body, []byte("slip")) {
		t.Errorf("ack of the resend: %+v", got)
	}
	if _, err := answer(first.Digest, message.Declined); codeOf(err) != decrypt.CodeAnswerConflict {
		t.Errorf("another answer to the original: %v", err)
	}
	b := must[*decrypt.AnswerResult](t)(answer(first.Digest, message.Approved))
	if got := l.ack(b.Ack, 1); got.Result != message.Approved || len(got.Digests) != 1 {
		t.Errorf("ack of the original: %+v", got)
	}
	again := l.accept(l.resend(sale, 3))
	if again.Recorded == nil || again.Recorded.Result != message.Approved || !bytes.Equal(again.Recorded.Body, []byte("slip")) {
		t.Fatalf("a later resend: recorded %+v", again.Recorded)
	}
	if got := l.ack(again.Recorded.Ack, 3); got.Result != message.Approved || !got.Answers(first.Digest) {
		t.Errorf("its ack: %+v", got)
	}
	retry := l.accept(sale)
	if retry.Recorded == nil || !bytes.Equal(retry.Recorded.Ack, b.Ack) {
		t.Error("a live retry after the answer does not carry the recorded bytes")
	}
}
