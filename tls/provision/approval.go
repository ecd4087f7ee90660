package provision

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

const (
	approvalTerm = 24 * time.Hour       // how long an operation waits for a second person
	approvalKept = 365 * 24 * time.Hour // how long approvals are kept
	maxWaiting   = 256                  // operations that wait at once
)

// Approval is an operation that needs a second person. It is plain data; Marshal and UnmarshalApproval give its stored
// form.
type Approval struct {
	ID           string // 26 characters of Crockford's base 32
	Operation    Operation
	Requester    identity.Identity
	Source       string // where the requester called from
	Created      time.Time
	Expires      time.Time
	Status       keyset.Status // of the terminal when it was filed; zero when there was none
	StatusSince  time.Time
	Approver     identity.Identity // zero while it waits
	Approved     time.Time
	SelfApproved bool // requester and approver are one person, which a test environment permits
}

// file files an operation that is possible now for somebody else to approve. The same operation of the same person waits
// once.
func (e *Engine) file(ctx context.Context, p *execution) (*Outcome, error) {
	if err := e.prepare(p); err != nil {
		return nil, err
	}
	err := e.update(ctx, func(t *transaction) error {
		row, _, err := t.Terminal(p.op.Terminal)
		if err != nil {
			return err
		}
		p.approval.about(row)
		if _, err := t.perform(p); err != nil {
			return err
		}
		return errDry
	})
	if !errors.Is(err, errDry) {
		return nil, err
	}
	err = e.update(ctx, func(t *transaction) error {
		waiting := 0
		var same *Approval
		err := t.Approvals(func(a *Approval) error {
			if !a.Waits(t.now) {
				return nil
			}
			waiting++
			if a.Requester == p.actor.Identity && a.Operation.same(&p.op) &&
				a.Status == p.approval.Status && a.StatusSince.Equal(p.approval.StatusSince) {
				same = a
			}
			return nil
		})
		if err != nil {
			return err
		}
		if same != nil {
			p.approval = same
			return nil
		}
		if waiting >= maxWaiting {
			return refuse(CodeOperationMalformed, "%d operations wait for approval already", waiting)
		}
		if err := t.PutApproval(p.approval); err != nil {
			return err
		}
		r := p.actor.record(p.op.action(), p.op.target(p.slots))
		r.Result, r.Reason, r.Approvals = resultFiled, "approval "+p.approval.ID, p.approval.names()
		return t.note(r)
	})
	if err != nil {
		return nil, err
	}
	return &Outcome{Approval: p.approval}, nil
}

// Approvals returns the operations that wait for a second person, by the time they were asked for.
func (e *Engine) Approvals(ctx context.Context) ([]*Approval, error) {
	var out []*Approval
	err := e.view(ctx, func(tx Tx) error {
		out = nil
		return tx.Approvals(func(a *Approval) error {
			if a.Waits(e.now()) {
				out = append(out, a)
			}
			return nil
		})
	})
	return out, err
}

// Approve carries out an operation that somebody else has asked for. Errors are a *Refusal.
func (e *Engine) Approve(ctx context.Context, actor Actor, id string) (*Outcome, error) {
	record := actor.record("approve", "")
	if err := e.permitted(actor, identity.Operator); err != nil {
		return nil, e.refused(ctx, record, err)
	}
	if !isID(id) {
		return nil, e.refused(ctx, record, refuse(CodeApprovalUnknown, ""))
	}
	record.Object = id
	outcome, err := e.approve(ctx, actor, id)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	return outcome, nil
}

