package hsm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func TestGenerate(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	token := openAgain(t, u, Options{})
	made := map[keyset.KeyRef]engine.KeyInfo{}
	for name, a := range map[string]keys.Attributes{
		"bdk-128": bdkAttributes(keys.AES128), "bdk-192": bdkAttributes(keys.AES192), "bdk-256": bdkAttributes(keys.AES256),
		"pin": attributesFor(keys.AES128, keys.UsagePIN, keys.ModeEncrypt), "data": attributesFor(keys.AES256, keys.UsageData, keys.ModeBoth),
	} {
		info, err := token.Generate(t.Context(), alias(t, name), a, keyset.Production)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info.Attributes != a || info.KCV.IsZero() || info.Fingerprint.IsZero() || info.Labels.Environment != keyset.Production || info.Labels.KeyMode != engine.Token {
			t.Errorf("%s: %+v", name, info)
		}
		made[info.Ref] = info
		if _, err := token.Generate(t.Context(), alias(t, name), a, keyset.Production); !errors.Is(err, ErrExists) {
			t.Errorf("%s again: %v", name, err)
		}
	}
	genuine(t, token)
	again, err := openAgain(t, u, Options{}).Keys(t.Context()) // another login reads what was written
	if err != nil || len(again) != len(made)+1 {
		t.Fatalf("%d keys, %v", len(again), err)
	}
	for _, info := range again {
		if info.Ref != alias(t, "aes") && info != made[info.Ref] {
			t.Errorf("got %+v, want %+v", info, made[info.Ref])
		}
	}
}

