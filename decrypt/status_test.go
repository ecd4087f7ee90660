package decrypt_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// outcome is what became of a message, in a word that can be compared: a refusal's code, what the service decided and why, or
// what it released.
func outcome(res *decrypt.TransactionResult, err error) string {
	switch {
	case err != nil:
		return string(codeOf(err))
	case res.Decided != 0 && len(res.Fields) == 0:
		return res.Decided.String() + " " + string(res.Code)
	case res.Recorded != nil:
		return "recorded " + res.Recorded.Result.String()
	}
	return res.Status.String()
}

// mail is one message of each kind that a terminal sends, made before its status changes.
func (l *laboratory) mail() map[string][]byte {
	l.tb.Helper()
	answered, open, unseen := l.sign(l.sale(1, 100), 1), l.sign(l.sale(2, 200), 2), l.sign(l.sale(3, 300), 3)
	l.answer(l.accept(answered))
	l.accept(open)
	m := must[*message.Message](l.tb)(message.Parse(answered))
	original := &message.Original{Sequence: 1, KSN: m.Payload.MAC.KSN, Digest: m.Digest()}
	amount := euro(100)
	return map[string][]byte{
		"sale":               l.sign(l.sale(4, 400), 4),
		"reversal":           l.sign(&message.Payload{Type: message.Reversal, BootCounter: 1, Sequence: 5, Original: original}, 5),
		"void":               l.sign(&message.Payload{Type: message.Void, BootCounter: 1, Sequence: 6, Original: original}, 6),
		"advice":             l.sign(&message.Payload{Type: message.Advice, BootCounter: 1, Sequence: 7, Amount: &amount}, 7),
		"sign-in":            l.signIn(8),
		"unseen, resent":     l.resend(unseen, 9),
		"open, again":        open,
		"open, resent":       l.resend(open, 10),
		"answered, again":    answered,
		"answered, resent":   l.resend(answered, 11),
		"unproved: a sale":   spoiled(l.sign(l.sale(12, 400), 12)),
		"unproved: sign-in":  spoiled(l.signIn(13)),
		"unproved: a resend": spoiled(l.resend(answered, 14)),
	}
}

func spoiled(raw []byte) []byte {
	raw[len(raw)-1] ^= 1
	return raw
}

// TestEveryStatusAndMessage is the table of docs/protocol.md, section 4: what each status lets through of each kind of message.
func TestEveryStatusAndMessage(t *testing.T) {
	t.Parallel()
	kinds := []string{
		"sale", "reversal", "void", "advice", "sign-in", "unseen, resent", "open, again", "open, resent", "answered, again", "answered, resent",
		"unproved: a sale", "unproved: sign-in", "unproved: a resend",
	}
	all := func(what string) map[string]string {
		out := make(map[string]string)
		for _, k := range kinds {
			out[k] = what
		}
		return out
	}
	but := func(table map[string]string, changes map[string]string) map[string]string {
		for k, v := range changes {
			table[k] = v
		}
		return table
	}
	unproved := map[string]string{"unproved: a sale": "MacInvalid", "unproved: sign-in": "MacInvalid", "unproved: a resend": "MacInvalid"}
	held := func(code decrypt.Code) map[string]string {
		return but(but(all("HELD "+string(code)), unproved), map[string]string{
			"sign-in": "SIGNED-IN SIGNED-IN", "answered, again": "recorded APPROVED", "answered, resent": "recorded APPROVED",
		})
	}
	for status, want := range map[keyset.Status]map[string]string{
		keyset.StatusPending: but(all("TerminalNotActive"), map[string]string{"sign-in": "SIGNED-IN SIGNED-IN", "unproved: sign-in": "MacInvalid"}),
		keyset.StatusActive: but(but(all("FRESH"), unproved), map[string]string{
			"sign-in": "SIGNED-IN SIGNED-IN", "open, again": "RESEND", "open, resent": "RESEND",
			"answered, again": "recorded APPROVED", "answered, resent": "recorded APPROVED",
		}),
		keyset.StatusBlocked:     held(decrypt.CodeTerminalBlocked),
		keyset.StatusQuarantined: held(decrypt.CodeTerminalQuarantined),
		keyset.StatusCompromised: all("TerminalRevoked"),
		keyset.StatusRevoked:     all("TerminalRevoked"),
		keyset.StatusRetired:     all("TerminalRevoked"),
		0:                        all("TerminalNotActive"), // a status that nobody knows
		99:                       all("TerminalNotActive"),
	} {
		t.Run(status.String(), func(t *testing.T) {
			t.Parallel()
			for _, kind := range kinds {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					l := newLaboratory(t, dukpt.TDES)
					raw := l.mail()[kind]
					before := l.snapshot()
					l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = status })
					got := outcome(l.send(raw))
					if got != want[kind] {
						t.Fatalf("got %q, want %q", got, want[kind])
					}
					if changed := l.snapshot() != before; changed != (got == "FRESH" || got == "RESEND" || got == "SIGNED-IN SIGNED-IN" || got == "recorded APPROVED") {
						t.Errorf("%s, and the store has changed: %v", got, changed)
					}
				})
			}
		})
	}
}

// TestAnswersByStatus holds which terminals still get an ack of what was released before.
func TestAnswersByStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[keyset.Status]decrypt.Code{
		keyset.StatusPending: decrypt.CodeTerminalNotActive, keyset.StatusActive: "no error", keyset.StatusBlocked: "no error",
		keyset.StatusQuarantined: "no error", keyset.StatusCompromised: decrypt.CodeTerminalRevoked,
		keyset.StatusRevoked: decrypt.CodeTerminalRevoked, keyset.StatusRetired: decrypt.CodeTerminalRevoked, 99: decrypt.CodeTerminalNotActive,
	} {
		l := newLaboratory(t, dukpt.TDES)
		res := l.accept(l.sign(l.sale(1, 100), 1))
		l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = status })
		_, err := l.service.Answer(t.Context(), l.caller, decrypt.AnswerRequest{Digest: res.Digest, Result: message.Approved})
		if codeOf(err) != want {
			t.Errorf("%v: %v, want %s", status, err, want)
		}
	}
}
