package vault

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	// ErrDenied says that the token may not do what is to be done.
	ErrDenied = errors.New("vault: the token may not")
	// ErrTaken says that something of another kind, or of somebody else, has a name that is to be used.
	ErrTaken = errors.New("vault: the name is taken")
)

// Change is one thing that Setup looked at.
type Change struct {
	What string `json:"what"` // such as "role pki/roles/latchkey-terminals"
	Done string `json:"done"` // "kept" where it was as wanted; else "made" or "changed", or in a dry run "would make" or "would change"
	Note string `json:"note,omitempty"`
}

// SetupOptions say how Setup goes about it. Server and Token are required; Sign is, but in a dry run.
type SetupOptions struct {
	Server Server
	Token  secret.Bytes // of somebody who may write all of this; not kept
	DryRun bool         // change nothing, and say what would be changed
	// Sign has the root of terminals certify the key of the issuer in Vault, whose signing request (DER) it gets. It returns
	// the issuing certificate and those above it, the root last. embedded.CertifyIssuing does that.
	Sign func(csr []byte) ([]*x509.Certificate, error)
	// Roots are the roots of terminals. An issuer in Vault that verifies under one of them, and may certify terminals, is
	// kept.
	Roots *x509.CertPool
	Clock func() time.Time // time.Now when nil
	// Told, if not nil, is told of each change once it is made.
	Told func(Change)
}

// Prepared is what an Issuer needs to know of a Vault that Setup has prepared.
type Prepared struct {
	Chain   []*x509.Certificate // nil in a dry run that would make the issuer
	RoleID  string              // of AppRole; empty in a dry run that would make it
	Changes []Change
}

const (
	setupTimeout = 30 * time.Second
	// mountTTL is the longest life of anything in the engine: that of the issuing certificate.
	mountTTL = 5 * 365 * 24 * 3600
	crlTTL   = "24h"
)

// Setup makes in a Vault what is in the plan: the PKI engine, an issuer in it whose key never leaves Vault and which the
// root of terminals has certified, the role, the policy, and AppRole with a role of its own. What is there already and as
// wanted stays, so that it may run again and again; what is of another kind wraps ErrTaken. It stops at the first error; what
// was made until then stays, and the next run goes on from there.
func Setup(ctx context.Context, p Plan, o SetupOptions) (*Prepared, error) {
	s, err := newSetup(p, o)
	if err != nil {
		return nil, err
	}
	defer s.connect.close()
	for _, step := range []func(context.Context) error{
		s.engine, s.issuer, s.issuerRules, s.crl, s.urls, s.tidy, s.role, s.policy, s.method, s.appRole,
	} {
		if err := step(ctx); err != nil {
			return &s.out, err
		}
	}
	return &s.out, nil
}

// WrapSecretID has Vault make a secret-id of the plan's AppRole and wrap it. It returns the wrapping token, which the caller
// wipes: it unwraps once, within the time.
func WrapSecretID(ctx context.Context, p Plan, o SetupOptions, within time.Duration) (secret.Bytes, error) {
	s, err := newSetup(p, o)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer s.connect.close()
	s.client.SetWrappingLookupFunc(func(string, string) string { return fmt.Sprintf("%ds", int(within.Seconds())) })
	answer, err := s.write(ctx, s.rolePath()+"/secret-id", nil)
	if err != nil {
		return secret.Bytes{}, err
	}
	if answer == nil || answer.WrapInfo == nil || answer.WrapInfo.Token == "" {
		return secret.Bytes{}, errors.New("vault: the answer holds no wrapped secret-id")
	}
	return secret.From([]byte(answer.WrapInfo.Token)), nil
}

// setup is one run.
type setup struct {
	plan    Plan
	options SetupOptions
	connect *connector
	client  *api.Client
	fresh   bool // the engine is not there yet: this is a dry run
	noAuth  bool // the method is not there yet
	out     Prepared
}

