package vault_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// TestConformance runs the suite of issuers on a real Vault: one Vault, and an engine, a role and an AppRole for each case.
func TestConformance(t *testing.T) {
	t.Parallel()
	server := vaulttest.New(t)
	catest.Run(t, func(t *testing.T) catest.Fixture {
		i := prepare(t, server.For(t)).open(t, nil)
		run(t, i)
		return catest.Fixture{Issuer: i, Authority: identity.TerminalCA, Now: time.Now, Immediate: true, Reasonless: true}
	})
}
