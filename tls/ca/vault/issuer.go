package vault

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Issuer certifies terminals by a role of Vault. It is safe for concurrent use. It prints where its Vault is and nothing
// else.
type Issuer struct {
	options Options
	connect *connector
	session *session
	breaker *breaker
	seats   chan struct{}
	fresh   atomic.Bool // the list was made anew since this process began, and nothing was revoked since

	mu      sync.Mutex
	discard map[string]bool // serial numbers of certificates that were refused here and are not revoked yet

	seen seen
}

var _ ca.Issuer = (*Issuer)(nil)

// New makes an issuer. It asks Vault for nothing: a registration authority starts while Vault is away. Run keeps it logged
// in; without it each login happens when a call needs one. Close releases its connections.
func New(o Options) (*Issuer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := newConnector(o.Server, o.Timeout, o.Concurrent)
	s, err := newSession(&o, c)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return &Issuer{
		options: o, connect: c, session: s, breaker: &breaker{clock: o.Clock}, seats: make(chan struct{}, o.Concurrent),
		discard: make(map[string]bool),
	}, nil
}

// Run keeps the issuer logged in, and revokes what was signed and refused, until ctx ends. It returns nil then.
func (i *Issuer) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { i.session.run(ctx) })
	parts.Go(func() { i.clear(ctx) })
	parts.Wait()
	return nil
}

// Close lets go of the connections. Calls under way end by themselves.
func (i *Issuer) Close() error {
	i.connect.close()
	return nil
}

// Chain returns the issuing certificate and those above it, the root last.
func (i *Issuer) Chain() []*x509.Certificate { return slices.Clone(i.options.Chain) }

// clockSlack is how much shorter a certificate is asked for than it may be, so that it does not outlive the request by the
// clock of a Vault that is a little ahead.
const clockSlack = 30 * time.Second

// Issue certifies the request as ca.Issuer says. Vault keeps the certificate under its serial number. A request must come
// with its certificate signing request, and cannot say when the certificate begins. What Vault signed and Check refuses is
// revoked. Errors are an *Unavailable, or wrap ca.ErrRequest, ca.ErrMismatch or the error of ctx.
func (i *Issuer) Issue(ctx context.Context, req ca.Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	begun := i.options.Clock()
	end, err := i.check(req, begun)
	if err != nil {
		return nil, err
	}
	ttl := end.Sub(begun)
	ttl -= min(clockSlack, ttl/10)
	answer, err := i.call(ctx, "sign", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, i.options.Mount+"/sign/"+i.options.Role, map[string]any{
			"csr":                  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.CSR})),
			"common_name":          req.Identity.Name,
			"exclude_cn_from_sans": true,
			"uri_sans":             []string{req.Identity.String()},
			"ttl":                  fmt.Sprintf("%ds", max(int64(ttl/time.Second), 1)),
			"format":               "der",
		})
	})
	if err != nil {
		return nil, err
	}
	leaf, err := signed(answer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ca.ErrMismatch, err)
	}
	issued := append([]*x509.Certificate{leaf}, i.options.Chain[:len(i.options.Chain)-1]...)
	if err := ca.CheckSince(req, issued, i.options.Chain, begun, i.options.Clock()); err != nil && !planted.On(planted.VaultUnchecked) {
		i.refuse(ctx, leaf, err)
		return nil, err
	}
	return issued, nil
}

// check refuses what Vault need not be asked for, and returns when the certificate is to end.
func (i *Issuer) check(req ca.Request, now time.Time) (end time.Time, err error) {
	if err := req.Validate(identity.TerminalCA); err != nil {
		return end, err
	}
	if !req.NotBefore.IsZero() {
		return end, fmt.Errorf("%w: Vault certifies from the moment of issue, not from %v", ca.ErrRequest, req.NotBefore)
	}
	from, end, err := req.Window(now)
	if err != nil {
		return end, err
	}
	if err := ca.Covered(i.options.Chain, from, end); err != nil {
		return end, err
	}
	asked, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return end, fmt.Errorf("%w: the certificate signing request: %w", ca.ErrRequest, err)
	}
	public, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(asked.PublicKey) {
		return end, fmt.Errorf("%w: the certificate signing request is for another public key", ca.ErrRequest)
	}
	return end, nil
}

// signed reads the certificate in an answer.
func signed(answer *api.Secret) (*x509.Certificate, error) {
	if answer == nil {
		return nil, errors.New("an empty answer")
	}
	text, _ := answer.Data["certificate"].(string)
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("an answer without a certificate")
	}
	return x509.ParseCertificate(der)
}

// refuse has a certificate revoked that nobody is to get. If Vault does not do it now, Run does later.
func (i *Issuer) refuse(ctx context.Context, leaf *x509.Certificate, why error) {
	serial := identity.Serial(leaf)
	i.options.Logger.Error("Vault signed something else than was asked for: look at the role and at who may change it",
		slog.String("serial", serial), slog.String("error", plain(why.Error())))
	i.mu.Lock()
	i.discard[serial] = true
	i.mu.Unlock()
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.options.Timeout)
	defer cancel()
	i.discarded(soon, serial)
}

