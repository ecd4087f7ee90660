package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
)

func newTerminalImport(c *console, r *registry) *cobra.Command {
	f := fleetFlags{imports: true}
	cmd := &cobra.Command{
		Use:   "import --file LIST",
		Short: "Register terminals whose keys were injected elsewhere, behind the counters that were used there",
		Long: `Import registers a list of terminals that have their initial keys already: a key injection facility has loaded them, and another
host has answered their messages until now. The base key has been imported (latchkey key import), and a key set over it has the
range of the key ids that were injected (latchkey keyset create --delivery none). The keys are in use at once: two people
stand behind the list, and no sign-in has to prove them.

The list is comma-separated values in ASCII, a line each; the first line names the columns: terminal, keys, and where they differ
from the flags slots (1=DATA-1;2=PIN-1), endpoints, group and labels. keys has for each slot NUMBER=KEYID/COUNTER:

  terminal,slots,keys
  T-0001,1=DATA-1;2=PIN-1,1=1234567890123456/0000001F;2=FFFF9876543210E00000/00001F

KEYID is the initial KSN: 20 digits with the counter 0 for TDES, 16 digits without it for AES. COUNTER is the last one that was
used at the other host, in all of its digits as in a KSN: 6 for TDES, 8 for AES; 0 when none was. Take it after the
other host has stopped answering: what it has answered up to that counter is never answered here, by no
service and at no time. A counter that is too high costs the terminal the keys below it, one that is too low lets
messages come again: when unsure, the higher one.

Every line that is wrong is named, and then nothing is imported, unless --skip-bad leaves those lines out. The registration authority asks
the key-distribution host about each key id: one that was given out, or is another terminal's, is refused, and none is given out
later. In production a second person approves the list as one, by the digest that --check says of it. Whatever stops the command, the
same command goes on; once more changes nothing. A terminal that was imported before keeps its entry: a higher counter of another
list raises its floor (it needs another --results-file), a lower one is refused, and nothing else changes.

A terminal that shall have a certificate as well gets a code afterwards (latchkey terminal code). Later keys come from
a set with another range: latchkey terminal rekey ID --slot 1=KEYSET.`,
		Example: `  latchkey terminal import --file fleet.csv --slot 1=DATA-1 --endpoint https://localhost:8444 --check
  latchkey terminal import --file fleet.csv --slot 1=DATA-1 --endpoint https://localhost:8444`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.file == "" {
				return exit.With(exit.Usage, errors.New("--file is missing"), "see: "+cmd.CommandPath()+" --help")
			}
			return r.registerFleet(cmd.Context(), c, f)
		},
	}
	f.listFlags(cmd)
	cmd.Flags().StringArrayVar(&f.slots, "slot", nil, "NUMBER=KEYSET, once for each slot, of lines that do not say theirs")
	cmd.Flags().StringArrayVar(&f.endpoints, "endpoint", nil, "https://HOST:PORT of the acquirer, in the order of preference, of lines that do not say theirs")
	return cmd
}
