package decrypt

import (
	"net/http"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// permissions say which acquirer hosts of the tenant are served and with which zone keys.
type permissions struct {
	tenant  keyset.TenantID
	callers map[string]permission
}

// permission is what one acquirer host may use.
type permission struct {
	zones []keyset.KeyRef
	keys  []decrypt.KeyGrant
}

func newPermissions(c Config) (*permissions, error) {
	p := &permissions{tenant: keyset.TenantID(c.Tenant), callers: make(map[string]permission, len(c.Callers))}
	for _, caller := range c.Callers {
		refs, err := caller.keys()
		if err != nil {
			return nil, err
		}
		grants, err := caller.grants()
		if err != nil {
			return nil, err
		}
		p.callers[caller.Name] = permission{refs, grants}
	}
	return p, nil
}

// caller says who sends a request, by its verified certificate and by nothing else. With an error it says as much as it knows,
// for the audit log.
func (p *permissions) caller(r *http.Request) (decrypt.Caller, error) {
	if r.TLS == nil {
		return decrypt.Caller{}, notPermitted("the connection is not TLS")
	}
	id, _, err := tlsconf.Peer(*r.TLS)
	if err != nil {
		return decrypt.Caller{}, notPermitted("no certificate of ours")
	}
	who := decrypt.Caller{Tenant: keyset.TenantID(id.Tenant), Name: id.Name, Role: id.Role.String(), Source: serve.Source(r)}
	if id.Role != identity.AcquirerHost {
		return who, notPermitted("role " + id.Role.String())
	}
	if who.Tenant != p.tenant {
		return who, notPermitted("a caller of another tenant")
	}
	may, ok := p.callers[id.Name]
	if !ok {
		return who, notPermitted(id.Name + " is not on the list of callers")
	}
	who.Role, who.PINKeys, who.Keys = decrypt.RoleAcquirerHost, may.zones, may.keys
	return who, nil
}

func notPermitted(detail string) error {
	return &decrypt.Refusal{Code: decrypt.CodeRoleNotPermitted, Detail: detail}
}
