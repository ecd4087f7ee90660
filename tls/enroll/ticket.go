package enroll

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// Numbers of characters of a one-time code: 130 bits, or the short form of 60 bits and a check character.
const (
	codeLength  = 26
	shortLength = 13
)

// ErrTicket is wrapped by every error about typed text that is no ticket. Errors quote nothing of it.
var ErrTicket = errors.New("enroll: not a ticket")

// Ticket is what the slip of paper for a terminal says: the one-time code, which is a secret until it is spent, and the pin
// of the key that signs the trust list, which is not. It prints nothing. The zero value is no ticket.
type Ticket struct {
	Code secret.Bytes
	Pin  trustlist.Pin
}

// ParseTicket reads CODE-PIN as people type it: lower case, hyphens and spaces anywhere or nowhere, O for 0, and I and L
// for 1. The number of characters tells which form the code has. A mistyped code of the short form is found by its check
// character; one of the long form, or a mistyped pin, by nothing here. The caller wipes the typed text, and the ticket after
// use. Errors wrap ErrTicket.
func ParseTicket(typed []byte) (Ticket, error) {
	code, pin, err := split(typed)
	if err != nil {
		return Ticket{}, err
	}
	buf := make([]byte, 0, codeLength)
	defer secret.Wipe(buf[:codeLength])
	digits, err := crockford.Normalize(buf, code)
	if err != nil || !plausible(digits) {
		return Ticket{}, fmt.Errorf("%w: look for a mistyped character in its first part", ErrTicket)
	}
	p, err := trustlist.ParsePin(string(pin))
	if err != nil {
		return Ticket{}, fmt.Errorf("%w: look for a mistyped character in its last %d", ErrTicket, trustlist.PinLength)
	}
	return Ticket{Code: secret.From(digits), Pin: p}, nil
}

// split cuts typed text between code and pin.
func split(typed []byte) (code, pin []byte, err error) {
	var places []int // of the characters that count
	for i, c := range typed {
		if c != '-' && c != ' ' {
			places = append(places, i)
		}
	}
	n := len(places) - trustlist.PinLength
	if n != codeLength && n != shortLength {
		return nil, nil, fmt.Errorf("%w: it has %d characters, want %d or %d", ErrTicket, len(places),
			codeLength+trustlist.PinLength, shortLength+trustlist.PinLength)
	}
	return typed[:places[n-1]+1], typed[places[n]:], nil
}

// plausible reports whether normalized characters may be a code: those of the short form end in their check character.
func plausible(digits []byte) bool {
	last := len(digits) - 1
	if len(digits) == shortLength {
		return crockford.Check(digits[:last]) == digits[last]
	}
	return strings.IndexByte(crockford.Alphabet, digits[last]) >= 0
}

// Wipe destroys the code.
func (t Ticket) Wipe() { t.Code.Wipe() }

// Format prints a placeholder, whatever the verb.
func (t Ticket) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, ticketText) }

// LogValue gives loggers a placeholder.
func (t Ticket) LogValue() slog.Value { return slog.StringValue(ticketText) }

// MarshalText gives encoders a placeholder.
func (t Ticket) MarshalText() ([]byte, error) { return []byte(ticketText), nil }

const ticketText = "enroll.Ticket"
