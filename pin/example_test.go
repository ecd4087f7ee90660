package pin_test

import (
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/pin"
)

func ExampleAppendFormat0() {
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Wipe()
	pan, err := pin.ParsePAN("4012345678909")
	if err != nil {
		log.Fatal(err)
	}
	block, err := pin.AppendFormat0(nil, p, pan)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v for %v: %X\n", p, pan, block) // a published example; real clear blocks are never printed

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

func ExampleFindPAN() {
	pan, err := pin.FindPAN([]byte("%B5452300551227189^HOGAN/PAUL      ^08043210000000725000000?"))
	if err != nil {
		log.Fatal(err)
	}
	defer pan.Wipe()
	fmt.Println(pan)
	// Output: 545230******7189
}
