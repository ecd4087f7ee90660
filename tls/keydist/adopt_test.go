package keydist_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// TestAdopt records keys that terminals have from elsewhere: their ids are never given out, a second terminal does not get one, and
// a list with one wrong key changes nothing.
func TestAdopt(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	given := d.fetch("CODE", 1)
	injected, _ := given.Next()
	second, _ := injected.Next()
	third, _ := second.Next()
	order := func(keys ...remote.AdoptedKey) remote.Adoption {
		return remote.Adoption{Tenant: "ACME", KeySet: "CODE", Keys: keys}
	}
	own := order(remote.AdoptedKey{Terminal: "K-1", Slot: 1, KeyID: injected}, remote.AdoptedKey{Terminal: "K-1", Slot: 2, KeyID: second})
	refused(t, "one of the list is given out", l.host.Adopt(t.Context(), ra, order(
		remote.AdoptedKey{Terminal: "K-2", Slot: 1, KeyID: given}, own.Keys[0])), keydist.CodeKeyIDGivenOut)
	leaves := len(l.store.Leaves())
	for n := range 2 { // the same again changes nothing
		if err := l.host.Adopt(t.Context(), ra, own); err != nil {
			t.Fatal(err)
		}
		if got := len(l.store.Leaves()) - leaves; got != 2 {
			t.Errorf("%d: %d records of two keys", n, got)
		}
	}
	if last := l.store.Leaves()[leaves+1]; last.Action != "adopt" || last.Result != "ADOPTED" || last.Object != "K-1/2/CODE/"+second.String() {
		t.Errorf("audited as %+v", last)
	}
	if got := d.fetch("CODE", 1); got != third {
		t.Errorf("the next key is %v, want %v", got, third)
	}
	for name, c := range map[string]struct {
		order remote.Adoption
		by    keydist.Caller
		want  keydist.Code
	}{
		"another terminal's": {order(remote.AdoptedKey{Terminal: "K-9", Slot: 1, KeyID: injected}), ra, keydist.CodeKeyIDMismatch},
		"another slot's":     {order(remote.AdoptedKey{Terminal: "K-1", Slot: 2, KeyID: injected}), ra, keydist.CodeKeyIDMismatch},
		"given out since":    {order(remote.AdoptedKey{Terminal: "K-3", Slot: 1, KeyID: third}), ra, keydist.CodeKeyIDGivenOut},
		"an unknown set":     {remote.Adoption{Tenant: "ACME", KeySet: "NOWHERE", Keys: own.Keys}, ra, keydist.CodeKeySetUnknown},
		"another set":        {remote.Adoption{Tenant: "ACME", KeySet: "SHORT", Keys: own.Keys}, ra, keydist.CodeKeyIDMismatch},
		"another tenant":     {remote.Adoption{Tenant: "OTHER", KeySet: "CODE", Keys: own.Keys}, ra, keydist.CodeTenantMismatch},
		"no key":             {order(), ra, keydist.CodeOrderMalformed},
		"an operator": {
			own, keydist.Caller{Identity: identity.Identity{Tenant: "ACME", Role: identity.Operator, Name: "ANNA"}}, keydist.CodeRoleNotPermitted,
		},
	} {
		refused(t, name, l.host.Adopt(t.Context(), c.by, c.order), c.want)
	}
}
