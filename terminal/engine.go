package terminal

import (
	"errors"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
)

// ErrNoKeypad says that an engine was asked for a PIN entered in the device and has no keypad of its own.
var ErrNoKeypad = errors.New("terminal: the engine has no keypad")

// Staged, added to the number of a slot, names the key that waits there to follow the one in use. The calls of an Engine
// take such numbers where they take those of slots.
const Staged = 0x80

// Engine computes with the keys of a terminal. [SoftwareEngine] is the reference; a maker's secure processor is another,
// and then keys and PINs never leave it. A slot has at most one transaction under way, from Begin to End; the calls in
// between fail with ErrNoTransaction outside of one, and every call fails with ErrSlot for an unknown slot and with
// ErrZeroized after Zeroize. An Engine is used by one goroutine at a time. Package terminal/enginetest holds what every
// engine must do.
//
// The calls are flat, with slot numbers and byte slices, so that they translate to a table of C functions.
type Engine interface {
	// Begin takes the next key of a slot. That the key is spent is durable before Begin returns: after a power cut it
	// never comes again. It fails with dukpt.ErrExhausted after the last key, and with ErrNoTransaction if one is under way.
	Begin(slot uint8) (dukpt.KSN, error)
	// EncryptPIN appends an encrypted PIN block to dst. A zero p asks the engine to take the PIN on its own keypad; one
	// that has none fails with ErrNoKeypad. The caller wipes p and pan.
	EncryptPIN(slot uint8, dst []byte, f pin.Format, p pin.PIN, pan pin.PAN) ([]byte, error)
	// EncryptData appends the ciphertext of plain, a multiple of the block, to dst. They do not overlap.
	EncryptData(slot uint8, dst []byte, spec dukpt.DataSpec, plain []byte) ([]byte, error)
	// MAC appends the request MAC of message to dst.
	MAC(slot uint8, dst []byte, spec dukpt.MACSpec, message []byte) ([]byte, error)
	// VerifyResponse checks the response MAC of message; it fails with dukpt.ErrVerify.
	VerifyResponse(slot uint8, spec dukpt.MACSpec, message, mac []byte) error
	// End destroys the key of the transaction. Without one it does nothing.
	End(slot uint8)
	// SkipTo gives up the keys before ksn, durably: the next Begin takes ksn or a later one. It never goes back: a ksn that
	// is not ahead changes nothing. It fails with ErrJump for more than the slot's MaxJump ordinals at once, with
	// ErrJumpBudget when the budget of the key is used up, and with ErrNoTransaction while one is under way.
	SkipTo(slot uint8, ksn dukpt.KSN) error
	// Stage takes an initial key that is to follow the one in a slot, or to be its first, and wipes it. The key is durable
	// when Stage returns nil, and waits under the number slot+Staged, in the place of one staged before. maxJump is that of
	// its key set. It fails with ErrNoTransaction while the staged key before it has a transaction under way.
	Stage(slot uint8, ik *dukpt.InitialKey, maxJump uint32) error
	// Switch destroys the key of a slot and puts the staged one in its place, durably and with all that it has used and
	// skipped. A power cut leaves the staged key where it was or where it belongs; the old one may be gone before. It fails
	// with ErrSlot when none is staged, and with ErrNoTransaction while either key has a transaction under way.
	Switch(slot uint8) error
	// Status describes every key, in the order of their numbers, staged ones after the others.
	Status() []SlotStatus
	// Zeroize destroys all keys, here and on the medium. It may be repeated until it returns nil.
	Zeroize() error
}

// SlotStatus is the state of one key. It holds no secret.
type SlotStatus struct {
	Slot      uint8       // the number of its slot, with Staged added while it waits there
	KeyID     dukpt.KeyID // its key
	Next      dukpt.KSN   // what the next Begin takes; zero when the keys are used up
	Remaining uint32      // keys left
	Jumped    uint64      // ordinals given up on the host's word
	JumpLimit uint64      // the most of them
}
