package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Assignment returns what is set up for a terminal that has connected with its current certificate, and when it is to
// renew that. Errors are a *Refusal.
func (e *Engine) Assignment(ctx context.Context, c Caller) (*remote.Assignment, error) {
	id, err := e.name(c)
	if err != nil {
		return nil, err
	}
	var out *remote.Assignment
	err = e.view(ctx, func(tx Tx) error {
		row, err := registered(tx, id)
		if err != nil {
			return err
		}
		if err := row.shown(identity.Serial(c.Leaf), e.now(), connecting...); err != nil {
			return err
		}
		out, err = e.assignment(row)
		return err
	})
	return out, err
}

func (e *Engine) assignment(row *Terminal) (*remote.Assignment, error) {
	out := &remote.Assignment{
		Tenant: row.Tenant, Terminal: row.ID, Environment: e.config.Environment, Endpoints: slices.Clone(row.Endpoints),
	}
	out.RenewAfter, out.RenewBefore = e.window(row.Group).of(row.NotBefore, row.NotAfter)
	for _, s := range row.Slots {
		set, ok := e.config.KeySets(s.KeySet)
		if !ok {
			return nil, refuse(CodeKeySetUnknown, "%s of slot %d", s.KeySet, s.Number)
		}
		a := remote.AssignedSlot{
			Slot: s.Number, KeySet: s.KeySet, Delivery: set.Delivery,
			Wanted: s.Wanted && slices.Contains(deliverable, row.Status) && set.Delivery != keyset.DeliveryNone,
		}
		if k := s.active(); k != nil {
			a.KeyID = k.ID
		}
		out.Slots = append(out.Slots, a)
	}
	return out, nil
}

// Deliver has the key-distribution host deliver an initial key to a terminal that has connected with its current
// certificate. exporter is what its connection exports under remote.ExporterLabel. The key stands in the registry, in the
// feed and in the audit log before Deliver returns. A terminal that asks again has not installed the keys before: beyond
// eight that wait in the slot the oldest is retired, so that no number of lost answers keeps it from the next one. Errors
// are a *Refusal.
func (e *Engine) Deliver(ctx context.Context, c Caller, exporter [remote.NonceSize]byte, req *remote.Request) (*remote.Delivery, error) {
	out, err := e.delivered(ctx, c, exporter, req)
	e.count(CountedDelivery, err)
	return out, err
}

// delivered is Deliver, before it is counted.
func (e *Engine) delivered(ctx context.Context, c Caller, exporter [remote.NonceSize]byte, req *remote.Request) (*remote.Delivery, error) {
	record := c.record("deliver", req.Nonce[:])
	id, err := e.name(c)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	record.Object = fmt.Sprintf("%s/%d", id, req.Slot)
	d, err := e.deliver(ctx, c, id, exporter, req, record)
	if err != nil {
		return nil, e.refused(ctx, record, err)
	}
	return d, nil
}

func (e *Engine) deliver(ctx context.Context, c Caller, id keyset.TerminalID, exporter [remote.NonceSize]byte, req *remote.Request, record audit.Record) (*remote.Delivery, error) {
	done, err := e.serve(ctx, id)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	order := remote.Order{
		Tenant: e.config.Tenant, Terminal: id, Slot: req.Slot, Nonce: req.Nonce, Exporter: exporter, Attestation: req.Attestation,
	}
	if err := e.view(ctx, func(tx Tx) error { return e.order(tx, c, &order) }); err != nil {
		return nil, err
	}
	calling, stop := context.WithTimeout(ctx, issueTimeout)
	defer stop()
	d, err := e.config.Distributor.Deliver(calling, order)
	if err != nil {
		return nil, distributorFailure(err)
	}
	if set, ok := e.config.KeySets(order.KeySet); d == nil || !ok || !set.Contains(d.KeyID) || d.Replaces != order.Replaces {
		return nil, &Refusal{Code: CodeDistributorUnavailable, Cause: errors.New("the delivery is not what was ordered")}
	}
	err = e.update(ctx, func(t *transaction) error { return t.delivered(c, &order, d, record) })
	if err != nil {
		e.unwanted(ctx, &order, d, err)
		return nil, err
	}
	return d, nil
}

// order fills in what the registry knows, and refuses what the terminal may not have.
func (e *Engine) order(tx Tx, c Caller, o *remote.Order) error {
	row, err := registered(tx, o.Terminal)
	if err != nil {
		return err
	}
	slot, err := row.wants(identity.Serial(c.Leaf), o.Slot, e.now())
	if err != nil {
		return err
	}
	if row.AgreementSerial == "" || !e.now().Before(row.AgreementNotAfter) {
		return refuse(CodeAgreementMissing, "")
	}
	o.KeySet = slot.KeySet
	if k := slot.active(); k != nil {
		o.Replaces = k.ID
	}
	if o.Beyond, err = tx.Highest(slot.KeySet); err != nil {
		return err
	}
	if o.TLSChain, err = chainOf(tx, identity.Terminal, row.Serial); err != nil {
		return err
	}
	o.AgreementChain, err = chainOf(tx, identity.Agreement, row.AgreementSerial)
	return err
}

