package hsm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/sealertest"
)

// forTerminal gives a sealer the errors that terminals know, as programs do.
type forTerminal struct{ *Sealer }

func (s forTerminal) Open(label string, sealed []byte) (secret.Bytes, error) {
	b, err := s.Sealer.Open(label, sealed)
	if errors.Is(err, ErrSealed) {
		err = fmt.Errorf("%w: %w", terminal.ErrState, err)
	}
	return b, err
}

// objectURI names an object of the token of the tests.
func objectURI(t *testing.T, label string) URI {
	t.Helper()
	u, err := ParseURI("pkcs11:object=" + label)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSealer runs the suite of sealers in both forms: on SoftHSM as it is, and as one that has no AES-GCM.
func TestSealer(t *testing.T) {
	t.Parallel()
	for name, lacks := range map[string][]uint{"gcm": nil, "cbc": {mechAESGCM}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, _ := withFaults(Options{}, func(f *faulty) {
				f.lacks = map[uint]bool{}
				for _, m := range lacks {
					f.lacks[m] = true
				}
			})
			token := open(t, o)
			var devices atomic.Int32
			sealertest.Run(t, func(t *testing.T) sealertest.Device {
				u := objectURI(t, fmt.Sprintf("storage-%d", devices.Add(1)))
				if _, err := token.OpenSealer(t.Context(), u); !errors.Is(err, engine.ErrKeyNotFound) {
					t.Fatalf("a sealer before there is one: %v", err)
				}
				return sealertest.Device{Open: func(t *testing.T) terminal.Sealer {
					s, err := token.CreateSealer(t.Context(), u)
					if err != nil {
						t.Fatal(err)
					}
					if gcm := s.known.gcm != 0; gcm != (lacks == nil) {
						t.Fatalf("AES-GCM is used: %v", gcm)
					}
					return forTerminal{s}
				}}
			})
			if infos, err := token.Keys(t.Context()); err != nil || len(infos) != 0 {
				t.Errorf("keys of sealers count as keys of the host: %v, %v", infos, err)
			}
		})
	}
}

