package terminal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Import makes a terminal of a bundle: it loads the initial keys into registers, which forget them, and saves all that
// Open needs. On success it wipes the bundle.
//
// A folder takes one import, ever: over a terminal that is there, whole or in part, it fails with ErrExists and changes
// nothing, because keys used already would be used again. An import that a power cut interrupted may be repeated.
// ErrLocked and ErrInsecure are possible too; errors about the bundle wrap ErrBundle.
func Import(f FS, sealer Sealer, b *Bundle) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if b.Environment == keyset.Production && sealer.Name() == InsecureFile {
		return ErrInsecure
	}
	unlock, err := f.Lock()
	if err != nil {
		return err
	}
	err = importInto(store{fs: f, sealer: sealer}, b)
	if e := unlock(); err == nil && e != nil {
		err = fmt.Errorf("terminal: unlock: %w", e)
	}
	if err == nil {
		b.Wipe()
	}
	return err
}

func importInto(s store, b *Bundle) error {
	if err := importable(s); err != nil {
		return err
	}
	if err := WriteFile(s.fs, importingName, nil); err != nil {
		return err
	}
	for _, slot := range b.Slots {
		ik, err := slot.InitialKey()
		if err != nil {
			return err
		}
		if err := s.loadInitialKey(slot.Slot, ik); err != nil {
			return err
		}
	}
	if err := s.saveCounters(&counters{Version: recordVersion, Sequence: 1, Confirmed: []string{}}); err != nil {
		return err
	}
	// From here on the terminal exists: Open asks for the identity, and no key is used before Open.
	if err := s.saveHolder(holderOf(b)); err != nil {
		return err
	}
	return removeFile(s.fs, importingName)
}

// importable reports whether no terminal was ever opened here: the folder is empty but for the device key, or it holds
// the rest of an import that never came to its identity.
func importable(s store) error {
	names, err := s.fs.List()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	interrupted := false
	for _, name := range names {
		switch name {
		case identityName:
			return ErrExists
		case enrolmentName:
			return fmt.Errorf("%w: one is being enrolled here", ErrExists)
		case importingName:
			interrupted = true
		}
	}
	if interrupted {
		return removeTemporary(s.fs)
	}
	for _, name := range names {
		if name != deviceKeyName && name != importingName+temporarySuffix && name != deviceKeyName+temporarySuffix {
			return fmt.Errorf("%w: found %s", ErrExists, name)
		}
	}
	return nil
}

// loadInitialKey turns the initial key of a slot into registers and saves those. The key is wiped.
func (s store) loadInitialKey(slot Slot, ik *dukpt.InitialKey) error {
	defer ik.Wipe()
	t, err := dukpt.NewTerminal(ik)
	if err != nil {
		return fmt.Errorf("%w: slot %d: %v", ErrBundle, slot.Number, err)
	}
	defer t.Wipe()
	return s.saveFresh(slot, t)
}

// saveFresh saves registers of which no key has been used.
func (s store) saveFresh(slot Slot, t *dukpt.Terminal) error {
	buf := secret.New(t.StateSize())
	defer buf.Wipe()
	registers := secret.From(t.AppendState(buf.Expose()[:0]))
	defer registers.Wipe()
	return s.saveSlot(slot, 0, registers)
}

// finishImport ends an import whose last step a power cut has interrupted.
func finishImport(f FS) error {
	_, err := ReadFile(f, importingName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return removeFile(f, importingName)
}
