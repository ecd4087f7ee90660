package terminal_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"errors"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// options are those that an operator would give.
func options(tb testing.TB, ra *terminaltest.RA) terminal.EnrolOptions {
	tb.Helper()
	return terminal.EnrolOptions{
		URL: ra.URL, TrustURL: ra.TrustURL, Tenant: terminaltest.Tenant, Terminal: terminaltest.TerminalID, Ticket: ra.Ticket(tb),
	}
}

func enrolInto(ctx context.Context, medium terminal.FS, o terminal.EnrolOptions) error {
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		return err
	}
	return terminal.Enroll(ctx, medium, sealer, o)
}

// enrolled returns a medium with the lab's terminal on it, enrolled and confirmed.
func enrolled(tb testing.TB, lab *terminaltest.Lab, ra *terminaltest.RA) *terminaltest.FS {
	tb.Helper()
	medium := terminaltest.NewFS()
	check(tb, enrolInto(tb.Context(), medium, options(tb, ra)))
	term := open(tb, medium, &terminaltest.Wire{Host: lab.Host})
	r, err := term.SignIn(tb.Context())
	check(tb, err)
	if r.Result != message.SignedIn {
		tb.Fatalf("sign-in: %v", r.Result)
	}
	check(tb, term.Close())
	return medium
}

// sell makes sales and demands that the host approves them and no key serves twice.
func sell(tb testing.TB, lab *terminaltest.Lab, term *terminal.Terminal) {
	tb.Helper()
	for _, withPIN := range []bool{false, true, true} {
		r, err := term.Sale(tb.Context(), sale(tb, withPIN))
		check(tb, err)
		if !r.Approved() {
			tb.Fatalf("sale: %+v", r)
		}
	}
	if lab.Host.Reused() != 0 {
		tb.Fatalf("%d keys served twice", lab.Host.Reused())
	}
}

func TestEnroll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cipher keys.Algorithm
		curve  elliptic.Curve
	}{
		{keys.TDES2, nil},
		{keys.AES128, elliptic.P256()},
		{keys.AES192, elliptic.P384()},
		{keys.AES256, elliptic.P521()},
	} {
		t.Run(c.cipher.String(), func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLabOf(t, c.cipher)
			ra := terminaltest.NewRA(t, lab)
			medium := terminaltest.NewFS()
			o := options(t, ra)
			o.Curve = c.curve
			var steps []string
			o.Progress = func(step string) { steps = append(steps, step) }
			check(t, enrolInto(t.Context(), medium, o))
			if !o.Ticket.Code.IsZero() {
				t.Error("the ticket is not wiped")
			}
			if len(steps) != 4 {
				t.Errorf("steps %q", steps)
			}
			want := []string{"counters", "device.key", "identity", "slot-1", "slot-2"}
			if got := slices.Sorted(maps.Keys(medium.Content())); !slices.Equal(got, want) {
				t.Errorf("files %q, want %q", got, want)
			}
			term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
			if lab.Host.Active(terminaltest.DataSlot) != (dukpt.KeyID{}) {
				t.Fatal("the host has confirmed a key before the sign-in")
			}
			r, err := term.SignIn(t.Context())
			check(t, err)
			if r.Result != message.SignedIn {
				t.Errorf("sign-in: %v", r.Result)
			}
			sell(t, lab, term)
			s := term.Status()
			if s.Serial != ra.Serial() || s.TrustList != 1 || s.RenewAfter.IsZero() || s.Environment != keyset.Test || len(s.Slots) != 2 {
				t.Errorf("status %+v", s)
			}
			for _, slot := range s.Slots {
				if !slot.Confirmed || lab.Host.Active(slot.Number) != slot.Slot.KeyID {
					t.Errorf("slot %+v is not the one that the host knows", slot)
				}
			}
		})
	}
}

