package e2e

import (
	"crypto/tls"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// authority is a deployment with its registration authority and its key-distribution host, as processes.
type authority struct {
	dir    string
	trust  tlsconf.Trust
	keyd   *service
	ra     *service
	second *service // another registration authority on the database of ra; nil: none

	operator *http.Client // as an operator
	decrypt  *http.Client // as the decryption service
	list     *trustlist.List
}

// emptyAuthority makes an authority without key sets, and its deployment, which the caller closes.
func emptyAuthority(t *testing.T, environment keyset.Environment) (*authority, *deploy.Deployment) {
	t.Helper()
	a := &authority{dir: filepath.Join(t.TempDir(), "pos")}
	d, err := deploy.Create(a.dir, deploy.Options{Tenant: tenant, Environment: environment, Passphrase: secret.From([]byte(passphraseText))})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(a.dir, "passphrase"), []byte(passphraseText+"\n"), 0o600))
	a.trust, err = d.Trust()
	check(t, err)
	doc, pin, err := d.TrustList()
	check(t, err)
	a.list, err = trustlist.Open(doc, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{pin}})
	check(t, err)
	a.keyd = newService("latchkey-keyd", filepath.Join(a.dir, deploy.KeydFile), "listen", "admin")
	a.ra = newService("latchkey-provisiond", filepath.Join(a.dir, deploy.ProvisiondFile), "terminals", "services", "publication", "admin")
	return a, d
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a, d := emptyAuthority(t, keyset.Test)
	defer d.Close()
	check(t, sample.Prepare(d, keyset.Code))
	person, err := d.Operator(deploy.FirstOperator)
	check(t, err)
	a.operator = a.as(t, person.TLS(), identity.RA)
	cert, err := d.ServiceCredential(deploy.ServiceDecrypt)
	check(t, err)
	a.decrypt = a.as(t, cert, identity.RA)
	return a
}

// as calls a service with a certificate.
func (a *authority) as(t *testing.T, cert tls.Certificate, server identity.Role) *http.Client {
	t.Helper()
	c, err := tlsconf.NewCredential(cert)
	check(t, err)
	config, err := tlsconf.Client(tlsconf.ClientOptions{Credential: c, Trust: a.trust, ServerRole: server, Gate: tlsconf.OpenGate()})
	check(t, err)
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}
}

// start starts both, the key-distribution host first.
func (a *authority) start(t *testing.T, binary string, planted ...string) {
	t.Helper()
	a.keyd.start(t, binary, planted...)
	a.ra.args = []string{"--keyd", "https://" + a.keyd.doors["listen"]}
	a.ra.start(t, binary, planted...)
}

func (a *authority) admin() *admin.Client {
	return admin.NewClient("https://"+a.either().doors["services"], a.operator)
}

// either is one of the registration authorities, by chance.
func (a *authority) either() *service {
	if a.second != nil && mathrand.IntN(2) == 0 {
		return a.second
	}
	return a.ra
}

// sealerOf is the test sealer of a terminal's folder.
func sealerOf(f terminal.FS) (terminal.Sealer, error) {
	s, err := terminal.OpenInsecureFile(f)
	if errors.Is(err, os.ErrNotExist) {
		return terminal.CreateInsecureFile(f)
	}
	return s, err
}
