package pin_test

import (
	"crypto/aes"
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/pin"
)

// The two encipherments of a block of format 4 are undone in the device that has the key. The host does the step between them:
// what it has in hand then tells nothing of the PIN without the key.
func ExampleFormat_XORPANField() {
	p, pan := card()
	defer p.Wipe()
	device, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	fill := pin.Fill{0x0F, 0x1E, 0x2D, 0x3C, 0x4B, 0x5A, 0x69, 0x78} // from pin.GenerateFill, outside of an example
	block, err := pin.Format4.Encrypt(nil, device, p, pan, fill)
	if err != nil {
		log.Fatal(err)
	}

	device.Decrypt(block, block) // in the device
	if err := pin.Format4.XORPANField(block, pan); err != nil {
		log.Fatal(err)
	}
	device.Decrypt(block, block)        // in the device, where the PIN field stays
	fmt.Printf("PIN field %X\n", block) // a test PIN: real fields are not printed

	fmt.Println(pin.Format0.XORPANField(block, pan))
	// Output:
	// PIN field 441234AAAAAAAAAA0F1E2D3C4B5A6978
	// pin: no PAN field of ISO_FORMAT_0 for a block of 16 bytes
}

// A loop over many blocks keeps one memory. Between two of them nothing of a PIN is left in it.
func ExampleOpened_Clear() {
	p, pan := card()
	defer p.Wipe()
	key, err := aes.NewCipher([]byte("a test PIN key 1"))
	if err != nil {
		log.Fatal(err)
	}
	o := pin.NewOpened()
	defer o.Wipe()
	for range 2 {
		block, err := pin.Format4.Encrypt(nil, key, p, pan, pin.GenerateFill())
		if err != nil {
			log.Fatal(err)
		}
		if err := pin.Format4.Decrypt(&o, key, block, pan); err != nil {
			log.Fatal(err)
		}
		fmt.Print(o.IsZero(), " ")
		o.Clear() // as soon as it went into another block
		fmt.Println(o.IsZero())
	}
	// Output:
	// false true
	// false true
}

// What goes into logs is masked, by any way of printing. All digits come only as a secret.
func ExamplePAN_Masked() {
	for _, digits := range []string{"4111111111111111", "12345678"} { // test cards
		pan, err := pin.ParsePAN(digits)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(pan.Masked(), pan, pan.Digits(), pan.Digits().Len())
		pan.Digits().Wipe() // they are those of the PAN
		fmt.Println(pan.IsZero(), pan.Masked())
	}
	// Output:
	// 411111******1111 411111******1111 [secret] 16
	// true [no PAN]
	// ****5678 ****5678 [secret] 8
	// true [no PAN]
}
