package feed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// firstRecord returns a valid first record of terminal T-1.
func firstRecord() *Record {
	return &Record{Epoch: 1, Sequence: 1, Kind: KindTerminal, Issuer: "RA-1", Terminal: newTerminal("T-1")}
}

// sign makes an envelope without asking whether anybody would believe it.
func (h *holder) sign(tb testing.TB, kind string, payload []byte) []byte {
	tb.Helper()
	envelope, err := keyset.Sign(kind, payload, h.leaf.Raw, h.key)
	check(tb, err)
	return envelope
}

func payload(tb testing.TB, v interface{ Marshal() ([]byte, error) }) []byte {
	tb.Helper()
	b, err := v.Marshal()
	check(tb, err)
	return b
}

func TestVerifierBelieves(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	v, err := NewVerifier(r.trust.Services, tenant, nil)
	check(t, err)
	envelope, hash, err := SignRecord(firstRecord(), r.signer.leaf.Raw, r.signer.key)
	check(t, err)
	if hash != sha256.Sum256(envelope) {
		t.Error("hash is not that of the envelope")
	}
	for range 2 { // the second time from memory
		got, h, err := v.Record(envelope, r.signer.chain)
		if err != nil || h != hash || got.Terminal.ID != "T-1" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if _, _, err := v.Record(envelope, nil); err != nil {
		t.Errorf("a signer that is known, without its chain: %v", err)
	}
	head, err := SignHead(&Head{Tenant: tenant, Epoch: 1, Time: time.UnixMilli(5)}, r.signer.leaf.Raw, r.signer.key)
	check(t, err)
	if h, err := v.Head(head, nil); err != nil || h.Epoch != 1 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestForged: no signature but that of a registration authority of the tenant counts.
func TestForged(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	ra := identity.Identity{Tenant: tenant, Role: identity.RA, Name: "RA-1"}
	good := payload(t, firstRecord())
	stranger := newPKI(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	otherTenant := ra
	otherTenant.Tenant = "OTHER"
	foreign := firstRecord()
	foreign.Terminal.Tenant = "OTHER"
	otherIssuer := firstRecord()
	otherIssuer.Issuer = "RA-2"
	expired := r.certify(t, ra, func(q *ca.Request) {
		q.NotBefore, q.Lifetime = time.Now().Add(-30*time.Minute), 30*time.Minute+2*time.Second
	})
	early := r.certify(t, ra, func(q *ca.Request) { q.NotBefore, q.Lifetime = time.Now().Add(time.Hour), time.Hour })
	narrow, err := catest.NewFake(identity.ServicesCA, catest.Twist{Issuing: func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Operator.Policy()} }}, time.Now)
	check(t, err)
	noSigner, err := catest.NewFake(identity.ServicesCA, catest.Twist{Template: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }}, time.Now)
	check(t, err)
	roots := pool(r.authorities[identity.ServicesCA])
	for _, issuer := range []ca.Issuer{narrow, noSigner} {
		roots.AddCert(issuer.Chain()[1])
	}
	own := selfSigned(t, ra)
	roots.AddCert(own.leaf)
	later := func() time.Time { return time.Now().Add(3 * time.Second) }
	v, err := NewVerifier(roots, tenant, later)
	check(t, err)
	signer := r.signer
	second := r.holder(t, identity.RA, "RA-1")
	two, err := keyset.AddSignature(signer.sign(t, kindRecord, good), second.leaf.Raw, second.key)
	check(t, err)
	operator := r.holder(t, identity.Operator, "ANNA")
	three, err := keyset.AddSignature(signer.sign(t, kindRecord, good), operator.leaf.Raw, operator.key)
	check(t, err)
	for _, c := range []struct {
		name     string
		envelope []byte
		chain    [][]byte
		want     error
	}{
		{"another key under the certificate", forge(t, signer, other, good), signer.chain, ErrSignature},
		{"an operator", operator.sign(t, kindRecord, good), signer.chain, ErrSignature},
		{"a decryption service", r.holder(t, identity.Decrypt, "RA-1").sign(t, kindRecord, good), signer.chain, ErrSignature},
		{"a terminal", r.holder(t, identity.Terminal, "RA-1").sign(t, kindRecord, good), r.holder(t, identity.Terminal, "T").chain, ErrSignature},
		{"a key-distribution host", r.holder(t, identity.KDH, "RA-1").sign(t, kindRecord, good), r.holder(t, identity.KDH, "K").chain, ErrSignature},
		{"an authority of another root", stranger.certify(t, ra, nil).sign(t, kindRecord, good), stranger.certify(t, ra, nil).chain, ErrSignature},
		{"a certificate of its own", selfSigned(t, ra).sign(t, kindRecord, good), nil, ErrSignature},
		{"a certificate that is its own root", own.sign(t, kindRecord, good), nil, ErrSignature},
		{"the authority of another tenant", r.certify(t, otherTenant, nil).sign(t, kindRecord, good), signer.chain, ErrSignature},
		{"an issuer that may not certify authorities", certify(t, narrow, ra, nil).sign(t, kindRecord, good), certify(t, narrow, ra, nil).chain, ErrSignature},
		{"a certificate that does not sign", certify(t, noSigner, ra, nil).sign(t, kindRecord, good), certify(t, noSigner, ra, nil).chain, ErrSignature},
		{"expired", expired.sign(t, kindRecord, good), expired.chain, ErrSignature},
		{"not yet valid", early.sign(t, kindRecord, good), early.chain, ErrSignature},
		{"no chain", r.holder(t, identity.RA, "RA-1").sign(t, kindRecord, good), nil, ErrSignature},
		{"a chain that is none", r.holder(t, identity.RA, "RA-1").sign(t, kindRecord, good), [][]byte{{1}}, ErrSignature},
		{"two signatures", two, signer.chain, ErrSignature},
		{"an operator beside the authority", three, signer.chain, ErrSignature},
		{"a terminal of another tenant", signer.sign(t, kindRecord, payload(t, foreign)), signer.chain, ErrSignature},
		{"another issuer than the signer", signer.sign(t, kindRecord, payload(t, otherIssuer)), signer.chain, ErrSignature},
		{"a head as a record", signer.sign(t, kindHead, good), signer.chain, ErrFormat},
		{"a terminal document", signer.sign(t, keyset.KindTerminal, good), signer.chain, ErrFormat},
		{"no record inside", signer.sign(t, kindRecord, []byte("hello")), signer.chain, ErrFormat},
		{"no envelope", []byte("hello"), signer.chain, ErrFormat},
		{"nothing", nil, nil, ErrFormat},
	} {
		if rec, _, err := v.Record(c.envelope, c.chain); !errors.Is(err, c.want) || rec != nil {
			t.Errorf("%s: %+v, %v, want %v", c.name, rec, err, c.want)
		}
	}
	if _, _, err := v.Record(signer.sign(t, kindRecord, good), signer.chain); err != nil {
		t.Errorf("the authority itself: %v", err)
	}
	for name, b := range map[string][]byte{
		"record as a head": signer.sign(t, kindRecord, payload(t, &Head{Tenant: tenant, Epoch: 1, Time: time.UnixMilli(1)})),
		"no head inside":   signer.sign(t, kindHead, good),
	} {
		if _, err := v.Head(b, signer.chain); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
	if _, err := v.Head(signer.sign(t, kindHead, payload(t, &Head{Tenant: "OTHER", Epoch: 1, Time: time.UnixMilli(1)})), signer.chain); !errors.Is(err, ErrSignature) {
		t.Errorf("head of another tenant: %v", err)
	}
}

// forge signs with another key than that of the certificate in the envelope.
func forge(tb testing.TB, of *holder, key *ecdsa.PrivateKey, payload []byte) []byte {
	tb.Helper()
	s, err := keyset.ParseSigned((&holder{leaf: selfSignedBy(tb, key, identity.Identity{Tenant: tenant, Role: identity.RA, Name: "RA-1"}), key: key}).sign(tb, kindRecord, payload))
	check(tb, err)
	s.Signatures[0].Certificate = of.leaf.Raw
	b, err := recordForm.Marshal(s)
	check(tb, err)
	return b
}

func selfSigned(tb testing.TB, id identity.Identity) *holder {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	return &holder{leaf: selfSignedBy(tb, key, id), key: key}
}

func selfSignedBy(tb testing.TB, key *ecdsa.PrivateKey, id identity.Identity) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: id.Name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URI()}, Policies: []x509.OID{id.Role.Policy()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(tb, err)
	cert, err := x509.ParseCertificate(der)
	check(tb, err)
	return cert
}

