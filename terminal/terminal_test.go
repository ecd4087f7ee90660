package terminal_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

var schemes = []dukpt.Scheme{dukpt.TDES, dukpt.AES}

const track = ";4761739001010119=29122010123456789?"

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// imported returns a medium with the lab's terminal on it.
func imported(tb testing.TB, lab *terminaltest.Lab) *terminaltest.FS {
	tb.Helper()
	medium := terminaltest.NewFS()
	importInto(tb, lab, medium)
	return medium
}

func importInto(tb testing.TB, lab *terminaltest.Lab, medium terminal.FS) {
	tb.Helper()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(tb, err)
	check(tb, terminal.Import(medium, sealer, lab.Bundle(tb)))
}

func tryOpen(medium terminal.FS, link terminal.Exchanger) (*terminal.Terminal, error) {
	sealer, err := terminal.OpenInsecureFile(medium)
	if err != nil {
		return nil, err
	}
	return terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: link})
}

func open(tb testing.TB, medium terminal.FS, link terminal.Exchanger) *terminal.Terminal {
	tb.Helper()
	term, err := tryOpen(medium, link)
	check(tb, err)
	tb.Cleanup(func() { _ = term.Close() })
	return term
}

func sale(tb testing.TB, withPIN bool) terminal.SaleRequest {
	tb.Helper()
	r := terminal.SaleRequest{
		Amount: message.Amount{Minor: 1234, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		Track:  secret.From([]byte(track)),
	}
	if withPIN {
		p, err := pin.ParsePIN([]byte("1234"))
		check(tb, err)
		r.PIN = p
	}
	return r
}

func unanswered(tb testing.TB, err error) *terminal.UnansweredError {
	tb.Helper()
	u, ok := errors.AsType[*terminal.UnansweredError](err)
	if !ok {
		tb.Fatalf("error %v, want an UnansweredError", err)
	}
	return u
}

func TestSale(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes {
		t.Run(scheme.String(), func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, scheme)
			wire := &terminaltest.Wire{Host: lab.Host}
			term := open(t, imported(t, lab), wire)
			in, err := term.SignIn(t.Context())
			check(t, err)
			if in.Result != message.SignedIn {
				t.Errorf("sign-in: %v", in.Result)
			}
			for i := range 20 {
				r, err := term.Sale(t.Context(), sale(t, i%2 == 0))
				check(t, err)
				if !r.Approved() || string(r.Body) != "thank you" {
					t.Errorf("sale %d: %+v", i, r)
				}
			}
			entries := lab.Host.Entries()
			if len(entries) != 20 || lab.Host.Reused() != 0 {
				t.Fatalf("host has %d entries and %d reuses, want 20 and 0", len(entries), lab.Host.Reused())
			}
			for i, e := range entries {
				if e.Masked != "476173******0119" || e.WithPIN != (i%2 == 0) || e.Amount.String() != "12.34 EUR" {
					t.Errorf("entry %d: %+v", i, e)
				}
			}
			if n := len(term.Pending()) + len(term.Exceptions()); n != 0 {
				t.Errorf("%d messages are left", n)
			}
		})
	}
}

func TestSaleWithPANAlone(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	term := open(t, imported(t, lab), &terminaltest.Wire{Host: lab.Host})
	r := sale(t, true)
	pan, err := pin.ParsePAN("4111111111111111")
	check(t, err)
	r.PAN, r.Track = pan, secret.Bytes{}
	_, err = term.Sale(t.Context(), r)
	check(t, err)
	if got := lab.Host.Entries()[0].Masked; got != "411111******1111" {
		t.Errorf("host reads card %s", got)
	}
}

