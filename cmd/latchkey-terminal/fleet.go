package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// maxFleet bounds how many terminals one process is.
const maxFleet = 10_000

// fleetFlags say how many terminals there are, and what befalls them.
type fleetFlags struct {
	enrol            enrolFlags
	codes            string
	amount, currency string
	plan             rehearsal
}

func newFleet(a *app) *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "fleet --terminals N --codes FILE --url URL --trust-url URL --tenant TENANT",
		Short: "Be many terminals whose hosts are away for a while, and come back",
		Long: `fleet rehearses an outage with many terminals at once: they enrol with the codes of a list, sign in, lose
their link, sell without the host, and deliver what they have sold when the link is back.

  latchkey terminal code --file fleet.csv
  latchkey-terminal fleet --terminals 1000 --codes fleet.csv.results --tenant ACME \
    --url https://ra.example:8445 --trust-url http://ra.example:8447 --outage 5m --faults

The codes are those in the results of latchkey terminal register --file and latchkey terminal code --file. The terminals
live in memory and end with the command, their certificates and keys with them: another run needs other codes. The host
has to allow sales without it (offline: in the configuration of latchkey-decryptd).

With --faults, networks fail in every way that package faults knows while the terminals deliver, the power of some is cut
in the middle of a sale or right after it, and some clocks stand at 1970. The same --seed draws the same terminals, moments and faults;
what the networks of this machine do between them is not drawn.

At the end every sale must have been answered once. The peak is in contacts per second, counted where the terminals are.
It ends with code 1 when a sale is lost, answered twice, turned down, or still waiting.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.fleet(cmd.Context(), &f)) },
	}
	cmd.Flags().IntVar(&f.plan.terminals, "terminals", 100, "how many, at most 10000")
	cmd.Flags().StringVar(&f.codes, "codes", "", "file of results with the codes, readable by you only (required)")
	cmd.Flags().StringVar(&f.enrol.url, "url", "", "registration authority, https://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.enrol.trustURL, "trust-url", "", "where the trust list is published, http://HOST:PORT (required)")
	cmd.Flags().StringVar(&f.enrol.tenant, "tenant", "", "whose terminals they are (required)")
	cmd.Flags().IntVar(&f.plan.sales, "sales", 3, "sales that each makes without its host")
	cmd.Flags().StringVar(&f.amount, "amount", "1.00", "amount of each, in the major unit")
	cmd.Flags().StringVar(&f.currency, "currency", "EUR", "ISO 4217 code, letters or digits")
	cmd.Flags().DurationVar(&f.plan.outage, "outage", time.Minute, "how long the hosts are away")
	cmd.Flags().DurationVar(&f.plan.patience, "drain", 15*time.Minute, "how long everything may take afterwards")
	cmd.Flags().Uint64Var(&f.plan.seed, "seed", 1, "draws what is left to chance")
	cmd.Flags().BoolVar(&f.plan.faults, "faults", false, "with faults of networks, power and clocks")
	return cmd
}

func (a *app) fleet(ctx context.Context, f *fleetFlags) error {
	if f.codes == "" || a.dir != "" || a.element.uri != "" {
		return exit.With(exit.Usage, errors.New("fleet needs --codes, and takes neither --dir nor --sealer"), "see: latchkey-terminal fleet --help")
	}
	if err := f.plan.check(); err != nil {
		return exit.With(exit.Usage, err, "see: latchkey-terminal fleet --help")
	}
	var err error
	if f.plan.amount, err = parseAmount(f.amount, f.currency); err != nil {
		return exit.With(exit.Usage, err, "as in --amount 12.34 --currency EUR")
	}
	members, err := a.members(f)
	defer func() {
		for _, m := range members {
			m.enrol.Ticket.Wipe()
		}
	}()
	if err != nil {
		return err
	}
	said, err := f.plan.run(ctx, members, newTeller(a.stderr))
	if err != nil {
		return err
	}
	if err := a.show(said, said.rows()...); err != nil {
		return err
	}
	return said.verdict()
}

// members are the terminals of the codes.
func (a *app) members(f *fleetFlags) (members []*member, _ error) {
	r, err := fleet.Open(f.codes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, exit.With(exit.NotFound, err, "make it with latchkey terminal code --file")
	case errors.Is(err, fleet.ErrExposed):
		return nil, exit.With(exit.Refused, err, "one-time codes stand in it: find out who has read them, then chmod 600 "+f.codes)
	case errors.Is(err, fleet.ErrResults):
		return nil, exit.With(exit.Usage, err, "name what latchkey terminal code --file wrote")
	case err != nil:
		return nil, err
	}
	all := r.All()
	if err := r.Close(); err != nil {
		return nil, err
	}
	a.dir, f.enrol.environment = "memory", keyset.Test.String() // nothing guards the keys: those of production are refused
	for _, one := range all {
		if one.Ticket == "" || len(members) == f.plan.terminals {
			continue
		}
		f.enrol.terminal = string(one.Terminal)
		o, err := a.enrolOptions(f.enrol)
		if err != nil {
			return members, err
		}
		if o.Ticket, err = enroll.ParseTicket([]byte(one.Ticket)); err != nil {
			return members, fmt.Errorf("%s: line %d of the list: %w", f.codes, one.Line, err)
		}
		members = append(members, &member{enrol: o})
	}
	if len(members) < f.plan.terminals {
		return members, exit.With(exit.Usage, fmt.Errorf("%s has codes for %d terminals, want %d", f.codes, len(members), f.plan.terminals),
			"get more codes, or name fewer with --terminals")
	}
	return members, nil
}

// fleetView is the stable form for programs.
type fleetView struct {
	Terminals       int
	Seed            uint64
	Sales           int            // that were kept without the host
	Refused         int            // sales that the terminal did not take
	PowerCuts       int            // in the middle of a sale, or right after it
	Clocks          int            // that stand at 1970
	NetFaults       map[string]int `json:",omitempty"` // while everything was delivered
	OutageSeconds   float64
	OutageContacts  int // attempts at hosts that were away
	DrainSeconds    float64
	DrainContacts   int
	PeakPerSecond   int // contacts in the busiest second after the hosts were back
	Answered        int // sales that were approved
	Unapproved      int // that were answered otherwise
	Waiting         int // that are still there
	Lost            int // that are gone without an answer
	AnsweredTwice   int
	FirstDifference string `json:",omitempty"`
}

func (v *fleetView) rows() []row {
	rows := []row{
		{"terminals", v.Terminals}, {"seed", v.Seed}, {"sales", fmt.Sprintf("%d without the host, %d refused", v.Sales, v.Refused)},
		{"power cuts", v.PowerCuts}, {"clocks at 1970", v.Clocks},
		{"outage", fmt.Sprintf("%.1f s, %d contacts", v.OutageSeconds, v.OutageContacts)},
		{"drained", fmt.Sprintf("after %.1f s, %d contacts, at most %d in a second", v.DrainSeconds, v.DrainContacts, v.PeakPerSecond)},
	}
	if len(v.NetFaults) > 0 {
		rows = append(rows, row{"network faults", v.NetFaults})
	}
	return append(rows, row{"approved", v.Answered}, row{"not approved", v.Unapproved}, row{"waiting", v.Waiting}, row{"lost", v.Lost},
		row{"answered twice", v.AnsweredTwice})
}

// verdict is nil when every sale was approved once.
func (v *fleetView) verdict() error {
	if v.Sales == 0 {
		return errors.New("no sale was made: the rehearsal shows nothing")
	}
	if v.Lost+v.AnsweredTwice+v.Waiting+v.Unapproved == 0 && v.Answered == v.Sales {
		return nil
	}
	return fmt.Errorf("of %d sales %d are lost, %d answered twice, %d not approved, %d wait: %s",
		v.Sales, v.Lost, v.AnsweredTwice, v.Unapproved, v.Waiting, v.FirstDifference)
}

// teller says how far a rehearsal is: on one line that changes for a person, elsewhere on a line now and then.
type teller struct {
	w    io.Writer
	live bool
	last time.Time
	what string
}

// tellPause is how long a log is left alone about the same thing.
const tellPause = 10 * time.Second

func newTeller(w io.Writer) *teller {
	f, ok := w.(*os.File)
	return &teller{w: w, live: ok && term.IsTerminal(int(f.Fd()))}
}

// tell says that so many of so many are done with something.
func (t *teller) tell(what string, done, of int, more string) {
	if t.live {
		if t.what != "" && t.what != what {
			fmt.Fprintln(t.w)
		}
		fmt.Fprintf(t.w, "\r\x1b[Kfleet: %s: %d of %d%s", what, done, of, more)
	} else if t.what != what || done == of || time.Since(t.last) >= tellPause {
		fmt.Fprintf(t.w, "fleet: %s: %d of %d%s\n", what, done, of, more)
		t.last = time.Now()
	}
	t.what = what
}

// end ends the line that changes.
func (t *teller) end() {
	if t.live && t.what != "" {
		fmt.Fprintln(t.w)
	}
}

// allowed says whether a terminal may make the sales that are planned.
func allowed(l *message.Limits, sales int, amount message.Amount) error {
	const hint = "allow them in the configuration of latchkey-decryptd, as in offline: {count: 10, age: 24h, amount: 10000, currency: EUR, exponent: 2}"
	switch {
	case l == nil:
		return exit.With(exit.Refused, fmt.Errorf("%w: the host has not allowed any", terminal.ErrOffline), hint)
	case uint64(l.Count) < uint64(sales):
		return exit.With(exit.Refused, fmt.Errorf("%w: the host allows %d, want %d", terminal.ErrOffline, l.Count, sales), hint)
	case l.Amount.Currency != amount.Currency || l.Amount.Exponent != amount.Exponent || l.Amount.Minor/int64(sales) < amount.Minor:
		return exit.With(exit.Refused, fmt.Errorf("%w: the host allows %v together, want %d times %v", terminal.ErrOffline, l.Amount, sales, amount), hint)
	}
	return nil
}