// discarded tries to revoke such a certificate.
func (i *Issuer) discarded(ctx context.Context, serial string) {
	err := i.Revoke(ctx, serial, reasonSuperseded)
	if err != nil && !errors.Is(err, ca.ErrUnknownSerial) {
		i.options.Logger.Warn("a refused certificate is not revoked yet", slog.String("serial", serial), slog.String("error", plain(err.Error())))
		return
	}
	i.mu.Lock()
	delete(i.discard, serial)
	i.mu.Unlock()
}

const (
	reasonSuperseded = 4
	clearEvery       = 10 * time.Second
)

// clear goes on revoking what was refused.
func (i *Issuer) clear(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, clearEvery)
		i.mu.Lock()
		serials := slices.Sorted(maps.Keys(i.discard))
		i.mu.Unlock()
		for _, serial := range serials {
			if ctx.Err() == nil {
				i.discarded(ctx, serial)
			}
		}
	}
}

// Refused returns how many certificates were signed, refused, and are not revoked yet.
func (i *Issuer) Refused() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.discard)
}

// Resting reports whether nobody asks Vault for the moment, because it has failed several times in a row.
func (i *Issuer) Resting() bool { return i.breaker.open() }

// Revoke has Vault revoke a certificate as ca.Issuer says. Vault records no reason.
func (i *Issuer) Revoke(ctx context.Context, serial string, reason int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ca.CheckReason(reason); err != nil {
		return err
	}
	number, err := hex.DecodeString(serial)
	if err != nil || len(number) == 0 || hex.EncodeToString(number) != serial {
		return fmt.Errorf("%w: %q", ca.ErrUnknownSerial, serial)
	}
	_, err = i.call(ctx, "revoke", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, i.options.Mount+"/revoke", map[string]any{"serial_number": colons(number)})
	})
	if status(err) == http.StatusBadRequest && says(err, "not found") {
		return fmt.Errorf("%w: %q", ca.ErrUnknownSerial, serial)
	}
	if err != nil {
		return err
	}
	i.fresh.Store(false)
	return nil
}

// colons spells a serial number as Vault does.
func colons(number []byte) string {
	parts := make([]string, len(number))
	for i, b := range number {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

// maxCRL bounds a revocation list that is read, in bytes: some half a million entries.
const maxCRL = 32 << 20

// CRL returns the revocation list of Vault in DER. When something was revoked here since the last one, or this
// process has had none yet, Vault makes it anew first: it may be set to make one in hours only, because each takes as long as there are entries.
func (i *Issuer) CRL(ctx context.Context) ([]byte, error) {
	if !i.fresh.Swap(true) {
		_, err := i.call(ctx, "rotate", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
			return c.Logical().ReadWithContext(ctx, i.options.Mount+"/crl/rotate")
		})
		if err != nil {
			i.fresh.Store(false)
			return nil, err
		}
	}
	var der []byte
	_, err := i.call(ctx, "crl", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		resp, err := c.Logical().ReadRawWithContext(ctx, i.options.Mount+"/crl")
		if resp != nil {
			defer func() { _ = resp.Body.Close() }() // it has been read
		}
		if err != nil {
			return nil, err
		}
		der, err = io.ReadAll(io.LimitReader(resp.Body, maxCRL))
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(i.options.Chain[0])
	}
	if err != nil {
		return nil, later(roleWait, err, "the revocation list of the mount %s is not that of the issuer: %v", i.options.Mount, err)
	}
	return der, nil
}

// Health reports whether Vault could issue now: it is unsealed, the certificates of the issuer are valid, and the policy of
// our token lets us sign. It asks Vault also while other calls do not.
func (i *Issuer) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := i.options.Clock()
	for _, cert := range i.options.Chain {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return fmt.Errorf("vault: %q is valid from %v until %v", cert.Subject.CommonName, cert.NotBefore, cert.NotAfter)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, i.options.Timeout)
	defer cancel()
	health, err := i.session.client.Sys().HealthWithContext(ctx)
	switch {
	case err != nil:
		return later(shortWait, err, "%s", describe("health", err))
	case !health.Initialized || health.Sealed:
		return later(shortWait, nil, "Vault is sealed")
	}
	return i.maySign(ctx)
}

// maySign asks what the policies of our token allow.
func (i *Issuer) maySign(ctx context.Context) error {
	path := i.options.Mount + "/sign/" + i.options.Role
	answer, err := i.authorized(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, "sys/capabilities-self", map[string]any{"paths": []string{path}})
	})
	if err != nil {
		return later(shortWait, err, "%s", describe("capabilities", err))
	}
	var may []any
	if answer != nil {
		may, _ = answer.Data[path].([]any)
	}
	if !slices.Contains(may, any("update")) && !slices.Contains(may, any("root")) {
		return later(roleWait, nil, "the policies of our token do not allow to sign at %s", path)
	}
	return nil
}

// Format prints where the Vault is, whatever the verb.
func (i *Issuer) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, i.text()) }

// LogValue logs what Format prints.
func (i *Issuer) LogValue() slog.Value { return slog.StringValue(i.text()) }

// MarshalText gives what Format prints, for encoders that would otherwise look inside.
func (i *Issuer) MarshalText() ([]byte, error) { return []byte(i.text()), nil }

func (i *Issuer) text() string {
	if i == nil {
		return "vault.Issuer(none)"
	}
	return fmt.Sprintf("vault.Issuer(%s at %s)", i.options.Role, i.options.Server.Address)
}
