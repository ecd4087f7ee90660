package provision_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func (d *device) quarantine(set keyset.ID, id dukpt.KeyID) error {
	_, err := d.l.engine.Observe(d.l.t.Context(), decrypt, feed.Observations{
		Quarantined: []feed.Quarantine{{Terminal: d.id, KeySet: set, KeyID: id, Reason: "clone", Time: d.l.clock.time()}},
	})
	return err
}

// states returns the states of the keys of a slot, by id.
func (l *laboratory) states(id keyset.TerminalID, slot int) (out []keyset.SlotState) {
	l.t.Helper()
	for _, k := range l.row(id).Slots[slot].Keys {
		out = append(out, k.State)
	}
	return out
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1", provision.SlotAssignment{Slot: 1, KeySet: "DATA"}, provision.SlotAssignment{Slot: 3, KeySet: "OTHER"})
	a := must[*remote.Assignment](t)(l.engine.Assignment(t.Context(), d.caller()))
	if len(a.Slots) != 2 || !a.Slots[0].Wanted || !a.Slots[1].Wanted || a.Slots[0].Delivery != keyset.Attested || !a.Slots[0].KeyID.IsZero() {
		t.Errorf("assignment %+v", a)
	}
	life := d.chain[0].NotAfter.Sub(d.chain[0].NotBefore)
	if !a.RenewAfter.Equal(d.chain[0].NotBefore.Add(life/2)) || !a.RenewBefore.Equal(d.chain[0].NotBefore.Add(life*3/4)) {
		t.Errorf("renewal from %v to %v", a.RenewAfter, a.RenewBefore)
	}
	first := must[*remote.Delivery](t)(d.fetch(1))
	row := l.row("T-1")
	if k := row.Slots[0].Keys; len(k) != 1 || k[0].ID != first.KeyID || k[0].State != keyset.SlotPending || row.Status != keyset.StatusPending {
		t.Errorf("row %+v", row)
	}
	if n := l.audited("deliver", "DONE", ""); n != 1 || !strings.HasSuffix(l.lastAudit().Object, first.KeyID.String()) {
		t.Errorf("%d audit records, the last %+v", n, l.lastAudit())
	}
	order := l.kdh.orders[0]
	if order.KeySet != "DATA" || !order.Replaces.IsZero() || !order.Beyond.IsZero() || string(order.TLSChain[0]) != string(d.chain[0].Raw) {
		t.Errorf("order %+v", order)
	}
	second := must[*remote.Delivery](t)(d.fetch(1)) // the first got lost
	if l.kdh.orders[1].Beyond != first.KeyID {
		t.Errorf("beyond %v, want %v", l.kdh.orders[1].Beyond, first.KeyID)
	}
	check(t, d.confirm(1, "DATA", second.KeyID))
	row = l.row("T-1")
	if row.Status != keyset.StatusActive || row.Slots[0].Wanted || !row.Slots[1].Wanted {
		t.Errorf("row %+v", row)
	}
	if s := l.states("T-1", 0); s[0] != keyset.SlotRetired || s[1] != keyset.SlotActive {
		t.Errorf("states %v", s)
	}
	_, err := d.fetch(1)
	refused(t, "a slot that has its key", err, provision.CodeSlotNotWanted)
	_, err = d.fetch(2)
	refused(t, "a slot that is not assigned", err, provision.CodeSlotUnknown)
	l.sweep()
	if got := l.kdh.settlements(first.KeyID); len(got) != 1 || got[0] != keyset.SlotRetired {
		t.Errorf("the first key was settled as %v", got)
	}
	if got := l.kdh.settlements(second.KeyID); len(got) != 1 || got[0] != keyset.SlotActive {
		t.Errorf("the second key was settled as %v", got)
	}
	a = must[*remote.Assignment](t)(l.engine.Assignment(t.Context(), d.caller()))
	if a.Slots[0].KeyID != second.KeyID || a.Slots[0].Wanted {
		t.Errorf("assignment %+v", a)
	}
}

