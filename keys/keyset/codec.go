package keyset

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// maxDocument bounds what the parsers of this package look at, in bytes.
const maxDocument = 64 << 10

// ErrFormat is wrapped by every error about bytes that are not the one deterministic spelling of a document of this
// package: truncated, trailing, unknown or duplicate members, other types, other orders, other lengths of numbers.
var ErrFormat = errors.New("keyset: malformed document")

var (
	encoding = must(encOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
		MaxMapPairs:       64,
		MaxArrayElements:  64,
	}.DecMode())
)

func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("keyset: " + err.Error())
	}
	return v
}

func encode(wire any) ([]byte, error) {
	b, err := encoding.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("keyset: %v", err)
	}
	return b, nil
}

// decode reads b into wire and refuses every spelling but the deterministic one.
func decode(b []byte, wire any) error {
	if len(b) > maxDocument {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrFormat, len(b), maxDocument)
	}
	err := decoding.Unmarshal(b, wire)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	again, err := encoding.Marshal(wire)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if !bytes.Equal(b, again) {
		return fmt.Errorf("%w: not the deterministic encoding of its content", ErrFormat)
	}
	return nil
}
