package main

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// enrolFlags say where a terminal enrols, and as whom.
type enrolFlags struct {
	url, trustURL, tenant, terminal, ticket, curve string
	agreementKey, attestation                      string
	noSignIn                                       bool
}

// curves are those that an agreement key may be on.
var curves = map[string]elliptic.Curve{
	"": nil, "P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
}

func newEnrol(a *app) *cobra.Command {
	var f enrolFlags
	cmd := &cobra.Command{
		Use:   "enrol --dir DIR --url URL --trust-url URL --tenant TENANT --terminal ID [--ticket-file FILE]",
		Short: "Make a terminal over the network, with the ticket of its operator",
		Long: `enrol makes a terminal of an empty folder and the ticket that latchkey terminal register gave out:

  latchkey-terminal enrol --dir ./t1 --tenant ACME --terminal T-0001 \
    --url https://ra.example:8443 --trust-url http://ra.example:8080

1. It fetches the trust list from --trust-url. Nothing protects that connection: the pin, which
   is the second half of the ticket, tells the genuine list from any other.
2. Under that list it connects to the registration authority at --url. The code, which is the
   first half of the ticket, gets it a certificate, and the certificate one for its agreement key.
3. It fetches an initial key for each slot and checks everything about it before it is saved.
4. It signs in at the acquirer, which confirms the keys.

The ticket is asked for, or comes from --ticket-file; it is never a flag. When anything goes
wrong, or the power, run the same command again: it goes on where it was, without the ticket if
that had been taken. With a mistyped ticket, give the right one.

Key sets with delivery attested, which those of production are, give keys only to an agreement key
that the maker of the device has certified. Give that key and the maker's certificates from the
beginning: a one-time code is good for one agreement key.

  latchkey-terminal enrol ... --agreement-key-file key.pem --attestation-file chain.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.enrol(cmd.Context(), f)) },
	}
	cmd.Flags().StringVar(&f.url, "url", "", "registration authority, https://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.trustURL, "trust-url", "", "where the trust list is published, http://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "whose terminal it is (required)")
	cmd.Flags().StringVar(&f.terminal, "terminal", "", "name of the terminal (required)")
	cmd.Flags().StringVar(&f.ticket, "ticket-file", "", "file with the ticket; - for standard input; without it the ticket is asked for")
	cmd.Flags().StringVar(&f.curve, "curve", "", "of the agreement key: P-256, or P-384 for AES-192 and P-521 for AES-256")
	cmd.Flags().StringVar(&f.agreementKey, "agreement-key-file", "", "agreement key that the maker has certified: PEM, PKCS #8, readable by you only")
	cmd.Flags().StringVar(&f.attestation, "attestation-file", "", "the maker's certificates of that key: PEM, its own first, without the root")
	cmd.Flags().BoolVar(&f.noSignIn, "no-sign-in", false, "leave the sign-in for later")
	return cmd
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
	if err := makeFolder(a.dir, testOnlySyncDir); err != nil {
		return err
	}
	medium := terminal.OSFS(a.dir)
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	if f.ticket == "" { // it may have been taken before
		err = terminal.Enroll(ctx, medium, sealer, o)
	}
	if f.ticket != "" || errors.Is(err, terminal.ErrTicket) {
		if o.Ticket, err = a.ticket(f.ticket); err != nil {
			return err
		}
		err = terminal.Enroll(ctx, medium, sealer, o)
	}
	if err != nil {
		return err
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
		return terminal.EnrolOptions{}, exit.Errorf(exit.Usage, "enrol needs --dir, --url, --trust-url, --tenant and --terminal")
	}
	if err := checkURL(f.url, "https"); err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, fmt.Errorf("--url: %w", err), "as in --url https://ra.example:8443")
	}
	if err := checkURL(f.trustURL, "http"); err != nil {
		return terminal.EnrolOptions{}, exit.With(exit.Usage, fmt.Errorf("--trust-url: %w", err), "as in --trust-url http://ra.example:8080")
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
		return terminal.EnrolOptions{}, exit.Errorf(exit.Usage, "curve %q is none of P-256, P-384 and P-521", f.curve)
	}
	return terminal.EnrolOptions{
		URL: f.url, TrustURL: f.trustURL, Tenant: tenant, Terminal: id, Curve: curve, Timeout: a.wait,
		Progress: func(step string) { fmt.Fprintln(a.stderr, "enrol: "+step) },
	}, nil
}

// checkURL wants a scheme and a host.
func checkURL(text, scheme string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Hostname() == "" {
		return fmt.Errorf("it does not begin with %s:// and a host", scheme)
	}
	return nil
}

// ticket reads the ticket, which the enrolment wipes.
func (a *app) ticket(path string) (enroll.Ticket, error) {
	typed, err := a.input().Read(path, "--ticket-file", "ticket")
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
		Args: cobra.NoArgs,
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

After an error run it again. status shows keys that wait.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.rekey(cmd.Context())) },
	}
}

func (a *app) rekey(ctx context.Context) error {
	err := a.with(ctx, func(ctx context.Context, t *terminal.Terminal) error {
		fmt.Fprintln(a.stderr, "rekey: keys, and a sign-in with them")
		return t.Rekey(ctx)
	})
	if err != nil {
		return err
	}
	return a.status()
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
