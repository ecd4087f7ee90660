package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/prompt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// app is where commands read and write, and what their shared flags say.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	format, dir    string
	wait           time.Duration
	element        element
}

func (a *app) input() prompt.Input { return prompt.Input{Stdin: a.stdin, Stderr: a.stderr} }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey-terminal",
		Short: "The reference payment terminal",
		Long: `latchkey-terminal is a payment terminal in a folder: keys, certificate, unsettled sales.

  latchkey-terminal enrol --dir ./t1 --tenant ACME --terminal T-0001 \
    --url https://ra.example:8445 --trust-url http://ra.example:8447
  latchkey-terminal sale --dir ./t1 --amount 12.34 --currency EUR
  latchkey-terminal status --dir ./t1
  latchkey-terminal doctor --dir ./t1
  latchkey-terminal renew --dir ./t1 --if-due

Where no registration authority is, import makes the terminal of a bundle and signin follows.
Card, PIN, ticket and code come from files that only you may read, from standard input, or are
asked for and not shown; never from flags. The folder is guarded by the insecure-file sealer, which
is for test keys only, or with --sealer by a key that stays in a PKCS#11 token (docs/hsm.md).

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by the host or a rule,
5 unreachable, 6 verification failed.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		Version:       exit.Version(),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "table" && a.format != "json" {
				return exit.Errorf(exit.Usage, "output format %q is neither table nor json", a.format)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Usage() // the usage text is help, not the answer
			return exit.With(exit.Usage, errors.New("a command is missing"), "see: "+cmd.CommandPath()+" --help")
		},
	}
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "table", "output format: table or json")
	root.PersistentFlags().StringVar(&a.dir, "dir", "", "folder of the terminal (required)")
	root.PersistentFlags().StringVar(&a.element.uri, "sealer", "", "what guards the folder: PKCS#11 URI of a key in a token, with object and module-path; default: a file in it")
	root.PersistentFlags().StringVar(&a.element.pinFile, "sealer-pin-file", "", "file with the PIN of the token, readable by you only; - for standard input; default: pin-source of the URI, or ask")
	root.PersistentFlags().DurationVar(&a.wait, "timeout", 45*time.Second, "how long to try to reach the host")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit.With(exit.Usage, err, "see: "+cmd.CommandPath()+" --help")
	})
	root.AddCommand(newEnrol(a), newRenew(a), newRekey(a), newImport(a), newSale(a), newSignIn(a), newStatus(a), newResend(a), newDoctor(a), newFleet(a))
	return root
}

// noArgs refuses arguments, and commands that do not exist.
func noArgs(cmd *cobra.Command, args []string) error {
	return exit.With(exit.Usage, cobra.NoArgs(cmd, args), "see: "+cmd.CommandPath()+" --help")
}

// read returns what is called what, from where its flag says; without a path it is asked for. On a terminal that is what -
// means too, because a line that is typed there would be shown. A file that others may read is refused.
func (a *app) read(path, flag, what string) (secret.Bytes, error) {
	switch {
	case path == "-" && a.input().Person():
		path = ""
	case path != "-":
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			return secret.Bytes{}, fmt.Errorf("%s: %w: %s has mode %04o, want 0600", what, seal.ErrExposed, path, info.Mode().Perm())
		}
	}
	b, err := a.input().Read(path, flag, what)
	if e, ok := errors.AsType[*exit.Error](err); ok && e.Hint == "" {
		err = exit.With(e.Code, err, "give it with "+flag+" FILE, or without that flag when it is asked for")
	}
	return b, err
}

// medium returns the folder that --dir names.
func (a *app) medium() (terminal.FS, error) {
	if a.dir == "" {
		return nil, exit.With(exit.Usage, errors.New("the folder of the terminal is missing"), "name it with --dir")
	}
	info, err := os.Stat(a.dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, exit.With(exit.NotFound, fmt.Errorf("no folder %s", a.dir), "make a terminal with latchkey-terminal enrol or import")
	}
	if err != nil {
		return nil, err
	}
	return terminal.OSFS(a.dir), nil
}

// options are those of a terminal in the folder.
func (a *app) options() (terminal.Options, error) {
	medium, err := a.medium()
	if err != nil {
		return terminal.Options{}, err
	}
	sealer, err := a.sealer(medium, false)
	if errors.Is(err, fs.ErrNotExist) && a.element.uri == "" {
		return terminal.Options{}, exit.With(exit.NotFound, terminal.ErrNoTerminal,
			"make a terminal with latchkey-terminal enrol or import; one that was made with --sealer is opened with it")
	}
	if err != nil {
		return terminal.Options{}, explain(err)
	}
	return terminal.Options{FS: medium, Sealer: sealer, Keys: a.element.keys, Network: terminal.LinkOptions{Events: func(s terminal.LinkState) {
		if s != terminal.Online {
			fmt.Fprintf(a.stderr, "link: %v\n", s)
		}
	}}}, nil
}

// open starts the terminal in the folder.
func (a *app) open() (*terminal.Terminal, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	t, err := terminal.Open(o)
	return t, explain(err)
}

// explain gives errors of the terminal their exit code and the next step.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*exit.Error](err); ok {
		return err
	}
	if errors.Is(err, terminal.ErrUnconfirmed) {
		return exit.With(exit.Refused, err, "the old key works on; run latchkey-terminal rekey again later")
	}
	_, unanswered := errors.AsType[*terminal.UnansweredError](err)
	if errors.Is(err, terminal.ErrCertificateRefused) {
		return exit.With(exit.Refused, err, "the acquirer refuses this terminal's certificate: ask the operator (latchkey terminal show)"+kept(unanswered))
	}
	if h, ok := errors.AsType[*terminal.HostError](err); ok && h.Status < 500 {
		return exit.With(exit.Refused, err, hostHint(h.Code)+kept(unanswered))
	}
	if unanswered && !errors.Is(err, terminal.ErrBehind) {
		return exit.With(exit.Unreachable, err, "the sale is kept: settle it with latchkey-terminal resend")
	}
	if r, ok := errors.AsType[*enroll.Refusal](err); ok {
		return refusal(r, err)
	}
	if explained, known := exit.Explain(err,
		exit.When(terminal.ErrNoTerminal, exit.NotFound, "make a terminal with latchkey-terminal enrol or import"),
		exit.When(terminal.ErrExists, exit.Refused, "take another folder; a used one cannot be started again"),
		exit.When(terminal.ErrLocked, exit.Refused, "end the other process first"),
		exit.When(terminal.ErrInsecure, exit.Refused, "production keys need a device with a sealer of its own; this program is for tests"),
		exit.When(terminal.ErrState, exit.Verification, "the terminal needs new keys: have it registered again, in a new folder"),
		exit.When(terminal.ErrBundle, exit.Verification, "ask for the bundle again"),
		exit.When(seal.ErrPassphrase, exit.Verification, "check the code, and that the bundle arrived whole"),
		exit.When(seal.ErrFormat, exit.Verification, "name a file that latchkey bundle register made"),
		exit.When(seal.ErrExposed, exit.Refused, "chmod 600 the file"),
		exit.When(fs.ErrNotExist, exit.NotFound, "check the file name"),
		exit.When(terminal.ErrSale, exit.Usage, "give a card with --track2-file or --pan-file"),
		exit.When(terminal.ErrSlot, exit.Refused, "make the sale with --no-pin, or ask the operator for a slot that takes PINs (latchkey terminal show)"),
		exit.When(terminal.ErrQueue, exit.Refused, "settle it with latchkey-terminal resend; when it does not answer, try signin"),
		exit.When(terminal.ErrOffline, exit.Refused, "make it with the host; latchkey-terminal resend makes room, status says how much there is"),
		exit.When(terminal.ErrBehind, exit.Refused, "run latchkey-terminal resend again"),
		exit.When(terminal.ErrJump, exit.Refused, "ask the host's operator: the counters do not fit"),
		exit.When(terminal.ErrJumpBudget, exit.Refused, "ask for a new key"),
		exit.When(terminal.ErrTicket, exit.Usage, "give the ticket with --ticket-file"),
		exit.When(enroll.ErrSlip, exit.Usage, "the slip is what latchkey terminal code -o qr shows: scan it again"),
		exit.When(enroll.ErrTicket, exit.Usage, "type the ticket as it stands on the slip of paper"),
		exit.When(trustlist.ErrTrust, exit.Verification, "check the second half of the ticket, --tenant and --trust-url; if they are right, somebody is in between"),
		exit.When(remote.ErrDelivery, exit.Verification, "nothing was stored: run it again, and tell the operator if it stays so"),
		exit.When(enroll.ErrAnswer, exit.Verification, "nothing was stored: run it again, and tell the operator if it stays so"),
		exit.When(terminal.ErrAssignment, exit.Refused, "ask the operator to look at the terminal, then run it again"),
		exit.When(terminal.ErrNotEnrolled, exit.Refused, "have the terminal registered again and enrol it, in a new folder"),
		exit.When(tlsconf.ErrRefused, exit.Verification, "who answers there is no registration authority of the tenant: check "+urlForm),
		exit.When(context.DeadlineExceeded, exit.Unreachable, "check the network and the address, then run it again"),
	); known {
		return explained
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return exit.With(exit.Verification, err, "check --url, the clock, and with the operator which trust list is published")
	}
	if tlsconf.CertificateRefused(err) {
		return exit.With(exit.Refused, err, "the registration authority refuses this terminal's certificate: ask the operator (latchkey terminal show)")
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return exit.With(exit.Unreachable, err, "check the network and the address, then run it again")
	}
	return explainToken(err)
}

// hostHint is the next step after a refusal of the host.
func hostHint(code string) string {
	switch code {
	case "TerminalNotActive", "SlotNotActive":
		return "run latchkey-terminal signin"
	case "":
		return "ask the host's operator"
	}
	return "ask the host's operator about " + code
}

// kept is what is to be said further when a sale has no answer.
func kept(unanswered bool) string {
	if unanswered {
		return "; the sale is kept for latchkey-terminal resend"
	}
	return ""
}

// refusal says what the registration authority says. One that cannot do its work now is as good as none.
func refusal(r *enroll.Refusal, err error) error {
	code, hint := exit.Refused, r.Hint
	if r.Status >= http.StatusInternalServerError {
		code = exit.Unreachable
	}
	switch {
	case r.RetryAfter > 0:
		hint = fmt.Sprintf("run it again in %v", r.RetryAfter)
	case hint == "" && r.Status == http.StatusUnauthorized:
		hint = "check the name of the terminal and the first half of the ticket, or ask the operator for another"
	case hint == "":
		hint = "ask the operator of the registration authority"
	}
	return exit.With(code, err, hint)
}

// row is one line of a two-column answer.
type row struct {
	name  string
	value any
}

// show writes rows for people and value for programs.
func (a *app) show(value any, rows ...row) error {
	if a.format == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%v\n", r.name, r.value)
	}
	return w.Flush()
}
