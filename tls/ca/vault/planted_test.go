//go:build planted

package vault_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
)

// These tests prove that the faults which the others look for would be noticed. They do not run in parallel: faults are
// global.

// TestPlantedUnchecked has wrong certificates handed out.
func TestPlantedUnchecked(t *testing.T) {
	planted.Set(planted.VaultUnchecked)
	defer planted.Set()
	server := vaulttest.New(t)
	for name, change := range wrongRoles {
		p := prepare(t, server)
		i := p.open(t, nil)
		p.Must("PATCH", p.plan.Mount+"/roles/"+p.plan.Role, change)
		if issued, err := i.Issue(t.Context(), request("T-1")); err != nil || issued == nil {
			t.Errorf("%s: with the fault it is noticed all the same: %v", name, err)
		}
	}
}

// TestPlantedUnseated has all callers ask Vault at once.
func TestPlantedUnseated(t *testing.T) {
	planted.Set(planted.VaultUnseated)
	defer planted.Set()
	_, front, i := laboratory(t, func(o *vault.Options) { o.Concurrent = 3; o.Timeout = 10 * time.Second })
	works(t, i, "before")
	all := make(chan struct{})
	front.set(at("/sign/", func(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		select {
		case <-all:
		case <-r.Context().Done():
		}
		return false
	}))
	const callers = 10
	errs := make(chan error, callers)
	for range callers {
		go func() {
			_, err := i.Issue(t.Context(), request("T-1"))
			errs <- err
		}()
	}
	deadline := time.Now().Add(10 * time.Second)
	for front.busiest() < callers && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	close(all)
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := front.busiest(); n != callers {
		t.Errorf("with the fault %d calls were with Vault at once, want all %d", n, callers)
	}
}

// TestPlantedRelentless has a Vault that fails asked again and again.
func TestPlantedRelentless(t *testing.T) {
	planted.Set(planted.VaultRelentless)
	defer planted.Set()
	_, front, i := laboratory(t, nil)
	works(t, i, "before")
	front.count("")
	front.set(at("/sign/", says(http.StatusInternalServerError, `{"errors":["no"]}`)))
	for range 20 {
		away(t, i, "status 500: no")
	}
	if n := front.count("/sign"); n != 20 {
		t.Errorf("with the fault Vault is asked %d times, want 20", n)
	}
}

// TestPlantedStorm has a fleet come all at once, come before it is told to, and ask Vault without seats: the storm sees each by what it is.
func TestPlantedStorm(t *testing.T) {
	defer planted.Set()
	for _, c := range []struct {
		fault planted.Name
		sees  string
	}{
		{planted.RenewTogether, "if they came evenly"},
		{planted.RetryAfterIgnored, "before the time they were told"},
		{planted.VaultUnseated, "and there are 8 seats"},
	} {
		planted.Set(c.fault)
		got := storm{200, 10}.rage(t)
		all := strings.Join(got.faults(), "; ")
		t.Logf("%s: %s", c.fault, all)
		if !strings.Contains(all, c.sees) {
			t.Errorf("%s was not seen: %v", c.fault, got)
		}
		if got.expired > 0 || got.done.Load() == 0 {
			t.Errorf("%s: %v", c.fault, got)
		}
	}
}
