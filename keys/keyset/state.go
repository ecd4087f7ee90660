package keyset

// State is the state of a key set. It changes by a new revision only; Retired is final.
type State uint8

// The values of State.
const (
	// Active accepts messages.
	Active State = iota + 1
	// Blocked answers HELD to everything but sign-in and resends of answered messages.
	Blocked
	// Retired accepts nothing, for ever.
	Retired
)

var stateWords = words{"active", "blocked", "retired"}

// ParseState reads one of the words of State.
func ParseState(s string) (State, error) { return parseWord[State](stateWords, "state", s) }

// String returns the word of docs/protocol.md, or "invalid(n)".
func (s State) String() string { return stateWords.spell(uint8(s)) }

// MarshalText returns the word. An invalid value is an error.
func (s State) MarshalText() ([]byte, error) { return stateWords.marshal("state", uint8(s)) }

// UnmarshalText reads the word; anything else is an error.
func (s *State) UnmarshalText(text []byte) error {
	return unmarshalWord(s, stateWords, "state", text)
}
