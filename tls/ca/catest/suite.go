package catest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Fixture is an issuer under test.
type Fixture struct {
	Issuer    ca.Issuer
	Authority identity.Authority
	Now       func() time.Time // the clock that the issuer uses
	// Immediate says that the issuer certifies from the moment of issue only: it refuses requests that name a start.
	Immediate bool
	// Reasonless says that the revocation lists of the issuer name no reasons.
	Reasonless bool
}

// Case is one thing that every issuer does. Check returns what it does instead.
type Case struct {
	Name  string
	Check func(context.Context, Fixture) error
}

// Run puts an issuer through every case, each with one of its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if err := c.Check(t.Context(), open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Cases returns the suite.
func Cases() []Case {
	return []Case{
		{"certifies every role of its authority, by the rules of zlint", everyRole},
		{"certifies no role of another authority", foreignRoles},
		{"refuses keys it does not know", foreignKeys},
		{"refuses bad names", badNames},
		{"names hosts only for roles that serve", hosts},
		{"keeps to the lifetime asked for", lifetimes},
		{"never outlives itself", outlives},
		{"takes a narrower profile and no wider one", profiles},
		{"gives every certificate its own serial number", serials},
		{"leaves the request alone", untouched},
		{"lists what is revoked", revocation},
		{"finds what it issued by its key", finds},
		{"does nothing for a cancelled context", cancelled},
		{"is healthy", func(ctx context.Context, f Fixture) error { return f.Issuer.Health(ctx) }},
	}
}

// finds has three certificates made, two of them for one key, and looks for them.
func finds(ctx context.Context, f Fixture) error {
	requests := []ca.Request{f.request(), f.request()}
	keys, want := make(map[[32]byte]bool), make(map[string][32]byte)
	var twice []string
	for n, i := range []int{0, 1, 0} {
		leaf, err := f.issue(ctx, requests[i])
		if err != nil {
			return err
		}
		key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		if i == 0 {
			keys[key], want[identity.Serial(leaf)] = true, key
			twice = append(twice, identity.Serial(leaf))
		}
		if n < 2 {
			continue
		}
		if err := f.Issuer.Revoke(ctx, twice[0], 4); err != nil { // what is revoked was issued all the same
			return err
		}
	}
	nothing := func(string) bool { return false }
	for range 2 {
		if got, err := f.Issuer.Issued(ctx, keys, nothing); err != nil || !maps.Equal(got, want) {
			return fmt.Errorf("issued: %v, %w, want %v", got, err, want)
		}
	}
	got, err := f.Issuer.Issued(ctx, keys, func(serial string) bool { return serial == twice[1] })
	if delete(want, twice[1]); err != nil || !maps.Equal(got, want) {
		return fmt.Errorf("issued, one of them known: %v, %w, want %v", got, err, want)
	}
	got, err = f.Issuer.Issued(ctx, map[[32]byte]bool{{1}: true, {}: true}, nothing)
	if err != nil || len(got) != 0 {
		return fmt.Errorf("issued under unknown keys: %v, %w", got, err)
	}
	return nil
}

// NewRequest returns a request for a new P-256 key and a role of the authority, with the proof that somebody has the key.
func NewRequest(role identity.Role, name string) ca.Request {
	return newRequest(elliptic.P256(), role, name)
}

func newRequest(curve elliptic.Curve, role identity.Role, name string) ca.Request {
	key := newKey(curve)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "asked for"}}, key)
	if err != nil {
		panic("catest: " + err.Error()) // a key of our own and a source that cannot fail
	}
	return ca.Request{PublicKey: key.Public(), CSR: csr, Identity: identity.Identity{Tenant: "ACME", Role: role, Name: name}}
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("catest: " + err.Error()) // a usual size and a source that cannot fail
	}
	return key
})

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic("catest: " + err.Error()) // a known curve and a source that cannot fail
	}
	return key
}

