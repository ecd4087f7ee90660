package vault

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	//go:embed policy.hcl
	policyTemplate string
	//go:embed role.json
	roleTemplate string
)

// Plan says what Setup makes in a Vault. Tenant is required. Everything in it is public.
type Plan struct {
	Tenant  string // whose terminals are certified
	Mount   string // of the PKI engine; empty: pki
	Role    string // of the PKI engine, and the name of the policy; empty: latchkey-terminals
	AppRole string // mount of the AppRole method; empty: approle
	// CIDRs, if not empty, are the networks that the registration authority logs in from and uses its token from.
	CIDRs []string
	// Public, if not empty, is how third parties reach Vault, http://HOST[:PORT] or https: it writes into certificates where its
	// revocation list and its OCSP are.
	Public string
}

// complete checks the plan and fills in the rest.
func (p *Plan) complete() error {
	p.Mount, p.Role, p.AppRole = cmp.Or(p.Mount, DefaultMount), cmp.Or(p.Role, DefaultRole), cmp.Or(p.AppRole, "approle")
	if _, err := identity.New(p.Tenant, identity.Terminal, "T"); err != nil {
		return fmt.Errorf("vault: tenant: %w", err)
	}
	if p.Public != "" {
		u, err := url.Parse(p.Public)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("vault: public address: want http://HOST:PORT or https")
		}
	}
	return errors.Join(CheckPath("mount", p.Mount), CheckName("role", p.Role), CheckPath("mount of AppRole", p.AppRole))
}

// Policy returns the policy of the issuer's token: policy.hcl with the names of the plan.
func (p Plan) Policy() (string, error) { return p.fill(policyTemplate) }

// PKIRole returns the role that terminals are certified under: role.json with the names of the plan.
func (p Plan) PKIRole() (string, error) { return p.fill(roleTemplate) }

// fill puts names into a template. They were checked: none can end a string.
func (p Plan) fill(template string) (string, error) {
	if err := p.complete(); err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"{{mount}}", p.Mount, "{{role}}", p.Role, "{{tenant}}", p.Tenant, "{{policy}}", identity.Terminal.ShortPolicy().String(),
	).Replace(template), nil
}
