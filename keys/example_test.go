package keys_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/keys"
)

var bdk = keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}

// A key is drawn, and split between three custodians. Each gets one sheet.
func ExampleSplit() {
	k, err := keys.GenerateKey(bdk)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	sheets, err := keys.Split(k, keys.ParityAdjusted, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range sheets {
		defer s.Wipe()
		text, err := s.Text()
		if err != nil {
			fmt.Println(err)
			return
		}
		defer text.Wipe() // it goes to the custodian's file or printer
		fmt.Println(s.Number, "of", s.Of, s.Component, s.Verify(keys.ParityRequired), s.KeyCheckValue.KCV == k.KCV())
	}
	// Output:
	// 1 of 3 [2TDEA component] <nil> true
	// 2 of 3 [2TDEA component] <nil> true
	// 3 of 3 [2TDEA component] <nil> true
}

// Two custodians bring their sheets, one of them with a digit that is not right.
func ExampleCombine() {
	first, err := keys.ParseSheet([]byte(`component: 1 of 2
algorithm: 2TDEA
value: 1357 9246 80AC E024 68BD F135 79FE CA86
kcv: legacy:124E2E
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Wipe()
	second, err := keys.ParseSheet([]byte(`component: 2 of 2
algorithm: 2TDEA
value: 3141 5926 5358 97E1 2718 2818 2845 9045
kcv: legacy:000000
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Wipe()
	_, err = keys.Combine(bdk, keys.ParityAdjusted, []keys.Sheet{first, second})
	fmt.Println(errors.Is(err, keys.ErrCheckValue), err)

	second.CheckValue, err = second.Component.CheckValue(keys.KCVLegacy) // what is really on the sheet
	if err != nil {
		fmt.Println(err)
		return
	}
	k, err := keys.Combine(bdk, keys.ParityAdjusted, []keys.Sheet{first, second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	fmt.Println(k, k.KCV())
	// Output:
	// true component 2, check value legacy:000000: keys: wrong check value
	// [2TDEA key B0 X N] FCA446
}

// A custodian types a component and compares the check value with the one on paper.
func ExampleParseComponent() {
	typed := []byte("0123 4567 89ab cdef fedc ba98 7654 3210")
	c, err := keys.ParseComponent(keys.TDES2, typed)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Wipe()
	paper, err := keys.ParseCheckValue("legacy:08D7B4")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c, c.Verify(paper))
	// Output: [2TDEA component] <nil>
}

// The digits of a component are in no error.
func ExampleParseSheet() {
	_, err := keys.ParseSheet([]byte("component: 1 of 2\nalgorithm: 2TDEA\nvalue: 0123 4567 89AB CDEF FEDC BA98 7654 321O\nkcv: legacy:08D7B4\n"))
	fmt.Println(errors.Is(err, keys.ErrSyntax), err)
	// Output: true keys: wrong form: a character is no hexadecimal digit
}

// Both kinds of check values of an AES key: the one that most systems show, and that of older ones.
func ExampleKey_CheckValue() {
	material, err := hex.DecodeString("2b7e151628aed2a6abf7158809cf4f3c")
	if err != nil {
		fmt.Println(err)
		return
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageData, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, material)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	for _, kind := range []keys.KCVKind{keys.KCVLegacy, keys.KCVCMAC, keys.KCVCMACShort} {
		v, err := k.CheckValue(kind)
		fmt.Println(v, err)
	}
	// Output:
	// legacy:7DF76B <nil>
	// cmac:7AD386C376 <nil>
	// cmac-short:7AD386 <nil>
}

// A key that comes from outside has odd parity and no weak part, or is refused.
func ExampleImportKey() {
	for _, digits := range []string{
		"0123456789ABCDEFFEDCBA9876543210", "0022446688AACCEEFFDDBB9977553311", "0123456789ABCDEF0123456789ABCDEF", "0123456789ABCDEF1FE01FE00EF10EF1",
	} {
		material, err := hex.DecodeString(digits)
		if err != nil {
			fmt.Println(err)
			return
		}
		k, err := keys.ImportKey(bdk, keys.ParityRequired, material)
		fmt.Println(k, err)
		k.Wipe()
	}
	// Output:
	// [2TDEA key B0 X N] <nil>
	// [no key] keys: wrong parity
	// [no key] keys: weak key: TDES with equal parts
	// [no key] keys: weak key: a part is a weak or semi-weak key of DES
}

// GenerateKey draws a key that is good for its algorithm.
// A key out of somebody's key block was held to no rule yet.
func ExampleKey_CheckWeak() {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, []byte("\x01\x23\x45\x67\x89\xAB\xCD\xEF\x01\xFE\x01\xFE\x01\xFE\x01\xFE"))
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	fmt.Println(k.CheckWeak())
	// Output: keys: weak key: a part is a weak or semi-weak key of DES
}

func ExampleGenerateKey() {
	k, err := keys.GenerateKey(bdk)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	fmt.Println(k, k.Material(), len(k.KCV().String()))
	// Output: [2TDEA key B0 X N] [secret] 6
}

// A word that a person wrote becomes a rule for parity.
func ExampleParseParity() {
	p, err := keys.ParseParity("adjusted")
	fmt.Println(p, err)
	_, err = keys.ParseParity("odd")
	fmt.Println(err)
	// Output:
	// adjusted <nil>
	// keys: unknown parity "odd": want adjusted, required or ignored
}

// A 2TDEA key written in 24 bytes is as strong as it is, not as it looks.
func ExampleKey_StrengthBits() {
	a := keys.Attributes{Algorithm: keys.TDES3, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable}
	for _, material := range []string{"01234567abcdefghABCDEFGH", "01234567abcdefgh01234567"} {
		k, err := keys.NewKey(a, []byte(material))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(k.Attributes().Algorithm, k.StrengthBits())
		k.Wipe()
	}
	// Output:
	// 3TDEA 112
	// 3TDEA 80
}
