package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
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
		newTerminalRekey(c, r), newTerminalDrain(c, r), newTerminalLabel(c, r), newTerminalImport(c, r))
	r.flags(cmd)
	return cmd
}

func newTerminalRegister(c *console, r *registry) *cobra.Command {
	var op admin.Operation
	var f fleetFlags
	var slots, labels []string
	cmd := &cobra.Command{
		Use:   "register --id ID | --file LIST",
		Short: "Make a terminal known, or a list of them: name, slots, where it calls",
		Long: `Register makes a terminal known to the registration authority. It has no certificate and no key yet: hand out a
one-time code (latchkey terminal code) and have the terminal enrol with it (latchkey-terminal enrol, or any
EST client).

The name of a terminal is used once, ever. In production a second person approves a registration.

With --file it registers a list of up to 100,000 and makes a code for each. The list is comma-separated values in
ASCII, a line each; the first line names the columns: terminal, and where they differ from the flags slots
(1=DATA-1;2=PIN-1), endpoints (https://HOST:PORT;…), group and labels (city=Graz;model=P2). Every line that is wrong is
named, and then nobody is registered, unless --skip-bad leaves those lines out.

The tickets go into a file of results of mode 0600, one JSON object a line, as they are made. Whatever stops the
command, the same command goes on from there, and no terminal gets a second code. A list is approved as one: the second
person holds its digest against what --check says of the list that they have.`,
		Example: `  latchkey terminal register --id T-0001 --slot 1=DATA-1 --slot 2=PIN-1 --endpoint https://localhost:8444
  latchkey terminal code T-0001
  latchkey terminal register --file fleet.csv --slot 1=DATA-1 --endpoint https://localhost:8444 --life 24h`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOrList(cmd, op.Terminal, f.file); err != nil {
				return err
			}
			if f.file != "" {
				f.slots, f.endpoints = slots, op.Endpoints
				return r.registerFleet(cmd.Context(), c, f)
			}
			op.Action = "register"
			marks, err := parseLabels(op.Group, labels)
			if err != nil {
				return err
			}
			op.Labels = marks
			parsed, err := parseSlots(slots)
			if err != nil {
				return err
			}
			op.Slots = nil
			for _, s := range parsed {
				op.Slots = append(op.Slots, admin.SlotAssignment{Slot: s.Slot, KeySet: string(s.KeySet)})
			}
			if err := checkEndpoints(op.Endpoints); err != nil {
				return err
			}
			return r.operate(cmd.Context(), c, op)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&op.Terminal, "id", "", "name of the terminal: 1 to 32 of A-Z, 0-9 and -")
	fl.StringArrayVar(&slots, "slot", nil, "NUMBER=KEYSET, once for each slot; the first data slot MACs the messages")
	fl.StringArrayVar(&op.Endpoints, "endpoint", nil, "https://HOST:PORT of the acquirer, in the order of preference")
	fl.StringVar(&op.Group, "group", "", "group that the terminal belongs to: 1 to 32 of A-Z, 0-9 and -")
	fl.StringArrayVar(&labels, "label", nil, "KEY=VALUE, something to note about it; may be given again")
	f.flags(cmd)
	return cmd
}

// oneOrList wants one terminal or a list, with the flags that go with it.
func oneOrList(cmd *cobra.Command, id, file string) error {
	if (id == "") == (file == "") {
		return exit.With(exit.Usage, errors.New("name one terminal with --id, or a list with --file"), "see: "+cmd.CommandPath()+" --help")
	}
	need, not := []string{"slot", "endpoint"}, []string{"results-file", "skip-bad", "check", "short", "life"}
	if file != "" {
		need, not = nil, []string{"group", "label"}
	}
	for _, name := range need {
		if !cmd.Flags().Changed(name) {
			return exit.With(exit.Usage, fmt.Errorf("--%s is missing", name), "see: "+cmd.CommandPath()+" --help")
		}
	}
	for _, name := range not {
		if cmd.Flags().Changed(name) {
			return exit.With(exit.Usage, fmt.Errorf("--%s does not go with this", name), "groups and labels are columns of a list; the other flags are for lists")
		}
	}
	return nil
}

// checkEndpoints holds the addresses of the acquirer to what terminals are told.
func checkEndpoints(endpoints []string) error {
	at := time.Unix(1, 0) // an assignment has times
	trial := remote.Assignment{
		Tenant: "X", Terminal: "X", Environment: keyset.Test, Endpoints: endpoints, RenewAfter: at, RenewBefore: at,
	}
	_, err := trial.Marshal()
	return exit.With(exit.Usage, err, "as in: --endpoint https://acquirer.example:8444")
}

