package keyblock_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// An HMAC key of somebody who did not say its hash is no key until you know which one it is for.
func ExampleProtector_RewrapWith() {
	p := protector(keys.AES256, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	defer p.Wipe()
	content, err := p.Unwrap("D0144M7HC00E0000106C0D529CBA74345F83A613E0BFAC5F7F6AF68B16E35CC3C485A5CF1C9B17AD6A6BAF07C1BE4200E939134C4CC5A37EF16BCBFCE4DD1912CD881ED5E6FC28C9")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	_, err = content.Key()
	fmt.Println(content.Warnings(), err)

	block, err := p.RewrapWith(content, keyblock.RewrapOptions{Hash: keyblock.HashSHA256})
	if err != nil {
		fmt.Println(err)
		return
	}
	moved, err := p.Unwrap(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer moved.Wipe()
	k, err := moved.Key()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer k.Wipe()
	fmt.Println(block[:22], k.Attributes().Algorithm)
	// Output:
	// [optional block HM is missing] keyblock: no such optional block: HM: the hash of the HMAC key is not said
	// D0160M7HC00E0200HM0621 HMAC-128
}

// A header that is not of the standard is read, and goes no further.
func ExampleErrHeader() {
	p := protector(keys.AES256, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	defer p.Wipe()
	content, err := p.Unwrap("D0144M3AC00E000016B337A094ECE453CB6E74E6674823D1DF8790A9588BDD200D002AF03C65C36F95BE5647CE17B3D83B7471BC9AAC33E84F568B1C9CD891E04D68025A969292C4")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	fmt.Println(content.Warnings())
	_, err = p.Rewrap(content)
	fmt.Println(errors.Is(err, keyblock.ErrHeader), err)
	// Output:
	// [the algorithm or the mode of use does not go with the usage]
	// true keyblock: header "M3AC00E": the algorithm or the mode of use does not go with the usage
}

// What a block says of its life is as good as whoever holds the protection key.
func ExampleHeader_CheckValue() {
	p := protector(keys.AES128, "88E1AB2A2E3DD38C1FA039A536500CC8")
	defer p.Wipe()
	zone, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.Exportable,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer zone.Wipe()
	block, err := p.Wrap(zone,
		keyblock.OptionalBlock{ID: keyblock.OptionalKC}, // computed
		keyblock.OptionalBlock{ID: keyblock.OptionalTC, Data: "20260102030405Z"},
		keyblock.OptionalBlock{ID: keyblock.OptionalTS, Data: "2026-01-02T03:04:06.50Z"},
		keyblock.OptionalBlock{ID: keyblock.OptionalWP, Data: "000"})
	if err != nil {
		fmt.Println(err)
		return
	}
	content, err := p.Unwrap(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Wipe()
	kcv, err := content.CheckValue(keyblock.OptionalKC)
	fmt.Println("check value is that of the key:", kcv == zone.KCV() && kcv == content.KCV(), err)
	created, err := content.Created()
	fmt.Println("made:", created.Format(time.RFC3339), err)
	stamped, err := content.Stamped()
	fmt.Println("time stamp:", stamped.Format(time.RFC3339Nano), err)
	pedigree, err := content.Pedigree()
	fmt.Println("never under a weaker key:", pedigree == keyblock.PedigreeStrong, err)
	_, err = content.CheckValue(keyblock.OptionalKP)
	fmt.Println(errors.Is(err, keyblock.ErrAbsent))
	// Output:
	// check value is that of the key: true <nil>
	// made: 2026-01-02T03:04:05Z <nil>
	// time stamp: 2026-01-02T03:04:06.5Z <nil>
	// never under a weaker key: true <nil>
	// true
}

// An initial key comes with the id that it was derived for, and an HMAC key with its hash.
func ExampleHeader_InitialKeyID() {
	for _, block := range []string{
		"D0176B1AX00E0200IK141234567890123456PB0C00000000" + strings.Repeat("0", 128),
		"D0160M7HG00E0200HM0621PB0A000000" + strings.Repeat("0", 128),
	} {
		h, err := keyblock.Inspect(block)
		if err != nil {
			fmt.Println(err)
			return
		}
		if id, err := h.InitialKeyID(); err == nil {
			fmt.Printf("initial key %X\n", id)
		}
		if hash, err := h.Hash(); err == nil {
			fmt.Println("HMAC with", hash)
		}
	}
	// Output:
	// initial key 1234567890123456
	// HMAC with SHA-256
}

// An asymmetric key has certificates of its public half. Nothing of them is verified here.
func ExampleHeader_Certificates() {
	h, err := keyblock.Inspect("D0112S0RS00E0300AL080101CT0A00AAECPB0E0000000000" + strings.Repeat("0", 64))
	if err != nil {
		fmt.Println(err)
		return
	}
	ephemeral, err := h.IsEphemeral()
	fmt.Println("lives for one exchange:", ephemeral, err)
	all, err := h.Certificates()
	for _, c := range all {
		fmt.Printf("EMV %t, %d bytes %v\n", c.EMV, len(c.Raw), err)
	}
	// Output:
	// lives for one exchange: false <nil>
	// EMV false, 3 bytes <nil>
}
