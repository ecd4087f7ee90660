package provision

import (
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// CodeState says where a one-time code stands.
type CodeState uint8

// The values of CodeState.
const (
	// StateOpen waits to be shown.
	StateOpen CodeState = iota + 1
	// StateReserved was shown with a public key, whose certificate is being issued.
	StateReserved
	// StateSpent has been redeemed.
	StateSpent
	// StateVoid is of no use any more: too many failures, expired, or the pepper has changed.
	StateVoid
)

var codeStateWords = words{"open", "reserved", "spent", "void"}

// String returns the word of the state, or "invalid(n)".
func (s CodeState) String() string { return codeStateWords.spell(uint8(s)) }

// OneTimeCode is the one-time code of a terminal as it is stored: not the code, only what recognises it. It is plain data;
// Marshal and UnmarshalOneTimeCode give its stored form. Times are kept in whole seconds, UTC.
type OneTimeCode struct {
	Terminal  keyset.TerminalID
	Check     [32]byte // HMAC-SHA-256 under the pepper
	State     CodeState
	Created   time.Time
	Expires   time.Time
	Failures  uint32  // wrong guesses while it was open or reserved
	KeyHash   KeyHash // public key it is reserved for or was spent on
	Reserved  time.Time
	Spent     time.Time
	Serial    string  // of the certificate it was spent on
	Agreement KeyHash // public key of the one agreement certificate that the code permits; zero before it was asked for
	Author    string  // who made the code
}

// live reports whether the code may still be redeemed for the first time, but for its age.
func (c *OneTimeCode) live() bool { return c.State == StateOpen || c.State == StateReserved }

func (c *OneTimeCode) check() error {
	if err := checkTerminalID(c.Terminal); err != nil {
		return err
	}
	if _, err := codeStateWords.parse(c.State.String()); err != nil {
		return err
	}
	if (c.State == StateReserved || c.State == StateSpent) && c.KeyHash == (KeyHash{}) {
		return malformed("a %v code without a key", c.State)
	}
	if c.Serial != "" && !isSerial(c.Serial) {
		return malformed("a serial number is not lower-case hex of whole bytes")
	}
	if len(c.Author) > maxText {
		return malformed("author is too long")
	}
	return checkTimes(c.Created, c.Expires, c.Reserved, c.Spent)
}

// wireCode is the stored form of a code.
type wireCode struct {
	Version   uint   `cbor:"v"`
	Terminal  string `cbor:"terminal"`
	Check     []byte `cbor:"check"`
	State     string `cbor:"state"`
	Created   int64  `cbor:"created,omitempty"`
	Expires   int64  `cbor:"expires,omitempty"`
	Failures  uint32 `cbor:"failures,omitempty"`
	KeyHash   []byte `cbor:"key-hash,omitempty"`
	Reserved  int64  `cbor:"reserved,omitempty"`
	Spent     int64  `cbor:"spent,omitempty"`
	Serial    string `cbor:"serial,omitempty"`
	Agreement []byte `cbor:"agreement,omitempty"`
	Author    string `cbor:"author,omitempty"`
}

// Marshal returns the stored form of a code that breaks no rule. The error wraps ErrFormat.
func (c *OneTimeCode) Marshal() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireCode{
		formatVersion, string(c.Terminal), c.Check[:], c.State.String(), seconds(c.Created), seconds(c.Expires), c.Failures,
		hashBytes(c.KeyHash), seconds(c.Reserved), seconds(c.Spent), c.Serial, hashBytes(c.Agreement), c.Author,
	})
}

// UnmarshalOneTimeCode reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func UnmarshalOneTimeCode(b []byte) (*OneTimeCode, error) {
	var w wireCode
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	c := &OneTimeCode{
		Terminal: keyset.TerminalID(w.Terminal), Created: fromSeconds(w.Created), Expires: fromSeconds(w.Expires),
		Failures: w.Failures, Reserved: fromSeconds(w.Reserved), Spent: fromSeconds(w.Spent), Serial: w.Serial, Author: w.Author,
	}
	state, err := codeStateWords.parse(w.State)
	if err != nil {
		return nil, err
	}
	c.State = CodeState(state)
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	r.hash(&c.Check, w.Check)
	r.hash((*[32]byte)(&c.KeyHash), w.KeyHash)
	r.hash((*[32]byte)(&c.Agreement), w.Agreement)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, c, b)
}
