package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/faults"
)

const (
	cells      = 16 // networks that fail apart from one another
	enrolling  = 16 // terminals that enrol at once
	cutOneIn   = 4  // a sale of which one has its power cut, with faults
	cutWithin  = 30 // writing calls: when the sale has fewer, the power goes after it
	weatherMax = 3 * time.Second
	// A track of a test card.
	rehearsalTrack = ";4761739001010119=29122010123456789?"
)

// rehearsal is the plan of an outage. What is left to chance is drawn by the seed.
type rehearsal struct {
	terminals, sales int
	amount           message.Amount
	outage, patience time.Duration
	seed             uint64
	faults           bool
	network          terminal.LinkOptions // how patient the links are

	cells map[string][]*faults.Proxy // by endpoint
	mu    sync.Mutex
	said  fleetView
	bad   map[string]int // network faults
}

// member is one terminal of the fleet.
type member struct {
	enrol  terminal.EnrolOptions
	n      int
	r      *rand.Rand // of its own goroutine
	medium *faults.FS
	o      terminal.Options
	term   *terminal.Terminal
	ended  chan struct{} // by Run

	mu       sync.Mutex
	answered map[uint64][]message.Result
	made     map[uint64]bool
}

func (p *rehearsal) check() error {
	switch {
	case p.terminals < 1 || p.terminals > maxFleet:
		return fmt.Errorf("%d terminals, want 1 to %d", p.terminals, maxFleet)
	case p.sales < 1:
		return fmt.Errorf("%d sales, want one at least", p.sales)
	case p.outage <= 0 || p.patience <= 0:
		return errors.New("an outage and its end take some time")
	}
	return nil
}

// run has the members suffer what is planned.
func (p *rehearsal) run(ctx context.Context, members []*member, t *teller) (*fleetView, error) {
	p.cells, p.bad = make(map[string][]*faults.Proxy), make(map[string]int)
	p.said = fleetView{Terminals: len(members), Seed: p.seed}
	for n, m := range members {
		m.n = n
	}
	defer t.end()
	defer p.close(members)
	if err := p.each(ctx, t, "enrolled and signed in", enrolling, members, p.begin); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	for _, m := range members {
		m.live(running)
	}
	p.set(faults.Cut)
	cut := time.Now()
	if err := p.each(ctx, t, "through the outage", len(members), members, func(ctx context.Context, m *member) error {
		return p.sell(ctx, running, m)
	}); err != nil {
		return nil, err
	}
	back := time.Now()
	p.said.OutageSeconds, p.said.OutageContacts = back.Sub(cut).Seconds(), len(p.arrivals(cut))
	p.set(faults.Sound)
	if err := p.drain(ctx, t, members, back); err != nil {
		return nil, err
	}
	stop()
	for _, m := range members { // the last answers have been heard then
		<-m.ended
	}
	p.judge(members, back)
	return &p.said, nil
}

// each does something with every member, so many at once, and tells of it. The first error ends it.
func (p *rehearsal) each(ctx context.Context, t *teller, what string, atOnce int, members []*member, do func(context.Context, *member) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var all sync.WaitGroup
	seats := make(chan struct{}, atOnce)
	all.Go(func() {
		for _, m := range members {
			select {
			case seats <- struct{}{}:
			case <-ctx.Done():
				return
			}
			all.Go(func() {
				defer func() { <-seats }()
				if err := do(ctx, m); err != nil {
					cancel(fmt.Errorf("%s: %w", m.enrol.Terminal, err))
				}
				done.Add(1)
			})
		}
	})
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		t.tell(what, int(done.Load()), len(members), "")
		select {
		case <-ended:
			if err := context.Cause(ctx); err != nil {
				return err
			}
			t.tell(what, len(members), len(members), "")
			return nil
		case <-second.C:
		}
	}
}

