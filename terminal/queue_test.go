package terminal_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

func euros(minor int64) message.Amount {
	return message.Amount{Minor: minor, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}
}

func limits(count, bytes, age uint32, minor int64) *message.Limits {
	return &message.Limits{Count: count, Bytes: bytes, AgeSeconds: age, Amount: euros(minor)}
}

// allowed opens a terminal whose host lets it sell without it.
func allowed(t *testing.T, lab *terminaltest.Lab, medium *terminaltest.FS, wire terminal.Exchanger, l *message.Limits) *terminal.Terminal {
	t.Helper()
	lab.Host.Limits = l
	term := open(t, medium, wire)
	_, err := term.SignIn(t.Context())
	check(t, err)
	return term
}

func saleOf(t *testing.T, minor int64) terminal.SaleRequest {
	t.Helper()
	r := sale(t, false)
	r.Amount = euros(minor)
	return r
}

// TestSaleOfflineLimits holds sales without the host to what it has said last, over restarts too.
func TestSaleOfflineLimits(t *testing.T) {
	t.Parallel()
	dollars := saleOf(t, 100)
	dollars.Amount.Currency = message.Currency{'U', 'S', 'D'}
	for _, c := range []struct {
		name   string
		limits *message.Limits
		after  time.Duration // of the first sale
		second terminal.SaleRequest
		want   error
	}{
		{"nothing is allowed", nil, 0, terminal.SaleRequest{}, terminal.ErrOffline},
		{"a count of none", limits(0, 1<<20, 3600, 10000), 0, terminal.SaleRequest{}, terminal.ErrOffline},
		{"the last one", limits(2, 1<<20, 3600, 10000), 0, saleOf(t, 100), nil},
		{"one too many", limits(1, 1<<20, 3600, 10000), 0, saleOf(t, 100), terminal.ErrOffline},
		{"the last cent", limits(9, 1<<20, 3600, 10000), 0, saleOf(t, 9900), nil},
		{"a cent too much", limits(9, 1<<20, 3600, 10000), 0, saleOf(t, 9901), terminal.ErrOffline},
		{"no room", limits(9, 500, 3600, 10000), 0, saleOf(t, 100), terminal.ErrOffline},
		{"another currency", limits(9, 1<<20, 3600, 10000), 0, dollars, terminal.ErrOffline},
		{"a sum below zero", limits(9, 1<<20, 3600, 10000), 0, saleOf(t, -1), terminal.ErrOffline},
		{"just in time", limits(9, 1<<20, 3600, 10000), 59 * time.Minute, saleOf(t, 100), nil},
		{"too late", limits(9, 1<<20, 3600, 10000), 61 * time.Minute, saleOf(t, 100), terminal.ErrOffline},
		{"the clock has gone back, and the host has said that it is later", limits(9, 1<<20, 3600, 10000), -50 * time.Minute, saleOf(t, 100), nil},
		{"with a PIN", limits(9, 1<<20, 3600, 10000), 0, sale(t, true), terminal.ErrSale},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, dukpt.AES)
			medium := imported(t, lab)
			wire := &terminaltest.Wire{Host: lab.Host}
			if _, err := open(t, medium.Clone(), wire).SaleOffline(saleOf(t, 100)); !errors.Is(err, terminal.ErrOffline) {
				t.Errorf("before the host has said anything: %v, want ErrOffline", err)
			}
			term := allowed(t, lab, medium, wire, c.limits)
			first, err := term.SaleOffline(saleOf(t, 100))
			if (err == nil) != (c.limits != nil && c.limits.Count > 0) {
				t.Fatalf("the first sale: %v", err)
			}
			check(t, term.Close())
			if err != nil {
				return
			}
			sent := len(wire.Sent)
			sealer, err := terminal.OpenInsecureFile(medium)
			check(t, err)
			term, err = terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: wire, Clock: func() time.Time { return time.Now().Add(c.after) }})
			check(t, err)
			defer term.Close()
			p, err := term.SaleOffline(c.second)
			if !errors.Is(err, c.want) || (p == nil) != (err != nil) {
				t.Fatalf("the second sale: %v, want %v", err, c.want)
			}
			if q := term.Queue(); c.want != nil && (q.Count != 1 || !slices.Equal(q.Amounts, []message.Amount{euros(100)}) || !q.Oldest.Equal(first.Time)) {
				t.Errorf("queue %+v, want the first sale only", q)
			}
			if len(wire.Sent) != sent {
				t.Error("something was sent")
			}
		})
	}
}

