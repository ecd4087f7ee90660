package terminal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// DefaultReserve is how many keys are made ready at once when nothing else is said: so many counters a power cut skips
// at most, and for so many transactions one save is enough.
const DefaultReserve = 8

// SoftwareEngine is the Engine that computes in the memory of the process and saves one file for each slot, in three equal
// copies. Import makes the files. It is not safe for concurrent use.
type SoftwareEngine struct {
	store    store
	reserve  int
	slots    []*softSlot
	zeroized bool
}

type softSlot struct {
	Slot
	keys   *dukpt.Terminal
	tx     *dukpt.Transaction
	live   bool
	jumped uint64
}

// OpenSoftwareEngine loads the registers of the slots from the medium, and those of every staged key. A key that a power
// cut has kept from taking its slot is found where it waits, and counts as staged until Switch is repeated. reserve keys
// are made ready at once, 1 to dukpt.MaxReserve; 0 means DefaultReserve. Damaged files are an error that wraps ErrState,
// and nothing is changed.
func OpenSoftwareEngine(f FS, sealer Sealer, slots []Slot, reserve int) (*SoftwareEngine, error) {
	if reserve == 0 {
		reserve = DefaultReserve
	}
	if reserve < 1 || reserve > dukpt.MaxReserve {
		return nil, fmt.Errorf("terminal: cannot reserve %d keys, want 1 to %d", reserve, dukpt.MaxReserve)
	}
	e := &SoftwareEngine{store: store{fs: f, sealer: sealer}, reserve: reserve}
	if err := e.load(slots); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *SoftwareEngine) load(slots []Slot) error {
	for number := uint8(1); number <= keyset.MaxSlots; number++ {
		s, err := openSlot(e.store, Slot{Number: number | Staged})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		e.put(s)
	}
	for _, slot := range slots {
		s, err := openSlot(e.store, slot)
		if waiting, e := e.slot(slot.Number | Staged); err != nil && e == nil && waiting.KeyID == slot.KeyID {
			continue
		}
		if err != nil {
			return err
		}
		e.put(s)
	}
	return nil
}

// put adds a key, in the order of the numbers.
func (e *SoftwareEngine) put(s *softSlot) {
	e.slots = append(e.slots, s)
	e.sort()
}

func (e *SoftwareEngine) sort() {
	slices.SortFunc(e.slots, func(a, b *softSlot) int { return int(a.Number) - int(b.Number) })
}

// drop forgets a key; the medium keeps it.
func (e *SoftwareEngine) drop(number uint8) {
	e.slots = slices.DeleteFunc(e.slots, func(s *softSlot) bool {
		if s.Number != number {
			return false
		}
		s.end()
		s.keys.Wipe()
		return true
	})
}

// openSlot reads the registers of a slot. Which key waits is for its file to say.
func openSlot(s store, slot Slot) (*softSlot, error) {
	header, registers, err := s.loadSlot(slot.Number)
	if err != nil {
		return nil, err
	}
	defer registers.Wipe()
	name := slotName(slot.Number)
	if slot.Number&Staged != 0 {
		slot.KeyID, slot.MaxJump = header.KeyID, header.MaxJump
	}
	if header.KeyID != slot.KeyID {
		return nil, fmt.Errorf("%w: %s is of key %v", ErrState, name, header.KeyID)
	}
	keys, err := dukpt.OpenTerminal(registers)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrState, name, err)
	}
	if keys.KeyID() != slot.KeyID {
		keys.Wipe()
		return nil, fmt.Errorf("%w: %s holds another key", ErrState, name)
	}
	return &softSlot{Slot: slot, keys: keys, tx: dukpt.NewTransaction(), jumped: header.Jumped}, nil
}

// Format prints what it is, whatever the verb.
func (e *SoftwareEngine) Format(w fmt.State, _ rune) {
	_, _ = io.WriteString(w, "terminal.SoftwareEngine")
}

// Close forgets the keys; the medium keeps them.
func (e *SoftwareEngine) Close() {
	for _, s := range e.slots {
		s.end()
		s.keys.Wipe()
	}
	e.slots = nil
}

