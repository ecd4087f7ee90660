package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminalCode(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: "code"}
	var life time.Duration
	var file string
	cmd := &cobra.Command{
		Use:   "code ID",
		Short: "Make a one-time code for a terminal: the slip of paper",
		Long: `Code makes a one-time code that lets one terminal enrol with one key. What is printed is the ticket: the code, and
behind the last hyphen the pin of the trust list, by which the terminal knows whom it talks to. It is shown this
once; only a keyed hash of it is stored. A new code voids the one before, and five wrong tries void it too.

Type or scan the ticket at the terminal; latchkey-terminal enrol asks for it. Letters may be typed in lower case,
hyphens and spaces are ignored.

A code for a terminal that has enrolled before lets whoever has it take the place of that terminal: in production a
second person approves it, and is given the ticket.`,
		Example: `  latchkey terminal code T-0001
  latchkey terminal code T-0001 --short --life 1h --ticket-file T-0001.ticket`,
		Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			if err := checkTerminal(op.Terminal); err != nil {
				return err
			}
			if life < minLife || life > maxLife || life%time.Second != 0 {
				return exit.With(exit.Usage, fmt.Errorf("--life %v", life), "want 1m to 24h, in whole seconds")
			}
			if err := vacantFile(file); err != nil {
				return err
			}
			op.Lifetime = int64(life / time.Second)
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				out, err := client.Do(ctx, op)
				if err != nil {
					return err
				}
				if out.Approval != nil {
					return showOutcome(c, out)
				}
				return showTicket(c, out, life, file)
			})
		},
	}
	cmd.Flags().BoolVar(&op.Short, "short", false, "12 characters and a check character instead of 26, for keypads")
	cmd.Flags().DurationVar(&life, "life", defaultLife, "how long it is good for, 1m to 24h")
	cmd.Flags().StringVar(&file, "ticket-file", "", "write the ticket to a new file of mode 0600 instead of standard output")
	return cmd
}

// The life of a one-time code, as the registration authority has it.
const (
	minLife     = time.Minute
	maxLife     = 24 * time.Hour
	defaultLife = 15 * time.Minute
)

// vacantFile refuses a file that exists, before something is made that is shown once.
func vacantFile(path string) error {
	if path == "" {
		return nil
	}
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		return exit.With(exit.Refused, fmt.Errorf("%s exists", path), "no code was made: name a new file with --ticket-file")
	}
	return err
}

// showTicket hands the ticket out, on standard output or into a file, and says what it does.
func showTicket(c *console, out *admin.Outcome, life time.Duration, file string) error {
	c.note("the code is good until %s; one that was made for the terminal before is void", moment(time.Now().Add(life).Unix()))
	if t := out.Terminal; t != nil && t.Serial != "" {
		c.note("%s is %s and has a certificate: whoever enrols with the code takes the place of the terminal that has the name", t.Terminal, t.Status)
	}
	if file == "" {
		return c.show(members{out}, field{"ticket", out.Ticket})
	}
	text := []byte(out.Ticket + "\n")
	defer secret.Wipe(text)
	if err := seal.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return c.show(map[string]string{"ticketFile": file}, field{"ticket", "in " + file})
}
