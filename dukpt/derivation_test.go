package dukpt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// device derives as a device would that is given nothing but derivations.
func device(t *testing.T, parent []byte, d Derivation) []byte {
	t.Helper()
	c, err := aes.NewCipher(parent)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(d.Data))
	for at := 0; at < len(out); at += 16 {
		c.Encrypt(out[at:], d.Data[at:at+16])
	}
	return out[:d.Key.Algorithm().KeyBytes()]
}

// TestDerivations follows derivations with plain AES, and compares with what the host derives itself.
func TestDerivations(t *testing.T) {
	t.Parallel()
	id, err := ParseKeyID("1234567890123456")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []keys.Algorithm{keys.AES128, keys.AES192, keys.AES256} {
		bdk := bytes.Repeat([]byte{0x5a, 0xc3, byte(a)}, 11)[:a.KeyBytes()]
		k, err := keys.NewKey(keys.Attributes{Algorithm: a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}, bdk)
		if err != nil {
			t.Fatal(err)
		}
		base, err := NewBaseKey(k)
		if err != nil {
			t.Fatal(err)
		}
		w := WorkingKeyOf(a)
		first, err := id.InitialDerivation(w)
		if err != nil {
			t.Fatal(err)
		}
		initial := device(t, bdk, first)
		for _, counter := range []uint32{1, 2, 3, 0x1234, 0xFFFF, 0x80000001, 0xFFFF0000} {
			ksn, err := id.KSN(counter)
			if err != nil {
				t.Fatal(err)
			}
			counters, steps, err := ksn.Derivations(w)
			if err != nil || len(counters) != len(steps) || counters[len(counters)-1] != counter {
				t.Fatalf("%v: %X, %d steps, %v", ksn, counters, len(steps), err)
			}
			node := initial
			for _, s := range steps {
				node = device(t, node, s)
			}
			tx, err := base.Begin(ksn)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(node, tx.s.key()) {
				t.Errorf("%v under %v: the steps lead to another key", ksn, a)
			}
			workingKeysAgree(t, tx, ksn, w, node)
			tx.End()
		}
		base.Wipe()
	}
}

// workingKeysAgree compares every kind of working key.
func workingKeysAgree(t *testing.T, tx *HostTransaction, ksn KSN, parent WorkingKey, node []byte) {
	t.Helper()
	for w := KeyTDES2; w <= KeyHMAC256; w++ {
		for name, of := range map[string]struct {
			usage aesUsage
			step  func() (Derivation, error)
		}{
			"PIN":   {usagePIN, func() (Derivation, error) { return PINSpec{Format: formatFor(w), Key: w}.Derivation(ksn, parent) }},
			"block": {usagePIN, func() (Derivation, error) { return PINBlock{Format: formatFor(w), Key: w}.Derivation(ksn, parent) }},
			"data": {usageDataEncrypt, func() (Derivation, error) {
				return DataSpec{Direction: Request, Key: w, Mode: ECB}.Derivation(ksn, parent, Request)
			}},
			"response data": {usageDataDecrypt, func() (Derivation, error) {
				return DataSpec{Direction: Response, Key: w, Mode: ECB}.Derivation(ksn, parent, Response)
			}},
			"data, both": {usageDataBoth, func() (Derivation, error) {
				return DataSpec{Direction: Both, Key: w, Mode: ECB}.Derivation(ksn, parent, Request)
			}},
			"MAC":          {usageMACGenerate, func() (Derivation, error) { return macSpecFor(w, 0).Derivation(ksn, parent, Request) }},
			"response MAC": {usageMACVerify, func() (Derivation, error) { return macSpecFor(w, 0).Derivation(ksn, parent, Response) }},
			"MAC, both":    {usageMACBoth, func() (Derivation, error) { return macSpecFor(w, Both).Derivation(ksn, parent, Response) }},
		} {
			d, err := of.step()
			want, wantErr := tx.s.derive(of.usage, w)
			switch {
			case w.isHMAC() && name != "MAC" && name != "response MAC" && name != "MAC, both":
				if !errors.Is(err, ErrUnsupported) {
					t.Errorf("%s key of %v: %v", name, w, err)
				}
			case errors.Is(wantErr, ErrStrength):
				if !errors.Is(err, ErrStrength) || d.Key != 0 {
					t.Errorf("%s key of %v under %v: %v", name, w, parent, err)
				}
			case err != nil || d.Key != w || !bytes.Equal(device(t, node, d), want):
				t.Errorf("%s key of %v under %v at %v is another one (%v)", name, w, parent, ksn, err)
			}
		}
	}
}

