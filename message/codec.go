package message

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

var codec = canon.New(32, 8)

func encode(wire any) ([]byte, error) {
	b, err := codec.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("message: %v", err)
	}
	return b, nil
}

// decode reads b into wire and refuses every spelling but the deterministic one (RFC 8949, 4.2.1).
func decode(b []byte, wire any) error {
	if err := codec.Unmarshal(b, wire); err != nil {
		return broken("%v", err)
	}
	return nil
}