// TestSaleThroughFaults loses or spoils each of the first attempts: the same bytes come again until one answer is good,
// and the host books one sale.
func TestSaleThroughFaults(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]terminaltest.Fault{
		"request lost":  {terminaltest.RequestLost},
		"answer lost":   {terminaltest.AnswerLost},
		"garbage":       {terminaltest.AnswerGarbage},
		"forged":        {terminaltest.AnswerForged},
		"stale":         {terminaltest.AnswerStale},
		"all, in a row": {5, 1, 2, 3, 4, 4, 3, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, dukpt.AES)
			wire := &terminaltest.Wire{Host: lab.Host}
			term := open(t, imported(t, lab), wire)
			_, err := term.Sale(t.Context(), sale(t, false))
			check(t, err)
			wire.Sent = nil
			left := slices.Clone(faults)
			wire.Fault = func() terminaltest.Fault {
				if len(left) == 0 {
					return terminaltest.None
				}
				f := left[0]
				left = left[1:]
				return f
			}
			r, err := term.Sale(t.Context(), sale(t, true))
			check(t, err)
			if !r.Approved() || len(wire.Sent) != len(faults)+1 {
				t.Errorf("%v after %d attempts, want %d", r.Result, len(wire.Sent), len(faults)+1)
			}
			for _, raw := range wire.Sent {
				if !slices.Equal(raw, wire.Sent[0]) {
					t.Error("a live retry sent other bytes")
				}
			}
			if n := len(lab.Host.Entries()); n != 2 {
				t.Errorf("host has %d entries, want 2", n)
			}
		})
	}
}

// TestForgedAnswersChangeNothing lets no good answer through: the sale stays unanswered, the state as it was.
func TestForgedAnswersChangeNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range []terminaltest.Fault{terminaltest.AnswerGarbage, terminaltest.AnswerForged} {
		lab := terminaltest.NewLab(t, dukpt.AES)
		lab.Host.Floors = []message.SlotFloor{{Slot: terminaltest.DataSlot, KeyID: lab.KeyID(terminaltest.DataSlot), Floor: 900}}
		wire := &terminaltest.Wire{Host: lab.Host, Attempts: 3, Fault: func() terminaltest.Fault { return fault }}
		term := open(t, imported(t, lab), wire)
		_, err := term.Sale(t.Context(), sale(t, false))
		if u := unanswered(t, err); !errors.Is(u, terminal.ErrAck) {
			t.Errorf("fault %d: %v, want ErrAck", fault, err)
		}
		if next := term.Status().Slots[0].Next.Ordinal(); next != 2 {
			t.Errorf("fault %d: an unauthenticated floor moved the counter to %d", fault, next)
		}
		if _, err := term.SignIn(t.Context()); !errors.Is(err, terminal.ErrAck) {
			t.Errorf("fault %d: sign-in: %v, want ErrAck", fault, err)
		}
		if term.Status().Slots[1].Confirmed {
			t.Errorf("fault %d: a forged answer confirmed a key", fault)
		}
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes {
		for _, fault := range []terminaltest.Fault{terminaltest.RequestLost, terminaltest.AnswerLost} {
			lab := terminaltest.NewLab(t, scheme)
			wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
			medium := imported(t, lab)
			term := open(t, medium, wire)
			_, err := term.Sale(t.Context(), sale(t, false))
			u := unanswered(t, err)
			if u.Pending.Intent != terminal.IntentResend {
				t.Fatalf("intent %v", u.Pending.Intent)
			}
			original := wire.Sent[0]
			check(t, term.Close())
			term = open(t, medium, wire)
			wire.Fault = nil
			pending := term.Pending()
			if len(pending) != 1 || pending[0] != u.Pending {
				t.Fatalf("after a restart %+v, want %+v", pending, u.Pending)
			}
			r, err := term.Resend(t.Context(), &pending[0])
			check(t, err)
			if !r.Approved() || r.Sequence != u.Pending.Sequence {
				t.Errorf("resend: %+v", r)
			}
			m, err := message.Parse(wire.Sent[1])
			check(t, err)
			if m.Payload.Type != message.Resend || !slices.Equal(m.Payload.Inner, original) {
				t.Error("the resend does not carry the original bytes")
			}
			if n := len(lab.Host.Entries()); n != 1 {
				t.Errorf("host has %d entries, want 1", n)
			}
			if _, err := term.Resend(t.Context(), &pending[0]); err == nil {
				t.Error("a settled message is resent")
			}
		}
	}
}

