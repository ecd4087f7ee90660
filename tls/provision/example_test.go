package provision_test

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// A refusal carries a stable code, and the code knows what to do about it.
func ExampleRefusal() {
	var err error = &provision.Refusal{Code: provision.CodeCertificateSuperseded}
	refusal, ok := errors.AsType[*provision.Refusal](err)
	if !ok {
		return
	}
	p := refusal.Problem()
	fmt.Println(p.Status, p.Code, refusal.Unavailable())
	fmt.Println(p.Hint)
	// Output:
	// 403 CertificateSuperseded false
	// connect with the newest certificate; if it was lost, repeat the renewal with the same key or ask an operator for a code
}

// What a store keeps of a one-time code is not the code: it prints, and nothing is given away.
func ExampleOneTimeCode() {
	code := provision.OneTimeCode{Terminal: keyset.TerminalID("T-0001"), State: provision.StateOpen}
	outcome := provision.Outcome{Ticket: secret.From([]byte("4XQ7M2B9KTD0"))}
	defer outcome.Ticket.Wipe()
	fmt.Println(code.Terminal, code.State)
	fmt.Println(outcome.Ticket)
	// Output:
	// T-0001 open
	// [secret]
}
