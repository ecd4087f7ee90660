package provision

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// formatVersion is the version of the stored forms of this package.
const formatVersion = 1

const (
	maxRow    = 256 << 10 // bytes of a stored row
	maxText   = 200       // characters of a remark
	maxSource = 128       // characters of a network address
)

// ErrFormat is wrapped by every error about bytes that are not the one spelling of a row, and about a row that breaks a
// rule.
var ErrFormat = errors.New("provision: malformed row")

var form = canon.NewForm(ErrFormat, maxRow, 256, 8)

func malformed(format string, args ...any) error { return form.Errorf(format, args...) }

// reader reads member after member and keeps the first error.
type reader struct{ canon.Reader }

// hash reads 32 bytes that may be left out.
func (r *reader) hash(dst *[32]byte, b []byte) {
	if len(b) == 0 {
		return
	}
	if len(b) != len(dst) {
		r.Fail("hash of %d bytes, want %d", len(b), len(dst))
		return
	}
	*dst = [32]byte(b)
}

// hashBytes is the stored form of a hash that may be zero: nothing.
func hashBytes(h [32]byte) []byte {
	if h == ([32]byte{}) {
		return nil
	}
	return slices.Clone(h[:])
}

// seconds is the stored form of a time that may be zero: 0.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromSeconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// checkTimes wants whole seconds after 1970, or no time at all.
func checkTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Unix() < 1 || t.Nanosecond() != 0) {
			return malformed("a time is not in whole seconds since 1970")
		}
	}
	return nil
}

func checkTerminalID(id keyset.TerminalID) error {
	if _, err := keyset.ParseTerminal(string(id)); err != nil {
		return malformed("%v", err)
	}
	return nil
}

// words spells the values of an enumeration that starts at 1: value n is words[n-1].
type words []string

func (w words) spell(v uint8) string {
	if v < 1 || int(v) > len(w) {
		return fmt.Sprintf("invalid(%d)", v)
	}
	return w[v-1]
}

func (w words) parse(s string) (uint8, error) {
	i := slices.Index(w, s)
	if i < 0 {
		return 0, malformed("unknown word, want one of %v", []string(w))
	}
	return uint8(i + 1), nil
}
