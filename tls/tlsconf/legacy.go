package tlsconf

import (
	"crypto/tls"
	"errors"
	"slices"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// legacySuites are those of TLS 1.2 with a fresh agreement and authenticated encryption; keys of ours are elliptic, so are these.
var legacySuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// LegacyServer makes the configuration of a listener for terminals whose EST client has no TLS 1.3. It judges peers as Server does.
// It speaks TLS 1.2 and nothing else, for whoever has 1.3 has another listener; agrees on keys by ECDHE and protects what is sent by
// an AEAD; and resumes no session (RFC 5246, 7.3, and RFC 5077), as a session without the extended master secret of RFC 7627 is not
// bound to the certificates that it began with. For the same reason nothing that needs a channel binding may be served there. In TLS
// 1.2 certificates of peers pass in the clear. Records are as long as what is written at once: strongSwan takes what is left of an
// answer from one record.
func LegacyServer(o ServerOptions) (*tls.Config, error) {
	if !slices.Equal(o.Accept, []identity.Role{identity.Terminal}) {
		return nil, errors.New("tlsconf: TLS 1.2 is for terminals that enrol, and for no other role")
	}
	c, err := Server(o)
	if err != nil {
		return nil, err
	}
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	c.CipherSuites = slices.Clone(legacySuites)
	c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.SessionTicketsDisabled = true
	c.DynamicRecordSizingDisabled = true
	return c, nil
}
