package vault_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func request(name string) ca.Request { return catest.NewRequest(identity.Terminal, name) }

// laboratory is a real Vault behind a proxy, with an issuer that asks through it.
func laboratory(t testing.TB, change func(*vault.Options)) (*place, *proxy, *vault.Issuer) {
	t.Helper()
	p := prepare(t, vaulttest.Own(t))
	front := newProxy(t, p.Address)
	return p, front, p.open(t, func(o *vault.Options) {
		o.Server.Address = front.URL
		if change != nil {
			change(o)
		}
	})
}

// works wants a certificate.
func works(t testing.TB, i *vault.Issuer, when string) *x509.Certificate {
	t.Helper()
	issued, err := i.Issue(t.Context(), request("T-1"))
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	return issued[0]
}

// away wants an Unavailable that says something, and when to come again.
func away(t testing.TB, i *vault.Issuer, says string) *vault.Unavailable {
	t.Helper()
	_, err := i.Issue(t.Context(), request("T-1"))
	u, ok := errors.AsType[*vault.Unavailable](err)
	if !ok || !strings.Contains(u.Error(), says) || u.RetryAfter() < 2*time.Second || strings.ContainsAny(u.Error(), "\n\x1b") {
		t.Fatalf("got %v, want that it is away and says %q", err, says)
	}
	return u
}

// rested waits until the breaker lets somebody through again.
func rested(t testing.TB, i *vault.Issuer) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := i.Issue(t.Context(), request("T-1"))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never works again: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestSealed(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Own(t))
	i := p.open(t, nil)
	works(t, i, "before")
	p.Seal()
	away(t, i, "Vault is sealed")
	if err := i.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("health: %v", err)
	}
	if _, err := i.CRL(t.Context()); err == nil {
		t.Error("there is a list")
	}
	p.Unseal()
	rested(t, i)
	if err := i.Health(t.Context()); err != nil {
		t.Errorf("health afterwards: %v", err)
	}
}

// TestKilled ends Vault with kill -9, and starts it again on its data: revocations are made up for, and nothing else is to be
// done by hand but to unseal it.
func TestKilled(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Stored(t))
	i := p.open(t, nil)
	leaf := works(t, i, "before")
	p.Kill()
	away(t, i, "sign: ") // how a connection ends is chance
	if err := i.Revoke(t.Context(), identity.Serial(leaf), 1); err == nil {
		t.Error("a dead Vault revokes")
	}
	if err := i.Health(t.Context()); err == nil {
		t.Error("a dead Vault is healthy")
	}
	p.Start()
	p.Unseal()
	rested(t, i)
	if err := i.Revoke(t.Context(), identity.Serial(leaf), 1); err != nil {
		t.Error(err)
	}
	der := must[[]byte](t)(i.CRL(t.Context()))
	list := must[*x509.RevocationList](t)(x509.ParseRevocationList(der))
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Errorf("the list has %v, want %s", list.RevokedCertificateEntries, identity.Serial(leaf))
	}
}

// TestSlow has Vault answer too late. A call is not repeated, and is over in time.
func TestSlow(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, func(o *vault.Options) { o.Timeout = 2 * time.Second })
	works(t, i, "before")
	front.count("")
	front.set(at("/sign/", func(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		<-r.Context().Done()
		return true
	}))
	begun := time.Now()
	away(t, i, "no answer in time")
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v, want about 2 s", took)
	}
	if n := front.count("/sign"); n != 1 {
		t.Errorf("Vault was asked %d times, want once", n)
	}
	front.set(nil)
	rested(t, i)
}

// TestRest counts what reaches a Vault that fails: three calls, then nobody until the rest is over, then one.
func TestRest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	_, front, i := laboratory(t, func(o *vault.Options) { o.Clock = clock })
	works(t, i, "before")
	front.count("")
	front.set(at("/sign/", says(http.StatusInternalServerError, `{"errors":["no"]}`)))
	for range 3 {
		away(t, i, "status 500: no")
	}
	if n := front.count("/sign"); n != 3 || !i.Resting() {
		t.Fatalf("%d calls, resting %t", n, i.Resting())
	}
	var waits []time.Duration
	for rest := range 6 {
		for range 10 {
			waits = append(waits, away(t, i, "failed 3 times in a row").RetryAfter())
		}
		if n := front.count(""); n != 0 {
			t.Fatalf("%d calls during rest %d, want none", n, rest)
		}
		mu.Lock()
		now = now.Add(time.Duration(1<<rest) * time.Second) // 1 s, and twice as long each time
		mu.Unlock()
		away(t, i, "status 500: no")
		if n := front.count("/sign"); n != 1 {
			t.Fatalf("%d calls after rest %d, want one", n, rest)
		}
	}
	same := make(map[time.Duration]bool)
	for _, w := range waits {
		same[w] = true
	}
	if len(same) < len(waits)*9/10 {
		t.Errorf("%d callers are sent away for %d different times", len(waits), len(same))
	}
	front.set(nil)
	mu.Lock()
	now = now.Add(31 * time.Second)
	mu.Unlock()
	_, err := i.Issue(t.Context(), request("T-1")) // refused: the clock is a minute and a half ahead by now
	if n := front.count("/sign"); n != 1 || i.Resting() || !errors.Is(err, ca.ErrMismatch) {
		t.Errorf("when Vault is well: %d calls, resting %t, %v", n, i.Resting(), err)
	}
}

