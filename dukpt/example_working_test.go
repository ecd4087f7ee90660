package dukpt_test

import (
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/pin"
)

// exampleAES begins one transaction of a fresh AES-256 base key on both sides.
func exampleAES() (*dukpt.Transaction, *dukpt.HostTransaction) {
	k, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES256, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		log.Fatal(err)
	}
	ksn, err := dukpt.ParseKSNHex("123456789012345600000001")
	if err != nil {
		log.Fatal(err)
	}
	host, err := base.Begin(ksn)
	if err != nil {
		log.Fatal(err)
	}
	ik, err := base.Derive(ksn.KeyID())
	if err != nil {
		log.Fatal(err)
	}
	terminal, err := dukpt.NewTerminal(ik)
	if err != nil {
		log.Fatal(err)
	}
	if err := terminal.Reserve(1, func(secret.Bytes) error { return nil }); err != nil {
		log.Fatal(err)
	}
	tx := dukpt.NewTransaction()
	if err := terminal.Next(tx); err != nil {
		log.Fatal(err)
	}
	return tx, host
}

// Other working keys than AES-128 ones: an HMAC, padded data under a TDES key, and a PIN under AES-256.
func ExampleTransaction_EncryptPINUnder() {
	tx, host := exampleAES()
	defer tx.End()
	defer host.End()

	hmac := dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256, Key: dukpt.KeyHMAC256, Length: 32}
	sum, err := tx.MAC(nil, hmac, []byte("amount 12.34"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sum), host.VerifyMAC(hmac, []byte("amount 12.34"), sum))

	data := dukpt.DataSpec{Direction: dukpt.Request, Key: dukpt.KeyTDES3, Mode: dukpt.CBC, Padding: dukpt.PKCS7Padding}
	ct, err := tx.EncryptData(nil, data, []byte("4012345678909D987"))
	if err != nil {
		log.Fatal(err)
	}
	plain, err := host.DecryptData(nil, data, ct)
	fmt.Printf("%d %s %v\n", len(ct), plain, err)

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
	block, err := tx.EncryptPINUnder(nil, dukpt.PINSpec{Format: pin.Format4, Key: dukpt.KeyAES256}, p, pan)
	fmt.Println(len(block), err)
	// Output:
	// 32 <nil>
	// 24 4012345678909D987 <nil>
	// 16 <nil>
}

func ExampleParseDataPadding() {
	p, err := dukpt.ParseDataPadding("iso9797-method2")
	fmt.Println(p == dukpt.ISO9797M2Padding, err)
	_, err = dukpt.ParseDataPadding("spaces")
	fmt.Println(err)
	// Output:
	// true <nil>
	// dukpt: not supported: data padding "spaces"
}

// The host sends a zone's data key under the key encryption key of a transaction. The terminal opens the key block, and can
// make none.
func ExampleHostTransaction_KeyEncryptionKey() {
	tx, host := exampleAES()
	defer tx.End()
	defer host.End()
	sent, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageData, Mode: keys.ModeBoth, Exportability: keys.Exportable,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sent.Wipe()
	wrapping, err := exampleProtector(host.KeyEncryptionKey(dukpt.KeyAES256))
	if err != nil {
		log.Fatal(err)
	}
	defer wrapping.Wipe()
	block, err := wrapping.Wrap(sent)
	if err != nil {
		log.Fatal(err)
	}

	unwrapping, err := exampleProtector(tx.KeyEncryptionKey(dukpt.KeyAES256))
	if err != nil {
		log.Fatal(err)
	}
	defer unwrapping.Wipe()
	content, err := unwrapping.Unwrap(block)
	if err != nil {
		log.Fatal(err)
	}
	defer content.Wipe()
	received, err := content.Key()
	if err != nil {
		log.Fatal(err)
	}
	defer received.Wipe()
	_, err = unwrapping.Wrap(sent)
	fmt.Println(received.KCV().Equal(sent.KCV()), err != nil)
	// Output: true true
}

// exampleProtector takes the key over.
func exampleProtector(k keys.Key, err error) (*keyblock.Protector, error) {
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return keyblock.NewProtector(k)
}
