package terminal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestClockFloor has a terminal whose clock stands at 1970: it goes by what certificates and its host have told it, over restarts,
// and not by a host that has lost its own clock.
func TestClockFloor(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	wire := &terminaltest.Wire{Host: lab.Host}
	start := time.Now()
	at := func(what string, least, most time.Time) {
		t.Helper()
		sealer, err := terminal.OpenInsecureFile(medium)
		check(t, err)
		term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: wire, Clock: func() time.Time { return time.Unix(1000, 0) }})
		check(t, err)
		defer term.Close()
		_, err = term.Sale(t.Context(), sale(t, false))
		check(t, err)
		m, err := message.Parse(wire.Sent[len(wire.Sent)-1])
		check(t, err)
		if got := time.Unix(m.Payload.Time, 0); got.Before(least.Truncate(time.Second)) || got.After(most) {
			t.Errorf("%s: a message of %v, want %v to %v", what, got, least, most)
		}
		_, err = term.Sale(t.Context(), sale(t, false)) // after the answer of the host
		check(t, err)
	}
	says := func(d time.Duration) {
		lab.Host.Tamper = func(a *message.AckPayload) { a.HostTime = start.Add(d).Unix() }
	}
	says(3 * time.Hour)
	at("the certificate began an hour ago", start.Add(-61*time.Minute), start.Add(-50*time.Minute))
	says(20 * time.Hour) // the certificate ends in 10
	at("the host said three hours from now", start.Add(3*time.Hour), start.Add(3*time.Hour+10*time.Minute))
	says(-time.Hour)
	at("a host beyond the end of the certificate is not believed", start.Add(3*time.Hour), start.Add(3*time.Hour+10*time.Minute))
	at("time does not go back", start.Add(3*time.Hour), start.Add(3*time.Hour+10*time.Minute))
}

// TestClockBehind says that the clock is wrong, where nothing is known that is later.
func TestClockBehind(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	l, err := lab.Bundle(t, terminal.Endpoint{URL: switchboard(t, lab)}).Link(terminal.LinkOptions{Clock: func() time.Time { return time.Unix(1000, 0) }})
	check(t, err)
	if _, err := l.Dial(t.Context()); !errors.Is(err, terminal.ErrClock) {
		t.Errorf("%v, want ErrClock", err)
	}
	l, err = lab.Bundle(t, terminal.Endpoint{URL: switchboard(t, lab)}).Link(terminal.LinkOptions{Clock: func() time.Time { return time.Now().AddDate(9, 0, 0) }})
	check(t, err)
	if _, err := l.Dial(t.Context()); err == nil || errors.Is(err, terminal.ErrClock) {
		t.Errorf("%v, want that the certificate is over", err)
	}
}