// TestSeats has more callers than seats: no more than these are with Vault at once.
func TestSeats(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, func(o *vault.Options) { o.Concurrent = 3; o.Timeout = 10 * time.Second })
	works(t, i, "before")
	front.set(at("/sign/", func(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
		return false
	}))
	const callers = 30
	errs := make(chan error, callers)
	for n := range callers {
		go func() {
			_, err := i.Issue(t.Context(), request(fmt.Sprintf("T-%d", n)))
			errs <- err
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := front.busiest(); n != 3 {
		t.Errorf("%d calls were with Vault at once, want 3", n)
	}
}

// TestSeatsTaken: who gets no seat in time is sent away, and who has left needs none.
func TestSeatsTaken(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, func(o *vault.Options) { o.Concurrent = 1; o.Timeout = 2 * time.Second })
	works(t, i, "before")
	held := make(chan struct{})
	entered := make(chan struct{}, 1)
	front.set(at("/sign/", func(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		entered <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-held:
		}
		return true
	}))
	first := make(chan error, 1)
	go func() {
		_, err := i.Issue(t.Context(), request("T-1"))
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := i.Issue(ctx, request("T-2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who leaves: %v", err)
	}
	if err := <-first; err == nil {
		t.Error("a call without an answer gives a certificate")
	}
	close(held)
	if n := front.count("/sign"); n != 2 {
		t.Errorf("%d calls, want the two that had a seat", n)
	}
}

// TestLostAnswer loses answers behind a signature: Vault has certificates that nobody here knows, and the next call gets one of
// its own.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	works(t, i, "before")
	before := len(p.serials(t))
	front.set(at("/sign/", lost))
	away(t, i, "sign: ")
	if n := len(p.serials(t)) - before; n != 1 {
		t.Errorf("Vault has signed %d, want 1", n)
	}
	front.set(nil)
	leaf := works(t, i, "again")
	if n := len(p.serials(t)) - before; n != 2 {
		t.Errorf("Vault has signed %d, want 2", n)
	}
	if p.revoked(t, identity.Serial(leaf)) {
		t.Error("the second certificate is revoked")
	}
}

// serials returns the serial numbers that Vault has stored, with those of its issuers.
func (p *place) serials(t testing.TB) []string {
	t.Helper()
	list, _ := p.Must("LIST", p.plan.Mount+"/certs", nil)["keys"].([]any)
	out := make([]string, len(list))
	for i, serial := range list {
		out[i] = strings.ReplaceAll(serial.(string), ":", "")
	}
	return out
}

// revoked asks Vault whether it has revoked a certificate.
func (p *place) revoked(t testing.TB, serial string) bool {
	t.Helper()
	var pairs []string
	for n := 0; n < len(serial); n += 2 {
		pairs = append(pairs, serial[n:n+2])
	}
	when, ok := p.Must("GET", p.plan.Mount+"/cert/"+strings.Join(pairs, "-"), nil)["revocation_time"].(float64)
	if !ok {
		t.Fatalf("Vault does not know %s", serial)
	}
	return when > 0
}

// TestDead has nobody answer at all.
func TestDead(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, nil)
	works(t, i, "before")
	front.set(dead)
	away(t, i, "sign: ")
	if err := i.Health(t.Context()); err == nil {
		t.Error("it is healthy")
	}
	front.set(nil)
	rested(t, i)
}

// TestAnswers puts answers before the issuer that no Vault gives.
func TestAnswers(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, nil)
	works(t, i, "before")
	for name, answer := range map[string]string{
		"nothing": "", "no JSON": "<html>", "a list": "[]", "null": "null", "no data": "{}", "no certificate": `{"data":{}}`,
		"a number": `{"data":{"certificate":7}}`, "no base64": `{"data":{"certificate":"%%%"}}`, "no DER": `{"data":{"certificate":"AAAA"}}`,
		"an endless one": `{"data":{"certificate":"` + strings.Repeat("A", 1<<20) + `"}}`,
	} {
		front.set(at("/sign/", says(http.StatusOK, answer)))
		issued, err := i.Issue(t.Context(), request("T-1"))
		_, waits := errors.AsType[*vault.Unavailable](err)
		if issued != nil || !waits && !errors.Is(err, ca.ErrMismatch) {
			t.Errorf("%s: %v, %v", name, issued, err)
		}
		front.set(nil)
		rested(t, i)
	}
}

// TestAnotherCertificate has Vault answer with a certificate of its own that was made for somebody else.
func TestAnotherCertificate(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	var mu sync.Mutex
	var kept []byte
	front.set(at("/sign/", func(w http.ResponseWriter, _ *http.Request, pass func(http.ResponseWriter)) bool {
		mu.Lock()
		defer mu.Unlock()
		if kept == nil {
			r := httptest.NewRecorder()
			pass(r)
			kept = r.Body.Bytes()
		}
		_, _ = w.Write(kept)
		return true
	}))
	first := works(t, i, "the first")
	_, err := i.Issue(t.Context(), request("T-1"))
	if !errors.Is(err, ca.ErrMismatch) || !strings.Contains(err.Error(), "another public key") {
		t.Errorf("the certificate of somebody else: %v", err)
	}
	var answer struct{ Data map[string]any }
	if err := json.Unmarshal(kept, &answer); err != nil {
		t.Fatal(err)
	}
	if !p.revoked(t, identity.Serial(first)) {
		t.Error("what was refused is not revoked")
	}
}
