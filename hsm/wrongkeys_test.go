package hsm

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// intruder is one object that somebody else put into the token.
func intruder(a keys.Algorithm, value, label, id string, change func([]attribute) []attribute, uses ...use) func(c *connection, l *lease) (object, error) {
	return func(c *connection, l *lease) (object, error) {
		template := append(imported(a, unhex(value), true, uses...), flag(attrModifiable, false), text(attrLabel, label), text(attrID, id))
		if change != nil {
			template = change(template)
		}
		return c.device.createObject(l.session, template)
	}
}

func set(a attribute) func([]attribute) []attribute {
	return func(template []attribute) []attribute {
		for i := range template {
			if template[i].code == a.code {
				template[i] = a
			}
		}
		return template
	}
}

// TestWrongKeys opens tokens that hold a key which is not what its record says, or may do too much: none is opened.
func TestWrongKeys(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	token := openAgain(t, u, Options{})
	r := sampleRecord(t)
	other := r
	other.id = newID()
	tdes := r
	fp, err := fingerprintOf(keys.TDES2, unhex(tdesBDK))
	if err != nil {
		t.Fatal(err)
	}
	tdes.fingerprint = fp
	v := variant{r.id, fp} // of another key than the variant
	pin := r
	pin.usage = keys.UsagePIN
	initial := r
	initial.usage = keys.UsageInitialKey
	type plant = func(c *connection, l *lease) (object, error)
	good := intruder(keys.AES128, aesBDK, "alias/a", r.String(), nil, useDerive)
	for name, tt := range map[string]struct {
		plants []plant
		want   error // nil: the token opens
	}{
		"a good key":             {[]plant{good}, nil},
		"a foreign key":          {[]plant{intruder(keys.AES128, aesBDK, "alias/a", "\x01", nil, useDerive, useEncrypt)}, nil},
		"no record":              {[]plant{intruder(keys.AES128, aesBDK, "alias/a", "latchkey-key-1 x", nil, useDerive)}, ErrAttributes},
		"no name":                {[]plant{intruder(keys.AES128, aesBDK, "a", r.String(), nil, useDerive)}, ErrAttributes},
		"one name twice":         {[]plant{good, intruder(keys.AES128, tdesBDK, "alias/a", other.String(), nil, useDerive)}, ErrAmbiguous},
		"one id twice":           {[]plant{good, intruder(keys.AES128, tdesBDK, "alias/b", r.String(), nil, useDerive)}, ErrAmbiguous},
		"one key twice":          {[]plant{good, intruder(keys.AES128, aesBDK, "alias/b", other.String(), nil, useDerive)}, ErrDuplicate},
		"another key":            {[]plant{intruder(keys.AES128, tdesBDK, "alias/a", r.String(), nil, useDerive)}, ErrAttributes},
		"derives and encrypts":   {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), nil, useDerive, useEncrypt)}, ErrAttributes},
		"does nothing":           {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), nil)}, ErrAttributes},
		"can be extracted":       {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), set(flag(attrExtractable, true)), useDerive)}, ErrAttributes},
		"is not sensitive":       {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), set(flag(attrSensitive, false)), useDerive)}, ErrAttributes},
		"can be modified":        {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), set(flag(attrModifiable, true)), useDerive)}, ErrAttributes},
		"is public":              {[]plant{intruder(keys.AES128, aesBDK, "alias/a", r.String(), set(flag(attrPrivate, false)), useDerive)}, ErrAttributes},
		"PIN key that derives":   {[]plant{intruder(keys.AES128, aesBDK, "alias/a", pin.String(), nil, useDerive)}, ErrAttributes},
		"an initial key":         {[]plant{intruder(keys.AES128, aesBDK, "alias/a", initial.String(), nil, useDerive)}, ErrAttributes},
		"TDES without a variant": {[]plant{intruder(keys.TDES2, tdesBDK, "alias/a", tdes.String(), nil, useEncrypt)}, ErrVariant},
		"TDES with itself for a variant": {[]plant{
			intruder(keys.TDES2, tdesBDK, "alias/a", tdes.String(), nil, useEncrypt),
			intruder(keys.TDES2, "C1E3856789ABCDEF3E1C7A9876543210", "alias/a-c0", v.String(), nil, useEncrypt),
		}, ErrAttributes},
		"two variants": {[]plant{
			intruder(keys.TDES2, tdesBDK, "alias/a", tdes.String(), nil, useEncrypt),
			intruder(keys.TDES2, tdesBDK, "alias/a-c0", v.String(), nil, useEncrypt),
			intruder(keys.TDES2, tdesBDK, "alias/a-c0", v.String(), nil, useEncrypt),
		}, ErrAmbiguous},
		"a variant of AES": {[]plant{
			intruder(keys.TDES2, tdesBDK, "alias/a", tdes.String(), nil, useEncrypt),
			intruder(keys.AES128, aesBDK, "alias/a-c0", variant{r.id, r.fingerprint}.String(), nil, useEncrypt),
		}, ErrAttributes},
		"a variant that decrypts": {[]plant{
			intruder(keys.TDES2, tdesBDK, "alias/a", tdes.String(), nil, useEncrypt),
			intruder(keys.TDES2, tdesBDK, "alias/a-c0", v.String(), nil, useEncrypt, useDecrypt),
		}, ErrAttributes},
	} {
		var made []object
		err := token.use(t.Context(), func(c *connection, l *lease) error {
			for _, p := range tt.plants {
				o, err := p(c, l)
				if err != nil {
					return err
				}
				made = append(made, o)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		opened, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), Options{})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if err == nil {
			_ = opened.Close()
		}
		if err := token.use(t.Context(), func(c *connection, l *lease) error {
			for _, o := range made {
				if err := c.device.destroyObject(l.session, o); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOnlyDerives opens a token whose base key may only derive, and that cannot any more: after another firmware, say.
func TestOnlyDerives(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	put(t, openAgain(t, u, Options{}), keys.AES128)
	if _, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), withoutDerive(Options{})); err == nil {
		t.Error("it opens")
	}
}
