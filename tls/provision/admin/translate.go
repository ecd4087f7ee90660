package admin

import (
	"net/http"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/internal/strictjson"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// The codes that the face itself answers with, beside those of provision and serve.
const (
	CodeRoleNotPermitted = "RoleNotPermitted"
	CodeRequestMalformed = "RequestMalformed"
)

func forbidden(message string) error {
	return &serve.Problem{Status: http.StatusForbidden, Code: CodeRoleNotPermitted, Message: message,
		Hint: "use a certificate of a role that may ask for this"}
}

func malformed(message string) error {
	return &serve.Problem{Status: http.StatusBadRequest, Code: CodeRequestMalformed, Message: message,
		Hint: "compare the members with the documentation: unknown, repeated, wrong-case and null members are refused"}
}

// parseOperation reads the body of POST /operations.
func parseOperation(body []byte) (provision.Operation, error) {
	var w Operation
	if err := strictjson.Read(body, maxRequest, false, &w); err != nil {
		return provision.Operation{}, malformed(err.Error())
	}
	if w.Action == "" || w.Terminal == "" {
		return provision.Operation{}, malformed("members Action and Terminal are required")
	}
	op := provision.Operation{
		Action: provision.Action(w.Action), Short: w.Short, Slot: w.Slot,
		First: w.First, Last: w.Last, Count: w.Count, Reason: w.Reason,
	}
	if len(w.Endpoints) > 0 {
		op.Endpoints = w.Endpoints
	}
	var err error
	if op.Terminal, err = keyset.ParseTerminal(w.Terminal); err != nil {
		return provision.Operation{}, malformed("member Terminal: want 1 to 32 of A-Z, 0-9 and -")
	}
	for _, s := range w.Slots {
		id, err := keyset.ParseID(s.KeySet)
		if err != nil {
			return provision.Operation{}, malformed("member Slots: that is not the name of a key set")
		}
		op.Slots = append(op.Slots, provision.SlotAssignment{Slot: s.Slot, KeySet: id})
	}
	if w.KeyID != "" {
		if op.KeyID, err = dukpt.ParseKeyID(w.KeyID); err != nil {
			return provision.Operation{}, malformed("member KeyId: that is not a key id")
		}
	}
	if w.Lifetime < 0 || w.Lifetime > int64((365*24*time.Hour)/time.Second) || w.Until < 0 {
		return provision.Operation{}, malformed("members Lifetime and Until are seconds")
	}
	op.Lifetime = time.Duration(w.Lifetime) * time.Second
	if w.Until > 0 {
		op.Until = time.Unix(w.Until, 0).UTC()
	}
	return op, nil
}

// describe is a terminal in the words of the wire.
func describe(t *provision.Terminal) Terminal {
	out := Terminal{
		Terminal: string(t.ID), Status: t.Status.String(), Generation: t.Generation, Slots: []Slot{}, Endpoints: t.Endpoints,
		Serial: t.Serial, NotAfter: unix(t.NotAfter), PreviousSerial: t.PreviousSerial, PreviousUntil: unix(t.PreviousUntil),
		Agreement: t.AgreementSerial, Reason: t.StatusReason,
	}
	if out.Endpoints == nil {
		out.Endpoints = []string{}
	}
	for _, s := range t.Slots {
		slot := Slot{Slot: s.Number, KeySet: string(s.KeySet), Wanted: s.Wanted, Keys: []Key{}}
		for _, k := range s.Keys {
			slot.Keys = append(slot.Keys, Key{
				KeyID: k.ID.String(), State: k.State.String(), Delivered: unix(k.Delivered), FirstSeen: unix(k.FirstSeen), High: k.High,
			})
		}
		out.Slots = append(out.Slots, slot)
	}
	for _, g := range t.DrainGrants {
		out.Grants = append(out.Grants, DrainGrant{
			ID: g.ID, Slot: g.Slot, KeyID: g.KeyID.String(), First: g.First, Last: g.Last, Count: g.Count, Until: unix(g.Until),
		})
	}
	return out
}

func describeApproval(a *provision.Approval) Approval {
	return Approval{
		ID: a.ID, By: a.Requester.Name, At: unix(a.Created), Expires: unix(a.Expires), Operation: describeOperation(a.Operation),
	}
}

// describeOperation is an operation in the words of the wire, as parseOperation reads it.
func describeOperation(op provision.Operation) Operation {
	out := Operation{
		Action: string(op.Action), Terminal: string(op.Terminal), Endpoints: op.Endpoints, Short: op.Short,
		Lifetime: int64(op.Lifetime / time.Second), Slot: op.Slot, First: op.First, Last: op.Last, Count: op.Count,
		Until: unix(op.Until), Reason: op.Reason,
	}
	if !op.KeyID.IsZero() {
		out.KeyID = op.KeyID.String()
	}
	for _, s := range op.Slots {
		out.Slots = append(out.Slots, SlotAssignment{s.Slot, string(s.KeySet)})
	}
	return out
}

// describeCertificates is a list of certificates in the words of the wire.
func describeCertificates(all []provision.Issuance) []Certificate {
	out := make([]Certificate, 0, len(all))
	for _, c := range all {
		out = append(out, Certificate{
			Serial: c.Serial, Terminal: string(c.Terminal), Role: c.Role.String(), Issued: unix(c.Issued), NotAfter: unix(c.NotAfter),
			State: string(c.State),
		})
	}
	return out
}
