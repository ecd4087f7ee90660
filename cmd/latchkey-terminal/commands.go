package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
)

// maxBundle bounds what import reads.
const maxBundle = 256 << 10

func newImport(a *app) *cobra.Command {
	var bundle, code string
	cmd := &cobra.Command{
		Use: "import --bundle FILE --code-file FILE --dir DIR", Short: "Make a terminal of a bundle, once",
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return explain(a.importBundle(bundle, code)) },
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "file that latchkey bundle register made (required)")
	cmd.Flags().StringVar(&code, "code-file", "", "file with the code that opens it, readable by you only (required)")
	return cmd
}

func (a *app) importBundle(bundle, code string) error {
	if bundle == "" || code == "" || a.dir == "" {
		return exit.With(exit.Usage, errors.New("import needs --bundle, --code-file and --dir"),
			"as in latchkey-terminal import --bundle t1.bundle --code-file code --dir ./t1")
	}
	f, err := os.Open(bundle)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	sealed, err := io.ReadAll(io.LimitReader(f, maxBundle))
	if err != nil {
		return err
	}
	pass, err := readCode(code)
	if err != nil {
		return err
	}
	defer pass.Wipe()
	b, err := terminal.OpenBundle(pass, sealed)
	if err != nil {
		return err
	}
	defer b.Wipe()
	medium, sealer, err := a.create()
	if err != nil {
		return err
	}
	if err := terminal.Import(medium, sealer, b); err != nil {
		return err
	}
	return a.status()
}

// readCode reads the code of a bundle. What is in the file, and cannot be a code, is a mistake in the command line.
func readCode(path string) (secret.Bytes, error) {
	pass, err := seal.ReadPassphrase(path)
	if _, ok := errors.AsType[*fs.PathError](err); !ok && !errors.Is(err, seal.ErrExposed) {
		err = exit.With(exit.Usage, err, "name the file that holds the code of the bundle and nothing else with --code-file")
	}
	return pass, err
}

// create makes the folder of a terminal, and what guards it.
func (a *app) create() (terminal.FS, terminal.Sealer, error) {
	if a.element.uri != "" { // without its token no folder is left behind
		if _, err := a.sealer(nil, true); err != nil {
			return nil, nil, err
		}
	}
	if err := makeFolder(a.dir, testOnlySyncDir); err != nil {
		return nil, nil, err
	}
	medium := terminal.OSFS(a.dir)
	sealer, err := a.sealer(medium, true)
	return medium, sealer, err
}

// testOnlySyncDir is replaced by tests only.
var testOnlySyncDir = seal.SyncDir