// TestRekey replaces the key of a slot: the old one drains for a while.
func TestRekey(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, old := l.active("T-1")
	l.clock.forward(time.Hour)
	l.do(provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slot: 1})
	fresh := must[*remote.Delivery](t)(d.fetch(1))
	if l.kdh.orders[1].Replaces != old || fresh.Replaces != old {
		t.Errorf("replaces %v, want %v", fresh.Replaces, old)
	}
	if s := l.states("T-1", 0); s[0] != keyset.SlotActive || s[1] != keyset.SlotPending {
		t.Errorf("states %v", s)
	}
	check(t, d.confirm(1, "DATA", fresh.KeyID))
	if s := l.states("T-1", 0); s[0] != keyset.SlotDraining || s[1] != keyset.SlotActive {
		t.Errorf("states %v", s)
	}
	l.clock.forward(7*24*time.Hour - time.Second)
	l.sweep()
	if s := l.states("T-1", 0); s[0] != keyset.SlotDraining {
		t.Errorf("states %v before the end", s)
	}
	l.clock.forward(time.Second)
	l.sweep()
	if s := l.states("T-1", 0); s[0] != keyset.SlotRetired || s[1] != keyset.SlotActive {
		t.Errorf("states %v after the end", s)
	}
	if got := l.kdh.settlements(old); len(got) != 2 || got[1] != keyset.SlotRetired {
		t.Errorf("the old key was settled as %v", got)
	}
	l.do(provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "OTHER"}, {Slot: 2, KeySet: "DATA"}}})
	other := must[*remote.Delivery](t)(d.fetch(1))
	if l.kdh.orders[2].KeySet != "OTHER" || l.kdh.orders[2].Replaces != fresh.KeyID {
		t.Errorf("order %+v", l.kdh.orders[2])
	}
	check(t, d.confirm(1, "OTHER", other.KeyID))
	if row := l.row("T-1"); row.Slots[0].Wanted || !row.Slots[1].Wanted {
		t.Errorf("row %+v", row)
	}
}

// TestAKeyFromBeforeTheRekey confirms a key that was on its way when a new one was asked for: one is wanted still.
func TestAKeyFromBeforeTheRekey(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	key := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	l.clock.forward(time.Minute)
	l.act(provision.ActionRekey, "T-1")
	check(t, d.confirm(1, "DATA", key))
	if row := l.row("T-1"); !row.Slots[0].Wanted || row.Slots[0].Keys[0].State != keyset.SlotActive {
		t.Errorf("row %+v", row)
	}
}

// TestManyPending loses one answer after the other: from the ninth on the oldest key that waits is retired, and none that
// waits is by a rekey.
func TestManyPending(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	f := l.follower()
	var ids []dukpt.KeyID
	for range 8 {
		ids = append(ids, must[*remote.Delivery](t)(d.fetch(1)).KeyID)
	}
	l.act(provision.ActionRekey, "T-1")
	if n := l.count("T-1", keyset.SlotPending); n != 8 {
		t.Errorf("%d keys wait after a rekey, want 8", n)
	}
	for n := range 20 {
		ids = append(ids, must[*remote.Delivery](t)(d.fetch(1)).KeyID)
		f.ask()
		slots := f.known["T-1"].Slots
		if len(slots) != 9+n || slots[n].KeyID != ids[n] || slots[n].State != keyset.SlotRetired || slots[n+1].State != keyset.SlotPending {
			t.Fatalf("after key %d the feed has %+v", 9+n, slots)
		}
	}
	if n := l.audited("key/retire", "DONE", "another was asked for"); n != 20 || l.lastAudit().Action != "deliver" {
		t.Errorf("%d audit records of keys that were retired, want 20", n)
	}
	l.sweep()
	for n, id := range ids {
		if got := l.kdh.settlements(id); (len(got) == 1 && got[0] == keyset.SlotRetired) != (n < 20) {
			t.Errorf("key %d was settled as %v", n, got)
		}
	}
	check(t, d.confirm(1, "DATA", ids[27]))
	if l.count("T-1", keyset.SlotPending) != 0 || l.count("T-1", keyset.SlotActive) != 1 || l.row("T-1").Slots[0].Wanted {
		t.Errorf("states %v", l.states("T-1", 0))
	}
}

// count counts the keys of a terminal in a state.
func (l *laboratory) count(id keyset.TerminalID, state keyset.SlotState) (n int) {
	l.t.Helper()
	for _, slot := range l.row(id).Slots {
		for _, k := range slot.Keys {
			if k.State == state {
				n++
			}
		}
	}
	return n
}

