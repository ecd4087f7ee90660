package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// maxTerminals is what a snapshot of the feed holds.
const maxTerminals = 200_000

// errDry ends a transaction that was only to show whether an operation is possible.
var errDry = errors.New("provision: nothing was to be changed")

// execution is one operation under way.
type execution struct {
	op       Operation
	slots    []SlotAssignment // of ActionRekey: those that get a key
	actor    Actor            // who carries it out
	approval *Approval        // nil when it needs none
	filed    bool             // the approval has waited in the store
	code     secret.Bytes     // of ActionCode
	pin      string
}

func (p *execution) wipe() { p.code.Wipe() }

// Do carries an operation out, or files it for approval when it needs a second person. In a test environment the operator
// approves his own operations. Every attempt is in the audit log. Errors are a *Refusal.
func (e *Engine) Do(ctx context.Context, actor Actor, op Operation) (*Outcome, error) {
	record := actor.record(op.action(), op.object())
	if err := e.permitted(actor, identity.Operator); err != nil {
		return nil, e.refused(ctx, record, err)
	}
	op.Until = op.Until.UTC()
	if err := op.check(); err != nil {
		return nil, e.refused(ctx, record, refuse(CodeOperationMalformed, "%v", err))
	}
	record.Object = op.target(op.Slots)
	outcome, err := e.do(ctx, actor, op)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	return outcome, nil
}

// action returns the action for the audit log, which takes any text.
func (o *Operation) action() string {
	if _, err := o.fields(); err != nil {
		return "terminal/unknown"
	}
	if o.Action == ActionCompromiseSet {
		return "key-set/compromise"
	}
	return "terminal/" + string(o.Action)
}

func (o *Operation) object() string {
	if _, err := keyset.ParseTerminal(string(o.Terminal)); err != nil {
		return ""
	}
	return string(o.Terminal)
}

// target says for the audit log what an operation that is in order is about: the terminal, and the slots that get another
// key or the messages that are let through.
func (o *Operation) target(slots []SlotAssignment) string {
	switch o.Action {
	case ActionRekey:
		text := string(o.Terminal) + " slots"
		for _, s := range slots {
			text += fmt.Sprintf(" %d=%s", s.Slot, s.KeySet)
		}
		if len(slots) == 0 && o.Slot != 0 {
			text += fmt.Sprintf(" %d", o.Slot)
		}
		return strings.TrimSuffix(text, " slots")
	case ActionFleet, ActionImport, ActionCodes:
		return fmt.Sprintf("%d terminals, list %v", o.Total, o.Digest())
	case ActionCompromiseSet:
		return string(o.KeySet) + " to " + string(o.Successor)
	case ActionDrain:
		return fmt.Sprintf("%s/%d/%v ordinals %d to %d, %d messages, until %s", o.Terminal, o.Slot, o.KeyID, o.First, o.Last, o.Count, stamp(o.Until))
	}
	return string(o.Terminal)
}

func (e *Engine) do(ctx context.Context, actor Actor, op Operation) (*Outcome, error) {
	p := &execution{op: op, actor: actor}
	defer p.wipe()
	second, err := e.needsSecond(ctx, op)
	if err != nil {
		return nil, err
	}
	if !second {
		return e.carryOut(ctx, p)
	}
	now := e.now()
	p.approval = &Approval{
		ID: newID(), Operation: op, Requester: actor.Identity, Source: short(actor.Source), Created: now, Expires: now.Add(approvalTerm),
	}
	if e.config.Environment == keyset.Test {
		p.approval.Approver, p.approval.Approved, p.approval.SelfApproved = actor.Identity, now, true
		return e.carryOut(ctx, p)
	}
	return e.file(ctx, p)
}

func short(s string) string { return s[:min(len(s), maxSource)] }

// needsSecond reports whether an operation needs a second person: one that gives something. What only takes away is done
// at once.
func (e *Engine) needsSecond(ctx context.Context, op Operation) (bool, error) {
	switch op.Action {
	case ActionBlock, ActionCompromised, ActionRevoke, ActionLabel:
		return false, nil
	case ActionRegister, ActionFleet, ActionImport, ActionCodes, ActionCompromiseSet, ActionUnblock, ActionDrain, ActionRekey, ActionRetire:
		return true, nil
	case ActionCode:
		row, err := e.Terminal(ctx, op.Terminal)
		if err != nil {
			return false, err
		}
		return row.Serial != "", nil
	}
	return false, refuse(CodeOperationMalformed, "unknown action")
}

