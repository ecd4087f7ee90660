package keyset

import (
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/crockford"
)

const (
	aliasPrefix    = "alias/"
	maxAliasLength = 64
	keyIDLength    = 26
)

// ErrKeyRef is wrapped by every error about a key identifier that is neither an alias nor a 26-character id.
var ErrKeyRef = errors.New("keyset: not a key identifier")

// KeyRef names a key inside an engine: alias/[A-Za-z0-9/_-]{1,64}, or the 26-character id that the engine gave it. It is
// comparable. The zero value names no key.
type KeyRef struct{ name string }

// ParseKeyRef reads a key identifier. It decodes nothing: whoever takes identifiers out of a URL percent-decodes exactly
// once before. Dots, percent signs, NUL and everything else outside the alphabet are refused, so a KeyRef is safe in a
// URL and holds no path that leads upwards. The error wraps ErrKeyRef and does not repeat s.
func ParseKeyRef(s string) (KeyRef, error) {
	alias, ok := strings.CutPrefix(s, aliasPrefix)
	if !ok {
		return parseKeyID(s)
	}
	if len(alias) < 1 || len(alias) > maxAliasLength {
		return KeyRef{}, fmt.Errorf("%w: alias has %d characters, want 1 to %d", ErrKeyRef, len(alias), maxAliasLength)
	}
	for i := range len(alias) {
		if !aliasByte(alias[i]) {
			return KeyRef{}, fmt.Errorf("%w: alias has a character outside A-Z, a-z, 0-9, /, _ and - at position %d", ErrKeyRef, i+1)
		}
	}
	return KeyRef{name: s}, nil
}

func parseKeyID(s string) (KeyRef, error) {
	if len(s) != keyIDLength {
		return KeyRef{}, fmt.Errorf("%w: want %s… or %d characters, got %d characters", ErrKeyRef, aliasPrefix, keyIDLength, len(s))
	}
	for i := range len(s) {
		if strings.IndexByte(crockford.Alphabet, s[i]) < 0 {
			return KeyRef{}, fmt.Errorf("%w: id has a character outside its alphabet at position %d", ErrKeyRef, i+1)
		}
	}
	return KeyRef{name: s}, nil
}

func aliasByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '/' || c == '_' || c == '-'
}

// String returns the identifier as ParseKeyRef reads it, or "" for the zero value.
func (r KeyRef) String() string { return r.name }

// IsZero reports whether r names no key.
func (r KeyRef) IsZero() bool { return r.name == "" }

// IsAlias reports whether r is an alias, which an engine may point at another key later.
func (r KeyRef) IsAlias() bool { return strings.HasPrefix(r.name, aliasPrefix) }

// MarshalText returns the identifier. A zero KeyRef is an error.
func (r KeyRef) MarshalText() ([]byte, error) {
	if r.IsZero() {
		return nil, fmt.Errorf("%w: empty", ErrKeyRef)
	}
	return []byte(r.name), nil
}

// UnmarshalText reads what ParseKeyRef reads.
func (r *KeyRef) UnmarshalText(text []byte) error {
	ref, err := ParseKeyRef(string(text))
	if err != nil {
		return err
	}
	*r = ref
	return nil
}
