package status

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func authority(t testing.TB, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func question(t testing.TB, issuer *x509.Certificate, serial int64, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(serial)}, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	issuer, key := authority(t, "one")
	other, _ := authority(t, "two")
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		r, err := ParseRequest(question(t, issuer, 77, hash))
		if err != nil || r.Serial().Int64() != 77 || r.About(issuer) != nil {
			t.Fatalf("%v: %+v %v %v", hash, r, err, r.About(issuer))
		}
		if err := r.About(other); !errors.Is(err, ErrOther) {
			t.Errorf("%v: about another authority: %v", hash, err)
		}
		for _, want := range []Answer{
			{State: Good}, {State: Unknown}, {State: Revoked, Revoked: noon.Add(-time.Hour), Reason: 1},
		} {
			want.Request, want.From, want.Until = r, noon, noon.Add(time.Hour)
			der, err := Sign(want, issuer, key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ocsp.ParseResponseForCert(der, &x509.Certificate{SerialNumber: big.NewInt(77)}, issuer)
			if err != nil {
				t.Fatal(err)
			}
			status := map[State]int{Good: ocsp.Good, Unknown: ocsp.Unknown, Revoked: ocsp.Revoked}[want.State]
			if got.Status != status || !got.RevokedAt.Equal(want.Revoked) || got.RevocationReason != want.Reason || !got.NextUpdate.Equal(want.Until) {
				t.Errorf("%v: %+v, want %+v", hash, got, want)
			}
		}
	}
	if _, err := Sign(Answer{}, issuer, key); err == nil {
		t.Error("an answer to nothing is signed")
	}
	r, _ := ParseRequest(question(t, other, 77, crypto.SHA1))
	if _, err := Sign(Answer{Request: r, State: Good}, issuer, key); !errors.Is(err, ErrOther) {
		t.Errorf("signed for another authority: %v", err)
	}
	r, _ = ParseRequest(question(t, issuer, 77, crypto.SHA1))
	if _, err := Sign(Answer{Request: r}, issuer, key); err == nil {
		t.Error("an answer that says nothing is signed")
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	issuer, _ := authority(t, "one")
	good := question(t, issuer, 77, crypto.SHA256)
	long := new(big.Int).Lsh(big.NewInt(1), 8*maxSerial)
	for name, der := range map[string][]byte{
		"nothing": nil, "what follows": append(bytes.Clone(good), 0), "half": good[:len(good)/2], "long": make([]byte, MaxRequest+1),
		"serial number 0": question(t, issuer, 0, crypto.SHA256), "a negative one": question(t, issuer, -5, crypto.SHA256),
		"one of 21 bytes": func() []byte {
			b, _ := ocsp.CreateRequest(&x509.Certificate{SerialNumber: long}, issuer, nil)
			return b
		}(),
		"hashes that are too short": func() []byte {
			b, _ := (&ocsp.Request{HashAlgorithm: crypto.SHA256, IssuerNameHash: []byte{1}, IssuerKeyHash: []byte{2}, SerialNumber: big.NewInt(1)}).Marshal()
			return b
		}(),
	} {
		if _, err := ParseRequest(der); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v, want %v", name, err, ErrRequest)
		}
	}
}

// TestPath reads questions from paths, escaped by the letter, by a client that escapes nothing, and by one that escapes everything.
func TestPath(t *testing.T) {
	t.Parallel()
	issuer, _ := authority(t, "one")
	bare := 0
	for serial := int64(1); serial < 200; serial++ {
		der := question(t, issuer, serial, crypto.SHA1)
		want, err := ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		path, err := want.Path()
		if err != nil || strings.ContainsAny(path, "/+=") {
			t.Fatalf("%q, %v", path, err)
		}
		text := base64.StdEncoding.EncodeToString(der)
		if strings.ContainsAny(text, "/+") {
			bare++
		}
		for _, p := range []string{path, text, fmt.Sprintf("%%%X", []byte(text[:1])) + text[1:]} {
			if got, err := ParsePath(p); err != nil || !got.Equal(want) {
				t.Fatalf("%q: %+v, %v", p, got, err)
			}
		}
		for name, p := range map[string]string{
			"nothing": "", "no base64": "?" + text, "bad escape": text + "%4", "line break": text[:8] + "%0a" + text[8:], "line return": text[:8] + "%0D" + text[8:],
			"space": "%20" + text, "what follows": text + "AAAA", "escaped twice": strings.ReplaceAll(path, "%", "%25") + "%253D",
			"another alphabet": base64.URLEncoding.EncodeToString(append(der, 0xff, 0xff, 0xff)), "no end": text[:len(text)/2],
			"a slash more": "/" + text, "long": strings.Repeat("A", 4*base64.StdEncoding.EncodedLen(MaxRequest)),
		} {
			if _, err := ParsePath(p); !errors.Is(err, ErrRequest) {
				t.Errorf("%s: %v, want %v", name, err, ErrRequest)
			}
		}
	}
	if bare < 20 {
		t.Errorf("only %d questions need escapes", bare)
	}
}

// FuzzParseRequest wants of every question that is read that it is one about a serial number that a certificate can have, and the
// same when it is written again.
func FuzzParseRequest(f *testing.F) {
	issuer, _ := authority(f, "one")
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
		f.Add(question(f, issuer, 77, hash))
	}
	f.Add(question(f, issuer, 0, crypto.SHA1))
	f.Add(question(f, issuer, -1, crypto.SHA1))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseRequest(der)
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Fatal(err)
			}
			return
		}
		if n := r.Serial(); n.Sign() <= 0 || len(n.Bytes()) > maxSerial {
			t.Fatalf("serial number %v", n)
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRequest(again); err != nil || !got.Equal(r) {
			t.Fatalf("%x read as %+v, %v, want %+v", again, got, err, r)
		}
		path, err := r.Path()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePath(path); err != nil || !got.Equal(r) {
			t.Fatalf("%q read as %+v, %v, want %+v", path, got, err, r)
		}
	})
}

// FuzzParsePath wants of every path that is read that it says what some DER says, and nothing but that.
func FuzzParsePath(f *testing.F) {
	issuer, _ := authority(f, "one")
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
		der := question(f, issuer, 77, hash)
		f.Add(base64.StdEncoding.EncodeToString(der))
		f.Add(url.QueryEscape(base64.StdEncoding.EncodeToString(der)))
	}
	f.Add(base64.StdEncoding.EncodeToString(question(f, issuer, 0, crypto.SHA1)))
	f.Add("%0a")
	f.Fuzz(func(t *testing.T, path string) {
		r, err := ParsePath(path)
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Fatal(err)
			}
			return
		}
		text, err := url.PathUnescape(path)
		if err != nil {
			t.Fatal(err)
		}
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil || base64.StdEncoding.EncodeToString(der) != text {
			t.Fatalf("%q is the base64 of %x, %v", path, der, err)
		}
		if got, err := ParseRequest(der); err != nil || !got.Equal(r) {
			t.Fatalf("%q read as %+v, its DER as %+v, %v", path, r, got, err)
		}
		if n := r.Serial(); n.Sign() <= 0 || len(n.Bytes()) > maxSerial {
			t.Fatalf("serial number %v", n)
		}
	})
}
