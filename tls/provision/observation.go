package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// errContradiction is why an observation is refused by itself.
var errContradiction = errors.New("contradicts the registry")

// observed is one post of a decryption service.
type observed struct {
	*transaction
	actor   Actor
	rows    map[keyset.TerminalID]*Terminal
	order   []keyset.TerminalID
	refused string // the first confirmation that was refused
}

// Observe notes what a decryption service has seen, and draws the consequences: a key that was proved becomes the active
// one of its slot, a terminal with evidence against it is quarantined. The same again changes nothing. What it says about
// a key that the terminal does not have is refused by itself and audited; a confirmation among that is an error, after the
// rest has been done. Errors are a *Refusal.
func (e *Engine) Observe(ctx context.Context, actor Actor, o feed.Observations) (feed.ObservationsAnswer, error) {
	record := actor.record("observe", "")
	if err := e.permitted(actor, identity.Decrypt); err != nil {
		return feed.ObservationsAnswer{}, e.refused(ctx, record, err)
	}
	if _, err := o.Marshal(); err != nil {
		return feed.ObservationsAnswer{}, e.refused(ctx, record, refuse(CodeObservationRefused, "%v", err))
	}
	var answer feed.ObservationsAnswer
	var refused string
	err := e.update(ctx, func(t *transaction) error {
		seen := &observed{transaction: t, actor: actor, rows: make(map[keyset.TerminalID]*Terminal)}
		if err := seen.all(o); err != nil {
			return err
		}
		refused = seen.refused
		if err := t.readEnd(); err != nil {
			return err
		}
		answer = feed.ObservationsAnswer{Epoch: t.end.epoch, Sequence: t.end.sequence}
		return nil
	})
	if err != nil {
		return feed.ObservationsAnswer{}, err
	}
	if refused != "" {
		return feed.ObservationsAnswer{}, refuse(CodeObservationRefused, "%s", refused)
	}
	return answer, nil
}

// record begins the audit record of what an actor asks for.
func (a Actor) record(action, object string) audit.Record {
	return audit.Record{Actor: a.Identity.Name, Role: string(a.Identity.Role), Source: a.Source, Action: action, Object: object}
}

func (s *observed) all(o feed.Observations) error {
	for _, c := range o.Confirmed {
		if err := s.confirm(c); err != nil {
			return err
		}
	}
	for _, x := range o.FirstSeen {
		err := s.about("first-seen", x.Terminal, x.KeySet, x.KeyID, func(_ *Terminal, k *Key) error {
			if k.FirstSeen.IsZero() {
				k.FirstSeen = x.Time.UTC()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, x := range o.High {
		err := s.about("high", x.Terminal, x.KeySet, x.KeyID, func(_ *Terminal, k *Key) error {
			k.High = max(k.High, x.Ordinal)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, x := range o.Quarantined {
		err := s.about("quarantine", x.Terminal, x.KeySet, x.KeyID, func(row *Terminal, _ *Key) error { return s.quarantine(row, x) })
		if err != nil {
			return err
		}
	}
	for _, id := range s.order {
		if err := s.save(s.rows[id]); err != nil {
			return err
		}
	}
	return nil
}

// find returns the row of a terminal and a key of it. Rows are saved once, at the end.
func (s *observed) find(id keyset.TerminalID, set keyset.ID, key dukpt.KeyID) (*Terminal, *Slot, *Key, error) {
	row, ok := s.rows[id]
	if !ok {
		var err error
		row, err = s.row(id)
		if codeOf(err) == CodeTerminalUnknown {
			return nil, nil, nil, errContradiction
		}
		if err != nil {
			return nil, nil, nil, err
		}
		s.rows[id] = row
		s.order = append(s.order, id)
	}
	slot, k := row.find(key)
	if k == nil || k.KeySet != set {
		return nil, nil, nil, errContradiction
	}
	return row, slot, k, nil
}

// about notes something about a key, or audits that the terminal does not have it.
func (s *observed) about(what string, id keyset.TerminalID, set keyset.ID, key dukpt.KeyID, f func(*Terminal, *Key) error) error {
	row, _, k, err := s.find(id, set, key)
	if errors.Is(err, errContradiction) {
		return s.refuse(what, id, key)
	}
	if err != nil {
		return err
	}
	return f(row, k)
}

func (s *observed) refuse(what string, id keyset.TerminalID, key dukpt.KeyID) error {
	r := s.actor.record("observe/"+what, fmt.Sprintf("%s/%v", id, key))
	r.Result, r.Reason = resultRefused, string(CodeObservationRefused)
	return s.note(r)
}

func (s *observed) quarantine(row *Terminal, q feed.Quarantine) error {
	switch row.Status {
	case keyset.StatusPending, keyset.StatusActive, keyset.StatusBlocked:
	default:
		return nil // held already, or worse
	}
	s.setStatus(row, keyset.StatusQuarantined, q.Reason)
	row.DrainGrants = nil // whoever granted them did not know of the evidence
	r := s.actor.record("observe/quarantine", fmt.Sprintf("%s/%v", row.ID, q.KeyID))
	r.Result, r.Reason = resultDone, q.Reason
	return s.note(r)
}

// confirm makes the key that a terminal has proved the active one of its slot. Keys that were delivered before it and
// never proved are retired; the one that was active drains.
func (s *observed) confirm(c feed.Confirmation) error {
	row, slot, k, err := s.find(c.Terminal, c.KeySet, c.KeyID)
	if err == nil && slot.Number != c.Slot {
		err = errContradiction
	}
	if errors.Is(err, errContradiction) {
		s.refused = cmp.Or(s.refused, fmt.Sprintf("terminal %s has no key %v of set %s in slot %d", c.Terminal, c.KeyID, c.KeySet, c.Slot))
		return s.refuse("confirm", c.Terminal, c.KeyID)
	}
	if err != nil {
		return err
	}
	if !row.connects() || k.State == keyset.SlotRetired {
		return s.refuse("confirm", c.Terminal, c.KeyID) // what came in between stands in the feed
	}
	changed := !row.Confirmed
	row.Confirmed = true
	if row.Status == keyset.StatusPending {
		s.setStatus(row, keyset.StatusActive, "")
	}
	if k.State == keyset.SlotPending {
		changed = true
		if err := s.activate(row, slot, k); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	r := s.actor.record("observe/confirm", fmt.Sprintf("%s/%d/%v", row.ID, slot.Number, k.ID))
	r.Result = resultDone
	return s.note(r)
}

func (s *observed) activate(row *Terminal, slot *Slot, k *Key) error {
	for i := range slot.Keys {
		other := &slot.Keys[i]
		switch {
		case other.State == keyset.SlotActive:
			other.State, other.DrainUntil = keyset.SlotDraining, s.now.Add(s.engine.config.Drain)
		case other.State == keyset.SlotPending && other.before(k):
			other.State = keyset.SlotRetired
			if err := s.settle(row.ID, slot.Number, other, keyset.SlotRetired); err != nil {
				return err
			}
		}
	}
	k.State = keyset.SlotActive
	if slot.Wanted && k.KeySet == slot.KeySet && !k.Delivered.Before(slot.WantedSince) {
		slot.Wanted = false
	}
	return s.settle(row.ID, slot.Number, k, keyset.SlotActive)
}
