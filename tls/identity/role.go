package identity

import (
	"crypto/x509"
	"fmt"
	"strconv"
)

// arc is 2.25.<UUID>.1 with the UUID c0327616-1630-4755-a8b7-1ebbcf9e7fa5 as an integer (ITU-T X.667). Role n is arc.n.
// Numbers are never used again for another meaning.
const arc = "2.25.255473785107850430713444776457459892133.1."

// shortArc is the same UUID below 1.2.840.113556.1.8000.2554, cut into numbers of 16 and 24 bits as Microsoft's script
// OIDGen cuts one: an arc that is set aside for that, so that it is nobody else's either. Role n is shortArc.n. Issuers that
// keep an arc in a machine word can write this spelling, and not the other one.
const shortArc = "1.2.840.113556.1.8000.2554.49202.30230.5680.18261.43191.2014159.10387365.1."

// Role says what the holder of a certificate may be. Its text is the second part of the identity URI.
type Role string

// The roles of protocol section 1.
const (
	Terminal     Role = "terminal"      // a payment terminal
	Operator     Role = "operator"      // a person who runs the system
	Custodian    Role = "custodian"     // a person who holds a share of a key
	Auditor      Role = "auditor"       // a person who reads and verifies the audit log
	AcquirerHost Role = "acquirer-host" // the customer's host, the caller of the decryption service
	RA           Role = "ra"            // the registration authority
	KDH          Role = "kdh"           // the key-distribution host
	Decrypt      Role = "decrypt"       // the decryption service
	Agreement    Role = "agreement"     // the key-agreement key of a terminal, which is never a TLS peer
)

// traits is everything that follows from a role.
type traits struct {
	role      Role
	number    int // last arc of the policy
	authority Authority
	client    bool
	server    bool
}

var table = []traits{
	{role: Terminal, number: 1, authority: TerminalCA, client: true},
	{role: Operator, number: 2, authority: ServicesCA, client: true},
	{role: Custodian, number: 3, authority: ServicesCA, client: true},
	{role: Auditor, number: 4, authority: ServicesCA, client: true},
	{role: AcquirerHost, number: 5, authority: ServicesCA, client: true, server: true},
	{role: RA, number: 6, authority: ServicesCA, client: true, server: true},
	{role: KDH, number: 7, authority: KeyDistCA, client: true, server: true},
	{role: Decrypt, number: 8, authority: ServicesCA, client: true, server: true},
	{role: Agreement, number: 9, authority: KeyDistCA},
}

// Roles returns every role, in the order of their policy numbers.
func Roles() []Role {
	out := make([]Role, len(table))
	for i, t := range table {
		out[i] = t.role
	}
	return out
}

// ParseRole reads the text of a role, exactly as it stands in an identity URI.
func ParseRole(s string) (Role, error) {
	if _, ok := Role(s).traits(); !ok {
		return "", fmt.Errorf("identity: unknown role %q", s)
	}
	return Role(s), nil
}

// String returns the text that ParseRole reads.
func (r Role) String() string { return string(r) }

// Policy returns the certificate policy (RFC 5280, 4.2.1.4) that marks certificates of this role. It is our own object
// identifier below 2.25.<UUID>. The role is a policy and not an extended key usage because crypto/x509 refuses every
// certificate whose extended key usage holds an arc of more than 31 bits. An unknown role has the zero OID, which no
// certificate carries.
func (r Role) Policy() x509.OID { return r.policy(arc) }

// ShortPolicy returns the second spelling of Policy, for issuers that cannot write the first: no arc of it has more than 31
// bits. It means the same on every certificate.
func (r Role) ShortPolicy() x509.OID { return r.policy(shortArc) }

// Policies returns both spellings, for a path validator. It is empty for an unknown role.
func (r Role) Policies() []x509.OID {
	if _, ok := r.traits(); !ok {
		return nil
	}
	return []x509.OID{r.Policy(), r.ShortPolicy()}
}

func (r Role) policy(arc string) x509.OID {
	t, ok := r.traits()
	if !ok {
		return x509.OID{}
	}
	oid, err := x509.ParseOID(arc + strconv.Itoa(t.number))
	if err != nil {
		return x509.OID{} // both arcs are constants, and a test parses them for every role
	}
	return oid
}

// Authority returns the only issuer that certificates of this role are accepted from, zero for an unknown role.
func (r Role) Authority() Authority {
	t, _ := r.traits()
	return t.authority
}

// Client reports whether holders of this role open connections, so that their certificates carry clientAuth.
func (r Role) Client() bool {
	t, _ := r.traits()
	return t.client
}

// Server reports whether holders of this role accept connections, so that their certificates carry serverAuth and may
// name hosts and addresses.
func (r Role) Server() bool {
	t, _ := r.traits()
	return t.server
}

func (r Role) traits() (traits, bool) {
	for _, t := range table {
		if t.role == r {
			return t, true
		}
	}
	return traits{}, false
}
