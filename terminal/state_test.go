package terminal_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// used returns a medium with some sales behind it and one message of each intent unsettled.
func used(t *testing.T, lab *terminaltest.Lab) *terminaltest.FS {
	t.Helper()
	medium := imported(t, lab)
	fault := terminaltest.None
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: func() terminaltest.Fault { return fault }}
	term := open(t, medium, wire)
	_, err := term.Sale(t.Context(), sale(t, true))
	check(t, err)
	fault = terminaltest.AnswerLost
	for _, withPIN := range []bool{true, false} {
		_, err := term.Sale(t.Context(), sale(t, withPIN))
		unanswered(t, err)
	}
	check(t, term.Close())
	return medium
}

// TestPowerCuts cuts the power at random moments of random work, over and over on the same medium, and lets the host
// watch: no key serves twice, no terminal is lost, no sale is booked twice, what the merchant saw approved stays
// approved, and of what the merchant did not see the terminal has at least had the answer when the power went.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	cuts, wanted := 0, 400
	if testing.Short() {
		wanted = 100
	}
	for seed := uint64(1); cuts < wanted; seed++ {
		cuts += powerCuts(t, seed, 25)
	}
	t.Logf("%d power cuts", cuts)
}

func powerCuts(t *testing.T, seed uint64, cuts int) int {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	lab := terminaltest.NewLab(t, schemes[seed%2])
	medium := imported(t, lab)
	wire := &terminaltest.Wire{Host: lab.Host, Attempts: 2, Fault: func() terminaltest.Fault {
		return terminaltest.Fault(r.IntN(3))
	}}
	approved, taken := make(map[uint64]bool), make(map[uint64]bool)
	wire.Taken = func(raw []byte) {
		m, err := message.Parse(raw)
		check(t, err)
		if m.Inner != nil {
			m = m.Inner
		}
		taken[m.Payload.Sequence] = true
	}
	for range cuts {
		medium.CutAfter(r.IntN(60))
		work(t, r, medium, wire, approved)
		medium = medium.Reboot(r)
	}
	wire.Fault = nil
	term := open(t, medium, wire)
	for _, p := range term.Pending() {
		_, err := term.Resend(t.Context(), &p)
		check(t, err)
	}
	if lab.Host.Reused() != 0 {
		t.Fatalf("seed %d: %d keys served twice", seed, lab.Host.Reused())
	}
	judge(t, seed, lab, approved, taken)
	return cuts
}

// work sells and settles until the power is cut.
func work(t *testing.T, r *rand.Rand, medium *terminaltest.FS, wire *terminaltest.Wire, approved map[uint64]bool) {
	t.Helper()
	term, err := tryOpen(medium, wire)
	for n := 0; err == nil && n < 40; n++ {
		var result *terminal.SaleResult
		if pending := term.Pending(); len(pending) > 0 && r.IntN(2) == 0 {
			result, err = term.Resend(t.Context(), &pending[0])
		} else {
			result, err = term.Sale(t.Context(), sale(t, r.IntN(2) == 0))
		}
		if err == nil && result.Approved() {
			approved[result.Sequence] = true
		}
		if errors.Is(err, terminaltest.ErrLost) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, terminaltest.ErrPower) {
		t.Fatalf("%v, want nothing but a power cut", err)
	}
}

// judge compares what the merchant was told with what the host has booked.
func judge(t *testing.T, seed uint64, lab *terminaltest.Lab, approved, taken map[uint64]bool) {
	t.Helper()
	booked, reversed := ledger(lab.Host)
	if len(approved) == 0 || len(booked) == 0 {
		t.Fatalf("seed %d: no sale got through", seed)
	}
	for seq := range approved {
		if booked[seq] != 1 || reversed[seq] {
			t.Errorf("seed %d: sale %d, approved to the merchant, is booked %d times, reversed %v", seed, seq, booked[seq], reversed[seq])
		}
	}
	for seq, n := range booked {
		if n != 1 || !taken[seq] && !reversed[seq] {
			t.Errorf("seed %d: sale %d is booked %d times and nobody knows", seed, seq, n)
		}
	}
}

