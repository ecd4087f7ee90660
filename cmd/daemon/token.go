package daemon

import (
	"errors"
	"io/fs"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
)

// ExplainToken gives errors of the token their exit codes, and says what to do next.
func ExplainToken(err error) error {
	if errors.Is(err, token.ErrPINFile) {
		code := exit.Refused
		if errors.Is(err, fs.ErrNotExist) {
			code = exit.NotFound
		}
		return exit.With(code, err, "write the PIN of the token to it: one line, mode 0600")
	}
	err, _ = exit.Explain(err,
		exit.When(hsm.ErrNoBridge, exit.Failure, "make build-hsm builds the programs that have it: latchkey-decryptd-hsm and its like"),
		exit.When(hsm.ErrModule, exit.NotFound, "name the module of the maker: module-path in hsm: uri"),
		exit.When(hsm.ErrNoToken, exit.NotFound, "see which there are: latchkey hsm list --module PATH"),
		exit.When(hsm.ErrAmbiguous, exit.Refused, "name one: see latchkey hsm list for serials"),
		exit.When(hsm.ErrPINTries, exit.Refused, "log in once by latchkey hsm probe --final-try, when you are sure of the PIN"),
		exit.When(hsm.ErrPIN, exit.Verification, "it was tried once; look at hsm: pin-file before you start again: tokens lock"),
		exit.When(hsm.ErrCarry, exit.Refused, "see what the token can do: latchkey hsm probe; load zone keys with --carry-pins; or leave carry-pins out, and PINs pass through host memory"),
		exit.When(hsm.ErrVariant, exit.Verification, "import the base key again under another name: docs/hsm.md"),
		exit.When(hsm.ErrAttributes, exit.Verification, "the key must not be used; docs/hsm.md says what its attributes have to be"),
		exit.When(ca.ErrOtherKey, exit.Verification, "look at the name of the key, and at the file of its certificate"),
		exit.When(embedded.ErrNoKey, exit.NotFound, "where it is in a token, name it by issuer-key: docs/hsm.md"),
		exit.When(hsm.ErrStuck, exit.Unreachable, "see that the device answers its maker's tool, and start again: nothing else ends such a call"),
		exit.When(engine.ErrKeyNotFound, exit.NotFound, "see which keys there are: latchkey key list --hsm"),
		exit.When(engine.ErrUsage, exit.Refused, "see what the keys are for: latchkey key list --hsm"),
		exit.When(hsm.ErrDuplicate, exit.Refused, "a key has one name: see latchkey key list --hsm"),
		exit.When(engine.ErrUnavailable, exit.Unreachable, "see that the device is there and answers: latchkey hsm probe"),
	)
	return err
}