// TestSaleOfflineTakenBack lets the host say no more.
func TestSaleOfflineTakenBack(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	medium := imported(t, lab)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := allowed(t, lab, medium, wire, limits(9, 1<<20, 3600, 10000))
	if l := term.Queue().Limits; l == nil || *l != *lab.Host.Limits {
		t.Errorf("limits %+v", l)
	}
	lab.Host.Limits = nil
	_, err := term.Sale(t.Context(), sale(t, false))
	check(t, err)
	if _, err := term.SaleOffline(saleOf(t, 1)); !errors.Is(err, terminal.ErrOffline) || term.Queue().Limits != nil {
		t.Errorf("%v, limits %+v", err, term.Queue().Limits)
	}
	check(t, term.Close())
	term = open(t, medium, wire)
	if _, err := term.SaleOffline(saleOf(t, 1)); !errors.Is(err, terminal.ErrOffline) {
		t.Errorf("after a restart: %v", err)
	}
	check(t, term.Close())
	wire.Fault = func() terminaltest.Fault { return terminaltest.AnswerForged }
	wire.Attempts = 1
	lab.Host.Limits = limits(9, 1<<20, 3600, 10000)
	term = open(t, medium, wire)
	if _, err := term.Sale(t.Context(), sale(t, false)); !errors.Is(err, terminal.ErrAck) || term.Queue().Limits != nil {
		t.Errorf("a forged answer: %v, limits %+v", err, term.Queue().Limits)
	}
}

// TestDrain delivers in order, each once, whatever is lost; what is declined is shown, and what is held stays.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes {
		t.Run(scheme.String(), func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, scheme)
			wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1}
			term := allowed(t, lab, imported(t, lab), wire, limits(9, 1<<20, 3600, 10000))
			var want []uint64
			for n := range 5 {
				p, err := term.SaleOffline(saleOf(t, int64(100+n)))
				check(t, err)
				want = append(want, p.Sequence)
			}
			if q := term.Queue(); q.Count != 5 || q.Amounts[0].Minor != 510 || q.Oldest.IsZero() || q.Bytes < 1000 {
				t.Errorf("queue %+v", q)
			}
			lab.Host.Decide = func(p *message.Payload) message.Result {
				switch {
				case !p.Offline || !p.Queued:
					t.Errorf("message %d does not say that it was made without the host, and waited", p.Sequence)
				case p.Amount.Minor == 101:
					return message.Declined
				case p.Amount.Minor == 103:
					return message.Held
				}
				return message.Approved
			}
			r := rand.New(rand.NewPCG(3, 5))
			wire.Fault = func() terminaltest.Fault {
				return []terminaltest.Fault{terminaltest.RequestLost, terminaltest.AnswerLost, terminaltest.None}[r.IntN(3)]
			}
			var got []uint64
			var err error
			for try := 0; try == 0 || err != nil && try < 100; try++ {
				err = term.Drain(t.Context(), 0, func(r *terminal.SaleResult) {
					if r.Result != message.Held {
						got = append(got, r.Sequence)
					}
				})
			}
			check(t, err)
			if answered := slices.Delete(slices.Clone(want), 3, 4); !slices.Equal(got, answered) {
				t.Errorf("answered %v, want %v", got, answered)
			}
			x := term.Exceptions()
			if len(x) != 1 || x[0].Sequence != want[1] || x[0].Result != message.Declined || !x[0].Offline {
				t.Errorf("exceptions %+v, want that %d was declined", x, want[1])
			}
			if q := term.Queue(); q.Count != 1 || q.Exceptions != 1 || q.Amounts[0].Minor != 103 {
				t.Errorf("queue %+v, want the one that is held", q)
			}
			booked, _ := ledger(lab.Host)
			for n, sequence := range want {
				if one := booked[sequence]; n != 3 && one != 1 || n == 3 && one != 0 {
					t.Errorf("sale %d is booked %d times", sequence, one)
				}
			}
			if lab.Host.Reused() != 0 {
				t.Error("keys were used twice")
			}
		})
	}
}

// TestDrainBehindTheFloor delivers under a key above the floor that the host reports.
func TestDrainBehindTheFloor(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1}
	term := allowed(t, lab, imported(t, lab), wire, limits(9, 1<<20, 3600, 10000))
	for range 2 {
		_, err := term.SaleOffline(saleOf(t, 100))
		check(t, err)
	}
	lab.Host.Floors = []message.SlotFloor{{Slot: terminaltest.DataSlot, KeyID: lab.KeyID(terminaltest.DataSlot), Floor: 50}}
	lab.Host.Enforce = true
	check(t, term.Drain(t.Context(), 0, nil))
	if q := term.Queue(); q.Count != 0 || q.Exceptions != 2 { // the originals lie below it, too
		t.Errorf("queue %+v, want both refused as too old", q)
	}
}

