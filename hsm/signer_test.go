package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

// pair makes a key pair of P-256 that stays in the token.
func pair(t *testing.T, token *Token, label, id string) {
	t.Helper()
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		public := []attribute{
			number(attrClass, classPublic), number(attrKeyType, typeEC), flag(attrToken, true), {attrECParams, paramsP256}, flag(attrVerify, true),
			text(attrLabel, label), text(attrID, id),
		}
		private := []attribute{
			number(attrClass, classPrivate), number(attrKeyType, typeEC), flag(attrToken, true), flag(attrPrivate, true), flag(attrSensitive, true),
			flag(attrExtractable, false), flag(attrSign, true), text(attrLabel, label), text(attrID, id),
		}
		_, _, err := c.device.generateKeyPair(l.session, mechanism{code: mechECKeyPair}, public, private)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustURI(t *testing.T, text string) URI {
	t.Helper()
	u, err := ParseURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// signs makes a certificate with a signer, and has it verified.
func signs(s crypto.Signer) error {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.Public(), s)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return cert.CheckSignatureFrom(cert)
}

func TestSigner(t *testing.T) {
	token := open(t, Options{Clock: fast()})
	pair(t, token, "issuer", "\x01")
	pair(t, token, "twice", "\x02")
	pair(t, token, "twice", "\x03")
	var all []crypto.Signer
	for _, text := range []string{"pkcs11:object=issuer", "pkcs11:id=%01", "pkcs11:object=issuer;id=%01;type=private", "pkcs11:object=twice;id=%03"} {
		s, err := token.Signer(t.Context(), mustURI(t, text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := signs(s); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		all = append(all, s)
	}
	for text, want := range map[string]error{
		"pkcs11:object=nobody": engine.ErrKeyNotFound, "pkcs11:object=twice": ErrAmbiguous, "pkcs11:object=issuer;id=%02": engine.ErrKeyNotFound,
		"pkcs11:": ErrURI, "pkcs11:object=issuer;type=public": ErrURI,
	} {
		if s, err := token.Signer(t.Context(), mustURI(t, text)); !errors.Is(err, want) || s != nil {
			t.Errorf("%s: got %v, %v; want %v", text, s, err, want)
		}
	}
	c, err := token.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token.lost(c, rvDeviceError)
	for _, s := range all { // the module is another one now, and so is every handle
		until(t, "a signature", func() bool { return signs(s) == nil })
	}
	if token.Stats().Generation != 1 {
		t.Errorf("%+v", token.Stats())
	}
	one, ok := all[0].(*signer)
	if !ok {
		t.Fatalf("%T", all[0])
	}
	digest := sha256.Sum256(message)
	other := &signer{token: token, object: one.object, public: all[3].Public()}
	if _, err := other.Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, ErrAttributes) {
		t.Errorf("a key pair that was replaced signs: %v", err)
	}
	signature, err := one.Sign(rand.Reader, digest[:], crypto.SHA256)
	if public, ok := one.Public().(*ecdsa.PublicKey); err != nil || !ok || !ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Errorf("the signature does not verify: %v", err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}
