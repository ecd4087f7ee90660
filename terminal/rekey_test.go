package terminal_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// keysOf lists the keys in use, by slot.
func keysOf(s terminal.Status) map[uint8]dukpt.KeyID {
	out := make(map[uint8]dukpt.KeyID)
	for _, slot := range s.Slots {
		out[slot.Number] = slot.Slot.KeyID
	}
	return out
}

// patient is a network whose pauses take no time.
var patient = terminal.LinkOptions{Backoff: 1}

func openPatient(tb testing.TB, medium terminal.FS, link terminal.Exchanger) *terminal.Terminal {
	tb.Helper()
	sealer, err := terminal.OpenInsecureFile(medium)
	check(tb, err)
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: link, Network: patient})
	check(tb, err)
	tb.Cleanup(func() { _ = term.Close() })
	return term
}

// TestRekey gives the slots new keys, each alone and both at once. Sales without an answer are settled under the new key,
// byte for byte as they were.
func TestRekey(t *testing.T) {
	t.Parallel()
	for name, slots := range map[string][]uint8{
		"data": {terminaltest.DataSlot}, "PIN": {terminaltest.PINSlot}, "both": {terminaltest.DataSlot, terminaltest.PINSlot},
	} {
		for _, scheme := range schemes {
			t.Run(name+" "+scheme.String(), func(t *testing.T) {
				t.Parallel()
				lab := terminaltest.NewLab(t, scheme)
				ra := terminaltest.NewRA(t, lab)
				medium := enrolled(t, lab, ra)
				fault := terminaltest.None
				wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
				term := openPatient(t, medium, wire)
				before := keysOf(term.Status())
				sell(t, lab, term)
				originals := strand(t, term, wire, &fault)
				registers := medium.Content()
				for _, slot := range slots {
					ra.Order(slot)
				}
				check(t, term.Rekey(t.Context()))
				s := term.Status()
				for slot, id := range keysOf(s) {
					changed := slices.Contains(slots, slot)
					if (id != before[slot]) != changed || id != lab.Host.Active(slot) {
						t.Errorf("slot %d has %v, had %v, the host has %v", slot, id, before[slot], lab.Host.Active(slot))
					}
				}
				if len(s.Waiting) != 0 || s.Pending != 2 {
					t.Errorf("status %+v", s)
				}
				for _, slot := range s.Slots {
					if !slot.Confirmed {
						t.Errorf("slot %d is not confirmed", slot.Number)
					}
				}
				sell(t, lab, term)
				settleAll(t, term, wire, originals)
				check(t, term.Close())
				term = openPatient(t, medium, wire)
				sell(t, lab, term)
				files := slices.Sorted(maps.Keys(medium.Content()))
				if want := []string{"counters", "device.key", "identity", "slot-1", "slot-2"}; !slices.Equal(files, want) {
					t.Errorf("files %q, want %q", files, want)
				}
				for _, slot := range slots {
					if name := []string{"", "slot-1", "slot-2"}[slot]; bytes.Equal(registers[name], medium.Content()[name]) {
						t.Errorf("%s is as it was", name)
					}
				}
				check(t, term.Rekey(t.Context())) // nothing is wanted
			})
		}
	}
}

// strand makes two sales of which the host has one, and neither is answered. It returns them.
func strand(t *testing.T, term *terminal.Terminal, wire *terminaltest.Wire, fault *terminaltest.Fault) [][]byte {
	t.Helper()
	var out [][]byte
	for _, f := range []terminaltest.Fault{terminaltest.RequestLost, terminaltest.AnswerLost} {
		*fault = f
		_, err := term.Sale(t.Context(), sale(t, false))
		unanswered(t, err)
		out = append(out, wire.Sent[len(wire.Sent)-1])
	}
	*fault = terminaltest.None
	return out
}

