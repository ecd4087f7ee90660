package keyblock_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// protector returns a protector under a key of the standard's samples.
func protector(a keys.Algorithm, digits string) *keyblock.Protector {
	raw, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, raw)
	if err != nil {
		panic(err)
	}
	defer k.Wipe()
	p, err := keyblock.NewProtector(k)
	if err != nil {
		panic(err)
	}
	return p
}

// A key of a deprecated block moves under an AES protection key.
func ExampleProtector_Rewrap() {
	old := protector(keys.TDES2, "89E88CF7931444F334BD7547FC3F380C")
	defer old.Wipe()
	content, err := old.Unwrap("A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	for _, w := range content.Warnings() {
		fmt.Println("warning:", w)
	}
	next := protector(keys.AES256, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	defer next.Wipe()
	block, err := next.Rewrap(content)
	if err != nil {
		fmt.Println(err)
		return
	}
	moved, err := next.Unwrap(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer moved.Wipe()
	fmt.Println(block[:16], moved.KCV(), len(moved.Warnings()))
	// Output:
	// warning: the version is deprecated: its binding is weak
	// warning: the length of the block tells the length of the key
	// D0112P0TE00E0000 CB9DEA 0
}

func ExampleProtector_WrapWith() {
	p := protector(keys.TDES2, "DD7515F2BFC17F85CE48F3CA25CB21F6")
	defer p.Wipe()
	initial, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer initial.Wipe()
	block, err := p.WrapWith(initial, keyblock.Options{
		KeyVersion: "12",
		Context:    keyblock.ContextExchange,
		Optional:   []keyblock.OptionalBlock{{ID: keyblock.OptionalKS, Data: "FFFF9876543210E00000"}, {ID: keyblock.OptionalKC}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(block[:42], len(block))

	_, err = p.Wrap(initial, keyblock.OptionalBlock{ID: keyblock.OptionalIK, Data: "1234567890123456"})
	fmt.Println(errors.Is(err, keyblock.ErrOptional), err)
	// Output:
	// B0136B1TX12E0320KS18FFFF9876543210E00000KC 136
	// true keyblock: optional block: IK does not go with a key of usage B1, algorithm T and mode of use X
}

// What optional blocks say has typed methods. KS with 16 digits is read with a warning and has no value.
func ExampleHeader_Warnings() {
	for _, block := range []string{
		"B0120B1TX00E0100KS18FFFF9876543210E00000AA17F5A4F559A9634017FCA69A6904EDA23F7230BD9CF42D982AB98CFF307B3F08A22D0E894BBB4F",
		"A0112P0TE12E0200KS1400604B120F929280PB047A1BB737854CD7AF58A8A1E4506A942277EDA76EBA6BA228AF62ADDA3AD8799E8B2C8CD7",
	} {
		h, err := keyblock.Inspect(block)
		if err != nil {
			fmt.Println(err)
			return
		}
		ksn, err := h.InitialKSN()
		fmt.Printf("%X %v\n", ksn, err)
		for _, w := range h.Warnings() {
			fmt.Println("warning:", w)
		}
	}
	// Output:
	// FFFF9876543210E00000 <nil>
	// 00000000000000000000 keyblock: optional block: KS is not in the form of the standard
	// warning: the version is deprecated: its binding is weak
	// warning: optional block KS is not in the form of the standard
	// warning: optional block KS does not go with the key
}

func ExampleHeader_Derivations() {
	h, err := keyblock.Inspect("D0192B0AX00E0300BI0E0112345678DA1001B1AXNP0AEEPB1200000000000000" + strings.Repeat("0", 128))
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := h.BaseKeyID()
	fmt.Println(id.AES, id.ID, err)
	all, err := h.Derivations()
	for _, d := range all {
		fmt.Printf("%s %c %v %v %v\n", d.Usage, d.Algorithm, d.Mode, d.Exportability, err)
	}
	_, err = h.Label()
	fmt.Println(err)
	// Output:
	// true 12345678 <nil>
	// B1 A X N <nil>
	// P0 A E E <nil>
	// keyblock: no such optional block
}
