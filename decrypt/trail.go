package decrypt

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/message"
)

// kept is a refusal that stands in the audit log already: the store recorded it together with what it decided.
type kept struct{ refusal *Refusal }

// Error returns the text of the refusal.
func (k *kept) Error() string { return k.refusal.Error() }

// Unwrap returns the refusal.
func (k *kept) Unwrap() error { return k.refusal }

// Refuse records a refusal that a request of caller met before it reached the service, and returns what the caller is told:
// the refusal, or that it could not be recorded. Action says what was asked, such as "answer". What the service could not do
// (Refusal.Unavailable) is no word about the request, and stands in the log of the service only.
func (s *Service) Refuse(ctx context.Context, caller Caller, action string, err error) error {
	return s.keepRefusal(ctx, err, audit.Record{
		Actor: caller.Name, Role: caller.Role, Tenant: string(caller.Tenant), Source: caller.Source, Action: action,
	})
}

// keepRefusal records err if it is a refusal to be recorded. The record says who asked for what.
func (s *Service) keepRefusal(ctx context.Context, err error, r audit.Record) error {
	refusal, ok := refused(err)
	if !ok || refusal.Unavailable() || refusal.again {
		return err
	}
	if _, ok := errors.AsType[*kept](err); ok {
		return refusal
	}
	r.Time, r.Instance, r.Result, r.Reason = s.clock(), s.instance, "REFUSED", string(refusal.Code)
	if e := s.store.Audit(ctx, r); e != nil {
		return s.storeFailed(ctx, e)
	}
	return refusal
}

// record is the audit record of this message, as far as it could be read.
func (t *transaction) record(result string, code Code) audit.Record {
	r := audit.Record{
		Time: t.clock(), Instance: t.instance, Actor: t.caller.Name, Role: t.caller.Role, Tenant: string(t.caller.Tenant),
		Source: t.caller.Source, Action: "transaction", Result: result, Reason: string(code),
		Digest: message.Digest(sha256.Sum256(t.req.Message)),
	}
	if t.received == nil {
		return r
	}
	p := t.received.Payload
	r.Action += "/" + p.Type.String()
	r.Object = string(p.Terminal) + "/" + p.MAC.KSN.String()
	r.Digest = t.received.Digest()
	if mac := t.keys[place{p.MAC.Slot, p.MAC.KSN}]; mac != nil {
		r.KCV = mac.info.KCV.String()
		r.Labels = auditLabels(mac.info.Labels)
	}
	return r
}