// ledger returns how often a host has booked each sale, and which it has reversed.
func ledger(h *terminaltest.Host) (booked map[uint64]int, reversed map[uint64]bool) {
	booked, reversed = make(map[uint64]int), make(map[uint64]bool)
	for _, e := range h.Entries() {
		if e.Original != nil {
			reversed[e.Original.Sequence] = true
		} else {
			booked[e.Sequence]++
		}
	}
	return booked, reversed
}

// lying is a medium that takes what it is given for durable: the negative control of the crash tests.
type lying struct{ *terminaltest.FS }

func (l lying) Open(name string) (terminal.File, error) {
	f, err := l.FS.Open(name)
	return lyingFile{f}, err
}

type lyingFile struct{ terminal.File }

func (lyingFile) Sync() error { return nil }

// TestPowerCutsWouldShow runs the crash test on a medium that never makes changes in place durable: it must see a key twice.
func TestPowerCutsWouldShow(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed < 50; seed++ {
		r := rand.New(rand.NewPCG(seed, 2))
		lab := terminaltest.NewLab(t, dukpt.AES)
		medium := imported(t, lab)
		for range 10 {
			term, err := tryOpen(lying{medium}, &terminaltest.Wire{Host: lab.Host, Attempts: 1})
			if err != nil {
				break
			}
			for range 3 {
				_, _ = term.Sale(t.Context(), sale(t, false)) // the host notes what is wrong with it
			}
			medium = medium.Reboot(r)
		}
		if lab.Host.Reused() > 0 {
			return
		}
	}
	t.Error("no key was seen twice on a medium that loses names")
}

func TestImport(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	if _, err := tryOpen(medium, nil); !errors.Is(err, terminal.ErrNoTerminal) {
		t.Errorf("Open of an empty folder: %v, want ErrNoTerminal", err)
	}
	production := lab.Bundle(t)
	production.Environment = keyset.Production
	if err := terminal.Import(medium, sealer, production); !errors.Is(err, terminal.ErrInsecure) {
		t.Errorf("production keys: %v, want ErrInsecure", err)
	}
	b := lab.Bundle(t)
	check(t, terminal.Import(medium, sealer, b))
	if b.PrivateKey.Len() != 0 || b.Slots[0].KBPK.Len() != 0 {
		t.Error("the bundle is not wiped")
	}
	for _, remove := range []string{"", "identity", "counters", "slot-1"} {
		again := medium.Clone()
		if remove != "" {
			check(t, again.Remove(remove))
		}
		if err := terminal.Import(again, sealer, lab.Bundle(t)); !errors.Is(err, terminal.ErrExists) {
			t.Errorf("second import without %q: %v, want ErrExists", remove, err)
		}
	}
}

// crowded is a medium that another process is about to work on.
type crowded struct {
	*terminaltest.FS
	rival func()            // what the other process does before this one has the folder, once
	made  func(name string) // called when a file is made
}

func (c *crowded) Lock() (func() error, error) {
	if c.rival != nil {
		c.rival()
		c.rival = nil
	}
	return c.FS.Lock()
}

func (c *crowded) Create(name string) (terminal.File, error) {
	c.made(name)
	return c.FS.Create(name)
}

