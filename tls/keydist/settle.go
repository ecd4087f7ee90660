package keydist

import (
	"context"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// settlement is an order about a key id under way.
type settlement struct {
	*order
	remote.Settlement
}

// Settle records that a terminal has confirmed a key, or that a key id is not used any more. A confirmation retires the
// keys of the slot that were given out before and are still pending. What is settled already stays as it is and is no
// error; only a retired id cannot be confirmed: CodeSettlementConflict. Ids of others are refused with CodeKeyIDUnknown and
// CodeKeyIDMismatch.
func (h *Host) Settle(ctx context.Context, caller Caller, o remote.Settlement) error {
	s := &settlement{order: h.order(caller, actionSettle), Settlement: o}
	return s.end(ctx, result(o.State), s.run(ctx))
}

func (s *settlement) run(ctx context.Context) error {
	for _, check := range []func() error{s.admit, s.checkOrder} {
		if err := check(); err != nil {
			return err
		}
	}
	return s.host.c.Store.Update(ctx, s.settle)
}

func (s *settlement) checkOrder() error {
	about := object(Issued{Terminal: s.Terminal, Slot: s.Slot, KeySet: s.KeySet, KeyID: s.KeyID})
	return s.read(&s.Settlement, s.Tenant, about)
}

func (s *settlement) settle(tx Tx) error {
	i, ok, err := tx.Issued(s.KeySet, s.KeyID)
	if err != nil {
		return err
	}
	switch {
	case !ok:
		return refuse(CodeKeyIDUnknown, "")
	case i.Terminal != s.Terminal || i.Slot != s.Slot:
		return refuse(CodeKeyIDMismatch, "")
	case i.State == s.State:
		return nil
	case i.State == keyset.SlotRetired:
		return refuse(CodeSettlementConflict, "")
	}
	if s.State == keyset.SlotActive {
		if err := s.retireOlder(tx, i); err != nil {
			return err
		}
	}
	return s.move(tx, i, s.State, "")
}

// retireOlder retires the pending keys of the slot that were given out before this one. Newer ones go on waiting: the
// terminal may have them.
func (s *settlement) retireOlder(tx Tx, confirmed Issued) error {
	pending, err := tx.Pending(s.Terminal, s.Slot)
	if err != nil {
		return err
	}
	for _, i := range pending {
		if i.KeySet == confirmed.KeySet && i.KeyID == confirmed.KeyID {
			return nil
		}
		if err := s.move(tx, i, keyset.SlotRetired, "superseded"); err != nil {
			return err
		}
	}
	return nil
}

func (s *settlement) move(tx Tx, i Issued, state keyset.SlotState, reason string) error {
	if err := tx.Settle(i.KeySet, i.KeyID, state, s.host.c.Clock()); err != nil {
		return err
	}
	r := s.record(result(state), reason)
	r.Object = object(i)
	return tx.Audit(r)
}

// result names a settled state in the audit log.
func result(state keyset.SlotState) string {
	if state == keyset.SlotActive {
		return "ACTIVE"
	}
	return "RETIRED"
}
