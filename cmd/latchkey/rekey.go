package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminalRekey(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: "rekey"}
	var slots []string
	cmd := &cobra.Command{
		Use:   "rekey ID",
		Short: "Have a terminal fetch a new initial key, also of another key set",
		Long: `Rekey has the terminal fetch a new initial key for one slot or all of them when it next asks (latchkey-terminal rekey).
The old key works until the new one has proved itself by a sign-in; then it drains: what was made under it is still
accepted for some days. With NUMBER=KEYSET the slot moves to another key set. In production a second person approves it.`,
		Example: `  latchkey terminal rekey T-0001
  latchkey terminal rekey T-0001 --slot 1 --slot 2=PIN-2 --reason "new zone"`,
		Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			wanted, err := parseRekey(slots)
			if err != nil {
				return err
			}
			if err := errors.Join(checkTerminal(op.Terminal), checkReason(op.Reason)); err != nil {
				return err
			}
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				if op.Slots, err = assignments(ctx, c, client, op.Terminal, wanted); err != nil {
					return err
				}
				out, err := client.Do(ctx, op)
				if err != nil {
					return err
				}
				return showOutcome(c, out)
			})
		},
	}
	cmd.Flags().StringArrayVar(&slots, "slot", nil, "NUMBER, or NUMBER=KEYSET to move the slot to another key set; may be given again; default: every slot")
	cmd.Flags().StringVar(&op.Reason, "reason", "", "why, for the audit log")
	return cmd
}

// parseRekey reads the slots to rekey, ascending. Those without a key set keep theirs.
func parseRekey(slots []string) ([]admin.SlotAssignment, error) {
	var out []admin.SlotAssignment
	for _, s := range slots {
		number, set, moves := strings.Cut(s, "=")
		n, err := strconv.ParseUint(number, 10, 8)
		_, idErr := keyset.ParseID(set)
		if err != nil || n < 1 || n > keyset.MaxSlots || moves && idErr != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("slot %q is neither NUMBER nor NUMBER=KEYSET", s), "as in: --slot 1 --slot 2=PIN-2")
		}
		out = append(out, admin.SlotAssignment{Slot: uint8(n), KeySet: set})
	}
	return ascending(out, func(s admin.SlotAssignment) uint8 { return s.Slot })
}

// ascending sorts slots by their number. One that is named twice is a mistake.
func ascending[S any](slots []S, number func(S) uint8) ([]S, error) {
	slices.SortFunc(slots, func(a, b S) int { return cmp.Compare(number(a), number(b)) })
	for i := range slots {
		if i > 0 && number(slots[i]) == number(slots[i-1]) {
			return nil, exit.With(exit.Usage, fmt.Errorf("slot %d is named twice", number(slots[i])), "name each slot once")
		}
	}
	return slots, nil
}

// assignments completes the slots that keep their key set.
func assignments(
	ctx context.Context, c *console, client *admin.Client, id string, wanted []admin.SlotAssignment,
) ([]admin.SlotAssignment, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	t, err := client.Terminal(ctx, id)
	if err != nil {
		return nil, err
	}
	for i, w := range wanted {
		at := slices.IndexFunc(t.Slots, func(s admin.Slot) bool { return s.Slot == w.Slot })
		switch {
		case at < 0 && w.KeySet == "":
			return nil, exit.With(exit.NotFound, fmt.Errorf("%s has no slot %d", id, w.Slot), "look at its slots: latchkey terminal show "+id)
		case at < 0:
			c.note("slot %d is a new one for %s", w.Slot, id)
		case w.KeySet == "":
			wanted[i].KeySet = t.Slots[at].KeySet
		}
	}
	return wanted, nil
}
