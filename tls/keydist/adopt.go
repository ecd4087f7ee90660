package keydist

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// adoption is an order about keys that terminals have from elsewhere, under way.
type adoption struct {
	*order
	remote.Adoption
	set *keyset.KeySet
}

// Adopt records that terminals have keys of a set from elsewhere, all of them or none: their ids are as if they had been given
// out, and later ones go beyond them. The same again is no error. It refuses with CodeKeySetUnknown, with CodeKeyIDMismatch an id
// that is not of the set or is another terminal's, and with CodeKeyIDGivenOut one that this host gave out itself.
func (h *Host) Adopt(ctx context.Context, caller Caller, o remote.Adoption) error {
	a := &adoption{order: h.order(caller, actionAdopt), Adoption: o}
	return a.end(ctx, "ADOPTED", a.run(ctx))
}

func (a *adoption) run(ctx context.Context) error {
	for _, check := range []func() error{a.admit, a.checkOrder} {
		if err := check(); err != nil {
			return err
		}
	}
	return a.host.c.Store.Update(ctx, a.adopt)
}

func (a *adoption) checkOrder() error {
	if err := a.read(&a.Adoption, a.Tenant, fmt.Sprintf("%s, %d keys", a.KeySet, len(a.Keys))); err != nil {
		return err
	}
	set, ok := a.host.c.KeySets(a.KeySet)
	if !ok || set.Tenant != a.Tenant {
		return refuse(CodeKeySetUnknown, string(a.KeySet))
	}
	if set.Environment != a.host.c.Environment {
		return refuse(CodeEnvironmentMismatch, set.Environment.String())
	}
	for _, k := range a.Keys {
		if !set.Contains(k.KeyID) {
			return refuse(CodeKeyIDMismatch, k.KeyID.String()+" is no key id of "+string(set.ID))
		}
	}
	a.set = set
	return nil
}

func (a *adoption) adopt(tx Tx) error {
	var highest dukpt.KeyID
	for _, k := range a.Keys {
		known, ok, err := tx.Issued(a.KeySet, k.KeyID)
		switch {
		case err != nil:
			return err
		case ok && known.Delivery != keyset.DeliveryNone:
			return refuse(CodeKeyIDGivenOut, fmt.Sprintf("%v to %s", k.KeyID, known.Terminal))
		case ok && (known.Terminal != k.Terminal || known.Slot != k.Slot):
			return refuse(CodeKeyIDMismatch, fmt.Sprintf("%v is in slot %d of %s", k.KeyID, known.Slot, known.Terminal))
		case ok:
			continue
		}
		if err := a.take(tx, k); err != nil {
			return err
		}
		highest = k.KeyID // they ascend
	}
	if highest.IsZero() {
		return nil
	}
	last, err := tx.Last(a.KeySet)
	if err != nil || highest.Compare(last) <= 0 {
		return err
	}
	return tx.SetLast(a.KeySet, highest)
}

// take records one key: it is in use.
func (a *adoption) take(tx Tx, k remote.AdoptedKey) error {
	now := a.host.c.Clock()
	i := Issued{
		KeySet: a.KeySet, KeyID: k.KeyID, Terminal: k.Terminal, Slot: k.Slot, Delivery: keyset.DeliveryNone, State: keyset.SlotPending, IssuedAt: now,
	}
	if err := tx.Issue(i); err != nil {
		return err
	}
	if err := tx.Settle(a.KeySet, k.KeyID, keyset.SlotActive, now); err != nil {
		return err
	}
	r := a.record("ADOPTED", "")
	r.Object = object(i)
	return tx.Audit(r)
}
