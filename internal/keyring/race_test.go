package keyring

import (
	"fmt"
	"sync"
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

// TestTwoRingsAtOnce has two rings on one folder rotate one key and one secret, as two processes do: every version is made once.
func TestTwoRingsAtOnce(t *testing.T) {
	t.Parallel()
	const each = 15
	a, dir := create(t)
	generate(t, a, "zone", zoneAES, keyset.Test)
	b := reopen(t, dir)
	ref := alias(t, "zone")
	var wg sync.WaitGroup
	for _, r := range []*Ring{a, b} {
		wg.Go(func() {
			for range each {
				if _, err := r.Rotate(ref); err != nil {
					t.Errorf("Rotate: %v", err)
					return
				}
				if _, err := r.RotateSecret(SecretPAN); err != nil {
					t.Errorf("RotateSecret: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r := reopen(t, dir)
	version, key, err := r.Secret(SecretPAN)
	must(t, err)
	key.Wipe()
	if n := len(r.List()); n != 1+2*each || version != 1+2*each {
		t.Errorf("%d versions of the key and %d of the secret, want %d of each", n, version, 1+2*each)
	}
}
