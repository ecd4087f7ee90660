package keyblock_test

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// A private key out of a block, like any other, is there in bytes. They are those of the content: whoever keeps them longer
// takes a copy, and wipes it.
func ExampleContent_Material() {
	p := protector(keys.TDES2, "89E88CF7931444F334BD7547FC3F380C")
	defer p.Wipe()
	content, err := p.Unwrap("A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701")
	if err != nil {
		fmt.Println(err)
		return
	}
	material := content.Material()
	kept := material.Clone()
	defer kept.Wipe()
	fmt.Println(material, material.Len(), "bytes")

	content.Wipe()
	fmt.Println(material.Len(), "bytes, of the copy", kept.Len())
	_, err = content.Key()
	fmt.Println(err)
	// Output:
	// [secret] 16 bytes
	// 0 bytes, of the copy 16
	// keyblock: not a key that is wrapped: it is absent
}

// Where a block may be used is a matter of the header: whoever receives one in an exchange refuses one for storage.
func ExampleHeader_Context() {
	p := protector(keys.AES256, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	defer p.Wipe()
	k, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.Exportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	for _, context := range []keyblock.KeyContext{0, keyblock.ContextStorage, keyblock.ContextExchange} {
		block, err := p.WrapWith(k, keyblock.Options{Context: context})
		if err != nil {
			fmt.Println(err)
			return
		}
		content, err := p.Unwrap(block) // only now the header is authenticated
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(block[:16], content.Context(), content.Context() == keyblock.ContextStorage)
		content.Wipe()
	}
	// Output:
	// D0144P0AE00E0000 0 false
	// D0144P0AE00E0010 1 true
	// D0144P0AE00E0020 2 false
}
