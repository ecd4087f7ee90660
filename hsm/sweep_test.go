package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestSweepOpen has one call after the other fail while a token is opened. Where it opens all the same it works, and says of
// less that it can; where it does not, no session is left.
func TestSweepOpen(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	first := openAgain(t, u, Options{})
	put(t, first, keys.AES128)
	put(t, first, keys.TDES2)
	whole, err := first.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	step := 2
	if testing.Short() {
		step = 17
	}
	for _, cause := range []error{rvDeviceError, rvFailed} {
		for at := 0; ; at += step {
			o, faults := withFaults(Options{}, func(f *faulty) { f.failAfter(at, cause) })
			token, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), o)
			f := *faults
			met := f.failed()
			if err == nil {
				r, perr := token.Probe(t.Context())
				if perr != nil || met && cause == rvDeviceError && !equalReports(r, whole) {
					t.Errorf("call %d fails with %v: %v, %+v", at, cause, perr, r)
				}
				if err := token.Close(); err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, cause) && !errors.Is(err, ErrAttributes) {
				t.Errorf("call %d fails with %v: got %v", at, cause, err)
			}
			if sessions, objects, _ := f.live(); sessions != 0 || objects != 0 {
				t.Errorf("call %d fails with %v: %d sessions, %d objects are left", at, cause, sessions, objects)
			}
			if !met {
				break // the fault was beyond the last call
			}
		}
	}
}

func equalReports(a, b Report) bool {
	for i := range a.Checks {
		if a.Checks[i] != b.Checks[i] {
			return false
		}
	}
	return len(a.Checks) == len(b.Checks)
}

// answers is one of each operation, as bytes that a repetition gives again.
func answers(t *testing.T, e engine.Engine, base, zone keyset.KeyRef, ksn dukpt.KSN, block []byte) ([]byte, error) {
	t.Helper()
	ops, err := e.Begin(t.Context(), base, ksn)
	if err != nil {
		return nil, err
	}
	defer ops.End()
	pan := must(pin.ParsePAN("4111111111111111"))
	format, data, mac := pin.Format4, dukpt.AES.DefaultData(), dukpt.AES.DefaultMAC()
	if ksn.Scheme() == dukpt.TDES {
		format, data, mac = pin.Format0, dukpt.TDES.DefaultData(), dukpt.TDES.DefaultMAC()
	}
	out, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: format, PAN: pan, Block: block}, engine.PINOut{Format: format, PAN: pan, Key: zone, Fill: pin.Fill{5}})
	if err == nil {
		out, err = ops.DecryptData(out, data, make([]byte, 32))
	}
	data.Direction = dukpt.Response
	if err == nil {
		out, err = ops.EncryptResponse(out, data, make([]byte, 32))
	}
	if err == nil {
		out, err = ops.MACResponse(out, mac, message)
	}
	if err == nil && ksn.Scheme() == dukpt.AES {
		mac = dukpt.MACSpec{Algorithm: dukpt.MACCBC, Key: dukpt.KeyTDES2, Padding: dukpt.MACPadding2, Length: 8}
		out, err = ops.MACResponse(out, mac, message)
	}
	return out, err
}

