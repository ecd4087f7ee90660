package keyset

import "github.com/latchkey-pos/latchkey/dukpt"

// MaxSlots is the highest slot number and the most slots a terminal can have.
const MaxSlots = 16

// Slot says which key id of which set sits in one key slot of a terminal.
type Slot struct {
	Slot   uint8       // 1 to MaxSlots
	KeySet ID          // the set, of the terminal's tenant
	KeyID  dukpt.KeyID // the initial key of the slot
	State  SlotState   // where the key stands in its life
	Floor  uint32      // ordinal up to which it was used before it came here; 0 when it was delivered, and in documents
}

// SlotState says where the key of a slot stands in its life.
type SlotState uint8

// The values of SlotState.
const (
	// SlotPending waits for a first sign-in MAC to confirm that the terminal has the key.
	SlotPending SlotState = iota + 1
	// SlotActive is in use.
	SlotActive
	// SlotDraining is the old key of the slot: what it sent earlier is still answered.
	SlotDraining
	// SlotRetired accepts nothing, for ever.
	SlotRetired
)

var slotStateWords = words{"pending", "active", "draining", "retired"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (s SlotState) String() string { return slotStateWords.spell(uint8(s)) }

// MarshalText returns the word. An invalid value is an error.
func (s SlotState) MarshalText() ([]byte, error) {
	return slotStateWords.marshal("slot state", uint8(s))
}

// UnmarshalText reads the word; anything else is an error.
func (s *SlotState) UnmarshalText(text []byte) error {
	return unmarshalWord(s, slotStateWords, "slot state", text)
}
