package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminal(c *console) *cobra.Command {
	r := &registry{folder: folder{c: c}}
	cmd := noun("terminal", "Terminals: register, hand out codes, block, revoke, rekey",
		newTerminalRegister(c, r), newTerminalList(c, r), newTerminalShow(c, r), newTerminalCode(c, r),
		simpleOperation(c, r, "block", "Hold the sales of a terminal",
			`Block keeps a terminal connected and answers HELD to all it sends, but sign-ins and what was answered before.
Nothing is lost: unblock lets the queue through, and drain lets a part of it through.`, "block"),
		simpleOperation(c, r, "unblock", "End a block or a quarantine",
			`Unblock makes a blocked or quarantined terminal active again. In production a second person approves it.`, "unblock"),
		simpleOperation(c, r, "compromised", "Cut a terminal off: its keys may be in other hands",
			`Compromised refuses every connection and every KSN of a terminal, what was answered before too, on every listener
within two seconds. It takes effect at once and is final: register the terminal anew under another id.`, "compromised"),
		simpleOperation(c, r, "revoke", "Cut a terminal off: stolen, lost, sold",
			`Revoke closes the open connections of a terminal on every listener within two seconds, refuses new and resumed ones,
revokes its certificate, and has every KSN refused at the host. It takes effect at once and is final.`, "revoke"),
		simpleOperation(c, r, "retire", "Take a terminal out of service",
			`Retire is the orderly end of a terminal: as revoke, without suspicion.`, "retire"),
		newTerminalRekey(c, r), newTerminalDrain(c, r))
	r.flags(cmd)
	return cmd
}

func newTerminalRegister(c *console, r *registry) *cobra.Command {
	var op admin.Operation
	var slots []string
	cmd := &cobra.Command{
		Use:   "register",
		Short: "Make a terminal known: its name, its slots, where it calls",
		Long: `Register makes a terminal known to the registration authority. It has no certificate and no key yet: hand out a
one-time code (latchkey terminal code) and have the terminal enrol with it (latchkey-terminal enrol, or any
EST client).

The name of a terminal is used once, ever. In production a second person approves a registration.`,
		Example: `  latchkey terminal register --id T-0001 --slot 1=DATA-1 --slot 2=PIN-1 --endpoint https://localhost:8444
  latchkey terminal code T-0001`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			op.Action = "register"
			parsed, err := parseSlots(slots)
			if err != nil {
				return err
			}
			op.Slots = nil
			for _, s := range parsed {
				op.Slots = append(op.Slots, admin.SlotAssignment{Slot: s.Slot, KeySet: string(s.KeySet)})
			}
			return r.operate(cmd.Context(), c, op)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&op.Terminal, "id", "", "name of the terminal: 1 to 32 of A-Z, 0-9 and -")
	fl.StringArrayVar(&slots, "slot", nil, "NUMBER=KEYSET, once for each slot; the first data slot MACs the messages")
	fl.StringArrayVar(&op.Endpoints, "endpoint", nil, "https://HOST:PORT of the acquirer, in the order of preference")
	for _, required := range []string{"id", "slot", "endpoint"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic("latchkey: " + err.Error())
		}
	}
	return cmd
}

// operate asks for an operation and shows what became of it.
func (r *registry) operate(ctx context.Context, c *console, op admin.Operation) error {
	return r.ask(ctx, func(ctx context.Context, client *admin.Client) error {
		out, err := client.Do(ctx, op)
		if err != nil {
			return err
		}
		return showOutcome(c, out)
	})
}

// showOutcome shows a terminal as it is after an operation, or that the operation waits.
func showOutcome(c *console, out *admin.Outcome) error {
	if out.Approval != nil {
		c.note("next: another operator runs: latchkey approve %s", out.Approval.ID)
		return c.show(out, field{"waits for approval", out.Approval.ID}, field{"operation", out.Approval.Operation.Action},
			field{"terminal", out.Approval.Operation.Terminal}, field{"until", moment(out.Approval.Expires)})
	}
	if out.Terminal == nil {
		return c.show(out, field{"done", ""})
	}
	return showTerminal(c, out.Terminal)
}

func showTerminal(c *console, t *admin.Terminal) error {
	fields := []field{{"terminal", t.Terminal}, {"status", t.Status}}
	if t.Reason != "" {
		fields = append(fields, field{"reason", t.Reason})
	}
	fields = append(fields, field{"generation", t.Generation}, field{"certificate serial", orNone(t.Serial)})
	if t.NotAfter != 0 {
		fields = append(fields, field{"certificate until", moment(t.NotAfter)})
	}
	if t.PreviousSerial != "" {
		fields = append(fields, field{"previous certificate", t.PreviousSerial + " until " + moment(t.PreviousUntil)})
	}
	fields = append(fields, field{"agreement serial", orNone(t.Agreement)})
	for _, s := range t.Slots {
		text := s.KeySet
		if s.Wanted {
			text += " (a key is waiting to be fetched)"
		}
		fields = append(fields, field{fmt.Sprintf("slot %d", s.Slot), text})
		for _, k := range s.Keys {
			fields = append(fields, field{"", fmt.Sprintf("%s %s, delivered %s", k.KeyID, k.State, moment(k.Delivered))})
		}
	}
	for _, g := range t.Grants {
		fields = append(fields, field{"drain", fmt.Sprintf("slot %d %s ordinals %d to %d, %d messages, until %s", g.Slot, g.KeyID, g.First, g.Last, g.Count, moment(g.Until))})
	}
	fields = append(fields, field{"endpoints", strings.Join(t.Endpoints, ", ")})
	return c.show(t, fields...)
}

