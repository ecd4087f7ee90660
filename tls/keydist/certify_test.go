package keydist_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

func TestCertify(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		t.Run(curve.Params().Name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			d := l.enrol("T-1", curve)
			o := d.certifyOrder(d.key)
			chain := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, o))
			id, err := identity.FromCertificate(chain[0])
			if want := (identity.Identity{Tenant: "ACME", Role: identity.Agreement, Name: "T-1"}); err != nil || id != want {
				t.Errorf("for %v (%v), want %v", id, err, want)
			}
			if chain[0].KeyUsage != x509.KeyUsageKeyAgreement || !d.key.PublicKey.Equal(chain[0].PublicKey) {
				t.Errorf("key usage %v", chain[0].KeyUsage)
			}
			again := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key))) // another signature, the same key
			if !again[0].Equal(chain[0]) || len(again) != len(chain) {
				t.Error("the same key has another certificate")
			}
			d.agreement = chain
			if set, ok := map[elliptic.Curve]keyset.ID{elliptic.P256(): "CODE", elliptic.P521(): "WIDE"}[curve]; ok {
				d.fetch(set, 1)
			}
		})
	}
}

// TestCertifyRenews gives a new certificate for the same key when half of the old one's life is over.
func TestCertifyRenews(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	first := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	l.advance(360 * 24 * time.Hour)
	d.tls = l.issue(l.terminals, identity.Terminal, "T-1", d.tlsKey)
	same := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	l.advance(10 * 24 * time.Hour)
	second := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	if !same[0].Equal(first[0]) || second[0].Equal(first[0]) {
		t.Error("renewed at another time than half of its life")
	}
	third := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	if !third[0].Equal(second[0]) {
		t.Error("the new certificate is not the recorded one")
	}
}

// TestCertifyAfterTheRootChanged gives a new certificate for the same key.
func TestCertifyAfterTheRootChanged(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	first := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	l.keydist = must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, l.clock))
	l.config.Issuer, l.config.Trust.KeyDist = l.keydist, roots(l.keydist)
	signer := newKey(t, elliptic.P384())
	l.config.Signer, l.config.Chain = signer, l.issue(l.keydist, identity.KDH, "KDH-SIGNER-2", signer)
	l.start()
	d.agreement = must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	if d.agreement[0].Equal(first[0]) {
		t.Error("the certificate of the old root was given again")
	}
	d.fetch("CODE", 1)
}

func TestCertifyIsRecorded(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	first := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(d.key)))
	second := must[[]*x509.Certificate](t)(l.host.Certify(t.Context(), ra, d.certifyOrder(newKey(t, elliptic.P256()))))
	leaves := l.store.Leaves()
	for i, want := range []struct{ result, reason, serial string }{
		{"CERTIFIED", "first key", identity.Serial(first[0])}, {"AGAIN", "", identity.Serial(first[0])},
		{"CERTIFIED", "further key", identity.Serial(second[0])},
	} {
		if got := leaves[i]; got.Action != "certify" || got.Result != want.result || got.Reason != want.reason || got.Object != "T-1/"+want.serial {
			t.Errorf("record %d: %+v, want %+v", i, got, want)
		}
	}
}

// TestCertifyAtOnce sends one order many times at once: all get one certificate.
func TestCertifyAtOnce(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	var all sync.WaitGroup
	var mu sync.Mutex
	serials := make(map[string]bool)
	for range 16 {
		o := d.certifyOrder(d.key)
		all.Go(func() {
			chain, err := l.host.Certify(t.Context(), ra, o)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			serials[identity.Serial(chain[0])] = true
		})
	}
	all.Wait()
	if len(serials) != 1 {
		t.Errorf("%d certificates, want 1", len(serials))
	}
}

