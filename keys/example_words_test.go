package keys_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/keys"
)

// What a key may do, as the columns of a list say it. Each word is held to the standard, and then to the others.
func ExampleParseAlgorithm() {
	for _, row := range []struct {
		algorithm, usage    string
		mode, exportability byte
	}{
		{"AES-128", "P0", 'E', 'N'},
		{"AES-128", "B0", 'E', 'N'},
		{"AES", "P0", 'E', 'N'},
	} {
		var a keys.Attributes
		var errs [4]error
		a.Algorithm, errs[0] = keys.ParseAlgorithm(row.algorithm)
		a.Usage, errs[1] = keys.ParseUsage(row.usage)
		a.Mode, errs[2] = keys.ParseMode(row.mode)
		a.Exportability, errs[3] = keys.ParseExportability(row.exportability)
		if err := errors.Join(errs[:]...); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(a.Algorithm, a.Usage, a.Mode, a.Exportability, a.Validate())
	}
	// Output:
	// AES-128 P0 E N <nil>
	// AES-128 B0 E N keys: mode of use 'E' does not go with usage B0: want one of XN
	// keys: unknown algorithm "AES"
}

// Words that are not of the standard, or that nothing here knows, are refused and not guessed.
func ExampleParseUsage() {
	_, err := keys.ParseUsage("p0")
	fmt.Println(err)
	_, err = keys.ParseMode('e')
	fmt.Println(err)
	_, err = keys.ParseExportability('Y')
	fmt.Println(err)
	// Output:
	// keys: unknown usage "p0"
	// keys: unknown mode of use 'e'
	// keys: unknown exportability 'Y'
}

// An HSM gives a component in binary. What is no component is no use to a custodian.
func ExampleNewComponent() {
	raw, err := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	if err != nil {
		log.Fatal(err)
	}
	c, err := keys.NewComponent(keys.TDES2, raw)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Wipe()
	clear(raw) // c has its own copy
	v, err := c.CheckValue(keys.KCVLegacy)
	fmt.Println(c, v, err)

	_, err = keys.NewComponent(keys.TDES3, raw)
	fmt.Println(errors.Is(err, keys.ErrLength), err)
	_, err = keys.NewComponent(keys.TDES2, raw)
	fmt.Println(errors.Is(err, keys.ErrDependent), err)
	// Output:
	// [2TDEA component] legacy:08D7B4 <nil>
	// true keys: wrong length: 3TDEA component of 16 bytes: want 24
	// true keys: components are not independent: all bits of one are zero
}

// A passphrase is handed over as a secret: it does not print, and wiping one copy wipes all.
func ExampleNewSecret() {
	typed := []byte("correct horse")
	passphrase := keys.NewSecret(typed)
	clear(typed) // the secret has its own copy
	fmt.Printf("%v %s %x %d\n", passphrase, passphrase, passphrase, passphrase.Len())

	given := passphrase
	passphrase.Wipe()
	fmt.Println(given.IsZero(), given.Len())
	// Output:
	// [secret] [secret] [secret] 13
	// true 0
}

// A list from another system has the kind in one column and the digits in another. The key is compared with both.
func ExampleParseKCV() {
	k, err := keys.NewKey(bdk, []byte("\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10"))
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	for _, row := range []struct{ kind, digits string }{
		{"legacy", "08d7b4"}, {"cmac", "0000000000"}, {"legacy", "08D7B"}, {"SHA-1", "08D7B4"},
	} {
		kind, err := keys.ParseKCVKind(row.kind)
		if err != nil {
			fmt.Println(errors.Is(err, keys.ErrSyntax), err)
			continue
		}
		kcv, err := keys.ParseKCV(row.digits)
		if err != nil {
			fmt.Println(errors.Is(err, keys.ErrSyntax), err)
			continue
		}
		v := keys.CheckValue{Kind: kind, KCV: kcv}
		fmt.Println(v, k.Verify(v))
	}
	// Output:
	// legacy:08D7B4 <nil>
	// cmac:0000000000 keys: wrong check value
	// true keys: wrong form: check value: want 6 or 10 hexadecimal digits
	// true keys: wrong form: unknown kind of check value: want legacy, cmac, cmac-short or hmac
}

// A registry keeps fingerprints, which are public, to find a key that is there already under another name.
func ExampleParseFingerprint() {
	f, err := keys.ParseFingerprint("00112233445566778899AABBCCDDEEFF")
	if err != nil {
		log.Fatal(err)
	}
	names := map[keys.Fingerprint]string{f: "alias/pin-2026"}
	same, err := keys.ParseFingerprint("00112233445566778899aabbccddeeff")
	fmt.Println(same, names[same], err)
	_, err = keys.ParseFingerprint("00112233")
	fmt.Println(err)
	// Output:
	// 00112233445566778899aabbccddeeff alias/pin-2026 <nil>
	// keys: fingerprint "00112233": want 32 hexadecimal digits
}