// settleAll resends what is left and demands that the originals travel as they were.
func settleAll(t *testing.T, term *terminal.Terminal, wire *terminaltest.Wire, originals [][]byte) {
	t.Helper()
	for i, p := range term.Pending() {
		r, err := term.Resend(t.Context(), &p)
		check(t, err)
		if !r.Approved() {
			t.Errorf("resend: %+v", r)
		}
		m, err := message.Parse(wire.Sent[len(wire.Sent)-1])
		check(t, err)
		if !bytes.Equal(m.Payload.Inner, originals[i]) {
			t.Error("the original has changed")
		}
		if m.Payload.MAC.KSN.KeyID() != keysOf(term.Status())[terminaltest.DataSlot] {
			t.Errorf("a resend under %v", m.Payload.MAC.KSN)
		}
	}
	if n := len(term.Pending()) + len(term.Exceptions()); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// TestRekeyWaits leaves a key waiting when the host cannot be reached, sells on with the old one, and has the next sign-in
// confirm it. No second key is fetched.
func TestRekeyWaits(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	fault := terminaltest.RequestLost
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	term := openPatient(t, medium, wire)
	before := keysOf(term.Status())
	ra.Order(terminaltest.DataSlot)
	for range 3 {
		if err := term.Rekey(t.Context()); !errors.Is(err, terminaltest.ErrLost) {
			t.Fatalf("a host that cannot be reached: %v, want ErrLost", err)
		}
	}
	if n := ra.Delivered(terminaltest.DataSlot); n != 2 {
		t.Errorf("%d keys were delivered, want 2", n)
	}
	fault = terminaltest.None
	sell(t, lab, term)
	check(t, term.Close())
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	s, err := terminal.Inspect(terminal.Options{FS: medium, Sealer: sealer})
	check(t, err)
	if !maps.Equal(keysOf(s), before) || len(s.Waiting) != 1 || s.Waiting[0].Number != terminaltest.DataSlot ||
		s.Waiting[0].SlotStatus.Slot != terminaltest.DataSlot || s.Waiting[0].Confirmed {
		t.Fatalf("status %+v", s)
	}
	waiting := s.Waiting[0].Slot.KeyID
	term = openPatient(t, medium, wire)
	sell(t, lab, term)
	r, err := term.SignIn(t.Context())
	check(t, err)
	if r.Result != message.SignedIn || keysOf(term.Status())[terminaltest.DataSlot] != waiting {
		t.Errorf("%v, keys %v, want %v in use", r.Result, keysOf(term.Status()), waiting)
	}
	sell(t, lab, term)
}

// TestRekeyRefused has the host not take the new key: the old one goes on, sign-ins too, and the next Rekey fetches another.
func TestRekeyRefused(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := openPatient(t, medium, wire)
	before := keysOf(term.Status())
	ra.Order(terminaltest.DataSlot)
	lab.Host.Deaf(true)
	err := term.Rekey(t.Context())
	if _, ok := errors.AsType[*terminal.HostError](err); !ok || !errors.Is(err, terminal.ErrUnconfirmed) {
		t.Fatalf("a host that knows no such key: %v, want ErrUnconfirmed", err)
	}
	if !maps.Equal(keysOf(term.Status()), before) {
		t.Error("a key that the host refuses is in use")
	}
	sell(t, lab, term)
	r, err := term.SignIn(t.Context())
	check(t, err)
	if r.Result != message.SignedIn || !maps.Equal(keysOf(term.Status()), before) {
		t.Errorf("%v, want a sign-in under the old keys", r.Result)
	}
	lab.Host.Deaf(false)
	check(t, term.Rekey(t.Context()))
	if id := keysOf(term.Status())[terminaltest.DataSlot]; id != lab.NewKeyID(t, terminaltest.DataSlot, 3) {
		t.Errorf("key %v is in use, want the third", id)
	}
	sell(t, lab, term)
}

// TestRekeyHears waits for a host that hears of the key later than the terminal.
func TestRekeyHears(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	ra.Order(terminaltest.PINSlot)
	lab.Host.Deaf(true)
	tries := 0
	wire := &terminaltest.Wire{Host: lab.Host, Before: func() {
		if tries++; tries == 3 {
			lab.Host.Deaf(false)
			lab.Host.Expect(terminaltest.PINSlot, lab.NewKeyID(t, terminaltest.PINSlot, 2))
		}
	}}
	term := openPatient(t, medium, wire)
	check(t, term.Rekey(t.Context()))
	if tries != 3 || ra.Delivered(terminaltest.PINSlot) != 2 {
		t.Errorf("%d sign-ins, %d keys", tries, ra.Delivered(terminaltest.PINSlot))
	}
	sell(t, lab, term)
}

// TestRekeyRefusesDelivery changes deliveries: no file changes.
func TestRekeyRefusesDelivery(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := openPatient(t, medium, wire)
	ra.Order(terminaltest.DataSlot)
	before := medium.Content()
	size := 0
	ra.Spoil = func(b []byte) []byte { size = len(b); return nil }
	if err := term.Rekey(t.Context()); !errors.Is(err, enroll.ErrAnswer) {
		t.Fatalf("no delivery: %v, want ErrAnswer", err)
	}
	for at := 0; at < size; at += 1 + size/40 {
		ra.Spoil = func(b []byte) []byte {
			if at < len(b) {
				b[at] ^= 1
			}
			return b
		}
		err := term.Rekey(t.Context())
		if !errors.Is(err, remote.ErrDelivery) && !errors.Is(err, enroll.ErrAnswer) {
			t.Fatalf("a delivery with byte %d changed: %v, want it refused", at, err)
		}
		same(t, before, medium)
	}
	ra.Spoil = nil
	ra.Assign = func(a *remote.Assignment) { a.Environment = keyset.Production }
	if err := term.Rekey(t.Context()); !errors.Is(err, terminal.ErrAssignment) {
		t.Errorf("another environment: %v, want ErrAssignment", err)
	}
	ra.Assign = func(a *remote.Assignment) { a.Slots[0].KeyID = lab.NewKeyID(t, terminaltest.DataSlot, 200) }
	if err := term.Rekey(t.Context()); !errors.Is(err, terminal.ErrAssignment) {
		t.Errorf("an authority that takes another key for the one in use: %v, want ErrAssignment", err)
	}
	same(t, before, medium)
	ra.Assign = nil
	check(t, term.Rekey(t.Context()))
	sell(t, lab, term)
}

// TestRekeyFinishesRenewal has the authority take another certificate for the current one than the terminal shows.
func TestRekeyFinishesRenewal(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := openPatient(t, medium, &terminaltest.Wire{Host: lab.Host})
	ra.After = func(path string) error {
		if path == terminaltest.PathReenroll {
			return terminaltest.ErrLost
		}
		return nil
	}
	if err := term.Renew(t.Context()); err == nil {
		t.Fatal("a lost answer is no error")
	}
	ra.After = nil
	ra.Order(terminaltest.DataSlot)
	check(t, term.Rekey(t.Context()))
	if s := term.Status(); s.Serial != ra.Serial() || term.RenewDue(time.Now()) {
		t.Errorf("serial %s, want %s", s.Serial, ra.Serial())
	}
	sell(t, lab, term)
}

// TestRekeyBeforeSignIn orders a key when the first one is not confirmed: that comes first.
func TestRekeyBeforeSignIn(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	check(t, enrolInto(t.Context(), medium, options(t, ra)))
	term := openPatient(t, medium, &terminaltest.Wire{Host: lab.Host})
	check(t, term.Rekey(t.Context()))
	for _, slot := range []uint8{terminaltest.DataSlot, terminaltest.PINSlot} {
		if n := ra.Delivered(slot); n != 1 || lab.Host.Active(slot) != keysOf(term.Status())[slot] {
			t.Errorf("slot %d: %d keys, the host has %v", slot, n, lab.Host.Active(slot))
		}
	}
	sell(t, lab, term)
}

// TestRekeyAgreement has the agreement key certified again when half of the certificate's life is over. An authority that
// has done so before its answer was lost goes by a certificate that the terminal does not have.
func TestRekeyAgreement(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	network := patient
	network.Clock = func() time.Time { return time.Now().Add(8 * time.Hour) }
	term, err := terminal.Open(terminal.Options{
		FS: medium, Sealer: sealer, Link: &terminaltest.Wire{Host: lab.Host}, Network: network,
	})
	check(t, err)
	defer term.Close()
	ra.Order(terminaltest.DataSlot)
	asked := 0
	ra.After = func(path string) error {
		if path == terminaltest.PathEnrollAgreement {
			if asked++; asked == 1 {
				return terminaltest.ErrLost
			}
		}
		return nil
	}
	if err := term.Rekey(t.Context()); err == nil {
		t.Fatal("a lost answer is no error")
	}
	check(t, term.Rekey(t.Context()))
	if asked != 2 {
		t.Errorf("asked %d times for a certificate, want 2", asked)
	}
	sell(t, lab, term)
}

// TestRekeyMany gives a slot more keys than the counters could name.
func TestRekeyMany(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	wire := &terminaltest.Wire{Host: lab.Host}
	term := openPatient(t, medium, wire)
	size := len(medium.Content()["counters"])
	for range 20 {
		ra.Order(terminaltest.DataSlot)
		check(t, term.Rekey(t.Context()))
	}
	if n := len(medium.Content()["counters"]); n > size+8 {
		t.Errorf("the counters have grown from %d to %d bytes", size, n)
	}
	check(t, term.Close())
	sell(t, lab, openPatient(t, medium, wire))
}

// TestRekeyZeroize destroys a key that waits with the others.
func TestRekeyZeroize(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := openPatient(t, medium, &terminaltest.Wire{
		Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return terminaltest.RequestLost },
	})
	ra.Order(terminaltest.DataSlot)
	if err := term.Rekey(t.Context()); err == nil {
		t.Fatal("the host has heard of it")
	}
	if _, ok := medium.Content()["slot-1-next"]; !ok {
		t.Fatal("no key waits")
	}
	check(t, term.Zeroize())
	left := slices.Sorted(maps.Keys(medium.Content()))
	if want := []string{"counters", "device.key"}; !slices.Equal(left, want) {
		t.Errorf("files %q are left, want %q", left, want)
	}
}