// prepare draws the code of an operation that hands one out, and gets the pin that goes with it.
func (e *Engine) prepare(p *execution) error {
	if p.op.Action != ActionCode {
		return nil
	}
	_, pin, err := e.config.TrustList()
	if err != nil || pin == "" {
		return &Refusal{Code: CodeTrustListUnavailable, Cause: err}
	}
	p.pin, p.code = pin, newCode(p.op.Short)
	return nil
}

// carryOut does what is to be done.
func (e *Engine) carryOut(ctx context.Context, p *execution) (*Outcome, error) {
	if err := e.prepare(p); err != nil {
		return nil, err
	}
	var row *Terminal
	err := e.update(ctx, func(t *transaction) error {
		if p.filed {
			a, err := e.waiting(t.Tx, p.actor, p.approval.ID)
			if err != nil {
				return err
			}
			if err := t.stands(a); err != nil {
				return err
			}
		}
		var err error
		if row, err = t.perform(p); err != nil {
			return err
		}
		if p.approval != nil {
			if err := t.PutApproval(p.approval); err != nil {
				return err
			}
		}
		return t.note(p.record())
	})
	if err != nil {
		return nil, err
	}
	out := &Outcome{Approval: p.approval, Terminal: row}
	if !p.code.IsZero() {
		out.Ticket = ticketOf(p.code, p.pin)
	}
	return out, nil
}

// record is the audit record of an operation that was carried out.
func (p *execution) record() audit.Record {
	r := p.actor.record(p.op.action(), p.op.target(p.slots))
	r.Result, r.Reason = resultDone, p.op.Reason
	if p.approval == nil {
		return r
	}
	r.Approvals = p.approval.names()
	switch {
	case p.approval.SelfApproved && r.Reason == "":
		r.Reason = selfApproved
	case p.approval.SelfApproved:
		r.Reason = selfApproved + ": " + r.Reason
	}
	return r
}

// selfApproved begins the reason in the audit log of what nobody else has approved.
const selfApproved = "self-approved"

// perform changes what an operation changes.
func (t *transaction) perform(p *execution) (*Terminal, error) {
	switch p.op.Action {
	case ActionRegister:
		return t.register(p)
	case ActionFleet, ActionImport, ActionCodes:
		return nil, nil // the approval is what changes
	case ActionCompromiseSet:
		return nil, t.compromise(p.op)
	}
	row, err := t.row(p.op.Terminal)
	if err != nil {
		return nil, err
	}
	switch p.op.Action {
	case ActionCode:
		err = t.handOut(row, p)
	case ActionLabel:
		row.Group, row.Labels = p.op.Group, slices.Clone(p.op.Labels)
	case ActionBlock:
		err = t.block(row, p.op)
	case ActionUnblock:
		err = t.unblock(row, p.op)
	case ActionCompromised:
		err = t.cutOff(row, p.op, keyset.StatusCompromised, reasonKeyCompromise)
	case ActionRevoke:
		err = t.cutOff(row, p.op, keyset.StatusRevoked, reasonWithdrawn)
	case ActionRetire:
		err = t.cutOff(row, p.op, keyset.StatusRetired, reasonCessation)
	case ActionRekey:
		err = t.rekey(row, p)
	case ActionDrain:
		err = t.grant(row, p.op)
	default:
		err = refuse(CodeOperationMalformed, "unknown action")
	}
	if err != nil {
		return nil, err
	}
	return row, t.save(row)
}

func (t *transaction) register(p *execution) (*Terminal, error) {
	old, ok, err := t.Terminal(p.op.Terminal)
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, refuse(CodeTerminalExists, "%s is %v", old.ID, old.Status)
	}
	if err := t.roomForTerminal(); err != nil {
		return nil, err
	}
	row, err := t.unregistered(p)
	if err != nil {
		return nil, err
	}
	return row, t.save(row)
}

