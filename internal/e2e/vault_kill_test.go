package e2e

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// backed is an authority of two instances and a key-distribution host, with a PostgreSQL and a Vault behind them: five that may be killed.
type backed struct {
	*authority
	vault    *vaulttest.Server
	setup    *vaultCommand
	database *shared
}

func newBacked(t *testing.T) *backed {
	t.Helper()
	b := &backed{authority: newAuthority(t), vault: vaulttest.Stored(t)}
	b.setup = b.onVault(t, b.vault)
	b.database = b.onPostgres(t)
	b.keyd = newService("latchkey-keyd", b.database.instance(t, b.keyd.config, "KDH-1"), "listen", "admin")
	t.Cleanup(b.keyd.end)
	b.database.migrate(t, "keyd", b.keyd.config)
	b.keyd.start(t, binaries.shipped)
	for _, ra := range b.pair(t, b.database) { // one after the other: the first spends the wrapping token, the second finds the secret-id
		ra.args = []string{"--keyd", "https://" + b.keyd.doors["listen"]}
		ra.start(t, binaries.shipped)
		loggedIn(t, ra)
	}
	return b
}

// victims are what is killed, in this order where nobody shuffles them.
var victims = []string{"RA-1", "RA-2", "KDH-1", "vault", "postgres"}

// kill ends one of the victims with kill -9, and starts it again.
func (b *backed) kill(t *testing.T, victim string) {
	t.Helper()
	switch victim {
	case "vault":
		b.vault.Kill()
		b.vault.Start()
		b.vault.Unseal()
	case "postgres":
		b.database.Kill()
		check(t, b.database.Start())
	default:
		s := map[string]*service{"RA-1": b.ra, "RA-2": b.second, "KDH-1": b.keyd}[victim]
		select {
		case err := <-s.exited:
			t.Fatalf("%s has ended by itself: %v\n%s", victim, err, tail(s.log))
		default:
		}
		s.kill()
		s.start(t, binaries.shipped)
	}
}

// TestOnboardingKillOnVault ends two registration authorities, the key-distribution host, the PostgreSQL that all of them share and the
// Vault that certifies, with kill -9 at random points of enrolment and renewal, and starts them again: each of the five once, in an order
// of chance, before the next five. It is judged as TestOnboardingKill is: no code was accepted for two keys, at either authority, no key id
// delivered twice, no terminal is stuck, and what was signed and nobody was given is revoked.
func TestOnboardingKillOnVault(t *testing.T) {
	f, seed := chosen(), chosenSeed(t)
	b := newBacked(t)
	o := newOnboarding(t, b.authority, stuckAfter)
	o.renews = true
	random := mathrand.New(mathrand.NewPCG(seed, seed))
	stop := sync.OnceFunc(o.run(t, f))
	defer stop()
	begun, least, kills := time.Now(), int64(1<<62), make(map[string]int)
	for range f.vaultKills / len(victims) {
		for _, i := range random.Perm(len(victims)) {
			after := time.Duration(random.Int64N(int64(f.killAfter)))
			least = min(least, o.strike(t, f, after, func() { b.kill(t, victims[i]) }))
			kills[victims[i]]++
		}
	}
	took := time.Since(begun).Round(time.Second)
	stop()
	codes, keys := o.twice()
	renewed := 0
	for _, e := range o.done {
		renewed += e.asked
	}
	t.Logf("%d kills under load in %v: %v; enrolments and renewals under way at each: %d at least", f.vaultKills, took, kills, least)
	t.Logf("terminals enrolled and renewed: %d, stuck: %d; codes accepted for two keys: %d; key ids delivered twice: %d", len(o.done), len(o.faults), len(codes), len(keys))
	t.Logf("attempts that a kill ended, by what was asked: %v; attempts to renew: %d; second keys tried after a kill: %d, refused: %v", o.interrupted, renewed, o.tried, o.refusals)
	for _, fault := range slices.Concat(o.faults, codes, keys) {
		t.Error(fault)
	}
	ended := 0
	for _, n := range o.interrupted {
		ended += n
	}
	for _, victim := range victims {
		if kills[victim] < f.vaultKills/len(victims) {
			t.Errorf("too little: %s was killed %d times", victim, kills[victim])
		}
	}
	if least < int64(f.enrolling) || len(o.done) < f.vaultKills || o.tried < f.vaultKills || ended < f.vaultKills/2 {
		t.Errorf("too little: %d under way at a kill, %d terminals enrolled, %d second keys tried, %d attempts ended by a kill, want %d, %d, %d and %d",
			least, len(o.done), o.tried, ended, f.enrolling, f.vaultKills, f.vaultKills, f.vaultKills/2)
	}
	o.judgeRegistry(t)
	o.judgeVault(t, b.setup)
	for _, s := range []*service{b.ra, b.second, b.keyd} {
		s.stop(t)
	}
	for _, s := range []struct{ kind, config, pub string }{
		{"provisiond", b.ra.config, "provisiond.pub"}, {"provisiond", b.second.config, "provisiond.pub"}, {"keyd", b.keyd.config, "keyd.pub"},
	} {
		t.Logf("audit verify of %s: %s", filepath.Base(s.config), b.database.verify(t, s.kind, s.config, s.pub))
	}
}

// loggedIn waits for the first login to Vault. Who kills a service between the moment when it has spent the wrapping token and the one
// when it has kept the secret-id has to give it another one.
func loggedIn(t *testing.T, ra *service) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(ra.log.String(), "logged in to Vault"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not log in to Vault\n%s", ra.log)
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
		if n < 1 || n > e.codes+e.asked {
			t.Errorf("%s: certificates were signed for %d keys, %d codes were handed out, %d attempts made to renew", e.id, n, e.codes, e.asked)
		}
		most = max(most, n)
	}
	t.Logf("keys that Vault certified for a terminal: %d at most, never more than it had codes and renewals", most)
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
