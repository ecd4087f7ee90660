package hsm

import (
	"crypto/elliptic"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

func TestGenerateSigner(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	token := openAgain(t, u, Options{})
	for name, curve := range map[string]elliptic.Curve{"p-256": elliptic.P256(), "p-384": elliptic.P384(), "p 521; ü": elliptic.P521()} {
		s, err := token.GenerateSigner(t.Context(), name, curve)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := signs(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := token.GenerateSigner(t.Context(), name, curve); !errors.Is(err, ErrExists) {
			t.Errorf("%s again: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		name  string
		curve elliptic.Curve
		want  error
	}{
		"no name": {"", elliptic.P256(), ErrURI}, "not UTF-8": {"\xFF", elliptic.P256(), ErrURI},
		"no curve": {"a", nil, ErrAttributes}, "too small a curve": {"a", elliptic.P224(), ErrAttributes},
	} {
		if s, err := token.GenerateSigner(t.Context(), tt.name, tt.curve); !errors.Is(err, tt.want) || s != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	s, err := openAgain(t, u, Options{}).Signer(t.Context(), mustURI(t, "pkcs11:object=p-384"))
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(s); err != nil {
		t.Errorf("found again: %v", err)
	}
}

// TestPairsThatLeave has a token make a private key that could leave, or say of one that it could.
func TestPairsThatLeave(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	for name, lie := range map[string]func(code uint, b []byte) []byte{
		"extractable": func(code uint, b []byte) []byte { return turned(code == attrExtractable, b) },
		"derives":     func(code uint, b []byte) []byte { return turned(code == attrDerive, b) },
	} {
		o, f := withFaults(Options{}, func(*faulty) {})
		token := openAgain(t, u, o)
		(*f).rewrite(lie)
		if s, err := token.GenerateSigner(t.Context(), "leaves", elliptic.P256()); !errors.Is(err, ErrAttributes) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
		(*f).rewrite(nil)
		if _, err := token.Signer(t.Context(), mustURI(t, "pkcs11:object=leaves")); !errors.Is(err, engine.ErrKeyNotFound) {
			t.Errorf("%s: the pair stays: %v", name, err)
		}
	}
	token := openAgain(t, u, Options{})
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		_, _, err := c.device.generateKeyPair(l.session, mechanism{code: mechECKeyPair}, []attribute{
			number(attrClass, classPublic), number(attrKeyType, typeEC), flag(attrToken, true), {attrECParams, paramsP256}, flag(attrVerify, true),
			text(attrLabel, "weak"), text(attrID, "weak"),
		}, []attribute{
			number(attrClass, classPrivate), number(attrKeyType, typeEC), flag(attrToken, true), flag(attrPrivate, true), flag(attrSensitive, true),
			flag(attrExtractable, true), flag(attrSign, true), text(attrLabel, "weak"), text(attrID, "weak"),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := token.Signer(t.Context(), mustURI(t, "pkcs11:object=weak")); !errors.Is(err, ErrAttributes) || s != nil {
		t.Errorf("a private key that may be extracted signs: %v", err)
	}
}

func turned(on bool, b []byte) []byte {
	if on {
		return []byte{1}
	}
	return b
}

// TestPairsAreNotRepeated loses the token while a pair is made.
func TestPairsAreNotRepeated(t *testing.T) {
	t.Parallel()
	o, f := withFaults(Options{Clock: fast()}, func(*faulty) {})
	token := openAgain(t, hsmURI(t), o)
	for _, fault := range []error{rvDeviceError, rvSessionHandle} {
		(*f).fail("generateKeyPair", fault)
		if _, err := token.GenerateSigner(t.Context(), "once", elliptic.P256()); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%v: %v", fault, err)
		}
		until(t, "a pair", func() bool {
			_, err := token.GenerateSigner(t.Context(), fault.Error(), elliptic.P256())
			return err == nil
		})
	}
	if n := (*f).count("generateKeyPair"); n < 4 {
		t.Errorf("%d pairs were asked for", n)
	}
}

func TestNamesKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"pkcs11:object=a": true, "pkcs11:id=%01": true, "pkcs11:object=a;id=%01;type=private": true,
		"pkcs11:": false, "pkcs11:type=private": false, "pkcs11:object=a;type=cert": false, "pkcs11:object=a;token=b": false,
		"pkcs11:object=a?module-path=/m": false, "pkcs11:object=a?pin-source=/p": false,
	} {
		if got := mustURI(t, text).NamesKey(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