func formatFor(w WorkingKey) pin.Format {
	if w.isTDES() {
		return pin.Format0
	}
	return pin.Format4
}

func macSpecFor(w WorkingKey, d Direction) MACSpec {
	if w.isHMAC() {
		return MACSpec{Algorithm: MACHMACSHA256, Key: w, Direction: d, Length: 32}
	}
	return MACSpec{Algorithm: MACCMAC, Key: w, Direction: d, Length: 8}
}

func TestDerivationRefuses(t *testing.T) {
	t.Parallel()
	aesKSN, err := ParseKSNHex("123456789012345600000001")
	if err != nil {
		t.Fatal(err)
	}
	tdesKSN, err := ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		call func() error
		want error
	}{
		"initial key of TDES":    {func() error { _, err := tdesKSN.KeyID().InitialDerivation(KeyAES128); return err }, ErrKSN},
		"initial key of nothing": {func() error { _, err := KeyID{}.InitialDerivation(KeyAES128); return err }, ErrKSN},
		"base key of TDES":       {func() error { _, err := aesKSN.KeyID().InitialDerivation(KeyTDES2); return err }, ErrUnsupported},
		"base key of HMAC":       {func() error { _, err := aesKSN.KeyID().InitialDerivation(KeyHMAC256); return err }, ErrUnsupported},
		"steps of TDES":          {func() error { _, _, err := tdesKSN.Derivations(KeyAES128); return err }, ErrKSN},
		"steps of no key":        {func() error { _, _, err := aesKSN.Derivations(0); return err }, ErrUnsupported},
		"PIN key of TDES":        {func() error { _, err := PINSpec{Format: pin.Format4}.Derivation(tdesKSN, KeyAES128); return err }, ErrKSN},
		"PIN key under TDES":     {func() error { _, err := PINSpec{Format: pin.Format4}.Derivation(aesKSN, KeyTDES3); return err }, ErrUnsupported},
		"PIN format of TDES":     {func() error { _, err := PINSpec{Format: pin.Format0}.Derivation(aesKSN, KeyAES128); return err }, ErrUnsupported},
		"data the other way":     {func() error { _, err := AES.DefaultData().Derivation(aesKSN, KeyAES128, Response); return err }, ErrUnsupported},
		"data of nothing":        {func() error { _, err := DataSpec{}.Derivation(aesKSN, KeyAES128, Request); return err }, ErrUnsupported},
		"MAC of nothing":         {func() error { _, err := MACSpec{}.Derivation(aesKSN, KeyAES128, Request); return err }, ErrUnsupported},
		"MAC of a wrong length": {func() error {
			_, err := MACSpec{Algorithm: MACCMAC, Key: KeyAES128, Length: 3}.Derivation(aesKSN, KeyAES128, Request)
			return err
		}, ErrLength},
		"MAC the other way round": {func() error {
			s := AES.DefaultMAC()
			s.Direction = Response
			_, err := s.Derivation(aesKSN, KeyAES128, Request)
			return err
		}, ErrUnsupported},
	} {
		if err := tt.call(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// TestInitialKeyBegin compares with the transaction that the base key gives.
func TestInitialKeyBegin(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		algorithm keys.Algorithm
		ksn       string
	}{
		"TDES":    {keys.TDES2, "FFFF9876543210E0000B"},
		"AES-128": {keys.AES128, "123456789012345600000007"},
		"AES-256": {keys.AES256, "1234567890123456FFFF0000"},
	} {
		k, err := keys.GenerateKey(keys.Attributes{Algorithm: tt.algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable})
		if err != nil {
			t.Fatal(err)
		}
		base, err := NewBaseKey(k)
		if err != nil {
			t.Fatal(err)
		}
		ksn, err := ParseKSNHex(tt.ksn)
		if err != nil {
			t.Fatal(err)
		}
		ik, err := base.Derive(ksn.KeyID())
		if err != nil {
			t.Fatal(err)
		}
		want, err := base.Begin(ksn)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ik.Begin(ksn)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got.s.key(), want.s.key()) || got.KSN() != ksn {
			t.Errorf("%s: another key for %v", name, ksn)
		}
		got.End()
		want.End()
		other, err := ParseKSNHex("0000" + tt.ksn[4:])
		if err != nil {
			t.Fatal(err)
		}
		for what, k := range map[string]KSN{"another terminal": other, "no KSN": {}} {
			if _, err := ik.Begin(k); !errors.Is(err, ErrKSN) {
				t.Errorf("%s: a transaction of %s: %v", name, what, err)
			}
		}
		ik.Wipe()
		if _, err := ik.Begin(ksn); err == nil {
			t.Errorf("%s: a transaction from a wiped key", name)
		}
	}
}

