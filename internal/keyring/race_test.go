package keyring

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestReloadBesideGenerate reloads all the time while keys and secrets are made: nothing is damaged, so Reload never says so.
func TestReloadBesideGenerate(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	done := make(chan error, 1)
	go func() {
		for i := range 40 {
			if _, err := r.Generate(alias(t, fmt.Sprintf("k%d", i)), zoneAES, keyset.Test); err != nil {
				done <- err
				return
			}
			if _, err := r.RotateSecret(SecretClaim); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if n := len(r.List()); n != 40 {
				t.Errorf("%d keys, want 40", n)
			}
			return
		default:
		}
		if err := r.Reload(); err != nil {
			t.Errorf("Reload: %v", err)
			<-done
			return
		}
	}
}
