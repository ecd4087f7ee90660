package keydist

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// The actions of audit records and of Config.Observe.
const (
	actionDeliver  = "deliver"
	actionCertify  = "certify"
	actionSettle   = "settle"
	actionWithdraw = "withdraw"
	actionAdopt    = "adopt"
)

// order is one order under way: who gave it and what is known about it for the audit log.
type order struct {
	host   *Host
	caller Caller
	action string
	object string
	digest [32]byte
	info   KeyInfo // of the base key, once it is known
}

func (h *Host) order(caller Caller, action string) *order {
	return &order{host: h, caller: caller, action: action}
}

// read takes the bytes of the order as they would be sent, and so whether it is one, what it is about for the audit log, and
// whether it is for the tenant of the host.
func (o *order) read(m interface{ Marshal() ([]byte, error) }, tenant keyset.TenantID, object string) error {
	b, err := m.Marshal()
	if err != nil {
		return refuse(CodeOrderMalformed, err.Error())
	}
	o.digest, o.object = sha256.Sum256(b), object
	if tenant != o.host.c.Tenant {
		return refuse(CodeTenantMismatch, "")
	}
	return nil
}

// admit refuses whoever is not the registration authority of the tenant.
func (o *order) admit() error {
	id, tenant := o.caller.Identity, string(o.host.c.Tenant)
	if id.Role != identity.RA {
		return refuse(CodeRoleNotPermitted, "")
	}
	if id.Tenant != tenant {
		return refuse(CodeRoleNotPermitted, "a caller of another tenant")
	}
	return nil
}

// record is an audit record of the order. The store sets its sequence.
func (o *order) record(result, reason string) audit.Record {
	return audit.Record{
		Time: o.host.c.Clock(), Instance: o.host.c.Instance, Actor: o.caller.Identity.Name, Role: o.caller.Identity.Role.String(),
		Tenant: o.caller.Identity.Tenant, Source: o.caller.Source, Action: o.action, Object: o.object,
		Result: result, Reason: reason, Digest: o.digest, KCV: o.info.KCV, Labels: o.info.Labels,
	}
}

// end counts what became of the order, records a refusal, and returns what the caller is told. What the host could not do
// is no word about the order: it stands in the log of the host only, with its cause.
func (o *order) end(ctx context.Context, result string, err error) error {
	if err == nil {
		o.host.c.Observe(o.action, result)
		return nil
	}
	refusal := asRefusal(err)
	if !refusal.Unavailable() {
		e := o.host.c.Store.Update(ctx, func(tx Tx) error { return tx.Audit(o.record("REFUSED", string(refusal.Code))) })
		if e != nil {
			err, refusal = e, asRefusal(e)
		}
	}
	if refusal.Unavailable() && ctx.Err() != nil {
		return ctx.Err() // the caller has gone
	}
	if refusal.Unavailable() {
		o.host.c.Logger.ErrorContext(ctx, "order failed", slog.String("action", o.action), slog.String("object", o.object),
			slog.String("code", string(refusal.Code)), slog.String("error", err.Error()))
	}
	o.host.c.Observe(o.action, string(refusal.Code))
	return refusal
}

// asRefusal returns the refusal in err. An error that has none is one of the store, whose cause is for the log alone.
func asRefusal(err error) *Refusal {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal
	}
	return refuse(CodeStoreUnavailable, "")
}
