package remote

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// FormatVersion is the version of every message of this package.
const FormatVersion = 1

// NonceSize is the length of a nonce and of the value that a TLS exporter gives, in bytes.
const NonceSize = 32

const (
	maxMessage = 64 << 10 // bytes
	maxChain   = 8        // certificates
	maxCSR     = 8 << 10  // bytes
)

// ErrFormat is wrapped by every error about a message that breaks a rule, or bytes that are not its one deterministic
// spelling.
var ErrFormat = errors.New("remote: malformed message")

var codec = canon.New(16, 4)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func encode(wire any) ([]byte, error) {
	b, err := codec.Marshal(wire)
	if err != nil {
		return nil, malformed("%v", err)
	}
	if len(b) > maxMessage {
		return nil, malformed("%d bytes, want at most %d", len(b), maxMessage)
	}
	return b, nil
}

func decode(b []byte, wire any) error {
	if len(b) > maxMessage {
		return malformed("%d bytes, want at most %d", len(b), maxMessage)
	}
	if err := codec.Unmarshal(b, wire); err != nil {
		return malformed("%v", err)
	}
	return nil
}

// spelled returns m if it is written as b, and validates it by that.
func spelled[M interface{ Marshal() ([]byte, error) }](m M, b []byte) (M, error) {
	var none M
	again, err := m.Marshal()
	if err != nil {
		return none, err
	}
	if !bytes.Equal(again, b) {
		return none, malformed("not the deterministic encoding of its content")
	}
	return m, nil
}

// reader reads member after member and keeps the first error.
type reader struct{ err error }

func (r *reader) version(v uint) {
	if r.err == nil && v != FormatVersion {
		r.err = malformed("format version %d, want %d", v, FormatVersion)
	}
}

func (r *reader) text(dst interface{ UnmarshalText([]byte) error }, s string) {
	if r.err != nil {
		return
	}
	if err := dst.UnmarshalText([]byte(s)); err != nil {
		r.err = malformed("%v", err)
	}
}

// keyID reads a key id, none for no bytes.
func (r *reader) keyID(dst *dukpt.KeyID, b []byte) {
	if r.err != nil || len(b) == 0 {
		return
	}
	if err := dst.UnmarshalBinary(b); err != nil {
		r.err = malformed("%v", err)
	}
}

func (r *reader) fixed(what string, dst *[NonceSize]byte, b []byte) {
	if r.err == nil && len(b) != NonceSize {
		r.err = malformed("%s of %d bytes, want %d", what, len(b), NonceSize)
		return
	}
	copy(dst[:], b)
}

// bytesOf returns the bytes of a key id, nil for none.
func bytesOf(id dukpt.KeyID) []byte {
	if id.IsZero() {
		return nil
	}
	return id.Append(nil)
}

func checkNames(tenant keyset.TenantID, terminal keyset.TerminalID) error {
	if _, err := keyset.ParseTenant(string(tenant)); err != nil {
		return malformed("%v", err)
	}
	if _, err := keyset.ParseTerminal(string(terminal)); err != nil {
		return malformed("%v", err)
	}
	return nil
}

func checkSlot(slot uint8, set keyset.ID) error {
	if err := checkSlotNumber(slot); err != nil {
		return err
	}
	if _, err := keyset.ParseID(string(set)); err != nil {
		return malformed("slot %d: %v", slot, err)
	}
	return nil
}

func checkSlotNumber(slot uint8) error {
	if slot < 1 || slot > keyset.MaxSlots {
		return malformed("slot %d, want 1 to %d", slot, keyset.MaxSlots)
	}
	return nil
}

// checkDrawn refuses what nobody has filled in.
func checkDrawn(what string, b [NonceSize]byte) error {
	if b == [NonceSize]byte{} {
		return malformed("%s is not set", what)
	}
	return nil
}

// checkTime wants whole seconds after 1970.
func checkTime(what string, t time.Time) error {
	if t.Unix() < 1 || t.Nanosecond() != 0 {
		return malformed("%s is not set, or not in whole seconds", what)
	}
	return nil
}

// parseChain wants at least so many certificates in DER. It verifies nothing.
func parseChain(what string, chain [][]byte, least int) ([]*x509.Certificate, error) {
	if len(chain) < least || len(chain) > maxChain {
		return nil, malformed("%s of %d certificates, want %d to %d", what, len(chain), least, maxChain)
	}
	var out []*x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed("%s: certificate %d: %v", what, i+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func checkChain(what string, chain [][]byte, least int) error {
	_, err := parseChain(what, chain, least)
	return err
}
