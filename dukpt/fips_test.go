package dukpt

import (
	"crypto/fips140"
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/fipstest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestFIPSOnly runs itself in a process with Go's FIPS mode enforced: there TDES is refused where a key enters, and AES works.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	fipstest.Enforced(t, fipsOnly)
}

func fipsOnly(t *testing.T) {
	newKey := func(a keys.Algorithm, u keys.Usage, m keys.Mode) keys.Key {
		t.Helper()
		k, err := keys.NewKey(keys.Attributes{Algorithm: a, Usage: u, Mode: m, Exportability: keys.Exportable}, []byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	parse := func(s string) KSN {
		t.Helper()
		ksn, err := ParseKSNHex(s)
		if err != nil {
			t.Fatal(err)
		}
		return ksn
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrUnsupported) || !errors.Is(err, keys.ErrForbidden) || !strings.Contains(err.Error(), "FIPS") {
			t.Errorf("%s: got %v, want ErrUnsupported that is keys.ErrForbidden", what, err)
		}
	}
	tdesKSN, aesKSN := parse("FFFF9876543210E00001"), parse("123456789012345600000001")

	_, err := NewBaseKey(newKey(keys.TDES2, keys.UsageBDK, keys.ModeDerive))
	refused("TDES base key", err)
	_, err = NewInitialKey(tdesKSN.KeyID(), newKey(keys.TDES2, keys.UsageInitialKey, keys.ModeDerive))
	refused("TDES initial key", err)
	r := newRegisters(family{scheme: TDES, size: 16}, tdesKSN.KeyID())
	r.next = 1
	for i := range r.id.scheme.counterBits() {
		r.at(i)[0] = 1
	}
	state := secret.From(r.append(nil))
	_, err = OpenTerminal(state)
	refused("TDES terminal state", err)

	fipsLater(t, tdesKSN, refused)

	base, err := NewBaseKey(newKey(keys.AES128, keys.UsageBDK, keys.ModeDerive))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := base.Begin(aesKSN)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.End()
	pan, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		t.Fatal(err)
	}
	zone := newKey(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt)
	in := PINBlock{Format: pin.Format4, Block: make([]byte, 16), PAN: pan}
	_, err = tx.TranslatePIN(nil, in, PINTarget{Format: pin.Format0, PAN: pan, Key: zone})
	refused("TDES zone key", err)
	fipsTDESUnderAES(t, tx, refused)
	_, err = tx.KeyEncryptionKey(KeyTDES2)
	refused("TDES key encryption key", err)
	checks, err := base.CheckValues(aesKSN)
	if err != nil || len(checks) != 8+3 {
		t.Errorf("%d check values, %v; want those of AES-128 and HMAC-128", len(checks), err)
	}

	ik, err := base.Derive(aesKSN.KeyID())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ik.UpdateKey(KeyTDES2)
	refused("TDES update key", err)
	if k, err := ik.UpdateKey(KeyAES128); err != nil || k.IsZero() {
		t.Errorf("AES update key: %v", err)
	}
	terminal, err := NewTerminal(ik)
	if err != nil {
		t.Fatal(err)
	}
	if err := terminal.Reserve(1, func(secret.Bytes) error { return nil }); err != nil {
		t.Errorf("AES terminal: %v", err)
	}
}

// fipsLater has TDES keys that were made where it was allowed, and uses them where it is not.
func fipsLater(t *testing.T, ksn KSN, refused func(string, error)) {
	t.Helper()
	var base *BaseKey
	var terminal *Terminal
	var ik *InitialKey
	tx, host := NewTransaction(), NewHostTransaction()
	save := func(secret.Bytes) error { return nil }
	fips140.WithoutEnforcement(func() {
		k, err := keys.NewKey(keys.Attributes{
			Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable,
		}, []byte("0123456789abcdef"))
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(err)
		base, err = NewBaseKey(k)
		must(err)
		ik, err = base.Derive(ksn.KeyID())
		must(err)
		terminal, err = NewTerminal(ik)
		must(err)
		ik, err = base.Derive(ksn.KeyID())
		must(err)
		must(terminal.Reserve(1, save))
		must(terminal.Next(tx))
		must(base.Bind(host, ksn))
	})
	defer tx.End()
	defer host.End()
	_, err := base.Begin(ksn)
	refused("Begin", err)
	_, err = base.Derive(ksn.KeyID())
	refused("Derive", err)
	refused("Seek", base.NewPath().Seek(NewHostTransaction(), ksn))
	refused("DeriveBatch", base.DeriveBatch([]KSN{ksn}, func(int, *HostTransaction) error { return nil }))
	_, err = ik.Begin(ksn)
	refused("Begin of an initial key", err)
	_, err = NewTerminal(ik)
	refused("NewTerminal", err)
	refused("Reserve", terminal.Reserve(1, save))
	later, err := ksn.KeyID().AtOrdinal(5)
	if err != nil {
		t.Fatal(err)
	}
	refused("SkipTo", terminal.SkipTo(later, save))
	pan, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.EncryptPIN(nil, pin.Format0, p, pan)
	refused("EncryptPIN", err)
	_, err = tx.EncryptData(nil, TDES.DefaultData(), make([]byte, 8))
	refused("EncryptData", err)
	_, err = tx.MAC(nil, TDES.DefaultMAC(), pan13)
	refused("MAC", err)
	_, err = host.TranslatePIN(nil, PINBlock{Format: pin.Format0, Block: make([]byte, 8), PAN: pan}, PINTarget{
		Format: pin.Format4, PAN: pan, Cipher: newAES(make([]byte, 16)),
	})
	refused("TranslatePIN", err)
	_, err = host.DecryptData(nil, TDES.DefaultData(), make([]byte, 8))
	refused("DecryptData", err)
	refused("VerifyMAC", host.VerifyMAC(TDES.DefaultMAC(), pan13, make([]byte, 8)))
}

var pan13 = []byte("4111111111111")
