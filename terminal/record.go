package terminal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// recordVersion is the v of every record that this package writes.
const recordVersion = 1

// Stored records are deterministic CBOR (RFC 8949, 4.2.1); reading refuses duplicate and unknown members.
var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
		MaxMapPairs:       32,
		MaxArrayElements:  256,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("terminal: " + err.Error())
	}
	return v
}

// decodeRecord reads one record and insists that it is in the one encoding of its content.
func decodeRecord(b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := encoding.Marshal(v)
	if err != nil {
		return err
	}
	defer secret.Wipe(again)
	if !bytes.Equal(again, b) {
		return errors.New("not in its one encoding")
	}
	return nil
}

// cell is secret bytes as a CBOR byte string inside a record that will be sealed.
type cell struct{ secret.Bytes }

// MarshalCBOR writes the bytes: only code that seals the result encodes cells.
func (c cell) MarshalCBOR() ([]byte, error) { return encoding.Marshal(c.Expose()) }

// UnmarshalCBOR copies the bytes into a secret of its own.
func (c *cell) UnmarshalCBOR(data []byte) error {
	var b []byte
	if err := decoding.Unmarshal(data, &b); err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	defer secret.Wipe(b)
	c.Bytes = secret.From(b)
	return nil
}
