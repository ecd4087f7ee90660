package terminal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// element is a sealer whose key is not on the medium, as that of a secure element. It remembers what it has sealed for the
// registers of each slot.
type element struct {
	terminal.Sealer
	registers map[string][][]byte // by file
}

func newElement(t *testing.T) *element {
	t.Helper()
	sealer, err := terminal.CreateInsecureFile(terminaltest.NewFS())
	check(t, err)
	return &element{Sealer: sealer, registers: make(map[string][][]byte)}
}

func (e *element) fork() *element {
	f := &element{Sealer: e.Sealer, registers: make(map[string][][]byte)}
	for name, sealed := range e.registers {
		f.registers[name] = slices.Clone(sealed)
	}
	return f
}

func (e *element) Name() string { return "element" }

func (e *element) Seal(label string, plain []byte) ([]byte, error) {
	sealed, err := e.Sealer.Seal(label, plain)
	if name, _, ok := strings.Cut(label, ","); ok && strings.Contains(name, "slot-") {
		e.registers[name] = append(e.registers[name], sealed)
	}
	return sealed, err
}

// readable returns how many register files before the newest of some slots are still on the medium, of the last three. A piece
// out of the middle of a ciphertext stands for it.
func (e *element) readable(medium *terminaltest.FS, slots []uint8) (n int) {
	for _, slot := range slots {
		sealed := e.registers[fmt.Sprintf("latchkey terminal slot-%d", slot)]
		if len(sealed) == 0 {
			panic("no registers of a slot in use were ever sealed")
		}
		old := sealed[:len(sealed)-1]
		for _, s := range old[max(0, len(old)-3):] {
			if medium.Contains(s[len(s)/2:][:32]) {
				n++
			}
		}
	}
	return n
}

// findings is what an exploration found. All but the first two want to be zero.
type findings struct {
	points, runs                             int
	reused, bricked, readable, lost, doubled int
	first                                    string // what was found first, for people
}

func (f *findings) add(g findings) {
	f.points += g.points
	f.runs += g.runs
	f.reused += g.reused
	f.bricked += g.bricked
	f.readable += g.readable
	f.lost += g.lost
	f.doubled += g.doubled
	if f.first == "" {
		f.first = g.first
	}
}

func (f *findings) note(counter *int, format string, args ...any) {
	*counter++
	if f.first == "" {
		f.first = fmt.Sprintf(format, args...)
	}
}

func (f findings) clean() bool { return f.reused+f.bricked+f.readable+f.lost+f.doubled == 0 }

func (f findings) String() string {
	return fmt.Sprintf("%d crash points, %d runs: %d KSNs reused, %d terminals bricked, %d old registers readable, %d messages lost, %d booked twice",
		f.points, f.runs, f.reused, f.bricked, f.readable, f.lost, f.doubled)
}

// site is a terminal at work: its medium, its element and its host, and what the merchant knows.
type site struct {
	medium   *terminaltest.FS
	kept     bool        // no power cut: the terminal keeps what it calls unanswered, and nothing else
	through  terminal.FS // what the terminal sees of the medium; nil: all of it
	element  *element
	host     *terminaltest.Host
	found    *findings
	uses     map[dukpt.KSN]message.Digest // the message that each was used for
	approved map[uint64]bool              // sales that the merchant saw approved
	taken    map[uint64]bool              // sales whose answer has reached the terminal
	owed     map[uint64]bool              // sales that the terminal says it keeps, and has not settled since
	made     map[uint64]bool              // sales that it made without the host, and said so
}

func newSite(e *element, h *terminaltest.Host) *site {
	return &site{
		element: e, host: h, uses: make(map[dukpt.KSN]message.Digest), approved: make(map[uint64]bool), taken: make(map[uint64]bool),
		owed: make(map[uint64]bool), made: make(map[uint64]bool),
	}
}

