package pin_test

import (
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/pin"
)

// card is the PAN and PIN that the examples use. Real clear blocks are never printed.
func card() (pin.PIN, pin.PAN) {
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		log.Fatal(err)
	}
	pan, err := pin.ParsePAN("4012345678909")
	if err != nil {
		log.Fatal(err)
	}
	return p, pan
}

func ExampleFormat_Append() {
	p, pan := card()
	defer p.Wipe()
	fill := pin.Fill{0x0F, 0x1E, 0x2D, 0x3C, 0x4B} // from pin.GenerateFill, outside of an example
	for _, f := range []pin.Format{pin.Format0, pin.Format1, pin.Format2, pin.Format3} {
		block, err := f.Append(nil, p, pan, fill)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %X\n", f, block)
	}
	_, err := pin.Format4.Append(nil, p, pan, fill)
	fmt.Println(err)
	// Output:
	// ISO_FORMAT_0: 041274EDCBA9876F
	// ISO_FORMAT_1: 1412340F1E2D3C4B
	// ISO_FORMAT_2: 241234FFFFFFFFFF
	// ISO_FORMAT_3: 341274BE9A8DC45C
	// pin: format not supported: ISO_FORMAT_4 has no clear block
}

func ExampleFormat_Decode() {
	_, pan := card()
	block, err := hex.DecodeString("041274EDCBA9876F")
	if err != nil {
		log.Fatal(err)
	}
	o := pin.NewOpened() // one memory for many blocks
	defer o.Wipe()
	fmt.Println(pin.Format0.Decode(&o, block, pan), o)
	fmt.Println(pin.Format3.Decode(&o, block, pan), o.IsZero())
	// Output:
	// <nil> [PIN]
	// pin: block does not verify true
}

func ExampleFormat_Encrypt() {
	p, pan := card()
	defer p.Wipe()
	key, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	block, err := pin.Format4.Encrypt(nil, key, p, pan, pin.GenerateFill())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(block), "bytes")
	_, err = pin.Format0.Encrypt(nil, key, p, pan, pin.Fill{})
	fmt.Println(err)
	// Output:
	// 16 bytes
	// pin: format not supported: ISO_FORMAT_0 needs a cipher with blocks of 8 bytes
}

func ExampleFormat_Decrypt() {
	p, pan := card()
	key, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	block, err := pin.Format4.Encrypt(nil, key, p, pan, pin.GenerateFill())
	if err != nil {
		log.Fatal(err)
	}
	other, err := pin.ParsePAN("4012345678917")
	if err != nil {
		log.Fatal(err)
	}
	o := pin.NewOpened()
	defer o.Wipe()
	fmt.Println(pin.Format4.Decrypt(&o, key, block, pan))
	fmt.Println(pin.Format4.Decrypt(&o, key, block, other))
	fmt.Println(pin.Format4PAN12.Decrypt(&o, key, block, pan))
	// Output:
	// <nil>
	// pin: block does not verify
	// pin: block does not verify
}

// A PIN that came out of a block goes into another one of the same card, and nowhere else.
func ExampleOpened_Encrypt() {
	p, pan := card()
	defer p.Wipe()
	terminal, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	zone, err := aes.NewCipher([]byte("a zone PIN key 2"))
	if err != nil {
		log.Fatal(err)
	}
	block, err := pin.EncryptFormat4(nil, terminal, p, pan, pin.GenerateFill())
	if err != nil {
		log.Fatal(err)
	}
	o, err := pin.DecryptFormat4(terminal, block, pan)
	if err != nil {
		log.Fatal(err)
	}
	defer o.Wipe()
	block, err = o.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: zone}, pin.GenerateFill())
	fmt.Println(o, "moved in", len(block), "bytes,", err)

	other, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		log.Fatal(err)
	}
	_, err = o.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: other, Cipher: zone}, pin.GenerateFill())
	fmt.Println(err)
	// Output:
	// [PIN] moved in 16 bytes, <nil>
	// pin: translation not permitted: from ISO_FORMAT_4 to ISO_FORMAT_4 with another PAN
}

func ExampleTranslate() {
	p, pan := card()
	defer p.Wipe()
	terminal, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	zone, err := aes.NewCipher([]byte("a zone PIN key 2"))
	if err != nil {
		log.Fatal(err)
	}
	block, err := pin.Format4.Encrypt(nil, terminal, p, pan, pin.GenerateFill())
	if err != nil {
		log.Fatal(err)
	}
	from := pin.Side{Format: pin.Format4, PAN: pan, Cipher: terminal}
	to := pin.Side{Format: pin.Format4PAN12, PAN: pan, Cipher: zone}
	block, err = pin.Translate(nil, block, from, to, pin.GenerateFill())
	fmt.Println(len(block), "bytes,", err)

	to.Format = pin.Format1
	_, err = pin.Translate(nil, block, from, to, pin.GenerateFill())
	fmt.Println(errors.Is(err, pin.ErrTranslation), err)
	// Output:
	// 16 bytes, <nil>
	// true pin: translation not permitted: from ISO_FORMAT_4 to ISO_FORMAT_1
}

func ExampleAppendFormat0() {
	p, pan := card()
	defer p.Wipe()
	block, err := pin.AppendFormat0(nil, p, pan)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v for %v: %X\n", p, pan, block) // a published example

	other, err := pin.ParsePAN("4022345678909")
	if err != nil {
		log.Fatal(err)
	}
	_, err = pin.DecodeFormat0(block, other)
	fmt.Println(err)
	// Output:
	// [PIN] for 401234***8909: 041274EDCBA9876F
	// pin: block does not verify
}

func ExampleCheckTranslation() {
	fmt.Println(pin.CheckTranslation(pin.Format0, pin.Format4, false))
	fmt.Println(pin.CheckTranslation(pin.Format0, pin.Format4, true))
	fmt.Println(pin.CheckTranslation(pin.Format4, pin.Format1, false))
	// Output:
	// <nil>
	// pin: translation not permitted: from ISO_FORMAT_0 to ISO_FORMAT_4 with another PAN
	// pin: translation not permitted: from ISO_FORMAT_4 to ISO_FORMAT_1
}

func ExampleParsePIN() {
	_, err := pin.ParsePIN([]byte("123"))
	fmt.Println(err)
	// Output: pin: a PIN is 4 to 12 decimal digits
}

func ExampleParsePAN() {
	pan, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		log.Fatal(err)
	}
	defer pan.Wipe()
	fmt.Println(pan)
	// Output: 411111******1111
}

// What formats 0 and 3, and hosts that want twelve digits, take of a card number.
func ExamplePAN_Canonical12() {
	pan, err := pin.ParsePAN("5432101234567890")
	if err != nil {
		log.Fatal(err)
	}
	defer pan.Wipe()
	twelve := pan.Canonical12()
	defer twelve.Wipe()
	fmt.Printf("%s of %v\n", twelve.Expose(), pan) // a test card: real digits are not printed
	// Output: 210123456789 of 543210******7890
}

func ExampleParseFormat() {
	f, err := pin.ParseFormat("ISO_FORMAT_3")
	fmt.Println(f, f.BlockSize(), f.HasPAN(), err)
	// Output: ISO_FORMAT_3 8 true <nil>
}

func ExampleFindPAN() {
	pan, err := pin.FindPAN([]byte("%B5452300551227189^HOGAN/PAUL      ^08043210000000725000000?"))
	if err != nil {
		log.Fatal(err)
	}
	defer pan.Wipe()
	fmt.Println(pan)
	// Output: 545230******7189
}