// TestTargetCipher gives the outgoing key as a cipher, as it is with a key that is in a device.
func TestTargetCipher(t *testing.T) {
	t.Parallel()
	zone := bytes.Repeat([]byte{1, 2, 3, 4}, 4)
	inAES, err := aes.NewCipher(zone)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.GenerateKey(keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable})
	if err != nil {
		t.Fatal(err)
	}
	base, err := NewBaseKey(k)
	if err != nil {
		t.Fatal(err)
	}
	ksn, err := ParseKSNHex("123456789012345600000001")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := base.Begin(ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.End()
	pan, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		format pin.Format
		key    WorkingKey
		cipher cipher.Block
	}{
		"format 4 under AES":  {pin.Format4, KeyAES128, inAES},
		"format 0 under TDES": {pin.Format0, KeyTDES2, newDES(zone)},
	} {
		block, err := tx.s.encryptPIN(nil, PINSpec{Format: tt.format, Key: tt.key}, p, pan, pin.Fill{7})
		if err != nil {
			t.Fatal(err)
		}
		in, out := PINBlock{Format: tt.format, Key: tt.key, PAN: pan, Block: block}, PINTarget{Format: tt.format, PAN: pan, Cipher: tt.cipher, Fill: pin.Fill{9}}
		got, err := tx.TranslatePIN([]byte("dst"), in, out)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := tt.format.Encrypt([]byte("dst"), tt.cipher, p, pan, pin.Fill{9})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %X, want %X (%v)", name, got, want, err)
		}
		out.Key = k
		if _, err := tx.TranslatePIN(nil, in, out); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a key beside the cipher: %v", name, err)
		}
		out.Key = keys.Key{}
		if tt.cipher == inAES {
			out.Cipher = newDES(zone)
		} else {
			out.Cipher = inAES
		}
		if _, err := tx.TranslatePIN(nil, in, out); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a cipher of another size: %v", name, err)
		}
	}
}

// The steps that a device has to take for the third transaction of a terminal.
func ExampleKSN_Derivations() {
	ksn, err := ParseKSNHex("123456789012345600000003")
	if err != nil {
		fmt.Println(err)
		return
	}
	counters, steps, err := ksn.Derivations(KeyAES128)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range steps {
		fmt.Printf("%08X %X\n", counters[i], steps[i].Data)
	}
	// Output:
	// 00000002 01018000000200809012345600000002
	// 00000003 01018000000200809012345600000003
}