// TestEnrollTakesOne shows that a folder with anything in it takes no enrolment, and one that enrols takes no bundle.
// TestEnrollEngine has the initial keys go to an engine on a medium of its own, also when the first answer of each kind, and one between
// two keys, is lost.
func TestEnrollEngine(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	asked := make(map[string]int) // one request at a time
	ra.After = func(path string) error {
		if asked[path]++; asked[path] == 1 || path == terminaltest.PathKeys && asked[path] == 3 {
			return terminaltest.ErrLost
		}
		return nil
	}
	device, medium := terminaltest.NewFS(), terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(device)
	check(t, err)
	engine := func(slots ...terminal.Slot) terminal.Engine {
		e, err := terminal.OpenSoftwareEngine(device, sealer, slots, 0)
		check(t, err)
		return e
	}
	o := options(t, ra)
	for tries := 0; ; tries++ {
		o.Engine = engine() // started anew each time
		if err = enrolInto(t.Context(), medium, o); err == nil {
			break
		}
		if tries == 20 {
			t.Fatal(err)
		}
		o.Ticket = enroll.Ticket{}
	}
	for name := range medium.Content() {
		if strings.HasPrefix(name, "slot-") {
			t.Errorf("the terminal keeps %s", name)
		}
	}
	own, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: own, Engine: engine(), Link: &terminaltest.Wire{Host: lab.Host}})
	check(t, err)
	_, err = term.SignIn(t.Context())
	check(t, err)
	sell(t, lab, term)
	check(t, term.Close())
}

func TestEnrollTakesOne(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	bundled := imported(t, lab)
	ra := terminaltest.NewRA(t, lab)
	begun := terminaltest.NewFS()
	ra.Refuse = func(path string) *enroll.Refusal {
		if path != terminaltest.PathEnroll {
			return nil
		}
		return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later", RetryAfter: 7 * time.Second}
	}
	err := enrolInto(t.Context(), begun, options(t, ra))
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.RetryAfter != 7*time.Second || r.Code != "Busy" {
		t.Errorf("a busy authority: %v, want its refusal", err)
	}
	if _, err := tryOpen(begun, nil); !errors.Is(err, terminal.ErrNoTerminal) {
		t.Errorf("Open of a terminal in the making: %v, want ErrNoTerminal", err)
	}
	ra.Refuse = nil
	whole := enrolled(t, lab, ra)
	for name, medium := range map[string]*terminaltest.FS{"a bundle": bundled, "an enrolled one": whole} {
		before := medium.Content()
		if err := enrolInto(t.Context(), medium, options(t, ra)); !errors.Is(err, terminal.ErrExists) {
			t.Errorf("over %s: %v, want ErrExists", name, err)
		}
		same(t, before, medium)
	}
	for name, medium := range map[string]*terminaltest.FS{"one in the making": begun, "an enrolled one": whole} {
		sealer, err := terminal.OpenInsecureFile(medium)
		check(t, err)
		if err := terminal.Import(medium, sealer, lab.Bundle(t)); !errors.Is(err, terminal.ErrExists) {
			t.Errorf("import over %s: %v, want ErrExists", name, err)
		}
	}
}

