package vault_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// storm is how large a fleet is whose Vault is away for a day, and how many of it have connections.
type storm struct{ terminals, wired int }

func chosenStorm() storm {
	if os.Getenv("LATCHKEY_SOAK") != "" {
		return storm{20_000, 1000}
	}
	return storm{2000, 200}
}

// calm is what the storm has to leave behind.
type calm struct {
	*fleet
	n       int
	span    time.Duration
	signed  int           // certificates that Vault was asked for after it was back
	tried   int           // requests that reached its place while it was away
	busiest int           // requests at Vault at once
	took    time.Duration // from when Vault was back until the last certificate was renewed; zero: not all are
	real    time.Duration // the same, by the clock on the wall
	peak    int           // terminals that came in one span
	most    int           // certificates in one span after Vault was back
}

const seats = 8 // of an issuer, when nothing else is said

// rage has a fleet enrol, and Vault be away for the day on which all of it renews.
func (s storm) rage(t *testing.T) calm {
	t.Helper()
	const (
		day   = 24 * time.Hour
		hours = 4 // in which the last one has to be through
	)
	span := time.Duration(120_000/s.terminals) * time.Second // some thirty terminals come in it
	begun := time.Now().Add(-88 * day).Truncate(span)
	stage := newStage(begun, span)
	r := newRegistration(t, stage)
	f := r.enrolled(t, s.terminals, s.wired)
	away := f.all[len(f.all)-1].after.Add(-10 * time.Minute).Truncate(span)
	stage.jump(away)
	r.down()
	r.front.count("")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for _, one := range f.all {
		leave := stage.enter()
		all.Go(func() {
			defer leave()
			one.run(ctx)
		})
	}
	never := func() bool { return false }
	back := away.Add(day)
	stage.play(back, func() {}, never)
	c := calm{fleet: f, n: s.terminals, span: span, tried: r.front.count("/sign")}
	r.start(t)
	wall := time.Now()
	stage.play(back.Add(hours*time.Hour), func() { r.align(t) }, func() bool { return f.done.Load() >= int64(s.terminals) })
	if f.done.Load() >= int64(s.terminals) {
		c.took = stage.clock().Sub(back)
	}
	c.real = time.Since(wall)
	cancel()
	all.Wait()
	c.signed, c.busiest = r.front.count("/sign"), r.front.busiest()
	for _, n := range f.arrivals {
		c.peak = max(c.peak, n)
	}
	for _, n := range f.issued {
		c.most = max(c.most, n)
	}
	for _, one := range f.all {
		if !stage.clock().Before(one.chain[0].NotAfter) {
			f.expired++
		}
	}
	return c
}

func (c calm) String() string {
	return fmt.Sprintf(`%d terminals of which %d ask over TLS: %d renewed, %d certificates expired, the nearest to its end had %v left
a day without Vault: %d attempts, %d told to come again, %d came sooner; %d requests went to the place of Vault
peak: %d terminals and %d certificates in a span of %v, %d requests at Vault at once, of %d seats
cleared in %v by the clock of the fleet, %v on the wall: %.0f certificates a second; Vault was asked for %d`,
		c.n, c.wires(), c.done.Load(), c.expired, c.margin.Round(time.Minute), c.attempts, c.refused, c.early, c.tried,
		c.peak, c.most, c.span, c.busiest, seats, c.took, c.real.Round(time.Second), float64(c.done.Load())/c.real.Seconds(), c.signed)
}

func (f *fleet) wires() (n int) {
	for _, one := range f.all {
		if one.wire {
			n++
		}
	}
	return n
}

// faults are what must not be. even is how many terminals come in one span when they come evenly within an hour.
func (c calm) faults() (out []string) {
	wrong := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if c.expired > 0 {
		wrong("%d certificates expired", c.expired)
	}
	if c.took == 0 || c.took > 3*time.Hour {
		wrong("%d of %d renewed, the last after %v", c.done.Load(), c.n, c.took)
	}
	if even := int(float64(c.n) * c.span.Hours()); c.peak > 4*even {
		wrong("%d terminals came in %v, and %d would if they came evenly", c.peak, c.span, even)
	}
	if c.busiest > seats {
		wrong("%d requests were at Vault at once, and there are %d seats", c.busiest, seats)
	}
	if c.early > 0 {
		wrong("%d terminals came before the time they were told", c.early)
	}
	if c.signed != c.n {
		wrong("%d certificates were asked for, for %d terminals", c.signed, c.n)
	}
	for _, err := range c.broken[:min(len(c.broken), 5)] {
		wrong("a renewal ended otherwise, one of %d: %v", len(c.broken), err)
	}
	return out
}

// little says what was too little to prove anything.
func (c calm) little() (out []string) {
	if c.attempts < 6*c.n || c.refused < 5*c.n {
		out = append(out, fmt.Sprintf("%d attempts and %d refusals", c.attempts, c.refused))
	}
	if c.peak < 2*seats || c.most < seats || c.busiest < 4 {
		out = append(out, fmt.Sprintf("at most %d terminals came and %d certificates were made in a span, %d requests at once", c.peak, c.most, c.busiest))
	}
	return out
}

// TestStorm has Vault away for the day on which a whole fleet is to renew. The schedule of the client, the engine with its database,
// the issuer and Vault are what ships; the time is a stage's, and most terminals have no connection.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test")
	}
	c := chosenStorm().rage(t)
	t.Logf("%v", c)
	for _, fault := range append(c.faults(), c.little()...) {
		t.Error(fault)
	}
}
