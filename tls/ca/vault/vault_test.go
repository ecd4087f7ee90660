package vault_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// shortChain is a chain of terminals as Vault would have it. No Vault is behind it.
func shortChain(t testing.TB) []*x509.Certificate {
	t.Helper()
	f, err := catest.NewFake(identity.TerminalCA, catest.Twist{Issuing: func(c *x509.Certificate) {
		c.Policies = []x509.OID{identity.Terminal.ShortPolicy()}
	}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return f.Chain()
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	chain := shortChain(t)
	good := func() vault.Options {
		return vault.Options{Server: vault.Server{Address: "https://vault.example:8200"}, Chain: chain, Login: &vault.TokenFile{File: "token"}}
	}
	services := must[*catest.Fake](t)(catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now))
	for name, change := range map[string]func(*vault.Options){
		"no address":                   func(o *vault.Options) { o.Server.Address = "" },
		"http to another machine":      func(o *vault.Options) { o.Server.Address = "http://192.0.2.1:8200" },
		"http to a name that looks so": func(o *vault.Options) { o.Server.Address = "http://localhost.example:8200" },
		"another scheme":               func(o *vault.Options) { o.Server.Address = "unix:///run/vault.sock" },
		"a path":                       func(o *vault.Options) { o.Server.Address += "/v1" },
		"somebody's name":              func(o *vault.Options) { o.Server.Address = "https://me:pass@vault.example" },
		"a query":                      func(o *vault.Options) { o.Server.Address += "?a=b" },
		"a namespace with dots":        func(o *vault.Options) { o.Server.Namespace = "../x" },
		"a mount with dots":            func(o *vault.Options) { o.Mount = "pki/../sys" },
		"a mount that begins so":       func(o *vault.Options) { o.Mount = "/pki" },
		"a role with a slash":          func(o *vault.Options) { o.Role = "a/b" },
		"no login":                     func(o *vault.Options) { o.Login = nil },
		"no chain":                     func(o *vault.Options) { o.Chain = nil },
		"a root alone":                 func(o *vault.Options) { o.Chain = chain[1:] },
		"the wrong way round":          func(o *vault.Options) { o.Chain = []*x509.Certificate{chain[1], chain[0]} },
		"another root":                 func(o *vault.Options) { o.Chain = []*x509.Certificate{chain[0], shortChain(t)[1]} },
		"an issuer of services":        func(o *vault.Options) { o.Chain = services.Chain() },
		"a nil certificate":            func(o *vault.Options) { o.Chain = []*x509.Certificate{chain[0], nil} },
		"too patient":                  func(o *vault.Options) { o.Timeout = time.Minute },
		"no patience":                  func(o *vault.Options) { o.Timeout = -1 },
		"too many":                     func(o *vault.Options) { o.Concurrent = 1 << 20 },
	} {
		o := good()
		change(&o)
		if i, err := vault.New(o); err == nil {
			t.Errorf("%s: made %v", name, i)
		} else if strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := vault.New(good()); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// TestRequestsThatNeedNoVault: nothing of this reaches a Vault, and there is none.
func TestRequestsThatNeedNoVault(t *testing.T) {
	t.Parallel()
	chain := shortChain(t)
	i := must[*vault.Issuer](t)(vault.New(vault.Options{
		Server: vault.Server{Address: "http://127.0.0.1:1"}, Chain: chain, Login: &vault.TokenFile{File: "/nowhere"},
	}))
	for name, change := range map[string]func(*ca.Request){
		"no signing request":          func(r *ca.Request) { r.CSR = nil },
		"no signing request but text": func(r *ca.Request) { r.CSR = []byte("x") },
		"that of another key":         func(r *ca.Request) { r.CSR = request("T-2").CSR },
		"a start":                     func(r *ca.Request) { r.NotBefore = time.Now() },
		"another role":                func(r *ca.Request) { r.Identity.Role = identity.RA },
		"a host":                      func(r *ca.Request) { r.DNSNames = []string{"a.example"} },
		"too long a life":             func(r *ca.Request) { r.Lifetime = 366 * 24 * time.Hour },
	} {
		r := request("T-1")
		change(&r)
		if _, err := i.Issue(t.Context(), r); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("%s: %v, want ca.ErrRequest", name, err)
		}
	}
	for _, serial := range []string{"", "x", "0", "ABCD", "12:34", "../sys"} {
		if err := i.Revoke(t.Context(), serial, 1); !errors.Is(err, ca.ErrUnknownSerial) {
			t.Errorf("serial %q: %v, want ca.ErrUnknownSerial", serial, err)
		}
	}
}

// TestShortIssuer has an issuer in Vault that ends before a certificate would.
func TestShortIssuer(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	ends := p.prepared.Chain[0].NotAfter.AddDate(0, 0, -30) // a certificate of 90 days is too long
	i := p.open(t, func(o *vault.Options) { o.Clock = func() time.Time { return ends } })
	if _, err := i.Issue(t.Context(), request("T-1")); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("got %v, want ca.ErrRequest", err)
	}
	i = p.open(t, func(o *vault.Options) {
		o.Clock = func() time.Time { return p.prepared.Chain[0].NotAfter.Add(time.Hour) }
	})
	if err := i.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "is valid from") {
		t.Errorf("after the end of the issuer: %v", err)
	}
}

