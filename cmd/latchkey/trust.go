package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

func newTrust(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("trust", "The signed list of roots that terminals trust: show, update", newTrustShow(c, f), newTrustUpdate(c, f))
	f.flags(cmd)
	return cmd
}

// listedTrust is a trust list with all that it says.
type listedTrust struct {
	Tenant    string       `json:"tenant"`
	Version   uint64       `json:"version"`
	NotBefore string       `json:"notBefore"`
	Pin       string       `json:"pin"`
	NextPins  []string     `json:"nextPins"`
	Terminals []listedRoot `json:"terminals"`
	Services  []listedRoot `json:"services"`
	KeyDist   []listedRoot `json:"keydist"`
}

func listRoots(roots []*x509.Certificate) []listedRoot {
	out := []listedRoot{}
	for _, root := range roots {
		sum := sha256.Sum256(root.Raw)
		out = append(out, listedRoot{root.Subject.String(), hex.EncodeToString(sum[:]), root.NotAfter.UTC().Format(time.RFC3339)})
	}
	return out
}

func showTrust(c *console, l *trustlist.List, pin trustlist.Pin) error {
	t := listedTrust{
		Tenant: l.Tenant, Version: l.Version, NotBefore: l.NotBefore.UTC().Format(time.RFC3339), Pin: pin.String(), NextPins: []string{},
		Terminals: listRoots(l.Terminals), Services: listRoots(l.Services), KeyDist: listRoots(l.KeyDist),
	}
	fields := []field{{"tenant", t.Tenant}, {"version", t.Version}, {"not before", t.NotBefore}, {"pin", t.Pin}}
	for _, p := range l.Next {
		t.NextPins = append(t.NextPins, p.String())
		fields = append(fields, field{"next pin", p})
	}
	for _, part := range []struct {
		name  string
		roots []listedRoot
	}{{"root of terminals", t.Terminals}, {"root of services", t.Services}, {"root of keydist", t.KeyDist}} {
		for _, root := range part.roots {
			fields = append(fields, field{part.name, root})
		}
	}
	return c.show(t, fields...)
}

func newTrustShow(c *console, f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the trust list that is in force: version, roots, pin",
		Long: `Show verifies the trust list in trust/list.signed by its pin and shows what it says. It needs no passphrase. It
also says when the roots in trust/*.pem are others than those of the list.`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			l, pin, err := f.trustList()
			if err != nil {
				return err
			}
			same, err := f.sameRoots(l)
			if err != nil {
				return err
			}
			if !same {
				c.note("trust/*.pem have other roots than the list: latchkey trust update makes a list of them")
			}
			return showTrust(c, l, pin)
		},
	}
}

// trustList reads the list that is in force. It needs no passphrase.
func (f *folder) trustList() (*trustlist.List, trustlist.Pin, error) {
	config, err := f.config()
	if err != nil {
		return nil, trustlist.Pin{}, err
	}
	l, pin, err := deploy.OpenTrustList(deploy.TrustListPath(f.dir), config.Tenant)
	return l, pin, badTrustList(err)
}

// sameRoots reports whether the trust folder has the roots of a list.
func (f *folder) sameRoots(l *trustlist.List) (bool, error) {
	for a, listed := range map[identity.Authority][]*x509.Certificate{
		identity.TerminalCA: l.Terminals, identity.ServicesCA: l.Services, identity.KeyDistCA: l.KeyDist,
	} {
		roots, err := deploy.LoadChain(deploy.TrustPath(f.dir, a))
		if err != nil {
			return false, badTrustList(err)
		}
		if !slices.EqualFunc(roots, listed, (*x509.Certificate).Equal) {
			return false, nil
		}
	}
	return true, nil
}

func badTrustList(err error) error {
	switch {
	case errors.Is(err, trustlist.ErrTrust):
		return exit.With(exit.Verification, err, "compare trust/list.signed and trust/list.pin with a copy")
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "the trust list, its pin and the roots are in the folder trust of the deployment")
	}
	return err
}

func newTrustUpdate(c *console, f *folder) *cobra.Command {
	var next []string
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Sign the next version of the trust list, of the roots in trust/*.pem",
		Long: `Update signs a trust list with the next version number, from now on: the roots as they are in trust/terminals.pem,
trust/services.pem and trust/keydist.pem, several in one file where one replaces another. It needs
trust/list.key.sealed. A registration authority over this folder hands the list out within a second; elsewhere
copy trust/list.signed there. Terminals take it when they next renew or rekey, and never an older one again: so
leave a root in the list until nothing below it is in use.

The pin on slips of paper stays. --next-key names keys that may sign later lists, beside the one that signs now;
terminals that have taken this list will believe them.`,
		Example: `  cat new-services-root.pem >> trust/services.pem && latchkey trust update`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pins, err := parsePins(next)
			if err != nil {
				return err
			}
			before, pin, err := f.trustList()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("next-key") {
				pins = before.Next
			}
			return f.with(func(d *deploy.Deployment) error {
				l, err := d.UpdateTrustList(pins)
				if errors.Is(err, trustlist.ErrTrust) {
					return exit.With(exit.Refused, err, "look at the roots in trust/*.pem, and at --next-key")
				}
				if errors.Is(err, fs.ErrNotExist) {
					return exit.With(exit.NotFound, err, "put trust/list.key.sealed into its place for as long as it is needed")
				}
				if err != nil {
					return err
				}
				c.note("version %d takes the place of version %d; terminals take it when they next renew or rekey", l.Version, before.Version)
				return showTrust(c, l, pin)
			})
		},
	}
	cmd.Flags().StringArrayVar(&next, "next-key", nil,
		"pin of a key that may sign later lists; may be given again; none for no such key; default: those of the list before")
	return cmd
}

// parsePins reads the values of --next-key.
func parsePins(texts []string) ([]trustlist.Pin, error) {
	if slices.Equal(texts, []string{"none"}) {
		return nil, nil
	}
	var out []trustlist.Pin
	for _, text := range texts {
		p, err := trustlist.ParsePin(text)
		if err != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("--next-key %q: %w", text, err), "a pin has 26 characters, as trust show writes it")
		}
		out = append(out, p)
	}
	return out, nil
}
