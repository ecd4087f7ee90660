package keyset

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

// MaxSigned bounds an envelope in bytes: room for a payload with a line for each device of a large fleet.
const MaxSigned = 4 << 20

// maxDocument bounds a key set and a terminal in bytes.
const maxDocument = 64 << 10

// ErrFormat is wrapped by every error about bytes that are not the one deterministic spelling of a document of this
// package: truncated, trailing, unknown or duplicate members, other types, other orders, other lengths of numbers.
var ErrFormat = errors.New("keyset: malformed document")

var codec = canon.New(64, 8)

func encode(wire any) ([]byte, error) {
	b, err := codec.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("keyset: %v", err)
	}
	return b, nil
}

// decode reads at most most bytes into wire and refuses every spelling but the deterministic one.
func decode(b []byte, wire any, most int) error {
	if len(b) > most {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrFormat, len(b), most)
	}
	if err := codec.Unmarshal(b, wire); err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	return nil
}
