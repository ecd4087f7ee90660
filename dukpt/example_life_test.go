package dukpt_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// A terminal starts again: the state that was saved with the last reservation goes on behind it, so no key comes twice.
func ExampleOpenTerminal() {
	var saved secret.Bytes
	save := func(state secret.Bytes) error {
		saved = state.Clone() // a real one is sealed, written, synced and read back
		return nil
	}
	terminal := exampleTerminal()
	tx := dukpt.NewTransaction()
	if err := terminal.Reserve(4, save); err != nil {
		log.Fatal(err)
	}
	if err := terminal.Next(tx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("before the power cut:", tx.KSN())
	tx.End()
	terminal.Wipe()

	terminal, err := dukpt.OpenTerminal(saved)
	if err != nil {
		log.Fatal(err)
	}
	defer terminal.Wipe()
	next, _ := terminal.NextKSN()
	fmt.Println("after it:", next)

	saved.Expose()[20] ^= 1
	_, err = dukpt.OpenTerminal(saved)
	fmt.Println(errors.Is(err, dukpt.ErrState))
	// Output:
	// before the power cut: FFFF9876543210E00001
	// after it: FFFF9876543210E00005
	// true
}

// The state as it stands, for whoever keeps it elsewhere. Reserve saves by itself.
func ExampleTerminal_AppendState() {
	terminal := exampleTerminal()
	defer terminal.Wipe()
	state := secret.From(terminal.AppendState(nil)) // as secret as the keys in it
	defer state.Wipe()
	same, err := dukpt.OpenTerminal(state)
	if err != nil {
		log.Fatal(err)
	}
	defer same.Wipe()
	fmt.Println(state.Len(), "bytes,", same.KeyID())
	// Output: 374 bytes, FFFF9876543210E00000
}

// The host has seen later keys than the terminal remembers, and says where to go on.
func ExampleTerminal_SkipTo() {
	terminal := exampleTerminal()
	defer terminal.Wipe()
	save := func(secret.Bytes) error { return nil }
	floor, err := terminal.KeyID().AtOrdinal(5000)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(terminal.SkipTo(floor, save))
	next, _ := terminal.NextKSN()
	fmt.Println(next, "is key", next.Ordinal())

	first, err := terminal.KeyID().AtOrdinal(1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(terminal.SkipTo(first, save), dukpt.ErrKSN)) // there is no way back
	// Output:
	// <nil>
	// FFFF9876543210E01395 is key 5000
	// true
}

// The answer to a request comes under keys of its own: the terminal verifies it, then decrypts it.
func ExampleTransaction_VerifyResponse() {
	tx, host := exampleAES()
	defer tx.End()
	defer host.End()
	data := dukpt.DataSpec{Direction: dukpt.Response, Key: dukpt.KeyAES128, Mode: dukpt.CBC, Padding: dukpt.PKCS7Padding}
	mac := dukpt.AES.DefaultMAC()

	ct, err := host.EncryptResponse(nil, data, []byte("00 APPROVED"))
	if err != nil {
		log.Fatal(err)
	}
	sum, err := host.MACResponse(nil, mac, ct)
	if err != nil {
		log.Fatal(err)
	}

	if err := tx.VerifyResponse(mac, ct, sum); err != nil {
		log.Fatal(err)
	}
	text, err := tx.DecryptResponse(nil, data, ct)
	fmt.Printf("%s %v\n", text, err)

	sum[0] ^= 1
	fmt.Println(tx.VerifyResponse(mac, ct, sum))
	// Output:
	// 00 APPROVED <nil>
	// dukpt: does not verify
}

// A KSN as it comes with a message: 10 bytes under TDES, 12 under AES, and 8 from some terminals.
func ExampleParseKSN() {
	ksn, err := dukpt.ParseKSN([]byte("\xFF\xFF\x98\x76\x54\x32\x10\xE0\x00\x08"))
	fmt.Println(ksn, ksn.Scheme(), err)
	short, err := dukpt.ParseShortKSN([]byte("\x98\x76\x54\x32\x10\xE0\x00\x08"))
	fmt.Println(short == ksn, err)
	_, err = dukpt.ParseKSN([]byte("\x12\x34\x56\x78\x90\x12\x34\x56\x00\x00\x00\x00"))
	fmt.Println(err)
	// Output:
	// FFFF9876543210E00008 TDES <nil>
	// true <nil>
	// dukpt: invalid key serial number: counter 0 is the initial key's
}

// What a terminal is loaded with is named by the KSN before its first transaction.
func ExampleParseInitialKSN() {
	id, err := dukpt.ParseInitialKSN([]byte("\x12\x34\x56\x78\x90\x12\x34\x56\x00\x00\x00\x00"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id, id.Scheme())
	next, _ := id.Next()
	fmt.Println("then", next)
	// Output:
	// 1234567890123456 AES
	// then 1234567890123457
}

// The counter of a KSN skips numbers; the ordinal counts the keys.
func ExampleKeyID_AtOrdinal() {
	id, err := dukpt.ParseKeyID("FFFF9876543210E00000")
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range []uint32{1, 2048, dukpt.TDES.MaxOrdinal()} {
		ksn, err := id.AtOrdinal(n)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %v, counter %X, %d left\n", ksn.Ordinal(), ksn, ksn.Counter(), ksn.Remaining())
	}
	_, err = id.AtOrdinal(dukpt.TDES.MaxOrdinal() + 1)
	fmt.Println(err)
	// Output:
	// 1: FFFF9876543210E00001, counter 1, 1048574 left
	// 2048: FFFF9876543210E00801, counter 801, 1046527 left
	// 1048575: FFFF9876543210FFF800, counter 1FF800, 0 left
	// dukpt: invalid key serial number: ordinal 1048576 is outside 1..1048575
}

// What a configuration says in words, checked before any key is derived.
func ExampleMACSpec_Validate() {
	algorithm, err := dukpt.ParseMACAlgorithm("ISO9797_ALGORITHM3")
	if err != nil {
		log.Fatal(err)
	}
	padding, err := dukpt.ParseMACPadding("method2")
	if err != nil {
		log.Fatal(err)
	}
	spec := dukpt.MACSpec{Algorithm: algorithm, Padding: padding, Length: 4}
	fmt.Println(spec.Validate(dukpt.TDES))

	spec.Key, err = dukpt.ParseWorkingKey("AES128")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(spec.Validate(dukpt.AES))
	_, err = dukpt.ParseMACAlgorithm("CBC-MAC")
	fmt.Println(errors.Is(err, dukpt.ErrUnsupported), err)
	// Output:
	// <nil>
	// dukpt: not supported: MAC algorithm ISO9797_ALGORITHM3 under AES and a working key AES128
	// true dukpt: not supported: MAC algorithm "CBC-MAC"
}

// The same for card data: a reader with AES keys for both ways.
func ExampleDataSpec_Validate() {
	direction, err := dukpt.ParseDirection("both")
	if err != nil {
		log.Fatal(err)
	}
	mode, err := dukpt.ParseCipherMode("CBC")
	if err != nil {
		log.Fatal(err)
	}
	spec := dukpt.DataSpec{Direction: direction, Key: dukpt.KeyAES128, Mode: mode}
	fmt.Println(spec.Validate(dukpt.AES))

	spec.Profile, err = dukpt.ParseDataProfile("pin-variant")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(spec.Validate(dukpt.AES))
	// Output:
	// <nil>
	// dukpt: not supported: AES has no data profiles, got pin-variant
}