// begin makes a terminal, opens it behind the networks of the rehearsal, and signs in.
func (p *rehearsal) begin(ctx context.Context, m *member) error {
	m.r = rand.New(rand.NewPCG(p.seed, uint64(m.n)+2))
	m.answered, m.made = make(map[uint64][]message.Result), make(map[uint64]bool)
	m.medium = faults.NewFS()
	m.medium.Tidy()
	sealer, err := terminal.CreateInsecureFile(m.medium)
	if err != nil {
		return err
	}
	if err := terminal.Enroll(ctx, m.medium, sealer, m.enrol); err != nil {
		return err
	}
	m.o = terminal.Options{FS: m.medium, Sealer: sealer, Network: p.network}
	s, err := terminal.Inspect(m.o)
	if err != nil {
		return err
	}
	for _, e := range s.Endpoints {
		if e, err = p.behind(e, m.n); err != nil {
			return err
		}
		m.o.Network.Endpoints = append(m.o.Network.Endpoints, e)
	}
	if p.faults && m.r.IntN(3) == 0 {
		start, epoch := time.Now(), time.Unix(0, 0)
		m.o.Clock = func() time.Time { return epoch.Add(time.Since(start)) }
		p.note(func(v *fleetView) { v.Clocks++ })
	}
	if m.term, err = terminal.Open(m.o); err != nil {
		return err
	}
	r, err := m.term.SignIn(ctx)
	if err != nil {
		return err
	}
	if r.Result != message.SignedIn {
		return exit.Errorf(exit.Refused, "the host answers %v", r.Result)
	}
	return allowed(m.term.Queue().Limits, p.sales, p.amount)
}

// behind returns an endpoint as it is reached through the network of a member.
func (p *rehearsal) behind(e terminal.Endpoint, n int) (terminal.Endpoint, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return e, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cells[e.URL] == nil {
		for i := range cells {
			proxy, err := faults.Listen(p.seed+uint64(i), e.URL)
			if err != nil {
				return e, err
			}
			p.cells[e.URL] = append(p.cells[e.URL], proxy)
		}
	}
	if e.ServerName == "" {
		e.ServerName = u.Hostname()
	}
	e.URL = p.cells[e.URL][n%cells].URL + u.Path
	return e, nil
}

// live has the terminal do in the background what one has to do.
func (m *member) live(ctx context.Context) {
	ended := make(chan struct{})
	m.ended = ended
	term := m.term
	go func() {
		defer close(ended)
		_ = term.Run(ctx, terminal.Upkeep{Settled: m.settled}) // it ends with ctx, or with the power
	}()
}

func (m *member) settled(r *terminal.SaleResult) {
	m.mu.Lock()
	defer m.mu.Unlock()
	result := r.Result
	if r.Reversal {
		result = message.Reversed
	}
	m.answered[r.Sequence] = append(m.answered[r.Sequence], result)
}

// sell makes the sales of a member at moments of the outage, which it sits out.
func (p *rehearsal) sell(ctx, running context.Context, m *member) error {
	over := time.Now().Add(p.outage)
	for left := p.sales; left > 0; left-- {
		slot := time.Until(over) / time.Duration(left+1)
		if err := wait(ctx, time.Duration(m.r.Int64N(max(1, int64(slot))))); err != nil {
			return err
		}
		cut := p.faults && m.r.IntN(cutOneIn) == 0
		if cut {
			m.medium.CutAfter(m.r.IntN(cutWithin))
		}
		kept, err := m.sale(p.amount)
		switch {
		case err == nil:
			m.made[kept.Sequence] = true
		case errors.Is(err, terminal.ErrOffline):
			p.note(func(v *fleetView) { v.Refused++ })
		case !cut || !errors.Is(err, faults.ErrPower): // whether a sale whose power went was made is for the medium to say
			return err
		}
		if !cut {
			continue
		}
		p.note(func(v *fleetView) { v.PowerCuts++ })
		if err := m.reboot(running); err != nil {
			return fmt.Errorf("after a power cut: %w", err)
		}
	}
	return wait(ctx, time.Until(over))
}

func (m *member) sale(amount message.Amount) (*terminal.Pending, error) {
	track := secret.From([]byte(rehearsalTrack))
	defer track.Wipe()
	return m.term.SaleOffline(terminal.SaleRequest{Amount: amount, Track: track})
}

// reboot starts a terminal whose power has gone. A sale that it had in hand may have been made.
func (m *member) reboot(running context.Context) error {
	_ = m.term.Close() // it is dead, and has nothing to say
	<-m.ended
	m.medium = m.medium.Reboot(m.r)
	m.o.FS = m.medium
	var err error
	if m.o.Sealer, err = terminal.OpenInsecureFile(m.medium); err != nil {
		return err
	}
	if m.term, err = terminal.Open(m.o); err != nil {
		return err
	}
	for _, w := range m.term.Pending() {
		m.made[w.Sequence] = true
	}
	m.live(running)
	return nil
}

