package est_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"testing"

	"github.com/smallstep/pkcs7"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/est"
)

const (
	oidData   = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidSigned = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
)

func certificates(t testing.TB, n int) []*x509.Certificate {
	t.Helper()
	key := newKey(elliptic.P256())
	var out []*x509.Certificate
	for range n {
		out = append(out, certificate(t, key, terminal, pkix.Name{CommonName: "T-0001"}))
	}
	return out
}

func TestCerts(t *testing.T) {
	t.Parallel()
	certs := certificates(t, 16)
	for _, n := range []int{1, 2, 16} {
		body, err := est.EncodeCerts(certs[:n])
		if err != nil {
			t.Fatal(err)
		}
		got, err := est.DecodeCerts(body)
		if err != nil || !slices.EqualFunc(got, certs[:n], (*x509.Certificate).Equal) {
			t.Errorf("%d certificates: %v, %v", n, got, err)
		}
		der, err := est.DecodeRequest(body)
		if n < 16 {
			if err != nil {
				t.Fatal(err)
			}
			p7, err := pkcs7.Parse(der)
			if err != nil || len(p7.Certificates) != n || len(p7.Signers) != 0 || len(p7.CRLs) != 0 || len(p7.Content) != 0 {
				t.Errorf("%d certificates read as %+v, %v", n, p7, err)
			}
		}
	}
	for name, certs := range map[string][]*x509.Certificate{
		"none": nil, "seventeen": append(certs, certs[0]), "a nil one": {certs[0], nil},
		"a certificate of 64 KiB": {{Raw: make([]byte, 64<<10)}},
	} {
		if body, err := est.EncodeCerts(certs); err == nil || body != nil {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// degenerate writes the PKCS #7 by hand; each part can be anything.
func degenerate(typ, version, algorithms, content, certs, crls, signers []byte) []byte {
	return seq(typ, context(0, seq(version, algorithms, content, certs, crls, signers)))
}

func TestDecodeCertsRefuses(t *testing.T) {
	t.Parallel()
	raw := certificates(t, 1)[0].Raw
	typ, one, none, data := oid(oidSigned), tlv(asn1.INTEGER, []byte{1}), set(), seq(oid(oidData))
	list, absent := context(0, raw), []byte(nil)
	good := degenerate(typ, one, none, data, list, absent, none)
	for name, der := range map[string][]byte{"without lists": good, "with no list": degenerate(typ, one, none, data, list, context(1), none)} {
		if _, err := est.DecodeCerts(est.EncodeRequest(der)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, der := range map[string][]byte{
		"version 3":             degenerate(typ, tlv(asn1.INTEGER, []byte{3}), none, data, list, absent, none),
		"enveloped data":        degenerate(oid("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"), one, none, data, list, absent, none),
		"a digest algorithm":    degenerate(typ, one, set(seq(oid("\x60\x86\x48\x01\x65\x03\x04\x02\x01"))), data, list, absent, none),
		"content":               degenerate(typ, one, none, seq(oid(oidData), context(0, tlv(asn1.OCTET_STRING, []byte("x")))), list, absent, none),
		"content of a kind":     degenerate(typ, one, none, seq(oid(oidSigned)), list, absent, none),
		"no certificates":       degenerate(typ, one, none, data, context(0), absent, none),
		"certificates absent":   degenerate(typ, one, none, data, absent, absent, none),
		"seventeen":             degenerate(typ, one, none, data, context(0, bytes.Repeat(raw, 17)), absent, none),
		"a damaged one":         degenerate(typ, one, none, data, context(0, raw, raw[:len(raw)-1]), absent, none),
		"an attribute one":      degenerate(typ, one, none, data, context(0, raw, context(1, []byte{5, 0})), absent, none),
		"a revocation list":     degenerate(typ, one, none, data, list, context(1, seq()), none),
		"a signer":              degenerate(typ, one, none, data, list, absent, set(seq(one))),
		"no signers":            degenerate(typ, one, none, data, list, absent, absent),
		"more inside":           seq(typ, context(0, seq(one, none, data, list, none, one))),
		"more outside":          append(bytes.Clone(good), 0),
		"another behind it":     append(bytes.Clone(good), good...),
		"more in the envelope":  seq(typ, context(0, seq(one, none, data, list, none)), one),
		"two in the envelope":   seq(typ, context(0, seq(one, none, data, list, none), seq(one, none, data, list, none))),
		"a certificate alone":   raw,
		"indefinite lengths":    slices.Concat([]byte{0x30, 0x80}, good[4:], []byte{0, 0}),
		"cut":                   good[:len(good)-1],
		"nothing but a type":    seq(typ),
		"deep nesting of types": bytes.Repeat([]byte{0x30, 0x80}, 20<<10),
	} {
		if got, err := est.DecodeCerts(est.EncodeRequest(der)); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for i := range good {
		if got, err := est.DecodeCerts(est.EncodeRequest(good[:i])); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%d bytes: %v, %v", i, got, err)
		}
	}
	if got, err := est.DecodeCerts(good); !errors.Is(err, est.ErrFormat) || got != nil {
		t.Errorf("DER: %v, %v", got, err)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		der, err := est.Attributes(curve)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := est.ParseAttributes(der); err != nil || got != curve {
			t.Errorf("%v, %v, want %v", got, err, curve)
		}
	}
	for _, curve := range []elliptic.Curve{nil, elliptic.P224()} {
		if der, err := est.Attributes(curve); err == nil {
			t.Errorf("%v: %x", curve, der)
		}
	}
	p256 := attribute(oidECDSA, oid(oidP256))
	foreign := seq(oid(oidChallenge), p256, attribute("\x2b\x06\x01\x01\x01\x01\x16", oid(oidSHA256)), oid(oidSHA384))
	if got, err := est.ParseAttributes(foreign); err != nil || got != elliptic.P256() {
		t.Errorf("one that asks for more, as the example of RFC 7030: %v, %v", got, err)
	}
	for name, der := range map[string][]byte{
		"nothing": nil, "an empty list": seq(), "another list": set(p256), "more behind it": append(seq(p256), 0),
		"two curves": seq(attribute(oidECDSA, oid(oidP256), oid(oidP256))), "twice": seq(p256, p256), "no curve": seq(attribute(oidECDSA)),
		"an object alone": seq(oid(oidECDSA)), "P-224": seq(attribute(oidECDSA, oid("\x2b\x81\x04\x00\x21"))),
		"a curve by name": seq(attribute(oidECDSA, tlv(asn1.UTF8String, []byte("P-256")))), "numbers": seq(tlv(asn1.INTEGER, []byte{1})),
		"an attribute of three parts": seq(seq(oid(oidECDSA), set(oid(oidP256)), set())), "cut": p256[:len(p256)-1],
		"too long": seq(p256, attribute(oidChallenge, tlv(asn1.OCTET_STRING, make([]byte, 9<<10)))),
	} {
		if got, err := est.ParseAttributes(der); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
