package terminal_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/enginetest"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

func TestSoftwareEngine(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T, slots []terminal.BundleSlot) enginetest.Device {
		medium := terminaltest.NewFS()
		sealer, err := terminal.CreateInsecureFile(medium)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range slots {
			if err := terminal.LoadInitialKey(medium, sealer, s); err != nil {
				t.Fatal(err)
			}
		}
		return enginetest.Device{Open: func(slots []terminal.Slot) (terminal.Engine, error) {
			return terminal.OpenSoftwareEngine(medium, sealer, slots, 0)
		}}
	})
}

func TestReserveBounds(t *testing.T) {
	t.Parallel()
	medium := terminaltest.NewFS()
	for _, n := range []int{-1, 33} {
		if _, err := terminal.OpenSoftwareEngine(medium, nil, nil, n); err == nil {
			t.Errorf("a reserve of %d is accepted", n)
		}
	}
}
