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

// A terminal enrols once with its ticket, signs in, and gets new keys when the operator has ordered them.
func ExampleEnroll() {
	var tb testing.T // the laboratory stands in for the operator, the registration authority and the host
	lab := terminaltest.NewLab(&tb, dukpt.AES)
	ra := terminaltest.NewRA(&tb, lab)

	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := terminal.Enroll(ctx, medium, sealer, terminal.EnrolOptions{
		URL: ra.URL, TrustURL: ra.TrustURL, Tenant: "ACME", Terminal: "T-0001",
		Ticket: ra.Ticket(&tb), // from enroll.ParseTicket, as it was typed
	}); err != nil {
		panic(err) // repeat it: it goes on where it was
	}
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: &terminaltest.Wire{Host: lab.Host}})
	if err != nil {
		panic(err)
	}
	defer term.Close()
	in, err := term.SignIn(ctx)
	if err != nil {
		panic(err)
	}
	before := term.Status().Slots[0].Slot.KeyID
	fmt.Println(in.Result, "with key", before)

	ra.Order(terminaltest.DataSlot) // latchkey terminal rekey
	if err := term.Rekey(ctx); err != nil {
		panic(err)
	}
	fmt.Println("now it is", term.Status().Slots[0].Slot.KeyID)
	if err := term.Renew(ctx); err != nil { // when term.RenewDue(time.Now())
		panic(err)
	}
	// Output:
	// SIGNED-IN with key FFFF987654010100
	// now it is FFFF987654010200
}
