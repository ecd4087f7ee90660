package message

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

var (
	encoding = must(encOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
		MaxMapPairs:       32,
		MaxArrayElements:  32,
	}.DecMode())
)

func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("message: " + err.Error())
	}
	return v
}

func encode(wire any) ([]byte, error) {
	b, err := encoding.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("message: %v", err)
	}
	return b, nil
}

// decode reads b into wire and refuses every spelling but the deterministic one (RFC 8949, 4.2.1).
func decode(b []byte, wire any) error {
	err := decoding.Unmarshal(b, wire)
	if err != nil {
		return broken("%v", err)
	}
	again, err := encoding.Marshal(wire)
	if err != nil {
		return broken("%v", err)
	}
	if !bytes.Equal(b, again) {
		return broken("not the deterministic encoding of its content")
	}
	return nil
}
