//go:build planted

package remote_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// TestPlanted shows what each fault lets through, and that nothing else goes with it. It does not run in parallel: faults
// are switched for the whole process.
func TestPlanted(t *testing.T) {
	t.Cleanup(func() { planted.Set() })
	l := newLab(t, keys.AES128, elliptic.P256())
	d := l.seal(t)
	d.Signature[len(d.Signature)-1] ^= 1
	outside := *l
	outside.set = l.set.Clone()
	outside.set.LastID = keyID(t, "1234567900000000")
	outside.key = initialKey(t, keys.AES128, outside.set.LastID)

	planted.Set(planted.GuardKDHSignature)
	opened, err := remote.Open(d, l.binding, l.agreement, l.options())
	if err != nil {
		t.Fatalf("%s: %v", planted.GuardKDHSignature, err)
	}
	opened.Wipe()
	other := l.binding
	other.Nonce[0] ^= 1
	if _, err := remote.Open(d, other, l.agreement, l.options()); err == nil {
		t.Errorf("%s also lets the answer to another request through", planted.GuardKDHSignature)
	}

	planted.Set(planted.ParseDelivery)
	stray, err := remote.Seal(l.binding, l.set, dukpt.KeyID{}, outside.key, noon, l.signer, l.chain)
	check(t, err)
	b, err := stray.Marshal()
	check(t, err)
	if _, err := remote.ParseDelivery(b); err != nil {
		t.Errorf("%s: %v", planted.ParseDelivery, err)
	}
	if _, err := remote.Open(d, l.binding, l.agreement, l.options()); err == nil {
		t.Errorf("%s also skips the signature", planted.ParseDelivery)
	}

	planted.Set()
	if _, err := remote.Open(d, l.binding, l.agreement, l.options()); err == nil {
		t.Error("without a fault a forged signature counts")
	}
	if _, err := remote.ParseDelivery(b); err == nil {
		t.Error("without a fault a key id outside of the set is parsed")
	}
}
