package keyset

// Status says what a terminal may do.
type Status uint8

// The values of Status.
const (
	// StatusPending may sign in, and nothing else.
	StatusPending Status = iota + 1
	// StatusActive works.
	StatusActive
	// StatusBlocked connects; everything but sign-in and resends of answered messages is answered HELD.
	StatusBlocked
	// StatusQuarantined is blocked on evidence of a clone or a roll-back.
	StatusQuarantined
	// StatusCompromised gets no connection, and every one of its KSNs is refused.
	StatusCompromised
	// StatusRevoked gets no connection, and every one of its KSNs is refused.
	StatusRevoked
	// StatusRetired has left service.
	StatusRetired
)

var statusWords = words{"pending", "active", "blocked", "quarantined", "compromised", "revoked", "retired"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (s Status) String() string { return statusWords.spell(uint8(s)) }

// MarshalText returns the word. An invalid value is an error.
func (s Status) MarshalText() ([]byte, error) { return statusWords.marshal("status", uint8(s)) }

// UnmarshalText reads the word; anything else is an error.
func (s *Status) UnmarshalText(text []byte) error {
	return unmarshalWord(s, statusWords, "status", text)
}