// makeFolder makes a folder and those above it, and makes their names durable by sync: a power cut that loses the folder
// of a used terminal would let the same bundle be imported again, and its keys serve twice. The name of a folder that is
// there is made durable too, because an attempt may have ended before it came to that; where the folder above it may not
// be read, somebody else has made it.
func makeFolder(dir string, sync func(string) error) error {
	dir = filepath.Clean(dir)
	existed := isFolder(dir)
	above := []string{filepath.Dir(dir)}
	for d := above[0]; !isFolder(d) && d != filepath.Dir(d); d = filepath.Dir(d) {
		above = append(above, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range above {
		err := sync(d)
		if err != nil && !(existed && errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status --dir DIR", Short: "Say who the terminal is and what its keys have left", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return explain(a.status()) },
	}
}

// statusView is the stable form for programs.
type statusView struct {
	Tenant, Terminal, Environment, Sealer, Serial string
	NotAfter                                      time.Time
	RenewAfter, RenewBefore                       time.Time `json:",omitzero"`
	TrustList                                     uint64    `json:",omitempty"` // version
	BootCounter                                   uint64
	Pending, Exceptions                           int
	Queue                                         queueView
	Slots                                         []slotView
	Waiting                                       []slotView `json:",omitempty"`
}

// queueView is what waits for the host, and what may.
type queueView struct {
	Bytes   int
	Amounts []string   `json:",omitempty"`
	Oldest  *time.Time `json:",omitempty"`
	Offline string     // what may be sold without the host
}

func queueOf(q terminal.Queue) queueView {
	v := queueView{Bytes: q.Bytes, Offline: "nothing"}
	for _, a := range q.Amounts {
		v.Amounts = append(v.Amounts, a.String())
	}
	if q.Count > 0 {
		v.Oldest = &q.Oldest
	}
	if l := q.Limits; l != nil {
		v.Offline = fmt.Sprintf("%d sales, %v, %v long", l.Count, l.Amount, time.Duration(l.AgeSeconds)*time.Second)
	}
	return v
}

func (v queueView) text(count int) string {
	if v.Oldest == nil {
		return fmt.Sprint(count)
	}
	return fmt.Sprintf("%d, %s, the oldest of %s", count, strings.Join(v.Amounts, ", "), v.Oldest.Format(time.RFC3339))
}

type slotView struct {
	Slot          uint8
	KeySet        string
	Revision      uint
	Scheme, KeyID string
	NextKSN       string `json:",omitempty"`
	Remaining     uint32
	Confirmed     bool
}

func (a *app) status() error {
	o, err := a.options()
	if err != nil {
		return err
	}
	s, err := terminal.Inspect(o)
	if err != nil {
		return err
	}
	v := statusView{
		Tenant: string(s.Tenant), Terminal: string(s.Terminal), Environment: s.Environment.String(), Sealer: s.Sealer,
		Serial: s.Serial, NotAfter: s.NotAfter, BootCounter: s.BootCounter, Pending: s.Pending, Exceptions: s.Exceptions,
		Queue: queueOf(s.Queue),
	}
	if s.TrustList != 0 {
		v.RenewAfter, v.RenewBefore, v.TrustList = s.RenewAfter, s.RenewBefore, s.TrustList
	}
	rows := []row{
		{"terminal", v.Tenant + "/" + v.Terminal}, {"environment", v.Environment}, {"sealer", v.Sealer},
		{"certificate", v.Serial + " until " + v.NotAfter.UTC().Format(time.DateOnly)},
	}
	if v.TrustList != 0 {
		rows = append(rows, row{"renewal", v.RenewAfter.Format(time.DateOnly) + " to " + v.RenewBefore.Format(time.DateOnly)},
			row{"trust list", fmt.Sprintf("version %d", v.TrustList)})
	}
	rows = append(rows, row{"starts", v.BootCounter}, row{"unanswered", v.Queue.text(v.Pending)}, row{"exceptions", v.Exceptions},
		row{"without host", v.Queue.Offline})
	for _, slot := range s.Slots {
		sv := viewOf(slot)
		v.Slots = append(v.Slots, sv)
		rows = append(rows, row{fmt.Sprintf("slot %d", sv.Slot), sv.text()})
	}
	for _, slot := range s.Waiting {
		sv := viewOf(slot)
		v.Waiting = append(v.Waiting, sv)
		rows = append(rows, row{fmt.Sprintf("slot %d waits", sv.Slot), sv.key() + "; signin or rekey confirms it"})
	}
	return a.show(v, rows...)
}

func viewOf(r terminal.SlotReport) slotView {
	v := slotView{
		Slot: r.Number, KeySet: string(r.KeySet), Revision: r.Revision, Scheme: r.Scheme().String(),
		KeyID: r.Slot.KeyID.String(), Remaining: r.Remaining, Confirmed: r.Confirmed,
	}
	if !r.Next.IsZero() {
		v.NextKSN = r.Next.String()
	}
	return v
}

func (v slotView) text() string {
	if v.Confirmed {
		return v.key()
	}
	return v.key() + ", not confirmed: run signin"
}

func (v slotView) key() string {
	return fmt.Sprintf("%s.r%d %s, next %s, %d keys left", v.KeySet, v.Revision, v.Scheme, v.NextKSN, v.Remaining)
}

func newSignIn(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "signin --dir DIR", Short: "Tell the host that the terminal is there, and confirm its keys", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.signIn(cmd.Context())) },
	}
}

func (a *app) signIn(ctx context.Context) error {
	var r *terminal.SignInResult
	err := a.with(ctx, func(ctx context.Context, t *terminal.Terminal) (err error) {
		r, err = t.SignIn(ctx)
		return err
	})
	if r == nil {
		return unreachable(err)
	}
	view := struct {
		Result   string
		HostTime time.Time
	}{r.Result.String(), r.HostTime}
	if e := a.show(view, row{"result", view.Result}, row{"host time", view.HostTime.Format(time.RFC3339)}); e != nil {
		return e
	}
	if err == nil && r.Result != message.SignedIn {
		return exit.Errorf(exit.Refused, "the host answers %v", r.Result)
	}
	return err
}

