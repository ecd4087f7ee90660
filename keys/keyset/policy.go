package keyset

// CounterTrust says how a transaction counter reaches the host.
type CounterTrust uint8

// The values of CounterTrust.
const (
	// Authenticated counters come under a MAC; the windows W and J apply to them.
	Authenticated CounterTrust = iota + 1
	// ClaimedOnly counters are what the sender says; only claims protect against replay.
	ClaimedOnly
)

var counterTrustWords = words{"authenticated", "claimed-only"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (c CounterTrust) String() string { return counterTrustWords.spell(uint8(c)) }

// MarshalText returns the word. An invalid value is an error.
func (c CounterTrust) MarshalText() ([]byte, error) {
	return counterTrustWords.marshal("counter trust", uint8(c))
}

// UnmarshalText reads the word; anything else is an error.
func (c *CounterTrust) UnmarshalText(text []byte) error {
	return unmarshalWord(c, counterTrustWords, "counter trust", text)
}

// Paths says which host calls may use the keys of a set. A service that has no AWS path ignores what is said about it.
type Paths uint8

// The values of Paths.
const (
	// Native allows the native calls.
	Native Paths = iota + 1
	// AWS allows the AWS-shaped calls.
	AWS
	// Both allows both.
	Both
)

var pathsWords = words{"native", "aws", "both"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (p Paths) String() string { return pathsWords.spell(uint8(p)) }

// MarshalText returns the word. An invalid value is an error.
func (p Paths) MarshalText() ([]byte, error) { return pathsWords.marshal("path", uint8(p)) }

// UnmarshalText reads the word; anything else is an error.
func (p *Paths) UnmarshalText(text []byte) error {
	return unmarshalWord(p, pathsWords, "path", text)
}

// Unknown says what happens to a key id of the range that no registry record names.
type Unknown uint8

// The values of Unknown.
const (
	// Refuse refuses it.
	Refuse Unknown = iota + 1
	// RegisterOnFirstMAC registers it when a first MAC verifies. Not in use yet; Validate refuses it.
	RegisterOnFirstMAC
	// RegisterOnFirstUse registers it when it is first used. Not in use yet; Validate refuses it.
	RegisterOnFirstUse
)

var unknownWords = words{"refuse", "register-on-first-MAC", "register-on-first-use"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (u Unknown) String() string { return unknownWords.spell(uint8(u)) }

// MarshalText returns the word. An invalid value is an error.
func (u Unknown) MarshalText() ([]byte, error) {
	return unknownWords.marshal("unknown-key rule", uint8(u))
}

// UnmarshalText reads the word; anything else is an error.
func (u *Unknown) UnmarshalText(text []byte) error {
	return unmarshalWord(u, unknownWords, "unknown-key rule", text)
}

// Delivery says how initial keys of a set reach terminals.
type Delivery uint8

// The values of Delivery.
const (
	// Attested wraps them for an agreement key that the maker or the key-injection facility certified.
	Attested Delivery = iota + 1
	// Code trusts a one-time code; test sets only.
	Code
	// DeliveryNone delivers nothing over the network: the keys come in sealed bundles or were injected elsewhere.
	DeliveryNone
)

var deliveryWords = words{"attested", "code", "none"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (d Delivery) String() string { return deliveryWords.spell(uint8(d)) }

// MarshalText returns the word. An invalid value is an error.
func (d Delivery) MarshalText() ([]byte, error) { return deliveryWords.marshal("delivery", uint8(d)) }

// UnmarshalText reads the word; anything else is an error.
func (d *Delivery) UnmarshalText(text []byte) error {
	return unmarshalWord(d, deliveryWords, "delivery", text)
}

// Release says how decrypted card data leaves the host.
type Release uint8

// The values of Release.
const (
	// Clear gives clear data to the acquirer.
	Clear Release = iota + 1
	// ReEncrypt gives data under another key. Not in use yet; Validate refuses it.
	ReEncrypt
)

var releaseWords = words{"clear", "re-encrypt"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (r Release) String() string { return releaseWords.spell(uint8(r)) }

// MarshalText returns the word. An invalid value is an error.
func (r Release) MarshalText() ([]byte, error) { return releaseWords.marshal("release rule", uint8(r)) }

// UnmarshalText reads the word; anything else is an error.
func (r *Release) UnmarshalText(text []byte) error {
	return unmarshalWord(r, releaseWords, "release rule", text)
}
