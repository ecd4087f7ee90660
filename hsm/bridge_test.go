//go:build cgo && !nohsm

package hsm

import (
	"errors"
	"testing"

	"github.com/miekg/pkcs11"
)

// TestMoved restarts a module that numbers its slots anew: the token is found where it is now. It does not run beside others.
func TestMoved(t *testing.T) {
	one, other := open(t, Options{Clock: fast()}), open(t, Options{Clock: fast()})
	b, o := one.device.(*bridge), other.device.(*bridge)
	right := b.slot
	b.mu.Lock()
	b.slot = o.slot
	b.mu.Unlock()
	if err := b.restart(b.generation()); err != nil {
		t.Fatal(err)
	}
	if b.currentSlot() != right || b.context == nil {
		t.Errorf("in slot %d, want %d", b.currentSlot(), right)
	}
	if err := b.restart(b.generation() - 1); err != nil || b.generation() != 1 {
		t.Errorf("a restart that somebody else has made: %v, generation %d", err, b.generation())
	}
	for _, token := range []*Token{one, other} {
		until(t, "a connection", func() bool { return token.Engine().Check(t.Context()) == nil })
	}
}

// TestAbsent holds the words of crypto11 for a token that is away against what it says.
func TestAbsent(t *testing.T) {
	token := open(t, Options{})
	b := token.device.(*bridge)
	away := &bridge{library: b.library, uri: b.uri, slot: 1 << 40}
	if err := b.library.attach(away); !errors.Is(err, ErrNoToken) {
		t.Errorf("got %v", err)
	}
	if err := convert(pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)); !errors.Is(err, rvDeviceError) {
		t.Errorf("got %v", err)
	}
	if err := convert(errPlanted); !errors.Is(err, errPlanted) || convert(nil) != nil {
		t.Errorf("got %v", err)
	}
	b.mu.Lock()
	b.refused = ErrPIN
	b.mu.Unlock()
	if err := b.login(0); !errors.Is(err, ErrPIN) {
		t.Errorf("a PIN that was refused is tried again: %v", err)
	}
}
