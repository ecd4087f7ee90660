package decrypt

import (
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// RoleAcquirerHost is the role of every caller that is served. It is spelled as in certificates.
const RoleAcquirerHost = "acquirer-host"

// Caller is who asks, as the transport proved it, and what it may do. It is authorisation only: which caller of a tenant
// asks changes no claim and no answer.
type Caller struct {
	Tenant  keyset.TenantID // of the caller's certificate; it sees terminals of this tenant only
	Name    string          // of the caller's certificate
	Role    string          // RoleAcquirerHost
	PINKeys []keyset.KeyRef // zone keys that it may have PINs translated to; none when empty
	Keys    []KeyGrant      // keys of fixed value that it may use
	Source  string          // network address, for the audit log; may be empty
}

// Check reports whether the caller is of a kind that is served at all.
func (c Caller) Check() error {
	if c.Role != RoleAcquirerHost {
		return refuse(CodeRoleNotPermitted, "role %q", c.Role)
	}
	if _, err := keyset.ParseTenant(string(c.Tenant)); err != nil {
		return refuse(CodeRoleNotPermitted, "caller without a tenant")
	}
	return nil
}

// outgoing chooses the zone key for a PIN: the one that was asked for, or else the only one that set has. It must be on
// the list of the set and on that of the caller.
func (c Caller) outgoing(asked keyset.KeyRef, set *keyset.KeySet) (keyset.KeyRef, error) {
	ref := asked
	if ref.IsZero() {
		if len(set.OutgoingPINKeys) != 1 {
			return keyset.KeyRef{}, refuse(CodePINKeyNotPermitted, "key set %s has %d outgoing PIN keys and none was named", set.ID, len(set.OutgoingPINKeys))
		}
		ref = set.OutgoingPINKeys[0]
	}
	if !slices.Contains(set.OutgoingPINKeys, ref) {
		return keyset.KeyRef{}, refuse(CodePINKeyNotPermitted, "key set %s does not translate to %v", set.ID, ref)
	}
	if !slices.Contains(c.PINKeys, ref) {
		return keyset.KeyRef{}, refuse(CodePINKeyNotPermitted, "%s is not permitted to use %v", c.Name, ref)
	}
	return ref, nil
}

// refuse makes a refusal whose detail holds public values only.
func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// refused returns the refusal in err.
func refused(err error) (*Refusal, bool) { return errors.AsType[*Refusal](err) }
