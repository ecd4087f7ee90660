package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newApprove(c *console) *cobra.Command {
	r := &registry{folder: folder{c: c}}
	var list bool
	cmd := &cobra.Command{
		Use:   "approve ID | --list",
		Short: "Approve what another operator has asked for",
		Long: `Approve carries out an operation that waits for a second person. In production registrations, unblocking, rekeying,
draining and retiring need one; in a test deployment people approve their own, and the audit log says so. Cutting a
terminal off never waits.`,
		Example: `  latchkey approve --list
  latchkey approve 5T9K2M7QXW3B8HNDRYVC4F6GJZ --as OPERATOR-2`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list == (len(args) == 1) {
				return exit.Errorf(exit.Usage, "name one operation, or ask for the list with --list")
			}
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				if list {
					return listApprovals(ctx, c, client)
				}
				out, err := client.Approve(ctx, args[0])
				if err != nil {
					return err
				}
				if out.Ticket != "" {
					return showTicket(c, out, "")
				}
				return showOutcome(c, out)
			})
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list what waits")
	r.flags(cmd)
	return cmd
}

func listApprovals(ctx context.Context, c *console, client *admin.Client) error {
	all, err := client.Approvals(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, a := range all {
		rows = append(rows, []string{a.ID, a.Operation.Action, a.Operation.Terminal, describeOperation(a.Operation), a.By, moment(a.Expires)})
	}
	return c.list(all, []string{"ID", "OPERATION", "TERMINAL", "DETAIL", "ASKED BY", "UNTIL"}, rows)
}

// describeOperation says what a second person must know before approving.
func describeOperation(op admin.Operation) string {
	switch op.Action {
	case "register":
		text := ""
		for _, s := range op.Slots {
			text += fmt.Sprintf("%d=%s ", s.Slot, s.KeySet)
		}
		return fmt.Sprintf("%s-> %v", text, op.Endpoints)
	case "drain":
		return fmt.Sprintf("slot %d %s ordinals %d to %d, %d messages, until %s", op.Slot, op.KeyID, op.First, op.Last, op.Count, moment(op.Until))
	case "rekey":
		return fmt.Sprintf("slot %d (0: all)", op.Slot)
	}
	return op.Reason
}
