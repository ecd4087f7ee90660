package catest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func fake(t *testing.T, authority identity.Authority, twist catest.Twist) catest.Fixture {
	t.Helper()
	start := time.Now()
	now := func() time.Time { return start } // stands still: a second must not end between a request and its check
	f, err := catest.NewFake(authority, twist, now)
	if err != nil {
		t.Fatal(err)
	}
	return catest.Fixture{Issuer: f, Authority: authority, Now: now}
}

func TestHonestFakePasses(t *testing.T) {
	t.Parallel()
	for _, a := range identity.Authorities() {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			catest.Run(t, func(t *testing.T) catest.Fixture { return fake(t, a, catest.Twist{}) })
		})
	}
}

// TestTwistedFakesAreCaught is the negative control: what each misbehaving issuer returns is refused by ca.Check, and the
// suite does not pass it.
func TestTwistedFakesAreCaught(t *testing.T) {
	t.Parallel()
	for _, twist := range catest.Twists() {
		t.Run(twist.Name, func(t *testing.T) {
			t.Parallel()
			f := fake(t, identity.TerminalCA, twist)
			req := catest.NewRequest(identity.Terminal, "ONE")
			issued, err := f.Issuer.Issue(t.Context(), req)
			if err != nil {
				t.Fatalf("the fake could not sign wrongly: %v", err)
			}
			if err := ca.Check(req, issued, f.Issuer.Chain(), f.Now()); !errors.Is(err, ca.ErrMismatch) {
				t.Errorf("Check: %v, want ErrMismatch", err)
			} else {
				t.Log(err)
			}
			failed := 0
			for _, c := range catest.Cases() {
				if c.Check(t.Context(), f) != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Error("the suite passed an issuer that misbehaves")
			}
		})
	}
}
