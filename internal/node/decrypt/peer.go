package decrypt

import (
	"net"
	"net/http"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// permissions say which acquirer hosts of the tenant are served and with which zone keys.
type permissions struct {
	tenant  keyset.TenantID
	callers map[string][]keyset.KeyRef
}

func newPermissions(c Config) (*permissions, error) {
	p := &permissions{tenant: keyset.TenantID(c.Tenant), callers: make(map[string][]keyset.KeyRef, len(c.Callers))}
	for _, caller := range c.Callers {
		refs, err := caller.keys()
		if err != nil {
			return nil, err
		}
		p.callers[caller.Name] = refs
	}
	return p, nil
}

// caller says who sends a request, by its verified certificate and by nothing else.
func (p *permissions) caller(r *http.Request) (decrypt.Caller, error) {
	if r.TLS == nil {
		return decrypt.Caller{}, notPermitted("the connection is not TLS")
	}
	id, _, err := tlsconf.Peer(*r.TLS)
	if err != nil {
		return decrypt.Caller{}, notPermitted("no certificate of ours")
	}
	if id.Role != identity.AcquirerHost {
		return decrypt.Caller{}, notPermitted("role " + id.Role.String())
	}
	if keyset.TenantID(id.Tenant) != p.tenant {
		return decrypt.Caller{}, notPermitted("a caller of another tenant")
	}
	refs, ok := p.callers[id.Name]
	if !ok {
		return decrypt.Caller{}, notPermitted(id.Name + " is not on the list of callers")
	}
	source, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		source = "" // no address to record
	}
	return decrypt.Caller{
		Tenant: p.tenant, Name: id.Name, Role: decrypt.RoleAcquirerHost, PINKeys: refs, Source: source,
	}, nil
}

func notPermitted(detail string) error {
	return &decrypt.Refusal{Code: decrypt.CodeRoleNotPermitted, Detail: detail}
}