// TestPrintsNothing prints what holds secrets in every way, and looks at what is logged and said.
func TestPrintsNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(b) }), &slog.HandlerOptions{Level: slog.LevelDebug})
	p := prepare(t, vaulttest.Own(t))
	keep := new(memory)
	login := p.appRole(p.secretIDFile(t), keep)
	i := p.open(t, func(o *vault.Options) { o.Login = login; o.Logger = slog.New(handler) })
	run(t, i)
	works(t, i, "before")
	p.Seal()
	said := ""
	for range 5 {
		_, err := i.Issue(t.Context(), request("T-1"))
		said += fmt.Sprintf("%v %+v %#v ", err, err, err)
	}
	for _, v := range []any{i, login} {
		said += fmt.Sprintf("%v %+v %#v %s %q %d %x ", v, v, v, v, v, v, v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		said += string(text)
	}
	slog.New(handler).Info("all", "issuer", i, "login", login)
	mu.Lock()
	said += log.String()
	mu.Unlock()
	secretID := string(keep.kept[32:])
	for what, secret := range map[string]string{"secret-id": secretID, "start of a token": "hvs."} {
		if strings.Contains(said, secret) {
			t.Errorf("the %s is printed: %s", what, said)
		}
	}
	if !strings.Contains(said, "logged in to Vault") || len(secretID) < 20 {
		t.Errorf("nothing was looked at: %s", said)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := vault.NewBreaker(func() time.Time { return now })
	enters := func(want bool, when string) {
		t.Helper()
		if wait, ok := b.Enter(); ok != want || ok && wait != 0 || !ok && wait <= 0 {
			t.Fatalf("%s: enters %t, wait %v", when, ok, wait)
		}
	}
	for range 2 {
		enters(true, "well")
		b.Left(true)
	}
	enters(true, "two failures")
	b.Left(false)
	for range 3 {
		enters(true, "well again: failures in a row count")
		b.Left(true)
	}
	for _, rest := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		enters(false, "at rest")
		now = now.Add(rest*time.Second - 1)
		enters(false, "a moment before the end of the rest")
		now = now.Add(1)
		enters(true, "one after the rest")
		enters(false, "and no more than one")
		b.Abandoned()
		enters(true, "another one, because the first has left")
		b.Left(true)
	}
	now = now.Add(30 * time.Second)
	enters(true, "after the rest")
	b.Left(false)
	for range 5 {
		enters(true, "well")
	}
	b.Left(true)
	b.Left(true)
	b.Left(true)
	b.Left(true) // of those that began together the first makes the rest
	if wait, _ := b.Enter(); wait != time.Second {
		t.Errorf("rest %v, want a second", wait)
	}
}

