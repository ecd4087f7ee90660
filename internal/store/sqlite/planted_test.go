//go:build planted

package sqlite

import (
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedRestoreJournal proves that TestRestoreOverJournal can fail. It does not run in parallel: the fault is global.
func TestPlantedRestoreJournal(t *testing.T) {
	planted.Set(planted.RestoreJournal)
	defer planted.Set()
	taken, before, err := restoreOverJournal(t)
	if err == nil && slices.Equal(taken, []int{1}) && slices.Equal(before, []int{1, 2, 3}) {
		t.Error("a write-ahead log that stays behind is not missed")
	}
}
