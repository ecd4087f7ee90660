// Package canon reads and writes deterministic CBOR (RFC 8949, 4.2.1), in which every value has exactly one spelling.
//
// Whatever is stored, MACed or signed goes through a [Codec]. Reading refuses what is not the spelling that writing would
// give: other lengths of numbers, other orders, duplicate or unknown members, tags, indefinite lengths, bytes after the end.
// Values with secrets do not come here: an encoder keeps copies.
package canon

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// errSpelling says that bytes are well-formed and not deterministic.
var errSpelling = errors.New("not the deterministic encoding of its content")

// Codec reads and writes within limits. It is safe for concurrent use. The zero value is unusable.
type Codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// New returns a codec for values of at most items members in one map or array (16 or more) and depth levels (4 or more). It is
// for package variables: limits that cannot be are a panic.
func New(items, depth int) Codec {
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty // null is no spelling of anything
	enc, err := options.EncMode()
	if err != nil {
		panic("canon: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   depth,
		MaxMapPairs:       items,
		MaxArrayElements:  items,
	}.DecMode()
	if err != nil {
		panic("canon: " + err.Error())
	}
	return Codec{enc, dec}
}

// Marshal returns the one spelling of v.
func (c Codec) Marshal(v any) ([]byte, error) { return c.enc.Marshal(v) }

// Unmarshal reads b into v, a pointer to a zero value, and refuses every other spelling than the one that Marshal gives. After
// an error v is not to be used.
func (c Codec) Unmarshal(b []byte, v any) error {
	if err := c.dec.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := c.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %v", errSpelling, err)
	}
	if !bytes.Equal(b, again) {
		return errSpelling
	}
	return nil
}
