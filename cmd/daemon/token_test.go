package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
)

func TestExplainToken(t *testing.T) {
	t.Parallel()
	for is, code := range map[error]exit.Code{
		hsm.ErrNoBridge: exit.Failure, hsm.ErrModule: exit.NotFound, hsm.ErrNoToken: exit.NotFound, hsm.ErrAmbiguous: exit.Refused,
		hsm.ErrPINTries: exit.Refused, hsm.ErrPIN: exit.Verification, hsm.ErrVariant: exit.Verification, hsm.ErrCarry: exit.Refused,
		hsm.ErrAttributes: exit.Verification, hsm.ErrDuplicate: exit.Refused, hsm.ErrStuck: exit.Unreachable, engine.ErrUnavailable: exit.Unreachable,
		ca.ErrOtherKey: exit.Verification, embedded.ErrNoKey: exit.NotFound, engine.ErrKeyNotFound: exit.NotFound, engine.ErrUsage: exit.Refused, token.ErrPINFile: exit.Refused,
		errors.Join(token.ErrPINFile, fs.ErrNotExist): exit.NotFound,
	} {
		err := ExplainToken(fmt.Errorf("hsm: %w", is))
		e, ok := errors.AsType[*exit.Error](err)
		if !ok || e.Code != code || e.Hint == "" || !errors.Is(err, is) {
			t.Errorf("%v: %v, want code %d", is, err, code)
		}
	}
	other := errors.New("another")
	if err := ExplainToken(other); err != other {
		t.Errorf("another error became %v", err)
	}
}
