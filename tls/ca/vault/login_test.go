package vault_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// TestTokenRevoked takes the token of the service away in a real Vault: the next call logs in again, and nobody notices.
func TestTokenRevoked(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	works(t, i, "before")
	if n := front.count("/login"); n != 1 {
		t.Fatalf("%d logins, want one", n)
	}
	p.Must("PUT", "sys/leases/revoke-prefix/auth/"+p.plan.AppRole+"/login", nil)
	front.count("")
	works(t, i, "after the token was revoked")
	if logins, calls := front.count("/login"), front.count("/sign"); logins != 1 || calls != 2 {
		t.Errorf("%d logins and %d calls, want one, and two: the second with the new token", logins, calls)
	}
	if i.Resting() {
		t.Error("it rests")
	}
}

// TestForbidden takes the policy away: one login more for each call, then rest, and Health says what is wrong.
func TestForbidden(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	works(t, i, "before")
	if err := i.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Must("PUT", "sys/policies/acl/"+p.plan.Role, map[string]any{"policy": `path "sys/capabilities-self" { capabilities = ["update"] }`})
	front.count("")
	away(t, i, "status 403")
	if logins, calls := front.count("/login"), front.count("/sign"); logins != 1 || calls != 2 {
		t.Errorf("%d logins and %d calls, want one and two", logins, calls)
	}
	if err := i.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "do not allow to sign") {
		t.Errorf("health: %v", err)
	}
	away(t, i, "status 403")
	away(t, i, "status 403")
	away(t, i, "failed 3 times in a row")
	if _, err := vault.Setup(t.Context(), p.plan, p.options); err != nil {
		t.Fatal(err)
	}
	rested(t, i)
}

// TestShortTokens has tokens that live for two seconds, and for four at most, and asks all the time for several lives.
func TestShortTokens(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	role := "auth/" + p.plan.AppRole + "/role/" + p.plan.Role
	p.Must("POST", role, map[string]any{"token_ttl": 2, "token_max_ttl": 4})
	run(t, i)
	deadline := time.Now().Add(time.Minute)
	logins, renewals := 0, 0
	for calls := 0; logins < 4 || renewals < 2; calls++ {
		works(t, i, fmt.Sprintf("call %d, after %d logins and %d renewals", calls, logins, renewals))
		logins += front.count("/login")
		renewals += front.count("/renew-self")
		if time.Now().After(deadline) {
			t.Fatalf("%d logins and %d renewals in a minute, want four and two", logins, renewals)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d logins and %d renewals", logins, renewals)
}

// TestOneLogin: many callers without a token log in once.
func TestOneLogin(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, func(o *vault.Options) { o.Concurrent = 20; o.Timeout = 10 * time.Second })
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			if _, err := i.Issue(t.Context(), request(fmt.Sprintf("T-%d", n))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := front.count("/login"); n != 1 {
		t.Errorf("%d logins, want one", n)
	}
}

// memory is a vault.Keeper.
type memory struct {
	mu     sync.Mutex
	kept   []byte
	unable error // what Ready says
	full   bool  // Save fails
}

func (m *memory) Load() (secret.Bytes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		return secret.Bytes{}, fs.ErrNotExist
	}
	return secret.From(m.kept), nil
}

func (m *memory) Ready() error { return m.unable }

func (m *memory) Save(s secret.Bytes) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errors.New("the disk is full now")
	}
	m.kept = append([]byte(nil), s.Expose()...)
	return nil
}

// appRole is a way to log in with a wrapping token in a file.
func (p *place) appRole(file string, keep vault.Keeper) *vault.AppRole {
	return &vault.AppRole{Mount: p.plan.AppRole, RoleID: p.prepared.RoleID, SecretIDFile: file, Wrapped: true, Keep: keep}
}

// TestWrapping follows a secret-id through two starts of the service, and a new one.
func TestWrapping(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	file, keep := p.secretIDFile(t), new(memory)
	first := p.open(t, func(o *vault.Options) { o.Login = p.appRole(file, keep) })
	works(t, first, "the first start")
	again := p.open(t, func(o *vault.Options) { o.Login = p.appRole(file, keep) })
	works(t, again, "a restart, with the spent token")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	works(t, p.open(t, func(o *vault.Options) { o.Login = p.appRole(file, keep) }), "a restart without the file")

	p.Must("PUT", "sys/leases/revoke-prefix/auth/"+p.plan.AppRole+"/login", nil)
	renewed := p.secretIDFile(t)
	i := p.open(t, func(o *vault.Options) { o.Login = p.appRole(renewed, &memory{unable: errors.New("the disk is full")}) })
	away(t, i, "the disk is full") // and the token is not spent
	full := &memory{full: true}
	i = p.open(t, func(o *vault.Options) { o.Login = p.appRole(renewed, full) })
	away(t, i, "the disk is full now") // the token is spent, and the secret-id is in this process
	full.mu.Lock()
	full.full = false
	full.mu.Unlock()
	works(t, i, "when there is room")
	works(t, p.open(t, func(o *vault.Options) { o.Login = p.appRole(renewed, full) }), "a restart after that")

	renewed = p.secretIDFile(t)
	works(t, p.open(t, func(o *vault.Options) { o.Login = p.appRole(renewed, keep) }), "a new secret-id")

	forgetful := p.open(t, func(o *vault.Options) { o.Login = p.appRole(renewed, nil) })
	_, err := forgetful.Issue(t.Context(), request("T-1"))
	if !errors.Is(err, vault.ErrUnwrap) {
		t.Errorf("a spent token, and nothing kept: %v, want ErrUnwrap", err)
	}
	if err := p.open(t, func(o *vault.Options) { o.Login = p.appRole(file, nil) }).Health(t.Context()); err == nil {
		t.Error("without the file it is healthy")
	}
}

