package idtech_test

import (
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/dukpt/idtech"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

func ExampleParse() {
	s, _ := sample("", ";4111111111111111=29121010000000000000?", "")
	frame := s.Append(nil) // from the reader
	swipe, err := idtech.Parse(frame)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("KSN %X, %d bytes to decrypt\n", swipe.KSN, len(swipe.Ciphertext))
	// Output: KSN 62990000000000000001, 40 bytes to decrypt
}

// A frame comes in, its ciphertext is opened under the data key of its KSN, and the tracks prove that the key was right.
func ExampleSwipe_Split() {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, []byte("\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10"))
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		log.Fatal(err)
	}
	defer base.Wipe()
	frame, err := publishedFrame() // from the reader
	if err != nil {
		log.Fatal(err)
	}
	swipe, err := idtech.Parse(frame)
	if err != nil {
		log.Fatal(err)
	}
	ksn, err := dukpt.ParseKSN(swipe.KSN[:])
	if err != nil {
		log.Fatal(err)
	}
	tx, err := base.Begin(ksn)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.End()
	clear, err := tx.DecryptData(nil, dukpt.TDES.DefaultData(), swipe.Ciphertext)
	if err != nil {
		log.Fatal(err)
	}
	track1, track2, err := swipe.Split(clear)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(track1), "and", len(track2), "bytes")
	pan, err := pin.FindPAN(track2)
	fmt.Println(pan, err)

	clear[7] ^= 1
	_, _, err = swipe.Split(clear)
	fmt.Println(err)
	// Output:
	// 72 and 35 bytes
	// 426684******9999 <nil>
	// idtech: the clear tracks are not those that were hashed
}
