package decrypt_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// codeOf is the code of a refusal, or what else the error says.
func codeOf(err error) decrypt.Code {
	if r, ok := errors.AsType[*decrypt.Refusal](err); ok {
		return r.Code
	}
	if err != nil {
		return decrypt.Code("not a refusal: " + err.Error())
	}
	return "no error"
}

func TestTheFirstAnswerStands(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		res := l.accept(l.sign(l.sale(1, 100), 1))
		req := decrypt.AnswerRequest{Digest: res.Digest, Result: message.Approved, Body: []byte("slip")}
		ctx := context.Background()
		first := must[*decrypt.AnswerResult](t)(l.service.Answer(ctx, l.caller, req))
		a := l.ack(first.Ack, 1)
		if a.Result != message.Approved || !a.Answers(res.Digest) || string(a.Body) != "slip" || len(a.Floors) != 2 || a.HostTime != l.clock.Now().Unix() {
			t.Errorf("ack %+v", a)
		}
		l.clock.Add(time.Hour)
		l.accept(l.sign(l.sale(2, 100), 2))
		again := must[*decrypt.AnswerResult](t)(l.service.Answer(ctx, l.caller, req))
		if first.Again || !again.Again || !bytes.Equal(first.Ack, again.Ack) {
			t.Errorf("again %v, %v; same bytes %v", first.Again, again.Again, bytes.Equal(first.Ack, again.Ack))
		}
		for name, other := range map[string]decrypt.AnswerRequest{
			"result": {Digest: res.Digest, Result: message.Declined, Body: []byte("slip")},
			"body":   {Digest: res.Digest, Result: message.Approved, Body: []byte("slop")},
			"none":   {Digest: res.Digest, Result: message.Approved},
		} {
			if _, err := l.service.Answer(ctx, l.caller, other); codeOf(err) != decrypt.CodeAnswerConflict {
				t.Errorf("another %s: %v", name, err)
			}
		}
		if got := l.recorded(decrypt.CodeAnswerConflict); got != 3 {
			t.Errorf("the audit log holds %d conflicting answers, want 3", got)
		}
	})
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		code   decrypt.Code
		change func(*laboratory, *decrypt.AnswerRequest)
	}{
		{"no such request", decrypt.CodeRequestUnknown, func(_ *laboratory, r *decrypt.AnswerRequest) { r.Digest[0] ^= 1 }},
		{"another tenant", decrypt.CodeRequestUnknown, func(l *laboratory, _ *decrypt.AnswerRequest) { l.caller.Tenant = "OTHER" }},
		{"another role", decrypt.CodeRoleNotPermitted, func(l *laboratory, _ *decrypt.AnswerRequest) { l.caller.Role = "operator" }},
		{"a result that is the service's", decrypt.CodeAnswerMalformed, func(_ *laboratory, r *decrypt.AnswerRequest) { r.Result = message.Held }},
		{"no result", decrypt.CodeAnswerMalformed, func(_ *laboratory, r *decrypt.AnswerRequest) { r.Result = 0 }},
		{"over-long body", decrypt.CodeAnswerMalformed, func(_ *laboratory, r *decrypt.AnswerRequest) { r.Body = make([]byte, message.MaxBody+1) }},
		{"revoked terminal", decrypt.CodeTerminalRevoked, func(l *laboratory, _ *decrypt.AnswerRequest) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusRevoked })
		}},
		{"engine gone", decrypt.CodeEngineUnavailable, func(l *laboratory, _ *decrypt.AnswerRequest) { l.engine.fail(engine.ErrUnavailable) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, dukpt.TDES)
			res := l.accept(l.sign(l.sale(1, 100), 1))
			good := decrypt.AnswerRequest{Digest: res.Digest, Result: message.Declined}
			bad, caller := good, l.caller
			terminals := clone(l.books.terminals)
			c.change(l, &bad)
			if _, err := l.service.Answer(context.Background(), l.caller, bad); codeOf(err) != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			if got, want := l.recorded(c.code), 1; got != want && c.code != decrypt.CodeEngineUnavailable {
				t.Errorf("the audit log holds %d refusals %s, want %d", got, c.code, want)
			}
			l.caller, l.books.terminals = caller, terminals
			l.engine.fail(nil)
			first := must[*decrypt.AnswerResult](t)(l.service.Answer(context.Background(), l.caller, good))
			if first.Again {
				t.Error("the refused answer had been recorded")
			}
		})
	}
}
