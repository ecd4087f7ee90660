//go:build planted

package ceremony

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestPlantedSamePerson shows that TestBeginRefuses and TestPlanRefuses look for the right thing.
func TestPlantedSamePerson(t *testing.T) {
	try := func() error {
		l := newLab(t, keys.AES128)
		l.approve(t, l.anna)
		if err := l.record.Approve(l.anna.custodian(t), l.verifier(), later); err != nil {
			return err
		}
		_, err := l.record.Begin(l.verifier(), token, later)
		return err
	}
	planted.Set(planted.CeremonySamePerson)
	t.Cleanup(func() { planted.Set() })
	if err := try(); err != nil {
		t.Errorf("with the fault on: %v", err)
	}
	planted.Set()
	if err := try(); !errors.Is(err, ErrCustodian) {
		t.Errorf("with the fault off: %v", err)
	}
}

// TestPlantedCheckValue shows that TestSheetIsHeader looks for the right thing.
func TestPlantedCheckValue(t *testing.T) {
	try := func() error {
		l := newLab(t, keys.AES128)
		l.sealed[0] = forge(t, l.plan, l.sealed[0], sheetOf(t, keys.AES128, 1, 2, partA))
		l.approve(t, l.anna, l.bert)
		_, err := l.load(t).Open(l.sealed[0], l.anna.custodian(t))
		return err
	}
	planted.Set(planted.CeremonyCheckValue)
	t.Cleanup(func() { planted.Set() })
	if err := try(); err != nil {
		t.Errorf("with the fault on: %v", err)
	}
	planted.Set()
	if err := try(); !errors.Is(err, keys.ErrCheckValue) {
		t.Errorf("with the fault off: %v", err)
	}
}