func newSetup(p Plan, o SetupOptions) (*setup, error) {
	if err := errors.Join(p.complete(), o.Server.Check()); err != nil {
		return nil, err
	}
	if o.Token.IsZero() {
		return nil, errors.New("vault: no token to set up with")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	connect := newConnector(o.Server, setupTimeout, 1)
	client, err := connect.client()
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	client.SetToken(string(o.Token.Expose()))
	return &setup{plan: p, options: o, connect: connect, client: client}, nil
}

func (s *setup) read(ctx context.Context, path string) (map[string]any, error) {
	answer, err := s.client.Logical().ReadWithContext(ctx, path)
	if status(err) == http.StatusNotFound || err == nil && answer == nil {
		return nil, nil
	}
	if err != nil {
		return nil, setupFailure("read "+path, err)
	}
	return answer.Data, nil
}

func (s *setup) write(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	answer, err := s.client.Logical().WriteWithContext(ctx, path, data)
	if err != nil {
		return nil, setupFailure("write "+path, err)
	}
	return answer, nil
}

// setupFailure says what became of a step.
func setupFailure(call string, err error) error {
	if status(err) == http.StatusForbidden {
		return fmt.Errorf("%w: %s", ErrDenied, plain(describe(call, err)))
	}
	return fmt.Errorf("vault: %s", plain(describe(call, err)))
}

// change makes one change, unless the run is dry, and notes it.
func (s *setup) change(what, note string, exists bool, f func() error) error {
	c := Change{What: what, Note: note, Done: map[bool]string{false: "made", true: "changed"}[exists]}
	if s.options.DryRun {
		c.Done = map[bool]string{false: "would make", true: "would change"}[exists]
	} else if err := f(); err != nil {
		return err
	}
	s.note(c)
	return nil
}

func (s *setup) note(c Change) {
	s.out.Changes = append(s.out.Changes, c)
	if s.options.Told != nil {
		s.options.Told(c)
	}
}

// settle brings what is at a path to what is wanted, and looks only at the members that are.
func (s *setup) settle(ctx context.Context, what, path string, want map[string]any, skip bool) error {
	var have map[string]any
	if !skip {
		var err error
		if have, err = s.read(ctx, path); err != nil {
			return err
		}
	}
	differ := differences(have, want)
	if have != nil && len(differ) == 0 {
		s.note(Change{What: what, Done: "kept"})
		return nil
	}
	note := ""
	if have != nil {
		note = strings.Join(differ, ", ")
	}
	return s.change(what, note, have != nil, func() error {
		_, err := s.write(ctx, path, want)
		return err
	})
}

// differences names the members that are not as wanted.
func differences(have, want map[string]any) (out []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		a, errA := json.Marshal(have[key])
		b, errB := json.Marshal(want[key])
		if errA != nil || errB != nil || !bytes.Equal(emptied(a), emptied(b)) {
			out = append(out, key)
		}
	}
	return out
}

// emptied makes one of the ways to write nothing: Vault answers null where it was told an empty list.
func emptied(b []byte) []byte {
	if s := string(b); s == "null" || s == "[]" || s == `""` {
		return nil
	}
	return b
}

// engine mounts the PKI engine.
func (s *setup) engine(ctx context.Context) error {
	what := "secrets engine " + s.plan.Mount
	mounts, err := s.read(ctx, "sys/mounts")
	if err != nil {
		return err
	}
	mount, exists := mounts[s.plan.Mount+"/"].(map[string]any)
	if exists && mount["type"] != "pki" {
		return fmt.Errorf("%w: %s is of type %v, want pki", ErrTaken, what, mount["type"])
	}
	want := map[string]any{
		"max_lease_ttl": mountTTL,
		// Serial numbers and names of terminals stand in the audit log of Vault as they are, and not as hashes.
		"audit_non_hmac_request_keys": []string{"common_name", "serial_number"}, "audit_non_hmac_response_keys": []string{"serial_number"},
	}
	have, _ := mount["config"].(map[string]any)
	differ := differences(have, want)
	if exists && len(differ) == 0 {
		s.note(Change{What: what, Done: "kept"})
		return nil
	}
	s.fresh = !exists && s.options.DryRun
	note := ""
	if exists {
		note = strings.Join(differ, ", ")
	}
	return s.change(what, note, exists, func() error {
		if exists {
			_, err := s.write(ctx, "sys/mounts/"+s.plan.Mount+"/tune", want)
			return err
		}
		_, err := s.write(ctx, "sys/mounts/"+s.plan.Mount, map[string]any{
			"type": "pki", "description": "certificates of payment terminals (latchkey)", "config": want,
		})
		return err
	})
}