// TestRekeyPowerCuts cuts the power at every write of a rekey. The terminal that comes back works, with what it had not
// settled, and the rekey comes to its end; no key serves twice.
func TestRekeyPowerCuts(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]bool{"first": false, "another waits": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cuts := 0
			for ; rekeyCut(t, cuts, waits); cuts++ {
			}
			t.Logf("%d power cuts", cuts)
			if cuts < 40 {
				t.Errorf("only %d power cuts", cuts)
			}
		})
	}
}

// rekeyCut cuts the power at a write, and reports whether there was one. A key that the host does not take waits already, or
// none.
func rekeyCut(t *testing.T, at int, waits bool) bool {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(at), 5))
	lab := terminaltest.NewLab(t, schemes[at%2])
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	fault := terminaltest.None
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	term := openPatient(t, medium, wire)
	before := keysOf(term.Status())
	originals := strand(t, term, wire, &fault)
	ra.Order(terminaltest.DataSlot)
	ra.Order(terminaltest.PINSlot)
	if waits {
		lab.Host.Deaf(true)
		if err := term.Rekey(t.Context()); !errors.Is(err, terminal.ErrUnconfirmed) {
			t.Fatalf("%v, want ErrUnconfirmed", err)
		}
		lab.Host.Deaf(false)
	}
	medium.CutAfter(at)
	err := term.Rekey(t.Context())
	if err == nil {
		return false
	}
	if !errors.Is(err, terminaltest.ErrPower) {
		t.Fatalf("cut at write %d: %v", at, err)
	}
	medium = medium.Reboot(r)
	term = openPatient(t, medium, wire)
	if at%3 == 0 { // it may as well go on at once
		in, err := term.SignIn(t.Context())
		check(t, err)
		if in.Result != message.SignedIn {
			t.Fatalf("cut at write %d: sign-in %v", at, in.Result)
		}
		sell(t, lab, term)
	}
	check(t, term.Rekey(t.Context()))
	for slot, id := range keysOf(term.Status()) {
		if id == before[slot] || id != lab.Host.Active(slot) {
			t.Fatalf("cut at write %d: slot %d has %v, the host %v", at, slot, id, lab.Host.Active(slot))
		}
	}
	sell(t, lab, term)
	settleAll(t, term, wire, originals)
	check(t, term.Close())
	term = openPatient(t, medium, wire)
	sell(t, lab, term)
	if s := term.Status(); len(s.Waiting) != 0 || len(s.Slots) != 2 {
		t.Fatalf("cut at write %d: %+v", at, s)
	}
	return true
}

