package terminal_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// moment is what a terminal is at when a fault of the network begins.
type moment uint8

const (
	idle     moment = iota // a connection is open and nobody uses it
	inFlight               // a sale has reached the host, its answer is on its way
	draining               // of a queue of five, the second has
)

func (m moment) String() string { return [...]string{"idle", "in flight", "draining"}[m] }

// network is one between a terminal and a host, with a fault that begins and ends.
type network struct {
	terminal.Endpoint
	fault      string
	begin, end func()
	passes     bool // the fault need not be noticed
}

// outage is one fault of the network, from its beginning until it is found, and from its end until all is well.
type outage struct {
	mu                  sync.Mutex
	network             network
	left                int // messages until it begins; negative: it has begun
	began, found, ended time.Time
}

// arrive counts a message that has arrived at the host. It is asked by the host, before it answers.
func (o *outage) arrive() *terminal.HostError {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left--; o.left == 0 {
		o.begin()
	}
	return nil
}

func (o *outage) begin() {
	o.left, o.began = -1, time.Now()
	o.network.begin()
}

// pause is where a link ends up that has found the fault: then it is over.
func (o *outage) pause(ctx context.Context, d time.Duration) error {
	o.mu.Lock()
	if o.found.IsZero() && !o.began.IsZero() {
		o.found = time.Now()
		o.network.end()
		o.ended = time.Now()
	}
	o.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// row is what is said about one outage.
func (o *outage) row(m moment, done time.Time) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found.IsZero() {
		return fmt.Sprintf("%-25v %-10v not noticed, all done after %v", o.network.fault, m, done.Sub(o.began).Round(time.Millisecond))
	}
	return fmt.Sprintf("%-25v %-10v found after %v, recovered after %v", o.network.fault, m, o.found.Sub(o.began).Round(time.Millisecond), done.Sub(o.ended).Round(time.Millisecond))
}

// pace is how patient a link is, and what a sale has at most.
type pace struct {
	dial, response, backoff, most, sale time.Duration
}

// quick is a hundredth of what links do by themselves, so far as a machine under load can be asked for it.
var quick = pace{time.Second, time.Second, 20 * time.Millisecond, 100 * time.Millisecond, 15 * time.Second}

// proxied is a fault of our own making.
func proxied(f terminaltest.NetFault, m moment) func(*testing.T, string) network {
	return func(t *testing.T, host string) network {
		proxy := terminaltest.NewProxy(t, uint64(f)<<8|uint64(m), host)
		return network{
			Endpoint: terminal.Endpoint{URL: proxy.URL}, fault: f.String(), passes: f == terminaltest.Slow,
			begin: func() { proxy.Set(f) }, end: func() { proxy.Set(terminaltest.Sound) },
		}
	}
}

// suffer has a terminal go through one fault and returns what went wrong: sales without their approval, lost, or booked twice.
func suffer(t *testing.T, scheme dukpt.Scheme, to func(t *testing.T, host string) network, m moment, p pace) (row string, wrong []string) {
	t.Helper()
	lab := terminaltest.NewLab(t, scheme)
	host := terminaltest.NewAcquirer(t, lab)
	o := &outage{network: to(t, host.URL)}
	host.Refuse = o.arrive
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, lab.Bundle(t, o.network.Endpoint)))
	lab.Host.Limits = limits(9, 1<<20, 3600, 1000000)
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Network: terminal.LinkOptions{
		DialTimeout: p.dial, ResponseTimeout: p.response, Backoff: p.backoff, MaxBackoff: p.most, Sleep: o.pause,
	}})
	check(t, err)
	defer term.Close()
	_, err = term.SignIn(t.Context())
	check(t, err)
	want := make(map[uint64]bool)
	sells := func() {
		ctx, cancel := context.WithTimeout(t.Context(), p.sale)
		defer cancel()
		result, err := term.Sale(ctx, sale(t, true))
		if err != nil || !result.Approved() {
			wrong = append(wrong, fmt.Sprintf("a sale: %v", err))
			return
		}
		want[result.Sequence] = true
	}
	sells()
	if m == draining {
		for range 5 {
			p, err := term.SaleOffline(sale(t, false))
			check(t, err)
			want[p.Sequence] = true
		}
	}
	o.mu.Lock()
	switch m {
	case idle:
		o.begin()
	case inFlight:
		o.left = 1
	case draining:
		o.left = 2
	}
	o.mu.Unlock()
	if m == draining {
		ctx, cancel := context.WithTimeout(t.Context(), p.sale)
		defer cancel()
		if err := term.Drain(ctx, 0, nil); err != nil {
			wrong = append(wrong, fmt.Sprintf("the queue: %v", err))
		}
	} else {
		sells()
	}
	sells()
	done := time.Now()
	row = o.row(m, done)
	if late := 30 * time.Second; !o.found.IsZero() && (o.found.Sub(o.began) > late || done.Sub(o.ended) > late) {
		wrong = append(wrong, "it took longer than 30 s: "+row)
	}
	o.mu.Lock()
	if o.began.IsZero() || o.found.IsZero() && !o.network.passes {
		wrong = append(wrong, fmt.Sprintf("the fault began at %v and was found at %v", o.began, o.found))
	}
	o.mu.Unlock()
	booked, reversed := ledger(lab.Host)
	for sequence := range want {
		if booked[sequence] != 1 || reversed[sequence] {
			wrong = append(wrong, fmt.Sprintf("sale %d is booked %d times, reversed %v", sequence, booked[sequence], reversed[sequence]))
		}
	}
	if len(booked) != len(want) || term.Queue().Count != 0 || lab.Host.Reused() != 0 {
		wrong = append(wrong, fmt.Sprintf("%d sales are booked, want %d; queue %+v; %d keys twice", len(booked), len(want), term.Queue(), lab.Host.Reused()))
	}
	return row, wrong
}

