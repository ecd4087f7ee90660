package keyset

// Environment separates real money from play. It is an immutable attribute of a base key: a set and its key agree, or nothing works.
type Environment uint8

// The values of Environment.
const (
	// Production is real: documents need two approvers.
	Production Environment = iota + 1
	// Test is play: one person may approve their own operation, and code delivery is allowed.
	Test
)

var environmentWords = words{"production", "test"}

// ParseEnvironment reads one of the words of Environment.
func ParseEnvironment(s string) (Environment, error) {
	return parseWord[Environment](environmentWords, "environment", s)
}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (e Environment) String() string { return environmentWords.spell(uint8(e)) }

// MarshalText returns the word. An invalid value is an error.
func (e Environment) MarshalText() ([]byte, error) {
	return environmentWords.marshal("environment", uint8(e))
}

// UnmarshalText reads the word; anything else is an error.
func (e *Environment) UnmarshalText(text []byte) error {
	return unmarshalWord(e, environmentWords, "environment", text)
}
