package main

import (
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// enrolFlags say where a terminal enrols, and as whom.
type enrolFlags struct {
	url, trustURL, tenant, terminal, ticket, curve, environment string
	slip                                                        string
	slipTicket                                                  enroll.Ticket // of the slip
	agreementKey, attestation                                   string
	noSignIn                                                    bool
}

// The forms of the two addresses.
const (
	urlForm   = "--url https://HOST:PORT, as in https://ra.example:8445"
	trustForm = "--trust-url http://HOST:PORT, as in http://ra.example:8447"
)

// curves are those that an agreement key may be on.
var curves = map[string]elliptic.Curve{
	"": nil, "P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
}

func newEnrol(a *app) *cobra.Command {
	var f enrolFlags
	cmd := &cobra.Command{
		Use:   "enrol --dir DIR (--slip-file FILE | --url URL --trust-url URL --tenant TENANT --terminal ID [--ticket-file FILE])",
		Short: "Make a terminal over the network, with the ticket of its operator",
		Long: `enrol makes a terminal of an empty folder and the ticket that latchkey terminal code gave out:

  latchkey-terminal enrol --dir ./t1 --tenant ACME --terminal T-0001 \
    --url https://ra.example:8445 --trust-url http://ra.example:8447

1. It fetches the trust list from --trust-url. Nothing protects that connection: the pin, which
   is the second half of the ticket, tells the genuine list from any other.
2. Under that list it connects to the registration authority at --url. The code, which is the
   first half of the ticket, gets it a certificate, and the certificate one for its agreement key.
3. It fetches an initial key for each slot and checks everything about it before it is saved.
4. It signs in at the acquirer, which confirms the keys.

With --slip-file, all of that comes from a file or standard input: what the QR code of latchkey terminal code -o qr
holds, or what its --slip-file wrote.

  camera | latchkey-terminal enrol --dir ./t1 --slip-file -

The ticket is asked for, or comes from --ticket-file; it is never a flag. When anything goes
wrong, or the power, run the same command again: it goes on where it was, without the ticket if
that had been taken. With a mistyped ticket, give the right one.

Key sets with delivery attested, which those of production are, give keys only to an agreement key
that the maker of the device has certified. Give that key and the maker's certificates from the
beginning: a one-time code is good for one agreement key.

  latchkey-terminal enrol ... --agreement-key-file key.pem --attestation-file chain.pem

Without --sealer this program keeps keys for tests only, and then
refuses --environment production before it sends anything. Nobody can tell from a ticket what it
is for: the authority says so when the code is spent. A ticket of production is lost there; use it
with --sealer, or on a device with a sealer of its own.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.takeSlip(cmd, &f); err != nil {
				return explain(err)
			}
			return explain(a.enrol(cmd.Context(), f))
		},
	}
	cmd.Flags().StringVar(&f.slip, "slip-file", "", "file with the slip; - for standard input; in place of --url, --trust-url, --tenant, --terminal, --environment and --ticket-file")
	cmd.Flags().StringVar(&f.url, "url", "", "registration authority, https://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.trustURL, "trust-url", "", "where the trust list is published, http://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "whose terminal it is (required)")
	cmd.Flags().StringVar(&f.terminal, "terminal", "", "name of the terminal (required)")
	cmd.Flags().StringVar(&f.ticket, "ticket-file", "", "file with the ticket; - for standard input; without it the ticket is asked for")
	cmd.Flags().StringVar(&f.curve, "curve", "", "of the agreement key: P-256, or P-384 for AES-192 and P-521 for AES-256")
	cmd.Flags().StringVar(&f.environment, "environment", keyset.Test.String(), "what the terminal is for, test or production; an authority of the other is refused")
	cmd.Flags().StringVar(&f.agreementKey, "agreement-key-file", "", "agreement key that the maker has certified: PEM, PKCS #8, readable by you only")
	cmd.Flags().StringVar(&f.attestation, "attestation-file", "", "the maker's certificates of that key: PEM, its own first, without the root")
	cmd.Flags().BoolVar(&f.noSignIn, "no-sign-in", false, "leave the sign-in for later")
	return cmd
}

// takeSlip fills in what a slip says. What it says is not said by flags too.
func (a *app) takeSlip(cmd *cobra.Command, f *enrolFlags) error {
	if f.slip == "" {
		return nil
	}
	for _, name := range []string{"url", "trust-url", "tenant", "terminal", "environment", "ticket-file"} {
		if cmd.Flags().Changed(name) {
			return exit.With(exit.Usage, fmt.Errorf("--%s does not go with --slip-file", name), "the slip says it")
		}
	}
	text, err := a.readSlip(f.slip)
	if err != nil {
		return err
	}
	defer text.Wipe()
	s, err := enroll.ParseSlip(text.Expose())
	if err != nil {
		return err
	}
	f.url, f.trustURL, f.tenant, f.terminal, f.environment, f.slipTicket = s.URL, s.TrustURL, s.Tenant, s.Terminal, s.Environment, s.Ticket
	return nil
}

func (a *app) readSlip(path string) (secret.Bytes, error) {
	if path != "-" {
		return a.read(path, "--slip-file", "slip")
	}
	b, err := io.ReadAll(io.LimitReader(a.stdin, enroll.MaxSlip+1))
	defer secret.Wipe(b)
	return secret.From(b), err
}

func (a *app) enrol(ctx context.Context, f enrolFlags) error {
	o, err := a.enrolOptions(f)
	if err != nil {
		return err
	}
	if err := f.agreement(&o); err != nil {
		return err
	}
	defer o.Agreement.Wipe()
	if o.Environment == keyset.Production && a.element.uri == "" { // which Enroll refuses too, with a folder left behind
		return terminal.ErrInsecure
	}
	step := ""
	o.Progress = func(name string) {
		step = name
		fmt.Fprintln(a.stderr, "enrol: "+name)
	}
	medium, sealer, err := a.create()
	if err != nil {
		return err
	}
	o.Keys = a.element.keys
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	given := f.ticket != "" || f.slip != ""
	if !given { // it may have been taken before
		err = terminal.Enroll(ctx, medium, sealer, o)
	}
	if given || errors.Is(err, terminal.ErrTicket) {
		if o.Ticket = f.slipTicket; f.slip == "" {
			if o.Ticket, err = a.ticket(f.ticket); err != nil {
				return err
			}
		}
		err = terminal.Enroll(ctx, medium, sealer, o)
	}
	if err != nil {
		return addressed(step, err)
	}
	if !f.noSignIn {
		fmt.Fprintln(a.stderr, "enrol: sign-in")
		if err := a.signInQuietly(ctx); err != nil {
			fmt.Fprintln(a.stderr, "enrol: the terminal is made; sign in again with latchkey-terminal signin")
			return err
		}
	}
	return a.status()
}

func (a *app) enrolOptions(f enrolFlags) (terminal.EnrolOptions, error) {
	if a.dir == "" || f.url == "" || f.trustURL == "" || f.tenant == "" || f.terminal == "" {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, errors.New("enrol needs --dir, --url, --trust-url, --tenant and --terminal"),
			"the operator tells them; see: latchkey-terminal enrol --help")
	}
	if err := checkURL(f.url, "https"); err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, fmt.Errorf("--url: %w", err), "give "+urlForm)
	}
	if err := checkURL(f.trustURL, "http"); err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, fmt.Errorf("--trust-url: %w", err), "give "+trustForm)
	}
	tenant, err := keyset.ParseTenant(f.tenant)
	if err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, err, "as in --tenant ACME")
	}
	id, err := keyset.ParseTerminal(f.terminal)
	if err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, err, "as in --terminal T-0001")
	}
	curve, ok := curves[f.curve]
	if !ok {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, fmt.Errorf("curve %q is none of P-256, P-384 and P-521", f.curve), "as in --curve P-256")
	}
	environment, err := keyset.ParseEnvironment(f.environment)
	if err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, err, "as in --environment test")
	}
	return terminal.EnrolOptions{
		URL: f.url, TrustURL: f.trustURL, Tenant: tenant, Terminal: id, Environment: environment, Curve: curve, Timeout: a.wait,
	}, nil
}

// checkURL wants a scheme and a host, with a port or not, and nothing else.
func checkURL(text, scheme string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Hostname() == "" {
		return fmt.Errorf("it does not begin with %s:// and a host", scheme)
	}
	if u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("there is more in it than %s://HOST:PORT", scheme)
	}
	return nil
}

// addressed tells which flag to look at when an error of an enrolment step may come from a wrong address.
func addressed(step string, err error) error {
	asksForList := step == "trust list"
	if r, ok := errors.AsType[*enroll.Refusal](err); ok && asksForList && r.Status < http.StatusInternalServerError && r.RetryAfter == 0 {
		return exit.With(exit.Refused, err, "no trust list is published there: check "+trustForm)
	}
	u, ok := errors.AsType[*url.Error](err)
	if !ok || errors.Is(err, tlsconf.ErrRefused) {
		return err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return err
	}
	switch alert := tlsconf.Alert(err); {
	case strings.HasPrefix(u.URL, "http:"):
		return exit.With(exit.Unreachable, err, "check the network and "+trustForm)
	case errors.Is(err, http.ErrSchemeMismatch):
		return exit.With(exit.Unreachable, err, "what listens there speaks no TLS: check "+urlForm)
	case alert && asksForList: // which takes no certificate
		return exit.With(exit.Refused, err, "that listener is not the one for terminals: check "+urlForm)
	case alert:
		return err
	}
	return exit.With(exit.Unreachable, err, "check the network and "+urlForm)
}

// ticket reads the ticket, which the enrolment wipes.
func (a *app) ticket(path string) (enroll.Ticket, error) {
	typed, err := a.read(path, "--ticket-file", "ticket")
	if err != nil {
		return enroll.Ticket{}, err
	}
	defer typed.Wipe()
	return enroll.ParseTicket(typed.Expose())
}

func newRenew(a *app) *cobra.Command {
	var due bool
	cmd := &cobra.Command{
		Use:   "renew --dir DIR [--if-due]",
		Short: "Get the next certificate, and the latest trust list",
		Long: `renew gets the terminal its next certificate, for a new key, from the registration authority. The
old one stays in use until the authority has let the terminal in with the new one.

  latchkey-terminal renew --dir ./t1 --if-due

With --if-due nothing is done before the window that the authority has set; run that daily, at a
random minute. After an error run it again: it goes on where it was.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.renew(cmd.Context(), due)) },
	}
	cmd.Flags().BoolVar(&due, "if-due", false, "only when the renewal window has begun")
	return cmd
}