// drain waits until nothing waits, through bad weather where that is planned.
func (p *rehearsal) drain(ctx context.Context, t *teller, members []*member, back time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	var weather sync.WaitGroup
	defer weather.Wait()
	stormy, calm := context.WithCancel(ctx)
	defer calm()
	if p.faults {
		for _, proxies := range p.cells {
			for i, proxy := range proxies {
				weather.Go(func() { p.weather(stormy, proxy, rand.New(rand.NewPCG(p.seed, uint64(1<<32+i)))) })
			}
		}
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		drained := 0
		for _, m := range members {
			if m.term.Queue().Count == 0 {
				drained++
			}
		}
		p.said.DrainSeconds = time.Since(back).Seconds()
		t.tell("drained", drained, len(members), fmt.Sprintf(", %d contacts", len(p.arrivals(back))))
		if drained == len(members) {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // what waits still is for the verdict
			}
			return ctx.Err()
		case <-second.C:
		}
	}
}

// weather has a network fail now and then.
func (p *rehearsal) weather(ctx context.Context, proxy *faults.Proxy, r *rand.Rand) {
	for {
		if wait(ctx, time.Duration(r.Int64N(int64(weatherMax)))) != nil {
			break
		}
		fault := faults.NetFaults[r.IntN(len(faults.NetFaults))]
		p.note(func(*fleetView) { p.bad[fault.String()]++ })
		proxy.Set(fault)
		if wait(ctx, time.Duration(r.Int64N(int64(weatherMax)))) != nil {
			break
		}
		proxy.Set(faults.Sound)
	}
	proxy.Set(faults.Sound)
}

// judge compares what was sold with what was answered.
func (p *rehearsal) judge(members []*member, back time.Time) {
	v := &p.said
	v.DrainContacts = len(p.arrivals(back))
	perSecond := make(map[int64]int)
	for _, at := range p.arrivals(back) {
		second := int64(at.Sub(back) / time.Second)
		perSecond[second]++
		v.PeakPerSecond = max(v.PeakPerSecond, perSecond[second])
	}
	v.NetFaults = p.bad
	for _, m := range members {
		waits := make(map[uint64]bool)
		for _, w := range m.term.Pending() {
			waits[w.Sequence] = true
		}
		m.mu.Lock()
		for sequence := range m.made {
			v.Sales++
			what := ""
			switch results := m.answered[sequence]; {
			case len(results) > 1:
				v.AnsweredTwice++
				what = fmt.Sprintf("is answered %v", results)
			case len(results) == 1 && results[0] == message.Approved:
				v.Answered++
			case len(results) == 1:
				v.Unapproved++
				what = fmt.Sprintf("is answered %v", results[0])
			case waits[sequence]:
				v.Waiting++
				what = "waits"
			default:
				v.Lost++
				what = "is gone"
			}
			if what != "" && v.FirstDifference == "" {
				v.FirstDifference = fmt.Sprintf("sale %d of %s %s", sequence, m.enrol.Terminal, what)
			}
		}
		m.mu.Unlock()
	}
}

// note changes what is said at the end.
func (p *rehearsal) note(change func(*fleetView)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.said)
}

// set has every network be of one kind.
func (p *rehearsal) set(f faults.NetFault) {
	for _, proxies := range p.cells {
		for _, proxy := range proxies {
			proxy.Set(f)
		}
	}
}

// arrivals are the contacts from a time on, where the terminals are.
func (p *rehearsal) arrivals(from time.Time) (all []time.Time) {
	for _, proxies := range p.cells {
		for _, proxy := range proxies {
			all = append(all, proxy.Arrivals(from)...)
		}
	}
	return all
}

// close ends what was begun.
func (p *rehearsal) close(members []*member) {
	p.set(faults.Cut)
	for _, m := range members {
		if m.term != nil {
			_ = m.term.Close() // the medium ends with the process
		}
		if m.ended != nil {
			<-m.ended
		}
	}
	for _, proxies := range p.cells {
		for _, proxy := range proxies {
			_ = proxy.Close() // nobody is behind it any more
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
