package keydist_test

import (
	"crypto/elliptic"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// states returns the states of everything given out, in order.
func (l *laboratory) states() (out []string) {
	for _, i := range l.store.IssuedAll() {
		out = append(out, i.State.String())
	}
	return out
}

func TestSettle(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	ids := []dukpt.KeyID{d.fetch("CODE", 1), d.fetch("SHORT", 1), d.fetch("CODE", 1), d.fetch("CODE", 1), d.fetch("CODE", 2)}
	settle := func(set keyset.ID, id dukpt.KeyID, state keyset.SlotState) error {
		return l.host.Settle(t.Context(), ra, d.settlement(set, 1, id, state))
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := l.states(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	if err := settle("CODE", ids[2], keyset.SlotActive); err != nil {
		t.Fatal(err)
	}
	expect("the third confirmed", "retired", "retired", "active", "pending", "pending")
	records := len(l.store.Leaves())
	for range 2 {
		if err := settle("CODE", ids[2], keyset.SlotActive); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	if got := len(l.store.Leaves()); got != records {
		t.Errorf("settling again left %d records", got-records)
	}
	refused(t, "a retired one confirmed", settle("CODE", ids[0], keyset.SlotActive), keydist.CodeSettlementConflict)
	if err := settle("CODE", ids[0], keyset.SlotRetired); err != nil {
		t.Errorf("retired again: %v", err)
	}
	if err := settle("CODE", ids[3], keyset.SlotActive); err != nil {
		t.Fatal(err)
	}
	expect("the newest confirmed", "retired", "retired", "active", "active", "pending")
	if err := settle("CODE", ids[2], keyset.SlotRetired); err != nil {
		t.Fatal(err)
	}
	expect("the old one retired", "retired", "retired", "retired", "active", "pending")
	if got := d.fetch("CODE", 1); slices.Contains(ids, got) {
		t.Errorf("%v was given out again", got)
	}
}

func TestSettleIsRecorded(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	first, second := d.fetch("CODE", 1), d.fetch("CODE", 1)
	before := len(l.store.Leaves())
	if err := l.host.Settle(t.Context(), ra, d.settlement("CODE", 1, second, keyset.SlotActive)); err != nil {
		t.Fatal(err)
	}
	leaves := l.store.Leaves()[before:]
	if len(leaves) != 2 || leaves[0].Result != "RETIRED" || leaves[0].Reason != "superseded" || leaves[0].Object != "T-1/1/CODE/"+first.String() ||
		leaves[1].Result != "ACTIVE" || leaves[1].Reason != "" || leaves[1].Object != "T-1/1/CODE/"+second.String() || leaves[1].Action != "settle" {
		t.Errorf("recorded %+v", leaves)
	}
}

func TestSettleRefuses(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d, other := l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())
	id := d.fetch("CODE", 1)
	good := d.settlement("CODE", 1, id, keyset.SlotActive)
	for _, c := range []struct {
		name   string
		caller keydist.Caller
		change func(*remote.Settlement)
		want   keydist.Code
	}{
		{"nobody", keydist.Caller{}, func(*remote.Settlement) {}, keydist.CodeRoleNotPermitted},
		{"another tenant", ra, func(s *remote.Settlement) { s.Tenant = "OTHER" }, keydist.CodeTenantMismatch},
		{"no state", ra, func(s *remote.Settlement) { s.State = 0 }, keydist.CodeOrderMalformed},
		{"pending", ra, func(s *remote.Settlement) { s.State = keyset.SlotPending }, keydist.CodeOrderMalformed},
		{"another terminal", ra, func(s *remote.Settlement) { s.Terminal = other.name }, keydist.CodeKeyIDMismatch},
		{"another slot", ra, func(s *remote.Settlement) { s.Slot = 2 }, keydist.CodeKeyIDMismatch},
		{"another set", ra, func(s *remote.Settlement) { s.KeySet = "SHORT" }, keydist.CodeKeyIDUnknown},
		{"another id", ra, func(s *remote.Settlement) { s.KeyID = keyID(t, "FFFF9876543211000000") }, keydist.CodeKeyIDUnknown},
	} {
		s := good
		c.change(&s)
		refused(t, c.name, l.host.Settle(t.Context(), c.caller, s), c.want)
		leaves := l.store.Leaves()
		if last := leaves[len(leaves)-1]; last.Result != "REFUSED" || last.Reason != string(c.want) {
			t.Errorf("%s: recorded %+v", c.name, last)
		}
	}
	if got := l.states(); got[0] != "pending" {
		t.Errorf("refusals settled it: %v", got)
	}
}