// roomForTerminal refuses one more terminal than a snapshot of the feed holds.
func (t *transaction) roomForTerminal() error {
	if err := t.readEnd(); err != nil {
		return err
	}
	if t.end.objects >= maxTerminals {
		return refuse(CodeOperationMalformed, "%d terminals are registered, which is the most", t.end.objects)
	}
	return nil
}

// unregistered is the row of a terminal before it is kept.
func (t *transaction) unregistered(p *execution) (*Terminal, error) {
	registrar := p.actor.Identity.Name
	if p.approval != nil {
		registrar = p.approval.Requester.Name
	}
	row := &Terminal{
		Tenant: t.engine.config.Tenant, ID: p.op.Terminal, Status: keyset.StatusPending, StatusSince: t.now,
		Endpoints: slices.Clone(p.op.Endpoints), Registered: t.now, Registrar: registrar, Group: p.op.Group, Labels: slices.Clone(p.op.Labels),
	}
	if err := t.assign(row, p.op.Slots); err != nil {
		return nil, err
	}
	return row, checkEndpoints(row)
}

// checkEndpoints holds the endpoints to what an assignment may name.
func checkEndpoints(row *Terminal) error {
	a := remote.Assignment{
		Tenant: row.Tenant, Terminal: row.ID, Environment: keyset.Test, Endpoints: row.Endpoints,
		RenewAfter: row.Registered, RenewBefore: row.Registered,
	}
	if _, err := a.Marshal(); err != nil {
		return refuse(CodeOperationMalformed, "%v", err)
	}
	return nil
}

// assignable returns a key set that keys are delivered of.
func (t *transaction) assignable(id keyset.ID) (*keyset.KeySet, error) {
	set, ok := t.engine.config.KeySets(id)
	if !ok {
		return nil, refuse(CodeKeySetUnknown, "%s", id)
	}
	c := &t.engine.config
	if set.Tenant != c.Tenant || set.Environment != c.Environment || !set.State.Permits(keyset.Deliver) || set.Delivery == keyset.DeliveryNone {
		return nil, refuse(CodeKeySetNotPermitted, "%s is %v, for %v, with delivery %v", set.ID, set.State, set.Environment, set.Delivery)
	}
	over, err := stopped(t.Tx, set)
	if err == nil && over {
		err = refuse(CodeKeySetNotPermitted, "%s has no key id left, or was compromised", set.ID)
	}
	return set, err
}

// assign gives slots their key sets, for each of which the terminal is to fetch a key.
func (t *transaction) assign(row *Terminal, slots []SlotAssignment) error {
	for _, s := range slots {
		if _, err := t.assignable(s.KeySet); err != nil {
			return err
		}
		slot := row.slot(s.Slot)
		if slot == nil {
			row.Slots = append(row.Slots, Slot{Number: s.Slot})
			slices.SortFunc(row.Slots, func(a, b Slot) int { return int(a.Number) - int(b.Number) })
			slot = row.slot(s.Slot)
		}
		slot.KeySet, slot.Wanted, slot.WantedSince = s.KeySet, true, t.now
	}
	return nil
}

// handOut stores a new code for a terminal; the one before is void.
func (t *transaction) handOut(row *Terminal, p *execution) error {
	if !row.connects() {
		return refuse(CodeStatusNotPermitted, "terminal %s is %v", row.ID, row.Status)
	}
	if row.Serial != "" && p.approval == nil {
		return refuse(CodeStatusNotPermitted, "terminal %s has been enrolled meanwhile: ask again, for approval", row.ID)
	}
	return t.PutOneTimeCode(&OneTimeCode{
		Terminal: row.ID, Check: t.engine.checkValue(row.ID, p.code), State: StateOpen, Created: t.now,
		Expires: t.now.Add(cmp.Or(p.op.Lifetime, defaultLifetime)), Author: p.actor.Identity.Name,
	})
}

func (t *transaction) setStatus(row *Terminal, s keyset.Status, reason string) {
	row.Status, row.StatusReason, row.StatusSince = s, reason, t.now
}

func (t *transaction) block(row *Terminal, op Operation) error {
	switch row.Status {
	case keyset.StatusPending, keyset.StatusActive:
		t.setStatus(row, keyset.StatusBlocked, op.Reason)
		return nil
	case keyset.StatusBlocked:
		return refuse(CodeStatusUnchanged, "terminal %s is blocked since %s", row.ID, stamp(row.StatusSince))
	case keyset.StatusQuarantined:
		return refuse(CodeStatusNotPermitted, "terminal %s is quarantined, which holds it as a block does", row.ID)
	}
	return final(row)
}

