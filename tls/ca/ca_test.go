package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

func fake(t testing.TB, a identity.Authority) *catest.Fake {
	t.Helper()
	f, err := catest.NewFake(a, catest.Twist{}, at(noon))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestCheckComparesWithTheRequest keeps the certificate and changes what was asked for: each part of the request counts.
func TestCheckComparesWithTheRequest(t *testing.T) {
	t.Parallel()
	issuer := fake(t, identity.ServicesCA)
	req := catest.NewRequest(identity.AcquirerHost, "HOST")
	req.DNSNames, req.IPs = []string{"a.example", "b.example"}, []net.IP{net.IPv4(10, 0, 0, 1)}
	req.Lifetime = 24 * time.Hour
	issued, err := issuer.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	chain := issuer.Chain()
	if err := ca.Check(req, issued, chain, noon); err != nil {
		t.Fatalf("the request itself: %v", err)
	}
	for name, change := range map[string]func(*ca.Request){
		"key":              func(r *ca.Request) { r.PublicKey = catest.NewRequest(identity.RA, "X").PublicKey },
		"tenant":           func(r *ca.Request) { r.Identity.Tenant = "OTHER" },
		"name":             func(r *ca.Request) { r.Identity.Name = "OTHER" },
		"role":             func(r *ca.Request) { r.Identity.Role = identity.RA },
		"fewer host names": func(r *ca.Request) { r.DNSNames = r.DNSNames[:1] },
		"more host names":  func(r *ca.Request) { r.DNSNames = []string{"a.example", "b.example", "c.example"} },
		"other host names": func(r *ca.Request) { r.DNSNames = []string{"a.example", "a.example"} },
		"no address":       func(r *ca.Request) { r.IPs = nil },
		"another address":  func(r *ca.Request) { r.IPs = []net.IP{net.IPv4(10, 0, 0, 2)} },
		"shorter life":     func(r *ca.Request) { r.Lifetime = 23 * time.Hour },
		"longer life":      func(r *ca.Request) { r.Lifetime = 25 * time.Hour },
		"default life":     func(r *ca.Request) { r.Lifetime = 0 },
		"start":            func(r *ca.Request) { r.NotBefore, r.Lifetime = noon.Add(time.Hour), 23*time.Hour },
		"client only": func(r *ca.Request) {
			r.Profile, _ = ca.ProfileFor(identity.AcquirerHost)
			r.Profile.ServerAuth = false
			r.DNSNames, r.IPs = nil, nil
		},
	} {
		bad := req
		change(&bad)
		if err := ca.Check(bad, issued, chain, noon); !errors.Is(err, ca.ErrMismatch) {
			t.Errorf("another %s: %v, want ErrMismatch", name, err)
		}
	}
	if err := ca.Check(req, issued, fake(t, identity.ServicesCA).Chain(), noon); !errors.Is(err, ca.ErrMismatch) {
		t.Errorf("the chain of another issuer: %v, want ErrMismatch", err)
	}
	if err := ca.Check(req, issued, chain, noon.Add(time.Hour)); !errors.Is(err, ca.ErrMismatch) {
		t.Errorf("an old certificate for a new request: %v, want ErrMismatch", err)
	}
	if err := ca.Check(ca.Request{}, issued, chain, noon); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("no request: %v, want ErrRequest", err)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	second := noon.Truncate(time.Second)
	for _, tc := range []struct {
		name     string
		req      ca.Request
		from, to time.Time
	}{
		{"default of a terminal", catest.NewRequest(identity.Terminal, "T"), second.Add(-time.Minute), second.Add(90 * 24 * time.Hour)},
		{"default of a service", catest.NewRequest(identity.Decrypt, "D"), second.Add(-time.Minute), second.Add(365 * 24 * time.Hour)},
		{"lifetime", ca.Request{Identity: identity.Identity{Role: identity.Terminal}, Lifetime: time.Hour}, second.Add(-time.Minute), second.Add(time.Hour)},
		{
			"start", ca.Request{Identity: identity.Identity{Role: identity.Terminal}, NotBefore: noon.Add(-time.Hour), Lifetime: 2 * time.Hour},
			second.Add(-time.Hour), second.Add(time.Hour),
		},
	} {
		from, to, err := tc.req.Window(noon)
		if err != nil || !from.Equal(tc.from) || !to.Equal(tc.to) {
			t.Errorf("%s: %v until %v (%v), want %v until %v", tc.name, from, to, err, tc.from, tc.to)
		}
	}
	over := ca.Request{Identity: identity.Identity{Role: identity.Terminal}, NotBefore: noon.Add(-2 * time.Hour), Lifetime: time.Hour}
	if from, to, err := over.Window(noon); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("over: %v until %v, %v", from, to, err)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, role := range identity.Roles() {
		p, err := ca.ProfileFor(role)
		if err != nil || p.Role != role || p.DefaultLifetime <= 0 || p.DefaultLifetime > p.MaxLifetime || (len(p.Usages()) == 0) != p.KeyAgreement {
			t.Errorf("profile of %s: %+v, %v", role, p, err)
		}
	}
	if p, err := ca.ProfileFor("root"); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("profile of an unknown role: %+v, %v", p, err)
	}
}

func Example() {
	issuer, err := catest.NewFake(identity.TerminalCA, catest.Twist{}, time.Now) // or embedded.Open
	if err != nil {
		panic(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	req := ca.Request{
		PublicKey: key.Public(),
		Identity:  identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"},
	}
	issued, err := issuer.Issue(context.Background(), req)
	if err != nil {
		panic(err)
	}
	fmt.Println(issued[0].Subject, issued[0].URIs[0])

	req.Lifetime = 10 * 365 * 24 * time.Hour
	_, err = issuer.Issue(context.Background(), req)
	fmt.Println(err)
	// Output:
	// CN=T-1,O=ACME latchkey://ACME/terminal/T-1
	// ca: request refused: lifetime 87600h0m0s, want at most 8760h0m0s
}