func (a *app) renew(ctx context.Context, ifDue bool) error {
	err := a.with(ctx, func(ctx context.Context, t *terminal.Terminal) error {
		if ifDue && !t.RenewDue(time.Now()) {
			fmt.Fprintln(a.stderr, "renew: not due")
			return nil
		}
		fmt.Fprintln(a.stderr, "renew: certificate")
		return t.Renew(ctx)
	})
	if err != nil {
		return err
	}
	return a.status()
}

func newRekey(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rekey --dir DIR",
		Short: "Get the new keys that the operator has ordered, and sign in with them",
		Long: `rekey fetches the initial keys that the registration authority wants the terminal to have, and
signs in at the acquirer with them. A new key takes over when the acquirer has answered; until
then, and when it refuses, the old one works on. Sales without an answer are kept as they are.

  latchkey-terminal rekey --dir ./t1

When none is ordered it says so, and ends well. After an error run it again. status shows keys that
wait.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.rekey(cmd.Context())) },
	}
}

func (a *app) rekey(ctx context.Context) error {
	err := a.with(ctx, func(ctx context.Context, t *terminal.Terminal) error {
		fmt.Fprintln(a.stderr, "rekey: keys, and a sign-in with them")
		before := t.Status().Slots
		err := t.Rekey(ctx)
		if err == nil && slices.EqualFunc(before, t.Status().Slots, sameKey) {
			fmt.Fprintln(a.stderr, "rekey: nothing ordered")
		}
		return err
	})
	if err != nil {
		return err
	}
	return a.status()
}

func sameKey(x, y terminal.SlotReport) bool {
	return x.Number == y.Number && x.Slot.KeyID == y.Slot.KeyID
}

// with opens the terminal for f and closes it.
func (a *app) with(ctx context.Context, f func(context.Context, *terminal.Terminal) error) error {
	t, err := a.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	err = f(ctx, t)
	if e := t.Close(); err == nil {
		err = e
	}
	return err
}