// fork returns the same site on another medium, from where things go another way.
func (s *site) fork(medium *terminaltest.FS, found *findings) *site {
	return &site{
		medium: medium, element: s.element.fork(), host: s.host.Fork(), found: found, uses: maps.Clone(s.uses),
		approved: maps.Clone(s.approved), taken: maps.Clone(s.taken), owed: maps.Clone(s.owed),
		made: maps.Clone(s.made),
	}
}

// wire is the way to the host: it may lose each answer, and everything that leaves is looked at.
func (s *site) wire(fault func() terminaltest.Fault) *watched {
	return &watched{site: s, wire: &terminaltest.Wire{Host: s.host, Attempts: 1, Fault: fault, Taken: func(raw []byte) {
		if m, err := message.Parse(raw); err == nil {
			s.taken[sequenceOf(m)] = true
		}
	}}}
}

func sequenceOf(m *message.Message) uint64 {
	if m.Inner != nil {
		m = m.Inner
	}
	return m.Payload.Sequence
}

type watched struct {
	site *site
	wire *terminaltest.Wire
}

func (w *watched) Exchange(ctx context.Context, raw []byte, accept func([]byte) error) error {
	s := w.site
	m, err := message.Parse(raw)
	if err != nil {
		return err
	}
	digest := message.DigestOf(raw)
	used := map[dukpt.KSN]uint8{m.Payload.MAC.KSN: m.Payload.MAC.Slot}
	for _, f := range m.Payload.Fields {
		used[f.KSN] = f.Slot
	}
	var slots []uint8
	for ksn, slot := range used {
		if old, ok := s.uses[ksn]; ok && old != digest {
			s.found.note(&s.found.reused, "%v serves a second message", ksn)
		}
		s.uses[ksn] = digest
		slots = append(slots, slot)
	}
	if n := s.element.readable(s.medium, slots); n > 0 {
		s.found.note(&s.found.readable, "%d old registers are on the medium while their successor is in use", n)
	}
	return w.wire.Exchange(ctx, raw, accept)
}

func (s *site) open(link terminal.Exchanger) (*terminal.Terminal, error) {
	var medium terminal.FS = s.medium
	if s.through != nil {
		medium = s.through
	}
	return terminal.Open(terminal.Options{FS: medium, Sealer: s.element, Link: link, Reserve: 2})
}

// sell makes sales, with the answers that fault lets through, until the power is cut.
func (s *site) sell(t *testing.T, r *rand.Rand, sales int, fault func() terminaltest.Fault) error {
	t.Helper()
	term, err := s.open(s.wire(fault))
	if err != nil {
		return err
	}
	for n := range sales {
		p := term.Pending()
		switch do := r.IntN(8); {
		case len(p) > 0 && do < 3:
			var result *terminal.SaleResult
			result, err = term.Resend(t.Context(), &p[0])
			s.know(result, p[0].Sequence, err)
		case len(p) > 0 && do == 3:
			err = s.drain(t, term)
		case do < 6:
			err = s.offline(term.SaleOffline(sale(t, false)))
		default:
			var result *terminal.SaleResult
			result, err = term.Sale(t.Context(), sale(t, n%2 == 0))
			s.know(result, 0, err)
		}
		if cut(err) {
			return err
		}
	}
	return term.Close()
}

