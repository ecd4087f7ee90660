package keyset

// Usage is a purpose that keys of a set may serve.
type Usage uint8

// The values of Usage.
const (
	// UsagePIN encrypts PIN blocks.
	UsagePIN Usage = iota + 1
	// UsageData encrypts card data.
	UsageData
	// UsageMAC authenticates messages.
	UsageMAC
)

var usageWords = words{"pin", "data", "mac"}

// ParseUsage reads one of the words of Usage.
func ParseUsage(s string) (Usage, error) { return parseWord[Usage](usageWords, "usage", s) }

// String returns the word of docs/protocol.md, or "invalid(n)".
func (u Usage) String() string { return usageWords.spell(uint8(u)) }

// MarshalText returns the word. An invalid value is an error.
func (u Usage) MarshalText() ([]byte, error) { return usageWords.marshal("usage", uint8(u)) }

// UnmarshalText reads the word; anything else is an error.
func (u *Usage) UnmarshalText(text []byte) error {
	return unmarshalWord(u, usageWords, "usage", text)
}