// TestPINSaleIsReversed cuts the answer of a sale with a PIN: the PIN block is nowhere on the medium afterwards, and what
// follows is a reversal, the same one however often.
func TestPINSaleIsReversed(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	fault := terminaltest.AnswerLost
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	medium := imported(t, lab)
	term := open(t, medium, wire)
	_, err := term.Sale(t.Context(), sale(t, true))
	u := unanswered(t, err)
	if u.Pending.Intent != terminal.IntentReverse {
		t.Fatalf("intent %v, want reverse", u.Pending.Intent)
	}
	_, err = term.Resend(t.Context(), &u.Pending)
	unanswered(t, err)
	check(t, term.Close())
	term = open(t, medium, wire)
	fault = terminaltest.None
	pending := term.Pending()
	r, err := term.Resend(t.Context(), &pending[0])
	check(t, err)
	if r.Approved() || !r.Reversal || r.Result != message.Approved {
		t.Errorf("reversal: %+v", r)
	}
	entries := lab.Host.Entries()
	if len(entries) != 2 || entries[1].Type != message.Reversal || entries[1].Original.Digest != u.Pending.Digest {
		t.Fatalf("ledger %+v", entries)
	}
	if entries[1].Tries != 2 {
		t.Errorf("the reversal came %d times, want the same one twice", entries[1].Tries)
	}
	if n := len(term.Pending()); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestReverse(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	fault := terminaltest.RequestLost
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	medium := imported(t, lab)
	term := open(t, medium, wire)
	_, err := term.Sale(t.Context(), sale(t, false))
	u := unanswered(t, err)
	late := wire.Sent[0]
	check(t, term.Reverse(&u.Pending))
	check(t, term.Close())
	term = open(t, medium, wire)
	fault = terminaltest.None
	pending := term.Pending()
	if pending[0].Intent != terminal.IntentReverse {
		t.Fatalf("after a restart %+v", pending)
	}
	_, err = term.Resend(t.Context(), &pending[0])
	check(t, err)
	answer, err := lab.Host.Receive(late)
	check(t, err)
	if ack, err := message.ParseAck(answer); err != nil || ack.Payload.Result != message.Reversed {
		t.Errorf("the late original is answered with %+v, %v", ack, err)
	}
}

func TestResultsMoveMessages(t *testing.T) {
	t.Parallel()
	for result, want := range map[message.Result]struct{ pending, exceptions int }{
		message.Approved:        {0, 0},
		message.Declined:        {0, 0},
		message.PinBlockInvalid: {0, 0},
		message.Held:            {1, 0},
		message.Reversed:        {0, 1},
		message.KsnSpent:        {0, 1},
		message.KsnFenced:       {0, 1},
		message.KsnTooOld:       {0, 1},
	} {
		lab := terminaltest.NewLab(t, dukpt.AES)
		lab.Host.Decide = func(*message.Payload) message.Result { return result }
		medium := imported(t, lab)
		term := open(t, medium, &terminaltest.Wire{Host: lab.Host, Attempts: 1})
		r, err := term.Sale(t.Context(), sale(t, false))
		check(t, err)
		if r.Result != result || r.Approved() != (result == message.Approved) {
			t.Errorf("%v: %+v", result, r)
		}
		check(t, term.Close())
		term = open(t, medium, nil)
		if p, e := len(term.Pending()), len(term.Exceptions()); p != want.pending || e != want.exceptions {
			t.Errorf("%v: %d pending and %d exceptions, want %+v", result, p, e, want)
		}
		for _, e := range term.Exceptions() {
			if e.Result != result {
				t.Errorf("%v: exception %+v", result, e)
			}
			check(t, term.Dismiss(e.Sequence))
		}
		if len(term.Exceptions()) != 0 {
			t.Errorf("%v: a dismissed exception stays", result)
		}
		for _, p := range term.Pending() {
			if err := term.Dismiss(p.Sequence); err == nil {
				t.Errorf("%v: an unanswered message is dismissed", result)
			}
		}
	}
}

func TestFloors(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	id := lab.KeyID(terminaltest.PINSlot)
	medium := imported(t, lab)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host, Attempts: 1})
	floor := func(n uint32) []message.SlotFloor {
		return []message.SlotFloor{
			{Slot: terminaltest.DataSlot, KeyID: id, Floor: 7000}, // of another key: not for this slot
			{Slot: terminaltest.PINSlot, KeyID: id, Floor: n},
		}
	}
	next := func() (data, pin uint32) {
		s := term.Status().Slots
		return s[0].Next.Ordinal(), s[1].Next.Ordinal()
	}
	lab.Host.Floors = floor(500)
	_, err := term.Sale(t.Context(), sale(t, false))
	check(t, err)
	if d, p := next(); d != 2 || p != 501 {
		t.Errorf("next ordinals %d and %d, want 2 and 501", d, p)
	}
	lab.Host.Floors = floor(400)
	_, err = term.SignIn(t.Context())
	check(t, err)
	if _, p := next(); p != 502 { // the sign-in used one
		t.Errorf("a lower floor moved the slot to %d, want 502", p)
	}
	lab.Host.Floors = floor(502 + 10000)
	r, err := term.SignIn(t.Context())
	if !errors.Is(err, terminal.ErrJump) || r == nil || r.Result != message.SignedIn {
		t.Errorf("a floor too far ahead: %+v, %v, want a result and ErrJump", r, err)
	}
	if s := term.Status(); s.Slots[1].Next.Ordinal() != 502 || !errors.Is(s.Jump, terminal.ErrJump) {
		t.Errorf("after it %+v", s)
	}
	lab.Host.Floors = floor(300)
	_, err = term.Sale(t.Context(), sale(t, true))
	check(t, err)
	if term.Status().Jump != nil {
		t.Error("the refused jump is reported for ever")
	}
}

