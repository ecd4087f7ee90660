package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func newOperator(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("operator", "People: add", newOperatorAdd(c, f))
	f.flags(cmd)
	return cmd
}

// newPerson is what operator add asks for.
type newPerson struct {
	role    string
	own     bool   // a passphrase of their own, typed twice
	ownFile string // or in a file
}

func newOperatorAdd(c *console, f *folder) *cobra.Command {
	var p newPerson
	issuer := newIssuerKey(c)
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Certify a further operator, custodian or auditor",
		Long: `Add makes a key pair and a certificate of the services authority for one more person, in the folder operators/NAME.
Two people are needed for everything that production asks a second approval for.

The key is sealed under the passphrase of the deployment, so whoever has that can act as this person too. With a
passphrase of their own, which they type or bring in a file, nobody else can: it is asked for with
--as-passphrase-file by every command that takes --as.`,
		Example: `  latchkey operator add OPERATOR-2 --dir ./pos --own-passphrase
  latchkey approve --list --dir ./pos --as OPERATOR-2 --as-passphrase-file theirs.txt`,
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := p.check(args[0])
			if err != nil {
				return err
			}
			return f.with(func(d *deploy.Deployment) error {
				var person *deploy.Person
				err := issuer.with(cmd.Context(), d, identity.ServicesCA, func() (err error) {
					person, err = p.add(cmd.Context(), c, d, who, args[0])
					return err
				})
				if errors.Is(err, fs.ErrExist) {
					return exit.With(exit.Refused, err, "a name is used once: choose another")
				}
				if err != nil {
					return err
				}
				return c.show(map[string]string{"identity": person.Identity().String()}, field{"identity", person.Identity()})
			})
		},
	}
	issuer.flags(cmd)
	cmd.Flags().StringVar(&p.role, "role", "operator", "operator, custodian or auditor")
	cmd.Flags().BoolVar(&p.own, "own-passphrase", false, "ask twice for a passphrase of their own")
	cmd.Flags().StringVar(&p.ownFile, "own-passphrase-file", "", "file with a passphrase of their own (mode 0600)")
	return cmd
}

// check refuses what cannot be, before anything is opened.
func (p newPerson) check(name string) (identity.Role, error) {
	who, err := identity.ParseRole(p.role)
	if err != nil || !slices.Contains([]identity.Role{identity.Operator, identity.Custodian, identity.Auditor}, who) {
		return "", exit.With(exit.Usage, fmt.Errorf("role %q is not a person's", p.role), "the roles are operator, custodian and auditor")
	}
	if _, err := identity.New("X", who, name); err != nil {
		return "", exit.With(exit.Usage, err, personName)
	}
	if p.own && p.ownFile != "" {
		return "", exit.With(exit.Usage, errors.New("--own-passphrase asks, --own-passphrase-file reads"), "give one of the two")
	}
	return who, nil
}

func (p newPerson) add(ctx context.Context, c *console, d *deploy.Deployment, who identity.Role, name string) (*deploy.Person, error) {
	if !p.own && p.ownFile == "" {
		if d.Config().Environment == keyset.Production {
			c.note("the key of %s is sealed under the passphrase of the deployment: whoever has that is %s too (--own-passphrase)", name, name)
		}
		return d.AddOperator(ctx, who, name)
	}
	pass, err := c.newPassphrase(p.ownFile, "--own-passphrase-file", "passphrase of "+name)
	if err != nil {
		return nil, err
	}
	defer pass.Wipe()
	person, err := d.AddPerson(ctx, who, name, pass)
	if err == nil {
		c.note("next: commands with --as %s take the passphrase with --as-passphrase-file", name)
	}
	return person, err
}