func chainOf(tx Tx, role identity.Role, serial string) ([][]byte, error) {
	cert, ok, err := tx.Certificate(role, serial)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Refusal{Code: CodeInternal, Cause: fmt.Errorf("provision: certificate %s is not in the registry", serial)}
	}
	return cert.Chain, nil
}

// wants returns the slot that the terminal is to fetch a key for.
func (t *Terminal) wants(serial string, number uint8, now time.Time) (*Slot, error) {
	if err := t.shown(serial, now, deliverable...); err != nil {
		return nil, err
	}
	slot := t.slot(number)
	if slot == nil {
		return nil, refuse(CodeSlotUnknown, "slot %d", number)
	}
	if !slot.Wanted {
		return nil, refuse(CodeSlotNotWanted, "slot %d", number)
	}
	return slot, nil
}

// delivered puts the key of a delivery into its slot, where it waits to be confirmed. Older ones make room for it.
func (t *transaction) delivered(c Caller, o *remote.Order, d *remote.Delivery, record audit.Record) error {
	row, err := t.row(o.Terminal)
	if err != nil {
		return err
	}
	slot, err := row.wants(identity.Serial(c.Leaf), o.Slot, t.now)
	if err != nil {
		return err
	}
	if slot.KeySet != o.KeySet {
		return refuse(CodeSlotNotWanted, "slot %d has been given another key set", o.Slot)
	}
	if _, twice := row.find(d.KeyID); twice != nil {
		return refuse(CodeDistributorRefused, "key id %v is in use by the terminal already", d.KeyID)
	}
	for slot.pending() >= maxPending {
		if err := t.retire(row, slot, slot.oldest(keyset.SlotPending), "another was asked for"); err != nil {
			return err
		}
	}
	if err := t.room(row); err != nil {
		return err
	}
	slot.add(Key{ID: d.KeyID, KeySet: o.KeySet, State: keyset.SlotPending, Delivered: t.now})
	if err := t.RaiseHighest(o.KeySet, d.KeyID); err != nil {
		return err
	}
	if err := t.save(row); err != nil {
		return err
	}
	record.Object = fmt.Sprintf("%s/%d/%v", row.ID, o.Slot, d.KeyID)
	record.Result = resultDone
	return t.note(record)
}

// retire retires a key, and has the key-distribution host told.
func (t *transaction) retire(row *Terminal, slot *Slot, k *Key, why string) error {
	k.State, k.DrainUntil = keyset.SlotRetired, time.Time{}
	if err := t.settle(row.ID, slot.Number, k, keyset.SlotRetired); err != nil {
		return err
	}
	return t.note(audit.Record{
		Action: "key/retire", Object: string(row.ID) + "/" + k.ID.String(), Result: resultDone, Reason: why,
	})
}

// room makes room for another key in the record of the feed. Retired keys leave it first, then draining ones, then those
// that wait in the slot where most of them do; each time the oldest. No slot is left without its active key and its newest
// one, and there is always room in the end: a slot has one active key.
func (t *transaction) room(row *Terminal) error {
	for row.keys() >= maxKeys {
		slot, k := row.oldest(keyset.SlotRetired)
		if k == nil {
			if slot, k = row.oldest(keyset.SlotDraining); k == nil {
				slot = row.fullest()
				k = slot.oldest(keyset.SlotPending)
			}
			if err := t.retire(row, slot, k, "the record of the terminal is full"); err != nil {
				return err
			}
		}
		slot.drop(k.ID)
	}
	return nil
}

// unwanted tells the key-distribution host that a key it has delivered does not reach its terminal, when that is sure.
func (e *Engine) unwanted(ctx context.Context, o *remote.Order, d *remote.Delivery, why error) {
	switch codeOf(why) {
	case "", CodeStoreUnavailable, CodeStoreFull, CodeStoreDamaged, CodeInternal:
		e.log(ctx, "a delivered key was not recorded", why)
		return
	}
	err := e.update(ctx, func(t *transaction) error {
		if err := t.RaiseHighest(o.KeySet, d.KeyID); err != nil {
			return err
		}
		return t.settle(o.Terminal, o.Slot, &Key{ID: d.KeyID, KeySet: o.KeySet}, keyset.SlotRetired)
	})
	if err != nil {
		e.log(ctx, "a delivered key was not retired", err)
	}
}