// TestWrappingOfAnother: a token that wraps something else is not unwrapped, and a secret-id of somebody else's is not used.
func TestWrappingOfAnother(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Own(t))
	token := p.wrap(t, "sys/wrapping/wrap", map[string]any{"secret_id": "that-of-a-thief"})
	file := filepath.Join(t.TempDir(), "secret-id")
	writeSecret(t, file, token)
	i := p.open(t, func(o *vault.Options) { o.Login = p.appRole(file, nil) })
	if _, err := i.Issue(t.Context(), request("T-1")); !errors.Is(err, vault.ErrUnwrap) || !strings.Contains(err.Error(), "sys/wrapping/wrap") {
		t.Errorf("a token that wraps something else: %v, want ErrUnwrap with where it is from", err)
	}
	if _, err := p.Do(t.Context(), "POST", "sys/wrapping/unwrap", map[string]any{"token": token}); err != nil {
		t.Errorf("it was unwrapped: %v", err)
	}
}

// wrap has Vault wrap the answer to something.
func (p *place) wrap(t testing.TB, path string, body map[string]any) string {
	t.Helper()
	info, err := p.DoWith(t.Context(), http.Header{"X-Vault-Wrap-TTL": {"60s"}}, "POST", path, body)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := info["token"].(string)
	return token
}

// TestSecretFiles breaks the file of the secret in every way.
func TestSecretFiles(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"open to others": {"s.0123456789\n", 0o644, "want 0600"}, "empty": {"", 0o600, "length"}, "two lines": {"s.0123456789\ns.0123456789\n", 0o600, "more than one line"},
		"too long": {strings.Repeat("x", 5000), 0o600, "length"}, "no text": {"\x00\x01\x02\x03\x04\x05\x06\x07\x08\n", 0o600, "more than one line"},
	} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(tc.text), tc.mode); err != nil {
			t.Fatal(err)
		}
		for what, login := range map[string]vault.Login{
			"secret-id": &vault.AppRole{Mount: p.plan.AppRole, RoleID: p.prepared.RoleID, SecretIDFile: file},
			"wrapped":   p.appRole(file, nil), "token": &vault.TokenFile{File: file},
		} {
			_, err := p.open(t, func(o *vault.Options) { o.Login = login }).Issue(t.Context(), request("T-1"))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s, %s: %v, want that it says %q", what, name, err, tc.says)
			}
		}
	}
}

// TestPlainSecretID logs in with a secret-id that is in the file itself, and with another one once that is in its place.
func TestPlainSecretID(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	role, file := "auth/"+p.plan.AppRole+"/role/"+p.plan.Role, filepath.Join(t.TempDir(), "secret-id")
	made := p.Must("POST", role+"/secret-id", nil)
	writeSecret(t, file, made["secret_id"].(string))
	i := p.open(t, func(o *vault.Options) {
		o.Login = &vault.AppRole{Mount: p.plan.AppRole, RoleID: p.prepared.RoleID, SecretIDFile: file}
	})
	works(t, i, "with a secret-id")
	p.Must("POST", role+"/secret-id-accessor/destroy", map[string]any{"secret_id_accessor": made["secret_id_accessor"]})
	p.Must("PUT", "sys/leases/revoke-prefix/auth/"+p.plan.AppRole+"/login", nil)
	away(t, i, "invalid role or secret ID")
	writeSecret(t, file, p.Must("POST", role+"/secret-id", nil)["secret_id"].(string))
	works(t, i, "with another one in its place")
}

// TestTokenFile logs in with a token that somebody else looks after.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	token := func() string {
		made := p.Must("POST", "auth/token/create", map[string]any{"policies": []string{p.plan.Role}, "no_default_policy": true, "ttl": "1h"})
		return made["client_token"].(string)
	}
	file := filepath.Join(t.TempDir(), "token")
	first := token()
	writeSecret(t, file, first)
	i := p.open(t, func(o *vault.Options) { o.Login = &vault.TokenFile{File: file} })
	run(t, i)
	works(t, i, "with a token")
	p.Must("POST", "auth/token/revoke", map[string]any{"token": first})
	away(t, i, "status 403")
	writeSecret(t, file, token())
	rested(t, i)
	if err := i.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCertificate logs in over TLS with the certificate of the registration authority, and reaches nobody over TLS whose
