package ceremony

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/url"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func ecdsaOf(p person) *ecdsa.PrivateKey { return p.key.(*ecdsa.PrivateKey) }

// onP384 makes a certificate whose key is on another curve.
func onP384(tb testing.TB) *x509.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(tb, err)
	id, err := identity.New("ACME", identity.Custodian, "BERT")
	check(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: id.Subject(), NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
		URIs: []*url.URL{id.URI()}, Policies: []x509.OID{identity.Custodian.Policy()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(tb, err)
	return must(x509.ParseCertificate(der))
}

// forge seals a sheet under the header of another file, as whoever has the certificate can.
func forge(tb testing.TB, p Plan, sealed []byte, s keys.Sheet) []byte {
	tb.Helper()
	from, err := ParseSealed(sealed)
	check(tb, err)
	_, public, err := readCertificate(p.Shares[from.Number-1].Certificate)
	check(tb, err)
	to, err := hpke.NewDHKEMPublicKey(public)
	check(tb, err)
	plain := []byte("no sheet")
	if text, err := s.Text(); err == nil {
		plain = text.Expose()
	}
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealedInfo))
	check(tb, err)
	ciphertext, err := sender.Seal(from.header, plain)
	check(tb, err)
	return must(codec.Marshal(file{Header: from.header, Enc: enc, Ciphertext: ciphertext}))
}

// fresh returns the record of a lab as it was when it began.
func fresh(tb testing.TB, l *lab) *Record {
	tb.Helper()
	r, err := Parse(l.record.text[:len(must(headOf(l)))])
	check(tb, err)
	return r
}

func headOf(l *lab) ([]byte, error) {
	r := new(Record)
	err := r.add(l.plan.line())
	return r.text, err
}

// device is a key that gives out nothing but what it computes.
type device struct{ key *ecdsa.PrivateKey }

func (d device) Public() crypto.PublicKey { return d.key.Public() }
func (d device) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return d.key.Sign(r, digest, o)
}
func (d device) Curve() ecdh.Curve          { return ecdh.P256() }
func (d device) PublicKey() *ecdh.PublicKey { return must(d.key.PublicKey.ECDH()) }
func (d device) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	return must(d.key.ECDH()).ECDH(remote)
}

// TestDevice opens a component with a key in a device, and refuses keys that do not agree.
func TestDevice(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	l.approve(t, l.anna, l.bert)
	c, err := NewCustodian(l.anna.cert, device{ecdsaOf(l.anna)})
	check(t, err)
	if _, err := l.load(t).Open(l.sealed[0], c); err != nil {
		t.Error(err)
	}
	if _, err := NewCustodian(l.anna.cert, l.bert.key); !errors.Is(err, ErrCustodian) {
		t.Errorf("another key: %v", err)
	}
	strange, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	if _, err := NewCustodian(l.anna.cert, strange); !errors.Is(err, ErrCustodian) {
		t.Errorf("RSA: %v", err)
	}
	if _, err := NewCustodian(l.anna.cert, signerOnly{l.anna.key}); !errors.Is(err, ErrCustodian) {
		t.Errorf("a key that only signs: %v", err)
	}
}

type signerOnly struct{ crypto.Signer }
