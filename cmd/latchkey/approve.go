package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newApprove(c *console) *cobra.Command {
	r := &registry{folder: folder{c: c}}
	var list bool
	h := &handout{folder: &r.folder}
	cmd := &cobra.Command{
		Use:   "approve ID | --list",
		Short: "Approve what another operator has asked for",
		Long: `Approve carries out an operation that waits for a second person. In production registrations, one by one or as a list, imports, compromised key sets, unblocking, rekeying,
draining, retiring and codes for terminals that have enrolled before need one; in a test deployment people approve
their own, and the audit log says so. Cutting a terminal off never waits.`,
		Example: `  latchkey approve --list
  latchkey approve 5T9K2M7QXW3B8HNDRYVC4F6GJZ --as OPERATOR-2`,
		Annotations: map[string]string{showsTickets: "yes"},
		Args:        cobra.ArbitraryArgs, // counted together with --list
		RunE: func(cmd *cobra.Command, args []string) error {
			if list && len(args) > 0 || !list && len(args) != 1 {
				return exit.With(exit.Usage, errors.New("name one operation, or ask for the list"), "see what waits: latchkey approve --list")
			}
			if list && c.format == "qr" {
				return checkFormat(c.format, false)
			}
			if err := h.check(); err != nil {
				return err
			}
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				if list {
					return listApprovals(ctx, c, client)
				}
				return r.approveOne(ctx, c, client, args[0], h)
			})
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list what waits")
	h.flags(cmd, "of a code: ")
	r.flags(cmd)
	return cmd
}

// approveOne says what is approved, and what became of it.
func (r *registry) approveOne(ctx context.Context, c *console, client *admin.Client, id string, h *handout) error {
	all, err := client.Approvals(ctx)
	if err != nil {
		return err
	}
	var op admin.Operation
	if i := slices.IndexFunc(all, func(a admin.Approval) bool { return a.ID == id }); i >= 0 {
		op = all[i].Operation
		c.note("%s asks for: %s %s %s", all[i].By, op.Action, op.Terminal, describeOperation(op))
		if op.Action == string(provision.ActionCompromiseSet) {
			r.relatives(c, op.KeySet)
		}
	}
	out, err := client.Approve(ctx, id)
	if err != nil {
		return err
	}
	if out.Ticket == "" {
		if c.format == "qr" {
			c.format = "table" // what was approved is no code
		}
		return showOutcome(c, out)
	}
	life := time.Duration(op.Lifetime) * time.Second
	return h.showTicket(c, out, op.Terminal, cmp.Or(life, defaultLife))
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
	return c.list(members{all}, []string{"ID", "OPERATION", "TERMINAL", "DETAIL", "ASKED BY", "UNTIL"}, rows)
}

// describeOperation says what a second person must know before approving.
func describeOperation(op admin.Operation) string {
	switch op.Action {
	case "compromise-set":
		return strings.TrimSpace(fmt.Sprintf("no more keys of %s, its terminals are rekeyed to %s %s", op.KeySet, op.Successor, op.Reason))
	case "register-fleet":
		return fmt.Sprintf("%d terminals, digest %s, codes good for %v", op.Total, digestOf(op), time.Duration(op.Lifetime)*time.Second)
	case "code-fleet":
		return fmt.Sprintf("%d terminals, digest %s, codes good for %v; who enrols with one takes the place of its terminal",
			op.Total, digestOf(op), time.Duration(op.Lifetime)*time.Second)
	case "import-fleet":
		return fmt.Sprintf("%d terminals with keys from elsewhere, digest %s; nothing is answered up to the counters of the list", op.Total, digestOf(op))
	case "register":
		return fmt.Sprintf("%s -> %v", slotText(op.Slots), op.Endpoints)
	case "code":
		return fmt.Sprintf("good for %v; who enrols with it takes the place of the terminal", time.Duration(op.Lifetime)*time.Second)
	case "drain":
		return fmt.Sprintf("slot %d %s ordinals %d to %d, %d messages, until %s", op.Slot, op.KeyID, op.First, op.Last, op.Count, moment(op.Until))
	case "rekey":
		switch {
		case len(op.Slots) > 0:
			return strings.TrimSpace(slotText(op.Slots) + " " + op.Reason)
		case op.Slot > 0:
			return strings.TrimSpace(fmt.Sprintf("slot %d %s", op.Slot, op.Reason))
		}
		return strings.TrimSpace("every slot " + op.Reason)
	}
	return op.Reason
}

// digestOf is the digest of a list.
func digestOf(op admin.Operation) string {
	var all provision.Operation
	for _, text := range op.Parts {
		d, err := provision.ParseDigest(text)
		if err != nil {
			return "unreadable"
		}
		all.Parts = append(all.Parts, d)
	}
	return all.Digest().String()
}

func slotText(slots []admin.SlotAssignment) string {
	var parts []string
	for _, s := range slots {
		parts = append(parts, fmt.Sprintf("%d=%s", s.Slot, s.KeySet))
	}
	return strings.Join(parts, " ")
}