func (t *transaction) unblock(row *Terminal, op Operation) error {
	switch row.Status {
	case keyset.StatusBlocked, keyset.StatusQuarantined:
		next := keyset.StatusPending
		if row.Confirmed {
			next = keyset.StatusActive
		}
		t.setStatus(row, next, op.Reason)
		row.DrainGrants = nil
		return nil
	case keyset.StatusPending, keyset.StatusActive:
		return refuse(CodeStatusUnchanged, "terminal %s is %v", row.ID, row.Status)
	}
	return final(row)
}

// final refuses what a terminal in a final status does not come back from.
func final(row *Terminal) error {
	return refuse(CodeStatusNotPermitted, "terminal %s is %v since %s, which is final: register the device under a new id",
		row.ID, row.Status, stamp(row.StatusSince))
}

func stamp(at time.Time) string { return at.Format(time.RFC3339) }

// cutOff takes everything from a terminal: its connections, its certificates and its code. What was cut off before can
// turn out to be worse. The revocation list then keeps the reason of the time: nobody may use those certificates anyway.
func (t *transaction) cutOff(row *Terminal, op Operation, status keyset.Status, reason int) error {
	if row.Status == status {
		return refuse(CodeStatusUnchanged, "terminal %s is %v since %s", row.ID, row.Status, stamp(row.StatusSince))
	}
	if severity(status) < severity(row.Status) {
		return final(row)
	}
	t.setStatus(row, status, op.Reason)
	row.DrainGrants = nil
	if err := t.revokeAll(row, reason); err != nil {
		return err
	}
	code, ok, err := t.OneTimeCode(row.ID)
	if err != nil || !ok || code.State == StateVoid {
		return err
	}
	code.State = StateVoid
	return t.PutOneTimeCode(code)
}

// rekey has the terminal fetch new keys. Those that wait go on waiting: the terminal may have them.
func (t *transaction) rekey(row *Terminal, p *execution) error {
	op := p.op
	if !row.connects() {
		return refuse(CodeStatusNotPermitted, "terminal %s is %v", row.ID, row.Status)
	}
	slots := op.Slots
	if len(slots) == 0 {
		for _, s := range row.Slots {
			if op.Slot == 0 || op.Slot == s.Number {
				slots = append(slots, SlotAssignment{s.Number, s.KeySet})
			}
		}
	}
	if len(slots) == 0 {
		return refuse(CodeSlotUnknown, "slot %d", op.Slot)
	}
	p.slots = slots
	return t.assign(row, slots)
}

// grant lets a part of what a held terminal has queued through.
func (t *transaction) grant(row *Terminal, op Operation) error {
	if row.Status != keyset.StatusBlocked && row.Status != keyset.StatusQuarantined {
		return refuse(CodeStatusNotPermitted, "terminal %s is %v: only what is blocked or quarantined has something to let through", row.ID, row.Status)
	}
	slot := row.slot(op.Slot)
	if slot == nil || slot.key(op.KeyID) == nil {
		return refuse(CodeKeyUnknown, "slot %d, key id %v", op.Slot, op.KeyID)
	}
	if !op.Until.After(t.now) || op.Until.After(t.now.Add(maxGrantTerm)) {
		return refuse(CodeOperationMalformed, "until %s, want a moment in the next 31 days", stamp(op.Until))
	}
	row.DrainGrants = slices.DeleteFunc(row.DrainGrants, func(g keyset.DrainGrant) bool { return !t.now.Before(g.Until) })
	if len(row.DrainGrants) >= maxGrants {
		return refuse(CodeOperationMalformed, "terminal %s has %d drain grants, which is the most", row.ID, maxGrants)
	}
	row.DrainGrants = append(row.DrainGrants, keyset.DrainGrant{
		ID: newID(), Slot: op.Slot, KeyID: op.KeyID, First: op.First, Last: op.Last, Count: op.Count, Until: op.Until,
	})
	slices.SortFunc(row.DrainGrants, func(a, b keyset.DrainGrant) int { return strings.Compare(a.ID, b.ID) })
	return nil
}
