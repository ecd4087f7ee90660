package terminal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// hold has an RA wait before it answers at one path: arrived has something for each request there, and release lets all of them go.
func hold(t *testing.T, ra *terminaltest.RA, path string) (arrived chan struct{}, release func()) {
	t.Helper()
	arrived, gate := make(chan struct{}, 9), make(chan struct{})
	var once sync.Once
	release = func() { once.Do(func() { close(gate) }) }
	t.Cleanup(release)
	ra.Before = func(at string) error {
		if at == path {
			arrived <- struct{}{}
			<-gate
		}
		return nil
	}
	return arrived, release
}

// TestRenewLetsSalesGoOn sells, signs in and rekeys nothing while the authority is silent, and the renewal comes to its end after.
func TestRenewLetsSalesGoOn(t *testing.T) {
	t.Parallel()
	for _, path := range []string{terminaltest.PathTrustList, terminaltest.PathReenroll, terminaltest.PathAssignment} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, dukpt.AES)
			ra := terminaltest.NewRA(t, lab)
			host := terminaltest.NewAcquirer(t, lab)
			ra.Endpoints(host.URL)
			medium := terminaltest.NewFS()
			check(t, enrolInto(t.Context(), medium, options(t, ra)))
			term := open(t, medium, nil)
			first := ra.Serial()
			arrived, release := hold(t, ra, path)
			renewed := make(chan error, 1)
			go func() { renewed <- term.Renew(t.Context()) }()
			<-arrived
			_, err := term.SignIn(t.Context())
			check(t, err)
			sell(t, lab, term)
			if term.Status().Serial != first || host.Last() != first {
				t.Errorf("serial %s, the host sees %s, want the old one, %s", term.Status().Serial, host.Last(), first)
			}
			release()
			check(t, <-renewed)
			sell(t, lab, term)
			shows(t, term, lab)
			if s := term.Status(); s.Serial == first || host.Last() != s.Serial || !s.Slots[0].Confirmed {
				t.Errorf("status %+v, the host sees %s", s, host.Last())
			}
		})
	}
}

// shows demands that other links of the terminal show its certificate, made before the renewal or after.
func shows(t *testing.T, term *terminal.Terminal, lab *terminaltest.Lab) {
	t.Helper()
	other := terminaltest.NewAcquirer(t, lab)
	l, err := term.NewLink(terminal.Endpoint{URL: other.URL})
	check(t, err)
	defer l.Close()
	_ = l.Exchange(t.Context(), []byte("no message"), func([]byte) error { return nil }) // refused, but heard
	if other.Last() != term.Status().Serial {
		t.Errorf("another link shows %s, want %s", other.Last(), term.Status().Serial)
	}
}

// TestRenewClosed closes the terminal while the authority is silent: nothing is written afterwards, and the renewal goes on in the
// next process.
func TestRenewClosed(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	arrived, release := hold(t, ra, terminaltest.PathReenroll)
	renewed := make(chan error, 1)
	go func() { renewed <- term.Renew(t.Context()) }()
	<-arrived
	check(t, term.Close())
	before := medium.Content()
	release()
	if err := <-renewed; !errors.Is(err, terminal.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	same(t, before, medium)
	term = open(t, medium, &terminaltest.Wire{Host: lab.Host})
	if !term.RenewDue(time.Now()) {
		t.Error("nobody knows of the renewal")
	}
	check(t, term.Renew(t.Context()))
	if n := ra.Renewals(); n != 1 || term.Status().Serial != ra.Serial() {
		t.Errorf("%d keys came for one renewal", n)
	}
}

// TestRunRenews renews inside the window of the authority, and waits as long as that asks for.
func TestRunRenews(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	first := ra.Serial()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	ctx, cancel := context.WithCancel(t.Context())
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	var after, before time.Time
	term, err := terminal.Open(terminal.Options{
		FS: medium, Sealer: sealer, Clock: clock, Network: terminal.LinkOptions{
			Clock:  clock,
			Jitter: func(most time.Duration) time.Duration { return most / 4 },
			Sleep: func(ctx context.Context, d time.Duration) error {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(d)
				if now.After(before) { // the next window is far
					cancel()
				}
				return ctx.Err()
			},
		},
	})
	check(t, err)
	defer term.Close()
	after, before = term.Status().RenewAfter, term.Status().RenewBefore
	ra.RenewAfter(after.Add(1000 * time.Hour))
	var asked []time.Time
	ra.Refuse = func(path string) *enroll.Refusal {
		if path == terminaltest.PathReenroll {
			if asked = append(asked, clock()); len(asked) <= 2 {
				return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later", RetryAfter: 10 * time.Minute}
			}
		}
		return nil
	}
	failed := 0
	if err := term.Run(ctx, terminal.Upkeep{Failed: func(error) { failed++ }}); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if s := term.Status(); s.Serial == first || s.Serial != ra.Serial() || failed != 2 || len(asked) != 3 {
		t.Fatalf("serial %s of %s, %d failures, asked at %v", s.Serial, ra.Serial(), failed, asked)
	}
	quarter := after.Add(before.Sub(after) / 4)
	if d := asked[0].Sub(quarter); d < 0 || d > time.Minute {
		t.Errorf("the first time %v after the moment that was drawn in the window", d)
	}
	for n, pause := range []time.Duration{7500 * time.Millisecond, 15 * time.Second} {
		if got := asked[n+1].Sub(asked[n]) - 10*time.Minute; got < pause || got > pause+time.Second {
			t.Errorf("pause %d is 10 minutes and %v, want %v", n+1, got, pause)
		}
	}
}

// TestRunDeliversWhatIsHeld has the host hold back a sale that somebody makes while Run has nothing to do: Run delivers it later.
func TestRunDeliversWhatIsHeld(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	term, err := terminal.Open(terminal.Options{
		FS: medium, Sealer: sealer, Link: &terminaltest.Wire{Host: lab.Host}, Network: terminal.LinkOptions{
			Jitter: func(time.Duration) time.Duration { return time.Millisecond },
		},
	})
	check(t, err)
	defer term.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	settled := make(chan *terminal.SaleResult, 9)
	ended := make(chan error, 1)
	go func() {
		ended <- term.Run(ctx, terminal.Upkeep{Settled: func(r *terminal.SaleResult) { settled <- r }})
	}()
	asked := 0 // the host is locked meanwhile
	lab.Host.Decide = func(*message.Payload) message.Result {
		if asked++; asked == 1 {
			return message.Held
		}
		return message.Approved
	}
	r, err := term.Sale(t.Context(), saleOf(t, 100))
	check(t, err)
	if r.Result != message.Held {
		t.Fatalf("the sale is %v, want %v", r.Result, message.Held)
	}
	for {
		select {
		case got := <-settled:
			if got.Result == message.Held {
				continue
			}
			if got.Sequence != r.Sequence || !got.Approved() {
				t.Errorf("message %d is %v, want %d to be approved", got.Sequence, got.Result, r.Sequence)
			}
		case err := <-ended:
			t.Fatalf("Run ended, and the sale waits: %v", err)
		}
		break
	}
	cancel()
	<-ended
}
