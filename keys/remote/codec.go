package remote

import (
	"crypto/x509"
	"errors"
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

var form = canon.NewForm(ErrFormat, maxMessage, 16, 4)

func malformed(format string, args ...any) error { return form.Errorf(format, args...) }

// reader reads member after member and keeps the first error.
type reader struct{ canon.Reader }

func (r *reader) fixed(what string, dst *[NonceSize]byte, b []byte) {
	if len(b) != NonceSize {
		r.Fail("%s of %d bytes, want %d", what, len(b), NonceSize)
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