// TestRekeyQueue sells on while a sale under the old key has no answer, however far the new key has gone: no window closes
// over the old one any more.
func TestRekeyQueue(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	fault := terminaltest.None
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	term := openPatient(t, medium, wire)
	originals := strand(t, term, wire, &fault)
	ra.Order(terminaltest.DataSlot)
	lab.Host.Floors = []message.SlotFloor{{
		Slot: terminaltest.DataSlot, KeyID: lab.NewKeyID(t, terminaltest.DataSlot, 2), Floor: 8000,
	}}
	check(t, term.Rekey(t.Context()))
	r, err := term.Sale(t.Context(), sale(t, false))
	check(t, err)
	if r.KSN.Ordinal() <= 8000 {
		t.Errorf("a sale at ordinal %d, below the floor", r.KSN.Ordinal())
	}
	settleAll(t, term, wire, originals)
}

// jammed is a medium on which the file of a key that waits cannot be renamed.
type jammed struct {
	*terminaltest.FS
	broken bool
}

var errJammed = errors.New("jammed")

func (f *jammed) Rename(from, to string) error {
	if f.broken && from == "slot-1-next" {
		return errJammed
	}
	return f.FS.Rename(from, to)
}

// TestRekeyJammed works on with a key in use that cannot be put into its slot, and lets no other key take its place.
func TestRekeyJammed(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := &jammed{FS: enrolled(t, lab, ra), broken: true}
	wire := &terminaltest.Wire{Host: lab.Host}
	term := openPatient(t, medium, wire)
	ra.Order(terminaltest.DataSlot)
	if err := term.Rekey(t.Context()); !errors.Is(err, errJammed) {
		t.Fatalf("%v, want the error of the medium", err)
	}
	second := lab.NewKeyID(t, terminaltest.DataSlot, 2)
	for range 2 {
		if id := keysOf(term.Status())[terminaltest.DataSlot]; id != second || lab.Host.Active(terminaltest.DataSlot) != id {
			t.Errorf("key %v is in use, want %v", id, second)
		}
		sell(t, lab, term)
		ra.Order(terminaltest.DataSlot)
		if err := term.Rekey(t.Context()); !errors.Is(err, errJammed) {
			t.Fatalf("%v, want the error of the medium", err)
		}
	}
	sell(t, lab, term)
	medium.broken = false
	check(t, term.Rekey(t.Context()))
	sell(t, lab, term)
	check(t, term.Close())
	term = openPatient(t, medium, wire)
	if id := keysOf(term.Status())[terminaltest.DataSlot]; id == second {
		t.Error("no other key has come")
	}
	sell(t, lab, term)
}
