package terminal

import "github.com/latchkey-pos/latchkey/tls/tlsconf"

// Credential returns what the terminal shows in TLS, for connections that firmware makes beside the link. Renew replaces
// the certificate in it. It prints the identity only, and its key cannot be taken out.
func (t *Terminal) Credential() *tlsconf.Credential { return t.credential }