// TestSweepOperations has one call after the other fail in every operation. The answers are right or there is none, and nothing
// is left in the token beside what is cached.
func TestSweepOperations(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		a    keys.Algorithm
		ksn  string
		pin  pin.Format
		zone keys.Attributes
	}{
		{keys.AES128, "123456789012345600000007", pin.Format4, attributesFor(keys.AES128, keys.UsagePIN, keys.ModeEncrypt)},
		{keys.TDES2, "FFFF9876543210E00007", pin.Format0, attributesFor(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt)},
	} {
		t.Run(s.a.String(), func(t *testing.T) {
			t.Parallel()
			o, faults := withFaults(Options{Clock: fast(), CacheObjects: 3}, nil) // a way is longer: it is dropped and made again
			token := open(t, o)
			f, e := *faults, token.Engine()
			base, zone := put(t, token, s.a), alias(t, "zone")
			if _, err := token.Import(t.Context(), zone, newKey(t, s.zone, zoneKey), keyset.Test); err != nil {
				t.Fatal(err)
			}
			ksn := must(dukpt.ParseKSNHex(s.ksn))
			block := sealedPIN(t, s.a, ksn, s.pin)
			want, err := answers(t, e, base, zone, ksn, block)
			if err != nil {
				t.Fatal(err)
			}
			for _, cause := range []error{rvDeviceError, rvSessionHandle, rvKeyHandle, rvFailed, rvDeviceMemory} {
				for at := 0; ; at++ {
					f.failAfter(at, cause)
					got, err := answers(t, e, base, zone, ksn, block)
					met := f.failed()
					if err == nil && !bytes.Equal(got, want) {
						t.Fatalf("call %d fails with %v: got %X, want %X", at, cause, got, want)
					}
					if err != nil && !errors.Is(err, engine.ErrUnavailable) && !errors.Is(err, dukpt.ErrUnsupported) {
						t.Errorf("call %d fails with %v: got %v", at, cause, err)
					}
					f.failAfter(0, nil)
					until(t, "a connection", func() bool { return e.Check(t.Context()) == nil })
					if sessions, objects, _ := f.live(); sessions > 6 || objects != token.Stats().CachedKeys {
						t.Errorf("call %d fails with %v: %d sessions, %d objects; %+v", at, cause, sessions, objects, token.Stats())
					}
					if !met {
						break
					}
				}
			}
		})
	}
}

// sealedPIN is the block that a terminal sends.
func sealedPIN(t *testing.T, a keys.Algorithm, ksn dukpt.KSN, f pin.Format) []byte {
	t.Helper()
	value := aesBDK
	if a.IsTDES() {
		value = tdesBDK
	}
	base := must(dukpt.NewBaseKey(newKey(t, bdkAttributes(a), value)))
	defer base.Wipe()
	ik := must(base.Derive(ksn.KeyID()))
	terminal := must(dukpt.NewTerminal(ik))
	defer terminal.Wipe()
	keep := func(secret.Bytes) error { return nil }
	if err := terminal.SkipTo(ksn, keep); err != nil {
		t.Fatal(err)
	}
	if err := terminal.Reserve(1, keep); err != nil {
		t.Fatal(err)
	}
	tx := dukpt.NewTransaction()
	if err := terminal.Next(tx); err != nil {
		t.Fatal(err)
	}
	defer tx.End()
	return must(tx.EncryptPIN(nil, f, must(pin.ParsePIN([]byte("1234"))), must(pin.ParsePAN("4111111111111111"))))
}

// TestSweepLoad has one call after the other fail while a key is loaded: either it is there, whole, or nothing of it is.
func TestSweepLoad(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{}, nil)
	token := open(t, o)
	f := *faults
	bdk := newKey(t, bdkAttributes(keys.TDES2), tdesBDK)
	objects := func() (n int) {
		if err := token.use(t.Context(), func(c *connection, l *lease) error {
			found, err := token.objectsOf(c, l.session)
			n = len(found)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for name, load := range map[string]func(keyset.KeyRef) error{
		"import": func(ref keyset.KeyRef) error {
			_, err := token.Import(t.Context(), ref, bdk, keyset.Test)
			return err
		},
		"generate": func(ref keyset.KeyRef) error {
			_, err := token.Generate(t.Context(), ref, bdkAttributes(keys.AES128), keyset.Test)
			return err
		},
	} {
		before, taken := objects(), 0
		for at := 0; ; at++ {
			f.failAfter(at, rvFailed)
			err := load(alias(t, fmt.Sprint(name, taken)))
			met := f.failed()
			f.failAfter(0, nil)
			if err == nil {
				if !met {
					break
				}
				if taken++; taken > 1 { // a token need not copy a base key
					t.Errorf("%s: call %d fails, and the key is taken", name, at)
				}
				before = objects()
				continue
			}
			if !errors.Is(err, rvFailed) {
				t.Errorf("%s: call %d fails: got %v", name, at, err)
			}
			if n := objects(); n != before {
				t.Fatalf("%s: call %d fails: %d objects are left", name, at, n-before)
			}
		}
	}
}
