package admin

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
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
	if w.Action == "" || w.Terminal == "" && !wholesale(w.Action) {
		return provision.Operation{}, malformed("members Action and Terminal are required")
	}
	op := provision.Operation{
		Action: provision.Action(w.Action), Short: w.Short, Slot: w.Slot,
		First: w.First, Last: w.Last, Count: w.Count, Reason: w.Reason, Total: w.Total,
		KeySet: keyset.ID(w.KeySet), Successor: keyset.ID(w.Successor), Group: provision.Group(w.Group),
	}
	if len(w.Endpoints) > 0 {
		op.Endpoints = w.Endpoints
	}
	var err error
	if w.Terminal != "" || !wholesale(w.Action) {
		if op.Terminal, err = keyset.ParseTerminal(w.Terminal); err != nil {
			return provision.Operation{}, malformed("member Terminal: want 1 to 32 of A-Z, 0-9 and -")
		}
	}
	if op.Slots, err = slots(w.Slots); err != nil {
		return provision.Operation{}, err
	}
	if op.Labels, err = labels(w.Labels); err != nil {
		return provision.Operation{}, err
	}
	for _, text := range w.Parts {
		d, err := provision.ParseDigest(text)
		if err != nil {
			return provision.Operation{}, malformed("member Parts: want digests of 64 digits in lower-case hex")
		}
		op.Parts = append(op.Parts, d)
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

// wholesale reports whether an action names no terminal.
func wholesale(action string) bool { return provision.Action(action).Wholesale() }

func slots(all []SlotAssignment) (out []provision.SlotAssignment, _ error) {
	for _, s := range all {
		id, err := keyset.ParseID(s.KeySet)
		if err != nil {
			return nil, malformed("member Slots: that is not the name of a key set")
		}
		out = append(out, provision.SlotAssignment{Slot: s.Slot, KeySet: id})
	}
	return out, nil
}

func labels(all []Label) (out []provision.Label, _ error) {
	for _, l := range all {
		if l.Key == "" || l.Value == "" {
			return nil, malformed("member Labels: Key and Value are required")
		}
		out = append(out, provision.Label(l))
	}
	return out, nil
}

func describeLabels(all []provision.Label) (out []Label) {
	for _, l := range all {
		out = append(out, Label(l))
	}
	return out
}

// parsePart reads the body of POST /fleet. The caller wipes the seed.
func parsePart(body []byte) (provision.Part, error) {
	var w Part
	if err := strictjson.Read(body, maxPart, false, &w); err != nil {
		return provision.Part{}, malformed(err.Error())
	}
	if len(w.All) == 0 || len(w.All) > provision.MaxPart {
		return provision.Part{}, malformed("member Terminals: want 1 to " + strconv.Itoa(provision.MaxPart))
	}
	if w.Dry && (w.Seed != "" || w.Approval != "") {
		return provision.Part{}, malformed("member Dry: then neither Seed nor Approval")
	}
	p := provision.Part{Approval: w.Approval, Dry: w.Dry, Codes: w.Codes}
	for _, r := range w.All {
		id, err := keyset.ParseTerminal(r.Terminal)
		if err != nil {
			return provision.Part{}, malformed("member Terminal: want 1 to 32 of A-Z, 0-9 and -")
		}
		one := provision.Registration{Terminal: id, Endpoints: r.Endpoints, Group: provision.Group(r.Group)}
		if one.Slots, err = slots(r.Slots); err != nil {
			return provision.Part{}, err
		}
		if one.Labels, err = labels(r.Labels); err != nil {
			return provision.Part{}, err
		}
		if one.Keys, err = injected(r.Keys); err != nil {
			return provision.Part{}, err
		}
		p.All = append(p.All, one)
	}
	if !w.Dry && (w.Seed != "" || len(w.All[0].Keys) == 0) {
		seed, err := hex.DecodeString(w.Seed)
		if err != nil || len(seed) != provision.SeedSize {
			return provision.Part{}, malformed("member Seed: want 64 digits of hex")
		}
		p.Seed = secret.From(seed)
		secret.Wipe(seed)
	}
	return p, nil
}

func injected(all []InjectedKey) (out []provision.InjectedKey, _ error) {
	for _, k := range all {
		id, err := dukpt.ParseKeyID(k.KeyID)
		if err != nil {
			return nil, malformed("member KeyId: that is not a key id")
		}
		if k.Counter == nil { // none is said, and not left out: what is left out would let everything through
			return nil, malformed("member Counter: it is required; 0 says that none was used")
		}
		out = append(out, provision.InjectedKey{Slot: k.Slot, KeyID: id, Counter: *k.Counter})
	}
	return out, nil
}

func describeSlots(all []provision.SlotAssignment) (out []SlotAssignment) {
	for _, s := range all {
		out = append(out, SlotAssignment{s.Slot, string(s.KeySet)})
	}
	return out
}

// describeEnlisted is what became of a part, in the words of the wire.
func describeEnlisted(all []provision.Enlisted) enlistedList {
	out := enlistedList{Terminals: make([]Enlisted, len(all))}
	for i, e := range all {
		one := Enlisted{Terminal: string(e.Terminal), Code: string(e.Code), Ticket: string(e.Ticket.Expose()), Expires: unix(e.Expires)}
		if info, ok := e.Code.Info(); ok {
			one.Message = info.Meaning
			if e.Detail != "" {
				one.Message += ": " + e.Detail
			}
		}
		out.Terminals[i] = one
	}
	return out
}

// describe is a terminal in the words of the wire.
func describe(t *provision.Terminal) Terminal {
	out := Terminal{
		Terminal: string(t.ID), Status: t.Status.String(), Generation: t.Generation, Slots: []Slot{}, Endpoints: t.Endpoints,
		Serial: t.Serial, NotAfter: unix(t.NotAfter), PreviousSerial: t.PreviousSerial, PreviousUntil: unix(t.PreviousUntil),
		Agreement: t.AgreementSerial, Reason: t.StatusReason, Group: string(t.Group), Labels: describeLabels(t.Labels),
	}
	if out.Endpoints == nil {
		out.Endpoints = []string{}
	}
	for _, s := range t.Slots {
		slot := Slot{Slot: s.Number, KeySet: string(s.KeySet), Wanted: s.Wanted, Keys: []Key{}}
		for _, k := range s.Keys {
			slot.Keys = append(slot.Keys, Key{
				KeyID: k.ID.String(), State: k.State.String(), Delivered: unix(k.Delivered), FirstSeen: unix(k.FirstSeen), High: k.High,
				Imported: k.Imported, Floor: k.Floor,
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
		Until: unix(op.Until), Reason: op.Reason, Total: op.Total, Group: string(op.Group), Labels: describeLabels(op.Labels),
		Slots: describeSlots(op.Slots), KeySet: string(op.KeySet), Successor: string(op.Successor),
	}
	if !op.KeyID.IsZero() {
		out.KeyID = op.KeyID.String()
	}
	for _, d := range op.Parts {
		out.Parts = append(out.Parts, d.String())
	}
	return out
}

func describeCampaign(c *provision.Campaign) Campaign {
	out := Campaign{
		KeySet: string(c.KeySet), Stopped: c.Stopped, Told: c.Told, Successor: string(c.Successor), Since: unix(c.Since), Names: c.Names,
		Ordering: c.Ordering, Slots: make(map[string]int), Hit: []HitSlot{}, More: c.More,
	}
	for p := provision.ProgressWaiting; p <= provision.ProgressOut; p++ {
		out.Slots[p.String()] = c.Slots[p]
	}
	for _, h := range c.Hit {
		out.Hit = append(out.Hit, HitSlot{string(h.Terminal), h.Status.String(), h.Slot, string(h.KeySet), h.Progress.String()})
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