// signInQuietly signs in and shows nothing.
func (a *app) signInQuietly(ctx context.Context) error {
	return a.with(ctx, func(ctx context.Context, t *terminal.Terminal) error {
		r, err := t.SignIn(ctx)
		if r == nil {
			return unreachable(err)
		}
		if r.Result != message.SignedIn {
			return exit.Errorf(exit.Refused, "the host answers %v", r.Result)
		}
		return err
	})
}

// unreachable is the error of a sign-in that nobody has answered.
func unreachable(err error) error {
	_, refused := errors.AsType[*terminal.HostError](err)
	if refused || errors.Is(err, terminal.ErrAck) || errors.Is(err, terminal.ErrCertificateRefused) {
		return err
	}
	if _, known := errors.AsType[*exit.Error](err); known {
		return err
	}
	return exit.With(exit.Unreachable, err, "check the network and the endpoints")
}

// saleFlags are what the customer and the cashier give.
type saleFlags struct {
	amount, currency, track, pan, pin string
	noPIN, offline                    bool
}

func newSale(a *app) *cobra.Command {
	var f saleFlags
	cmd := &cobra.Command{
		Use:   "sale --dir DIR --amount 12.34 [--currency EUR] [--track2-file FILE | --pan-file FILE] [--pin-file FILE | --no-pin]",
		Short: "Make one sale",
		Long: `sale makes one sale and shows what the host answers. Without files it asks for the card number and
the PIN, and shows neither:

  latchkey-terminal sale --dir ./t1 --amount 12.34 --currency EUR

The files are for scripts, and only you may read them. A sale without an answer is kept: run resend.
With --offline the host is not asked: the sale is kept, within what the host has allowed (status), and
resend delivers it. It has no PIN.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.sale(cmd.Context(), f)) },
	}
	cmd.Flags().StringVar(&f.amount, "amount", "", "amount in the major unit, as in 12.34 (required)")
	cmd.Flags().StringVar(&f.currency, "currency", "EUR", "ISO 4217 code, letters or digits")
	cmd.Flags().StringVar(&f.track, "track2-file", "", "file with track 2, as a reader gives it; - for standard input")
	cmd.Flags().StringVar(&f.pan, "pan-file", "", "file with the card number, as somebody types it; - for standard input; without both it is asked for")
	cmd.Flags().StringVar(&f.pin, "pin-file", "", "file with the PIN; - for standard input; without it the PIN is asked for")
	cmd.Flags().BoolVar(&f.noPIN, "no-pin", false, "a sale without a PIN")
	cmd.Flags().BoolVar(&f.offline, "offline", false, "a sale without the host and without a PIN, to be delivered later")
	return cmd
}

func (a *app) sale(ctx context.Context, f saleFlags) error {
	r, err := a.request(f)
	defer func() { r.Track.Wipe(); r.PIN.Wipe() }()
	if err != nil {
		return err
	}
	t, err := a.open()
	if err != nil {
		return err
	}
	defer t.Close() // the state is durable already
	if f.offline {
		p, err := t.SaleOffline(r)
		if err != nil {
			return err
		}
		return a.kept(p)
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	result, err := t.Sale(ctx, r)
	if err != nil {
		return err
	}
	return a.report(result)
}

func (a *app) request(f saleFlags) (r terminal.SaleRequest, err error) {
	if r.Amount, err = parseAmount(f.amount, f.currency); err != nil {
		return r, exit.With(exit.Usage, err, "as in --amount 12.34 --currency EUR")
	}
	f.noPIN = f.noPIN || f.offline
	if f.pin != "" && f.noPIN || f.pin == "-" && f.track+f.pan == "-" {
		return r, exit.With(exit.Usage, errors.New("--pin-file goes neither with --no-pin nor with a card on the same input"), "leave one of the flags out")
	}
	if r.Track, err = a.card(f); err != nil {
		return r, err
	}
	if f.noPIN {
		return r, nil
	}
	digits, err := a.read(f.pin, "--pin-file", "PIN")
	if err != nil {
		return r, err
	}
	defer digits.Wipe()
	if r.PIN, err = pin.ParsePIN(digits.Expose()); err != nil {
		return r, exit.With(exit.Usage, err, "a PIN has 4 to 12 digits")
	}
	return r, nil
}

// card reads what a reader has read of a card, or the number that somebody types. Of the two only the number is held to its
// check digit: what a reader gives has checks of its own, and tracks of test cards break this one.
func (a *app) card(f saleFlags) (secret.Bytes, error) {
	switch {
	case f.track != "" && f.pan != "":
		return secret.Bytes{}, exit.With(exit.Usage, errors.New("a sale needs either --track2-file or --pan-file"), "leave one of the flags out")
	case f.track != "":
		return a.read(f.track, "--track2-file", "card")
	case f.pan == "" && !a.input().Person():
		return secret.Bytes{}, exit.With(exit.Usage, errors.New("the card is missing, and there is no terminal to ask on"),
			"give its number with --pan-file FILE, or what was read of it with --track2-file FILE; - for standard input")
	}
	number, err := a.read(f.pan, "--pan-file", "card number")
	if err != nil {
		return secret.Bytes{}, err
	}
	if !plausible(number.Expose()) {
		number.Wipe()
		return secret.Bytes{}, exit.With(exit.Usage, fmt.Errorf("that is no card number: it has %d to %d digits, the last of which checks the others", minCard, maxCard),
			"give the digits as they stand on the card, without spaces; a track goes with --track2-file")
	}
	return number, nil
}

// The digits of a card number in payments. ISO/IEC 7812-1 has shorter ones, which no payment scheme gives out.
const (
	minCard = 12
	maxCard = 19
)

// plausible reports whether a number has the length and the check digit of a card's (ISO/IEC 7812-1, annex B).
func plausible(number []byte) bool {
	sum := 0
	for i, c := range number {
		d := int(c) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if (len(number)-i)%2 == 0 { // every second one, counted from the check digit
			d = d*2%10 + d/5
		}
		sum += d
	}
	return len(number) >= minCard && len(number) <= maxCard && sum%10 == 0
}

// kept shows a sale that was made without the host.
func (a *app) kept(p *terminal.Pending) error {
	view := struct {
		Result   string
		Sequence uint64
		KSN      string
		Digest   string
	}{"kept", p.Sequence, p.KSN.String(), p.Digest.String()}
	return a.show(view, row{"sale", "kept: latchkey-terminal resend delivers it"}, row{"sequence", view.Sequence}, row{"KSN", view.KSN}, row{"digest", view.Digest})
}

// report shows a result; anything but an approval ends with exit code 4.
func (a *app) report(r *terminal.SaleResult) error {
	view := struct {
		Result   string
		Reversal bool
		Sequence uint64
		KSN      string
		Digest   string
		HostTime time.Time
	}{r.Result.String(), r.Reversal, r.Sequence, r.KSN.String(), r.Digest.String(), r.HostTime}
	name := "sale"
	if r.Reversal {
		name = "reversal"
	}
	err := a.show(view, row{name, view.Result}, row{"sequence", view.Sequence}, row{"KSN", view.KSN},
		row{"digest", view.Digest}, row{"host time", view.HostTime.Format(time.RFC3339)})
	if err != nil || r.Result == message.Approved {
		return err
	}
	hint := ""
	if r.Result == message.Held {
		hint = "kept: run latchkey-terminal resend after it was unblocked; a sale with a PIN is then taken back"
	}
	return exit.With(exit.Refused, fmt.Errorf("the host answers %v", r.Result), hint)
}

func newResend(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "resend --dir DIR",
		Short: "Settle the sales that nobody has answered, oldest first",
		Long: `resend settles each sale that has no answer, so that nobody knows whether the host has it, and each
that was answered HELD, because the terminal was blocked.

  latchkey-terminal resend --dir ./t1

A sale without a PIN is sent again as it was, and approved or declined then. A sale with a PIN is
never sent twice, and its PIN is not kept: it is taken back with a reversal, and the customer pays
again. What the host answers HELD stays for the next time; status says how many there are.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explain(a.resend(cmd.Context())) },
	}
}

func (a *app) resend(ctx context.Context) error {
	t, err := a.open()
	if err != nil {
		return err
	}
	defer t.Close() // the state is durable already
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	fmt.Fprintf(a.stderr, "%d unanswered\n", t.Queue().Count)
	var refused error
	err = t.Drain(ctx, 0, func(r *terminal.SaleResult) {
		if err := a.report(r); err != nil {
			refused = err
		}
	})
	if err != nil {
		return err
	}
	return refused
}