func TestSignInConfirms(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1}
	medium := imported(t, lab)
	var boots []uint64
	for i := range 2 {
		term := open(t, medium, wire)
		if got := term.Status().Slots[1].Confirmed; got != (i > 0) {
			t.Errorf("start %d: confirmed %v", i, got)
		}
		_, err := term.SignIn(t.Context())
		check(t, err)
		m, err := message.Parse(wire.Sent[i])
		check(t, err)
		if want := 1 - i; len(m.Payload.SlotMACs) != want {
			t.Errorf("sign-in %d proves %d further slots, want %d", i, len(m.Payload.SlotMACs), want)
		}
		boots = append(boots, m.Payload.BootCounter)
		check(t, term.Close())
	}
	if !slices.Equal(boots, []uint64{1, 2}) || lab.Host.SignIns() != 2 {
		t.Errorf("boot counters %v, %d sign-ins", boots, lab.Host.SignIns())
	}
}

func TestBadSales(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := open(t, imported(t, lab), wire)
	other, err := pin.ParsePAN("4111111111111111")
	check(t, err)
	for name, change := range map[string]func(*terminal.SaleRequest){
		"no card":       func(r *terminal.SaleRequest) { r.Track = secret.Bytes{} },
		"no PAN inside": func(r *terminal.SaleRequest) { r.Track = secret.From([]byte("hello")) },
		"another card":  func(r *terminal.SaleRequest) { r.PAN = other },
		"two PINs":      func(r *terminal.SaleRequest) { r.AskPIN = true },
		"negative":      func(r *terminal.SaleRequest) { r.Amount.Minor = -1 },
		"no currency":   func(r *terminal.SaleRequest) { r.Amount.Currency = message.Currency{} },
		"long body":     func(r *terminal.SaleRequest) { r.Body = make([]byte, message.MaxBody+1) },
		"long card": func(r *terminal.SaleRequest) {
			r.Track = secret.From(append(bytes.Clone(r.Track.Expose()), make([]byte, message.MaxCiphertext)...))
		},
	} {
		r := sale(t, true)
		change(&r)
		before := term.Status()
		if _, err := term.Sale(t.Context(), r); !errors.Is(err, terminal.ErrSale) {
			t.Errorf("%s: %v, want ErrSale", name, err)
		}
		if after := term.Status(); !reflect.DeepEqual(after, before) {
			t.Errorf("%s: %+v, was %+v: something was used", name, after, before)
		}
	}
	r := sale(t, false)
	r.AskPIN = true
	if _, err := term.Sale(t.Context(), r); !errors.Is(err, terminal.ErrNoKeypad) {
		t.Errorf("PIN without keypad: %v, want ErrNoKeypad", err)
	}
	if len(wire.Sent) != 0 || len(term.Pending()) != 0 {
		t.Error("a bad sale left something behind")
	}
	if _, err := term.Sale(t.Context(), sale(t, true)); err != nil {
		t.Errorf("a good sale after them: %v", err)
	}
}

