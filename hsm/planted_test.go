//go:build planted && cgo && !nohsm

package hsm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedTokenError shows that the losses of TestServedLosses notice when an error of the token is not looked at: the zone
// gets a block of zeros.
func TestPlantedTokenError(t *testing.T) {
	planted.Set(planted.TokenErrorIgnored)
	t.Cleanup(func() { planted.Set() })
	var r served
	r.run(t, 50)
	if r.wrong.Load() == 0 {
		t.Errorf("%d right, %d refused, and no wrong answer", r.right.Load(), r.refused.Load())
	}
}

// TestPlantedUnwatched shows that TestWatch notices a call that nobody looks at.
func TestPlantedUnwatched(t *testing.T) {
	planted.Set(planted.CallsUnwatched)
	t.Cleanup(func() { planted.Set() })
	now, late := time.Time{}, 0
	w := newWatch(nil, time.Second, func(string) { late++ })
	w.now = func() time.Time { return now }
	w.begin("C_Sign", 0)
	now = now.Add(time.Hour)
	if w.look(); late != 0 {
		t.Errorf("late %d times", late)
	}
}

// TestPlantedReopened shows that TestOpenDeaf notices a second owner in a module that does not return from a call.
func TestPlantedReopened(t *testing.T) {
	planted.Set(planted.ModuleReopened)
	t.Cleanup(func() { planted.Set() })
	d, u := deafModule(t)
	release := d.Hang("C_Login")
	arrived, err := hung(t, d, u, "C_Login", nil)
	if !errors.Is(err, ErrStuck) {
		t.Fatal(err)
	}
	before := d.Calls("C_GetSlotList")
	if _, err := Tokens(t.Context(), d.Module); err != nil {
		t.Errorf("nobody else gets in: %v", err)
	}
	if after := d.Calls("C_GetSlotList"); after == before {
		t.Error("nobody else calls the module")
	}
	release()
	receive(t, "the end of the call", arrived)
}

// TestPlantedOpenUnwatched shows that TestOpenDeaf notices when Open waits for a call for ever.
func TestPlantedOpenUnwatched(t *testing.T) {
	planted.Set(planted.CallsUnwatched)
	t.Cleanup(func() { planted.Set() })
	d, u := deafModule(t)
	release, arrived := d.Hang("C_Initialize"), make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := opens(ctx, u, Options{call: time.Nanosecond, opening: time.Nanosecond, arrived: func() { close(arrived) }}); errors.Is(err, ErrStuck) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	release()
	receive(t, "the end of the call", arrived)
}