// issue asks for a certificate and checks it as a caller would who trusts nobody.
func (f Fixture) issue(ctx context.Context, req ca.Request) (*x509.Certificate, error) {
	now := f.Now()
	issued, err := f.Issuer.Issue(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("issue %v: %w", req.Identity, err)
	}
	if err := ca.CheckSince(req, issued, f.Issuer.Chain(), now, f.Now()); err != nil {
		return nil, fmt.Errorf("issue %v: %w", req.Identity, err)
	}
	return issued[0], nil
}

// refuses asks for what must not be certified.
func (f Fixture) refuses(ctx context.Context, what string, req ca.Request) error {
	_, err := f.Issuer.Issue(ctx, req)
	if !errors.Is(err, ca.ErrRequest) {
		return fmt.Errorf("%s: got error %v, want one that wraps ca.ErrRequest", what, err)
	}
	return nil
}

func (f Fixture) request() ca.Request { return NewRequest(f.Authority.Roles()[0], "ONE") }

func everyRole(ctx context.Context, f Fixture) error {
	for _, role := range f.Authority.Roles() {
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			req := newRequest(curve, role, "NAME-1")
			leaf, err := f.issue(ctx, req)
			if err != nil {
				return err
			}
			if id, err := identity.FromCertificate(leaf); err != nil || id != req.Identity {
				return fmt.Errorf("identity %v and error %v, want %v", id, err, req.Identity)
			}
			for _, cert := range append(f.Issuer.Chain(), leaf) {
				if err := Lint(cert); err != nil {
					return err
				}
			}
			client := slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
			server := slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
			if client != role.Client() || server != role.Server() {
				return fmt.Errorf("role %s has client %t and server %t", role, client, server)
			}
		}
	}
	return nil
}

func foreignRoles(ctx context.Context, f Fixture) error {
	for _, role := range identity.Roles() {
		if role.Authority() == f.Authority {
			continue
		}
		if err := f.refuses(ctx, "role "+role.String(), NewRequest(role, "ONE")); err != nil {
			return err
		}
	}
	return f.refuses(ctx, "no role", NewRequest("", "ONE"))
}

func foreignKeys(ctx context.Context, f Fixture) error {
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	for what, key := range map[string]crypto.PublicKey{
		"no key": nil, "nil key": (*ecdsa.PublicKey)(nil), "RSA": rsaKey().Public(), "Ed25519": edKey,
		"P-224": newKey(elliptic.P224()).Public(), "private key": newKey(elliptic.P256()),
	} {
		req := f.request()
		req.PublicKey = key
		if err := f.refuses(ctx, what, req); err != nil {
			return err
		}
	}
	return nil
}

func badNames(ctx context.Context, f Fixture) error {
	for _, name := range []string{"", "lower", "A B", "A/B", "Ä", "A\x00", "012345678901234567890123456789012"} {
		for _, id := range []identity.Identity{
			{Tenant: "ACME", Role: f.Authority.Roles()[0], Name: name},
			{Tenant: name, Role: f.Authority.Roles()[0], Name: "ONE"},
		} {
			req := f.request()
			req.Identity = id
			if err := f.refuses(ctx, fmt.Sprintf("name %q", name), req); err != nil {
				return err
			}
		}
	}
	return nil
}

func hosts(ctx context.Context, f Fixture) error {
	for _, role := range f.Authority.Roles() {
		req := NewRequest(role, "HOST")
		req.DNSNames = []string{"localhost", "pay-1.example.com"}
		req.IPs = []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP("::1")}
		if !role.Server() {
			if err := f.refuses(ctx, "a host name for "+role.String(), req); err != nil {
				return err
			}
			continue
		}
		leaf, err := f.issue(ctx, req)
		if err != nil {
			return err
		}
		for _, name := range []string{"localhost", "pay-1.example.com", "127.0.0.1", "::1"} {
			if err := leaf.VerifyHostname(name); err != nil {
				return err
			}
		}
		for _, name := range []string{"", "*.example.com", "UPPER", "a..b", "a.", "-a", "a_b", "127.0.0.1/8"} {
			req.DNSNames = []string{name}
			if err := f.refuses(ctx, fmt.Sprintf("host name %q", name), req); err != nil {
				return err
			}
		}
	}
	return nil
}

