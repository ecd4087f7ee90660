package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminalDrain(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: "drain"}
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "drain ID",
		Short: "Let a part of what a blocked terminal has queued through",
		Long: `Drain grants that messages of a blocked or quarantined terminal are answered: those MACed under the key of a slot with
counters from one ordinal to another, a number of them at most, until a time. All else stays HELD. In production a
second person approves it.`,
		Example: `  latchkey terminal drain T-0001 --slot 1 --key-id 1234567800000001 --first 120 --last 150 --count 20 --life 2h`,
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDrain(op, life); err != nil {
				return err
			}
			op.Terminal, op.Until = args[0], time.Now().Add(life).Unix()
			return r.operate(cmd.Context(), c, op)
		},
	}
	fl := cmd.Flags()
	fl.Uint8Var(&op.Slot, "slot", 0, "slot of the key that MACs the messages")
	fl.StringVar(&op.KeyID, "key-id", "", "that key")
	fl.Uint32Var(&op.First, "first", 0, "first ordinal; latchkey dukpt explain tells that of a KSN")
	fl.Uint32Var(&op.Last, "last", 0, "last ordinal")
	fl.Uint32Var(&op.Count, "count", 0, "messages at most")
	fl.DurationVar(&life, "life", time.Hour, "how long the grant is good for, 1s to 744h")
	fl.StringVar(&op.Reason, "reason", "", "why, for the audit log")
	required(cmd, "slot", "key-id", "first", "last", "count")
	return cmd
}

// maxGrant is how long a drain grant may be good for.
const maxGrant = 31 * 24 * time.Hour

// checkDrain refuses what cannot be granted, before anybody is asked.
func checkDrain(op admin.Operation, life time.Duration) error {
	id, err := dukpt.ParseKeyID(op.KeyID)
	switch {
	case err != nil:
		return exit.With(exit.Usage, fmt.Errorf("--key-id: %w", err), "as latchkey terminal show has it")
	case op.Slot < 1 || op.Slot > keyset.MaxSlots:
		return exit.With(exit.Usage, fmt.Errorf("--slot %d", op.Slot), fmt.Sprintf("slots are 1 to %d", keyset.MaxSlots))
	case op.First < 1 || op.Last < op.First || op.Last > id.Scheme().MaxOrdinal():
		return exit.With(exit.Usage, fmt.Errorf("ordinals %d to %d", op.First, op.Last), fmt.Sprintf("they are 1 to %d, and --last is not before --first", id.Scheme().MaxOrdinal()))
	case op.Count < 1 || op.Count-1 > op.Last-op.First:
		return exit.With(exit.Usage, fmt.Errorf("--count %d of the ordinals %d to %d", op.Count, op.First, op.Last), "want 1 or more, and not more than there are ordinals")
	case life < time.Second || life > maxGrant:
		return exit.With(exit.Usage, fmt.Errorf("--life %v", life), "want 1s to 744h")
	}
	return nil
}
