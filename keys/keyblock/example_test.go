package keyblock_test

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

func ExampleProtector() {
	kbpk, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kbpk.Wipe()
	protector, err := keyblock.NewProtector(kbpk)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer protector.Wipe()

	bdk, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bdk.Wipe()
	block, err := protector.Wrap(bdk)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(block[:16])

	content, err := protector.Unwrap(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	same, err := content.Key()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer same.Wipe()
	fmt.Println(same.KCV() == bdk.KCV())

	_, err = protector.Unwrap(block[:8] + "B" + block[9:]) // another mode of use in the header
	fmt.Println(err)
	// Output:
	// D0144B0AX00E0000
	// true
	// keyblock: the block does not verify
}

func ExampleInspect() {
	header, err := keyblock.Inspect("D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("usage %s, algorithm %c, mode of use %v, exportability %v: anybody can write this\n",
		header.Usage, header.Algorithm, header.Mode, header.Exportability)
	// Output: usage P0, algorithm A, mode of use E, exportability E: anybody can write this
}

func ExampleProtector_Wrap_optional() {
	kbpk, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kbpk.Wipe()
	protector, err := keyblock.NewProtector(kbpk)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer protector.Wipe()
	initial, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer initial.Wipe()

	block, err := protector.Wrap(initial, keyblock.OptionalBlock{ID: keyblock.OptionalIK, Data: "1234567890123456"})
	if err != nil {
		fmt.Println(err)
		return
	}
	content, err := protector.Unwrap(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	fmt.Println(block[:36], content.Optional)
	// Output: D0176B1AX00E0200IK141234567890123456 [{IK 1234567890123456}]
}