// TestTwoFirstImports has two processes start on one empty folder: one device key is made, by whoever holds the folder.
func TestTwoFirstImports(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	plain := terminaltest.NewFS()
	made := 0
	medium := &crowded{FS: plain, rival: func() { importInto(t, lab, plain) }, made: func(name string) {
		made++
		if _, err := plain.Lock(); !errors.Is(err, terminal.ErrLocked) {
			t.Errorf("%s is made while nobody holds the folder", name)
		}
	}}
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	if err := terminal.Import(medium, sealer, lab.Bundle(t)); !errors.Is(err, terminal.ErrExists) {
		t.Errorf("second import: %v, want ErrExists", err)
	}
	if made != 0 {
		t.Errorf("the second import made %d files", made)
	}
	check(t, open(t, plain, nil).Close())

	plain = terminaltest.NewFS()
	medium = &crowded{FS: plain, made: medium.made}
	sealer, err = terminal.CreateInsecureFile(medium)
	check(t, err)
	again, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	sealed, err := sealer.Seal("label", []byte("text"))
	check(t, err)
	if _, err := again.Open("label", sealed); err != nil {
		t.Errorf("the key that is there is not taken: %v", err)
	}
}

// TestImportThroughPowerCuts cuts the power at every moment of an import: afterwards there is a terminal, or the import
// can be repeated; and a terminal that was opened is never imported over.
func TestImportThroughPowerCuts(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	whole := imported(t, lab).Calls()
	for at := range whole {
		for seed := range uint64(4) {
			medium := terminaltest.NewFS()
			medium.CutAfter(at)
			if sealer, err := terminal.CreateInsecureFile(medium); err == nil {
				if err := terminal.Import(medium, sealer, lab.Bundle(t)); err == nil {
					t.Fatalf("cut at %d of %d: the import succeeds", at, whole)
				}
			}
			medium = medium.Reboot(rand.New(rand.NewPCG(seed, uint64(at))))
			if _, err := tryOpen(medium, nil); err != nil {
				sealer, err := terminal.CreateInsecureFile(medium)
				check(t, err)
				if err := terminal.Import(medium, sealer, lab.Bundle(t)); err != nil {
					t.Fatalf("cut at %d, seed %d: repeated import: %v", at, seed, err)
				}
				open(t, medium, nil)
			}
		}
	}
}

func TestOSFS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	importInto(t, lab, terminal.OSFS(dir))
	wire := &terminaltest.Wire{Host: lab.Host}
	for range 3 {
		term := open(t, terminal.OSFS(dir), wire)
		if _, err := tryOpen(terminal.OSFS(dir), nil); !errors.Is(err, terminal.ErrLocked) {
			t.Errorf("second process: %v, want ErrLocked", err)
		}
		_, err := term.Sale(t.Context(), sale(t, true))
		check(t, err)
		check(t, term.Close())
	}
	if lab.Host.Reused() != 0 || len(lab.Host.Entries()) != 3 {
		t.Errorf("%d reuses, %d entries", lab.Host.Reused(), len(lab.Host.Entries()))
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden"} {
		if _, err := terminal.OSFS(dir).Create(name); err == nil {
			t.Errorf("file name %q is accepted", name)
		}
	}
}

func TestBundle(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	b := lab.Bundle(t)
	code := secret.From([]byte("a code of the operator"))
	sealed, err := terminal.SealBundleCheaply(code, b)
	check(t, err)
	got, err := terminal.OpenBundle(code, sealed)
	check(t, err)
	again, err := terminal.EncodeBundle(got)
	check(t, err)
	want, err := terminal.EncodeBundle(b)
	check(t, err)
	if !slices.Equal(again, want) {
		t.Error("a bundle comes back changed")
	}
	if _, err := terminal.OpenBundle(secret.From([]byte("another code")), sealed); err == nil {
		t.Error("another code opens the bundle")
	}
	for name, spoil := range map[string]func(*terminal.Bundle){
		"terminal":  func(b *terminal.Bundle) { b.Terminal = "T-0002" },
		"tenant":    func(b *terminal.Bundle) { b.Tenant = "acme" },
		"no env":    func(b *terminal.Bundle) { b.Environment = 0 },
		"no roots":  func(b *terminal.Bundle) { b.Roots = nil },
		"http":      func(b *terminal.Bundle) { b.Endpoints[0].URL = "http://host" },
		"no slots":  func(b *terminal.Bundle) { b.Slots = nil },
		"same slot": func(b *terminal.Bundle) { b.Slots[1].Number = b.Slots[0].Number },
		"no data":   func(b *terminal.Bundle) { b.Slots = b.Slots[1:] },
		"slot 0":    func(b *terminal.Bundle) { b.Slots[0].Number = 0 },
		"narrow":    func(b *terminal.Bundle) { b.Slots[0].Window = 64 },
		"other key": func(b *terminal.Bundle) { b.PrivateKey = lab.Bundle(t).PrivateKey },
	} {
		bad := lab.Bundle(t)
		spoil(bad)
		if err := bad.Validate(); !errors.Is(err, terminal.ErrBundle) {
			t.Errorf("%s: %v, want ErrBundle", name, err)
		}
	}
	wrong := lab.Bundle(t)
	wrong.Slots[0].KBPK = wrong.Slots[1].KBPK
	if _, err := wrong.Slots[0].InitialKey(); !errors.Is(err, terminal.ErrBundle) {
		t.Errorf("block under another key: %v, want ErrBundle", err)
	}
}

