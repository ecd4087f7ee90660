package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
)

func newRoot(c *console) *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey",
		Short: "Key management and secure transport for payment terminals",
		Long: `latchkey manages what secures a payment terminal's words to its acquirer: DUKPT keys,
certificates, key sets, terminals, and the log of every use.

Start with:
  latchkey demo                 the whole story on this machine, in about a minute
  latchkey init ./pos           a deployment of your own, in a folder
  latchkey dukpt explain KSN    what a key serial number says

Secrets come from files, standard input or a prompt, never from flags. Data goes to standard
output, messages to standard error; -o json is stable and meant for programs. The variable
LATCHKEY_SERVER says where the registration authority is, for commands with --server.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by policy, 5 unreachable,
6 verification failed.`,
		Version:       exit.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.ValidateRequiredFlags(); err != nil {
				return exit.With(exit.Usage, err, "see: "+cmd.CommandPath()+" --help")
			}
			return checkFormat(c.format, cmd.Annotations[showsTickets] != "")
		},
		Args: cobra.ArbitraryArgs, // names of commands that do not exist come here
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit.With(exit.Usage, fmt.Errorf("there is no command %q", args[0]), "see: latchkey --help")
			}
			_ = cmd.Usage() // the usage text is help, not the answer
			return exit.With(exit.Usage, errors.New("a command is missing"), "see: latchkey --help")
		},
	}
	root.PersistentFlags().StringVarP(&c.format, "output", "o", "table", "output format: table or json; for one-time codes also qr")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit.With(exit.Usage, err, "see: "+cmd.CommandPath()+" --help")
	})
	root.AddCommand(newDemo(c), newInit(c), newKey(c), newKeySet(c), newAttested(c), newTrust(c),
		newTerminal(c), newCert(c), newApprove(c), newOperator(c), newService(c), newBundle(c), newDUKPT(c), newPIN(c), newKeyBlock(c), newHSM(c), newVault(c), newStore(c), newAudit(c))
	return root
}

// noun groups verbs; called alone it shows them and says that a verb is missing.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use + " VERB",
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			_ = cmd.Usage() // the usage text is help, not the answer
			err := fmt.Errorf("%s needs a verb", use)
			if len(args) > 0 {
				err = fmt.Errorf("%s has no verb %q", use, args[0])
			}
			return exit.With(exit.Usage, err, "see: "+cmd.CommandPath()+" --help")
		},
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// required marks flags that a command does not go without.
func required(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		if err := cmd.MarkFlagRequired(flag); err != nil {
			panic("latchkey: " + err.Error())
		}
	}
}

// arguments demands exactly the named arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return exit.With(exit.Usage, cobra.ExactArgs(len(names))(cmd, args), "usage: "+cmd.UseLine())
		}
		return nil
	}
}
