package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminalCode(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: "code"}
	var life time.Duration
	h := &handout{folder: &r.folder}
	f := fleetFlags{codes: true}
	var s admin.Selection
	cmd := &cobra.Command{
		Use:   "code ID | --file LIST | --group GROUP --label KEY=VALUE",
		Short: "Make a one-time code for a terminal: the slip of paper",
		Long: `Code makes a one-time code that lets one terminal enrol with one key. What is printed is the ticket: the code, and
behind the last hyphen the pin of the trust list, by which the terminal knows whom it talks to. It is shown this
once; only a keyed hash of it is stored. A new code voids the one before, and five wrong tries void it too.

Type or scan the ticket at the terminal; latchkey-terminal enrol asks for it. Letters may be typed in lower case,
hyphens and spaces are ignored. With -o qr a QR code is shown, which has all that an enrolment needs: ticket, names and
the addresses that --url and --trust-url tell (docs/protocol.md, section 8). --slip-file writes the same for other ways.

A code for a terminal that has enrolled before lets whoever has it take the place of that terminal: in production a
second person approves it, and is given the ticket.

With --file, --group or --label it makes a code for each terminal of a list, or of those that list --group --label shows and that may
connect. The list has a column terminal; what other columns say is read and not used. A list is approved as one, in
production always by a second person, and its tickets go into a file of results, as those of register --file do: whatever stops the
command, the same command goes on with the same codes. A choice by group or label is made once: it is written to a list beside
--results-file, and that list is what the same command goes on with, and what the second person checks with --check.`,
		Example: `  latchkey terminal code T-0001
  latchkey terminal code T-0001 --short --life 1h --ticket-file T-0001.ticket
  latchkey terminal code T-0001 -o qr --url https://ra.example:8445 --trust-url http://ra.example:8447
  latchkey terminal code --file fleet.csv --life 24h
  latchkey terminal code --group NORTH --label city=Graz --results-file graz.results`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: map[string]string{showsTickets: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen := s.Group != "" || len(s.Labels) > 0
			if err := codeTargets(cmd, len(args), f.file != "", chosen, f.results != ""); err != nil {
				return err
			}
			if len(args) == 0 {
				f.short, f.life = op.Short, life
				return r.codesOf(cmd.Context(), c, f, s)
			}
			op.Terminal = args[0]
			if err := checkTerminal(op.Terminal); err != nil {
				return err
			}
			if life < minLife || life > maxLife || life%time.Second != 0 {
				return exit.With(exit.Usage, fmt.Errorf("--life %v", life), "want 1m to 24h, in whole seconds")
			}
			if err := h.check(); err != nil {
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
				return h.showTicket(c, out, op.Terminal, life)
			})
		},
	}
	cmd.Flags().BoolVar(&op.Short, "short", false, "12 characters and a check character instead of 26, for keypads")
	cmd.Flags().DurationVar(&life, "life", defaultLife, "how long it is good for, 1m to 24h")
	h.flags(cmd, "")
	f.listFlags(cmd)
	cmd.Flags().StringVar(&s.Group, "group", "", "for the terminals of this group; with --results-file")
	cmd.Flags().StringArrayVar(&s.Labels, "label", nil, "for the terminals with this KEY=VALUE; given again, with all of them; with --results-file")
	return cmd
}

// codeTargets wants one terminal, a list, or a choice, with the flags that go with it.
func codeTargets(cmd *cobra.Command, ids int, file, chosen, results bool) error {
	help := "see: " + cmd.CommandPath() + " --help"
	if n := ids + count(file) + count(chosen); n != 1 {
		return exit.With(exit.Usage, errors.New("name one terminal, or a list with --file, or choose with --group and --label"), help)
	}
	if chosen && !results {
		return exit.With(exit.Usage, errors.New("--results-file is missing"), "it names where the tickets go, and the list of those that were chosen")
	}
	not := []string{"ticket-file", "slip-file", "url", "trust-url"}
	if ids == 1 {
		not = []string{"results-file", "skip-bad", "check"}
	}
	for _, name := range not {
		if cmd.Flags().Changed(name) {
			return exit.With(exit.Usage, fmt.Errorf("--%s does not go with this", name), help)
		}
	}
	return nil
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// codesOf makes codes for a list, or for terminals that are chosen.
func (r *registry) codesOf(ctx context.Context, c *console, f fleetFlags, s admin.Selection) error {
	if c.format == "qr" {
		return checkFormat(c.format, false)
	}
	if f.file == "" {
		if _, err := parseLabels(s.Group, s.Labels); err != nil {
			return err
		}
		f.file = listName(f.results, s)
		if err := r.choose(ctx, c, f.file, s); err != nil {
			return err
		}
	}
	return r.registerFleet(ctx, c, f)
}

// listName is the name of the list of those that are chosen: another choice has another one, so that nobody goes on with the wrong list.
func listName(results string, s admin.Selection) string {
	labels := slices.Sorted(slices.Values(s.Labels))
	return fmt.Sprintf("%s.%x.list", results, sha256.Sum256([]byte(s.Group+"\x00"+strings.Join(labels, "\x00"))))[:len(results)+9] + ".list"
}

// choose writes the list of the terminals that are chosen, unless it is there: a run that goes on has the list of the first.
func (r *registry) choose(ctx context.Context, c *console, file string, s admin.Selection) error {
	if _, err := os.Lstat(file); err == nil {
		c.note("going on with the list %s", file)
		return nil
	}
	return r.ask(ctx, func(ctx context.Context, client *admin.Client) error {
		all, err := client.Select(ctx, s)
		if err != nil {
			return err
		}
		var b strings.Builder
		b.WriteString(fleet.ColumnTerminal + "\n")
		n := 0
		for _, t := range all {
			if outOfUse(&t) == "" {
				b.WriteString(t.Terminal + "\n")
				n++
			}
		}
		if n == 0 {
			return exit.With(exit.NotFound, errors.New("no terminal that may connect is chosen"), "look at them: latchkey terminal list --group --label")
		}
		if err := seal.CreateFile(file, []byte(b.String()), 0o600); err != nil {
			return err
		}
		c.note("%d terminals are chosen: %s", n, file)
		return nil
	})
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
func (h *handout) showTicket(c *console, out *admin.Outcome, terminal string, life time.Duration) error {
	c.note("the code is good until %s; one that was made for the terminal before is void", moment(time.Now().Add(life).Unix()))
	if t := out.Terminal; t != nil && t.Serial != "" {
		c.note("%s is %s and has a certificate: whoever enrols with the code takes the place of the terminal that has the name", t.Terminal, t.Status)
	}
	if c.format == "qr" || h.slip != "" {
		return h.showSlip(c, out.Ticket, terminal)
	}
	if h.file == "" {
		return c.show(members{out}, field{"ticket", out.Ticket})
	}
	text := []byte(out.Ticket + "\n")
	defer secret.Wipe(text)
	if err := seal.WriteFile(h.file, text, 0o600); err != nil {
		return err
	}
	return c.show(map[string]string{"ticketFile": h.file}, field{"ticket", "in " + h.file})
}