// TestKeysInTheRecord fetches so many keys that old ones have to leave the record of the feed.
func TestKeysInTheRecord(t *testing.T) {
	t.Parallel()
	for name, drained := range map[string]bool{"retired ones": true, "draining ones": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.Drain = time.Second })
			d := l.enrolled("T-1", provision.SlotAssignment{Slot: 1, KeySet: "DATA"}, provision.SlotAssignment{Slot: 2, KeySet: "OTHER"})
			other := must[*remote.Delivery](t)(d.fetch(2)).KeyID
			check(t, d.confirm(2, "OTHER", other))
			var ids []dukpt.KeyID
			for range 70 {
				ids = append(ids, must[*remote.Delivery](t)(d.fetch(1)).KeyID)
				check(t, d.confirm(1, "DATA", ids[len(ids)-1]))
				if drained {
					l.clock.forward(2 * time.Second)
				}
				l.sweep()
				l.act(provision.ActionRekey, "T-1")
			}
			row := l.row("T-1")
			if n := len(row.Slots[0].Keys); n != 63 || row.Slots[0].Keys[0].ID != ids[7] {
				t.Errorf("%d keys in the record, want 63", n)
			}
			if last := row.Slots[0].Keys[62]; last.State != keyset.SlotActive {
				t.Errorf("the newest key is %v", last.State)
			}
			if k := row.Slots[1].Keys; len(k) != 1 || k[0].ID != other || k[0].State != keyset.SlotActive {
				t.Errorf("keys of the other slot %+v", k)
			}
			l.sweep()
			if got := l.kdh.settlements(ids[6]); len(got) != 2 || got[1] != keyset.SlotRetired {
				t.Errorf("a key that left the record was settled as %v", got)
			}
			if got := l.kdh.settlements(ids[7]); (len(got) == 2) != drained {
				t.Errorf("the oldest key in the record was settled as %v", got)
			}
		})
	}
}

// TestRecordFullOfPending has more keys wait than the record holds: every slot is served, and keeps the newest.
func TestRecordFullOfPending(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	var slots []provision.SlotAssignment
	for n := range keyset.MaxSlots {
		slots = append(slots, provision.SlotAssignment{Slot: uint8(n + 1), KeySet: "DATA"})
	}
	d := l.enrolled("T-1", slots...)
	newest := make(map[uint8]dukpt.KeyID)
	for range 6 {
		for _, s := range slots {
			newest[s.Slot] = must[*remote.Delivery](t)(d.fetch(s.Slot)).KeyID
		}
	}
	if n := l.count("T-1", keyset.SlotPending); n != 64 || l.audited("key/retire", "DONE", "the record of the terminal is full") != 96-64 {
		t.Errorf("%d keys wait, want 64", n)
	}
	for _, s := range slots {
		check(t, d.confirm(s.Slot, "DATA", newest[s.Slot]))
	}
	if n := l.count("T-1", keyset.SlotActive); n != len(slots) {
		t.Errorf("%d active keys, want %d", n, len(slots))
	}
}

func TestDeliveryRefusals(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	_, err := d.fetch(1)
	refused(t, "without an agreement key", err, provision.CodeAgreementMissing)
	check(t, d.agree(newKey(t)))
	l.kdh.failing(errors.New("connection refused"))
	_, err = d.fetch(1)
	refused(t, "host away", err, provision.CodeDistributorUnavailable)
	l.kdh.failing(&kdhRefusal{})
	_, err = d.fetch(1)
	refused(t, "host refuses", err, provision.CodeDistributorRefused)
	l.kdh.failing(nil)
	if len(l.row("T-1").Slots[0].Keys) != 0 {
		t.Error("a key stands in the registry that was not delivered")
	}
	l.act(provision.ActionBlock, "T-1")
	_, err = d.fetch(1)
	refused(t, "blocked", err, provision.CodeStatusNotPermitted)
	if a := must[*remote.Assignment](t)(l.engine.Assignment(t.Context(), d.caller())); a.Slots[0].Wanted {
		t.Error("a blocked terminal is told to fetch keys")
	}
	l.act(provision.ActionUnblock, "T-1")
	old := d.chain
	d.chain = must[[]certificate](t)(d.renew(newKey(t)))
	_, err = (&device{l: l, id: "T-1", chain: old}).fetch(1)
	refused(t, "over the certificate before", err, provision.CodeCertificateSuperseded)
	_, err = l.engine.Assignment(t.Context(), provision.Caller{Leaf: old[0]})
	refused(t, "the assignment over the certificate before", err, provision.CodeCertificateSuperseded)
	_, err = d.fetch(1)
	check(t, err)
	l.clock.forward(2 * 365 * 24 * time.Hour)
	_, err = d.fetch(1)
	refused(t, "with an agreement certificate that has ended", err, provision.CodeAgreementMissing)
}

