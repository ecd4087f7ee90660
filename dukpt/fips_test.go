package dukpt

import (
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