// begin has a terminal sign in, so that it knows what it may sell without the host, whose answers to such sales are no at times.
func (s *site) begin(t *testing.T, medium *terminaltest.FS) {
	t.Helper()
	s.medium, s.found = medium, new(findings)
	s.host.Limits = &message.Limits{
		Count: 1000, Bytes: 1 << 20, AgeSeconds: 1 << 20, Amount: message.Amount{Minor: 1e9, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
	}
	s.host.Decide = func(p *message.Payload) message.Result {
		if p.Offline && p.Sequence%3 == 0 {
			return message.Declined
		}
		return message.Approved
	}
	term, err := s.open(s.wire(nil))
	check(t, err)
	_, err = term.SignIn(t.Context())
	check(t, err)
	check(t, term.Close())
}

// offline takes down what the merchant is told of a sale without the host.
func (s *site) offline(p *terminal.Pending, err error) error {
	if p != nil {
		s.made[p.Sequence], s.owed[p.Sequence] = true, true
	}
	s.know(nil, 0, err)
	return err
}

// drain has the terminal settle what waits. The first message that nothing is heard of may have been settled when the power went.
func (s *site) drain(t *testing.T, term *terminal.Terminal) error {
	t.Helper()
	waiting := term.Pending()
	err := term.Drain(t.Context(), 0, func(r *terminal.SaleResult) {
		if r.Sequence != waiting[0].Sequence {
			s.found.note(&s.found.lost, "message %d is drained before %d", r.Sequence, waiting[0].Sequence)
		}
		waiting = waiting[1:]
		s.know(r, r.Sequence, nil)
	})
	if err != nil && len(waiting) > 0 {
		s.know(nil, waiting[0].Sequence, err)
	}
	return err
}

// know takes down what the merchant is told of a sale, or of a resend of one.
func (s *site) know(result *terminal.SaleResult, sequence uint64, err error) {
	if result != nil {
		delete(s.owed, result.Sequence)
		if result.Approved() {
			s.approved[result.Sequence] = true
		}
		return
	}
	if cut(err) {
		delete(s.owed, sequence) // it may have been settled when the power went
		return
	}
	if u, ok := errors.AsType[*terminal.UnansweredError](err); ok {
		s.owed[u.Pending.Sequence] = true
	}
}

func cut(err error) bool { return errors.Is(err, terminaltest.ErrPower) }

// recover starts the terminal again after a cut, settles what it kept and sells: all that must go well now.
func (s *site) recover(t *testing.T) (again bool) {
	t.Helper()
	term, err := s.open(s.wire(nil))
	if cut(err) {
		return true
	}
	if err != nil {
		s.found.note(&s.found.bricked, "open: %v", err)
		return false
	}
	pending := term.Pending()
	for _, p := range pending {
		if s.kept && !s.owed[p.Sequence] {
			s.found.note(&s.found.doubled, "message %d is there, and the merchant was told that there is none", p.Sequence)
		}
	}
	for sequence := range s.owed {
		if !slices.ContainsFunc(pending, func(p terminal.Pending) bool { return p.Sequence == sequence }) {
			s.found.note(&s.found.lost, "message %d is gone", sequence)
		}
	}
	if err := s.drain(t, term); cut(err) {
		return true
	} else if err != nil {
		s.found.note(&s.found.lost, "drained: %v", err)
	}
	s.exceptions(term)
	for n := range 2 {
		result, err := term.Sale(t.Context(), sale(t, n == 0))
		s.know(result, 0, err)
		if cut(err) {
			return true
		}
		if err != nil || !result.Approved() {
			s.found.note(&s.found.bricked, "no sale: %v", err)
		}
	}
	if err := term.Close(); err != nil {
		s.found.note(&s.found.bricked, "close: %v", err)
	}
	return false
}

// exceptions demands that the terminal shows every sale without the host that the host has declined.
func (s *site) exceptions(term *terminal.Terminal) {
	shown := term.Exceptions()
	for _, e := range s.host.Entries() {
		if e.Result == message.Declined && s.made[e.Sequence] &&
			!slices.ContainsFunc(shown, func(x terminal.Exception) bool { return x.Sequence == e.Sequence && x.Result == e.Result }) {
			s.found.note(&s.found.lost, "sale %d was made without the host, which has declined it, and nobody is told", e.Sequence)
		}
	}
}

// judge compares the ledger of the host with what the merchant knows.
func (s *site) judge() {
	booked, reversed := ledger(s.host)
	if n := s.host.Reused(); n > 0 {
		s.found.note(&s.found.reused, "the host saw %d keys twice", n)
	}
	for sequence := range s.approved {
		if booked[sequence] == 0 || reversed[sequence] {
			s.found.note(&s.found.lost, "sale %d, approved to the merchant, is not booked", sequence)
		}
	}
	for sequence := range s.made {
		if booked[sequence] == 0 {
			s.found.note(&s.found.lost, "sale %d, made without the host, has not reached it", sequence)
		}
	}
	for sequence, n := range booked {
		if n > 1 {
			s.found.note(&s.found.doubled, "sale %d is booked %d times", sequence, n)
		}
		if !s.taken[sequence] && !reversed[sequence] {
			s.found.note(&s.found.lost, "sale %d is booked and nobody knows", sequence)
		}
	}
}

// rot flips one bit of one file.
func rot(r *rand.Rand, medium *terminaltest.FS) {
	content := medium.Content()
	var names []string
	for name, b := range content {
		if len(b) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	name := names[r.IntN(len(names))]
	medium.Flip(name, r.IntN(len(content[name])*8))
}

const exploredSales = 12

// explore cuts the power at every writing call of a terminal that sells, with its host and without, and lets each cut end in seeds ways: what was not
// synced is there, torn or gone. Of four runs one is no more than that; in one a bit rots before the terminal starts, in one the
// power is cut again while it recovers, in one both.
func explore(t *testing.T, scheme dukpt.Scheme, seeds int) (found findings) {
	t.Helper()
	lab := terminaltest.NewLab(t, scheme)
	first := newElement(t)
	medium := terminaltest.NewFS()
	check(t, terminal.Import(medium, first, lab.Bundle(t)))
	start := newSite(first, lab.Host)
	start.begin(t, medium)
	for point := 0; ; point++ {
		s := start.fork(medium.Clone(), &found)
		s.medium.CutAfter(point)
		r := rand.New(rand.NewPCG(7, 7)) // the same work up to each cut
		err := s.sell(t, r, exploredSales, func() terminaltest.Fault { return terminaltest.Fault(r.IntN(3)) })
		if err == nil {
			break
		}
		if !cut(err) {
			t.Fatalf("crash point %d: %v, want nothing but a cut", point, err)
		}
		found.points++
		for seed := range seeds {
			for mode := range 4 {
				found.runs++
				crash(t, s, rand.New(rand.NewPCG(uint64(seed), uint64(mode))), mode&1 != 0, mode&2 != 0, &found)
			}
		}
	}
	return found
}

// crash lets one cut end in one way.
func crash(t *testing.T, before *site, r *rand.Rand, rotten, second bool, found *findings) {
	t.Helper()
	s := before.fork(before.medium.Reboot(r), found)
	if rotten {
		rot(r, s.medium)
	}
	if second {
		s.medium.CutAfter(r.IntN(40))
	}
	if s.recover(t) {
		s = s.fork(s.medium.Reboot(r), found)
		if s.recover(t) {
			t.Fatal("a third cut that nobody made")
		}
	}
	s.judge()
}

// TestExplorer runs the real code of state and queue through every crash point.
func TestExplorer(t *testing.T) {
	t.Parallel()
	seeds, least := 100, 50_000
	switch {
	case os.Getenv("LATCHKEY_SOAK") != "":
		seeds, least = 2000, 1_000_000
	case testing.Short():
		seeds, least = 1, 500
	}
	var mu sync.Mutex
	var found findings
	t.Run("schemes", func(t *testing.T) {
		for _, scheme := range schemes {
			t.Run(scheme.String(), func(t *testing.T) {
				t.Parallel()
				f := explore(t, scheme, seeds)
				mu.Lock()
				defer mu.Unlock()
				found.add(f)
			})
		}
	})
	t.Logf("explorer: %v", found)
	if !found.clean() {
		t.Errorf("found: %s", found.first)
	}
	if found.runs < least {
		t.Errorf("%d runs, want %d at least", found.runs, least)
	}
}

// TestContains keeps the search for old registers honest.
func TestContains(t *testing.T) {
	t.Parallel()
	medium := terminaltest.NewFS()
	old := bytes.Repeat([]byte("old registers "), 10)
	check(t, terminal.WriteFile(medium, "slot-1", old))
	check(t, terminal.WriteFile(medium, "slot-1", secret.New(200).Expose()))
	if !medium.Contains(old[:32]) {
		t.Error("what a renamed file has replaced is not found on the medium")
	}
}