// same demands that no file has changed.
func same(tb testing.TB, before map[string][]byte, medium *terminaltest.FS) {
	tb.Helper()
	after := medium.Content()
	if !maps.EqualFunc(before, after, slices.Equal) {
		tb.Fatalf("files %q became %q, or their content changed", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

// TestEnrollGoesOn interrupts an enrolment at every request, before and after the authority has acted on it, and repeats it
// without the ticket.
func TestEnrollGoesOn(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		terminaltest.PathTrustList, terminaltest.PathEnroll, terminaltest.PathEnrollAgreement, terminaltest.PathAssignment,
		terminaltest.PathKeys,
	} {
		for _, lost := range []string{"request", "answer"} {
			t.Run(strings.TrimPrefix(path, "/")+" "+lost, func(t *testing.T) {
				t.Parallel()
				lab := terminaltest.NewLab(t, dukpt.TDES)
				ra := terminaltest.NewRA(t, lab)
				fails := true
				fail := func(at string) error {
					if at == path && fails {
						return terminaltest.ErrLost
					}
					return nil
				}
				if lost == "request" {
					ra.Before = fail
				} else {
					ra.After = fail
				}
				medium := terminaltest.NewFS()
				if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
					t.Fatal("an authority that does not answer is no error")
				}
				fails = false
				o := options(t, ra)
				o.Ticket = enroll.Ticket{}
				check(t, enrolInto(t.Context(), medium, o))
				if ra.Second() != 0 {
					t.Error("a second key came with the code")
				}
				term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
				_, err := term.SignIn(t.Context())
				check(t, err)
				sell(t, lab, term)
			})
		}
	}
}

// TestEnrollKeeps looks into the file of an enrolment at each request: the keys are there before anybody hears of them, and
// the code as long as it is needed.
func TestEnrollKeeps(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	seen := make(map[string]bool)
	ra.Before = func(path string) error {
		code, tls, agreement, err := terminal.Enrolment(medium, sealer)
		needed := path != terminaltest.PathKeys
		if err != nil || (code == terminaltest.Code) != needed || (code == "") == needed {
			t.Errorf("at %s: a code of %d characters is kept, %v", path, len(code), err)
		}
		seen[tls+agreement] = true
		return nil
	}
	check(t, terminal.Enroll(t.Context(), medium, sealer, options(t, ra)))
	if len(seen) != 1 {
		t.Errorf("%d pairs of keys are kept, one after the other", len(seen))
	}
}

// TestEnrollMistyped gives a wrong pin, a wrong code and a wrong name first.
func TestEnrollMistyped(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	wrong := options(t, ra)
	wrong.Ticket.Code.Expose()[3] ^= 1
	err := enrolInto(t.Context(), medium, wrong)
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.Status != 401 {
		t.Errorf("a wrong code: %v", err)
	}
	wrong = options(t, ra)
	wrong.Terminal = "T-9"
	err = enrolInto(t.Context(), medium, wrong)
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.Status != 401 {
		t.Errorf("a wrong name: %v", err)
	}
	wrong.Ticket = enroll.Ticket{}
	wrong.Terminal = terminaltest.TerminalID
	if err := enrolInto(t.Context(), medium, wrong); !errors.Is(err, terminal.ErrTicket) {
		t.Errorf("another name without a ticket: %v, want ErrTicket", err)
	}
	if err := enrolInto(t.Context(), terminaltest.NewFS(), wrong); !errors.Is(err, terminal.ErrTicket) {
		t.Errorf("no ticket in an empty folder: %v, want ErrTicket", err)
	}
	wrong = options(t, ra)
	wrong.Ticket.Pin, err = trustlist.ParsePin("00000000000000000000000000")
	check(t, err)
	if err := enrolInto(t.Context(), medium, wrong); !errors.Is(err, trustlist.ErrTrust) {
		t.Errorf("a wrong pin: %v, want ErrTrust", err)
	}
	check(t, enrolInto(t.Context(), medium, options(t, ra)))
	if ra.Second() != 0 {
		t.Error("a second key came with the code")
	}
}

// TestEnrollCurve goes on with another curve when the first does not fit the key sets. The code permits one agreement key,
// so that takes another code.
func TestEnrollCurve(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLabOf(t, keys.AES256)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	o := options(t, ra)
	for _, want := range []string{"SuiteMismatch", "AgreementNotPermitted"} {
		err := enrolInto(t.Context(), medium, o)
		if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.Code != want {
			t.Fatalf("AES-256 by %v: %v, want %s", o.Curve, err, want)
		}
		o.Ticket, o.Curve = enroll.Ticket{}, elliptic.P521()
	}
	ra.NewCode()
	o.Ticket = ra.Ticket(t)
	check(t, enrolInto(t.Context(), medium, o))
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	_, err := term.SignIn(t.Context())
	check(t, err)
	sell(t, lab, term)
}

// TestEnrollAttested brings an agreement key that a maker has certified, at the first delivery and at later ones.
func TestEnrollAttested(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	maker, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
	check(t, err)
	o := options(t, ra)
	o.Agreement, o.Attestation = secret.From(der), [][]byte{maker}
	medium := terminaltest.NewFS()
	check(t, enrolInto(t.Context(), medium, o))
	if !ra.Attested() || o.Agreement.IsZero() {
		t.Errorf("attested: %v, the caller's key is wiped: %v", ra.Attested(), o.Agreement.IsZero())
	}
	term := openPatient(t, medium, &terminaltest.Wire{Host: lab.Host})
	_, err = term.SignIn(t.Context())
	check(t, err)
	ra.Order(terminaltest.DataSlot)
	check(t, term.Rekey(t.Context()))
	if !ra.Attested() {
		t.Error("the second delivery is not attested")
	}
	o.Agreement = secret.From(der[1:])
	o.Ticket = ra.Ticket(t)
	if err := enrolInto(t.Context(), terminaltest.NewFS(), o); err == nil {
		t.Error("bytes that are no key are taken for one")
	}
}

// TestEnrollNewCode begins anew with another code, for the same keys. Before that code has proved good nothing is given up.
func TestEnrollNewCode(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	deliveries := 0
	ra.Before = func(path string) error {
		if path == terminaltest.PathKeys {
			if deliveries++; deliveries == 2 {
				return terminaltest.ErrLost
			}
		}
		return nil
	}
	if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
		t.Fatal("a lost answer is no error")
	}
	first := ra.Serial()
	before := medium.Content()
	wrong := options(t, ra)
	wrong.Ticket.Code.Expose()[0] = 'Z'
	err := enrolInto(t.Context(), medium, wrong)
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.Status != 401 {
		t.Fatalf("a wrong code: %v", err)
	}
	same(t, before, medium)
	ra.NewCode()
	fresh := medium.Clone()
	check(t, terminal.WriteFile(fresh, "slot-9", before["slot-1"])) // of a slot that is not assigned any more
	check(t, enrolInto(t.Context(), fresh, options(t, ra)))
	if _, left := fresh.Content()["slot-9"]; left {
		t.Error("slot-9 is still there")
	}
	if ra.Serial() == first || ra.Delivered(terminaltest.DataSlot) != 2 || ra.Second() != 0 {
		t.Errorf("serial %s after %s, %d keys for the first slot", ra.Serial(), first, ra.Delivered(terminaltest.DataSlot))
	}
}