func TestCancelledSale(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ctx, cancel := context.WithCancel(t.Context())
	wire := &terminaltest.Wire{Host: lab.Host, Fault: func() terminaltest.Fault {
		cancel()
		return terminaltest.RequestLost
	}}
	term := open(t, imported(t, lab), wire)
	_, err := term.Sale(ctx, sale(t, false))
	if unanswered(t, err); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled inside", err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	if _, err := tryOpen(medium, nil); !errors.Is(err, terminal.ErrLocked) {
		t.Errorf("a second terminal on the folder: %v, want ErrLocked", err)
	}
	check(t, term.Close())
	check(t, term.Close())
	if _, err := term.Sale(t.Context(), sale(t, false)); !errors.Is(err, terminal.ErrClosed) {
		t.Errorf("sale after Close: %v, want ErrClosed", err)
	}
	open(t, medium, nil)
}

// TestQueue leaves a sale unanswered and goes on selling: shortly before the host's window closes behind the oldest, that
// one has to be settled first.
func TestQueue(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes {
		lab := terminaltest.NewLab(t, scheme)
		lab.Sets[terminaltest.DataSlot].W = 128
		fault := terminaltest.AnswerLost
		wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
		medium := imported(t, lab)
		term := open(t, medium, wire)
		_, err := term.Sale(t.Context(), sale(t, false)) // ordinal 1
		oldest := unanswered(t, err).Pending
		fault = terminaltest.None
		for ordinal := 2; ordinal < 1+128-64; ordinal++ {
			_, err := term.Sale(t.Context(), sale(t, ordinal%2 == 0))
			check(t, err)
		}
		check(t, term.Close())
		sent := len(wire.Sent)
		term = open(t, medium, wire)
		if _, err := term.Sale(t.Context(), sale(t, false)); !errors.Is(err, terminal.ErrQueue) {
			t.Errorf("%v: %v, want ErrQueue", scheme, err)
		}
		if next := term.Status().Slots[0].Next.Ordinal(); next < 65 || len(wire.Sent) != sent || len(term.Pending()) != 1 {
			t.Errorf("%v: the refused sale sent %d messages, next ordinal %d", scheme, len(wire.Sent)-sent, next)
		}
		_, err = term.SignIn(t.Context())
		check(t, err)
		_, err = term.Resend(t.Context(), &oldest)
		check(t, err)
		_, err = term.Sale(t.Context(), sale(t, false))
		check(t, err)
	}
}

// TestQueueWithoutWindow sells on: a host that sets no floor refuses nothing as too old.
func TestQueueWithoutWindow(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	b := lab.Bundle(t)
	b.Slots[0].Window, b.Slots[0].MaxJump = 0, 0
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, b))
	fault := terminaltest.AnswerLost
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	term := open(t, medium, wire)
	_, err = term.Sale(t.Context(), sale(t, false))
	unanswered(t, err)
	fault = terminaltest.None
	for range 200 {
		_, err := term.Sale(t.Context(), sale(t, false))
		check(t, err)
	}
}
