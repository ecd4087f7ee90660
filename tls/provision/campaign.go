package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

const (
	campaignStep  = 200       // terminals that are ordered to rekey in one transaction
	campaignScan  = 4000      // terminals that are looked at for that
	campaignTasks = 1_000_000 // more than ever wait
	forever       = 1 << 40   // Unix seconds
)

// Progress says how far a slot of a compromised key set is on its way to another one.
type Progress uint8

// The values of Progress, in their order.
const (
	// ProgressWaiting has no order to rekey yet.
	ProgressWaiting Progress = iota + 1
	// ProgressOrdered is to fetch a key of the other set.
	ProgressOrdered
	// ProgressDelivered has a key of the other set, which no sign-in has proved.
	ProgressDelivered
	// ProgressRekeyed works under the other set.
	ProgressRekeyed
	// ProgressOut is of a terminal that is revoked, retired or compromised: nothing is accepted from it.
	ProgressOut
)

var progressWords = words{"waiting", "ordered", "delivered", "rekeyed", "out"}

// String returns the word of the progress, or "invalid(n)".
func (p Progress) String() string { return progressWords.spell(uint8(p)) }

// HitSlot is a slot that a compromised key set is or was in.
type HitSlot struct {
	Terminal keyset.TerminalID
	Status   keyset.Status
	Slot     uint8
	KeySet   keyset.ID // that it is for now
	Progress Progress
}

// Campaign says how far a key set is from being out of use.
type Campaign struct {
	KeySet    keyset.ID
	Stopped   bool      // no key of it is delivered any more
	Told      bool      // the key-distribution host knows of that
	Successor keyset.ID // what slots are moved to; empty when none was named, or it was more than a year ago
	Since     time.Time // of the order; zero as Successor is empty
	Names     []string  // who stands behind it
	Ordering  bool      // orders to rekey are still being given
	Slots     map[Progress]int
	Hit       []HitSlot // a page of them, by terminal and slot
	More      bool
}

// touches reports whether a set is in a slot: the slot is for it, was moved away from it, or has a key of it that is not
// retired.
func (s *Slot) touches(set keyset.ID) bool {
	return s.KeySet == set || s.Left == set ||
		slices.ContainsFunc(s.Keys, func(k Key) bool { return k.KeySet == set && k.State != keyset.SlotRetired })
}

// progress says how far a slot is from a set that touches it.
func (t *Terminal) progress(s *Slot, set keyset.ID) Progress {
	active := s.active()
	switch {
	case !t.connects():
		return ProgressOut
	case s.KeySet == set:
		return ProgressWaiting
	case active != nil && active.KeySet != set:
		return ProgressRekeyed
	case slices.ContainsFunc(s.Keys, func(k Key) bool { return k.KeySet == s.KeySet && k.State == keyset.SlotPending }):
		return ProgressDelivered
	}
	return ProgressOrdered
}

// checkCompromise reports what is wrong with ActionCompromiseSet by itself.
func (o *Operation) checkCompromise() error {
	for _, id := range []keyset.ID{o.KeySet, o.Successor} {
		if _, err := keyset.ParseID(string(id)); err != nil {
			return err
		}
	}
	if o.KeySet == o.Successor {
		return errors.New("a key set does not follow itself")
	}
	return nil
}

// compromise ends the delivery of a key set, and begins the campaign that moves its slots to another one. From here on the
// registry orders no key of the set; the key-distribution host is told, and refuses by itself then.
func (t *transaction) compromise(op Operation) error {
	set, ok := t.engine.config.KeySets(op.KeySet)
	if !ok || set.Tenant != t.engine.config.Tenant {
		return refuse(CodeKeySetUnknown, "%s", op.KeySet)
	}
	if a, err := t.order(op.KeySet); err != nil || a != nil {
		if err != nil {
			return err
		}
		return refuse(CodeCampaignExists, "%s is followed by %s since %s", op.KeySet, a.Operation.Successor, stamp(a.Approved))
	}
	next, err := t.assignable(op.Successor)
	if err != nil {
		return err
	}
	if err := t.fresh(set, next); err != nil {
		return err
	}
	if err := sameCurve(set, next); err != nil {
		return err
	}
	for _, u := range set.Usages {
		if !next.Has(u) {
			return refuse(CodeKeySetNotPermitted, "%s is not for %v, as %s is", next.ID, u, set.ID)
		}
	}
	if err := t.RaiseHighest(set.ID, set.LastID); err != nil {
		return err
	}
	w := remote.Withdrawal{Tenant: set.Tenant, KeySet: set.ID, Through: set.LastID}
	body, err := w.Marshal()
	if err != nil {
		return &Refusal{Code: CodeInternal, Cause: err}
	}
	if err := t.task(&Task{Kind: TaskWithdraw, Body: body}); err != nil {
		return err
	}
	m := march{KeySet: set.ID, Successor: next.ID}
	if body, err = m.marshal(); err != nil {
		return &Refusal{Code: CodeInternal, Cause: err}
	}
	return t.task(&Task{Kind: TaskCampaign, Body: body})
}

