package decrypt

import (
	"bytes"
	"context"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// AnswerRequest is the host's decision on a message.
type AnswerRequest struct {
	Digest message.Digest // TransactionResult.Digest
	Result message.Result // Approved or Declined
	Body   []byte         // for the terminal, unread; at most message.MaxBody bytes
}

// AnswerResult is the acknowledgement for the terminal.
type AnswerResult struct {
	Ack    []byte
	Again  bool          // the same answer had been recorded before
	Labels engine.Labels // of the key that the acknowledgement is MACed under
}

// Answer records the host's decision durably and returns its acknowledgement. The first decision on a message stands:
// the same one again returns the very bytes of the recorded acknowledgement, another one is CodeAnswerConflict. The
// acknowledgement is MACed under the response key of the KSN that the request was MACed under; for a resend that is the
// fresh one of the resend. Errors are a *Refusal.
func (s *Service) Answer(ctx context.Context, caller Caller, req AnswerRequest) (*AnswerResult, error) {
	res, err := s.answer(ctx, caller, req)
	if err != nil {
		return nil, s.keepRefusal(ctx, err, audit.Record{
			Actor: caller.Name, Role: caller.Role, Tenant: string(caller.Tenant), Source: caller.Source, Action: "answer",
			Digest: req.Digest,
		})
	}
	return res, nil
}

func (s *Service) answer(ctx context.Context, caller Caller, req AnswerRequest) (*AnswerResult, error) {
	if err := caller.Check(); err != nil {
		return nil, err
	}
	if req.Result != message.Approved && req.Result != message.Declined {
		return nil, refuse(CodeAnswerMalformed, "the result is neither APPROVED nor DECLINED")
	}
	if len(req.Body) > message.MaxBody {
		return nil, refuse(CodeAnswerMalformed, "body of %d bytes, want at most %d", len(req.Body), message.MaxBody)
	}
	stored, ok, err := s.store.LookupRequest(ctx, req.Digest)
	if err != nil {
		return nil, s.storeFailed(ctx, err)
	}
	if !ok || stored.Tenant != caller.Tenant || len(stored.Context) == 0 {
		return nil, refuse(CodeRequestUnknown, "digest %v", req.Digest)
	}
	a, err := parseAsked(stored.Context)
	if err != nil {
		return nil, s.storeFailed(ctx, err)
	}
	terminal, set, info, err := s.answering(ctx, stored.Tenant, a)
	if err != nil {
		return nil, err
	}
	recorded, err := s.repeated(ctx, req)
	if err != nil {
		return nil, err
	}
	if recorded != nil {
		recorded.Labels = info.Labels
		return recorded, nil
	}
	ops, err := s.engine.Begin(ctx, set.BaseKey, a.ksn)
	if err != nil {
		return nil, s.engineFailed(ctx, err)
	}
	defer ops.End()
	done, err := s.acknowledge(ctx, acknowledgement{
		caller: caller, ops: ops, set: set, info: info, terminal: terminal, used: []place{{a.slot, a.ksn}}, digests: a.digests,
		original: stored.Original, result: req.Result, body: req.Body,
	})
	if err != nil {
		return nil, err
	}
	return &AnswerResult{Ack: done.Ack, Again: done.Again, Labels: info.Labels}, nil
}

// repeated returns the recorded acknowledgement of the same answer, without which none is made twice.
func (s *Service) repeated(ctx context.Context, req AnswerRequest) (*AnswerResult, error) {
	recorded, ok, err := s.store.LookupAnswer(ctx, req.Digest)
	if err != nil {
		return nil, s.storeFailed(ctx, err)
	}
	if !ok || recorded.Result != req.Result || !bytes.Equal(recorded.Body, req.Body) || len(recorded.Ack) == 0 {
		return nil, nil
	}
	return &AnswerResult{Ack: recorded.Ack, Again: true}, nil
}

// answering finds who is answered, and under which key.
func (s *Service) answering(ctx context.Context, tenant keyset.TenantID, a asked) (*keyset.Terminal, *keyset.KeySet, engine.KeyInfo, error) {
	terminal, err := s.admitted(tenant, a.terminal, message.Sale)
	if err != nil {
		return nil, nil, engine.KeyInfo{}, err
	}
	slot, ok := terminal.Key(a.slot, a.ksn.KeyID())
	if !ok {
		return nil, nil, engine.KeyInfo{}, refuse(CodeKeyIDMismatch, "KSN %v is not of a key in slot %d", a.ksn, a.slot)
	}
	if err := checkSlot(slot, message.Sale); err != nil {
		return nil, nil, engine.KeyInfo{}, err
	}
	set, err := s.keySetOf(terminal, slot)
	if err != nil {
		return nil, nil, engine.KeyInfo{}, err
	}
	info, err := s.describe(ctx, set)
	return terminal, set, info, err
}

// acknowledgement is everything that an ack is made of, and for an answer of the host what is recorded with it.
type acknowledgement struct {
	caller   Caller           // of an answer
	ops      engine.HostOps   // of the KSN that the request was MACed under
	set      *keyset.KeySet   // of that KSN
	info     engine.KeyInfo   // of an answer
	terminal *keyset.Terminal // that is told
	used     []place          // keys of the request as far as they are known, that of its MAC first
	digests  []message.Digest // of the message as received, and of the one in it
	original message.Digest   // of an answer
	result   message.Result
	body     []byte
}

// acknowledge makes the acknowledgement of an answer and records both. What comes back is what is recorded.
func (s *Service) acknowledge(ctx context.Context, a acknowledgement) (Answer, error) {
	ack, err := s.ack(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	now, ksn := s.clock(), a.used[0].ksn
	done, err := s.store.RecordAnswer(ctx, Answer{
		Digest: a.digests[0], Original: a.original, Tenant: a.terminal.Tenant, Result: a.result, Body: a.body, Ack: ack,
		KSN: ksn, Time: now,
		Audit: audit.Record{
			Time: now, Instance: s.instance, Actor: a.caller.Name, Role: a.caller.Role, Tenant: string(a.terminal.Tenant),
			Source: a.caller.Source, Action: "answer", Object: string(a.terminal.ID) + "/" + ksn.String(),
			Result: a.result.String(), Digest: a.digests[0], KCV: a.info.KCV.String(), Labels: auditLabels(a.info.Labels),
		},
	})
	if err != nil {
		err = s.storeFailed(ctx, err)
		if r, ok := refused(err); ok && !r.Unavailable() {
			return Answer{}, &kept{r}
		}
		return Answer{}, err
	}
	return done, nil
}

// recorded is the answer that the host gave earlier, with an acknowledgement for the message at hand: the recorded one,
// or, for a resend that has none yet, a new one that is recorded now.
func (t *transaction) recorded(ctx context.Context, a Answer) (*Recorded, error) {
	if len(a.Ack) == 0 {
		mac := t.macKey()
		done, err := t.acknowledge(ctx, acknowledgement{
			caller: t.caller, ops: mac.ops, set: mac.set, info: mac.info, terminal: t.terminal, used: t.places(),
			digests: t.received.Digests(), original: t.m.Digest(), result: a.Result, body: a.Body,
		})
		if err != nil {
			return nil, err
		}
		a = done
	}
	return &Recorded{Result: a.Result, Body: a.Body, Ack: a.Ack}, nil
}

func auditLabels(l engine.Labels) audit.Labels {
	return audit.Labels{KeyMode: l.KeyMode.String(), PINExposure: l.PINExposure.String(), Environment: l.Environment.String()}
}