// TestSignerExpires: a certificate that was verified is believed no longer than it lasts.
func TestSignerExpires(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	var mu sync.Mutex
	now := time.Now()
	v, err := NewVerifier(r.trust.Services, tenant, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	check(t, err)
	envelope := r.signer.sign(t, kindRecord, payload(t, firstRecord()))
	for _, step := range []struct {
		at   time.Time
		want error
	}{
		{now, nil}, {r.signer.leaf.NotAfter, nil}, {r.signer.leaf.NotAfter.Add(time.Second), ErrSignature},
		{r.signer.leaf.NotBefore, nil}, {r.signer.leaf.NotBefore.Add(-time.Second), ErrSignature},
	} {
		now = step.at
		if _, _, err := v.Record(envelope, r.signer.chain); !errors.Is(err, step.want) {
			t.Errorf("at %v: %v, want %v", step.at, err, step.want)
		}
	}
}

// TestManySigners: what is remembered of signers is bounded.
func TestManySigners(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	v, err := NewVerifier(r.trust.Services, tenant, nil)
	check(t, err)
	for range 3 * maxSigners {
		h := r.holder(t, identity.RA, "RA-1")
		if _, _, err := v.Record(h.sign(t, kindRecord, payload(t, firstRecord())), h.chain); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(v.signers); n > maxSigners {
		t.Errorf("%d signers are remembered, want at most %d", n, maxSigners)
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	if _, err := NewVerifier(nil, tenant, nil); err == nil {
		t.Error("no roots")
	}
	if _, err := NewVerifier(x509.NewCertPool(), tenant, nil); err == nil {
		t.Error("an empty pool")
	}
	if _, err := NewVerifier(p.trust.Services, "acme", nil); err == nil {
		t.Error("a tenant that is no name")
	}
}

// TestSignRefuses: a publisher does not sign what no follower would believe.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	operator := r.holder(t, identity.Operator, "RA-1")
	other := r.certify(t, identity.Identity{Tenant: "OTHER", Role: identity.RA, Name: "RA-1"}, nil)
	named := r.holder(t, identity.RA, "RA-2")
	for name, h := range map[string]*holder{
		"an operator": operator, "another tenant": other, "another issuer": named,
		"another key": {leaf: r.signer.leaf, key: named.key}, "no certificate": {leaf: &x509.Certificate{}, key: named.key},
	} {
		if _, _, err := SignRecord(firstRecord(), h.leaf.Raw, h.key); err == nil {
			t.Errorf("%s signs a record", name)
		}
		if name == "another issuer" {
			continue // heads name none
		}
		if _, err := SignHead(&Head{Tenant: tenant, Epoch: 1, Time: time.UnixMilli(1)}, h.leaf.Raw, h.key); err == nil {
			t.Errorf("%s signs a head", name)
		}
	}
	bad := firstRecord()
	bad.Terminal.Generation = 0
	if _, _, err := SignRecord(bad, r.signer.leaf.Raw, r.signer.key); !errors.Is(err, ErrFormat) {
		t.Errorf("a record that breaks a rule: %v", err)
	}
	if _, err := SignHead(&Head{}, r.signer.leaf.Raw, r.signer.key); !errors.Is(err, ErrFormat) {
		t.Errorf("a head that breaks a rule: %v", err)
	}
}

// TestErrorsAreShort: what a stranger wrote does not fill the log.
func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	b, err := recordForm.Marshal(map[string]any{"v": 1, "kind": strings.Repeat("K", 10000)})
	check(t, err)
	if _, err := ParseRecord(b); err == nil || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
}