// TestSetupKeeps sets a Vault up twice, and changes something of every kind in between.
func TestSetupKeeps(t *testing.T) {
	t.Parallel()
	p := prepare(t, vaulttest.New(t))
	done := func() (out []string) {
		again := must[*vault.Prepared](t)(vault.Setup(t.Context(), p.plan, p.options))
		if !again.Chain[0].Equal(p.prepared.Chain[0]) || again.RoleID != p.prepared.RoleID || len(again.Chain) != 2 {
			t.Error("the issuer or the role-id is another")
		}
		for _, c := range again.Changes {
			if c.Done != "kept" {
				out = append(out, c.What)
			}
		}
		return out
	}
	if changed := done(); len(changed) != 0 {
		t.Fatalf("the second time %q", changed)
	}
	for path, change := range map[string]map[string]any{
		p.plan.Mount + "/roles/" + p.plan.Role:            {"max_ttl": 1 << 30},
		p.plan.Mount + "/config/crl":                      {"auto_rebuild": false},
		p.plan.Mount + "/config/auto-tidy":                {"enabled": false},
		"sys/policies/acl/" + p.plan.Role:                 {"policy": `path "*" { capabilities = ["sudo"] }`},
		"auth/" + p.plan.AppRole + "/role/" + p.plan.Role: {"secret_id_num_uses": 1},
		"sys/mounts/" + p.plan.Mount + "/tune":            {"max_lease_ttl": "1h"},
	} {
		p.Must("POST", path, change)
	}
	p.Must("PATCH", p.plan.Mount+"/issuer/default", map[string]any{"leaf_not_after_behavior": "permit"})
	if changed := done(); len(changed) != 7 {
		t.Errorf("changed back: %q, want seven", changed)
	}
	if changed := done(); len(changed) != 0 {
		t.Errorf("the last time %q", changed)
	}
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	server := vaulttest.New(t)
	good := func() (vault.Plan, vault.SetupOptions) {
		return vault.Plan{Tenant: tenant, Mount: server.Name("pki"), Role: server.Name("r"), AppRole: server.Name("a")}, setupOptions(t, server)
	}
	foreign := must[*catest.Fake](t)(catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now))
	for name, change := range map[string]func(*vault.Plan, *vault.SetupOptions){
		"no tenant":    func(p *vault.Plan, _ *vault.SetupOptions) { p.Tenant = "" },
		"a bad tenant": func(p *vault.Plan, _ *vault.SetupOptions) { p.Tenant = `A"], "allow_any_name": [true` },
		"a bad mount":  func(p *vault.Plan, _ *vault.SetupOptions) { p.Mount = "pki/+/" },
		"a bad role":   func(p *vault.Plan, _ *vault.SetupOptions) { p.Role = "*" },
		"no token":     func(_ *vault.Plan, o *vault.SetupOptions) { o.Token.Wipe() },
		"nobody signs": func(_ *vault.Plan, o *vault.SetupOptions) { o.Sign = nil },
		"nobody may sign": func(_ *vault.Plan, o *vault.SetupOptions) {
			o.Sign = func([]byte) ([]*x509.Certificate, error) { return nil, errors.New("no") }
		},
		"a chain of somebody else": func(_ *vault.Plan, o *vault.SetupOptions) {
			o.Sign = func([]byte) ([]*x509.Certificate, error) { return foreign.Chain(), nil }
		},
		"a certificate of another key": func(_ *vault.Plan, o *vault.SetupOptions) {
			o.Sign = func([]byte) ([]*x509.Certificate, error) { return shortChain(t), nil }
		},
	} {
		p, o := good()
		change(&p, &o)
		if out, err := vault.Setup(t.Context(), p, o); err == nil {
			t.Errorf("%s: %+v", name, out)
		}
	}
	p, o := good()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := vault.Setup(ctx, p, o); err == nil {
		t.Error("it goes on after it was cancelled")
	}
}

// TestTemplates holds the two files to what they must never say.
func TestTemplates(t *testing.T) {
	t.Parallel()
	plan := vault.Plan{Tenant: "SHOP-1"}
	policy, role := must[string](t)(plan.Policy()), must[string](t)(plan.PKIRole())
	if strings.Contains(policy+role, "{{") || strings.Contains(strings.ReplaceAll(policy, "never sign-verbatim", ""), "verbatim") || strings.Contains(policy, "sudo") {
		t.Errorf("%s%s", policy, role)
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(role), &members); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"allow_any_name": false, "use_csr_common_name": false, "use_csr_sans": false, "server_flag": false, "allow_ip_sans": false, "no_store": false,
	} {
		if members[name] != want {
			t.Errorf("%s is %v, want %v", name, members[name], want)
		}
	}
	if got := fmt.Sprint(members["organization"], members["allowed_uri_sans"]); got != "[SHOP-1] [latchkey://SHOP-1/terminal/*]" {
		t.Errorf("names %s", got)
	}
}

// FuzzSigned: what is taken for a certificate is the very bytes that Vault sent.
func FuzzSigned(f *testing.F) {
	key := request("T-1")
	fake := must[*catest.Fake](f)(catest.NewFake(identity.TerminalCA, catest.Twist{}, time.Now))
	issued := must[[]*x509.Certificate](f)(fake.Issue(f.Context(), key))
	f.Add(base64.StdEncoding.EncodeToString(issued[0].Raw))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		cert, err := vault.Signed(text)
		if (cert == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", text, cert, err)
		}
		if err != nil {
			return
		}
		clean := strings.NewReplacer("\n", "", "\r", "").Replace(text) // base64 of the standard library skips them
		if base64.StdEncoding.EncodeToString(cert.Raw) != clean {
			t.Fatalf("%q holds %x", text, cert.Raw)
		}
	})
}

// FuzzPlain: what Vault says becomes one line of ASCII of bounded length.
func FuzzPlain(f *testing.F) {
	f.Add("permission denied\n\x1b[31m")
	f.Fuzz(func(t *testing.T, s string) {
		out := vault.Plain(s)
		if len(out) > 403 || slices.ContainsFunc([]byte(out), func(b byte) bool { return b < ' ' || b > '~' }) {
			t.Fatalf("%q becomes %q", s, out)
		}
	})
}
