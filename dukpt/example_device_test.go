package dukpt_test

import (
	"crypto/aes"
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// inDevice is what a device does with a step: it encrypts the data under the parent, which never leaves it. Here the parent is
// there to see, and not wiped, because it comes of a published test key.
func inDevice(parent []byte, step dukpt.Derivation) (key []byte) {
	c, err := aes.NewCipher(parent)
	if err != nil {
		log.Fatal(err)
	}
	key = make([]byte, len(step.Data))
	for at := 0; at < len(key); at += aes.BlockSize {
		c.Encrypt(key[at:], step.Data[at:])
	}
	return key[:step.Key.Algorithm().KeyBytes()]
}

// A host whose base key stays in a device asks for one encryption after the other: the initial key of the terminal, the keys
// down to that of the transaction, then a working key for each thing to do. Check values tell that it has what others have.
func ExampleKeyID_InitialDerivation() {
	ksn, err := dukpt.ParseKSNHex("123456789012345600000003")
	if err != nil {
		log.Fatal(err)
	}
	const parent = dukpt.KeyAES128 // what the base key is, and so all keys above the working keys
	step, err := ksn.KeyID().InitialDerivation(parent)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("initial key: %X\n", step.Data)
	key := inDevice([]byte("\xFE\xDC\xBA\x98\x76\x54\x32\x10\xF1\xF1\xF1\xF1\xF1\xF1\xF1\xF1"), step)
	counters, steps, err := ksn.Derivations(parent)
	if err != nil {
		log.Fatal(err)
	}
	for i, step := range steps {
		fmt.Printf("key %d: %X\n", counters[i], step.Data)
		key = inDevice(key, step)
	}

	pinStep, err := dukpt.PINSpec{Format: pin.Format4}.Derivation(ksn, parent)
	if err != nil {
		log.Fatal(err)
	}
	macStep, err := dukpt.AES.DefaultMAC().Derivation(ksn, parent, dukpt.Request)
	if err != nil {
		log.Fatal(err)
	}
	dataStep, err := dukpt.AES.DefaultData().Derivation(ksn, parent, dukpt.Request)
	if err != nil {
		log.Fatal(err)
	}
	for _, working := range []struct {
		what  string
		usage keys.Usage
		mode  keys.Mode
		step  dukpt.Derivation
	}{
		{"PIN", keys.UsagePIN, keys.ModeDecrypt, pinStep},
		{"MAC", keys.UsageMACCMAC, keys.ModeVerify, macStep},
		{"data", keys.UsageData, keys.ModeDecrypt, dataStep},
	} {
		k, err := keys.NewKey(keys.Attributes{
			Algorithm: working.step.Key.Algorithm(), Usage: working.usage, Mode: working.mode, Exportability: keys.NonExportable,
		}, inDevice(key, working.step))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s key: %X, %v\n", working.what, working.step.Data, k.KCV())
		k.Wipe()
	}

	_, err = dukpt.AES.DefaultData().Derivation(ksn, parent, dukpt.Response)
	fmt.Println(errors.Is(err, dukpt.ErrUnsupported), err)
	// Output:
	// initial key: 01018001000200801234567890123456
	// key 2: 01018000000200809012345600000002
	// key 3: 01018000000200809012345600000003
	// PIN key: 01011000000200809012345600000003, E7051D4EFE
	// MAC key: 01012000000200809012345600000003, B4F11A67D1
	// data key: 01013000000200809012345600000003, A24CFB62CD
	// true dukpt: not supported: request data where response data belongs
}

// A configuration says in words which scheme and how strong a base key: what goes with them follows.
func ExampleParseScheme() {
	scheme, err := dukpt.ParseScheme("AES")
	if err != nil {
		log.Fatal(err)
	}
	data := scheme.DefaultData()
	fmt.Println(data.Direction, data.Mode, data.Key, data.Padding, data.Validate(scheme))

	data.Key = dukpt.WorkingKeyOf(keys.AES256) // as strong as an AES-256 base key
	fmt.Println(data.Key, data.Validate(scheme))
	fmt.Println(dukpt.WorkingKeyOf(keys.TDES2) == 0, dukpt.TDES.DefaultData().Profile)

	_, err = dukpt.ParseScheme("aes")
	fmt.Println(errors.Is(err, dukpt.ErrUnsupported), err)
	// Output:
	// request CBC AES128 none <nil>
	// AES256 <nil>
	// true one-way
	// true dukpt: not supported: scheme "aes"
}

// A terminal sets room aside for its state once: the size does not change over the life of a key.
func ExampleTerminal_StateSize() {
	terminal := exampleTerminal()
	defer terminal.Wipe()
	const check = 32 // whatever is written behind the state
	room := make([]byte, 0, terminal.StateSize()+check)
	save := func(state keys.Secret) error {
		if state.Len()+check > cap(room) {
			return errors.New("no room for the state")
		}
		return nil
	}
	fmt.Println(terminal.StateSize(), terminal.Reserve(8, save), terminal.StateSize())
	// Output: 374 <nil> 374
}
