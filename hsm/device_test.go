package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
)

func TestDeviceKeys(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	o, f := withFaults(Options{}, nil)
	token := openAgain(t, u, o)
	d, err := token.DeviceKeys(objectURI(t, "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	for curve, c := range deviceCurves {
		for _, agrees := range []bool{false, true} {
			handle, err := d.Make(curve, agrees)
			if err != nil {
				t.Fatalf("%v, agrees %v: %v", curve.Params().Name, agrees, err)
			}
			k, err := d.Open(handle)
			if err != nil {
				t.Fatalf("%v: %v", curve.Params().Name, err)
			}
			pub := k.Public().(*ecdsa.PublicKey)
			digest := sha256.Sum256([]byte("text"))
			signature, err := k.Sign(rand.Reader, digest[:], nil)
			if err != nil || pub.Curve != curve || !ecdsa.VerifyASN1(pub, digest[:], signature) {
				t.Errorf("%v: a signature: %v", curve.Params().Name, err)
			}
			exchange, ok := k.(ecdh.KeyExchanger)
			if ok != agrees {
				t.Fatalf("%v: agrees %v, want %v", curve.Params().Name, ok, agrees)
			}
			if ok {
				agree(t, exchange, c.ecdh)
			}
			if err := d.Destroy(handle); err != nil {
				t.Fatal(err)
			}
			if err := d.Destroy(handle); err != nil {
				t.Errorf("again: %v", err)
			}
		}
	}
	if _, err := d.Make(elliptic.P224(), false); !errors.Is(err, dukpt.ErrUnsupported) {
		t.Errorf("P-224: %v", err)
	}
	if err := d.Destroy(nil); !errors.Is(err, ErrURI) {
		t.Errorf("all of them: %v", err)
	}
	if _, err := d.Open(make([]byte, handleBytes)); !errors.Is(err, engine.ErrKeyNotFound) {
		t.Errorf("no key: %v", err)
	}
	lostOnTheWay(t, token, d, *f)
}

// agree compares what the token agrees on with what the other side does.
func agree(t *testing.T, k ecdh.KeyExchanger, curve ecdh.Curve) {
	t.Helper()
	for range 20 { // among which are secrets that begin with zeros, now and then
		other, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := other.ECDH(k.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.ECDH(other.PublicKey())
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: %d bytes, want %d, %v", curve, len(got), len(want), err)
		}
	}
	strange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.ECDH(strange.PublicKey()); !errors.Is(err, dukpt.ErrUnsupported) {
		t.Errorf("another curve: %v", err)
	}
}

// lostOnTheWay: keys are found again after a loss, and none is made twice or left half made.
func lostOnTheWay(t *testing.T, token *Token, d *DeviceKeys, f *faulty) {
	t.Helper()
	handle, err := d.Make(elliptic.P256(), true)
	if err != nil {
		t.Fatal(err)
	}
	k, err := d.Open(handle)
	if err != nil {
		t.Fatal(err)
	}
	f.die(false)
	until(t, "the key", func() bool {
		other, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.(ecdh.KeyExchanger).ECDH(other.PublicKey())
		return err == nil
	})
	before := countPairs(t, token)
	f.fail("generateKeyPair", rvDeviceError)
	if _, err := d.Make(elliptic.P256(), false); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a loss while a key is made: %v", err)
	}
	f.fail("generateKeyPair", rvMechanism)
	until(t, "a refusal", func() bool {
		_, err := d.Make(elliptic.P256(), false)
		return errors.Is(err, dukpt.ErrUnsupported)
	})
	f.lie("attributes", func(b []byte) []byte { // every flag is set
		if len(b) == 1 {
			return []byte{1}
		}
		return b
	})
	if _, err := d.Make(elliptic.P256(), false); !errors.Is(err, ErrAttributes) {
		t.Errorf("a key that may leave: %v", err)
	}
	if _, err := d.Open(handle); !errors.Is(err, ErrAttributes) {
		t.Errorf("a key that may leave: %v", err)
	}
	f.lie("", nil)
	if after := countPairs(t, token); after != before {
		t.Errorf("%d objects, want %d", after, before)
	}
}

func countPairs(t *testing.T, token *Token) (n int) {
	t.Helper()
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		found, err := c.device.findObjects(l.session, []attribute{number(attrKeyType, typeEC), flag(attrToken, true)}, 100)
		n = len(found)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
