package keydist_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// TestWithdraw takes key ids back that were not given out: the next key goes beyond them, and when all of a set are taken
// none is delivered any more. Keys that were given out are settled as before.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	first := d.fetch("CODE", 1)
	set, _ := l.keySet("CODE")
	later := first
	for range 5 {
		later, _ = later.Next()
	}
	order := remote.Withdrawal{Tenant: "ACME", KeySet: "CODE", Through: later}
	for n := range 2 {
		if err := l.host.Withdraw(t.Context(), ra, order); err != nil {
			t.Fatal(err)
		}
		if last := l.store.Leaves()[len(l.store.Leaves())-1]; n == 0 && (last.Action != "withdraw" || last.Result != "WITHDRAWN" || last.Object != "CODE through "+later.String()) {
			t.Errorf("audited as %+v", last)
		}
	}
	if next, _ := later.Next(); d.fetch("CODE", 1) != next {
		t.Errorf("the next key is not %v", next)
	}
	order.Through = first // which is behind: nothing goes back
	if err := l.host.Withdraw(t.Context(), ra, order); err != nil {
		t.Error(err)
	}
	order.Through = set.LastID
	if err := l.host.Withdraw(t.Context(), ra, order); err != nil {
		t.Fatal(err)
	}
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "a key of a set that is stopped", err, keydist.CodeKeySetStopped)
	if err := l.host.Settle(t.Context(), ra, d.settlement("CODE", 1, first, keyset.SlotActive)); err != nil {
		t.Errorf("a key of before: %v", err)
	}
	if d.fetch("SHORT", 2).IsZero() {
		t.Error("another set is stopped too")
	}
	for name, c := range map[string]struct {
		order remote.Withdrawal
		by    keydist.Caller
		want  keydist.Code
	}{
		"an unknown set": {remote.Withdrawal{Tenant: "ACME", KeySet: "NOWHERE", Through: first}, ra, keydist.CodeKeySetUnknown},
		"another set":    {remote.Withdrawal{Tenant: "ACME", KeySet: "SHORT", Through: first}, ra, keydist.CodeKeyIDMismatch},
		"another tenant": {remote.Withdrawal{Tenant: "OTHER", KeySet: "CODE", Through: first}, ra, keydist.CodeTenantMismatch},
		"no id":          {remote.Withdrawal{Tenant: "ACME", KeySet: "CODE"}, ra, keydist.CodeOrderMalformed},
		"an operator": {
			order, keydist.Caller{Identity: identity.Identity{Tenant: "ACME", Role: identity.Operator, Name: "ANNA"}}, keydist.CodeRoleNotPermitted,
		},
	} {
		refused(t, name, l.host.Withdraw(t.Context(), c.by, c.order), c.want)
	}
}

// TestBeyondTheEnd has the registry know that a set is stopped before the host does.
func TestBeyondTheEnd(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	set, _ := l.keySet("CODE")
	o := d.order("CODE", 1)
	o.Beyond = set.LastID // the registry has stopped it, and this host was not told yet
	_, err := l.host.Deliver(t.Context(), ra, o)
	refused(t, "beyond the end", err, keydist.CodeKeySetStopped)
}
