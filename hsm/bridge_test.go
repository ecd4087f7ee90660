//go:build cgo && !nohsm

package hsm

import (
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestRestart loses the token in truth: the module is finalised and initialised again, with all that is in it. It does not run
// beside tests that use the module.
func TestRestart(t *testing.T) {
	one, two := open(t, Options{Clock: fast()}), open(t, Options{Clock: fast()})
	library := one.watch.cryptoki.(*bridge).library
	library.apart = 0
	t.Cleanup(func() { library.apart = restartsApart })
	for _, token := range []*Token{one, two} {
		put(t, token, keys.AES128)
		put(t, token, keys.TDES2)
	}
	for range 3 {
		a, b := newTill(t, keys.AES128, "1234567890123456").send(t), newTill(t, keys.TDES2, "FFFF9876543210E00000").send(t)
		c, err := one.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := one.Stats().Generation
		one.lost(c, rvDeviceError)
		for _, token := range []*Token{one, two} {
			until(t, "service", func() bool { return a.verify(t, token.Engine(), alias(t, "aes")) == nil })
			until(t, "service", func() bool { return b.verify(t, token.Engine(), alias(t, "tdes")) == nil })
		}
		if got := one.Stats(); got.Generation != before+1 || got.Reconnects == 0 {
			t.Errorf("%+v, before generation %d", got, before)
		}
	}
	if got := two.Stats(); got.Reconnects == 0 {
		t.Errorf("the other token of the module noticed nothing: %+v", got)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	a := newTill(t, keys.AES128, "1234567890123456").send(t)
	if err := a.verify(t, two.Engine(), alias(t, "aes")); err != nil {
		t.Errorf("after the other token was closed: %v", err)
	}
}

// TestMoved restarts a module that numbers its slots anew: the token is found where it is now. It does not run beside others.
func TestMoved(t *testing.T) {
	one, other := open(t, Options{Clock: fast()}), open(t, Options{Clock: fast()})
	b, o := one.watch.cryptoki.(*bridge), other.watch.cryptoki.(*bridge)
	right := b.slot
	generation := b.generation()
	b.mu.Lock()
	b.slot = o.slot
	b.mu.Unlock()
	if err := b.restart(b.generation(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if b.currentSlot() != right || b.context == nil {
		t.Errorf("in slot %d, want %d", b.currentSlot(), right)
	}
	for name, known := range map[string]uint64{"a restart that somebody else has made": generation, "one more restart at once": generation + 1} {
		if err := b.restart(known, func(string) {}); err != nil || b.generation() != generation+1 {
			t.Errorf("%s: %v, generation %d", name, err, b.generation())
		}
	}
	for _, token := range []*Token{one, other} {
		until(t, "a connection", func() bool { return token.Engine().Check(t.Context()) == nil })
	}
}

// TestNumberGone restarts a module that has none of its slots any more: the tokens are found in others, also where none is found at once
// that could keep the module initialised. It does not run beside others.
func TestNumberGone(t *testing.T) {
	all := []*Token{open(t, Options{Clock: fast()}), open(t, Options{Clock: fast()})}
	library := all[0].watch.cryptoki.(*bridge).library
	library.apart = 0
	t.Cleanup(func() { library.apart = restartsApart })
	for _, gone := range [][]*Token{all[:1], all} {
		right := map[*bridge]uint{}
		for _, token := range gone {
			b := token.watch.cryptoki.(*bridge)
			b.mu.Lock()
			right[b], b.slot = b.slot, 1<<40
			b.mu.Unlock()
		}
		c, err := all[0].current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all[0].lost(c, rvDeviceRemoved)
		for _, token := range all {
			until(t, "a connection", func() bool { return token.Engine().Check(t.Context()) == nil })
		}
		for b, slot := range right {
			if b.currentSlot() != slot || b.context == nil {
				t.Errorf("%d gone: in slot %d, want %d; attached: %v", len(gone), b.currentSlot(), slot, b.context != nil)
			}
		}
	}
	away := all[0].watch.cryptoki.(*bridge)
	uri := away.uri
	away.uri = mustURI(t, "pkcs11:token=none?module-path="+uri.Module())
	if err := away.restart(away.generation(), func(string) {}); !errors.Is(err, ErrNoToken) || away.context != nil {
		t.Errorf("a token that is nowhere: %v", err)
	}
	away.uri = uri
	if err := away.restart(away.generation(), func(string) {}); err != nil || away.context == nil {
		t.Errorf("a token that has come back: %v", err)
	}
}

// TestAbsent holds the words of crypto11 for a token that is away against what it says.
func TestAbsent(t *testing.T) {
	token := open(t, Options{})
	b := token.watch.cryptoki.(*bridge)
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
}

// TestOneTry gives a token a wrong PIN, and then the right one: the second is not tried.
func TestOneTry(t *testing.T) {
	pin := secret.From([]byte("00000000"))
	o := must(Options{}.filled())
	c, err := newDevice(hsmURI(t), pin, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.attach(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	defer c.close(func(string) {})
	s, err := c.openSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.login(s); !errors.Is(err, ErrPIN) || !errors.Is(err, rvPINIncorrect) {
		t.Fatalf("got %v", err)
	}
	copy(pin.Expose(), hsmtest.PIN)
	if err := c.login(s); !errors.Is(err, ErrPIN) {
		t.Errorf("a PIN that was refused is tried again: %v", err)
	}
}