// TestEnrollLate comes back when the certificate from before is over.
func TestEnrollLate(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	ra.Refuse = func(path string) *enroll.Refusal {
		if path == terminaltest.PathEnrollAgreement {
			return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later"}
		}
		return nil
	}
	if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
		t.Fatal("a busy authority is no error")
	}
	ra.Refuse = nil
	o := options(t, ra)
	o.Ticket, o.Clock = enroll.Ticket{}, func() time.Time { return time.Now().Add(11 * time.Hour) } // the others live longer
	if err := enrolInto(t.Context(), medium, o); !errors.Is(err, terminal.ErrTicket) {
		t.Errorf("%v, want ErrTicket", err)
	}
}

// TestEnrollClock enrols by a clock that has stopped in 1970: it is set by the trust list.
func TestEnrollClock(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	o := options(t, ra)
	o.Clock = func() time.Time { return time.Unix(1000, 0) }
	check(t, enrolInto(t.Context(), terminaltest.NewFS(), o))
}

// TestEnrollPowerCuts cuts the power at every write of an enrolment and repeats it: each time a terminal comes of it, and
// one key only is shown with the code.
func TestEnrollPowerCuts(t *testing.T) {
	t.Parallel()
	cuts := 0
	for at := 0; ; at++ {
		r := rand.New(rand.NewPCG(uint64(at), 3))
		lab := terminaltest.NewLab(t, schemes[at%2])
		ra := terminaltest.NewRA(t, lab)
		medium := terminaltest.NewFS()
		medium.CutAfter(at)
		err := enrolInto(t.Context(), medium, options(t, ra))
		if err == nil {
			break
		}
		if !errors.Is(err, terminaltest.ErrPower) {
			t.Fatalf("cut at write %d: %v", at, err)
		}
		cuts++
		medium = medium.Reboot(r)
		o := options(t, ra)
		if r.IntN(2) == 0 {
			o.Ticket = enroll.Ticket{}
		}
		err = enrolInto(t.Context(), medium, o)
		if errors.Is(err, terminal.ErrTicket) {
			err = enrolInto(t.Context(), medium, options(t, ra)) // the ticket was not kept yet
		}
		check(t, err)
		if ra.Second() != 0 {
			t.Fatalf("cut at write %d: a second key came with the code", at)
		}
		term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
		_, err = term.SignIn(t.Context())
		check(t, err)
		sell(t, lab, term)
		if _, err := medium.Open("enrolment"); err == nil {
			t.Fatalf("cut at write %d: the enrolment is still there", at)
		}
	}
	t.Logf("%d power cuts", cuts)
	if cuts < 30 {
		t.Errorf("only %d power cuts", cuts)
	}
}
