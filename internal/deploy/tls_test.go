package deploy

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

func credential(t *testing.T, d *Deployment, name string) *tlsconf.Credential {
	t.Helper()
	cert, err := d.ServiceCredential(name)
	must(t, err)
	c, err := tlsconf.NewCredential(cert)
	must(t, err)
	return c
}

// The acquirer of a deployment reaches its decryption service, and that of another deployment does not.
func TestServicesConnect(t *testing.T) {
	t.Parallel()
	here, there := deployment(t, keyset.Test), deployment(t, keyset.Production)
	trust, err := here.Trust()
	must(t, err)
	server, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential(t, here, ServiceDecrypt), Trust: trust, Accept: []identity.Role{identity.AcquirerHost}, Gate: tlsconf.OpenGate(),
	})
	must(t, err)
	for name, tt := range map[string]struct {
		from *Deployment
		want bool
	}{"own acquirer": {here, true}, "acquirer of another deployment": {there, false}} {
		client, err := tlsconf.Client(tlsconf.ClientOptions{
			Credential: credential(t, tt.from, ServiceAcquirer), Trust: trust, ServerRole: identity.Decrypt, ServerName: "localhost", Gate: tlsconf.OpenGate(),
		})
		must(t, err)
		a, b := net.Pipe()
		done := make(chan error, 1)
		srv := tls.Server(a, server)
		go func() { done <- srv.HandshakeContext(t.Context()) }()
		cli := tls.Client(b, client)
		cerr := cli.HandshakeContext(t.Context())
		if cerr != nil {
			b.Close()
		} else if !tt.want {
			_, _ = cli.Read(make([]byte, 1)) // takes the server's alert, so that its handshake ends
		}
		serr := <-done
		a.Close()
		b.Close()
		if got := cerr == nil && serr == nil; got != tt.want {
			t.Errorf("%s: client %v, server %v", name, cerr, serr)
		}
		if tt.want {
			id, serial, err := tlsconf.Peer(srv.ConnectionState())
			if err != nil || id.String() != "latchkey://ACME/acquirer-host/ACQ-1" || serial == "" {
				t.Errorf("the caller is %v with serial %q, %v", id, serial, err)
			}
		}
	}
}

// The two halves of the checkpoint key belong together.
func TestCheckpointKey(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	key, err := d.CheckpointKey()
	must(t, err)
	defer key.Wipe()
	signer, err := audit.NewSigner(string(key.Expose()))
	must(t, err)
	text, err := d.CheckpointVerifier()
	must(t, err)
	verifier, err := audit.NewVerifier(text)
	must(t, err)
	signed, err := signer.Sign(audit.Tree{})
	must(t, err)
	if _, err := verifier.Open(signed); err != nil || signer.Name() != "latchkey/ACME/decryptd" || verifier.Name() != signer.Name() {
		t.Errorf("%s and %s: %v", signer.Name(), verifier.Name(), err)
	}
	other := deployment(t, keyset.Production)
	text, err = other.CheckpointVerifier()
	must(t, err)
	verifier, err = audit.NewVerifier(text)
	must(t, err)
	if _, err := verifier.Open(signed); err == nil {
		t.Error("the checkpoint of one deployment verifies in another")
	}
}