func orNone(s string) string {
	if s == "" {
		return "none yet"
	}
	return s
}

// moment writes Unix seconds for people.
func moment(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

func newTerminalList(c *console, r *registry) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the terminals of the registry",
		Args:  arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				all, err := client.Terminals(ctx)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, t := range all {
					var slots []string
					for _, s := range t.Slots {
						slots = append(slots, fmt.Sprintf("%d=%s %s", s.Slot, s.KeySet, activeKey(s)))
					}
					rows = append(rows, []string{t.Terminal, t.Status, orNone(t.Serial), strings.Join(slots, ", ")})
				}
				return c.list(all, []string{"ID", "STATUS", "CERTIFICATE", "SLOTS"}, rows)
			})
		},
	}
}

// activeKey names the key of a slot that works, or says why there is none.
func activeKey(s admin.Slot) string {
	state := "(no key yet)"
	for _, k := range s.Keys {
		switch k.State {
		case "active":
			return k.KeyID
		case "pending":
			state = k.KeyID + " (pending)"
		}
	}
	return state
}

func newTerminalShow(c *console, r *registry) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one terminal: status, certificates, slots and keys",
		Args:  arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				t, err := client.Terminal(ctx, args[0])
				if err != nil {
					return err
				}
				return showTerminal(c, t)
			})
		},
	}
}

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
hyphens and spaces are ignored.`,
		Example: `  latchkey terminal code T-0001
  latchkey terminal code T-0001 --short --life 1h --ticket-file T-0001.ticket`,
		Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			if life < 0 || life%time.Second != 0 {
				return exit.Errorf(exit.Usage, "--life %v: want whole seconds", life)
			}
			op.Lifetime = int64(life / time.Second)
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				out, err := client.Do(ctx, op)
				if err != nil {
					return err
				}
				return showTicket(c, out, file)
			})
		},
	}
	cmd.Flags().BoolVar(&op.Short, "short", false, "12 characters and a check character instead of 26, for keypads")
	cmd.Flags().DurationVar(&life, "life", 0, "how long it is good for, up to 24h; default 15m")
	cmd.Flags().StringVar(&file, "ticket-file", "", "write the ticket to a file of mode 0600 instead of standard output")
	return cmd
}

// showTicket hands the ticket out, on standard output or into a file.
func showTicket(c *console, out *admin.Outcome, file string) error {
	if out.Approval != nil || file == "" {
		if out.Approval != nil {
			return showOutcome(c, out)
		}
		return c.show(out, field{"ticket", out.Ticket})
	}
	text := []byte(out.Ticket + "\n")
	defer secret.Wipe(text)
	if err := seal.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return c.show(map[string]string{"TicketFile": file}, field{"ticket", "in " + file})
}

// simpleOperation is a verb that needs a name and a reason.
func simpleOperation(c *console, r *registry, verb, short, long, action string) *cobra.Command {
	op := admin.Operation{Action: action}
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Long:  long,
		Args:  arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			return r.operate(cmd.Context(), c, op)
		},
	}
	cmd.Flags().StringVar(&op.Reason, "reason", "", "why, for the audit log")
	return cmd
}

func newTerminalRekey(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: "rekey"}
	cmd := &cobra.Command{
		Use:   "rekey ID",
		Short: "Have a terminal fetch a new initial key",
		Long: `Rekey has the terminal fetch a new initial key for one slot or all of them when it next asks (latchkey-terminal rekey).
The old key works until the new one has proved itself by a sign-in; then it drains: what was made under it is still
accepted for some days. In production a second person approves it.`,
		Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			return r.operate(cmd.Context(), c, op)
		},
	}
	cmd.Flags().Uint8Var(&op.Slot, "slot", 0, "the slot; default: every slot")
	cmd.Flags().StringVar(&op.Reason, "reason", "", "why, for the audit log")
	return cmd
}

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
	fl.DurationVar(&life, "life", time.Hour, "how long the grant is good for")
	fl.StringVar(&op.Reason, "reason", "", "why, for the audit log")
	for _, required := range []string{"slot", "key-id", "first", "last", "count"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic("latchkey: " + err.Error())
		}
	}
	return cmd
}