// issuer makes the key of the issuer in Vault, has it certified, and makes it the one that signs.
func (s *setup) issuer(ctx context.Context) error {
	what := "issuer in " + s.plan.Mount
	if !s.fresh {
		chain, err := s.chain(ctx)
		if err != nil {
			return err
		}
		if chain != nil {
			s.out.Chain = chain
			s.note(Change{What: what, Done: "kept", Note: fmt.Sprintf("%s, until %s", chain[0].Subject.CommonName, chain[0].NotAfter.UTC().Format(time.DateOnly))})
			return nil
		}
	}
	return s.change(what, "its key is made in Vault and stays there", false, func() error { return s.makeIssuer(ctx) })
}

// chain returns the chain of the issuer that signs now, nil when there is none. One that is of somebody else is an error:
// it would be a fault to make ours the default in a mount that others use.
func (s *setup) chain(ctx context.Context) ([]*x509.Certificate, error) {
	config, err := s.read(ctx, s.plan.Mount+"/config/issuers")
	if err != nil || config == nil || config["default"] == nil || config["default"] == "" {
		return nil, err
	}
	issuer, err := s.read(ctx, s.plan.Mount+"/issuer/default")
	if err != nil {
		return nil, err
	}
	text, _ := issuer["certificate"].(string)
	certs, err := parsePEM(text)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	if s.options.Roots == nil {
		return nil, errors.New("vault: no roots of terminals to hold the issuer in Vault to")
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.options.Roots, CurrentTime: s.options.Clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: the mount %s has an issuer already, %q, which is not below the root of terminals (%w): take another mount",
			ErrTaken, s.plan.Mount, leaf.Subject.CommonName, err)
	}
	if err := checkChain(chains[0]); err != nil {
		return nil, err
	}
	if len(leaf.Policies) != 1 || !leaf.Policies[0].Equal(identity.Terminal.ShortPolicy()) {
		return nil, fmt.Errorf("vault: the issuer %q does not carry the policy of terminals as Vault spells it", leaf.Subject.CommonName)
	}
	return chains[0], nil
}