func (e *Engine) approve(ctx context.Context, actor Actor, id string) (*Outcome, error) {
	var a *Approval
	err := e.view(ctx, func(tx Tx) error {
		var err error
		a, err = e.waiting(tx, actor, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := &execution{op: a.Operation, actor: actor, approval: a, filed: true}
	defer p.wipe()
	a.Approver, a.Approved, a.SelfApproved = actor.Identity, e.now(), a.Requester.Name == actor.Identity.Name
	return e.carryOut(ctx, p)
}

// waiting returns an operation that the actor may approve now.
func (e *Engine) waiting(tx Tx, actor Actor, id string) (*Approval, error) {
	a, ok, err := tx.Approval(id)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, refuse(CodeApprovalUnknown, "%s", id)
	case !a.Waits(e.now()):
		return nil, refuse(CodeApprovalSettled, "%s", id)
	case a.Requester.Name == actor.Identity.Name && e.config.Environment != keyset.Test:
		return nil, refuse(CodeApprovalSelf, "")
	}
	return a, nil
}

// about notes how a terminal stands, nil for none.
func (a *Approval) about(row *Terminal) {
	if row != nil {
		a.Status, a.StatusSince = row.Status, row.StatusSince
	}
}

// stands refuses an operation on a terminal whose status has changed since it was filed: whoever asked for it did not know
// of the evidence, the block or whatever else came later.
func (t *transaction) stands(a *Approval) error {
	row, ok, err := t.Terminal(a.Operation.Terminal)
	if err != nil || !ok {
		return err
	}
	if a.Status == 0 {
		return refuse(CodeTerminalExists, "%s is %v", row.ID, row.Status)
	}
	if row.Status != a.Status || !row.StatusSince.Equal(a.StatusSince) {
		return refuse(CodeApprovalSettled, "terminal %s is %v since %s, and was %v when it was asked for",
			row.ID, row.Status, stamp(row.StatusSince), a.Status)
	}
	return nil
}

// Waits reports whether the approval waits for a second person at a time.
func (a *Approval) Waits(now time.Time) bool { return a.Approver.IsZero() && now.Before(a.Expires) }

// names returns who stands behind the operation, for the audit log.
func (a *Approval) names() []string {
	if a.Approver.IsZero() || a.SelfApproved {
		return []string{a.Requester.Name}
	}
	return []string{a.Requester.Name, a.Approver.Name}
}

func (a *Approval) check() error {
	if !isID(a.ID) {
		return malformed("approval id is not 26 characters of Crockford's base 32")
	}
	if err := a.Requester.Validate(); err != nil {
		return malformed("%v", err)
	}
	if !a.Approver.IsZero() {
		if err := a.Approver.Validate(); err != nil {
			return malformed("%v", err)
		}
	}
	if len(a.Source) > maxSource {
		return malformed("source is too long")
	}
	if err := a.Operation.check(); err != nil {
		return malformed("%v", err)
	}
	if a.Status != 0 {
		if _, err := a.Status.MarshalText(); err != nil {
			return malformed("%v", err)
		}
	}
	return checkTimes(a.Created, a.Expires, a.StatusSince, a.Approved, a.Operation.Until)
}

// wireApproval is the stored form of an approval.
type wireApproval struct {
	Version      uint          `cbor:"v"`
	ID           string        `cbor:"id"`
	Operation    wireOperation `cbor:"operation"`
	Requester    string        `cbor:"requester"`
	Source       string        `cbor:"source,omitempty"`
	Created      int64         `cbor:"created,omitempty"`
	Expires      int64         `cbor:"expires,omitempty"`
	Status       string        `cbor:"status,omitempty"`
	StatusSince  int64         `cbor:"status-since,omitempty"`
	Approver     string        `cbor:"approver,omitempty"`
	Approved     int64         `cbor:"approved,omitempty"`
	SelfApproved bool          `cbor:"self-approved,omitempty"`
}

type wireOperation struct {
	Action    string           `cbor:"action"`
	Terminal  string           `cbor:"terminal,omitempty"`
	Slots     []wireAssignment `cbor:"slots,omitempty"`
	Endpoints []string         `cbor:"endpoints,omitempty"`
	Short     bool             `cbor:"short,omitempty"`
	Lifetime  int64            `cbor:"lifetime,omitempty"`
	Slot      uint8            `cbor:"slot,omitempty"`
	KeyID     []byte           `cbor:"key-id,omitempty"`
	First     uint32           `cbor:"first,omitempty"`
	Last      uint32           `cbor:"last,omitempty"`
	Count     uint32           `cbor:"count,omitempty"`
	Until     int64            `cbor:"until,omitempty"`
	Reason    string           `cbor:"reason,omitempty"`
	Group     string           `cbor:"group,omitempty"`
	Labels    []wireLabel      `cbor:"labels,omitempty"`
	Total     int              `cbor:"total,omitempty"`
	Parts     []byte           `cbor:"parts,omitempty"` // one digest behind the other
	KeySet    string           `cbor:"key-set,omitempty"`
	Successor string           `cbor:"successor,omitempty"`
	Keys      []wireInjected   `cbor:"keys,omitempty"` // of lists only, which have a digest and are not stored
}

type wireInjected struct {
	Slot    uint8  `cbor:"slot"`
	KeyID   []byte `cbor:"key-id"`
	Counter uint32 `cbor:"counter,omitempty"`
}

type wireAssignment struct {
	Slot   uint8  `cbor:"slot"`
	KeySet string `cbor:"key-set"`
}

// Marshal returns the stored form of an approval that breaks no rule. The error wraps ErrFormat.
func (a *Approval) Marshal() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	w := &wireApproval{
		Version: formatVersion, ID: a.ID, Operation: a.Operation.wire(), Requester: a.Requester.String(), Source: a.Source,
		Created: seconds(a.Created), Expires: seconds(a.Expires), StatusSince: seconds(a.StatusSince), Approved: seconds(a.Approved), SelfApproved: a.SelfApproved,
	}
	if a.Status != 0 {
		w.Status = a.Status.String()
	}
	if !a.Approver.IsZero() {
		w.Approver = a.Approver.String()
	}
	return form.Marshal(w)
}

func (o *Operation) wire() wireOperation {
	w := wireOperation{
		Action: string(o.Action), Terminal: string(o.Terminal), Endpoints: o.Endpoints, Short: o.Short,
		Lifetime: int64(o.Lifetime / time.Second), Slot: o.Slot, First: o.First, Last: o.Last, Count: o.Count,
		Until: seconds(o.Until), Reason: o.Reason, Group: string(o.Group), Labels: wireLabels(o.Labels), Total: o.Total,
		Parts: joinDigests(o.Parts), KeySet: string(o.KeySet), Successor: string(o.Successor),
	}
	if !o.KeyID.IsZero() {
		w.KeyID = o.KeyID.Append(nil)
	}
	for _, s := range o.Slots {
		w.Slots = append(w.Slots, wireAssignment{s.Slot, string(s.KeySet)})
	}
	return w
}

// UnmarshalApproval reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func UnmarshalApproval(b []byte) (*Approval, error) {
	var w wireApproval
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	a := &Approval{
		ID: w.ID, Source: w.Source, Created: fromSeconds(w.Created), Expires: fromSeconds(w.Expires),
		StatusSince: fromSeconds(w.StatusSince), Approved: fromSeconds(w.Approved), SelfApproved: w.SelfApproved,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	a.Operation = r.operation(w.Operation)
	a.Requester = r.identity(w.Requester)
	if w.Status != "" {
		r.Text(&a.Status, w.Status)
	}
	if w.Approver != "" {
		a.Approver = r.identity(w.Approver)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, a, b)
}

func (r *reader) identity(s string) identity.Identity {
	id, err := identity.ParseURI(s)
	if err != nil {
		r.Fail("%v", err)
	}
	return id
}

func (r *reader) operation(w wireOperation) Operation {
	const longest = int64(maxLifetime / time.Second)
	if w.Lifetime < 0 || w.Lifetime > longest {
		r.Fail("lifetime of %d s", w.Lifetime)
	}
	o := Operation{
		Action: Action(w.Action), Terminal: keyset.TerminalID(w.Terminal), Endpoints: w.Endpoints, Short: w.Short,
		Lifetime: time.Duration(w.Lifetime) * time.Second, Slot: w.Slot, First: w.First, Last: w.Last, Count: w.Count,
		Until: fromSeconds(w.Until), Reason: w.Reason, Group: Group(w.Group), Labels: labelsOf(w.Labels), Total: w.Total,
		Parts: r.digests(w.Parts), KeySet: keyset.ID(w.KeySet), Successor: keyset.ID(w.Successor),
	}
	r.Binary(&o.KeyID, w.KeyID)
	for _, s := range w.Slots {
		o.Slots = append(o.Slots, SlotAssignment{s.Slot, keyset.ID(s.KeySet)})
	}
	return o
}
