package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func newBundle(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("bundle", "Terminals without a network: keys and certificate in a sealed file", newBundleRegister(c, f), newBundleList(c, f))
	f.flags(cmd)
	return cmd
}

type listedSlot struct {
	Slot   uint8  `json:"slot"`
	KeySet string `json:"keySet"`
	KeyID  string `json:"keyId"`
	State  string `json:"state"`
}

type listedTerminal struct {
	ID         string       `json:"id"`
	Status     string       `json:"status"`
	Serial     string       `json:"certificateSerial"`
	Generation uint64       `json:"generation"`
	Slots      []listedSlot `json:"slots"`
	Bundle     string       `json:"bundle,omitempty"`
}

func listTerminal(t *keyset.Terminal) listedTerminal {
	l := listedTerminal{ID: string(t.ID), Status: t.Status.String(), Serial: t.Serial, Generation: t.Generation, Slots: []listedSlot{}}
	for _, s := range t.Slots {
		l.Slots = append(l.Slots, listedSlot{s.Slot, string(s.KeySet), s.KeyID.String(), s.State.String()})
	}
	return l
}

func newBundleRegister(c *console, f *folder) *cobra.Command {
	var id, bundleFile, codeFile string
	var slots, endpoints []string
	issuer := newIssuerKey(c)
	cmd := &cobra.Command{
		Use:   "register",
		Short: "Register a terminal; write its certificate and initial keys as a sealed bundle",
		Long: `Register allocates a key id in each key set, derives the initial keys, issues the terminal's certificate
and writes all of it as one bundle, sealed under a fresh code of 26 characters. Bring the bundle and
the code to the terminal on different ways; latchkey-terminal import opens them.

Bundles are for benches without a network, and for test deployments only: the private key of the
certificate is made here and travels. The key sets must have been made with --delivery none, and the
decryption service must read terminals from the folder (no registry section in decryptd.yaml).
Everybody else enrols: latchkey terminal register, latchkey terminal code.`,
		Example: `  latchkey bundle register --id T-0001 --slot 1=DATA-1 --slot 2=PIN-1 \
    --endpoint https://localhost:8444 --bundle-file T-0001.bundle --code-file T-0001.code`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := deploy.Registration{}
			var err error
			if r.ID, err = keyset.ParseTerminal(id); err != nil {
				return exit.With(exit.Usage, err, terminalName)
			}
			if r.Slots, err = parseSlots(slots); err != nil {
				return err
			}
			if err := checkEndpoints(endpoints); err != nil {
				return err
			}
			for _, e := range endpoints {
				r.Endpoints = append(r.Endpoints, terminal.Endpoint{URL: e})
			}
			return f.with(func(d *deploy.Deployment) error {
				if r.Signers, err = f.people(d); err != nil {
					return err
				}
				r.Passphrase = deploy.NewBundlePassphrase()
				defer r.Passphrase.Wipe()
				var made *deploy.Registered
				err := issuer.with(cmd.Context(), d, identity.TerminalCA, func() (err error) {
					made, err = d.RegisterTerminal(cmd.Context(), r)
					return err
				})
				if err != nil {
					return bundleRefused(err, "see: latchkey bundle list, latchkey keyset list")
				}
				if err := seal.WriteFile(bundleFile, made.Bundle, 0o600); err != nil {
					return err
				}
				if err := seal.WriteFile(codeFile, append(r.Passphrase.Expose(), '\n'), 0o600); err != nil {
					return err
				}
				c.note("next: on the terminal, latchkey-terminal import --bundle %s --code-file %s --dir STATE", bundleFile, codeFile)
				l := listTerminal(made.Terminal)
				l.Bundle = bundleFile
				fields := []field{{"terminal", l.ID}, {"status", l.Status}, {"certificate serial", l.Serial}}
				for _, s := range l.Slots {
					fields = append(fields, field{fmt.Sprintf("slot %d", s.Slot), s.KeySet + " " + s.KeyID})
				}
				return c.show(l, append(fields, field{"bundle", bundleFile}, field{"code", "in " + codeFile})...)
			})
		},
	}
	issuer.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&id, "id", "", "name of the terminal")
	fl.StringArrayVar(&slots, "slot", nil, "NUMBER=KEYSET, once for each slot; the first data slot MACs the messages")
	fl.StringArrayVar(&endpoints, "endpoint", nil, "https://HOST:PORT of the acquirer, in the order of preference")
	fl.StringVar(&bundleFile, "bundle-file", "", "where to write the sealed bundle")
	fl.StringVar(&codeFile, "code-file", "", "where to write the code that opens it")
	required(cmd, "id", "slot", "endpoint", "bundle-file", "code-file")
	f.signs(cmd)
	return cmd
}

// bundleRefused also knows that a key set may not be for bundles, and that a terminal is registered once.
func bundleRefused(err error, hint string) error {
	if errors.Is(err, fs.ErrExist) {
		return exit.With(exit.Refused, err, "the name of a terminal is used once: choose another; see: latchkey bundle list")
	}
	if errors.Is(err, deploy.ErrDelivery) {
		return exit.With(exit.Refused, err, "keys of this set are delivered over the network: latchkey terminal register")
	}
	return refusedBy(err, hint)
}

// parseSlots reads what goes into which slot, ascending.
func parseSlots(slots []string) ([]deploy.SlotRequest, error) {
	var out []deploy.SlotRequest
	for _, s := range slots {
		number, set, _ := strings.Cut(s, "=")
		n, err := strconv.ParseUint(number, 10, 8)
		id, idErr := keyset.ParseID(set)
		if err != nil || n < 1 || n > keyset.MaxSlots || idErr != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("slot %q is not NUMBER=KEYSET", s), "as in: --slot 1=DATA-1")
		}
		out = append(out, deploy.SlotRequest{Slot: uint8(n), KeySet: id})
	}
	return ascending(out, func(s deploy.SlotRequest) uint8 { return s.Slot })
}

func newBundleList(c *console, f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the terminals that were registered this way",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			return f.with(func(d *deploy.Deployment) error {
				terminals, err := d.Terminals()
				if err != nil {
					return err
				}
				list := []listedTerminal{}
				var rows [][]string
				for _, t := range terminals {
					l := listTerminal(t)
					list = append(list, l)
					var slots []string
					for _, s := range l.Slots {
						slots = append(slots, fmt.Sprintf("%d=%s %s", s.Slot, s.KeySet, s.KeyID))
					}
					rows = append(rows, []string{l.ID, l.Status, l.Serial, strings.Join(slots, ", ")})
				}
				return c.list(list, []string{"ID", "STATUS", "CERTIFICATE", "SLOTS"}, rows)
			})
		},
	}
}