func (s *setup) makeIssuer(ctx context.Context) error {
	answer, err := s.write(ctx, s.plan.Mount+"/intermediate/generate/internal", map[string]any{
		"common_name": "latchkey terminals", "key_type": "ec", "key_bits": 256,
	})
	if err != nil {
		return err
	}
	text, _ := answer.Data["csr"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errors.New("vault: the answer holds no signing request")
	}
	if s.options.Sign == nil {
		return errors.New("vault: nobody to certify the issuer")
	}
	chain, err := s.options.Sign(block.Bytes)
	if err != nil {
		return err
	}
	if err := checkChain(chain); err != nil {
		return err
	}
	var bundle []byte
	for _, cert := range chain {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return s.install(ctx, chain, bundle)
}

// install gives Vault the certificate of its key, and the root, for the chain that it hands out.
func (s *setup) install(ctx context.Context, chain []*x509.Certificate, bundle []byte) error {
	answer, err := s.write(ctx, s.plan.Mount+"/intermediate/set-signed", map[string]any{"certificate": string(bundle)})
	if err != nil {
		return err
	}
	keys, _ := answer.Data["mapping"].(map[string]any)
	for id, key := range keys {
		if key == "" || key == nil {
			continue // the root, whose key is not in Vault
		}
		if _, err := s.write(ctx, s.plan.Mount+"/config/issuers", map[string]any{"default": id}); err != nil {
			return err
		}
		s.out.Chain = chain
		return nil
	}
	return errors.New("vault: the certificate was taken, and no key in Vault is its own")
}

// issuerRules has Vault refuse what would outlive the issuer, instead of cutting it.
func (s *setup) issuerRules(ctx context.Context) error {
	path := s.plan.Mount + "/issuer/default"
	what := "rules of the issuer"
	want := map[string]any{"leaf_not_after_behavior": "err"}
	have := map[string]any{}
	if !s.fresh && s.out.Chain != nil {
		var err error
		if have, err = s.read(ctx, path); err != nil {
			return err
		}
	}
	if len(differences(have, want)) == 0 {
		s.note(Change{What: what, Done: "kept"})
		return nil
	}
	return s.change(what, "", true, func() error {
		_, err := s.client.Logical().JSONMergePatch(ctx, path, want)
		if err != nil {
			return setupFailure("patch "+path, err)
		}
		return nil
	})
}

// crl has Vault make its list now and then, and not with each revocation, which takes as long as there are entries.
func (s *setup) crl(ctx context.Context) error {
	return s.settle(ctx, "revocation list", s.plan.Mount+"/config/crl", map[string]any{
		"expiry": crlTTL, "auto_rebuild": true, "auto_rebuild_grace_period": "12h", "disable": false,
	}, s.fresh)
}

// urls has Vault write into certificates where third parties find what was revoked. Without a public address it stays as it is.
func (s *setup) urls(ctx context.Context) error {
	if s.plan.Public == "" {
		return nil
	}
	at := s.plan.Public + "/v1/" + s.plan.Mount
	return s.settle(ctx, "addresses", s.plan.Mount+"/config/urls", map[string]any{
		"crl_distribution_points": []string{at + "/crl"}, "ocsp_servers": []string{at + "/ocsp"},
	}, s.fresh)
}

// tidy has Vault forget certificates that have expired.
func (s *setup) tidy(ctx context.Context) error {
	return s.settle(ctx, "tidying up", s.plan.Mount+"/config/auto-tidy", map[string]any{
		"enabled": true, "tidy_cert_store": true, "tidy_revoked_certs": true, "safety_buffer": 259200, "interval_duration": 43200,
	}, s.fresh)
}

func (s *setup) role(ctx context.Context) error {
	text, err := s.plan.PKIRole()
	if err != nil {
		return err
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		return fmt.Errorf("vault: role.json: %w", err)
	}
	path := s.plan.Mount + "/roles/" + s.plan.Role
	return s.settle(ctx, "role "+path, path, want, s.fresh)
}

func (s *setup) policy(ctx context.Context) error {
	text, err := s.plan.Policy()
	if err != nil {
		return err
	}
	path := "sys/policies/acl/" + s.plan.Role
	return s.settle(ctx, "policy "+s.plan.Role, path, map[string]any{"policy": text}, false)
}

// method enables AppRole.
func (s *setup) method(ctx context.Context) error {
	what := "auth method " + s.plan.AppRole
	methods, err := s.read(ctx, "sys/auth")
	if err != nil {
		return err
	}
	method, exists := methods[s.plan.AppRole+"/"].(map[string]any)
	if exists {
		if method["type"] != "approle" {
			return fmt.Errorf("%w: %s is of type %v, want approle", ErrTaken, what, method["type"])
		}
		s.note(Change{What: what, Done: "kept"})
		return nil
	}
	s.noAuth = s.options.DryRun
	return s.change(what, "", false, func() error {
		_, err := s.write(ctx, "sys/auth/"+s.plan.AppRole, map[string]any{"type": "approle"})
		return err
	})
}

func (s *setup) rolePath() string { return "auth/" + s.plan.AppRole + "/role/" + s.plan.Role }

// appRole makes the role that the registration authority logs in with. Its secret-id has no limit of uses: with one, it
// could not log in again one day. Its tokens live for an hour, and for a day when they are renewed.
func (s *setup) appRole(ctx context.Context) error {
	want := map[string]any{
		"bind_secret_id": true, "secret_id_num_uses": 0, "secret_id_ttl": 0, "secret_id_bound_cidrs": s.plan.CIDRs,
		"token_policies": []string{s.plan.Role}, "token_no_default_policy": true, "token_ttl": 3600, "token_max_ttl": 86400,
		"token_bound_cidrs": s.plan.CIDRs, "token_type": "service",
	}
	if err := s.settle(ctx, "AppRole "+s.rolePath(), s.rolePath(), want, s.noAuth); err != nil || s.noAuth {
		return err
	}
	answer, err := s.read(ctx, s.rolePath()+"/role-id")
	if err != nil {
		return err
	}
	s.out.RoleID, _ = answer["role_id"].(string)
	return nil
}

// parsePEM reads certificates.
func parsePEM(text string) (out []*x509.Certificate, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("vault: a certificate: %w", err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("vault: no certificate where one was to be")
	}
	return out, nil
}
