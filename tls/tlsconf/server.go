package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ServerOptions say who listens and who is let in. All fields but Visitors and Clock are required.
type ServerOptions struct {
	Credential *Credential     // of a role that serves
	Trust      Trust           // with roots for the authority of the accepted roles
	Accept     []identity.Role // roles that open connections, all from one authority
	Gate       Gate            // nil is refused; OpenGate admits everyone
	// Visitors lets peers in that show no certificate at all, for enrolment: Peer fails for them, so a handler that asks
	// it refuses them. A certificate that is shown is judged as ever.
	Visitors bool
	Clock    func() time.Time
}

// Server makes the configuration of a listener. Peers must show a certificate of an accepted role, issued by the
// authority of that role, and pass the gate; this is judged on every connection, also when a session is resumed. Clock
// is what certificates are judged by, time.Now when nil.
//
// The accepted roles come from one authority: a listener that served two would need their roots in one pool, and then
// each authority could open the door of the other.
func Server(o ServerOptions) (*tls.Config, error) {
	if !o.Credential.valid() {
		return nil, errors.New("tlsconf: a server needs a credential")
	}
	if role := o.Credential.Identity().Role; !role.Server() {
		return nil, fmt.Errorf("tlsconf: a certificate of role %s cannot serve", role)
	}
	if o.Gate == nil {
		return nil, errors.New("tlsconf: a server needs a gate; OpenGate admits everyone")
	}
	accept := slices.Clone(o.Accept)
	for _, role := range accept {
		if !role.Client() {
			return nil, fmt.Errorf("tlsconf: role %q opens no connections", role)
		}
	}
	pool, err := o.Trust.oneAuthority(accept)
	if err != nil {
		return nil, err
	}
	auth := tls.RequireAndVerifyClientCert
	if o.Visitors {
		auth = tls.VerifyClientCertIfGiven
	}
	verify := func(cs tls.ConnectionState) error {
		if o.Visitors && len(cs.PeerCertificates) == 0 {
			return nil
		}
		return judge(cs, o.Trust, o.Gate, func(id identity.Identity) error {
			if !slices.Contains(accept, id.Role) {
				return fmt.Errorf("%w: role %s is not accepted here", ErrRefused, id.Role)
			}
			return nil
		})
	}
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		GetCertificate:   o.Credential.forServer,
		ClientAuth:       auth,
		ClientCAs:        pool,
		VerifyConnection: verify,
		Time:             o.Clock,
	}, nil
}
