package message

import (
	"fmt"
	"slices"
)

// Type says what a message is for. The zero value is no type.
type Type uint8

// The types of messages.
const (
	// Sale takes money: card data, a PIN perhaps, an amount.
	Sale Type = iota + 1
	// Reversal takes back a message whose answer never came. It carries no PIN.
	Reversal
	// Void takes back a sale that was answered. It carries no PIN.
	Void
	// Advice reports what was decided without the host. It carries no PIN.
	Advice
	// SignIn asks where the counters stand and confirms new keys. It releases nothing.
	SignIn
	// Resend carries an earlier message, byte for byte, under a fresh MAC.
	Resend
	// Ack is the host's answer to any of the others; see AckPayload.
	Ack
)

var typeWords = words{"sale", "reversal", "void", "advice", "sign-in", "resend", "ack"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (t Type) String() string { return typeWords.spell(uint8(t)) }

// MarshalText returns the word. An invalid value is an error.
func (t Type) MarshalText() ([]byte, error) { return typeWords.marshal("type", uint8(t)) }

// UnmarshalText reads the word; anything else is an error.
func (t *Type) UnmarshalText(text []byte) error { return unmarshalWord(t, typeWords, "type", text) }

// Result says what became of a message. The zero value is no result.
type Result uint8

// The results an ack can carry. Those with an upper-case word come from the acquirer or the state of the terminal, the
// others are refusals that the decryption service decides itself.
const (
	// Approved is the acquirer's yes.
	Approved Result = iota + 1
	// Declined is the acquirer's no.
	Declined
	// Held says that terminal or key set is blocked: nothing was released, the message may come again later.
	Held
	// Reversed says that the message was reversed before it arrived: nothing was released.
	Reversed
	// SignedIn confirms a sign-in.
	SignedIn
	// RolledBack answers a sign-in from a state that the host has seen a later one of.
	RolledBack
	// KsnReplayed says that the KSN was used with another content.
	KsnReplayed
	// KsnSpent says that the KSN was closed.
	KsnSpent
	// KsnTooOld says that the counter lies below the window.
	KsnTooOld
	// KsnFenced says that the counter lies below a fence.
	KsnFenced
	// KsnOutOfWindow says that the counter jumps too far ahead.
	KsnOutOfWindow
	// PinBlockInvalid says that the PIN block did not verify, and never why.
	PinBlockInvalid
	// Refused says that the message breaks another rule of its key set.
	Refused
)

var resultWords = words{
	"APPROVED", "DECLINED", "HELD", "REVERSED", "SIGNED-IN", "ROLLED-BACK",
	"KsnReplayed", "KsnSpent", "KsnTooOld", "KsnFenced", "KsnOutOfWindow", "PinBlockInvalid", "Refused",
}

// ParseResult reads one of the words of Result.
func ParseResult(s string) (Result, error) { return parseWord[Result](resultWords, "result", s) }

// String returns the word of docs/protocol.md, or "invalid(n)".
func (r Result) String() string { return resultWords.spell(uint8(r)) }

// MarshalText returns the word. An invalid value is an error.
func (r Result) MarshalText() ([]byte, error) { return resultWords.marshal("result", uint8(r)) }

// UnmarshalText reads the word; anything else is an error.
func (r *Result) UnmarshalText(text []byte) error {
	return unmarshalWord(r, resultWords, "result", text)
}

// Usage says what a field holds. The zero value is no usage.
type Usage uint8

// The usages of fields.
const (
	// UsagePIN is an encrypted PIN block.
	UsagePIN Usage = iota + 1
	// UsageData is encrypted card data.
	UsageData
)

var usageWords = words{"pin", "data"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (u Usage) String() string { return usageWords.spell(uint8(u)) }

// MarshalText returns the word. An invalid value is an error.
func (u Usage) MarshalText() ([]byte, error) { return usageWords.marshal("usage", uint8(u)) }

// UnmarshalText reads the word; anything else is an error.
func (u *Usage) UnmarshalText(text []byte) error { return unmarshalWord(u, usageWords, "usage", text) }

// words spells the values of an enumeration that starts at 1: value n is words[n-1].
type words []string

func (w words) spell(v uint8) string {
	if !w.known(v) {
		return fmt.Sprintf("invalid(%d)", v)
	}
	return w[v-1]
}

func (w words) known(v uint8) bool { return v >= 1 && int(v) <= len(w) }

func (w words) marshal(what string, v uint8) ([]byte, error) {
	if !w.known(v) {
		return nil, fmt.Errorf("message: %s has no value", what)
	}
	return []byte(w[v-1]), nil
}

func parseWord[T ~uint8](w words, what, s string) (T, error) {
	i := slices.Index(w, s)
	if i < 0 {
		return 0, fmt.Errorf("message: unknown %s, want one of %v", what, []string(w))
	}
	return T(i + 1), nil
}

func unmarshalWord[T ~uint8](dst *T, w words, what string, text []byte) error {
	v, err := parseWord[T](w, what, string(text))
	if err != nil {
		return err
	}
	*dst = v
	return nil
}
