package vault_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// wrongRoles are changes to the role in Vault with which it signs something else than is asked for.
var wrongRoles = map[string]map[string]any{
	"a server":              {"server_flag": true},
	"code":                  {"code_signing_flag": true},
	"no client":             {"client_flag": false},
	"another key usage":     {"key_usage": []string{"DigitalSignature", "KeyEncipherment"}},
	"certificate signing":   {"key_usage": []string{"CertSign"}},
	"a foreign usage":       {"ext_key_usage_oids": []string{"1.3.6.1.4.1.311.20.2.2"}},
	"no policy":             {"policy_identifiers": []string{}},
	"another policy":        {"policy_identifiers": []string{identity.Operator.ShortPolicy().String()}},
	"two policies":          {"policy_identifiers": []string{identity.Terminal.ShortPolicy().String(), "1.2.3.4"}},
	"no basic constraints":  {"basic_constraints_valid_for_non_ca": false},
	"another organization":  {"organization": []string{"OTHER"}},
	"a country":             {"country": []string{"XX"}},
	"the name of a request": {"use_csr_common_name": true},
	"names of a request":    {"use_csr_sans": true, "allow_any_name": true},
	"a short life":          {"max_ttl": 3600, "ttl": 3600},
	"an early start":        {"not_before_duration": 1800},
}

// TestWrongRoles changes the role in a real Vault. Each certificate is refused and revoked, and nobody gets it.
func TestWrongRoles(t *testing.T) {
	t.Parallel()
	server := vaulttest.New(t)
	for name, change := range wrongRoles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, server.For(t))
			i := p.open(t, nil)
			works(t, i, "as it was set up")
			before := p.serials(t)
			p.Must("PATCH", p.plan.Mount+"/roles/"+p.plan.Role, change)
			issued, err := i.Issue(t.Context(), request("T-1"))
			if issued != nil || !errors.Is(err, ca.ErrMismatch) {
				t.Fatalf("got %v and %v, want a refusal", issued, err)
			}
			t.Log(err)
			for _, serial := range p.serials(t) {
				if !contains(before, serial) && !p.revoked(t, serial) {
					t.Errorf("certificate %s was refused and is not revoked", serial)
				}
			}
			if n := i.Refused(); n != 0 {
				t.Errorf("%d certificates wait for their revocation", n)
			}
		})
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// TestRefusingRoles changes the role so that Vault refuses: that is worth a minute, and no failure of Vault.
func TestRefusingRoles(t *testing.T) {
	t.Parallel()
	server := vaulttest.New(t)
	for name, change := range map[string]map[string]any{
		"another tenant": {"allowed_uri_sans": []string{"latchkey://OTHER/terminal/*"}},
		"no names":       {"allowed_uri_sans": []string{}},
		"a fixed end":    {"not_after": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)},
		"other keys":     {"key_type": "rsa", "key_bits": 2048},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, server.For(t))
			i := p.open(t, nil)
			p.Must("PATCH", p.plan.Mount+"/roles/"+p.plan.Role, change)
			for range 5 {
				if u := away(t, i, "status 400"); u.RetryAfter() < time.Minute {
					t.Errorf("come again in %v, want a minute or more", u.RetryAfter())
				}
			}
			if i.Resting() {
				t.Error("an answer counts as a failure")
			}
		})
	}
}

// TestRefusedIsRevokedLater: Vault signs wrongly, and dies before it can revoke that.
func TestRefusedIsRevokedLater(t *testing.T) {
	t.Parallel()
	p, front, i := laboratory(t, nil)
	works(t, i, "before")
	before := p.serials(t)
	p.Must("PATCH", p.plan.Mount+"/roles/"+p.plan.Role, map[string]any{"server_flag": true})
	front.set(at("/revoke", dead))
	if _, err := i.Issue(t.Context(), request("T-1")); !errors.Is(err, ca.ErrMismatch) {
		t.Fatal(err)
	}
	if n := i.Refused(); n != 1 {
		t.Fatalf("%d certificates wait for their revocation, want one", n)
	}
	front.set(nil)
	run(t, i)
	deadline := time.Now().Add(time.Minute)
	for i.Refused() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("it is never revoked")
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, serial := range p.serials(t) {
		if !contains(before, serial) && !p.revoked(t, serial) {
			t.Errorf("%s is not revoked", serial)
		}
	}
}