// certificate is not from the authority that was named.
func TestCertificate(t *testing.T) {
	t.Parallel()
	server, authority := vaulttest.TLS(t)
	services := must[*catest.Fake](t)(catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now))
	credential := serviceCredential(t, services, identity.RA)
	p := &place{Server: server, plan: vault.Plan{Tenant: tenant}, options: setupOptions(t, server)}
	p.options.Server.TLS = outside(t, authority, nil)
	p.prepared = must[*vault.Prepared](t)(vault.Setup(t.Context(), p.plan, p.options))
	server.Must("POST", "sys/auth/cert", map[string]any{"type": "cert"})
	server.Must("POST", "auth/cert/certs/registration", map[string]any{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: services.Chain()[1].Raw})), "allowed_uri_sans": []string{"latchkey://" + tenant + "/ra/*"},
		"token_policies": []string{vault.DefaultRole}, "token_no_default_policy": true,
	})
	open := func(server vault.Server) *vault.Issuer {
		o := vault.Options{Server: server, Chain: p.prepared.Chain, Login: &vault.Certificate{Name: "registration"}}
		i := must[*vault.Issuer](t)(vault.New(o))
		t.Cleanup(func() { _ = i.Close() })
		return i
	}
	i := open(vault.Server{Address: server.Address, TLS: outside(t, authority, credential)})
	run(t, i)
	works(t, i, "with the certificate of the service")
	if err := i.Health(t.Context()); err != nil {
		t.Error(err)
	}
	away(t, open(vault.Server{Address: server.Address, TLS: outside(t, authority, serviceCredential(t, services, identity.AcquirerHost))}), "status 400")
	away(t, open(vault.Server{Address: server.Address, TLS: outside(t, authority, nil)}), "status 400")
	away(t, open(vault.Server{Address: server.Address, TLS: must[*tls.Config](t)(tlsconf.Outside(tlsconf.OutsideOptions{Credential: credential}))}), "certificate")
}

// outside makes the TLS configuration for a Vault whose authority is in a file.
func outside(t testing.TB, authority string, c *tlsconf.Credential) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(authority))) {
		t.Fatal("no authority")
	}
	return must[*tls.Config](t)(tlsconf.Outside(tlsconf.OutsideOptions{Roots: roots, Credential: c}))
}

func serviceCredential(t testing.TB, issuer ca.Issuer, role identity.Role) *tlsconf.Credential {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	chain := must[[]*x509.Certificate](t)(issuer.Issue(t.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: "ONE"},
	}))
	cert := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return must[*tlsconf.Credential](t)(tlsconf.NewCredential(cert))
}

// TestEnvironment sets the variables of Vault's own tools against us. It is not parallel.
func TestEnvironment(t *testing.T) {
	p, front, i := laboratory(t, nil)
	works(t, i, "before")
	for name, value := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "somebody-elses", "VAULT_NAMESPACE": "elsewhere", "VAULT_MAX_RETRIES": "9",
		"VAULT_HEADERS": `{"X-Custom":"evil"}`, "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	i = p.open(t, func(o *vault.Options) { o.Server.Address = front.URL })
	front.set(func(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		if r.Header.Get("X-Custom") != "" || r.Header.Get("X-Vault-Namespace") != "" || r.Header.Get("X-Vault-Token") == "somebody-elses" {
			t.Errorf("the environment speaks: %v", r.Header)
		}
		return false
	})
	works(t, i, "with an environment")
	front.set(at("/sign/", says(http.StatusInternalServerError, `{"errors":["no"]}`)))
	front.count("")
	away(t, i, "status 500")
	if n := front.count("/sign"); n != 1 {
		t.Errorf("%d calls, want one: nothing is repeated", n)
	}
}

// TestRedirect: a token goes to the address that was named, and to no other.
func TestRedirect(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, nil)
	works(t, i, "before")
	thief := newProxy(t, "http://127.0.0.1:1")
	front.set(at("/sign/", func(w http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) bool {
		http.Redirect(w, r, thief.URL+(&url.URL{Path: r.URL.Path}).String(), http.StatusTemporaryRedirect)
		return true
	}))
	if issued, err := i.Issue(t.Context(), request("T-1")); err == nil {
		t.Errorf("issued %v", issued)
	}
	if n := thief.count(""); n != 0 {
		t.Errorf("%d calls went elsewhere", n)
	}
}

// TestNobodyListens is about addresses where nobody is: it is known at once.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	address := "http://" + ln.Addr().String()
	_ = ln.Close()
	i := p.open(t, func(o *vault.Options) { o.Server.Address = address })
	away(t, i, "connection refused")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("health: %v", err)
	}
}
