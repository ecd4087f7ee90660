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

// decodeRecord reads one record, which holds no secret, and insists that it is in the one encoding of its content.
func decodeRecord(b []byte, v any) error {
	rest, err := decodeFirst(b, v)
	if err == nil && len(rest) != 0 {
		err = errors.New("bytes after the record")
	}
	return err
}

// decodeFirst reads the record that b begins with and returns what follows it.
func decodeFirst(b []byte, v any) (rest []byte, err error) {
	if rest, err = decoding.UnmarshalFirst(b, v); err != nil {
		return nil, err
	}
	again, err := encoding.Marshal(v)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b[:len(b)-len(rest)]) {
		return nil, errors.New("not in its one encoding")
	}
	return rest, nil
}

// A record with secrets is an array: first what is no secret, then each secret as a byte string. Array and byte strings
// are written and read by hand, because the encoder keeps what it encodes in buffers that nobody wipes.

// maxSecrets is how many secrets the one-byte head of the array has room for, and maxSecret the largest of them.
const (
	maxSecrets = 22
	maxSecret  = 1<<16 - 1
)

// joinSecrets writes a record with secrets. The caller wipes the result.
func joinSecrets(record any, secrets ...secret.Bytes) (secret.Bytes, error) {
	if len(secrets) > maxSecrets {
		return secret.Bytes{}, fmt.Errorf("terminal: %d secrets in one record, want at most %d", len(secrets), maxSecrets)
	}
	open, err := encoding.Marshal(record)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: %w", err)
	}
	size := 1 + len(open)
	for _, s := range secrets {
		if s.Len() > maxSecret {
			return secret.Bytes{}, fmt.Errorf("terminal: a secret of %d bytes, want at most %d", s.Len(), maxSecret)
		}
		size += len(appendBytesHead(nil, s.Len())) + s.Len()
	}
	out := secret.New(size)
	b := append(out.Expose()[:0], 0x80|byte(1+len(secrets))) // never grows: size is exact
	b = append(b, open...)
	for _, s := range secrets {
		b = append(appendBytesHead(b, s.Len()), s.Expose()...)
	}
	return out, nil
}

// splitSecrets reads what joinSecrets writes, and nothing else. The caller wipes the secrets.
func splitSecrets(b []byte, record any) ([]secret.Bytes, error) {
	if len(b) == 0 || b[0] <= 0x80 || b[0] > 0x80|(1+maxSecrets) {
		return nil, errors.New("not a record with secrets")
	}
	count := int(b[0]&^0x80) - 1
	rest, err := decodeFirst(b[1:], record)
	if err != nil {
		return nil, err
	}
	var secrets []secret.Bytes
	for range count {
		var s []byte
		if s, rest, err = cutBytes(rest); err != nil {
			break
		}
		secrets = append(secrets, secret.From(s))
	}
	if err == nil && len(rest) != 0 {
		err = errors.New("bytes after the record")
	}
	if err != nil {
		wipeAll(secrets)
		return nil, err
	}
	return secrets, nil
}

func wipeAll(secrets []secret.Bytes) {
	for _, s := range secrets {
		s.Wipe()
	}
}

// appendBytesHead appends the head of a byte string of n bytes, at most maxSecret, RFC 8949, 3.
func appendBytesHead(dst []byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, 0x40|byte(n))
	case n < 256:
		return append(dst, 0x58, byte(n))
	default:
		return append(dst, 0x59, byte(n>>8), byte(n))
	}
}

// cutBytes returns the byte string that b begins with, a part of b, and what follows it. The head is in its shortest form.
func cutBytes(b []byte) (s, rest []byte, err error) {
	n, head := 0, 1
	switch {
	case len(b) >= 1 && b[0] >= 0x40 && b[0] < 0x58:
		n = int(b[0] & 0x1f)
	case len(b) >= 2 && b[0] == 0x58:
		n, head = int(b[1]), 2
	case len(b) >= 3 && b[0] == 0x59:
		n, head = int(b[1])<<8|int(b[2]), 3
	default:
		return nil, nil, errors.New("no byte string where a secret belongs")
	}
	if len(appendBytesHead(nil, n)) != head {
		return nil, nil, errors.New("the length of a secret is not in its shortest form")
	}
	if len(b)-head < n {
		return nil, nil, errors.New("a secret ends early")
	}
	return b[head : head+n], b[head+n:], nil
}
