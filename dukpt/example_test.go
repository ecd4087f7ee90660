package dukpt_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

func ExampleParseKSNHex() {
	ksn, err := dukpt.ParseKSNHex("FFFF9876543210E003FF")
	if err != nil {
		log.Fatal(err)
	}
	next, _ := ksn.Next()
	fmt.Println(ksn.Scheme(), ksn.KeyID(), "key", ksn.Ordinal(), "then", next)
	fmt.Println(ksn.Remaining(), "keys left")

	_, err = dukpt.ParseKSNHex("FFFF9876543210E007FF")
	fmt.Println(errors.Is(err, dukpt.ErrKSN), err)
	// Output:
	// TDES FFFF9876543210E00000 key 1023 then FFFF9876543210E00400
	// 1047552 keys left
	// true dukpt: invalid key serial number: counter 7FF has 11 one bits, terminals use at most 10
}

// exampleBase is the base key of the published examples.
func exampleBase() *dukpt.BaseKey {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, []byte("\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10"))
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		log.Fatal(err)
	}
	return base
}

func exampleTerminal() *dukpt.Terminal {
	base := exampleBase()
	defer base.Wipe()
	id, err := dukpt.ParseKeyID("FFFF9876543210E00000")
	if err != nil {
		log.Fatal(err)
	}
	ik, err := base.Derive(id)
	if err != nil {
		log.Fatal(err)
	}
	t, err := dukpt.NewTerminal(ik)
	if err != nil {
		log.Fatal(err)
	}
	return t
}

func ExampleTerminal() {
	terminal := exampleTerminal()
	defer terminal.Wipe()
	save := func(state secret.Bytes) error {
		return nil // write it, sync it, read it back
	}
	if err := terminal.Reserve(8, save); err != nil {
		log.Fatal(err)
	}
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Wipe()
	pan, err := pin.ParsePAN("4012345678909")
	if err != nil {
		log.Fatal(err)
	}
	defer pan.Wipe()

	tx := dukpt.NewTransaction()
	if err := terminal.Next(tx); err != nil {
		log.Fatal(err)
	}
	defer tx.End()
	block, err := tx.EncryptPIN(nil, pin.Format0, p, pan)
	if err != nil {
		log.Fatal(err)
	}
	mac, err := tx.MAC(nil, dukpt.TDES.DefaultMAC(), []byte("4012345678909D987"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v %X %X\n", tx.KSN(), block, mac)
	fmt.Println(terminal.Available(), "keys reserved")
	// Output:
	// FFFF9876543210E00001 1B9C1845EB993A7A 9D2569048260C49C
	// 7 keys reserved
}

func ExampleBaseKey_Begin() {
	base := exampleBase()
	defer base.Wipe()
	ksn, err := dukpt.ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		log.Fatal(err)
	}
	pan, err := pin.ParsePAN("4012345678909")
	if err != nil {
		log.Fatal(err)
	}
	zone, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	}, []byte("zone PIN key: 16"))
	if err != nil {
		log.Fatal(err)
	}
	defer zone.Wipe()

	tx, err := base.Begin(ksn)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.End()
	fromTerminal := []byte("\x1B\x9C\x18\x45\xEB\x99\x3A\x7A")
	block, err := tx.TranslatePIN(nil,
		dukpt.PINBlock{Format: pin.Format0, PAN: pan, Block: fromTerminal},
		dukpt.PINTarget{Format: pin.Format0, PAN: pan, Key: zone})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%X\n", block)

	fromTerminal[0] ^= 1
	_, err = tx.TranslatePIN(nil,
		dukpt.PINBlock{Format: pin.Format0, PAN: pan, Block: fromTerminal},
		dukpt.PINTarget{Format: pin.Format0, PAN: pan, Key: zone})
	fmt.Println(err)
	// Output:
	// 0BF0A8E231D3997B
	// dukpt: does not verify
}
