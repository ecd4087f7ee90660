package vault_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
)

const tenant = "ACME"

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func phrase(t testing.TB) secret.Bytes {
	p := secret.From([]byte("correct horse battery"))
	t.Cleanup(p.Wipe)
	return p
}

// root is the authority of terminals that certifies the issuers in Vault. Making one seals two keys, so tests share it.
var root = sync.OnceValues(func() (*authority, error) {
	dir, err := os.MkdirTemp("", "latchkey-vault-")
	if err != nil {
		return nil, err
	}
	scratch = dir
	a := &authority{folder: filepath.Join(dir, "ca")}
	p := secret.From([]byte("correct horse battery"))
	defer p.Wipe()
	i, err := embedded.Create(a.folder, embedded.Terminals, p, nil)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	a.roots = x509.NewCertPool()
	a.roots.AddCert(i.Root())
	return a, nil
})

type authority struct {
	folder string
	roots  *x509.CertPool
}

// scratch is the folder of that authority, once there is one; it is read when all tests are over.
var scratch string

func TestMain(m *testing.M) {
	code := m.Run()
	if scratch != "" {
		_ = os.RemoveAll(scratch) // a leftover harms nobody
	}
	os.Exit(code)
}

// place is a Vault that was set up under names of its own.
type place struct {
	*vaulttest.Server
	plan     vault.Plan
	options  vault.SetupOptions
	prepared *vault.Prepared
}

// prepare sets a Vault up.
func prepare(t testing.TB, s *vaulttest.Server) *place {
	t.Helper()
	p := &place{Server: s, plan: vault.Plan{Tenant: tenant, Mount: s.Name("pki"), Role: s.Name("terminals"), AppRole: s.Name("approle")}}
	p.options = setupOptions(t, s)
	p.prepared = must[*vault.Prepared](t)(vault.Setup(t.Context(), p.plan, p.options))
	return p
}

func setupOptions(t testing.TB, s *vaulttest.Server) vault.SetupOptions {
	t.Helper()
	a := must[*authority](t)(root())
	token := secret.From([]byte(s.Token))
	t.Cleanup(token.Wipe)
	return vault.SetupOptions{
		Server: vault.Server{Address: s.Address}, Token: token, Roots: a.roots,
		Sign: func(csr []byte) ([]*x509.Certificate, error) {
			return embedded.CertifyIssuing(a.folder, phrase(t), csr, embedded.Options{})
		},
	}
}

// secretIDFile has Vault wrap a secret-id, and writes the wrapping token to a file.
func (p *place) secretIDFile(t testing.TB) string {
	t.Helper()
	token := must[secret.Bytes](t)(vault.WrapSecretID(t.Context(), p.plan, p.options, time.Minute))
	defer token.Wipe()
	file := filepath.Join(t.TempDir(), "secret-id")
	writeSecret(t, file, string(token.Expose()))
	return file
}

func writeSecret(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open makes an issuer that logs in by AppRole with a wrapped secret-id. change, if not nil, adapts it.
func (p *place) open(t testing.TB, change func(*vault.Options)) *vault.Issuer {
	t.Helper()
	o := vault.Options{
		Server: vault.Server{Address: p.Address}, Mount: p.plan.Mount, Role: p.plan.Role, Chain: p.prepared.Chain,
		Login: &vault.AppRole{Mount: p.plan.AppRole, RoleID: p.prepared.RoleID, SecretIDFile: p.secretIDFile(t), Wrapped: true},
	}
	if change != nil {
		change(&o)
	}
	i := must[*vault.Issuer](t)(vault.New(o))
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// run has the issuer stay logged in until the end of the test.
func run(t testing.TB, i *vault.Issuer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
