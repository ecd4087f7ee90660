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
