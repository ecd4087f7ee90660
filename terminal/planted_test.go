//go:build planted

package terminal_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestPlantedState proves that the explorer sees what it looks for. It does not run in parallel: the faults are global.
func TestPlantedState(t *testing.T) {
	defer planted.Set()
	for _, c := range []struct {
		fault planted.Name
		seen  func(findings) int
	}{
		{planted.StateNoSync, func(f findings) int { return f.bricked + f.reused + f.lost }},
		{planted.StateNoSyncDir, func(f findings) int { return f.lost }},
		{planted.StateUseFirst, func(f findings) int { return f.reused }},
		{planted.StateTwoCopies, func(f findings) int { return f.readable + f.reused + f.bricked }},
		{planted.StateAlternate, func(f findings) int { return f.readable }},
		{planted.QueueUnsaved, func(f findings) int { return f.lost }},
		{planted.QueueForgetFirst, func(f findings) int { return f.lost }},
		{planted.QueueRemade, func(f findings) int { return f.doubled }},
	} {
		planted.Set(c.fault)
		f := explore(t, dukpt.AES, 2)
		t.Logf("%s: %v", c.fault, f)
		if c.seen(f) == 0 {
			t.Errorf("%s was not seen", c.fault)
		}
	}
	planted.Set(planted.LinkNoDeadline)
	hasty := quick
	hasty.sale = 3 * time.Second
	if row, wrong := suffer(t, dukpt.AES, proxied(terminaltest.LostDown, idle), idle, hasty); len(wrong) == 0 {
		t.Errorf("%s was not seen: %s", planted.LinkNoDeadline, row)
	}
	planted.Set(planted.StateGhost)
	if f := faults(t); f.doubled == 0 {
		t.Errorf("%s was not seen: %v", planted.StateGhost, f)
	}
}
