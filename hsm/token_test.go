package hsm

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/decrypt/engine/enginetest"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// open opens a fresh token of SoftHSM. Without the bridge the test is skipped: there is nothing that could be tested.
func open(t *testing.T, o Options) *Token {
	t.Helper()
	return openAgain(t, hsmURI(t), o)
}

func hsmURI(t *testing.T) URI {
	t.Helper()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	u, err := ParseURI(hsmtest.New(t).URI())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func openAgain(t *testing.T, u URI, o Options) *Token {
	t.Helper()
	pin := secret.From([]byte(hsmtest.PIN))
	defer pin.Wipe()
	token, err := Open(t.Context(), u, pin, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return token
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		token := open(t, Options{})
		return fixture(t, token, engine.Token)
	})
}

// fixture is a token for the suite of engines, with the mode of its AES keys; TDES keys have one mode in all of them.
func fixture(t *testing.T, token *Token, aes engine.KeyMode) enginetest.Fixture {
	return enginetest.Fixture{
		Engine: token.Engine(),
		Import: func(ref keyset.KeyRef, k keys.Key, env keyset.Environment) error {
			_, err := token.Import(t.Context(), ref, k, env)
			return err
		},
		KeyMode: func(a keys.Algorithm) engine.KeyMode {
			if a.IsAES() {
				return aes
			}
			return engine.BDKInToken
		},
		Close: func() { _ = token.Close() },
	}
}