// TestPolicyIsNarrow tries with the token of the service what it must not do.
func TestPolicyIsNarrow(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Own(t))
	token, _ := p.Must("POST", "auth/token/create", map[string]any{"policies": []string{p.plan.Role}, "no_default_policy": true})["client_token"].(string)
	root := p.Token
	defer func() { p.Token = root }()
	p.Token = token
	may := func(method, path string, body map[string]any) error {
		_, err := p.Do(t.Context(), method, path, body)
		return err
	}
	csr := map[string]any{"csr": "x", "common_name": "T-1"}
	for _, tc := range []struct {
		method, path string
		body         map[string]any
	}{
		{"POST", p.plan.Mount + "/sign-verbatim", csr}, {"POST", p.plan.Mount + "/sign-verbatim/" + p.plan.Role, csr},
		{"POST", p.plan.Mount + "/issuer/default/sign-verbatim", csr}, {"POST", p.plan.Mount + "/issuer/default/sign/" + p.plan.Role, csr},
		{"POST", p.plan.Mount + "/issue/" + p.plan.Role, map[string]any{"common_name": "T-1"}},
		{"POST", p.plan.Mount + "/root/sign-intermediate", csr}, {"POST", p.plan.Mount + "/intermediate/generate/exported", nil},
		{"POST", p.plan.Mount + "/roles/" + p.plan.Role, map[string]any{"allow_any_name": true}},
		{"POST", p.plan.Mount + "/config/issuers", map[string]any{"default": "x"}}, {"LIST", p.plan.Mount + "/roles", nil}, {"GET", p.plan.Mount + "/roles/" + p.plan.Role, nil},
		{"POST", p.plan.Mount + "/sign/" + p.plan.Role, map[string]any{"csr": "x", "common_name": "T-1", "not_after": "2099-01-01T00:00:00Z"}},
		{"POST", p.plan.Mount + "/sign/" + p.plan.Role, map[string]any{"csr": "x", "common_name": "T-1", "alt_names": "evil.example"}},
		{"POST", p.plan.Mount + "/sign/" + p.plan.Role, map[string]any{"csr": "x", "exclude_cn_from_sans": false}},
		{"POST", p.plan.Mount + "/revoke", map[string]any{"certificate": "x"}},
		{"POST", "auth/token/create", nil}, {"GET", "sys/policies/acl/" + p.plan.Role, nil}, {"POST", "sys/seal", nil},
		{"POST", "auth/" + p.plan.AppRole + "/role/" + p.plan.Role + "/secret-id", nil},
	} {
		if err := may(tc.method, tc.path, tc.body); err == nil || !strings.Contains(err.Error(), "status 403") {
			t.Errorf("%s %s %v: %v, want 403", tc.method, tc.path, tc.body, err)
		}
	}
	err := may("POST", p.plan.Mount+"/sign/"+p.plan.Role, map[string]any{"csr": "x", "common_name": "T-1", "format": "der"})
	if err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("what it may do: %v, want 400 for what is no request", err)
	}
}

// TestQuota has a real Vault limit the rate: what it says about when to come again is believed.
func TestQuota(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Own(t))
	i := p.open(t, nil)
	works(t, i, "before")
	p.Must("POST", "sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": true})
	p.Must("POST", "sys/quotas/rate-limit/"+p.Name("q"), map[string]any{"path": p.plan.Mount + "/", "rate": 1, "interval": "1s", "block_interval": "120s"})
	for n := 0; ; n++ {
		_, err := i.Issue(t.Context(), request("T-1"))
		u, ok := errors.AsType[*vault.Unavailable](err)
		if !ok && n < 10 {
			continue
		}
		if !ok || !strings.Contains(u.Error(), "429") || u.RetryAfter() < 100*time.Second || u.RetryAfter() > 250*time.Second {
			t.Errorf("call %d: %v, come again in %v, want status 429 and two minutes and more", n, err, u.RetryAfter())
		}
		return
	}
}

// TestRetryAfterIsBounded: a proxy on the way says to come again in a hundred years.
func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	_, front, i := laboratory(t, nil)
	works(t, i, "before")
	for value, most := range map[string]time.Duration{
		"2147483647": 20 * time.Minute, "30": time.Minute, "-1": 10 * time.Second, "99999999999999999999": 10 * time.Second, "soon": 10 * time.Second,
	} {
		front.set(at("/sign/", func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) bool {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}))
		if u := away(t, i, "status 503"); u.RetryAfter() > most {
			t.Errorf("Retry-After %s: %v, want at most %v", value, u.RetryAfter(), most)
		}
		front.set(nil)
		rested(t, i)
	}
}

// TestPublished has Vault write into certificates where its revocation list and its OCSP are, and openssl ask there.
func TestPublished(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.Own(t))
	i := p.open(t, nil)
	before := must[[]*x509.Certificate](t)(i.Issue(t.Context(), catest.NewRequest(identity.Terminal, "ONE")))[0]
	if len(before.CRLDistributionPoints)+len(before.OCSPServer) > 0 {
		t.Errorf("published where nobody said so: %v %v", before.CRLDistributionPoints, before.OCSPServer)
	}
	p.plan.Public = "ftp://vault.example"
	if _, err := vault.Setup(t.Context(), p.plan, p.options); err == nil {
		t.Error("an address that is none is taken")
	}
	p.plan.Public = p.Address
	for range 2 { // the second time changes nothing
		must[*vault.Prepared](t)(vault.Setup(t.Context(), p.plan, p.options))
	}
	leaf := must[[]*x509.Certificate](t)(i.Issue(t.Context(), catest.NewRequest(identity.Terminal, "TWO")))[0]
	at := p.Address + "/v1/" + p.plan.Mount
	if !slices.Equal(leaf.CRLDistributionPoints, []string{at + "/crl"}) || !slices.Equal(leaf.OCSPServer, []string{at + "/ocsp"}) {
		t.Fatalf("published at %v and %v, want below %s", leaf.CRLDistributionPoints, leaf.OCSPServer, at)
	}
	if err := i.Revoke(t.Context(), identity.Serial(leaf), 1); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, certs ...*x509.Certificate) string {
		var text []byte
		for _, c := range certs {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for cert, want := range map[*x509.Certificate]string{before: ": good", leaf: ": revoked"} {
		out, err := exec.Command("openssl", "ocsp", "-issuer", file("issuing", i.Chain()[0]), "-cert", file("leaf", cert), "-url", leaf.OCSPServer[0],
			"-CAfile", file("root", i.Chain()[1:]...), "-no_nonce").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Response verify OK") || !strings.Contains(string(out), want) {
			t.Errorf("openssl ocsp: %v, want %q\n%s", err, want, out)
		}
	}
}