// silent is a host that never answers until it is told to go on; then it is that of the lab.
type silent struct {
	terminal.Exchanger
	asked, goOn chan struct{}
}

func (s silent) Exchange(ctx context.Context, raw []byte, accept func([]byte) error) error {
	s.asked <- struct{}{}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.goOn:
		return s.Exchanger.Exchange(ctx, raw, accept)
	}
}

// TestDrainGivesWay has a customer come while the queue is drained: the sale goes first, and nothing is lost.
func TestDrainGivesWay(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	term := allowed(t, lab, medium, &terminaltest.Wire{Host: lab.Host}, limits(9, 1<<20, 3600, 10000))
	waits, err := term.SaleOffline(saleOf(t, 100))
	check(t, err)
	check(t, term.Close())
	host := silent{&terminaltest.Wire{Host: lab.Host}, make(chan struct{}, 9), make(chan struct{})}
	term = open(t, medium, host)
	drained := make(chan error, 1)
	go func() { drained <- term.Drain(t.Context(), 0, nil) }()
	<-host.asked
	if q := term.Queue(); q.Count != 1 { // without a wait
		t.Errorf("queue %+v", q)
	}
	sold := make(chan error, 1)
	go func() {
		_, err := term.Sale(t.Context(), sale(t, true))
		sold <- err
	}()
	<-host.asked
	host.goOn <- struct{}{}
	check(t, <-sold)
	<-host.asked
	host.goOn <- struct{}{}
	check(t, <-drained)
	entries := lab.Host.Entries()
	if len(entries) != 2 || !entries[0].WithPIN || entries[1].Sequence != waits.Sequence {
		t.Errorf("the host has %+v, want the sale with PIN first", entries)
	}
}

// TestZeroizeEndsASale does not wait for a host that is silent.
func TestZeroizeEndsASale(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	host := silent{nil, make(chan struct{}, 9), make(chan struct{})}
	term := open(t, imported(t, lab), host)
	sold := make(chan error, 1)
	go func() {
		_, err := term.Sale(t.Context(), sale(t, false))
		sold <- err
	}()
	<-host.asked
	check(t, term.Zeroize())
	unanswered(t, <-sold)
	if _, err := term.SaleOffline(saleOf(t, 1)); !errors.Is(err, terminal.ErrClosed) {
		t.Errorf("after that: %v", err)
	}
}

// TestRunDrains has a host that is away for an hour: Run asks it less and less often, and drains when it is back, in order.
func TestRunDrains(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	synctest.Test(t, func(t *testing.T) {
		away := false
		asked := 0
		wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault {
			if !away {
				return terminaltest.None
			}
			asked++
			return terminaltest.RequestLost
		}}
		term := allowed(t, lab, imported(t, lab), wire, limits(99, 1<<20, 1<<20, 100000))
		ctx, cancel := context.WithCancel(t.Context())
		var settled []uint64
		failed := 0
		ended := make(chan error, 1)
		go func() {
			ended <- term.Run(ctx, terminal.Upkeep{
				Settled: func(r *terminal.SaleResult) { settled = append(settled, r.Sequence) }, Failed: func(error) { failed++ },
			})
		}()
		away = true
		var want []uint64
		for range 3 {
			p, err := term.SaleOffline(saleOf(t, 100))
			check(t, err)
			want = append(want, p.Sequence)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(settled) != 0 || asked != failed || asked < 15 || asked > 60 {
			t.Errorf("asked %d times in an hour, %d failures, settled %v", asked, failed, settled)
		}
		away = false
		_, err := term.Sale(t.Context(), sale(t, false)) // whoever reaches the host has the rest follow soon
		check(t, err)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !slices.Equal(settled, want) || term.Queue().Count != 0 {
			t.Errorf("settled %v, want %v; queue %+v", settled, want, term.Queue())
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		go func() { ended <- term.Run(t.Context(), terminal.Upkeep{}) }()
		synctest.Wait()
		check(t, term.Close())
		if err := <-ended; !errors.Is(err, terminal.ErrClosed) {
			t.Errorf("Run of a terminal that is closed: %v", err)
		}
	})
}