// genuine checks that keys were made inside and never were anything else, and that an imported one does not pass for such.
func genuine(t *testing.T, token *Token) {
	t.Helper()
	put(t, token, keys.AES128)
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		for _, e := range c.keys.Load().list() {
			err := loader{reader: reader{device: c.device, session: l.session}}.genuine(e.object)
			if (err == nil) != (e.info.Ref != alias(t, "aes")) {
				t.Errorf("%v: %v", e.info.Ref, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckValue makes the check value of a key that may only derive, and compares with the same key in memory.
func TestCheckValue(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	for _, a := range []keys.Algorithm{keys.AES128, keys.AES192, keys.AES256} {
		k, err := keys.GenerateKey(bdkAttributes(a))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range []use{useDerive, useEncrypt} {
			err = token.use(t.Context(), func(c *connection, l *lease) error {
				o, err := c.device.createObject(l.session, imported(a, k.Material().Expose(), false, u))
				if err != nil {
					return err
				}
				defer l.destroy(c, o)
				r := reader{device: c.device, session: l.session, shape: token.shape}
				kcv, err := r.checkValue(o, u == useDerive)
				if err == nil && kcv != k.KCV() {
					err = fmt.Errorf("got %v, want %v", kcv, k.KCV())
				}
				if err != nil {
					return err
				}
				fp, err := r.fingerprint(o, a, u == useDerive)
				want, _ := fingerprintOf(a, k.Material().Expose())
				if err == nil && fp != want {
					err = fmt.Errorf("got fingerprint %v, want %v", fp, want)
				}
				return err
			})
			if err != nil {
				t.Errorf("%v, use 0x%X: %v", a, uint(u), err)
			}
		}
		k.Wipe()
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	ref, bdk := put(t, token, keys.AES128), newKey(t, bdkAttributes(keys.AES128), "00112233445566778899AABBCCDDEEFF")
	put(t, token, keys.TDES2)
	for name, tt := range map[string]struct {
		call func() (engine.KeyInfo, error)
		want error // nil: any
	}{
		"a name that is taken": {func() (engine.KeyInfo, error) { return token.Import(t.Context(), ref, bdk, keyset.Test) }, ErrExists},
		"the same key": {func() (engine.KeyInfo, error) {
			return token.Import(t.Context(), alias(t, "b"), newKey(t, bdkAttributes(keys.AES128), aesBDK), keyset.Test)
		}, ErrDuplicate},
		"the same key, with other parity": {func() (engine.KeyInfo, error) {
			return token.Import(t.Context(), alias(t, "b"), newKey(t, bdkAttributes(keys.TDES2), "0022446688AACCEEFFDDBB9977553311"), keyset.Test)
		}, ErrDuplicate},
		"a weak key": {func() (engine.KeyInfo, error) {
			return token.Import(t.Context(), alias(t, "b"), newKey(t, bdkAttributes(keys.TDES2), "0101010101010101FEDCBA9876543210"), keyset.Test)
		}, keys.ErrWeak},
		"the name of a variant": {func() (engine.KeyInfo, error) { return token.Import(t.Context(), alias(t, "b-c0"), bdk, keyset.Test) }, nil},
		"an id":                 {func() (engine.KeyInfo, error) { return token.Import(t.Context(), newID(), bdk, keyset.Test) }, nil},
		"no environment":        {func() (engine.KeyInfo, error) { return token.Import(t.Context(), alias(t, "b"), bdk, 0) }, nil},
		"no key": {func() (engine.KeyInfo, error) {
			return token.Import(t.Context(), alias(t, "b"), keys.Key{}, keyset.Test)
		}, nil},
		"an HMAC key": {func() (engine.KeyInfo, error) {
			return token.Generate(t.Context(), alias(t, "b"), attributesFor(keys.HMAC256, keys.UsageHMAC, keys.ModeGenVerify), keyset.Test)
		}, ErrAttributes},
		"an initial key": {func() (engine.KeyInfo, error) {
			return token.Generate(t.Context(), alias(t, "b"), attributesFor(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), keyset.Test)
		}, ErrAttributes},
		"a TDES key made inside": {func() (engine.KeyInfo, error) {
			return token.Generate(t.Context(), alias(t, "b"), bdkAttributes(keys.TDES2), keyset.Test)
		}, dukpt.ErrUnsupported},
		"no attributes": {func() (engine.KeyInfo, error) {
			return token.Generate(t.Context(), alias(t, "b"), keys.Attributes{}, keyset.Test)
		}, nil},
	} {
		info, err := tt.call()
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || info != (engine.KeyInfo{}) {
			t.Errorf("%s: got %+v, %v; want %v", name, info, err, tt.want)
		}
	}
	if list, err := token.Keys(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("%d keys, %v", len(list), err)
	}
}

// TestLoadFails has every call fail while a key is loaded: nothing is left in the token.
func TestLoadFails(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: fast()}, nil)
	token := open(t, o)
	f := *faults
	count := func() (n int) {
		until(t, "a connection", func() bool {
			return token.use(t.Context(), func(c *connection, l *lease) error {
				found, err := token.objectsOf(c, l.session)
				n = len(found)
				return err
			}) == nil
		})
		return n
	}
	before := count()
	tdes := newKey(t, bdkAttributes(keys.TDES2), tdesBDK)
	for _, tt := range []struct {
		call string
		at   int // which call of it
	}{
		{"createObject", 0}, {"createObject", 1}, {"attributes", 0}, {"attributes", 1}, {"attributes", 2}, {"attributes", 3}, {"findObjects", 0}, {"encrypt", 0},
	} {
		for _, cause := range []error{rvFailed, errPlanted} {
			var errs []error
			for range tt.at {
				errs = append(errs, nil)
			}
			f.fail(tt.call, append(errs, cause)...)
			if _, err := token.Import(t.Context(), alias(t, "bdk"), tdes, keyset.Test); !errors.Is(err, cause) {
				t.Errorf("call %d of %s fails: got %v, want %v", tt.at, tt.call, err, cause)
			}
			f.mu.Lock()
			clear(f.faults)
			f.mu.Unlock()
			if n := count(); n != before {
				t.Fatalf("call %d of %s fails: %d objects are left", tt.at, tt.call, n-before)
			}
		}
	}
	aes := bdkAttributes(keys.AES128)
	for _, call := range []string{"generateKey", "copyObject", "deriveKey", "destroyObject", "attributes"} {
		f.fail(call, rvFailed)
		if _, err := token.Generate(t.Context(), alias(t, "bdk"), aes, keyset.Test); !errors.Is(err, dukpt.ErrUnsupported) {
			t.Errorf("%s fails: got %v", call, err)
		}
		if n := count(); n != before {
			t.Fatalf("%s fails: %d objects are left", call, n-before)
		}
	}
	f.fail("generateKey", rvDeviceError)
	if _, err := token.Generate(t.Context(), alias(t, "bdk"), aes, keyset.Test); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("the token is lost: %v", err)
	}
	if n := count(); n != before {
		t.Errorf("the token is lost: %d objects are left", n-before)
	}
	if _, err := token.Generate(t.Context(), alias(t, "bdk"), aes, keyset.Test); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestRefusals asks keys that may do too much for what they must refuse.
func TestRefusals(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	value := unhex(aesBDK)
	readable := append(withoutExtractable(secretTemplate(typeAES, false, useDerive)), flag(attrExtractable, true), attribute{attrValue, value})
	for i := range readable {
		if readable[i].code == attrSensitive {
			readable[i] = flag(attrSensitive, false)
		}
	}
	wrappable := append(withoutExtractable(secretTemplate(typeAES, false, useDerive)), flag(attrExtractable, true), attribute{attrValue, value})
	for name, tt := range map[string]struct {
		template []attribute
		uses     []use
		good     bool
	}{
		"derives only":         {imported(keys.AES128, value, false, useDerive), []use{useDerive}, true},
		"derives and encrypts": {imported(keys.AES128, value, false, useDerive, useEncrypt), []use{useDerive}, false},
		"derives and decrypts": {imported(keys.AES128, value, false, useDerive, useDecrypt), []use{useDerive}, false},
		"derives and MACs":     {imported(keys.AES128, value, false, useDerive, useSign), []use{useDerive}, false},
		"data":                 {imported(keys.AES128, value, false, useEncrypt, useDecrypt), []use{useEncrypt, useDecrypt}, true},
		"can be read":          {readable, []use{useDerive}, false},
		"can be wrapped":       {wrappable, []use{useDerive}, false},
	} {
		err := token.use(t.Context(), func(c *connection, l *lease) error {
			o, err := c.device.createObject(l.session, tt.template)
			if err != nil {
				return err
			}
			defer l.destroy(c, o)
			return loader{reader: reader{device: c.device, session: l.session, shape: token.shape}}.refuses(o, keys.AES128, tt.uses)
		})
		if (err == nil) != tt.good || err != nil && !errors.Is(err, ErrAttributes) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
