package hsm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[0] ^= 1
	return b
}

func shorter(b []byte) []byte { return b[:len(b)-1] }

func longer(b []byte) []byte { return append(bytes.Clone(b), 0) }

// TestProbeLies has a token answer wrongly: what it says is no proof.
func TestProbeLies(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	for name, checks := range map[string][]string{
		"encrypt": {CheckDerive, CheckAESECB, CheckAESCBC, CheckDES3ECB, CheckDES3CBC, CheckWrap, CheckECDH},
		"decrypt": {CheckDeriveDES2, CheckDeriveDES3, CheckAESECB, CheckAESCBC, CheckDES3ECB, CheckDES3CBC},
		"sign":    {CheckAESCMAC, CheckDES3CMAC, CheckHMAC, CheckSign, CheckEd25519},
		"wrapKey": {CheckWrap}, "attributes": {CheckECDH, CheckSign, CheckEd25519},
	} {
		for _, lie := range []func([]byte) []byte{flipped, shorter, longer} {
			o, _ := withFaults(Options{}, func(f *faulty) { f.lie(name, lie) })
			r, err := openAgain(t, u, o).Probe(t.Context())
			if err != nil {
				t.Fatalf("%s lies: %v", name, err)
			}
			for _, check := range checks {
				if r.OK(check) {
					t.Errorf("%s lies, and %s passes", name, check)
				}
			}
		}
	}
}

func pinFormat(a keys.Algorithm) pin.Format {
	if a.IsTDES() {
		return pin.Format0
	}
	return pin.Format4
}

// TestLies has a token answer at another length, in every operation, and with other bytes where that can be noticed.
func TestLies(t *testing.T) {
	t.Parallel()
	for _, derives := range []bool{true, false} {
		for _, a := range []keys.Algorithm{keys.AES128, keys.TDES2} {
			o, faults := withFaults(Options{}, func(f *faulty) { f.lacks[mechAESDerive] = !derives })
			token := open(t, o)
			f, e := *faults, token.Engine()
			base, zone, text := put(t, token, a), alias(t, "zone"), "123456789012345600000007"
			if a.IsTDES() {
				text = "FFFF9876543210E00007"
			}
			if _, err := token.Import(t.Context(), zone, newKey(t, attributesFor(a, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
				t.Fatal(err)
			}
			ksn := must(dukpt.ParseKSNHex(text))
			block := sealedPIN(t, a, ksn, pinFormat(a))
			for _, name := range []string{"encrypt", "decrypt", "sign"} {
				for _, lie := range []func([]byte) []byte{shorter, longer} {
					f.lie(name, lie)
					inside := derives && !a.IsTDES()
					if !inside && name != "encrypt" || name == "sign" && len(lie([]byte{1, 2})) > 2 {
						continue // not called, or more of a MAC than is kept
					}
					if got, err := answers(t, e, base, zone, ksn, block); !errors.Is(err, engine.ErrUnavailable) {
						t.Errorf("%v, %s lies: got %X, %v", a, name, got, err)
					}
				}
			}
			f.lie("encrypt", flipped)
			refused := false
			for range 2 {
				refused = refused || errors.Is(e.Check(t.Context()), engine.ErrUnavailable)
			}
			if !refused {
				t.Errorf("%v: a key that is another one passes the check", a)
			}
			f.lie("", nil)
			if _, err := answers(t, e, base, zone, ksn, block); err != nil {
				t.Errorf("%v, afterwards: %v", a, err)
			}
		}
	}
}

// TestLoadLies has a token keep other than what it was given.
func TestLoadLies(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	for name, lie := range map[string]func([]byte) []byte{"flipped": flipped, "shorter": shorter} {
		o, faults := withFaults(Options{}, nil)
		token := openAgain(t, u, o)
		(*faults).lie("attributes", lie)
		for what, load := range map[string]func() error{
			"import": func() error {
				_, err := token.Import(t.Context(), alias(t, "a"), newKey(t, bdkAttributes(keys.TDES2), tdesBDK), keyset.Test)
				return err
			},
			"generate": func() error {
				_, err := token.Generate(t.Context(), alias(t, "a"), bdkAttributes(keys.AES128), keyset.Test)
				return err
			},
		} {
			if err := load(); err == nil {
				t.Errorf("%s attributes, %s: the key is taken", name, what)
			}
		}
		(*faults).lie("", nil)
		if list, err := token.Keys(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%d keys, %v", len(list), err)
		}
	}
	again, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), Options{})
	if err != nil {
		t.Fatalf("something is left: %v", err)
	}
	_ = again.Close()
}
