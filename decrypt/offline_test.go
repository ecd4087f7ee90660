package decrypt_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
)

// TestAcksSayTheLimits has every ack say what the terminal may sell without the host, those of the service's own too, and none when
// there is nothing to say.
func TestAcksSayTheLimits(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		limits := message.Limits{
			Count: 3, Bytes: 4096, AgeSeconds: 3600, Amount: message.Amount{Minor: 10000, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		}
		for _, want := range []*message.Limits{nil, &limits} {
			l.offline = want
			l.service = l.over(l.books)
			ordinal := uint32(1)
			if want != nil {
				ordinal = 3
			}
			sale := l.accept(l.sign(l.sale(ordinal, 100), ordinal))
			answer := must[*decrypt.AnswerResult](t)(l.service.Answer(t.Context(), l.caller,
				decrypt.AnswerRequest{Digest: sale.Digest, Result: message.Approved}))
			in := l.accept(l.signInBoth(ordinal + 1))
			for name, ack := range map[string]*message.AckPayload{"answer": l.ack(answer.Ack, ordinal), "sign-in": l.ack(in.Ack, ordinal+1)} {
				switch {
				case want == nil && ack.Limits != nil:
					t.Errorf("%s: limits %+v, want none", name, ack.Limits)
				case want != nil && (ack.Limits == nil || *ack.Limits != *want):
					t.Errorf("%s: limits %+v, want %+v", name, ack.Limits, want)
				}
			}
		}
	})
}