func lifetimes(ctx context.Context, f Fixture) error {
	req := f.request()
	profile, err := ca.ProfileFor(req.Identity.Role)
	if err != nil {
		return err
	}
	leaf, err := f.issue(ctx, req)
	if err != nil {
		return err
	}
	if end := f.Now().Add(profile.DefaultLifetime); leaf.NotAfter.After(end) || leaf.NotAfter.Before(end.Add(-time.Hour)) {
		return fmt.Errorf("valid until %v, want the default, about %v", leaf.NotAfter, end)
	}
	if !leaf.NotBefore.Before(f.Now()) {
		return fmt.Errorf("valid from %v, which is not before now", leaf.NotBefore)
	}
	req.Lifetime = time.Hour
	if _, err := f.issue(ctx, req); err != nil {
		return err
	}
	req.NotBefore, req.Lifetime = f.Now().Add(24*time.Hour), 2*time.Hour
	if f.Immediate {
		if err := f.refuses(ctx, "in advance", req); err != nil {
			return err
		}
	} else if _, err := f.issue(ctx, req); err != nil {
		return fmt.Errorf("in advance: %w", err)
	}
	for what, change := range map[string]func(*ca.Request){
		"too long":     func(r *ca.Request) { r.Lifetime = profile.MaxLifetime + time.Second },
		"negative":     func(r *ca.Request) { r.Lifetime = -time.Hour },
		"already over": func(r *ca.Request) { r.NotBefore, r.Lifetime = f.Now().Add(-2*time.Hour), time.Hour },
	} {
		bad := f.request()
		change(&bad)
		if err := f.refuses(ctx, what, bad); err != nil {
			return err
		}
	}
	return nil
}

func outlives(ctx context.Context, f Fixture) error {
	issuing := f.Issuer.Chain()[0]
	late := f.request()
	late.NotBefore, late.Lifetime = issuing.NotAfter.Add(-time.Hour), 2*time.Hour
	if err := f.refuses(ctx, "until after the issuer", late); err != nil {
		return err
	}
	early := f.request()
	early.NotBefore = issuing.NotBefore.Add(-time.Hour)
	early.Lifetime = f.Now().Sub(early.NotBefore) + time.Hour
	return f.refuses(ctx, "from before the issuer", early)
}

func profiles(ctx context.Context, f Fixture) error {
	req := f.request()
	full, err := ca.ProfileFor(req.Identity.Role)
	if err != nil {
		return err
	}
	req.Profile = full
	req.Profile.MaxLifetime, req.Profile.DefaultLifetime = 2*time.Hour, time.Hour
	leaf, err := f.issue(ctx, req)
	if err != nil {
		return err
	}
	if leaf.NotAfter.After(f.Now().Add(time.Hour)) {
		return fmt.Errorf("valid until %v, beyond the profile", leaf.NotAfter)
	}
	for what, change := range map[string]func(*ca.Profile){
		"longer life":  func(p *ca.Profile) { p.MaxLifetime += time.Second },
		"another role": func(p *ca.Profile) { p.Role = "other" },
		"no usage":     func(p *ca.Profile) { p.ClientAuth, p.ServerAuth = false, false },
		"no lifetime":  func(p *ca.Profile) { p.DefaultLifetime = 0 },
	} {
		bad := f.request()
		bad.Profile = full
		change(&bad.Profile)
		if err := f.refuses(ctx, "profile with "+what, bad); err != nil {
			return err
		}
	}
	return nil
}

