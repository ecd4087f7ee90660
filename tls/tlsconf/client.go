package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ClientOptions say who connects and to whom. Credential, Trust, ServerRole and Gate are required; a visitor has no
// Credential.
type ClientOptions struct {
	Credential *Credential   // of a role that opens connections
	Visitor    bool          // shows no certificate, because it has none yet: for enrolment
	Trust      Trust         // with roots for the authority of the server's role
	ServerRole identity.Role // a role that serves
	// ServerName is the host name or address that the server's certificate must carry. Empty leaves it to the dialler,
	// as net/http does for each address; a dialler that does not set it gets an error from crypto/tls.
	ServerName string
	// ServerIdentity, if not nil, is the only identity that is accepted. Nil accepts every holder of the role.
	ServerIdentity *identity.Identity
	Gate           Gate             // nil is refused; OpenGate admits every server
	Clock          func() time.Time // time.Now when nil
	// Classical leaves the hybrid key exchanges with ML-KEM out: some 1.2 KB less each way of a handshake, for thin links,
	// and no protection against who records today and has a quantum computer later.
	Classical bool
}

// classical are the key exchanges without ML-KEM, in order of preference.
var classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}

// Client makes the configuration of the end that connects. The server's certificate must verify under the authority of
// ServerRole, carry the host name and the role, and pass the gate. Sessions are not kept: a resumed one would show the
// server the certificate from before a rotation, and sends more bytes than a full handshake.
func Client(o ClientOptions) (*tls.Config, error) {
	if err := o.checkCredential(); err != nil {
		return nil, err
	}
	if o.Gate == nil {
		return nil, errors.New("tlsconf: a client needs a gate; OpenGate admits every server")
	}
	if !o.ServerRole.Server() {
		return nil, fmt.Errorf("tlsconf: role %q does not serve", o.ServerRole)
	}
	var want identity.Identity
	if o.ServerIdentity != nil {
		want = *o.ServerIdentity
		if want.Role != o.ServerRole {
			return nil, fmt.Errorf("tlsconf: %v does not have role %s", want, o.ServerRole)
		}
	}
	pool, err := o.Trust.pool(o.ServerRole.Authority())
	if err != nil {
		return nil, err
	}
	verify := func(cs tls.ConnectionState) error {
		return judge(cs, o.Trust, o.Gate, func(id identity.Identity) error {
			if id.Role != o.ServerRole {
				return fmt.Errorf("%w: server has role %s, want %s", ErrRefused, id.Role, o.ServerRole)
			}
			if !want.IsZero() && id != want {
				return fmt.Errorf("%w: server is %v, want %v", ErrRefused, id, want)
			}
			return nil
		})
	}
	config := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		RootCAs:          pool,
		ServerName:       o.ServerName,
		VerifyConnection: verify,
		Time:             o.Clock,
	}
	if !o.Visitor {
		config.GetClientCertificate = o.Credential.forClient
	}
	if o.Classical {
		config.CurvePreferences = slices.Clone(classical)
	}
	return config, nil
}

func (o ClientOptions) checkCredential() error {
	if o.Visitor {
		if o.Credential != nil {
			return errors.New("tlsconf: a visitor shows no credential")
		}
		return nil
	}
	if !o.Credential.valid() {
		return errors.New("tlsconf: a client needs a credential")
	}
	if role := o.Credential.Identity().Role; !role.Client() {
		return fmt.Errorf("tlsconf: a certificate of role %s cannot open connections", role)
	}
	return nil
}
