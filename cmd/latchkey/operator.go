package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func newOperator(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("operator", "People: add", newOperatorAdd(c, f))
	f.flags(cmd)
	return cmd
}

func newOperatorAdd(c *console, f *folder) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Certify a further operator, custodian or auditor",
		Long: `Add makes a key pair and a certificate of the services authority for one more person, in the folder operators/NAME.
The key is sealed under the passphrase of the deployment. Two people are needed for everything that production asks a
second approval for.`,
		Example: "  latchkey operator add OPERATOR-2 --dir ./pos --passphrase-file pass.txt",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := identity.ParseRole(role)
			if err != nil || !slices.Contains([]identity.Role{identity.Operator, identity.Custodian, identity.Auditor}, who) {
				return exit.Errorf(exit.Usage, "role %q is not operator, custodian or auditor", role)
			}
			return f.with(func(d *deploy.Deployment) error {
				p, err := d.AddOperator(cmd.Context(), who, args[0])
				if err != nil {
					return exit.With(exit.Refused, err, "a name has 1 to 32 of A-Z, 0-9 and -, and is used once")
				}
				return c.show(map[string]string{"identity": p.Identity().String()}, field{"identity", p.Identity()})
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "operator", "operator, custodian or auditor")
	return cmd
}