func serials(ctx context.Context, f Fixture) error {
	const workers, each = 4, 5
	var (
		mu   sync.Mutex
		seen = make(map[string]bool)
		errs []error
		wg   sync.WaitGroup
	)
	for range workers {
		wg.Go(func() {
			for range each {
				leaf, err := f.issue(ctx, f.request())
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					seen[identity.Serial(leaf)] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) == 0 && len(seen) != workers*each {
		return fmt.Errorf("%d serial numbers for %d certificates", len(seen), workers*each)
	}
	return errors.Join(errs...)
}

func untouched(ctx context.Context, f Fixture) error {
	for _, role := range f.Authority.Roles() {
		req := NewRequest(role, "SAME")
		if role.Server() {
			req.DNSNames = []string{"b.example", "a.example"}
		}
		before := fmt.Sprintf("%+v", req)
		first, err := f.issue(ctx, req)
		if err != nil {
			return err
		}
		second, err := f.issue(ctx, req)
		if err != nil {
			return fmt.Errorf("the second time: %w", err)
		}
		if after := fmt.Sprintf("%+v", req); after != before {
			return fmt.Errorf("request changed from %s to %s", before, after)
		}
		if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
			return errors.New("the same serial number twice")
		}
	}
	return nil
}

func revocation(ctx context.Context, f Fixture) error {
	kept, err := f.issue(ctx, f.request())
	if err != nil {
		return err
	}
	gone, err := f.issue(ctx, f.request())
	if err != nil {
		return err
	}
	before, err := f.list(ctx)
	if err != nil {
		return err
	}
	for _, reason := range []int{1, 4} { // the second time changes nothing
		if err := f.Issuer.Revoke(ctx, identity.Serial(gone), reason); err != nil {
			return fmt.Errorf("revoke: %w", err)
		}
	}
	after, err := f.list(ctx)
	if err != nil {
		return err
	}
	if after.Number.Cmp(before.Number) <= 0 {
		return fmt.Errorf("list %v after %v", after.Number, before.Number)
	}
	want := 1
	if f.Reasonless {
		want = 0
	}
	if reason, ok := listed(after, gone.SerialNumber); !ok || reason != want {
		return fmt.Errorf("revoked: listed %t with reason %d, want the first reason, %d", ok, reason, want)
	}
	if _, ok := listed(after, kept.SerialNumber); ok {
		return errors.New("a certificate is listed that was not revoked")
	}
	if err := f.Issuer.Revoke(ctx, "0123456789abcdef", 1); !errors.Is(err, ca.ErrUnknownSerial) {
		return fmt.Errorf("revoke an unknown serial number: %v, want ca.ErrUnknownSerial", err)
	}
	for _, reason := range []int{-1, 7, 8, 11} {
		if err := f.Issuer.Revoke(ctx, identity.Serial(kept), reason); !errors.Is(err, ca.ErrRequest) {
			return fmt.Errorf("revoke for reason %d: %v, want ca.ErrRequest", reason, err)
		}
	}
	return nil
}

// list fetches the revocation list and checks its signature and dates.
func (f Fixture) list(ctx context.Context) (*x509.RevocationList, error) {
	der, err := f.Issuer.CRL(ctx)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if err := list.CheckSignatureFrom(f.Issuer.Chain()[0]); err != nil {
		return nil, err
	}
	if now := f.Now(); list.ThisUpdate.After(now) || !list.NextUpdate.After(now) {
		return nil, fmt.Errorf("revocation list from %v until %v at %v", list.ThisUpdate, list.NextUpdate, now)
	}
	return list, nil
}

func listed(list *x509.RevocationList, serial *big.Int) (reason int, ok bool) {
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return e.ReasonCode, true
		}
	}
	return 0, false
}

func cancelled(ctx context.Context, f Fixture) error {
	leaf, err := f.issue(ctx, f.request())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Issuer.Issue(ctx, f.request()); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("issue: %v, want context.Canceled", err)
	}
	if err := f.Issuer.Revoke(ctx, identity.Serial(leaf), 1); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("revoke: %v, want context.Canceled", err)
	}
	return nil
}
