package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	tenant         = "ACME"
	passphraseText = "correct horse battery staple"
)

// acquirers are the two hosts of one tenant.
var acquirers = []string{"ACQ-1", "ACQ-2"}

// site is a deployment on disk with terminals, and the credentials of its acquirers.
type site struct {
	dir, config string
	trust       tlsconf.Trust
	credentials map[string]*tlsconf.Credential
	terminals   []*rogue.Terminal
}

func newSite(t *testing.T, terminals int) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pos")
	pass := secret.From([]byte(passphraseText))
	d, err := deploy.Create(dir, deploy.Options{Tenant: tenant, Environment: keyset.Test, Passphrase: pass})
	check(t, err)
	defer d.Close()
	check(t, sample.Prepare(d, keyset.DeliveryNone))
	s := &site{dir: dir, config: filepath.Join(dir, "e2e.yaml"), credentials: make(map[string]*tlsconf.Credential)}
	s.trust, err = d.Trust()
	check(t, err)
	for _, name := range acquirers {
		s.credentials[name], err = tlsconf.NewCredential(certify(t, d, name))
		check(t, err)
	}
	for i := range terminals {
		scheme := dukpt.AES
		if i%4 == 3 {
			scheme = dukpt.TDES
		}
		bundle, err := sample.Terminal(t.Context(), d, keyset.TerminalID(fmt.Sprintf("T-%03d", i)), scheme, "https://127.0.0.1:1")
		check(t, err)
		r, err := rogue.New(bundle)
		check(t, err)
		t.Cleanup(r.Close)
		s.terminals = append(s.terminals, r)
	}
	passFile := filepath.Join(dir, "passphrase")
	check(t, os.WriteFile(passFile, []byte(passphraseText+"\n"), 0o600))
	var b strings.Builder
	fmt.Fprintf(&b, "tenant: %s\nenvironment: test\npassphrase-file: passphrase\ndatabase: claims.db\ncheckpoint-every: 1s\ncallers:\n", tenant)
	for _, name := range acquirers {
		fmt.Fprintf(&b, "  - name: %s\n    pin-keys: [%s, %s]\n", name, sample.ZoneTDES, sample.ZoneAES)
	}
	check(t, os.WriteFile(s.config, []byte(b.String()), 0o600))
	return s
}

// certify issues a certificate of an acquirer host.
func certify(t *testing.T, d *deploy.Deployment, name string) tls.Certificate {
	t.Helper()
	id, err := identity.New(tenant, identity.AcquirerHost, name)
	check(t, err)
	issuer, err := d.Issuer(identity.ServicesCA)
	check(t, err)
	key := newKey(t)
	chain, err := issuer.Issue(t.Context(), ca.Request{PublicKey: key.Public(), Identity: id, DNSNames: []string{"localhost"}})
	check(t, err)
	return tls.Certificate{Certificate: ders(chain), PrivateKey: key, Leaf: chain[0]}
}

// client returns a client of an acquirer for the service at addr. It shares no connection with others.
func (s *site) client(t *testing.T, acquirer, addr string) *api.Client {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: s.credentials[acquirer], Trust: s.trust, ServerRole: identity.Decrypt, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return api.NewClient("https://"+addr, &http.Client{Transport: transport})
}

// start runs a decryption service on the site with planted faults, and waits until it is ready.
func (s *site) start(t *testing.T, binary string, planted ...string) *service {
	t.Helper()
	d := newService("latchkey-decryptd", s.config, "listen", "admin")
	d.start(t, binary, planted...)
	return d
}

// output runs a program to its end.
func output(ctx context.Context, env []string, name string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		return out.String(), err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