// TestRevokedWhileDelivering revokes a terminal while its key is on its way: the key is not recorded, the terminal does
// not get it, and the host hears of it.
func TestRevokedWhileDelivering(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	var id dukpt.KeyID
	l.kdh.delivered = func(r *remote.Delivery) {
		id = r.KeyID
		l.act(provision.ActionRevoke, "T-1") // waits for nothing that the delivery holds
	}
	_, err := d.fetch(1)
	refused(t, "delivery", err, provision.CodeStatusNotPermitted)
	if n := len(l.row("T-1").Slots[0].Keys); n != 0 {
		t.Errorf("%d keys recorded", n)
	}
	l.sweep()
	if got := l.kdh.settlements(id); len(got) != 1 || got[0] != keyset.SlotRetired {
		t.Errorf("the key was settled as %v", got)
	}
}

// TestDurableBeforeAnswer loses the store after the host has delivered: the terminal gets nothing.
func TestDurableBeforeAnswer(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	full := errors.New("disk full")
	l.kdh.delivered = func(*remote.Delivery) { l.store.Fail = func() error { return full } }
	got, err := d.fetch(1)
	refused(t, "delivery", err, provision.CodeStoreUnavailable)
	if got != nil {
		t.Error("the key left although it is not recorded")
	}
	l.store.Fail, l.kdh.delivered = nil, nil
	next := must[*remote.Delivery](t)(d.fetch(1))
	if k := l.row("T-1").Slots[0].Keys; len(k) != 1 || k[0].ID != next.KeyID {
		t.Errorf("keys %+v", k)
	}
}

func TestDeliveriesThatAreNotWhatWasOrdered(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, key := l.active("T-1")
	l.act(provision.ActionRekey, "T-1")
	for name, change := range map[string]func(*remote.Delivery){
		"replaces another": func(r *remote.Delivery) { r.Replaces = dukpt.KeyID{} },
		"no key id":        func(r *remote.Delivery) { r.KeyID = dukpt.KeyID{} },
	} {
		l.kdh.delivered = change
		_, err := d.fetch(1)
		refused(t, name, err, provision.CodeDistributorUnavailable)
	}
	l.kdh.delivered = func(r *remote.Delivery) { r.KeyID = key }
	_, err := d.fetch(1)
	refused(t, "a key id that the terminal has", err, provision.CodeDistributorRefused)
	if n := len(l.row("T-1").Slots[0].Keys); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// TestDeliveryIsBound hands the answer to whoever holds the agreement key, under the exporter that was given.
func TestDeliveryIsBound(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	req := &remote.Request{Slot: 1}
	_, _ = rand.Read(req.Nonce[:])
	exporter := [32]byte{1, 2, 3}
	got := must[*remote.Delivery](t)(l.engine.Deliver(t.Context(), d.caller(), exporter, req))
	binding := remote.Binding{
		Tenant: tenant, Terminal: "T-1", Slot: 1, TLS: d.chain[0], Agreement: d.agreed[0], Nonce: req.Nonce, Exporter: exporter,
	}
	private, err := d.agreement.ECDH()
	check(t, err)
	opened, err := remote.Open(got, binding, private, remote.OpenOptions{
		Roots: pool(l.keydist), Now: l.clock.time(), Environment: keyset.Test, KeySet: "DATA",
	})
	check(t, err)
	defer opened.Key.Wipe()
	if opened.Key.KeyID() != got.KeyID {
		t.Errorf("key id %v, want %v", opened.Key.KeyID(), got.KeyID)
	}
}