// TestBundleSpelling writes the hand-made part of a bundle in other ways: array and byte strings have one spelling.
func TestBundleSpelling(t *testing.T) {
	t.Parallel()
	b := terminaltest.NewLab(t, dukpt.AES).Bundle(t)
	good, err := terminal.EncodeBundle(b)
	check(t, err)
	_, err = terminal.DecodeBundle(good)
	check(t, err)
	last := len(good) - 32 // the last secret is a key of 32 bytes: 58 20 and the key
	head, key := good[:last-2], good[last:]
	for name, bad := range map[string][]byte{
		"nothing":              nil,
		"a byte after the end": slices.Concat(good, []byte{0}),
		"one secret more":      slices.Concat([]byte{good[0] + 1}, good[1:], []byte{0x40}),
		"one secret less":      slices.Concat([]byte{good[0] - 1}, head[1:]),
		"a count too high":     slices.Concat([]byte{good[0] + 1}, good[1:]),
		"a count too low":      slices.Concat([]byte{good[0] - 1}, good[1:]),
		"long array head":      slices.Concat([]byte{0x98, good[0] & 0x1f}, good[1:]),
		"no array":             good[1:],
		"long length":          slices.Concat(head, []byte{0x59, 0, 32}, key),
		"longer length":        slices.Concat(head, []byte{0x5a, 0, 0, 0, 32}, key),
		"a key cut short":      good[:len(good)-1],
		"text for a key":       slices.Concat(head, []byte{0x78, 32}, key),
		"an empty key":         slices.Concat(head, []byte{0x40}),
		"an indefinite key":    slices.Concat(head, []byte{0x5f, 0x58, 32}, key, []byte{0xff}),
		"no key":               head,
	} {
		if _, err := terminal.DecodeBundle(bad); !errors.Is(err, terminal.ErrBundle) {
			t.Errorf("%s: %v, want ErrBundle", name, err)
		}
	}
}

// FuzzDecodeBundle holds every accepted bundle to its one encoding.
func FuzzDecodeBundle(f *testing.F) {
	lab := terminaltest.NewLab(f, dukpt.AES)
	seed, err := terminal.EncodeBundle(lab.Bundle(f))
	check(f, err)
	if _, err := terminal.DecodeBundle(seed); err != nil {
		f.Fatalf("the seed is refused: %v", err)
	}
	f.Add(seed)
	f.Add(append(slices.Clone(seed), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := terminal.DecodeBundle(b)
		if err != nil {
			if !errors.Is(err, terminal.ErrBundle) {
				t.Fatalf("%v, want ErrBundle", err)
			}
			return
		}
		again, err := terminal.EncodeBundle(got)
		check(t, err)
		if !slices.Equal(again, b) {
			t.Errorf("%x is accepted and encodes as %x", b, again)
		}
	})
}
