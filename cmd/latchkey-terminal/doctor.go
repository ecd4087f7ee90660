package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/terminal"
)

func newDoctor(a *app) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "doctor --dir DIR", Short: "Look at all that a sale needs, and say what to do about it", Args: noArgs,
		Long: `doctor looks at the saved state, the keys, the queue, the certificate and whom the terminal trusts, and goes as far towards
each host as a message would: its name, its port, its handshake, its clock. It changes nothing and sends nothing.

What works is "ok"; "soon" works and wants something done; "broken" keeps sales from working. The exit code is 0 when nothing is
broken, 5 when only a host cannot be reached, 6 otherwise.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.doctor(ctx)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to look at most")
	return cmd
}

func (a *app) doctor(ctx context.Context) error {
	o, err := a.options()
	if err != nil {
		return err
	}
	checks := terminal.Diagnose(ctx, o)
	if err := a.showChecks(checks); err != nil {
		return err
	}
	broken, code := 0, exit.Unreachable
	for _, c := range checks {
		if c.Verdict != terminal.Broken {
			continue
		}
		broken++
		if c.Name != "dns" && c.Name != "tcp" {
			code = exit.Verification
		}
	}
	if broken == 0 {
		return nil
	}
	return exit.With(code, errors.New(count(broken)+" broken"), "do what stands beside it, from the top")
}

func count(n int) string {
	if n == 1 {
		return "1 thing is"
	}
	return fmt.Sprintf("%d things are", n)
}

func (a *app) showChecks(checks []terminal.Check) error {
	if a.format == "json" {
		return a.show(checks)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	for _, c := range checks {
		name := c.Name
		if c.Of != "" {
			name += " " + c.Of
		}
		fmt.Fprintf(w, "%v\t%s\t%s\n", c.Verdict, name, c.Detail)
		if c.Next != "" {
			fmt.Fprintf(w, "\t\tnext: %s\n", c.Next)
		}
	}
	return w.Flush()
}
