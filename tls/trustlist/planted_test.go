//go:build planted

package trustlist_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// TestPlanted shows that the fault lets a stranger sign, and nothing else through. It does not run in parallel: faults are
// switched for the whole process.
func TestPlanted(t *testing.T) {
	t.Cleanup(func() { planted.Set() })
	doc := sign(t, newList(t, 1), newKey(t))
	a := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{pinOf(t, newKey(t))}}
	planted.Set(planted.GuardTrustList)
	if _, err := trustlist.Open(doc, a); err != nil {
		t.Errorf("with the fault on: %v", err)
	}
	doc[len(doc)-1] ^= 1
	if _, err := trustlist.Open(doc, a); err == nil {
		t.Error("with the fault on a forged signature counts too")
	}
	doc[len(doc)-1] ^= 1
	planted.Set()
	if _, err := trustlist.Open(doc, a); err == nil {
		t.Error("with the fault off a stranger's list is opened")
	}
}