// fresh refuses a set that is over the base key of the one that it is to follow, or of any other that was compromised: moving
// terminals to it would help nobody.
func (t *transaction) fresh(set, next *keyset.KeySet) error {
	if next.BaseKeyFingerprint == set.BaseKeyFingerprint {
		return refuse(CodeKeySetNotPermitted, "%s is over the same base key", next.ID)
	}
	open := keyset.ID("")
	err := t.Approvals(func(a *Approval) error {
		if a.Operation.Action != ActionCompromiseSet || a.Approver.IsZero() {
			return nil
		}
		gone, ok := t.engine.config.KeySets(a.Operation.KeySet)
		if ok && gone.Tenant == set.Tenant && gone.BaseKeyFingerprint == next.BaseKeyFingerprint {
			open = gone.ID
		}
		return nil
	})
	if err == nil && open != "" {
		err = refuse(CodeKeySetNotPermitted, "%s is over the base key of %s, which is compromised", next.ID, open)
	}
	return err
}

// sameCurve refuses a set whose keys are delivered over another curve: terminals have an agreement key on the one of the set before,
// and could fetch none.
func sameCurve(set, next *keyset.KeySet) error {
	before, err := remote.SuiteFor(set.Algorithm)
	if err != nil {
		return refuse(CodeKeySetNotPermitted, "%v", err)
	}
	after, err := remote.SuiteFor(next.Algorithm)
	if err != nil {
		return refuse(CodeKeySetNotPermitted, "%v", err)
	}
	if before.Curve() != after.Curve() {
		return refuse(CodeKeySetNotPermitted, "keys of %s are delivered over %v, and terminals of %s have agreement keys on %v", next.ID, after, set.ID, before)
	}
	return nil
}

// stopped reports whether no key of a set is ordered any more.
func stopped(tx Tx, set *keyset.KeySet) (bool, error) {
	last, err := tx.Highest(set.ID)
	return err == nil && last == set.LastID, err
}

// order returns the approval that has begun the campaign of a set, nil when there is none.
func (t *transaction) order(set keyset.ID) (*Approval, error) { return orderOf(t.Tx, set) }

func orderOf(tx Tx, set keyset.ID) (out *Approval, _ error) {
	err := tx.Approvals(func(a *Approval) error {
		if a.Operation.Action == ActionCompromiseSet && a.Operation.KeySet == set && !a.Approver.IsZero() {
			out = a
		}
		return nil
	})
	return out, err
}

// march is how far the orders of a campaign have come.
type march struct {
	KeySet, Successor keyset.ID
	After             keyset.TerminalID // the last terminal that was looked at
}

type wireMarch struct {
	Version   uint   `cbor:"v"`
	KeySet    string `cbor:"key-set"`
	Successor string `cbor:"successor"`
	After     string `cbor:"after,omitempty"`
}

func (m march) marshal() ([]byte, error) {
	return form.Marshal(wireMarch{formatVersion, string(m.KeySet), string(m.Successor), string(m.After)})
}

// Marshal is marshal, for the check of the spelling.
func (m *march) Marshal() ([]byte, error) { return m.marshal() }

func parseMarch(b []byte) (*march, error) {
	var w wireMarch
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, &march{keyset.ID(w.KeySet), keyset.ID(w.Successor), keyset.TerminalID(w.After)}, b)
}

// campaign gives the next orders of a campaign, and moves its task on or removes it, in one transaction. The error says why
// it cannot go on, and then nothing has changed.
func (e *Engine) campaign(ctx context.Context, task *Task) error {
	return e.update(ctx, func(t *transaction) error {
		m, err := parseMarch(task.Body)
		if err != nil {
			return err
		}
		hit, last, err := t.ahead(m)
		if err != nil {
			return err
		}
		for _, id := range hit {
			if err := t.move(id, m); err != nil {
				return err
			}
		}
		if last == "" {
			return errors.Join(t.DeleteTask(task.ID), t.note(audit.Record{
				Action: "campaign", Object: string(m.KeySet) + " to " + string(m.Successor), Result: resultDone, Reason: "every terminal has its order",
			}))
		}
		m.After = last
		next := *task
		if next.Body, err = m.marshal(); err != nil {
			return err
		}
		return t.PutTask(&next)
	})
}

