package decrypt_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
)

// A host hands over what a terminal sent, decides, and records its decision. The same message again is answered alike,
// another one under its key serial number is refused.
func ExampleService() {
	s := &stage{}
	defer s.clear()
	terminal := newLaboratory(s, dukpt.TDES) // a service over a keyring, and a terminal of it
	service, caller := terminal.service, terminal.caller
	ctx := context.Background()

	raw := terminal.sign(terminal.sale(1, 1234), 1)
	request := decrypt.TransactionRequest{Message: raw, OutgoingPINKey: caller.PINKeys[0]}
	tx, err := service.Transaction(ctx, caller, request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tx.Wipe()
	fmt.Println(tx.Status, tx.Payload.Amount, tx.Fields[0].MaskedPAN, tx.Fields[1].PINFormat, tx.Fields[1].PINKey)

	answer, err := service.Answer(ctx, caller, decrypt.AnswerRequest{Digest: tx.Digest, Result: message.Approved})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(terminal.ack(answer.Ack, 1).Result)

	again, err := service.Transaction(ctx, caller, request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer again.Wipe()
	fmt.Println(again.Status, again.Recorded.Result)

	request.Message = terminal.sign(terminal.sale(1, 999900), 1)
	_, err = service.Transaction(ctx, caller, request)
	fmt.Println(codeOf(err))
	// Output:
	// FRESH 12.34 EUR 476173******0119 ISO_FORMAT_0 alias/zone-1
	// APPROVED
	// RESEND APPROVED
	// KsnReplayed
}

// stage stands in for a test around an example: what would fail a test panics.
type stage struct {
	testing.TB
	dirs []string
	done []func()
}

func (s *stage) Helper()                   {}
func (s *stage) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (s *stage) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (s *stage) Cleanup(f func())          { s.done = append(s.done, f) }

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	s.dirs = append(s.dirs, dir)
	return dir
}

func (s *stage) clear() {
	for i := len(s.done) - 1; i >= 0; i-- {
		s.done[i]()
	}
	for _, dir := range s.dirs {
		_ = os.RemoveAll(dir) // temporary
	}
}