// checkTerminal refuses what is not the name of a terminal, before anybody is asked.
func checkTerminal(id string) error {
	_, err := keyset.ParseTerminal(id)
	return exit.With(exit.Usage, err, terminalName)
}

const (
	terminalName = "a terminal has 1 to 32 of A-Z, 0-9 and -"
	maxReason    = 200 // characters
)

func checkReason(reason string) error {
	if len(reason) > maxReason || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r > '~' }) {
		return exit.With(exit.Usage, fmt.Errorf("--reason has %d bytes", len(reason)), fmt.Sprintf("want at most %d printable characters of ASCII", maxReason))
	}
	return nil
}

// operate asks for an operation and shows what became of it.
func (r *registry) operate(ctx context.Context, c *console, op admin.Operation) error {
	if err := errors.Join(checkTerminal(op.Terminal), checkReason(op.Reason)); err != nil {
		return err
	}
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
		return c.show(members{out}, field{"waits for approval", out.Approval.ID}, field{"operation", out.Approval.Operation.Action},
			field{"terminal", out.Approval.Operation.Terminal}, field{"until", moment(out.Approval.Expires)})
	}
	if out.Terminal == nil {
		return c.show(members{out}, field{"done", ""})
	}
	return showTerminal(c, out.Terminal)
}

func showTerminal(c *console, t *admin.Terminal) error {
	fields := []field{{"terminal", t.Terminal}, {"status", t.Status}}
	if t.Reason != "" {
		fields = append(fields, field{"reason", t.Reason})
	}
	if t.Group != "" {
		fields = append(fields, field{"group", t.Group})
	}
	for _, l := range t.Labels {
		fields = append(fields, field{"label", l.Key + "=" + l.Value})
	}
	fields = append(fields, field{"generation", t.Generation}, field{"certificate serial", orNone(t.Serial)})
	if t.NotAfter != 0 {
		fields = append(fields, field{"certificate until", moment(t.NotAfter)})
	}
	if t.PreviousSerial != "" {
		fields = append(fields, field{"previous certificate", t.PreviousSerial + " until " + moment(t.PreviousUntil)})
	}
	fields = append(fields, field{"agreement serial", orNone(t.Agreement)})
	if t.CodeExpires != 0 {
		fields = append(fields, field{"one-time code", "open until " + moment(t.CodeExpires)})
	}
	for _, s := range t.Slots {
		text := s.KeySet
		if s.Wanted {
			text += " (a key is waiting to be fetched)"
		}
		fields = append(fields, field{fmt.Sprintf("slot %d", s.Slot), text})
		for _, k := range s.Keys {
			came := "delivered " + moment(k.Delivered)
			if k.Imported {
				came = fmt.Sprintf("imported %s behind ordinal %d", moment(k.Delivered), k.Floor)
			}
			fields = append(fields, field{"", fmt.Sprintf("%s %s, %s%s", k.KeyID, k.State, came, outOfUse(t))})
		}
	}
	for _, g := range t.Grants {
		fields = append(fields, field{"drain", fmt.Sprintf("slot %d %s ordinals %d to %d, %d messages, until %s", g.Slot, g.KeyID, g.First, g.Last, g.Count, moment(g.Until))})
	}
	fields = append(fields, field{"endpoints", strings.Join(t.Endpoints, ", ")})
	return c.show(members{t}, fields...)
}

// outOfUse is what stands behind the keys of a terminal that is out: nothing is accepted under them, whatever their state.
func outOfUse(t *admin.Terminal) string {
	switch t.Status {
	case "revoked", "compromised", "retired":
		return " (terminal is " + t.Status + ")"
	}
	return ""
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
	var s admin.Selection
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the terminals of the registry",
		Example: "  latchkey terminal list --group NORTH --label model=P2",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := parseLabels(s.Group, s.Labels); err != nil {
				return err
			}
			if s.KeySet != "" {
				if _, err := keyset.ParseID(s.KeySet); err != nil {
					return exit.With(exit.Usage, err, "look at the names: latchkey keyset list")
				}
			}
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				all, err := client.Select(ctx, s)
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
				header := []string{"ID", "STATUS", "CERTIFICATE", "SLOTS"}
				return c.list(members{all}, withMarks(header, rows, all), rows)
			})
		},
	}
	cmd.Flags().StringVar(&s.Group, "group", "", "only terminals of this group")
	cmd.Flags().StringArrayVar(&s.Labels, "label", nil, "only terminals with this KEY=VALUE; given again, with all of them")
	cmd.Flags().StringVar(&s.KeySet, "key-set", "", "only terminals with a slot of this key set, or a key of it that is not retired")
	return cmd
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
			if err := checkTerminal(args[0]); err != nil {
				return err
			}
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