// ahead returns the terminals that are next, and the last one that was looked at; empty when there are no more.
func (t *transaction) ahead(m *march) (hit []keyset.TerminalID, last keyset.TerminalID, _ error) {
	seen, over := 0, true
	err := t.Terminals(m.After, campaignScan+1, func(row *Terminal) error {
		if len(hit) == campaignStep || seen == campaignScan {
			over = false
			return errEnough
		}
		seen, last = seen+1, row.ID
		if row.connects() && slices.ContainsFunc(row.Slots, func(s Slot) bool { return s.KeySet == m.KeySet }) {
			hit = append(hit, row.ID)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", err
	}
	if over {
		last = ""
	}
	return hit, last, nil
}

// move orders one terminal to fetch keys of the set that follows.
func (t *transaction) move(id keyset.TerminalID, m *march) error {
	row, err := t.row(id)
	if err != nil {
		return err
	}
	var slots []SlotAssignment
	for i := range row.Slots {
		if row.Slots[i].KeySet == m.KeySet {
			slots = append(slots, SlotAssignment{row.Slots[i].Number, m.Successor})
			row.Slots[i].Left = m.KeySet
		}
	}
	if err := t.assign(row, slots); err != nil {
		return err
	}
	if err := t.save(row); err != nil {
		return err
	}
	op := Operation{Action: ActionRekey, Terminal: id}
	return t.note(audit.Record{
		Action: op.action(), Object: op.target(slots), Result: resultDone, Reason: fmt.Sprintf("key set %s is compromised", m.KeySet),
	})
}

// Campaign says how far a key set is from being out of use, whether or not it is compromised, with a page of the slots that
// it is in: from behind a terminal, of at most limit terminals, 1 to MaxListed. The error is a *Refusal.
func (e *Engine) Campaign(ctx context.Context, set keyset.ID, after keyset.TerminalID, limit int) (out *Campaign, err error) {
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	known, ok := e.config.KeySets(set)
	if !ok || known.Tenant != e.config.Tenant {
		return nil, refuse(CodeKeySetUnknown, "%s", set)
	}
	err = e.view(ctx, func(tx Tx) error {
		out = &Campaign{KeySet: set, Slots: make(map[Progress]int)}
		var err error
		if out.Stopped, err = stopped(tx, known); err != nil {
			return err
		}
		a, err := orderOf(tx, set)
		if err != nil {
			return err
		}
		if a != nil {
			out.Successor, out.Since, out.Names = a.Operation.Successor, a.Approved, a.names()
		}
		if err := out.tasks(tx); err != nil {
			return err
		}
		return out.count(tx, after, limit)
	})
	return out, err
}

// tasks finds out what is still to be done.
func (c *Campaign) tasks(tx Tx) error {
	all, err := tx.Tasks(forever, TaskPlace{}, campaignTasks)
	if err != nil {
		return err
	}
	c.Told = c.Stopped
	for _, task := range all {
		switch task.Kind {
		case TaskWithdraw:
			if w, err := remote.ParseWithdrawal(task.Body); err != nil || w.KeySet == c.KeySet {
				c.Told = false
			}
		case TaskCampaign:
			if m, err := parseMarch(task.Body); err != nil || m.KeySet == c.KeySet {
				c.Ordering = true
			}
		}
	}
	return nil
}

// count counts slots, and fills a page.
func (c *Campaign) count(tx Tx, after keyset.TerminalID, limit int) error {
	terminals := 0
	return tx.Terminals("", 0, func(row *Terminal) error {
		hit := false
		for i := range row.Slots {
			s := &row.Slots[i]
			if !s.touches(c.KeySet) {
				continue
			}
			p := row.progress(s, c.KeySet)
			c.Slots[p]++
			if row.ID <= after {
				continue
			}
			if terminals == limit && !hit {
				c.More = true
				continue
			}
			c.Hit = append(c.Hit, HitSlot{row.ID, row.Status, s.Number, s.KeySet, p})
			hit = true
		}
		if hit {
			terminals++
		}
		return nil
	})
}
