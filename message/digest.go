package message

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Digest is the SHA-256 of a whole message, payload and MAC, as it was sent. It names a request. It is comparable and
// public; the zero value names none.
type Digest [sha256.Size]byte

// DigestOf returns the digest of message bytes.
func DigestOf(message []byte) Digest { return sha256.Sum256(message) }

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) || s != strings.ToLower(s) {
		return Digest{}, fmt.Errorf("message: a digest has %d lower-case hex digits", hex.EncodedLen(len(d)))
	}
	_, err := hex.Decode(d[:], []byte(s))
	if err != nil {
		return Digest{}, errors.New("message: a digest is hex")
	}
	return d, nil
}

// IsZero reports whether d names no request.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns 64 lower-case hex digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDigest reads.
func (d *Digest) UnmarshalText(text []byte) error {
	v, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