func TestCertifyRefuses(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d, stranger := l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())
	request := func(role identity.Role, name string) []byte {
		return must[[]byte](t)(est.NewRequest(d.key, identity.Identity{Tenant: "ACME", Role: role, Name: name}))
	}
	for _, c := range []struct {
		name   string
		caller keydist.Caller
		change func(*remote.CertifyOrder)
		want   keydist.Code
	}{
		{"nobody", keydist.Caller{}, func(*remote.CertifyOrder) {}, keydist.CodeRoleNotPermitted},
		{"another tenant", ra, func(o *remote.CertifyOrder) { o.Tenant = "OTHER" }, keydist.CodeTenantMismatch},
		{"no request", ra, func(o *remote.CertifyOrder) { o.CSR = nil }, keydist.CodeOrderMalformed},
		{"another terminal", ra, func(o *remote.CertifyOrder) { o.Terminal = "T-2" }, keydist.CodeTLSCertificateInvalid},
		{"the chain of another terminal", ra, func(o *remote.CertifyOrder) { o.TLSChain = der(stranger.tls) }, keydist.CodeTLSCertificateInvalid},
		{"the agreement chain", ra, func(o *remote.CertifyOrder) { o.TLSChain = der(d.agreement) }, keydist.CodeTLSCertificateInvalid},
		{"a request that is none", ra, func(o *remote.CertifyOrder) { o.CSR = []byte("no request") }, keydist.CodeSigningRequestRefused},
		{"a request with bytes after it", ra, func(o *remote.CertifyOrder) { o.CSR = append(o.CSR, 0) }, keydist.CodeSigningRequestRefused},
		{"a request that nobody signed", ra, func(o *remote.CertifyOrder) { o.CSR[len(o.CSR)-1] ^= 1 }, keydist.CodeSigningRequestRefused},
		{"a request for another name", ra, func(o *remote.CertifyOrder) { o.CSR = request(identity.Agreement, "T-2") }, keydist.CodeSigningRequestRefused},
		{"a request for a host", ra, func(o *remote.CertifyOrder) { o.CSR = request(identity.KDH, "T-1") }, keydist.CodeSigningRequestRefused},
		{"the key of the TLS certificate", ra, func(o *remote.CertifyOrder) { o.CSR = d.certifyOrder(d.tlsKey).CSR }, keydist.CodeSigningRequestRefused},
	} {
		o := d.certifyOrder(d.key)
		c.change(&o)
		chain, err := l.host.Certify(t.Context(), c.caller, o)
		refused(t, c.name, err, c.want)
		if chain != nil {
			t.Errorf("%s: a certificate beside the error", c.name)
		}
		leaves := l.store.Leaves()
		if last := leaves[len(leaves)-1]; last.Result != "REFUSED" || last.Reason != string(c.want) {
			t.Errorf("%s: recorded %+v", c.name, last)
		}
	}
}

// TestCertifyTrustsNoIssuer has issuers that sign something else than was asked for.
func TestCertifyTrustsNoIssuer(t *testing.T) {
	t.Parallel()
	for _, twist := range catest.Twists() {
		if twist.Name == "no usage" || twist.Name == "an issuer for other usages" {
			continue // certificates of agreement keys name no extended key usage
		}
		t.Run(twist.Name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			d := l.enrol("T-1", elliptic.P256())
			l.config.Issuer = must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, twist, l.clock))
			l.start()
			chain, err := l.host.Certify(t.Context(), ra, d.certifyOrder(d.key))
			refused(t, twist.Name, err, keydist.CodeIssuerUnavailable)
			if chain != nil || len(l.store.Leaves()) != 0 {
				t.Errorf("%d certificates, recorded %+v", len(chain), l.store.Leaves())
			}
		})
	}
}

// TestCertifyKeepsWhatItGives lets the store fail after the certificate was issued.
func TestCertifyKeepsWhatItGives(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	left := 1
	l.store.Fail = func() error {
		if left--; left < 0 {
			return errors.New("disk")
		}
		return nil
	}
	chain, err := l.host.Certify(t.Context(), ra, d.certifyOrder(d.key))
	refused(t, "without a store", err, keydist.CodeStoreUnavailable)
	if chain != nil {
		t.Error("a certificate that is not recorded was given away")
	}
}
