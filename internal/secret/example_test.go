package secret_test

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

func ExampleFrom() {
	input := []byte("correct horse")
	passphrase := secret.From(input)
	secret.Wipe(input)
	defer passphrase.Wipe()

	fmt.Println(passphrase, passphrase.Len())
	fmt.Printf("%x %+v\n", passphrase, struct{ p secret.Bytes }{passphrase} == struct{ p secret.Bytes }{})
	// Output:
	// [secret] 13
	// [secret] false
}
