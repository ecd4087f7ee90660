package keydist

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/keys/remote"
)

// withdrawal is an order about the key ids of a set under way.
type withdrawal struct {
	*order
	remote.Withdrawal
}

// Withdraw records that key ids of a set, up to one, are never given out; with the last one of the set no key of it is
// delivered any more. It is for ever, and once more is no error. It refuses with CodeKeySetUnknown and CodeKeyIDMismatch.
func (h *Host) Withdraw(ctx context.Context, caller Caller, o remote.Withdrawal) error {
	w := &withdrawal{order: h.order(caller, actionWithdraw), Withdrawal: o}
	return w.end(ctx, "WITHDRAWN", w.run(ctx))
}

func (w *withdrawal) run(ctx context.Context) error {
	for _, check := range []func() error{w.admit, w.checkOrder} {
		if err := check(); err != nil {
			return err
		}
	}
	return w.host.c.Store.Update(ctx, w.withdraw)
}

func (w *withdrawal) checkOrder() error {
	if err := w.read(&w.Withdrawal, w.Tenant, fmt.Sprintf("%s through %v", w.KeySet, w.Through)); err != nil {
		return err
	}
	set, ok := w.host.c.KeySets(w.KeySet)
	if !ok || set.Tenant != w.Tenant {
		return refuse(CodeKeySetUnknown, string(w.KeySet))
	}
	if !set.Contains(w.Through) {
		return refuse(CodeKeyIDMismatch, w.Through.String()+" is no key id of "+string(set.ID))
	}
	return nil
}

func (w *withdrawal) withdraw(tx Tx) error {
	last, err := tx.Last(w.KeySet)
	if err != nil || w.Through.Compare(last) <= 0 {
		return err
	}
	if err := tx.SetLast(w.KeySet, w.Through); err != nil {
		return err
	}
	return tx.Audit(w.record("WITHDRAWN", ""))
}
