package deploy

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

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

// The checkpoint key is one that golang.org/x/mod/sumdb/note takes.
func TestCheckpointKey(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	key, err := d.CheckpointKey()
	must(t, err)
	defer key.Wipe()
	signer, err := note.NewSigner(string(key.Expose()))
	must(t, err)
	text, err := d.CheckpointVerifier()
	must(t, err)
	verifier, err := note.NewVerifier(text)
	must(t, err)
	signed, err := note.Sign(&note.Note{Text: "latchkey\n1\n"}, signer)
	must(t, err)
	n, err := note.Open(signed, note.VerifierList(verifier))
	must(t, err)
	if len(n.Sigs) != 1 || n.Sigs[0].Name != "latchkey/ACME/decryptd" {
		t.Errorf("signatures %v", n.Sigs)
	}
	if _, err := note.Open([]byte(strings.Replace(string(signed), "1", "2", 1)), note.VerifierList(verifier)); err == nil {
		t.Error("an altered note verifies")
	}
}
