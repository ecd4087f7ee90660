package terminal_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// TestEnrollRefusesTrust has the trust list come from a stranger, come altered, or go back.
func TestEnrollRefusesTrust(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	stranger := terminaltest.NewRA(t, terminaltest.NewLab(t, dukpt.AES))
	ra := terminaltest.NewRA(t, lab)
	asked := 0
	ra.Before = func(path string) error {
		if path != terminaltest.PathTrustList {
			asked++
		}
		return nil
	}
	first := ra.List()
	refused := func(what string, document []byte, medium *terminaltest.FS) {
		t.Helper()
		ra.Republish(document)
		if err := enrolInto(t.Context(), medium, options(t, ra)); !errors.Is(err, trustlist.ErrTrust) {
			t.Errorf("%s: %v, want ErrTrust", what, err)
		}
	}
	refused("a list by a stranger", stranger.List(), terminaltest.NewFS())
	for i := 0; i < len(first); i += 1 + len(first)/40 {
		altered := slices.Clone(first)
		altered[i] ^= 4
		refused("an altered list", altered, terminaltest.NewFS())
	}
	if asked != 0 {
		t.Errorf("%d requests under lists that are not to be trusted", asked)
	}

	medium := terminaltest.NewFS()
	ra.Publish(t, func(*trustlist.List) {})
	second := ra.List()
	ra.Refuse = func(path string) *enroll.Refusal {
		if path == terminaltest.PathEnroll {
			return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later"}
		}
		return nil
	}
	if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
		t.Fatal("a busy authority is no error")
	}
	before := medium.Content()
	refused("an older list than before", first, medium)
	same(t, before, medium)
	ra.Republish(second)
	ra.Refuse = nil
	check(t, enrolInto(t.Context(), medium, options(t, ra)))
}

// TestEnrollRefusesServer has the authority show certificates that are not those of a registration authority.
func TestEnrollRefusesServer(t *testing.T) {
	t.Parallel()
	for _, id := range []identity.Identity{
		{Tenant: terminaltest.Tenant, Role: identity.AcquirerHost, Name: "RA-1"},
		{Tenant: terminaltest.Tenant, Role: identity.Decrypt, Name: "RA-1"},
		{Tenant: "OTHER", Role: identity.RA, Name: "RA-1"},
	} {
		t.Run(id.String(), func(t *testing.T) {
			t.Parallel()
			ra := terminaltest.NewRAAs(t, terminaltest.NewLab(t, dukpt.AES), id)
			asked := false
			ra.Before = func(string) error { asked = true; return nil }
			if err := enrolInto(t.Context(), terminaltest.NewFS(), options(t, ra)); err == nil || asked {
				t.Errorf("a server of %v: %v, asked %v, want an error before anything is asked", id, err, asked)
			}
		})
	}
}

// TestEnrollRefusesDelivery has deliveries with one bit changed, in every byte one after the other, or made for another
// session: nothing is stored.
func TestEnrollRefusesDelivery(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := terminaltest.NewFS()
	size := 0
	ra.Spoil = func(b []byte) []byte { size = len(b); return nil }
	if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
		t.Fatal("no delivery is no error")
	}
	before := medium.Content()
	if _, ok := before["slot-1"]; ok || size == 0 {
		t.Fatalf("files %q after no delivery", slices.Sorted(maps.Keys(before)))
	}
	o := options(t, ra)
	o.Ticket = enroll.Ticket{}
	step := 1
	if testing.Short() {
		step += size / 60
	}
	altered := 0
	for at := 0; at < size+4; at += step { // signatures differ in length by a few bytes
		ra.Spoil = func(b []byte) []byte {
			b[min(at, len(b)-1)] ^= 1 << (at % 8)
			altered++
			return b
		}
		err := enrolInto(t.Context(), medium, o)
		if !errors.Is(err, remote.ErrDelivery) && !errors.Is(err, enroll.ErrAnswer) {
			t.Fatalf("a delivery with byte %d changed: %v, want it refused", at, err)
		}
		same(t, before, medium)
	}
	t.Logf("%d deliveries of about %d bytes with one bit changed: nothing was stored", altered, size)
	ra.Spoil = nil
	other, err := remote.ParseRequest(must(t)((&remote.Request{Slot: 1, Nonce: [remote.NonceSize]byte{1}}).Marshal()))
	check(t, err)
	tls, agreement := lab.Client(t, "T-0002").Leaf(), lab.Agreement(t, "T-0002")
	own := lab.Agreement(t, terminaltest.TerminalID)
	for name, bind := range map[string]func(*remote.Binding){
		"slot":     func(b *remote.Binding) { b.Slot = 3 },
		"nonce":    func(b *remote.Binding) { b.Nonce = other.Nonce },
		"exporter": func(b *remote.Binding) { b.Exporter[0] ^= 1 },
		"terminal": func(b *remote.Binding) { b.Terminal, b.TLS, b.Agreement = "T-0002", tls, agreement },
		"key":      func(b *remote.Binding) { b.Agreement = own },
		"TLS key":  func(b *remote.Binding) { b.TLS = lab.Client(t, terminaltest.TerminalID).Leaf() },
	} {
		ra.Bind = bind
		if err := enrolInto(t.Context(), medium, o); !errors.Is(err, remote.ErrDelivery) {
			t.Errorf("a delivery for another %s: %v, want ErrDelivery", name, err)
		}
		same(t, before, medium)
	}
	ra.Bind = nil
	for name, change := range map[string]func(*keyset.KeySet){
		"environment": func(s *keyset.KeySet) { s.Environment, s.Delivery = keyset.Production, keyset.Attested },
		"key set":     func(s *keyset.KeySet) { s.ID = "OTHER" },
	} {
		ra.Set = func(s *keyset.KeySet) *keyset.KeySet { change(s); return s }
		if err := enrolInto(t.Context(), medium, o); !errors.Is(err, remote.ErrDelivery) {
			t.Errorf("a delivery for another %s: %v, want ErrDelivery", name, err)
		}
		same(t, before, medium)
	}
	ra.Set = nil
	check(t, enrolInto(t.Context(), medium, o))
}

func must(tb testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		tb.Helper()
		check(tb, err)
		return b
	}
}

// TestEnrollRefusesAssignment has assignments that make no terminal.
func TestEnrollRefusesAssignment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		assign func(*remote.Assignment)
		want   error
	}{
		"production":   {func(a *remote.Assignment) { a.Environment = keyset.Production }, terminal.ErrInsecure},
		"no endpoint":  {func(a *remote.Assignment) { a.Endpoints = nil }, terminal.ErrAssignment},
		"no slot":      {func(a *remote.Assignment) { a.Slots = nil }, terminal.ErrAssignment},
		"no data slot": {func(a *remote.Assignment) { a.Slots = a.Slots[1:] }, terminal.ErrAssignment},
		"not wanted":   {func(a *remote.Assignment) { a.Slots[1].Wanted = false }, terminal.ErrAssignment},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, dukpt.AES)
			ra := terminaltest.NewRA(t, lab)
			ra.Assign = c.assign
			medium := terminaltest.NewFS()
			if err := enrolInto(t.Context(), medium, options(t, ra)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, err := tryOpen(medium, nil); !errors.Is(err, terminal.ErrNoTerminal) {
				t.Errorf("Open: %v, want ErrNoTerminal", err)
			}
		})
	}
}
