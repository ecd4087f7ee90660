//go:build !cgo || nohsm

package hsm

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// TestNoBridge is of programs without cgo: whatever needs a token says that the bridge is missing.
func TestNoBridge(t *testing.T) {
	t.Parallel()
	u, err := ParseURI("pkcs11:token=a?module-path=/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), u, secret.From([]byte("1234")), Options{}); !errors.Is(err, ErrNoBridge) {
		t.Errorf("got %v", err)
	}
	if _, err := Tokens(t.Context(), "/nowhere"); !errors.Is(err, ErrNoBridge) {
		t.Errorf("got %v", err)
	}
}
