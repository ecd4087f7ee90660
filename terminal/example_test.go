package terminal_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// A terminal is imported once, opened at each start, and sells.
func Example() {
	var tb testing.T // the laboratory stands in for the operator and the host
	lab := terminaltest.NewLab(&tb, dukpt.AES)
	bundle := lab.Bundle(&tb)

	medium := terminaltest.NewFS() // on a device: terminal.OSFS("/var/lib/terminal")
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		panic(err)
	}
	if err := terminal.Import(medium, sealer, bundle); err != nil {
		panic(err)
	}
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: &terminaltest.Wire{Host: lab.Host}})
	if err != nil {
		panic(err)
	}
	defer term.Close()

	card := secret.From([]byte(";4761739001010119=29122010123456789?"))
	defer card.Wipe()
	result, err := term.Sale(context.Background(), terminal.SaleRequest{
		Amount: message.Amount{Minor: 1234, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		Track:  card,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Result, "sequence", result.Sequence, "counter", result.KSN.Counter())
	fmt.Println(term)
	// Output:
	// APPROVED sequence 1 counter 1
	// terminal.Terminal(ACME/T-0001)
}
