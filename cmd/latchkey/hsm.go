package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newHSM(c *console) *cobra.Command {
	return noun("hsm", "PKCS#11 tokens: which there are, what they can do, how fast", newHSMList(c), newHSMProbe(c), newHSMBench(c))
}

// element is the token that a command works with.
type element struct {
	c                  *console
	uri, pinFile       string
	pinValue, finalTry bool
	carry              bool
	environment        string
}

// flags adds the flags of commands that log in to a token.
func (e *element) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&e.uri, "hsm", "", "PKCS#11 URI of the token (RFC 7512), with its module-path")
	fl.StringVar(&e.pinFile, "pin-file", "", "file with the PIN of the token (mode 0600); - for standard input; default: pin-source of the URI, or ask")
	fl.BoolVar(&e.pinValue, "insecure-uri", false, "take a pin-value in the URI: for tokens of tests, because lists of processes show it")
	fl.BoolVar(&e.finalTry, "final-try", false, "try the PIN although one more wrong one locks the token")
}

// carryFlag adds the flag of commands that look at zone keys or load them.
func (e *element) carryFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&e.carry, "carry-pins", false, "with --hsm: as with carry-pins of latchkey-decryptd: PIN blocks pass as wrapped keys, and zone keys that are loaded may wrap")
}

// with opens the token for one piece of work.
func (e *element) with(ctx context.Context, work func(*hsm.Token) error) error {
	u, err := e.parse()
	if err != nil {
		return err
	}
	pin, err := e.pin(u)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	stuck := make(chan struct{})
	token, err := hsm.Open(ctx, u, pin, hsm.Options{FinalTry: e.finalTry, CarryPINs: e.carry, Stuck: func() { close(stuck) }})
	if err != nil {
		return tokenFailed(err)
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		if e.carry {
			err = token.CheckCarry(ctx)
		}
		if err == nil {
			err = work(token)
		}
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-stuck: // the work is in that call, and ends with the program
		return tokenFailed(token.Close())
	}
	err = tokenFailed(err)
	if cerr := token.Close(); err == nil {
		err = tokenFailed(cerr)
	}
	return err
}

// parse reads the URI, which names a module.
func (e *element) parse() (hsm.URI, error) {
	parse := hsm.ParseURI
	if e.pinValue {
		parse = hsm.ParseURIWithPIN
	}
	u, err := parse(e.uri)
	if err != nil {
		return hsm.URI{}, tokenFailed(err)
	}
	if u.Module() == "" {
		return hsm.URI{}, exit.With(exit.Usage, errors.New("the URI has no module-path"), "as in: pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so")
	}
	return u, nil
}

// pin returns the PIN from where it is said to be.
func (e *element) pin(u hsm.URI) (secret.Bytes, error) {
	file := e.pinFile
	switch {
	case file == "" && !u.PIN().IsZero():
		return u.PIN().Clone(), nil
	case file == "" && u.PINSource() != "":
		file = strings.TrimPrefix(u.PINSource(), "file:")
	}
	if file != "" && file != "-" {
		info, err := os.Stat(file)
		if err != nil {
			return secret.Bytes{}, exit.With(exit.NotFound, fmt.Errorf("PIN: %w", err), "write the PIN to it: one line, mode 0600")
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return secret.Bytes{}, exit.With(exit.Refused, fmt.Errorf("PIN: %s has mode %04o", file, mode), "let its owner alone read it: chmod 600 "+file)
		}
	}
	return e.c.secret(file, "--pin-file", "PIN of the token")
}

// scope is the environment of a key that is made in a token.
func (e *element) scope() (keyset.Environment, error) {
	env, err := keyset.ParseEnvironment(e.environment)
	return env, exit.With(exit.Usage, err, "say --environment test or --environment production: it stays with the key for ever")
}

