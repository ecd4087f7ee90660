// Package secret holds key bytes so that they can be wiped and cannot be printed.
//
// [Bytes] keeps its bytes behind two pointers: fmt, slog and the encoders follow one at most, even where the value sits
// in an unexported field and its own methods are not asked. Copies of a Bytes share the same bytes, so wiping one wipes
// all. It does not protect against a reader of process memory, nor against copies the runtime or a cipher makes; [Do]
// reaches those where the toolchain offers it.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// redacted is what every way of printing gives.
const redacted = "[secret]"

// errEncode refuses to turn a secret into bytes by way of an encoder.
var errEncode = errors.New("secret: a secret is not encoded")

type cell struct{ b []byte }

// Bytes is a secret byte string. The zero value is empty. Copies share one content; after Wipe all of them are empty.
// Reading from several goroutines is safe, wiping while another goroutine reads is not.
type Bytes struct{ c **cell }

// New returns n zero bytes to be filled through Expose.
func New(n int) Bytes {
	c := &cell{b: make([]byte, n)}
	return Bytes{c: &c}
}

// From returns a secret copy of b. The caller still owns b, and wipes it.
func From(b []byte) Bytes {
	s := New(len(b))
	Do(func() { copy(s.Expose(), b) }) // by way of registers
	return s
}

// Lend makes b, which is not copied, the content of s, which New made, in place of the one before. Wipe zeroes b and takes it
// back from every copy of s: so memory that is used again and again is shown to others for a while, without allocation.
func (s Bytes) Lend(b []byte) { (*s.c).b = b }

// Len returns the number of bytes: 0 for the zero value and after Wipe.
func (s Bytes) Len() int { return len(s.Expose()) }

// IsZero reports whether there are no bytes: the zero value, an empty secret, or a wiped one.
func (s Bytes) IsZero() bool { return s.Len() == 0 }

// Expose returns the bytes themselves, not a copy, with no room to append. Do not keep them: Wipe zeroes them.
func (s Bytes) Expose() []byte {
	if s.c == nil {
		return nil
	}
	b := (*s.c).b
	return b[:len(b):len(b)]
}

// Clone returns an independent copy.
func (s Bytes) Clone() Bytes { return From(s.Expose()) }

// Equal reports whether two secrets hold the same bytes, in time that depends on their lengths only.
func (s Bytes) Equal(t Bytes) bool {
	return Public(subtle.ConstantTimeCompare(s.Expose(), t.Expose())) == 1
}

// Wipe zeroes the bytes and empties the secret for every copy of it. It may be called again.
func (s Bytes) Wipe() {
	if s.c == nil {
		return
	}
	Wipe((*s.c).b)
	(*s.c).b = nil
}

// Format prints a placeholder under every verb.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String returns a placeholder.
func (s Bytes) String() string { return redacted }

// GoString returns a placeholder.
func (s Bytes) GoString() string { return redacted }

// MarshalText gives encoders a placeholder.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives encoders a placeholder.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalBinary refuses: a binary encoding of a secret would be the secret.
func (s Bytes) MarshalBinary() ([]byte, error) { return nil, errEncode }

// Wipe zeroes b.
func Wipe(b []byte) {
	if planted.On(planted.SkipWipe) {
		return
	}
	clear(b)
	runtime.KeepAlive(b)
}