// TestSealerLosses: the token goes away between two files and comes back, and nothing altered passes for it.
func TestSealerLosses(t *testing.T) {
	t.Parallel()
	o, f := withFaults(Options{}, nil)
	token := open(t, o)
	s, err := token.CreateSealer(t.Context(), objectURI(t, "storage"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal("label", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	opens := func() bool {
		got, err := s.Open("label", sealed)
		defer got.Wipe()
		if err == nil && string(got.Expose()) != "text" || err != nil && !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
		return err == nil
	}
	(*f).die(false)
	until(t, "the token", opens)
	before := token.Stats().Reconnects
	sealed[len(sealed)-1] ^= 1
	if _, err := s.Open("label", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("altered: %v", err)
	}
	if token.Stats().Reconnects != before {
		t.Error("what was altered counts as a loss of the token")
	}
	sealed[len(sealed)-1] ^= 1
	(*f).fail("decrypt", rvGeneral)
	(*f).fail("encrypt", rvGeneral) // a token that is lost does not encrypt, either
	until(t, "a token that said CKR_GENERAL_ERROR", opens)
	if token.Stats().Reconnects != before+1 {
		t.Error("a token that is lost was not connected again")
	}
	(*f).fail("decrypt", rvCipherInvalid)
	if _, err := s.Open("label", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("CKR_ENCRYPTED_DATA_INVALID: %v", err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal("label", nil); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("sealing by a token that is closed: %v", err)
	}
}

func TestSealerRefuses(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	for _, text := range []string{"pkcs11:", "pkcs11:object=", "pkcs11:object=a;id=b", "pkcs11:object=a;type=private"} {
		u, err := ParseURI(text)
		if err != nil {
			continue // which is refused before
		}
		if _, err := token.CreateSealer(t.Context(), u); !errors.Is(err, ErrURI) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := token.OpenSealer(t.Context(), u); !errors.Is(err, ErrURI) {
			t.Errorf("%s: %v", text, err)
		}
	}
	s, err := token.CreateSealer(t.Context(), objectURI(t, "large"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal("", make([]byte, MaxSealed+1)); err == nil {
		t.Error("more than there is room for")
	}
	// Keys in the place of a sealer's that are none.
	for name, tt := range map[string]struct {
		objects [][]attribute
		want    error
	}{
		"twice":              {[][]attribute{sealTemplate(sealGCM, useEncrypt, useDecrypt), sealTemplate(sealGCM, useEncrypt, useDecrypt)}, ErrAmbiguous},
		"of two kinds":       {[][]attribute{sealTemplate(sealGCM, useEncrypt, useDecrypt), sealTemplate(sealMAC, useSign)}, ErrAmbiguous},
		"may do more":        {[][]attribute{sealTemplate(sealGCM, useEncrypt, useDecrypt, useWrap)}, ErrAttributes},
		"half of it":         {[][]attribute{sealTemplate(sealCBC, useEncrypt, useDecrypt)}, engine.ErrKeyNotFound},
		"of 16 bytes":        {[][]attribute{append(sealTemplate(sealGCM, useEncrypt, useDecrypt), number(attrValueLen, 16))}, ErrAttributes},
		"of somebody else's": {[][]attribute{sealTemplate("other", useEncrypt, useDecrypt)}, engine.ErrKeyNotFound},
	} {
		label := "x " + name
		err := token.use(t.Context(), func(c *connection, l *lease) error {
			for _, template := range tt.objects {
				if len(template) == 0 || template[len(template)-1].code != attrValueLen {
					template = append(template, number(attrValueLen, 32))
				}
				template = append(template, text(attrLabel, label))
				if _, err := c.device.generateKey(l.session, mechanism{code: mechAESKeyGen}, template); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		u := URI{}
		u.path[atObject] = value{true, label}
		if _, err := token.OpenSealer(t.Context(), u); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	imported := URI{} // a key that came from outside is none that was made inside
	imported.path[atObject] = value{true, "imported"}
	err = token.use(t.Context(), func(c *connection, l *lease) error {
		_, err := c.device.createObject(l.session, append(importedSeal(), text(attrLabel, "imported")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.CreateSealer(t.Context(), imported); !errors.Is(err, ErrAttributes) {
		t.Errorf("a key from outside: %v", err)
	}
}

func sealTemplate(id string, uses ...use) []attribute {
	return append(secretTemplate(typeAES, true, uses...), text(attrID, id), flag(attrModifiable, false))
}

func importedSeal() []attribute {
	return append(imported(keys.AES256, make([]byte, 32), true, useEncrypt, useDecrypt), text(attrID, sealGCM), flag(attrModifiable, false))
}

// TestSealerHalves: a power cut between the two keys of CBC leaves one, which is completed.
func TestSealerHalves(t *testing.T) {
	t.Parallel()
	for _, half := range []string{sealCBC, sealMAC} {
		o, f := withFaults(Options{}, func(f *faulty) { f.lacks = map[uint]bool{mechAESGCM: true} })
		token := open(t, o)
		uses := []use{useSign}
		if half == sealCBC {
			uses = []use{useEncrypt, useDecrypt}
		}
		err := token.use(t.Context(), func(c *connection, l *lease) error {
			template := append(sealTemplate(half, uses...), number(attrValueLen, 32), text(attrLabel, "storage"))
			_, err := c.device.generateKey(l.session, mechanism{code: mechAESKeyGen}, template)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := token.CreateSealer(t.Context(), objectURI(t, "storage"))
		if err != nil {
			t.Fatalf("%s: %v", half, err)
		}
		sealed, err := s.Seal("label", []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		(*f).fail("sign", rvKeySize)
		if _, err := s.Open("label", sealed); !errors.Is(err, rvKeySize) {
			t.Errorf("an error of the token: %v", err)
		}
		got, err := s.Open("label", sealed)
		if err != nil || string(got.Expose()) != "text" {
			t.Errorf("%s: %v", half, err)
		}
	}
}

// TestEmptyIV: SoftHSM takes an empty IV for zeros, so none gets there.
func TestEmptyIV(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 8, 16} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an IV of %d bytes goes to the token", n)
				}
			}()
			gcmMechanism(make([]byte, n), nil)
		}()
	}
}