// tokenFailed gives errors of tokens their exit codes, and says what to do next.
func tokenFailed(err error) error {
	err, _ = exit.Explain(err,
		exit.When(hsm.ErrPINValue, exit.Usage, "use --pin-file, or pin-source in the URI"),
		exit.When(hsm.ErrURI, exit.Usage, "as in: pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so"),
		exit.When(hsm.ErrNoBridge, exit.Failure, "see docs/hsm.md"),
		exit.When(hsm.ErrModule, exit.NotFound, "name the module of the maker: module-path in the URI, or --module"),
		exit.When(hsm.ErrNoToken, exit.NotFound, "see which there are: latchkey hsm list --module PATH"),
		exit.When(hsm.ErrAmbiguous, exit.Refused, "name one: see latchkey hsm list for serials"),
		exit.When(hsm.ErrPINTries, exit.Refused, "be sure of the PIN; then --final-try"),
		exit.When(hsm.ErrPIN, exit.Verification, "it was tried once; look before you try again: tokens lock"),
		exit.When(hsm.ErrExists, exit.Refused, "choose another name: keys are never replaced"),
		exit.When(hsm.ErrDuplicate, exit.Refused, "a key has one name: see latchkey key list --hsm"),
		exit.When(hsm.ErrCarry, exit.Refused, "see what the token can do: latchkey hsm probe without --carry-pins"),
		exit.When(hsm.ErrVariant, exit.Verification, "import the base key again under another name: docs/hsm.md"),
		exit.When(hsm.ErrAttributes, exit.Verification, "the key must not be used; docs/hsm.md says what its attributes have to be"),
		exit.When(hsm.ErrStuck, exit.Unreachable, "see that the device answers its maker's tool, and start again: nothing else ends such a call"),
		exit.When(engine.ErrUnavailable, exit.Unreachable, "see that the token is there, and try again"),
	)
	return err
}

// listedToken is what list says of a token.
type listedToken struct {
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Model        string `json:"model"`
	Manufacturer string `json:"manufacturer"`
	URI          string `json:"uri"`
}

func newHSMList(c *console) *cobra.Command {
	var module string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens of a PKCS#11 module",
		Long:    `List shows the initialised tokens of a module, and the URI of each. Nobody logs in.`,
		Example: "  latchkey hsm list --module /usr/lib/softhsm/libsofthsm2.so",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := hsm.Tokens(cmd.Context(), module)
			if err != nil {
				return tokenFailed(err)
			}
			list := []listedToken{}
			var rows [][]string
			for _, i := range all {
				l := listedToken{i.Label, i.Serial, i.Model, i.Manufacturer, i.URI().String()}
				list = append(list, l)
				rows = append(rows, []string{l.Label, l.Serial, l.Model, l.Manufacturer, l.URI})
			}
			return c.list(list, []string{"LABEL", "SERIAL", "MODEL", "MANUFACTURER", "URI"}, rows)
		},
	}
	cmd.Flags().StringVar(&module, "module", "", "path of the PKCS#11 module")
	required(cmd, "module")
	return cmd
}

// tokenReport is what probe says of a token.
type tokenReport struct {
	Label        string        `json:"label"`
	Serial       string        `json:"serial"`
	Model        string        `json:"model"`
	Manufacturer string        `json:"manufacturer"`
	Checks       []checkReport `json:"checks"`
	Keys         []keyReport   `json:"keys"`
}

type checkReport struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
}

type keyReport struct {
	Name        string `json:"name"`
	KeyMode     string `json:"keyMode"`
	PINExposure string `json:"pinExposure"`
	Why         string `json:"why"`
}

func newHSMProbe(c *console) *cobra.Command {
	e := &element{c: c}
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Ask a token for known answers, and say how each base key works therefore",
		Long: `Probe logs in to a token and has it compute published samples with keys that live as long as the session. What a
token lists is no proof. For each base key it says where its keys are while they are used (key mode), whether a PIN is
ever outside, and why.`,
		Example: "  latchkey hsm probe --hsm 'pkcs11:token=acquirer?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file pin",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.with(cmd.Context(), func(t *hsm.Token) error {
				r, err := t.Probe(cmd.Context())
				if err != nil {
					return err
				}
				return showProbe(c, r)
			})
		},
	}
	e.flags(cmd)
	e.carryFlag(cmd)
	required(cmd, "hsm")
	return cmd
}

func showProbe(c *console, r hsm.Report) error {
	p := tokenReport{Label: r.Label, Serial: r.Serial, Model: r.Model, Manufacturer: r.Manufacturer, Checks: []checkReport{}, Keys: []keyReport{}}
	fields := []field{{"label", r.Label}, {"serial", r.Serial}, {"model", r.Model}, {"manufacturer", r.Manufacturer}}
	for _, check := range r.Checks {
		p.Checks = append(p.Checks, checkReport{check.Name, check.OK, check.Why})
		answer := "yes"
		if !check.OK {
			answer = "no: " + check.Why
		}
		fields = append(fields, field{check.Name, answer})
	}
	for _, k := range r.Keys {
		p.Keys = append(p.Keys, keyReport{k.Ref.String(), k.KeyMode.String(), k.PINExposure.String(), k.Why})
		fields = append(fields, field{k.Ref.String(), fmt.Sprintf("%v/%v: %s", k.KeyMode, k.PINExposure, k.Why)})
	}
	return c.show(p, fields...)
}