func (s *softSlot) end() {
	if s.live {
		s.tx.End()
		s.live = false
	}
}

func (e *SoftwareEngine) slot(number uint8) (*softSlot, error) {
	if e.zeroized {
		return nil, ErrZeroized
	}
	for _, s := range e.slots {
		if s.Number == number {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: %d", ErrSlot, number)
}

// underWay returns the slot if it has a transaction.
func (e *SoftwareEngine) underWay(number uint8) (*softSlot, error) {
	s, err := e.slot(number)
	if err != nil {
		return nil, err
	}
	if !s.live {
		return nil, fmt.Errorf("%w: slot %d has no transaction", ErrNoTransaction, number)
	}
	return s, nil
}

// idle returns the slot if it has none.
func (e *SoftwareEngine) idle(number uint8) (*softSlot, error) {
	s, err := e.slot(number)
	if err != nil {
		return nil, err
	}
	if s.live {
		return nil, fmt.Errorf("%w: slot %d has a transaction", ErrNoTransaction, number)
	}
	return s, nil
}

// save writes the registers that follow every reserved key.
func (e *SoftwareEngine) save(s *softSlot, jumped uint64) func(secret.Bytes) error {
	return func(state secret.Bytes) error {
		if planted.On(planted.StateUseFirst) {
			return nil
		}
		return e.store.saveSlot(s.Slot, jumped, state)
	}
}

// Begin implements Engine. When the reserved keys are used up it reserves and saves the next ones first.
func (e *SoftwareEngine) Begin(slot uint8) (dukpt.KSN, error) {
	s, err := e.idle(slot)
	if err != nil {
		return dukpt.KSN{}, err
	}
	if s.keys.Available() == 0 {
		if err := s.keys.Reserve(e.reserve, e.save(s, s.jumped)); err != nil {
			return dukpt.KSN{}, fmt.Errorf("terminal: slot %d: %w", slot, err)
		}
	}
	if err := s.keys.Next(s.tx); err != nil {
		return dukpt.KSN{}, fmt.Errorf("terminal: slot %d: %w", slot, err)
	}
	s.live = true
	return s.tx.KSN(), nil
}

// EncryptPIN implements Engine. There is no keypad: a zero p fails with ErrNoKeypad.
func (e *SoftwareEngine) EncryptPIN(slot uint8, dst []byte, f pin.Format, p pin.PIN, pan pin.PAN) ([]byte, error) {
	s, err := e.underWay(slot)
	if err != nil {
		return dst, err
	}
	if p.IsZero() {
		return dst, ErrNoKeypad
	}
	return s.tx.EncryptPIN(dst, f, p, pan)
}

// EncryptData implements Engine.
func (e *SoftwareEngine) EncryptData(slot uint8, dst []byte, spec dukpt.DataSpec, plain []byte) ([]byte, error) {
	s, err := e.underWay(slot)
	if err != nil {
		return dst, err
	}
	return s.tx.EncryptData(dst, spec, plain)
}

// MAC implements Engine.
func (e *SoftwareEngine) MAC(slot uint8, dst []byte, spec dukpt.MACSpec, message []byte) ([]byte, error) {
	s, err := e.underWay(slot)
	if err != nil {
		return dst, err
	}
	return s.tx.MAC(dst, spec, message)
}

// VerifyResponse implements Engine.
func (e *SoftwareEngine) VerifyResponse(slot uint8, spec dukpt.MACSpec, message, mac []byte) error {
	s, err := e.underWay(slot)
	if err != nil {
		return err
	}
	return s.tx.VerifyResponse(spec, message, mac)
}

// End implements Engine.
func (e *SoftwareEngine) End(slot uint8) {
	if s, err := e.slot(slot); err == nil {
		s.end()
	}
}

// SkipTo implements Engine. The budget is kept beside the registers and saved with them.
func (e *SoftwareEngine) SkipTo(slot uint8, ksn dukpt.KSN) error {
	s, err := e.idle(slot)
	if err != nil {
		return err
	}
	if ksn.KeyID() != s.KeyID {
		return fmt.Errorf("%w: %v is not of slot %d", dukpt.ErrKSN, ksn, slot)
	}
	next, ok := s.keys.NextKSN()
	if !ok {
		return dukpt.ErrExhausted
	}
	if ksn.Ordinal() <= next.Ordinal() {
		return nil
	}
	gap := ksn.Ordinal() - next.Ordinal()
	if gap > s.MaxJump {
		return fmt.Errorf("%w: %d ordinals, at most %d", ErrJump, gap, s.MaxJump)
	}
	jumped := s.jumped + uint64(gap)
	if jumped > s.budget() {
		return fmt.Errorf("%w: %d ordinals, at most %d", ErrJumpBudget, jumped, s.budget())
	}
	if err := s.keys.SkipTo(ksn, e.save(s, jumped)); err != nil {
		return fmt.Errorf("terminal: slot %d: %w", slot, err)
	}
	s.jumped = jumped
	return nil
}

// Stage implements Engine. The key waits in a file of its own.
func (e *SoftwareEngine) Stage(slot uint8, ik *dukpt.InitialKey, maxJump uint32) error {
	defer ik.Wipe()
	s := &softSlot{Slot: Slot{Number: slot | Staged, KeyID: ik.KeyID(), MaxJump: maxJump}, tx: dukpt.NewTransaction()}
	if _, err := e.idle(s.Number); err != nil && !errors.Is(err, ErrSlot) {
		return err
	}
	var err error
	if s.keys, err = dukpt.NewTerminal(ik); err != nil {
		return fmt.Errorf("terminal: slot %d: %w", slot, err)
	}
	if err := e.store.saveFresh(s.Slot, s.keys); err != nil {
		s.keys.Wipe()
		return err
	}
	e.drop(s.Number)
	e.put(s)
	return nil
}

// Switch implements Engine. The file of the old key is overwritten and removed before the staged one takes its name, so
// that no key is ever in two files: two copies would count apart.
func (e *SoftwareEngine) Switch(slot uint8) error {
	next, err := e.idle(slot | Staged)
	if err != nil {
		return err
	}
	if _, err := e.idle(slot); err != nil && !errors.Is(err, ErrSlot) {
		return err
	}
	e.drop(slot)
	if err := overwrite(e.store.fs, slotName(slot)); err != nil {
		return err
	}
	err = e.store.fs.Rename(slotName(next.Number), slotName(slot))
	if err == nil {
		next.Number = slot // before SyncDir: what is saved from now on goes to the new name
		e.sort()
		err = e.store.fs.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("terminal: switch slot %d: %w", slot, err)
	}
	return nil
}

// Status implements Engine.
func (e *SoftwareEngine) Status() []SlotStatus {
	out := make([]SlotStatus, 0, len(e.slots))
	for _, s := range e.slots {
		st := SlotStatus{Slot: s.Number, KeyID: s.KeyID, Jumped: s.jumped, JumpLimit: s.budget()}
		if next, ok := s.keys.NextKSN(); ok {
			st.Next, st.Remaining = next, next.Remaining()+1
		}
		out = append(out, st)
	}
	return out
}

// Zeroize implements Engine: keys in memory first, then each slot's file is overwritten with zeros, synced and removed. A
// medium that levels wear may keep old copies, which only the sealer's key protects.
func (e *SoftwareEngine) Zeroize() error {
	e.zeroized = true
	e.Close()
	names, err := e.store.names(slotPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := overwrite(e.store.fs, name); err != nil {
			return err
		}
	}
	return nil
}

// overwrite writes zeros over a file in place and removes it.
func overwrite(f FS, name string) error {
	file, err := f.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("terminal: zeroize %s: %w", name, err)
	}
	size, err := file.Size()
	if err == nil {
		_, err = file.WriteAt(make([]byte, size), 0)
	}
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("terminal: zeroize %s: %w", name, err)
	}
	return removeFile(f, name)
}

var _ Engine = (*SoftwareEngine)(nil)
