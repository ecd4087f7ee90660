package e2e

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// TestOnboardingKillOnVault ends the registration authority, the key-distribution host and a real Vault behind them with kill -9
// at random points of enrolment, and starts them again; Vault has its data on disk and is unsealed after each. It is judged as
// TestOnboardingKill is: no code was accepted for two keys, no key id delivered twice, and no terminal is stuck.
func TestOnboardingKillOnVault(t *testing.T) {
	f := chosen()
	server := vaulttest.Stored(t)
	a := newAuthority(t)
	v := a.onVault(t, server)
	a.start(t, binaries.shipped)
	a.loggedIn(t)
	o := newOnboarding(t, a, stuckAfter)
	stop := o.run(t, f)
	kills := map[string]int{}
	for i := range f.vaultKills {
		switch i % 3 {
		case 0:
			o.round(t, f, a.ra, binaries.shipped)
			kills[a.ra.program]++
		case 1:
			o.round(t, f, a.keyd, binaries.shipped)
			kills[a.keyd.program]++
		default:
			o.strike(t, f, func() {
				server.Kill()
				server.Start()
				server.Unseal()
			})
			kills["vault"]++
		}
	}
	stop()
	codes, keys := o.twice()
	t.Logf("kills: %v", kills)
	t.Logf("terminals enrolled: %d, stuck: %d; codes accepted for two keys: %d; key ids delivered twice: %d", len(o.done), len(o.faults), len(codes), len(keys))
	t.Logf("attempts that a kill ended, by what was asked: %v; second keys tried after a kill: %d, refused: %v", o.interrupted, o.tried, o.refusals)
	for _, fault := range slices.Concat(o.faults, codes, keys) {
		t.Error(fault)
	}
	if len(o.done) < f.vaultKills || o.tried < f.vaultKills {
		t.Errorf("too little: %d terminals enrolled, %d second keys tried, want %d of each", len(o.done), o.tried, f.vaultKills)
	}
	o.judgeRegistry(t)
	o.judgeVault(t, v)
	a.ra.stop(t)
	a.keyd.stop(t)
	a.verifyAudits(t)
}

// loggedIn waits for the first login to Vault. Who kills a service between the moment when it has spent the wrapping token and the one
// when it has kept the secret-id has to give it another one.
func (a *authority) loggedIn(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(a.ra.log.String(), "logged in to Vault"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not log in to Vault\n%s", a.ra.log)
		}
	}
}

// judgeVault counts the keys that Vault certified for each terminal, whether anybody got the answer or not: no more than there
// were codes. What was signed and is in no registry, because a kill came between the two, is revoked.
func (o *onboarding) judgeVault(t *testing.T, v *vaultCommand) {
	t.Helper()
	var signed map[string]map[[32]byte]bool
	found := o.judgeOrphans(t, binaries.shipped, findable, func(kept map[string]bool) (out orphans) {
		signed, out = v.signed(t, kept)
		return out
	})
	most := 0
	for _, e := range o.done {
		n := len(signed[string(e.id)])
		if n < 1 || n > e.codes {
			t.Errorf("%s: certificates were signed for %d keys, %d codes were handed out", e.id, n, e.codes)
		}
		most = max(most, n)
	}
	t.Logf("keys that Vault certified for a terminal: %d at most, never more than it had codes", most)
	t.Logf("certificates that Vault signed and nobody was given: %d, of those not revoked: %d", found.lost, found.live)
	if found.live > 0 {
		t.Errorf("%d certificates that nobody was given are not revoked", found.live)
	}
}

// signed returns the keys that Vault has certified for each terminal, and counts the certificates beside those that are kept.
func (v *vaultCommand) signed(t *testing.T, kept map[string]bool) (signed map[string]map[[32]byte]bool, out orphans) {
	t.Helper()
	signed = make(map[string]map[[32]byte]bool)
	serials, _ := v.server.Must("LIST", v.mount+"/certs", nil)["keys"].([]any)
	for _, s := range serials {
		entry := v.server.Must("GET", v.mount+"/cert/"+strings.ReplaceAll(s.(string), ":", "-"), nil)
		block, _ := pem.Decode([]byte(entry["certificate"].(string)))
		cert, err := x509.ParseCertificate(block.Bytes)
		check(t, err)
		if cert.IsCA {
			continue
		}
		name := cert.Subject.CommonName
		if signed[name] == nil {
			signed[name] = make(map[[32]byte]bool)
		}
		signed[name][sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = true
		if !kept[identity.Serial(cert)] {
			out.lost++
			if entry["revocation_time"].(float64) == 0 {
				out.live++
			}
		}
	}
	return signed, out
}