// TestLinkFaults is the table of the link: each fault of the network at each moment. No sale is lost and none is booked twice. In
// `make soak` the link is as patient as it is by itself, and finds and survives each fault within 30 seconds.
func TestLinkFaults(t *testing.T) {
	t.Parallel()
	p := quick
	if os.Getenv("LATCHKEY_SOAK") != "" {
		p = pace{sale: time.Minute}
	}
	if d := terminal.DefaultDialTimeout + terminal.DefaultResponseTimeout + terminal.DefaultMaxBackoff; d > 30*time.Second {
		t.Errorf("a link that is as patient as it is by itself may need %v, want 30 s at most", d)
	}
	var mu sync.Mutex
	var rows []string
	t.Run("faults", func(t *testing.T) {
		for n, f := range terminaltest.NetFaults {
			for _, m := range []moment{idle, inFlight, draining} {
				t.Run(fmt.Sprintf("%v, %v", f, m), func(t *testing.T) {
					t.Parallel()
					row, wrong := suffer(t, schemes[n%2], proxied(f, m), m, p)
					for _, w := range wrong {
						t.Error(w)
					}
					mu.Lock()
					defer mu.Unlock()
					rows = append(rows, row)
				})
			}
		}
	})
	slices.Sort(rows)
	for _, row := range rows {
		t.Log(row)
	}
	if want := 3 * len(terminaltest.NetFaults); len(rows) != want {
		t.Errorf("%d outages, want %d", len(rows), want)
	}
}

// TestLinkPassesOver has two endpoints, of which the first is a black hole: one message waits for it and no other, and when it is
// back it is the first again.
func TestLinkPassesOver(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	first, second := terminaltest.NewAcquirer(t, lab), terminaltest.NewAcquirer(t, lab)
	hole := terminaltest.NewProxy(t, 1, first.URL)
	var passed atomic.Int64
	start := time.Now()
	l, err := lab.Bundle(t, terminal.Endpoint{URL: hole.URL}, terminal.Endpoint{URL: second.URL}).Link(terminal.LinkOptions{
		DialTimeout: quick.dial, ResponseTimeout: quick.response,
	}.WithNow(func() time.Time { return start.Add(time.Duration(passed.Load())) }))
	check(t, err)
	defer l.Close()
	medium := imported(t, lab)
	term := open(t, medium, l)
	sells := func(n int, want terminal.LinkState) {
		t.Helper()
		for range n {
			_, err := term.Sale(t.Context(), sale(t, false))
			check(t, err)
		}
		if got := l.State(); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	sells(2, terminal.Online)
	hole.Set(terminaltest.LostDown)
	sells(5, terminal.Degraded)
	if c := l.Counters(); c.Silent != 1 || c.Pauses != 0 {
		t.Errorf("counters %+v, want that one message waited for the first endpoint", c)
	}
	hole.Set(terminaltest.Sound)
	passed.Add(int64(terminal.Rest))
	sells(2, terminal.Online)
	if booked, _ := ledger(lab.Host); len(booked) != 9 {
		t.Errorf("%d sales are booked, want 9", len(booked))
	}
}
