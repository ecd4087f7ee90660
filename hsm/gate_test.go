package hsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
)

func TestGate(t *testing.T) {
	t.Parallel()
	var g gate
	if err := g.enter(0); err != nil {
		t.Fatal(err)
	}
	if err := g.enter(1); !errors.Is(err, errShut) {
		t.Errorf("with a count of the future: %v", err)
	}
	began, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- g.replace(time.Minute, func() error { close(began); return errPlanted })
	}()
	until(t, "a shut gate", func() bool {
		err := g.enter(0)
		if err == nil {
			g.leave()
		}
		return err != nil
	})
	select {
	case <-began:
		t.Error("replaced while somebody is inside")
	default:
	}
	g.leave()
	if err := <-done; !errors.Is(err, errPlanted) || g.count() != 1 {
		t.Errorf("got %v, count %d", err, g.count())
	}
	if err := g.enter(0); !errors.Is(err, errShut) {
		t.Errorf("with the count of before: %v", err)
	}
	if err := g.enter(1); err != nil {
		t.Errorf("after an error the gate stays shut: %v", err)
	}
	if err := g.replace(time.Millisecond, func() error { t.Error("replaced under a call"); return nil }); !errors.Is(err, ErrStuck) {
		t.Errorf("got %v", err)
	}
	if err := g.enter(1); !errors.Is(err, errShut) {
		t.Errorf("after a call that did not end: %v", err)
	}
	g.leave()
}

func TestPause(t *testing.T) {
	t.Parallel()
	for failures := range 100 {
		for range 20 {
			p := pause(failures)
			most := min(maxPause, firstPause<<min(failures, 10))
			if p < most/2 || p > most {
				t.Fatalf("after %d failures %v, want %v to %v", failures, p, most/2, most)
			}
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]class{
		rvKeySize: classRequest, rvMechanism: classRequest, rvFailed: classRequest, rv(0x80000001): classRequest, errPlanted: classRequest,
		rvCipherInvalid: classRequest, engine.ErrUnavailable: classRequest,
		rvSessionHandle: classSession, rvSessionClosed: classSession, rvOperationActive: classSession, rvOperationNone: classSession,
		rvKeyHandle: classLogin, rvObjectHandle: classLogin, rvUserNotIn: classLogin,
		rvDeviceError: classLost, rvDeviceRemoved: classLost, rvTokenAbsent: classLost, rvTokenUnrecognized: classLost, rvGeneral: classLost,
		rvNotInitialized: classLost, rvSlotID: classLost, ErrNoToken: classLost,
		rvPINIncorrect: classPIN, rvPINInvalid: classPIN, rvPINLength: classPIN, rvPINExpired: classPIN, rvPINLocked: classPIN, ErrPIN: classPIN,
		ErrPINTries: classPIN, rvHostMemory: classBusy, rvDeviceMemory: classBusy, rvSessionCount: classBusy,
	} {
		for _, e := range []error{err, fmt.Errorf("wrapped: %w", err)} {
			if got := classify(e); got != want {
				t.Errorf("%v: got class %d, want %d", e, got, want)
			}
		}
	}
	for err, want := range map[error]bool{
		rvFailed: true, rvVendor: true, rv(0xCE534351): true, unavailable(rvFailed): true, fmt.Errorf("%w: %w", dukpt.ErrUnsupported, rvVendor): true,
		rvVendor - 1: false, rvGeneral: false, rvKeySize: false, errPlanted: false, fmt.Errorf("%w: %w", ErrPIN, rvFailed): false,
		fmt.Errorf("%w: %w", ErrAttributes, rvFailed): false, fmt.Errorf("%w: %w", rvUserNotIn, rvFailed): false,
	} {
		if doubtful(err) != want {
			t.Errorf("%v: doubtful is %v, want %v", err, !want, want)
		}
		if got := classify(silent(err)); want && got != classLost || !want && got != classify(err) {
			t.Errorf("%v: got class %d where nobody is to blame", err, got)
		}
	}
	if s := rvKeyUnextractable.Error(); s != "pkcs11: CKR_KEY_UNEXTRACTABLE (0x6A)" {
		t.Errorf("reads %s", s)
	}
	if s := rv(0x80000001).Error(); s != "pkcs11: return value 0x80000001" {
		t.Errorf("reads %s", s)
	}
	if err := unavailable(errBusy); err != errBusy {
		t.Errorf("twice: %v", err)
	}
}

func TestPoolWaits(t *testing.T) {
	t.Parallel()
	p := newPool(nil, 1, time.Millisecond, new(counts))
	l, err := p.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.take(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("without a free session: %v", err)
	}
	p.wait = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	waits := make(chan error, 1)
	go func() { _, err := p.take(context.Background()); waits <- err }()
	closed := make(chan struct{})
	go func() { p.close(false); close(closed) }()
	if err := <-waits; !errors.Is(err, errShut) {
		t.Errorf("of a pool that is gone: %v", err)
	}
	select {
	case <-closed:
		t.Error("closed while a session is lent")
	default:
	}
	p.put(l)
	<-closed
}

func TestOptions(t *testing.T) {
	t.Parallel()
	o, err := Options{}.filled()
	if err != nil || o.Sessions != 4 || o.Owners != 2 || o.Wait != 5*time.Second || o.Patience != 10*time.Second || o.CacheObjects != 4096 {
		t.Errorf("got %+v, %v", o, err)
	}
	for name, o := range map[string]Options{
		"sessions": {Sessions: -1}, "many sessions": {Sessions: maxSessions + 1}, "owners": {Owners: -1}, "many owners": {Owners: maxSessions + 1},
		"wait": {Wait: -1}, "patience": {Patience: -1}, "cache": {CacheObjects: maxCached + 1},
	} {
		if _, err := o.filled(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if o, err := (Options{Sessions: maxSessions, Owners: 1, CacheObjects: maxCached}).filled(); err != nil || o.Sessions != maxSessions {
		t.Errorf("at the bounds: %v", err)
	}
}

func TestMayTry(t *testing.T) {
	t.Parallel()
	for flags, want := range map[uint][2]bool{ // as it is, and when wanted
		0: {true, true}, flagInitialized: {true, true}, 0x00010000: {true, true}, flagPINFinalTry: {false, true}, flagPINLocked: {false, false},
		flagPINLocked | flagPINFinalTry: {false, false},
	} {
		for i, wanted := range []bool{false, true} {
			if err := mayTry(flags, wanted); (err == nil) != want[i] || err != nil && !errors.Is(err, ErrPINTries) {
				t.Errorf("flags 0x%X, wanted %v: %v", flags, wanted, err)
			}
		}
	}
}
