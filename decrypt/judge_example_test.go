package decrypt_test

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// One content is released, released again, and defended against another one.
func ExampleJudge() {
	var state decrypt.KeyIDState
	var row []decrypt.Entry
	claim := judged(7, decrypt.PurposeMAC) // a message under the seventh key

	first := decrypt.Judge(state, row, claim)
	fmt.Println(first.Verdict, "high", first.State.High)

	again := decrypt.Judge(first.State, first.Row, claim)
	fmt.Println(again.Verdict, "tries", again.Row[again.Entry].Tries)

	claim.Content = contentOf("another amount")
	other := decrypt.Judge(again.State, again.Row, claim)
	fmt.Println(other.Verdict, other.Code, "conflicts", other.State.Conflicts)
	// Output:
	// FRESH high 7
	// RESEND tries 1
	// REFUSED KsnReplayed conflicts 1
}
