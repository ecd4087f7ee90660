package keyset

import (
	"errors"
	"fmt"
)

const maxNameLength = 32

// ErrName is wrapped by every error about a set, tenant or terminal name that is not [A-Z0-9-]{1,32}.
var ErrName = errors.New("keyset: not a name")

// ID names a key set within its tenant: [A-Z0-9-]{1,32}. The zero value names none.
type ID string

// TenantID names a tenant: [A-Z0-9-]{1,32}. The zero value names none.
type TenantID string

// TerminalID names a terminal within its tenant: [A-Z0-9-]{1,32}. The zero value names none.
type TerminalID string

// ParseID reads the name of a key set. The error wraps ErrName.
func ParseID(s string) (ID, error) {
	err := checkName("key set", s)
	if err != nil {
		return "", err
	}
	return ID(s), nil
}

// ParseTenant reads the name of a tenant. The error wraps ErrName.
func ParseTenant(s string) (TenantID, error) {
	err := checkName("tenant", s)
	if err != nil {
		return "", err
	}
	return TenantID(s), nil
}

// ParseTerminal reads the name of a terminal. The error wraps ErrName.
func ParseTerminal(s string) (TerminalID, error) {
	err := checkName("terminal", s)
	if err != nil {
		return "", err
	}
	return TerminalID(s), nil
}

// checkName does not repeat s in its error: a caller may have passed something else than a name by mistake.
func checkName(what, s string) error {
	if len(s) < 1 || len(s) > maxNameLength {
		return fmt.Errorf("%w: %s name has %d characters, want 1 to %d", ErrName, what, len(s), maxNameLength)
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%w: %s name has a character outside A-Z, 0-9 and - at position %d", ErrName, what, i+1)
		}
	}
	return nil
}
